"""Packing: several examples in one row, each blind to the others and counting its positions from 0.

A batch has the same examples packed or not, and so the same loss; only the positions computed for it differ.
"""

import heapq
import inspect
import math
from typing import Literal

import numpy as np
from transformers import PreTrainedModel

from models.data import BucketedBatches

TOLERATED_WASTE = 0.1
"""Share of padding in batches of about equal length from which on they are packed."""

SPARE = 0.05
"""Share of padding at which rows are made no longer: attention grows with the square of a row."""


def _spread(lengths: np.ndarray, count: int) -> tuple[int, list[list[int]]]:
    """Return the tokens of the longest of `count` rows, and the rows: the longest example goes first, into the
    emptiest row (Graham 1969)."""
    rows: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, row) for row in range(count)]
    for i in np.argsort(-lengths, kind="stable"):
        tokens, row = heapq.heappop(filled)
        rows[row].append(int(i))
        heapq.heappush(filled, (tokens + int(lengths[i]), row))
    return max(filled)[0], rows


def pack(lengths: np.ndarray, context: int) -> list[np.ndarray]:
    """Return the example numbers of each row, no row longer than `context` tokens.

    Rows are padded to the longest of them; there are as many as waste no more than `SPARE`, or else those that
    waste least, at worst one for each example. Raises ValueError for an example longer than the context.
    """
    lengths = np.asarray(lengths)
    total, longest_example = int(lengths.sum()), int(lengths.max())
    if longest_example > context:
        raise ValueError(f"an example has {longest_example} tokens, expected at most the context of {context}")
    positions, best = len(lengths) * longest_example, [[i] for i in range(len(lengths))]
    fewest, most = math.ceil(total / context), int(total / (longest_example * (1 - SPARE)))
    for count in (*range(most, fewest - 1, -1), *range(max(fewest, most + 1), len(lengths))):
        if total >= (1 - SPARE) * positions:
            break
        if count * longest_example < positions:
            longest, rows = _spread(lengths, count)
            if longest <= context and count * longest < positions:
                positions, best = count * longest, rows
    return [np.array(row) for row in best]


class PackedBuckets:
    """The batches of `BucketedBatches`, each packed into rows of at most `context` tokens."""

    def __init__(self, buckets: BucketedBatches, context: int) -> None:
        self.buckets, self.context = buckets, context
        self.batches_per_epoch = buckets.batches_per_epoch

    def batch(self, index: int) -> list[np.ndarray]:
        """Return batch `index` of the endless sequence: the example numbers of each of its rows."""
        chosen = self.buckets.batch(index)
        return [chosen[row] for row in pack(self.buckets.lengths[chosen], self.context)]

    def waste_share(self, epoch: int = 0) -> float:
        """Return the share of padding among all positions of one epoch, 0 to 1."""
        lengths, first = self.buckets.lengths, epoch * self.batches_per_epoch
        batches = (self.batch(first + i) for i in range(self.batches_per_epoch))
        positions = sum(len(rows) * max(int(lengths[row].sum()) for row in rows) for rows in batches)
        return 1.0 - float(lengths.sum()) / positions


def keeps_documents_apart(model: PreTrainedModel) -> bool:
    """Return whether the model can be told where each document of a row begins.

    transformers makes the mask from positions that begin anew; a recurrent model takes no positions.
    """
    return "position_ids" in inspect.signature(model.base_model.forward).parameters


def choose_batches(
    packing: Literal["auto", "on", "off"], model: PreTrainedModel, buckets: BucketedBatches, context: int
) -> BucketedBatches | PackedBuckets:
    """Return the batches packed into rows of `context` tokens, or as they are.

    "auto" packs where they waste more than `TOLERATED_WASTE`; where they waste less, equal lengths alone are faster.
    Raises ValueError for "on" with a model that cannot keep packed documents apart.
    """
    possible = keeps_documents_apart(model)
    if packing == "on" and not possible:
        raise ValueError(f"packing is on, but a {model.config.model_type} model cannot keep packed documents apart")
    if packing == "on" or (packing == "auto" and possible and buckets.waste_share() > TOLERATED_WASTE):
        return PackedBuckets(buckets, context)
    return buckets
