"""The mean of a score, or of a difference, over seeds: an interval that holds the seeds' and the items' variation.

Every seed's models are asked the same items, so seeds and items are crossed, and no resampling is exact for crossed
data (P. McCullagh, Bernoulli 6, 2000; A. B. Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007).
With few seeds it is also too narrow: a bootstrap of three sees two thirds of their variance, and no value beyond
theirs. So the two parts of the variance are estimated apart and added,

    V = s^2 / S + b^2        s^2: sample variance over the S seeds; b: standard error of the mean by the (paired)
                             bootstrap over the items, the seeds held fixed

and the interval is the mean plus or minus t sqrt(V), with the degrees of freedom of F. E. Satterthwaite (Biometrics
Bulletin 2, 1946): V^2 / ((s^2/S)^2 / (S - 1) + b^4 / (n - 1)) for n items (or clusters of them). Where the seeds
decide, that is Student's t over seeds; where the items do, the normal interval of the bootstrap. What a seed does to
single items is in both parts and is counted twice, so the interval is rather too wide than too narrow.
"""

import math
from collections.abc import Sequence
from statistics import variance
from typing import NamedTuple

import numpy as np

from tasks.paired import RESAMPLES, Terms, difference


class OverSeeds(NamedTuple):
    """A mean over seeds with its interval, all but the last in the unit of the score."""

    value: float
    """The mean over the seeds."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    seeds_error: float | None
    """Standard error from the seeds, s / sqrt(S); None for a single seed, of which the items alone are known."""
    items_error: float
    """Standard error from the items, b."""
    degrees: float | None
    """Degrees of freedom; None where nothing varies, and for a single seed, whose interval is the bootstrap's."""


def over_seeds(
    first: Sequence[Terms],
    second: Sequence[Terms] | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> OverSeeds:
    """Return the mean over seeds of first minus second, or of first alone, with its interval.

    Args: first, second: a score's sums over the same items, one a seed, the seeds in the same order.
    """
    other = list(second) if second is not None else [_nothing(own) for own in first]
    assert len(first) == len(other) > 0, f"{len(first)} seeds on one side, {len(other)} on the other"
    # What keeps few items from deciding widens the interval of a difference; for b the bare error is wanted.
    exchange = second is not None and len(first) == 1
    items = difference(_joined(first), _joined(other), resamples, confidence=confidence, exchange=exchange).interval
    # A sum without rounding: the order of the seeds is nobody's choice.
    values = [one.value - two.value for one, two in zip(first, other, strict=True)]
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return OverSeeds(mean, items.low, items.high, None, items.standard_error, None)
    between, within = variance(values) / len(values), items.standard_error**2
    total = between + within
    if total == 0:
        return OverSeeds(mean, mean, mean, 0.0, 0.0, None)
    from scipy.stats import t

    units = len(first[0].units()[0])
    degrees = total**2 / (between**2 / (len(values) - 1) + within**2 / max(units - 1, 1))
    half = float(t.ppf((1 + confidence) / 2, degrees)) * math.sqrt(total)
    return OverSeeds(mean, mean - half, mean + half, math.sqrt(between), items.standard_error, degrees)


def _joined(seeds: Sequence[Terms]) -> Terms:
    """Return the mean of a score over seeds as one score: every seed's parts side by side, over the same items."""
    shapes = {own.top.shape for own in seeds}
    assert len(shapes) == 1, f"scores of unequal shapes {shapes}: the items or the parts differ between the seeds"
    top, bottom = (np.hstack([getattr(own, side) for own in seeds]) for side in ("top", "bottom"))
    return Terms(top, bottom, seeds[0].clusters)


def _nothing(own: Terms) -> Terms:
    return Terms(np.zeros_like(own.top), own.bottom, own.clusters)
