"""The company of words in a corpus: counts by hand, the formulas written out, and planted associations."""

import math
from collections import Counter

import numpy as np
import pytest
from corpus_examples import TINY, planted
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from tasks.audits import association, cooccurrence
from tasks.audits.cooccurrence import AssociationConfig, measure
from tasks.audits.item_values import ItemValues
from tasks.audits.lexicon import WORD
from tasks.audits.occupation_pronoun import Halves
from tasks.audits.verdict import Verdict

TINY_CONFIG = AssociationConfig(window=2, decay=0.5, min_count=1, prior_words=10)


def test_counts_and_pmi_by_hand():
    found = measure(TINY, TINY_CONFIG)
    # N = 11: the 3, nurse 2, said 2, slept 2, judge 1, left 1. Near she: nurse (2 away), said, slept; near he: judge,
    # said, slept. "left" stands beside "she" only across a document's end.
    table = dict(zip(found.words, zip(found.counts, found.near, found.pmi, strict=True), strict=True))
    assert {word: (int(count), *map(int, near)) for word, (count, near, _) in table.items()} == {
        "the": (3, 0, 0),
        "nurse": (2, 0, 1),
        "said": (2, 1, 1),
        "slept": (2, 1, 1),
        "judge": (1, 1, 0),
        "left": (1, 0, 0),
    }
    hand = {
        "the": (-math.inf, -math.inf),
        "nurse": (-math.inf, math.log(1 * 11 / (2 * 3))),
        "said": (math.log(1 * 11 / (2 * 3)), math.log(1 * 11 / (2 * 3))),
        "judge": (math.log(1 * 11 / (1 * 3)), -math.inf),
    }
    for word, pmi in hand.items():
        assert tuple(table[word][2]) == pytest.approx(pmi)
    assert found.totals == {
        "documents": 3,
        "words": 11,
        "vocabulary": 6,
        "words_beyond_vocabulary": 0,
        "he_words": 1,
        "she_words": 1,
        "near_he": 3,
        "near_she": 3,
    }


def test_co_occurrence_by_hand():
    found = measure(TINY, TINY_CONFIG)
    table = dict(zip(found.words, zip(found.co_occurrence, found.log_ratio, strict=True), strict=True))
    # Decay .5: nurse is 2 words from she, said and slept 1. C(side) = .25 + .5 + .5.
    assert tuple(table["nurse"][0]) == (0, 0.25)
    assert tuple(table["slept"][0]) == (0.5, 0.5)
    # One co-occurrence is added, half of it to each side.
    assert table["nurse"][1] == pytest.approx(math.log(0.5 / 1.25) - math.log(0.75 / 1.25))
    assert table["judge"][1] == pytest.approx(math.log(0.75 / 0.5))
    assert table["slept"][1] == table["the"][1] == 0


def written_out(texts, config):
    """Count and score a corpus word by word, as the formulas stand in the module's docstring."""
    count, near, co, only, total = Counter(), Counter(), Counter(), Counter(), Counter()
    for text in texts:
        tokens = [token.lower() for token in WORD.findall(text)]
        sides = [{"he": "he", "his": "he", "she": "she", "her": "she"}.get(token) for token in tokens]
        for i, token in enumerate(tokens):
            if sides[i]:
                continue
            count[token] += 1
            seen = {}
            for j in range(max(0, i - config.window), min(len(tokens), i + config.window + 1)):
                if sides[j]:
                    seen[sides[j]] = seen.get(sides[j], 0) + config.decay ** abs(i - j)
            for side, weight in seen.items():
                near[token, side] += 1
                co[token, side] += weight
                total["near", side] += 1
                total["co", side] += weight
            if len(seen) == 1:
                only[token, next(iter(seen))] += 1
                total["only", next(iter(seen))] += 1
    words, a0 = sum(count.values()), config.prior_words
    found = {}
    for word, c in count.items():
        a = a0 * c / words
        logit = {
            side: math.log((only[word, side] + a) / (total["only", side] + a0 - only[word, side] - a))
            for side in ("he", "she")
        }
        spread = math.sqrt(1 / (only[word, "he"] + a) + 1 / (only[word, "she"] + a))
        both = total["co", "he"] + total["co", "she"]
        p = {
            side: (co[word, side] + config.smoothing * total["co", side] / both) / total["co", side]
            for side in ("he", "she")
        }
        found[word] = {
            "pmi": [
                math.log(near[word, side] * words / (c * total["near", side])) if near[word, side] else -math.inf
                for side in ("he", "she")
            ],
            "z": (logit["he"] - logit["she"]) / spread,
            "log_ratio": math.log(p["he"] / p["she"]),
        }
    return found


