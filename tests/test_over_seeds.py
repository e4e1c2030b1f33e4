"""The interval over seeds and items: by hand, its limits, its coverage, and what it must not depend on."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from tasks.over_seeds import over_seeds
from tasks.paired import interval, terms

ONE = st.lists(st.booleans(), min_size=12, max_size=12)


def test_two_seeds_of_four_items_by_hand() -> None:
    first = [terms([1, 1, 1, 0]), terms([1, 1, 1, 1])]
    second = [terms([0, 1, 0, 0]), terms([0, 0, 1, 0])]
    found = over_seeds(first, second, resamples=40_000)
    # Differences by item: 1 0 1 0 and 1 1 0 1, so .5 and .75: mean .625, and s^2 = (.125^2 + .125^2) / 1 = 1/32.
    assert found.value == 0.625
    assert found.seeds_error == pytest.approx(math.sqrt(1 / 64))
    # The mean over the seeds of each item is 1 .5 .5 .5: variance 3/64, and a quarter of it is that of their mean.
    assert found.items_error == pytest.approx(math.sqrt(3 / 256), rel=0.01)
    between, within = 1 / 64, found.items_error**2
    degrees = (between + within) ** 2 / (between**2 / 1 + within**2 / 3)
    assert found.degrees == pytest.approx(degrees)
    half = t.ppf(0.975, degrees) * math.sqrt(between + within)
    assert (found.low, found.high) == pytest.approx((0.625 - half, 0.625 + half))
    # With 3/256 for the items: (7/256)^2 / ((1/64)^2 + (3/256)^2 / 3) = 2.58 degrees, and .625 +- 3.50 * .1654.
    assert (found.degrees, found.high - found.value) == pytest.approx((2.58, 0.578), abs=0.02)


def test_the_limits_are_those_of_its_parts() -> None:
    # All items alike: Student's t over the seeds' differences .1, .2, .6 alone.
    flat = [terms([value] * 9) for value in (0.1, 0.2, 0.6)]
    found = over_seeds(flat)
    spread = np.std([0.1, 0.2, 0.6], ddof=1) / math.sqrt(3)
    assert found.degrees == pytest.approx(2)
    assert found.high - found.value == pytest.approx(4.3027 * spread, rel=1e-4)
    # All seeds alike: the bootstrap's standard error, as of one seed.
    values = np.random.default_rng(0).random(400)
    same = over_seeds([terms(values)] * 3)
    assert (same.seeds_error, same.degrees) == (0.0, pytest.approx(399))
    alone = interval(terms(values))
    assert same.high - same.value == pytest.approx(1.966 * alone.standard_error, rel=1e-3)
    # A single seed: the bootstrap's own interval, which knows nothing of other seeds.
    single = over_seeds([terms(values)])
    assert (single.low, single.high) == (pytest.approx(alone.low), pytest.approx(alone.high))
    assert single.seeds_error is None


@settings(max_examples=20, deadline=None)
@given(st.lists(ONE, min_size=1, max_size=4))
def test_equal_models_differ_by_nothing(seeds: list[list[bool]]) -> None:
    own = [terms(values) for values in seeds]
    found = over_seeds(own, own, resamples=50)
    assert (found.low, found.value, found.high) == (0, 0, 0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(ONE, ONE), min_size=2, max_size=5), st.randoms())
def test_the_order_of_the_seeds_does_not_matter(seeds: list[tuple[list[bool], list[bool]]], random) -> None:
    other = seeds[:]
    random.shuffle(other)
    one, two = (
        over_seeds(*([terms(v) for v in side] for side in zip(*s, strict=True)), resamples=60) for s in (seeds, other)
    )
    assert one.value == two.value
    assert (one.low, one.high) == pytest.approx((two.low, two.high))
    assert one.low <= one.value <= one.high


def test_it_covers_what_it_says_with_three_seeds() -> None:
    # Seeds, items and what a seed does to an item all vary; the truth is 0.
    random, held, bare = np.random.default_rng(7), 0, 0
    for _ in range(250):
        item, seed = random.normal(0, 1, 100), random.normal(0, 0.1, 3)
        values = item + seed[:, None] + random.normal(0, 0.5, (3, 100))
        found = over_seeds([terms(row) for row in values], resamples=80)
        held += found.low <= 0 <= found.high
        drawn = values.mean(axis=1)[random.integers(0, 3, (100, 3))].mean(axis=1)  # the seeds alone, by a bootstrap
        bare += np.quantile(drawn, 0.025) <= 0 <= np.quantile(drawn, 0.975)
    assert 0.93 <= held / 250 <= 0.995
    assert bare / 250 < 0.75


def test_a_score_of_several_parts_keeps_them() -> None:
    # Macro F1 has a part a class; the mean over two seeds is the mean of all parts.
    one = terms([[2, 0], [0, 0], [0, 2]], [[2, 0], [1, 1], [0, 2]])
    two = terms([[2, 0], [0, 2], [0, 2]], [[2, 0], [0, 2], [0, 2]])
    assert over_seeds([one, two]).value == pytest.approx((one.value + two.value) / 2)
