"""Two models item by item: wins, losses and ties, the rows on which they differ most, and where they lie.

Larger values are better throughout: whoever calls turns a loss around. Sources: tasks.audits.significance.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.audits.lexicon import Lexicon
from tasks.audits.significance import benjamini_hochberg, mcnemar
from tasks.paired import Terms, difference

Row = dict[str, Any]
Mask = NDArray[np.bool_]
Grouping = tuple[str, list[tuple[str, Mask]]]
"""What rows are parted by, and the name and the rows of each part."""

CERTAIN = (0.0, 1.0)
"""Values of an answer that is right or wrong; others are graded."""


def item_values(own: Terms) -> NDArray[np.float64] | None:
    """Return the score of what is drawn as one, shape (units,); None where a single item has none (macro F1)."""
    top, bottom = own.units()
    if top.shape[1] > 1:
        return None
    return np.divide(top[:, 0], bottom[:, 0], out=np.zeros(len(top)), where=bottom[:, 0] > 0)


def outcomes(first: ArrayLike, second: ArrayLike) -> Row:
    """Count on how many items the first is better, worse and equal, and test whether the two are as often ahead.

    For right or wrong answers that is the exact McNemar test, for graded ones the sign test: the same binomial of the
    items that differ. Args: the values of each item, shape (items,), larger is better.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    wins, losses, p_value = mcnemar(one > other, other > one)
    certain = bool(np.isin(one, CERTAIN).all() and np.isin(other, CERTAIN).all())
    return {
        "wins": wins,
        "losses": losses,
        "ties": len(one) - wins - losses,
        "test": "mcnemar" if certain else "sign",
        "p_value": p_value,
    }


def farthest(gaps: NDArray[np.float64], sign: int, most: int) -> list[int]:
    """Return the numbers of the items of the largest gaps on one side, the most different first, else in order."""
    ordered = np.argsort(-sign * gaps, kind="stable")
    return [int(number) for number in ordered if sign * gaps[number] > 0][:most]


def take(own: Terms, chosen: NDArray[Any]) -> Terms:
    """Return the terms of some items alone, given by their numbers or by a mask; each stands for itself."""
    return Terms(own.top[chosen], own.bottom[chosen])


def by_class(truth: Sequence[str]) -> Grouping:
    """Part rows by their true label."""
    labels = np.array(truth)
    return "class", [(str(label), labels == label) for label in np.unique(labels)]


def by_length(texts: Sequence[str]) -> Grouping:
    """Part texts at the quartiles of their lengths in characters; equal quartiles make fewer parts."""
    lengths = np.array([len(text) for text in texts])
    part = np.searchsorted(np.unique(np.quantile(lengths, (0.25, 0.5, 0.75))), lengths, side="left")
    masks = [part == number for number in np.unique(part)]
    return "length", [(f"{lengths[mask].min():,} to {lengths[mask].max():,} characters", mask) for mask in masks]


def by_identity(texts: Sequence[str], lexicon: Lexicon) -> Grouping:
    """Part texts by whether they hold an identity word of the lexicon, or name a group of one of its axes."""
    named = np.array([_names(text, lexicon) for text in texts])
    return "identity", [("names an identity group", named), ("names none", ~named)]


def _names(text: str, lexicon: Lexicon) -> bool:
    return lexicon.group(text) is not None or any(lexicon.mentions(text, axis) for axis in lexicon.groups)


def slices(first: Terms, second: Terms, sign: int, groupings: Sequence[Grouping]) -> list[Row]:
    """Compare the two on parts of the rows, with q values (Benjamini-Hochberg over all parts): for exploring only.

    Args: first, second: one score of one part, item by item, of the same items; sign: 1 where larger is better, -1
    where smaller is. A grouping with one part says what all rows say, and is left out.
    """
    rows = []
    for by, parts in groupings:
        filled = [(name, mask) for name, mask in parts if mask.any()]
        for name, mask in filled if len(filled) > 1 else []:
            one, other = take(first, mask), take(second, mask)
            found = difference(one, other)
            rows.append(
                {
                    "by": by,
                    "slice": name,
                    "items": int(mask.sum()),
                    "a": one.value,
                    "b": other.value,
                    "difference": found.interval.estimate,
                    "low": found.interval.low,
                    "high": found.interval.high,
                    **outcomes(*(sign * values for values in (_each(one), _each(other)))),
                }
            )
    corrected = benjamini_hochberg([row["p_value"] for row in rows]) if rows else []
    return [row | {"q_value": q} for row, q in zip(rows, corrected, strict=True)]


def _each(own: Terms) -> NDArray[np.float64]:
    values = item_values(own)
    assert values is not None, "a slice is of a score that every item has"
    return values


def confusions(truth: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Row:
    """Count how often each class was answered with each, by either model: rows are true, columns answered."""
    labels = sorted({*truth, *first, *second})
    place = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((2, len(labels), len(labels)), dtype=np.int64)
    for matrix, answers in zip(counts, (first, second), strict=True):
        np.add.at(matrix, ([place[label] for label in truth], [place[label] for label in answers]), 1)
    return {"labels": labels, "a": counts[0].tolist(), "b": counts[1].tolist()}