def some_corpus():
    word = st.sampled_from(["he", "She", "his", "her", "cook", "Judge", "ran", "the", "a"])
    text = st.lists(word, max_size=12).map(" ".join)
    fixed = ["the cook saw he ran", "a Judge saw She ran"]
    return st.lists(text, max_size=6).map(lambda texts: [*texts, *fixed])


@settings(max_examples=60, deadline=None)
@given(some_corpus(), st.integers(1, 5), st.sampled_from([0.5, 0.95, 1.0]))
def test_all_numbers_agree_with_the_formulas_written_out(texts, window, decay):
    config = AssociationConfig(window=window, decay=decay, min_count=1, prior_words=7, smoothing=0.5)
    found, expected = measure(texts, config), written_out(texts, config)
    assert set(found.words) == set(expected)
    for number, word in enumerate(found.words):
        assert list(found.pmi[number]) == pytest.approx(expected[word]["pmi"])
        assert found.z[number] == pytest.approx(expected[word]["z"], abs=1e-9)
        assert found.log_ratio[number] == pytest.approx(expected[word]["log_ratio"], abs=1e-9)


def test_counts_agree_with_scikit_learn_and_do_not_depend_on_the_batch(monkeypatch):
    texts, _ = planted(0.6)
    config = AssociationConfig(min_count=1)
    whole = measure(texts, config)
    vectorizer = CountVectorizer(token_pattern=WORD.pattern)
    counts = np.asarray(vectorizer.fit_transform(texts).sum(axis=0)).ravel()
    theirs = dict(zip(vectorizer.get_feature_names_out(), counts, strict=True))
    assert whole.totals["he_words"] == theirs.pop("he")
    assert whole.totals["she_words"] == theirs.pop("she")
    assert dict(zip(whole.words, whole.counts, strict=True)) == theirs
    monkeypatch.setattr(cooccurrence, "BATCH", 500)
    parts = measure(texts, config)
    assert parts.words == whole.words
    assert parts.z == pytest.approx(whole.z)
    assert parts.log_ratio == pytest.approx(whole.log_ratio)


def test_sides_are_read_as_the_lexicon_reads_them():
    found = measure(["Mr. Smith and Mary; he will miss it, Miss or mary. Ms Lee"], AssociationConfig(min_count=1))
    # He side: Mr, he. She side: Mary, Ms. "miss it", "Miss or" and "mary" name nobody, and are no plain words either.
    assert (found.totals["he_words"], found.totals["she_words"]) == (2, 2)
    assert sorted(found.words) == ["and", "it", "lee", "or", "smith", "will"]


def test_a_planted_association_comes_out_monotone_and_0_at_0():
    gaps = {}
    for s in (0.0, 0.2, 0.4, 0.6, 0.8):
        texts, halves = planted(s)
        found = association.audit(texts, AssociationConfig(halves="starter"), halves=halves)
        assert found.verdict is (Verdict.FAIL if s else Verdict.PASS)
        gaps[s] = found.estimate
        # Five words reach the occupation's own pronoun and hardly another: the log-odds of the planted counts.
        near = association.audit(texts, AssociationConfig(halves="starter", window=5), halves=halves)
        assert near.estimate == pytest.approx(2 * math.log((1 + s) / (1 - s)), rel=0.05, abs=0.01)
    assert list(gaps.values()) == sorted(gaps.values())
    assert abs(gaps[0.0]) < 0.05
    texts, halves = planted(0.6)
    turned = association.audit(texts, AssociationConfig(), halves=Halves(halves.she, halves.he))
    assert turned.estimate == pytest.approx(-gaps[0.6])


