"""Calibration: is a probability that a model gives as often right as it says?

    ECE = sum over bins of n_bin / n * |rate(bin) - mean probability(bin)|                         (0 is perfect)
over bins of equal width (low, high], for the top label of each text with `rate` its accuracy (C. Guo, G. Pleiss,
Y. Sun, K. Q. Weinberger, On Calibration of Modern Neural Networks, ICML 2017), or for one label's probability with
the rate at which it is true.

Pitfall: a sum of absolute values is above 0 in every finite sample, of a perfectly calibrated model too, and that of
a resample further above it. The percentile interval therefore never holds the truth where that is 0. So the interval
here is the basic one, [2 e - q(.975), 2 e - q(.025)] of the resampled ECE (A. C. Davison and D. V. Hinkley,
Bootstrap Methods, 1997, sec. 5.2.1), which takes that excess off, and it begins at 0 where a perfectly calibrated
model would reach as much by chance (outcomes drawn from the probabilities themselves: J. Broecker and L. A. Smith,
Weather and Forecasting 22, 2007).
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.audits import statistics
from tasks.audits.corrected_gaps import resampled_sums

BINS = 15
"""Bins of equal width between 0 and 1, as Guo et al. have them."""


class Bin(NamedTuple):
    """One line of a reliability table."""

    low: float
    """Probabilities above this,"""
    high: float
    """up to this."""
    n: int
    probability: float
    """Their mean."""
    rate: float
    """The share of the outcomes that came true."""


class Error(NamedTuple):
    """An expected calibration error with its interval, and what chance alone makes."""

    estimate: float
    low: float
    high: float
    by_chance: float
    """The mean ECE of a perfectly calibrated model with these probabilities and so many texts."""


def reliability(probability: ArrayLike, outcome: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Return the reliability table, without its empty bins.

    Args: probability: shape (items,), from 0 to 1; outcome: shape (items,), 1 where it came true (the label is right),
    else 0. Raises ValueError on no items, unequal lengths, or values outside.
    """
    p, y = _checked(probability, outcome)
    place = _places(p, bins)
    n, said, came = (np.bincount(place, weights, bins) for weights in (np.ones(len(p)), p, y))
    return [
        Bin(k / bins, (k + 1) / bins, int(n[k]), float(said[k] / n[k]), float(came[k] / n[k]))
        for k in np.flatnonzero(n).tolist()
    ]


def expected_calibration_error(probability: ArrayLike, outcome: ArrayLike, bins: int = BINS) -> float:
    """Return the ECE, from 0 to 1; arguments and errors as `reliability`."""
    table = reliability(probability, outcome, bins)
    return sum(row.n * abs(row.rate - row.probability) for row in table) / sum(row.n for row in table)


def calibration_error(
    probability: ArrayLike,
    outcome: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    bins: int = BINS,
) -> Error:
    """Return the ECE with its interval (see above), whole clusters resampled, each item its own where None is given.

    Raises ValueError as `reliability`, and where there are not as many clusters as items.
    """
    p, y = _checked(probability, outcome)
    if clusters is not None and len(clusters) != len(p):
        raise ValueError(f"calibration: {len(p)} items but {len(clusters)} clusters")
    place, estimate = _places(p, bins), expected_calibration_error(p, y, bins)
    index = np.arange(len(p)) if clusters is None else statistics.cluster_index(clusters)
    members = int(index.max()) + 1
    cells = np.bincount(index * bins + place, y - p, members * bins).reshape(members, bins)
    sums = resampled_sums(np.column_stack([cells, np.bincount(index, minlength=members)]), resamples, seed)
    drawn = np.abs(sums[:, :bins]).sum(axis=1) / sums[:, bins]
    low, high = np.clip(2 * estimate - np.quantile(drawn, [0.975, 0.025]), 0, 1)
    chance = _by_chance(p, place, resamples, seed, bins)
    if estimate <= np.quantile(chance, 0.95):
        low = 0.0
    return Error(estimate, min(float(low), estimate), max(float(high), estimate), float(chance.mean()))


def _by_chance(
    p: NDArray[np.float64], place: NDArray[np.int64], resamples: int, seed: int, bins: int
) -> NDArray[np.float64]:
    """Draw the ECE of a model that is perfectly calibrated, shape (resamples,)."""
    random = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    member = np.zeros((len(p), bins))
    member[np.arange(len(p)), place] = 1
    step = max(1, statistics.BLOCK // len(p))
    drawn = []
    for start in range(0, resamples, step):
        came = random.random((min(step, resamples - start), len(p))) < p
        drawn.append(np.abs((came - p) @ member).sum(axis=1) / len(p))
    return np.concatenate(drawn)


def _places(p: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the number of each probability's bin (low, high]; 0 lies in the first."""
    return np.searchsorted(np.arange(1, bins) / bins, p, side="left")


def _checked(probability: ArrayLike, outcome: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, y = (np.asarray(values, dtype=np.float64) for values in (probability, outcome))
    if p.ndim != 1 or p.shape != y.shape or not p.size:
        raise ValueError(f"calibration: expected two equally long non-empty lists, got {p.shape} and {y.shape}")
    # A softmax in float32 sums to 1 up to rounding; a nan is neither.
    if not ((p >= 0) & (p <= 1 + 1e-6)).all() or not ((y == 0) | (y == 1)).all():
        raise ValueError("calibration: expected probabilities from 0 to 1 and outcomes of 0 or 1")
    return np.minimum(p, 1), y
