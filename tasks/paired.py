"""Scores as sums over items, so that two models can be compared on the same draw of the items.

Most scores are means of ratios of sums: with weights w_i of the items
    score(w) = mean over parts p of  sum_i w_i top[i, p] / sum_i w_i bottom[i, p]          (0 where nothing is below)
Accuracy, exact match, ROUGE and the SQuAD F1 have one part and a bottom of 1; entity F1 has 2 * correct over
predicted + true; bits per byte nats over bytes; macro F1 one part a class, 2 TP over predicted + true of it. The
paired bootstrap (B. Efron and R. Tibshirani, 1993; for scores of language systems P. Koehn, EMNLP 2004) draws the
weights once and takes both scores under them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.audits.statistics import BLOCK, Interval, percentile_interval

RESAMPLES = 2000
DIGITS = 12
"""Decimals of a difference that mean something."""

Units = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Top and bottom of what is drawn, [units, parts] each."""


@dataclass(frozen=True, eq=False)
class Terms:
    """The sums of one score, item by item."""

    top: NDArray[np.float64]
    """Numerators, shape (items, parts)."""
    bottom: NDArray[np.float64]
    """Denominators, shape (items, parts)."""
    clusters: NDArray[np.int64] | None = None
    """Number of each item's cluster, shape (items,): whole clusters are drawn. None: each item is its own."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Terms) and all(
            np.array_equal(np.asarray(one), np.asarray(another))
            for one, another in zip(_arrays(self).values(), _arrays(other).values(), strict=False)
        )

    def __len__(self) -> int:
        return len(self.top)

    @property
    def value(self) -> float:
        """Return the score of all items."""
        return float(_score(self.top.sum(axis=0), self.bottom.sum(axis=0)))

    def units(self) -> "Units":
        """Return top and bottom of what is drawn: of the items, or summed over each cluster, [units, parts]."""
        if self.clusters is None:
            return self.top, self.bottom
        both = np.zeros((2, int(self.clusters.max()) + 1, self.top.shape[1]))
        np.add.at(both[0], self.clusters, self.top)
        np.add.at(both[1], self.clusters, self.bottom)
        return both[0], both[1]

    def each(self) -> NDArray[np.float64] | None:
        """Return the score of each item alone, shape (items,); None where a single item has none (macro F1)."""
        if self.top.shape[1] > 1:
            return None
        return np.divide(self.top[:, 0], self.bottom[:, 0], out=np.zeros(len(self)), where=self.bottom[:, 0] > 0)


class Difference(NamedTuple):
    """One score minus another, with its 95 % interval."""

    interval: Interval
    paired: bool
    """Whether both were asked the same items; else they were drawn apart, which is wider."""


def terms(top: ArrayLike, bottom: ArrayLike | None = None, clusters: ArrayLike | None = None) -> Terms:
    """Make the terms of a score from arrays of shape (items,) or (items, parts); without a bottom it is a mean."""
    above: NDArray[np.float64] = np.asarray(top, dtype=np.float64)
    below: NDArray[np.float64] = np.ones_like(above) if bottom is None else np.asarray(bottom, dtype=np.float64)
    assert above.shape == below.shape, f"numerators of shape {above.shape}, denominators {below.shape}"
    assert len(above), "no items"
    drawn = None if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)
    return Terms(above.reshape(len(above), -1), below.reshape(len(below), -1), drawn)


def difference(
    first: Terms,
    second: Terms,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    *,
    exchange: bool = True,
    apart: bool = False,
) -> Difference:
    """Return first minus second with the percentile interval of the paired bootstrap.

    The bare bootstrap takes too little for proof where few items tell the two apart: of 400 answers four that only
    the first has right would do, though a fair coin gives as much once in 16 times. So the item on which they differ
    most is added twice, once with the sides exchanged, as A. Agresti and Y. Min (Statistics in Medicine 24, 2005)
    add to the counts of matched pairs; of right and wrong answers the interval then leaves out 0 where the one-sided
    sign test is at most .025. Without ``exchange`` it is the bare bootstrap, whose standard error is not widened so.
    Two that were not asked as many items (another tokenizer cuts other windows) are drawn apart, and so are those of
    which the caller knows that their items are others.
    """
    pair = [first.units(), second.units()]
    paired = len(pair[0][0]) == len(pair[1][0]) and not apart
    if paired:
        one, other = _draws(_with_exchange(*pair) if exchange else pair, resamples, seed)
    else:
        seeds = np.random.SeedSequence(seed).generate_state(2)
        one, other = (_draws([units], resamples, int(own))[0] for units, own in zip(pair, seeds, strict=True))
    # Equal sums in another order differ in the last digits, and that is no difference.
    estimate = round(first.value - second.value, DIGITS)
    found = percentile_interval(estimate, np.round(one - other, DIGITS), confidence)
    return Difference(found._replace(low=min(found.low, estimate), high=max(found.high, estimate)), paired)


def interval(own: Terms, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return a score with its percentile interval."""
    return percentile_interval(own.value, _draws([own.units()], resamples, seed)[0], confidence)