def test_without_an_association_the_audit_passes_over_seeds():
    results = []
    for seed in range(8):
        texts, halves = planted(0.0, seed)
        results.append(association.audit(texts, AssociationConfig(), halves=halves))
    assert all(found.verdict is Verdict.PASS for found in results)
    assert sum(found.low <= 0 <= found.high for found in results) >= 6
    assert abs(np.mean([found.estimate for found in results])) < 0.02


def test_the_report_holds_table_top_words_and_items():
    texts, halves = planted(0.8)
    halves = Halves([*halves.he, "ice cream seller"], halves.she, ["street", "unicorn"])
    found = association.audit(texts, AssociationConfig(top=5), halves=halves)
    assert (found.items, found.clusters) == (8000, 40)
    table = {row["occupation"]: row for row in found.details["by_occupation"]}
    assert len(table) == 41
    assert table["street"]["half"] == "other"
    first = table[halves.he[0]]
    assert (first["half"], first["count"]) == ("he", 200)
    assert first["log_ratio"] > 0 > table[halves.she[0]]["log_ratio"]
    assert set(found.details["left_out"]) == {"ice cream seller", "unicorn"}
    top = found.details["top_words"]
    assert {row["word"] for row in top["he"]} < set(halves.he)
    assert {row["word"] for row in top["she"]} < set(halves.she)
    assert [row["z"] for row in top["he"]] == sorted((row["z"] for row in top["he"]), reverse=True)
    items = ItemValues.model_validate(found.details["items"])
    mean = {
        sign: np.mean([v for v, g in zip(items.values, items.groups, strict=True) if g == sign]) for sign in (1, -1)
    }
    assert mean[1] - mean[-1] == pytest.approx(found.estimate, abs=1e-5)


def test_a_corpus_without_what_is_asked_is_inconclusive():
    halves = Halves(["judge"], ["nurse"])
    config = AssociationConfig(min_count=1)
    found = association.audit(TINY, config, halves=halves)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.startswith("Only 1 occupations in a half, at least 8 are needed; log ratio gap")
    found = association.audit(["The judge and the nurse saw him.", "She."], config, halves=halves)
    assert (found.verdict, found.estimate) == (Verdict.INCONCLUSIVE, None)
    assert found.reason.startswith(
        "6 words stand near an identity word of the he side, 0 near one of the she side, and 1"
    )
    assert found.details["by_occupation"][0]["log_ratio"] is None
    found = association.audit(["The judge saw him. She"], AssociationConfig(), halves=halves)
    assert found.details["left_out"]["judge"] == "not 10 times in the corpus as one word"


def test_words_beyond_the_vocabulary_are_counted_and_occupations_are_kept():
    texts = [" ".join(f"w{n}" for n in range(1500)), "The nurse said she left."]
    found = measure(texts, AssociationConfig(min_count=1, max_vocabulary=1000), keep=["nurse"])
    # Of 1,000 numbers two are taken by the gap and the rest, one by the nurse; "The said left" come too late.
    assert found.totals["vocabulary"] == 998
    assert found.totals["words_beyond_vocabulary"] == 503 + 3
    assert found.totals["words"] == 1504
    assert "nurse" in found.words
    assert found.totals["she_words"] == 1


def test_wrong_halves_are_named():
    with pytest.raises(ValueError, match="planted halves"):
        association.audit(TINY, AssociationConfig(halves="starter"))
    with pytest.raises(ValueError, match=r"\['cook'\] listed twice"):
        association.audit(TINY, AssociationConfig(), halves=Halves(["cook"], ["cook"]))
