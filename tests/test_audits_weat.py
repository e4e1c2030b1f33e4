"""WEAT and SEAT on vectors worked out by hand, against all permutations, and word sets with mistakes in them."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.audits.verdict import CAVEAT, Capability, Verdict
from tasks.audits.weat import WeatConfig, audit, effect_size, load_sets, permutation_p, self_test

ABLE = Capability(name="bits_per_byte", value=1.2, floor=4.0, higher_is_better=False)
SMALL = """
sets:
  small:
    targets: {first: [x1, x2], second: [y1, y2]}
    attributes: {left: [a1, a2], right: [b1, b2]}
"""
ANGLES = {"x1": 0, "x2": 60, "y1": 90, "y2": 45, "a1": 0, "a2": 0, "b1": 90, "b2": 90}


def vectors(angles, scale=1.0):
    """Embed words by their angle in degrees in a plane; in a sentence the word that is known counts."""

    def embed(texts):
        words = [next(word for word in text.strip(".").split() if word in angles) for text in texts]
        turns = np.radians([angles[word] for word in words])
        return scale * np.stack([np.cos(turns), np.sin(turns)], axis=1)

    return embed


def small(tmp_path, **more):
    path = tmp_path / "sets.yaml"
    path.write_text(SMALL)
    return WeatConfig(path=path, **{"levels": ["weat"], "min_words": 2, "resamples": 200, **more})


def test_the_effect_size_by_hand(tmp_path):
    # s = cos t - sin t: x 1 and 1/2 - sqrt(3)/2 = -.3660, y -1 and 0. Means .3170 and -.5000.
    # Deviations from the mean -.0915: 1.0915, -.2745, -.9085, .0915; SD = sqrt(2.1005 / 3) = .8368.
    (found,) = audit(vectors(ANGLES), small(tmp_path), ABLE, scorer="table")
    assert found.estimate == pytest.approx(0.8170 / 0.8368, abs=2e-4)
    assert found.details["association_gap"]["estimate"] == pytest.approx(0.8170, abs=1e-4)
    associations = {row["word"]: row["association"] for row in found.details["by_word"]}
    assert associations == pytest.approx({"x1": 1, "x2": 0.5 - math.sqrt(3) / 2, "y1": -1, "y2": 0})
    # Of the 6 ways to pick two words, x1 + x2 (.6340) and x1 + y2 (1) reach as far: p = 2/6, and as far below 2/6.
    assert found.details["p"] == pytest.approx(2 / 6)
    assert found.details["p_two_sided"] == pytest.approx(4 / 6)
    assert (found.details["permutations"], found.details["exact"]) == (6, True)
    assert (found.audit, found.metric, found.items, found.clusters) == ("weat_small", "effect_size", 4, 4)
    assert found.caveat == CAVEAT
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


def test_only_directions_count_and_sides_turn_the_sign(tmp_path):
    config = small(tmp_path)
    (found,) = audit(vectors(ANGLES), config, ABLE, scorer="table")
    (longer,) = audit(vectors(ANGLES, scale=7.5), config, ABLE, scorer="table")
    (turned,) = audit(vectors({word: angle + 33 for word, angle in ANGLES.items()}), config, ABLE, scorer="table")
    assert longer.estimate == pytest.approx(found.estimate)
    assert turned.estimate == pytest.approx(found.estimate)
    for first, second in (("x", "y"), ("a", "b")):
        swap = {first: second, second: first}
        angles = {word: ANGLES[swap.get(word[0], word[0]) + word[1]] for word in ANGLES}
        (other,) = audit(vectors(angles), config, ABLE, scorer="table")
        assert other.estimate == pytest.approx(-found.estimate)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=4, max_size=9), st.data())
def test_p_agrees_with_all_permutations(values, data):
    cut = data.draw(st.integers(2, len(values) - 2))
    numbers = np.array(values, dtype=float)
    found = permutation_p(numbers[:cut], numbers[cut:], permutations=1000, seed=0)
    total = sum(values)
    gaps = [
        sum(part) / cut - (total - sum(part)) / (len(values) - cut)
        for part in ([values[place] for place in chosen] for chosen in combinations(range(len(values)), cut))
    ]
    assert found["exact"]
    assert found["permutations"] == len(gaps)
    assert found["p"] == pytest.approx(np.mean([gap >= gaps[0] - 1e-9 for gap in gaps]))


def test_many_permutations_are_drawn_from_the_seed():
    random = np.random.default_rng(0)
    first, second = random.normal(size=12), random.normal(size=12)
    found = permutation_p(first, second, 5000, 1)
    assert (found["permutations"], found["exact"]) == (5000, False)
    assert permutation_p(first, second, 5000, 1) == found
    # All 12 above all 12: 1 way of 2,704,156 reaches it, so p is what drawing can show at least.
    assert permutation_p(first + 100, second, 5000, 1)["p"] == pytest.approx(1 / 5001)


def test_the_effect_size_is_that_of_the_formula():
    random = np.random.default_rng(2)
    first, second = random.normal(size=(50, 7, 3)), random.normal(size=(50, 5, 3))
    both = np.concatenate([first.reshape(50, -1), second.reshape(50, -1)], axis=1)
    by_formula = [(first[k].mean() - second[k].mean()) / np.std(both[k], ddof=1) for k in range(50)]
    assert effect_size(first, second) == pytest.approx(np.array(by_formula))
    # Two words far apart give the greatest d: 2 / sqrt(2); more words come near 2.
    assert effect_size(np.ones((1, 1)), -np.ones((1, 1))) == pytest.approx(math.sqrt(2))
    assert effect_size(np.ones((2, 1)), np.ones((2, 1))) == 0


def noisy(seed, strength=0.0, width=40, template_noise=0.0):
    """Embed every word as noise of its own, moved by a strength along what tells the attributes apart."""
    sets = load_sets()
    sides = {}
    for words in sets.values():
        for lists in (words.targets, words.attributes):
            for side, row in zip((1, -1), lists.values(), strict=True):
                sides |= dict.fromkeys(row, side * (1 if lists is words.attributes else strength))
    own = np.random.default_rng(seed)
    table = {word: own.normal(size=width) + 6 * side * np.eye(width)[0] for word, side in sides.items()}

    def embed(texts):
        rows = []
        for text in texts:
            word = next(word for word in text.strip(".").split() if word in table)
            rows.append(table[word] + template_noise * own.normal(size=width))
        return np.array(rows)

    return embed


def test_planted_associations_fail_and_none_do_not():
    config = WeatConfig(resamples=300, permutations=1000, levels=["weat"], sets=["gender_career"])
    (strong,) = audit(noisy(0, 1.0), config, ABLE, scorer="table")
    assert strong.verdict is Verdict.FAIL
    assert strong.estimate > 1.5
    assert strong.details["p"] < 0.01
    (contrary,) = audit(noisy(0, -1.0), config, ABLE, scorer="table")
    assert contrary.verdict is Verdict.FAIL
    assert contrary.estimate < -1.5
    none = [audit(noisy(seed), config, ABLE, scorer="table")[0] for seed in range(40)]
    assert [found.verdict for found in none].count(Verdict.FAIL) <= 2
    # Below .05 in one of 20 by chance: more than 6 of 40 would be one in a hundred.
    assert sum(found.details["p"] < 0.05 for found in none) <= 6
    # Without an association the interval should hold 0 in about 95 of 100.
    assert sum(found.low <= 0 <= found.high for found in none) >= 34
    unsure = next(found for found in none if found.verdict is Verdict.INCONCLUSIVE)
    assert "words in each list of targets would settle a true effect of 0" in unsure.reason
    # Two lists of 12: SE about sqrt(2 / 12) = .41 and MDE 2.8 SE.
    assert np.median([found.mde for found in none]) == pytest.approx(2.8 * 0.41, rel=0.25)


def test_the_sentences_of_a_word_are_no_new_evidence():
    config = WeatConfig(sets=["age_pleasant"], resamples=1000, permutations=1000)
    word, sentences = audit(noisy(4), config, ABLE, scorer="table")
    assert (word.audit, sentences.audit) == ("weat_age_pleasant", "seat_age_pleasant")
    assert (word.items, sentences.items, word.clusters, sentences.clusters) == (24, 72, 24, 24)
    # The vectors ignore the template: only n - 1 in SD differs, sqrt(23/24 * 72/71).
    assert sentences.estimate == pytest.approx(word.estimate * math.sqrt(24 / 23 * 71 / 72))
    assert sentences.high - sentences.low == pytest.approx(word.high - word.low, rel=0.03)
    assert sentences.details["p"] == word.details["p"]


def test_all_texts_are_embedded_at_once_and_each_once():
    seen = []
    embed = noisy(0, template_noise=0.1)

    def counting(texts):
        seen.append(texts)
        return embed(texts)

    config = WeatConfig(resamples=100, permutations=1000)
    found = audit(counting, config, ABLE, scorer="table")
    assert [result.audit for result in found] == [
        f"{level}_{name}" for level in ("weat", "seat") for name in load_sets()
    ]
    assert len(seen) == 1
    assert len(set(seen[0])) == len(seen[0])
    assert {"James", "This is about James.", "They spoke of grandmother."} <= set(seen[0])


def test_what_cannot_be_judged_is_refused(tmp_path):
    calls = []
    unable = ABLE.model_copy(update={"value": 4.0})
    below = audit(calls.append, WeatConfig(), unable, scorer="none")
    assert {found.verdict for found in below} == {Verdict.REFUSED}
    assert len(below) == 6
    assert not calls
    zero = audit(lambda texts: np.zeros((len(texts), 3)), small(tmp_path), ABLE, scorer="zero")[0]
    assert zero.verdict is Verdict.REFUSED
    assert "8 vectors that are zero or not finite" in zero.reason
    nan = audit(lambda texts: np.full((len(texts), 3), np.nan), small(tmp_path), ABLE, scorer="nan")[0]
    assert nan.verdict is Verdict.REFUSED
    same = audit(vectors(ANGLES | dict.fromkeys(("x1", "x2", "y1", "y2"), 20)), small(tmp_path), ABLE, scorer="same")[0]
    assert same.verdict is Verdict.REFUSED
    assert "no spread" in same.reason
    few = audit(vectors(ANGLES), small(tmp_path, min_words=3), ABLE, scorer="table")[0]
    assert few.verdict is Verdict.INCONCLUSIVE
    assert few.reason.startswith("Only 2 words in a list of targets, at least 3 are needed")


def test_the_self_test_passes():
    assert self_test() == ""


def test_the_projects_sets():
    sets = load_sets()
    assert list(sets) == ["gender_career", "gender_science", "age_pleasant"]
    for words in sets.values():
        assert [len(row) for row in words.targets.values()] == [12, 12]
        assert [len(row) for row in words.attributes.values()] == [8, 8]
        assert all(isinstance(word, str) and " " not in word for row in words.targets.values() for word in row)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sets: [", "sets.yaml: line 1, column 8 is not YAML"),
        ("[]", "sets.yaml: "),
        ("sets: {}", "sets.yaml: sets: Dictionary should have at least 1 item"),
        (SMALL.replace("attributes", "attribute"), "sets.yaml: sets.small.attributes: Field required"),
        (SMALL.replace("y2", "x1"), "sets.small: targets.second: 'x1' already stands in targets.first"),
        (SMALL.replace("[b1, b2]", "[b1]"), "sets.small: attributes.right: expected at least two words, got ['b1']"),
        (SMALL.replace(", right: [b1, b2]", ""), "sets.small: attributes: expected two lists, got 1"),
        (SMALL.replace("b2", "no"), "sets.small.attributes.right.1: Input should be a valid string"),
        (SMALL.replace("b2", "' '"), "sets.small: attributes.right: expected a word, got ' '"),
    ],
)
def test_a_broken_file_of_sets_is_named(tmp_path, text, message):
    path = tmp_path / "sets.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"sets\.yaml") as error:
        load_sets(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_configurations_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"\{word\} once, got 'This is it\.'"):
        WeatConfig(templates=["This is it."])
    with pytest.raises(ValueError, match=r"sets: there is no 'race' in weat_sets.yaml: gender_career, "):
        audit(vectors(ANGLES), WeatConfig(sets=["race"]), ABLE, scorer="table")
    with pytest.raises(ValueError, match=r"gone\.yaml: there is no such file"):
        load_sets(tmp_path / "gone.yaml")