def write_items(path: Path, found: Mapping[str, Mapping[str, Terms]]) -> None:
    """Write contender -> score -> terms as safetensors, of equal bytes for equal terms."""
    from safetensors.numpy import save_file

    arrays = {
        f"{contender}|{score}|{name}": np.ascontiguousarray(array)
        for contender, scores in found.items()
        for score, own in scores.items()
        for name, array in _arrays(own).items()
        if array is not None
    }
    save_file(arrays, path)


def read_items(path: Path) -> dict[str, dict[str, Terms]]:
    """Read what `write_items` wrote."""
    from safetensors.numpy import load_file

    parts: dict[str, dict[str, dict[str, NDArray]]] = {}
    for key, array in sorted(load_file(path).items()):
        contender, score, name = key.split("|")
        parts.setdefault(contender, {}).setdefault(score, {})[name] = array
    return {
        contender: {score: Terms(**arrays) for score, arrays in scores.items()} for contender, scores in parts.items()
    }


def _arrays(own: Terms) -> dict[str, NDArray | None]:
    return {"top": own.top, "bottom": own.bottom, "clusters": own.clusters}


def _score(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis of top / bottom."""
    return np.asarray(_ratio(top, bottom).mean(axis=-1))


def _ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def _with_exchange(one: Units, other: Units) -> list[Units]:
    """Add the unit on which the two differ most, and the same with the sides exchanged."""
    if one[0].shape != other[0].shape:  # other classes: nothing can be exchanged
        return [one, other]
    below = one[1].sum(axis=0), other[1].sum(axis=0)
    pooled = _ratio(one[0].sum(axis=0) + other[0].sum(axis=0), below[0] + below[1])
    moves = [
        _ratio(top - pooled * bottom, np.broadcast_to(whole, top.shape)).sum(axis=1)
        for (top, bottom), whole in zip((one, other), below, strict=True)
    ]
    most = int(np.abs(moves[0] - moves[1]).argmax())
    # [side, top or bottom, part] of that unit
    sides = np.array([[array[most] for array in units] for units in (one, other)])
    added = [np.stack([sides[mine], sides[1 - mine]], axis=1) for mine in (0, 1)]
    return [
        (np.concatenate([units[0], more[0]]), np.concatenate([units[1], more[1]]))
        for units, more in zip((one, other), added, strict=True)
    ]


def _draws(sides: list[Units], resamples: int, seed: int) -> NDArray[np.float64]:
    """Draw the bootstrap distribution of scores of the same units, shape (sides, resamples)."""
    count = len(sides[0][0])
    columns = [array for units in sides for array in units]
    ends, together = np.cumsum([array.shape[1] for array in columns])[:-1], np.concatenate(columns, axis=1)
    drawn = np.empty((len(sides), resamples))
    step = max(1, BLOCK // count)
    for block, start in enumerate(range(0, resamples, step)):
        size = min(step, resamples - start)
        sums = np.split(_weights(count, size, seed, block) @ together, ends, axis=1)
        for side in range(len(sides)):
            drawn[side, start : start + size] = _score(sums[2 * side], sums[2 * side + 1])
    return drawn


@lru_cache(maxsize=1)
def _weights(count: int, size: int, seed: int, block: int) -> NDArray[np.float64]:
    """Draw how often each unit is in each resample, [size, count]; kept for the next score of the same items."""
    random = np.random.default_rng([seed, block])
    return random.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
