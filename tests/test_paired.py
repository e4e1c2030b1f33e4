"""Paired comparisons: the sums over items give the scores, and two scores are drawn on the same items."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from tasks.metrics import (
    answer_scores,
    classification_scores,
    entity_scores,
    instruction_scores,
    language_scores,
)
from tasks.paired import difference, read_items, terms, write_items
from tasks.preferences import accuracy, mean, ratio

LABELS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=40)
TAGS = st.sampled_from(["O", "B-X", "I-X", "B-Y"])


@settings(max_examples=15, deadline=None)
@given(LABELS, st.lists(st.lists(TAGS, min_size=3, max_size=3), min_size=4, max_size=20), st.randoms())
def test_the_sums_of_every_score_give_its_value(pairs, tags, random):
    truth, guess = zip(*pairs, strict=True)
    half = len(tags) // 2
    nats = [random.uniform(0.1, 9) for _ in pairs]
    words = [" ".join(row) for row in tags]
    found = [
        classification_scores(guess, truth, ["a", "b", "c"], resamples=0),
        entity_scores(tags[:half], tags[half : 2 * half], resamples=0),
        answer_scores(words[:half], [[one] for one in words[half : 2 * half]], resamples=0),
        instruction_scores(words[:half], words[half : 2 * half], resamples=0),
        language_scores(nats, [4] * len(nats), [9] * len(nats), resamples=0),
    ]
    single = {"accuracy": accuracy(nats, ""), "mean": mean(nats, 0, ""), "ratio": ratio(nats, nats[::-1], 0, "")}
    scores = [*(item for one in found for item in one.scores.items()), *single.items()]
    made = {name: score.terms.value for name, score in scores if score.terms is not None}
    assert {"accuracy", "macro_f1", "f1", "rouge_l", "bits_per_byte", "mean", "ratio"} <= made.keys()
    for name, score in scores:
        if score.terms is not None:
            assert score.terms.value == pytest.approx(score.value), name


def test_the_difference_of_two_pairs_by_hand():
    # Four items: the first is right on three, the second on one of them. Differences 1, 1, 0, 0: mean .5.
    found = difference(terms([1, 1, 1, 0]), terms([0, 0, 1, 0]), resamples=20_000)
    assert found.paired
    assert found.interval.estimate == 0.5
    # With the exchanged pair 1 and -1: mean square 4/6, mean 2/6, so a variance of 5/9 and an error of sqrt(5/54).
    assert found.interval.standard_error == pytest.approx((5 / 54) ** 0.5, abs=0.005)
    assert found.interval.low < 0 < found.interval.estimate < found.interval.high


@pytest.mark.parametrize("against", range(4))
def test_few_items_decide_as_the_sign_test_does(against):
    """Of 400 answers, `right` are the first's alone and `against` the second's: proof from P(coin) <= .025 on."""
    for right in range(1, 13):
        one, other = np.ones(400), np.ones(400)
        other[:right], one[right : right + against] = 0, 0
        tail = binomtest(right, right + against, alternative="greater").pvalue
        assert (difference(terms(one), terms(other)).interval.low > 0) == (tail <= 0.025), (right, against)


def test_equal_answers_differ_by_nothing():
    random = np.random.default_rng(2)
    guess, truth = (random.choice(["x", "y", "z"], 50) for _ in range(2))
    own = classification_scores(list(guess), list(truth)).scores["macro_f1"].terms
    assert difference(own, own).interval == (0, 0, 0, 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(1, 3), st.integers(0, 10**6))
def test_exchanged_sides_give_the_mirrored_interval(items, parts, seed):
    random = np.random.default_rng(seed)
    one, other = (terms(random.random((items, parts)), 1 + random.random((items, parts))) for _ in range(2))
    ours, theirs = difference(one, other).interval, difference(other, one).interval
    assert ours.estimate == -theirs.estimate
    assert ours.low <= ours.estimate <= ours.high
    # The two added units change places in the draw, so the ends agree up to its noise.
    assert (ours.low, ours.high) == pytest.approx((-theirs.high, -theirs.low), abs=0.4 * ours.standard_error)


def test_what_both_share_cancels_in_pairs_and_not_apart():
    random = np.random.default_rng(0)
    hard = random.random(200)
    near, far = difference(terms(hard + 0.01), terms(hard)), difference(terms(hard + 0.01), terms(hard[:-1]))
    assert near.interval.low == pytest.approx(0.01, rel=0.05)
    assert near.interval.high == pytest.approx(0.01)
    assert not far.paired
    assert far.interval.low < -0.03 < 0.05 < far.interval.high


def test_macro_f1_of_a_draw_is_that_of_the_drawn_items():
    random = np.random.default_rng(1)
    truth, one, other = (random.choice(["x", "y", "z"], 60) for _ in range(3))
    scores = [classification_scores(list(guess), list(truth)).scores["macro_f1"].terms for guess in (one, other)]
    drawn = []
    for _ in range(600):
        index = random.integers(0, 60, 60)
        both = [
            f1_score(truth[index], guess[index], labels=["x", "y", "z"], average="macro", zero_division=0.0)
            for guess in (one, other)
        ]
        drawn.append(both[0] - both[1])
    found = difference(*scores).interval
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.12)
    assert scores[0].each() is None


def test_clusters_are_drawn_whole():
    values, groups = np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50)
    whole, single = difference(terms(values, clusters=groups), terms(values * 0, clusters=groups)), terms(values)
    # Two clusters show nothing, however many items they hold.
    assert whole.interval.low < 0
    assert difference(single, terms(values * 0)).interval.low > 0.35
    assert single.each().tolist() == values.tolist()


def test_items_survive_their_file(tmp_path: Path):
    found = {"model": {"f1": terms([1, 2], [3, 4]), "mean": terms([1.5, 2.5], clusters=[7, 7])}, "before": {}}
    write_items(tmp_path / "items", found)
    first = (tmp_path / "items").read_bytes()
    read = read_items(tmp_path / "items")
    assert read == {"model": found["model"]}
    assert read["model"]["f1"] != read["model"]["mean"]
    write_items(tmp_path / "items", read)
    assert (tmp_path / "items").read_bytes() == first
