"""Causal language modelling: predict every next token of packed text."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.bases import load_model, longest_text
from models.data import PackedBatches, open_tokens, read_meta
from models.job import Job
from models.module import Batch, Counts, Objective, Workload


def windows(tokens: np.ndarray, context: int, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
    """Yield the array in order as batches of windows, `ids` [batch, context + 1], each token predicted once.

    The last window may be shorter and comes alone.
    """
    whole = (len(tokens) - 1) // context
    span = np.arange(context + 1)
    batches = range(0, whole, batch_size)
    for number, first in enumerate(batches):
        if limit is not None and number >= limit:
            return
        starts = np.arange(first, min(first + batch_size, whole)) * context
        yield {"ids": torch.from_numpy(tokens[starts[:, None] + span].astype(np.int64))}
    rest = tokens[whole * context :]
    if len(rest) > 1 and (limit is None or len(batches) < limit):
        yield {"ids": torch.from_numpy(rest.astype(np.int64))[None]}


class CausalLM(Objective):
    """Cross-entropy of every next token."""

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy in nats; batch["ids"] is [batch, context + 1]."""
        ids = batch["ids"]
        return self.vocabulary_loss_sum(self.hidden(ids[:, :-1]), ids[:, 1:].flatten())

    def count(self, batch: Batch) -> Counts:
        """Return the predicted tokens, which are all there are."""
        rows, width = batch["ids"].shape
        return Counts(rows * (width - 1), rows * (width - 1), rows * (width - 1))


def bits_per_byte(directory: Path) -> Callable[[float], float] | None:
    """Return what turns nats per token of a directory's validation text into bits per byte; None if it is empty."""
    valid = read_meta(directory)["valid"]
    tokens, size = int(valid["tokens"]), int(valid["bytes"])
    return (lambda loss: loss / math.log(2) * tokens / size) if size else None


def prepare(job: Job, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload of a token directory; ValueError names the file when its tokens cannot be used.

    With `job.general`, the validation text of that directory is measured beside.
    """
    assert job.tokens is not None
    model = load_model(job, tokenizer)
    directory, trainer, options = Path(job.tokens), job.trainer, job.causal_lm
    longest = longest_text(model)
    context = options.context or longest
    if context > longest:
        raise ValueError(f"context is {context}, expected at most the model's {longest}")
    meta = read_meta(directory)
    for place in (directory, *([Path(job.general)] if job.general else [])):
        size = int(read_meta(place).get("vocab_size", 0))
        if size > model.config.vocab_size:
            raise ValueError(f"{place / 'meta.json'}: vocab_size is {size}, the model has {model.config.vocab_size}")
    train, valid = open_tokens(directory, "train"), open_tokens(directory, "valid")
    general = open_tokens(Path(job.general), "valid") if job.general else None
    packed = PackedBatches(train, context, trainer.batch_size, job.seed)

    def held_out(tokens: np.ndarray) -> Iterator[Batch]:
        return windows(tokens, context, trainer.batch_size, trainer.validate_batches)

    return Workload(
        model=model,
        build=lambda total: CausalLM(model, trainer, total, device),
        micro_batch=lambda index: {"ids": packed.batch(index)},
        batches_per_epoch=packed.batches_per_epoch,
        valid=lambda: held_out(valid),
        context=context,
        mean_length=context,
        facts={
            "train_tokens": len(train),
            "valid_tokens": int(meta["valid"]["tokens"]),
            "valid_bytes": int(meta["valid"]["bytes"]),
            "waste_share": 0.0,
        },
        bits_per_byte=bits_per_byte(directory),
        general=None if general is None else lambda: held_out(general),
        general_bits_per_byte=bits_per_byte(Path(job.general)) if job.general else None,
    )
