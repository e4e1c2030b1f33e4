"""Known answers for the statistics of the audits, from scipy and from published tables."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tasks.audits import statistics


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (1, 189), (755, 1508)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_agrees_with_scipy(successes, n, confidence):
    ours = statistics.wilson(successes, n, confidence)
    theirs = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.low <= ours.estimate <= ours.high


def test_wilson_by_hand():
    # p = .5, n = 4, z = 1.96: centre .5, half = z sqrt(1/16 + z^2/64) / (1 + z^2/4) = .3500
    ours = statistics.wilson(2, 4)
    assert (ours.low, ours.high) == pytest.approx((0.1500, 0.8500), abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 4), (5, 4)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match=f"got {successes} of {n}"):
        statistics.wilson(successes, n)


def test_clean_items_needed_is_the_first_n_that_passes():
    needed = statistics.clean_items_needed(0.02)
    assert needed == 189
    assert statistics.wilson(0, needed).high < 0.02 <= statistics.wilson(0, needed - 1).high


@pytest.mark.parametrize(("n", "points"), [(40, 22.1), (105, 13.7), (262, 8.7), (516, 6.2), (1508, 3.6)])
def test_detectable_rate_against_one_half(n, points):
    assert 100 * statistics.detectable_rate(n) == pytest.approx(points, abs=0.06)


@pytest.mark.parametrize(("n", "points"), [(200, 8.4), (1000, 3.8), (5000, 1.7)])
def test_detectable_gap_between_two_groups_at_ten_percent(n, points):
    assert 100 * statistics.detectable_rate_gap(n, 0.1) == pytest.approx(points, abs=0.06)


def test_bootstrap_of_a_mean_agrees_with_scipy():
    values = np.random.default_rng(1).exponential(size=120)
    ours = statistics.bootstrap_mean(values, resamples=20_000, seed=3)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=4)
    assert ours.estimate == values.mean()
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.01)
    assert ours.standard_error == pytest.approx(values.std() / math.sqrt(120), rel=0.03)


def test_bootstrap_of_a_difference_agrees_with_scipy():
    random = np.random.default_rng(2)
    first, second = random.normal(1, 1, 40), random.normal(0, 2, 60)
    ours = statistics.bootstrap_difference(first, second, resamples=20_000)
    theirs = stats.bootstrap(
        (first, second),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        n_resamples=20_000,
        method="percentile",
        rng=5,
    )
    assert ours.estimate == pytest.approx(first.mean() - second.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.03)


def test_copies_inside_a_cluster_are_no_new_evidence():
    values = np.random.default_rng(0).normal(size=30)
    clusters = [f"template {number}" for number in range(30)]
    once = statistics.bootstrap_mean(values, clusters)
    copied = statistics.bootstrap_mean(np.tile(values, 10), clusters * 10)
    naive = statistics.bootstrap_mean(np.tile(values, 10))
    assert copied == pytest.approx(once)
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_bootstrap_covers_the_truth():
    random = np.random.default_rng(7)
    hits = 0
    for trial in range(200):
        interval = statistics.bootstrap_mean(random.normal(size=60), resamples=400, seed=trial)
        hits += interval.low <= 0 <= interval.high
    assert hits >= 180


def test_bootstrap_is_seeded_and_independent_of_blocks(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    whole = statistics.bootstrap_mean(values, resamples=300)
    assert statistics.bootstrap_mean(values, resamples=300) == whole
    assert statistics.bootstrap_mean(values, resamples=300, seed=1) != whole
    monkeypatch.setattr(statistics, "BLOCK", 50 * 7)
    assert statistics.bootstrap_mean(values, resamples=300) == pytest.approx(whole)


def test_bootstrap_of_any_statistic():
    values = np.arange(101.0)
    found = statistics.bootstrap_statistic(lambda index: float(np.median(values[index])), 101)
    assert found.estimate == 50
    assert 30 < found.low < 50 < found.high < 70


def test_bootstrap_names_what_is_wrong():
    with pytest.raises(ValueError, match="non-empty"):
        statistics.bootstrap_mean([])
    with pytest.raises(ValueError, match="3 items but 2 cluster names"):
        statistics.bootstrap_mean([1, 2, 3], ["a", "b"])


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.04, 0.04, "PASS"),
        (0.01, 0.04, "PASS"),
        (0.06, 0.2, "FAIL"),
        (-0.2, -0.05, "FAIL"),
        (0.04, 0.06, "INCONCLUSIVE"),
        (-0.05, 0.04, "INCONCLUSIVE"),
        (-1, 1, "INCONCLUSIVE"),
    ],
)
def test_equivalence(low, high, outcome):
    assert statistics.equivalence(low, high, 0.05) == outcome


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0.01, 1))
def test_a_wider_interval_never_turns_inconclusive_into_a_claim(low, width, more, margin):
    before = statistics.equivalence(low, low + width, margin)
    after = statistics.equivalence(low - more, low + width + more, margin)
    assert after in (before, "INCONCLUSIVE")
    assert statistics.equivalence(-low - width, -low, margin) == before


@pytest.mark.parametrize(
    ("low", "high", "outcome"), [(0, 0.01, "PASS"), (0.03, 0.1, "FAIL"), (0, 0.02, "INCONCLUSIVE")]
)
def test_at_most(low, high, outcome):
    assert statistics.at_most(low, high, 0.02) == outcome


def test_margins_must_be_positive():
    for judge in (statistics.equivalence, statistics.at_most):
        with pytest.raises(ValueError, match="margin"):
            judge(0.0, 0.0, 0.0)
