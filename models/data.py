"""What is trained on when: batches as a pure function of (seed, step), sliced from arrays.

Nothing here keeps a position: a run resumed at any step sees exactly the data of a run never stopped.
"""

import json
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info


def open_tokens(directory: Path, split: str) -> np.ndarray:
    """Return the memory-mapped token ids of one split, a flat array in the dtype named by `meta.json`.

    Raises ValueError when the directory lacks the split or its length disagrees with `meta.json`.
    """
    meta = read_meta(directory)
    if split not in meta:
        raise ValueError(f"{directory / 'meta.json'}: no split {split!r}, expected train, valid and test")
    path = directory / f"{split}.bin"
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected token ids")
    dtype = np.dtype(meta["dtype"])
    expected = int(meta[split]["tokens"])
    if path.stat().st_size != expected * dtype.itemsize:
        raise ValueError(
            f"{path}: {path.stat().st_size} bytes, expected {expected * dtype.itemsize} "
            f"({expected} tokens of {dtype.name} by meta.json)"
        )
    return np.memmap(path, dtype=dtype, mode="r") if expected else np.zeros(0, dtype)


def read_meta(directory: Path) -> dict[str, Any]:
    """Return the description of a token directory; ValueError when it is missing or no JSON."""
    path = directory / "meta.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected the description of the token arrays")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {error.lineno}: {error.msg}, expected JSON") from error
    if not isinstance(meta, dict) or meta.get("dtype") not in ("uint16", "uint32"):
        raise ValueError(f"{path}: dtype must be uint16 or uint32")
    return meta


class PackedBatches:
    """Windows of `context` tokens (and the next one) cut from one array, every window once per epoch.

    Epoch e shifts the cut by a random offset and visits the windows in a random order; both are drawn from
    (seed, e) alone. Windows run over document borders, as GPT-2 was trained.
    """

    def __init__(self, tokens: np.ndarray, context: int, batch_size: int, seed: int) -> None:
        if len(tokens) < context + 1:
            raise ValueError(
                f"the training text has {len(tokens)} tokens, expected at least context + 1 = {context + 1}"
            )
        self.tokens, self.context, self.batch_size, self.seed = tokens, context, batch_size, seed
        self.windows = max(1, (len(tokens) - context) // context)
        self._span = np.arange(context + 1)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng((self.seed, epoch))
        offset = generator.integers(min(self.context, len(self.tokens) - self.windows * self.context))
        return generator.permutation(self.windows) * self.context + offset

    @property
    def batches_per_epoch(self) -> float:
        """Batches that visit every window once; not whole, since a batch may run over into the next epoch."""
        return self.windows / self.batch_size

    def batch(self, index: int) -> Tensor:
        """Return batch `index` of the endless sequence, int64 [batch, context + 1]."""
        places = np.arange(index * self.batch_size, (index + 1) * self.batch_size)
        epochs, within = np.divmod(places, self.windows)
        starts = np.concatenate([self._epoch(int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)])
        return torch.from_numpy(self.tokens[starts[:, None] + self._span].astype(np.int64))


class BucketedBatches:
    """Batches of examples of about equal length, every example exactly once per epoch.

    An epoch shuffles the examples, sorts them by length (ties stay shuffled) inside pools of `pool` batches,
    cuts the pools into batches and shuffles those; all drawn from (seed, epoch) alone.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, pool: int = 64) -> None:
        if not len(lengths):
            raise ValueError("there is no training example, expected at least one")
        self.lengths, self.batch_size, self.seed, self.pool = np.asarray(lengths), batch_size, seed, pool
        self.batches_per_epoch = math.ceil(len(lengths) / batch_size)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> list[np.ndarray]:
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(len(self.lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), self.pool * self.batch_size):
            pool = order[start : start + self.pool * self.batch_size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        return [batches[i] for i in generator.permutation(len(batches))]

    def batch(self, index: int) -> np.ndarray:
        """Return the example numbers of batch `index` of the endless sequence."""
        epoch, within = divmod(index, self.batches_per_epoch)
        return self._epoch(epoch)[within]

    def waste_share(self, epoch: int = 0) -> float:
        """Return the share of padding among all positions of one epoch, 0 to 1."""
        batches = self._epoch(epoch)
        positions = sum(int(self.lengths[batch].max()) * len(batch) for batch in batches)
        return 1.0 - float(self.lengths.sum()) / positions


class Steps(IterableDataset[Any]):
    """The micro-batches of each optimiser step from `start` to `stop`, as lists; resumable anywhere.

    The order is the same for any number of a loader's workers, which take the steps in turns.
    """

    def __init__(
        self,
        micro_batch: Callable[[int], Any],
        start: int,
        stop: int,
        accumulation: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__()
        self.micro_batch, self.start, self.stop = micro_batch, start, stop
        self.accumulation, self.rank, self.world = accumulation, rank, world

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first_step, stride = (self.start, 1) if worker is None else (self.start + worker.id, worker.num_workers)
        for step in range(first_step, self.stop, stride):
            first = step * self.accumulation
            yield [self.micro_batch((first + micro) * self.world + self.rank) for micro in range(self.accumulation)]


def pad_right(rows: list[np.ndarray], value: int) -> Tensor:
    """Return the rows as one int64 tensor [rows, longest], the missing right ends filled with `value`."""
    padded = np.full((len(rows), max(len(row) for row in rows)), value, dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(padded)
