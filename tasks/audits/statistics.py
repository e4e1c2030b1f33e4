"""The statistics that every audit shares: intervals, detectable effects and the three-way verdict.

Sources: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), ch. 13 (percentile interval);
A. C. Davison and D. V. Hinkley, Bootstrap Methods (1997), sec. 3.8 (resampling whole clusters);
E. B. Wilson, JASA 22 (1927); D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987) (equivalence).
"""

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 4_000_000
"""Largest number of resampled weights held at once (32 MB), whatever the number of clusters."""

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class Interval(NamedTuple):
    """An estimate with its two-sided interval and its standard error, all in the unit of the score."""

    estimate: float
    low: float
    high: float
    standard_error: float


def quantile(probability: float) -> float:
    """Give the standard normal quantile, for example 1.96 for 0.975."""
    return NormalDist().inv_cdf(probability)


def cluster_index(clusters: Sequence[Hashable]) -> NDArray[np.int64]:
    """Number the clusters 0.. in order of first appearance: one number per item, shape (items,)."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.int64)


def ratio_resamples(
    numerator: ArrayLike,
    denominator: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Draw the bootstrap distribution of sum(numerator) / sum(denominator), resampling whole clusters.

    A mean is the ratio with a denominator of ones; bits per byte is nats over bytes. Drawing clusters
    with replacement equals giving them multinomial weights, so a resample is one row of a matrix product.

    Args: numerator, denominator: shape (items,). clusters: the cluster of each item, None when each item
    is its own. Returns: shape (resamples,). Raises ValueError on no items or on unequal lengths.
    """
    top: NDArray[np.float64] = np.asarray(numerator, dtype=np.float64)
    bottom: NDArray[np.float64] = np.asarray(denominator, dtype=np.float64)
    if top.ndim != 1 or top.shape != bottom.shape or top.size == 0:
        raise ValueError(
            f"bootstrap: expected two equally long non-empty lists, got shapes {top.shape} and {bottom.shape}"
        )
    if clusters is not None:
        if len(clusters) != top.size:
            raise ValueError(f"bootstrap: {top.size} items but {len(clusters)} cluster names")
        index = cluster_index(clusters)
        top = np.bincount(index, top).astype(np.float64)
        bottom = np.bincount(index, bottom).astype(np.float64)
    count = top.size
    chance = np.full(count, 1 / count)
    random = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    step = max(1, BLOCK // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        weights = random.multinomial(count, chance, size=size).astype(np.float64)
        drawn[start : start + size] = (weights @ top) / (weights @ bottom)
    return drawn


def percentile_interval(estimate: float, drawn: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """Turn a bootstrap distribution (shape (resamples,)) into the two-sided percentile interval."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    spread = float(drawn.std(ddof=1)) if drawn.size > 1 else 0.0
    return Interval(float(estimate), float(low), float(high), spread)


def bootstrap_mean(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Estimate a mean over items with the percentile interval of the (cluster) bootstrap.

    For a paired comparison pass the differences of the pairs: the pair then is resampled as one.
    """
    items = np.asarray(values, dtype=np.float64)
    drawn = ratio_resamples(items, np.ones_like(items), clusters, resamples, seed)
    return percentile_interval(float(items.mean()), drawn, confidence)


def bootstrap_difference(
    first: ArrayLike,
    second: ArrayLike,
    first_clusters: Sequence[Hashable] | None = None,
    second_clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Estimate mean(first) - mean(second) of two disjoint groups, each group's clusters resampled apart."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    # Two independent streams from one seed: the same weights in both groups would couple them.
    seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(2)]
    drawn = ratio_resamples(a, np.ones_like(a), first_clusters, resamples, seeds[0])
    drawn = drawn - ratio_resamples(b, np.ones_like(b), second_clusters, resamples, seeds[1])
    return percentile_interval(float(a.mean() - b.mean()), drawn, confidence)


def bootstrap_statistic(
    statistic: Callable[[NDArray[np.int64]], float],
    items: int,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Estimate any statistic of item indices with the item-level percentile bootstrap.

    For scores that are no ratio of sums. `statistic` gets indices, shape (items,), with repeats.
    """
    if items < 1:
        raise ValueError(f"bootstrap: expected at least one item, got {items}")
    random = np.random.default_rng(seed)
    drawn = np.array([statistic(random.integers(0, items, size=items)) for _ in range(resamples)])
    return percentile_interval(statistic(np.arange(items)), drawn, confidence)


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Give the Wilson score interval of a rate; it stays honest at 0 and at n successes.

    centre = (p + z^2/2n) / (1 + z^2/n), half width = z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n).
    The standard error beside it is that of the rate shrunk to the centre, hence never 0.
    Raises ValueError unless 0 <= successes <= n and n > 0. Counts may be fractional (effective sizes).
    """
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"wilson: expected 0 <= successes <= n and n > 0, got {successes} of {n}")
    z = quantile((1 + confidence) / 2)
    rate = successes / n
    scale = 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / scale
    # The closed form touches the bounds exactly at 0 and n; rounding must not move it off them.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(rate, low, high, math.sqrt(centre * (1 - centre) / n))


def minimal_detectable_effect(standard_error: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Give the smallest true effect that a two-sided test at `alpha` finds with probability `power`.

    MDE = (z_{1-alpha/2} + z_power) * SE, about 2.80 SE (H. S. Bloom, Evaluation Review 19, 1995).
    """
    return (quantile(1 - alpha / 2) + quantile(power)) * standard_error


def detectable_rate(n: int, rate: float = 0.5, alpha: float = 0.05, power: float = 0.8) -> float:
    """Give the minimal detectable departure of one rate from `rate` with n items (as a fraction)."""
    return minimal_detectable_effect(math.sqrt(rate * (1 - rate) / n), alpha, power)


def detectable_rate_gap(n_per_group: int, rate: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Give the minimal detectable gap between two groups of n items with about the same rate."""
    return minimal_detectable_effect(math.sqrt(2 * rate * (1 - rate) / n_per_group), alpha, power)


def clean_items_needed(margin: float, confidence: float = 0.95) -> int:
    """Give the number of items without one event after which Wilson's upper bound is below `margin`.

    The bound at 0 of n is z^2 / (n + z^2), so n > z^2 (1 - margin) / margin: 189 for a margin of .02.
    """
    z = quantile((1 + confidence) / 2)
    return math.floor(z * z * (1 - margin) / margin) + 1


def equivalence(low: float, high: float, margin: float) -> Outcome:
    """Judge a signed gap: PASS inside (-margin, margin), FAIL wholly outside, else INCONCLUSIVE.

    PASS is a claim of equivalence (two one-sided tests by interval inclusion), never mere
    non-significance. Raises ValueError on a margin that is not positive.
    """
    if margin <= 0:
        raise ValueError(f"margin: expected a positive number, got {margin}")
    assert low <= high, f"interval ({low}, {high}) is upside down"
    if -margin < low and high < margin:
        return "PASS"
    if low >= margin or high <= -margin:
        return "FAIL"
    return "INCONCLUSIVE"


def at_most(low: float, high: float, margin: float) -> Outcome:
    """Judge a rate that is wanted small: PASS if high < margin, FAIL if low > margin."""
    if margin <= 0:
        raise ValueError(f"margin: expected a positive number, got {margin}")
    assert low <= high, f"interval ({low}, {high}) is upside down"
    if high < margin:
        return "PASS"
    return "FAIL" if low > margin else "INCONCLUSIVE"
