"""How far new text and new labels moved from those of the time: each with the 95 % interval of a bootstrap.

Text is drawn by documents and labels by rows, each side apart.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.paired import RESAMPLES, Terms, difference, interval, terms
from tasks.retraining import Reading
from tasks.training_profile import label_counts

SMOOTHED = 0.5
"""Added to the count of every label, so that one that stands on one side alone has a finite index (Jeffreys)."""
NAMED = 3
"""Labels that are named, those that moved most."""

Counts = NDArray[np.float64]


def cost_moved(new: Terms, before: Terms, rows: int, seed: int = 0) -> Reading:
    """Return how much more a foundation pays for new text than for its held-out text, as a share of the latter."""
    found = difference(new, before, seed=seed, apart=True).interval
    share = [value / before.value for value in (found.estimate, found.low, found.high)]
    return Reading(now=new.value, before=before.value, moved=share[0], low=share[1], high=share[2], rows=rows)


def words_moved(new: Terms, before: Terms, seed: int = 0) -> Reading:
    """Return how much larger the share of unknown words is than it was in held-out text."""
    found = difference(new, before, seed=seed, apart=True).interval
    moved, low, high, _ = found
    return Reading(now=new.value, before=before.value, moved=moved, low=low, high=high, rows=len(new))


def fit_lost(bytes_: Sequence[int], tokens: Sequence[int], before: float, seed: int = 0) -> Reading:
    """Return by what share a token holds fewer bytes than ``before``; one entry of bytes and of tokens a document."""
    now = interval(terms(bytes_, tokens), seed=seed)
    moved, low, high = (1 - value / before for value in (now.estimate, now.high, now.low))
    return Reading(now=now.estimate, before=before, moved=moved, low=low, high=high, rows=len(bytes_))


def stability_index(new: Counts, before: Counts) -> Counts:
    """Return the population stability index of label counts, [..., labels] on both sides: [...].

    PSI = sum over labels of (q - p) ln(q / p), the symmetric Kullback-Leibler divergence of the shares p before and
    q now, after half a row was added to every label on both sides (N. Siddiqi, Credit Risk Scorecards, 2006).
    """
    p, q = ((counts + SMOOTHED) / (counts + SMOOTHED).sum(axis=-1, keepdims=True) for counts in (before, new))
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def labels_moved(rows: Sequence[dict[str, object]], before: dict[str, int], seed: int = 0) -> Reading | None:
    """Return the stability index of the labels of new rows against counts ``before``; None where there are no labels.

    An index of samples is too large by about (labels - 1) (1/n + 1/m) even where nothing shifted. The bootstrap shows
    by how much, and that is taken off (estimate 2 t - mean, interval by reflection; Davison and Hinkley 1997, 2.1.3
    and 5.2); an index cannot be below 0.
    """
    found = [label_counts(row) for row in rows]
    names = sorted({*before, *(name for counts in found for name in counts)})
    if not before or not any(found):
        return None
    each = np.array([[counts[name] for name in names] for counts in found], dtype=np.float64)
    old = np.array([before.get(name, 0) for name in names], dtype=np.float64)
    new = each.sum(axis=0)
    random = np.random.default_rng(seed)
    drawn_new = random.multinomial(len(each), np.full(len(each), 1 / len(each)), size=RESAMPLES) @ each
    drawn_old = random.multinomial(int(old.sum()), old / old.sum(), size=RESAMPLES)
    drawn = stability_index(drawn_new, drawn_old.astype(np.float64))
    index = float(stability_index(new, old))
    low, high = np.quantile(drawn, [0.025, 0.975])
    moved, low, high = (max(0.0, 2 * index - float(value)) for value in (drawn.mean(), high, low))
    return Reading(now=index, before=0.0, moved=moved, low=low, high=high, rows=len(rows), said=_said(names, old, new))


def _said(names: list[str], old: Counts, new: Counts) -> str:
    """Name the labels whose shares moved most, and the Jensen-Shannon distance in [0, 1]."""
    from scipy.spatial.distance import jensenshannon

    before, now = old / old.sum(), new / new.sum()
    most = np.argsort(-np.abs(now - before), kind="stable")[:NAMED]
    shares = ", ".join(f"{names[i]} {100 * before[i]:.1f} % to {100 * now[i]:.1f} %" for i in most)
    return f"{shares}; Jensen-Shannon distance {jensenshannon(before, now, base=2):.3f}"
