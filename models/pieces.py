"""Micro-batches in smaller pieces, for a device whose memory is too small for them."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from models.module import Batch


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device, or the machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def in_pieces(batch: "Batch", pieces: int, per_place: tuple[str, ...], sides: int) -> "list[Batch]":
    """Return a micro-batch as up to `pieces` smaller ones, whose summed losses add up to its own.

    A row of ids [rows, longest] stays whole; where a unit has two `sides`, rows r and r + rows / 2 stay together.
    `per_place` names the tensors that have one entry a place, a place being an index into the flattened ids.
    """
    units = len(batch["ids"]) // sides
    chunks = torch.arange(units).chunk(pieces)
    return [_rows(batch, torch.cat([chunk + side * units for side in range(sides)]), per_place) for chunk in chunks]


def _rows(batch: "Batch", chosen: Tensor, per_place: tuple[str, ...]) -> "Batch":
    ids = batch["ids"]
    count, width = ids.shape
    chosen = chosen.to(ids.device)
    number = torch.full((count,), -1, device=ids.device)
    number[chosen] = torch.arange(len(chosen), device=ids.device)
    found: dict[str, Tensor] = {}
    kept = number[batch["places"] // width] >= 0 if "places" in batch else None
    for name, tensor in batch.items():
        if kept is not None and name in per_place:
            found[name] = tensor[kept]
        elif tensor.ndim and len(tensor) == count:
            found[name] = tensor[chosen]
        else:
            found[name] = tensor  # of the whole step, or only counted
    if kept is not None:
        found["places"] = number[found["places"] // width] * width + found["places"] % width
        if "rows" in per_place:
            found["rows"] = number[found["rows"]]
    return found
