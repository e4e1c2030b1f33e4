"""Causal language modelling: predict every next token of packed text."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

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


def prepare(job: Job, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload of a token directory; ValueError names the file when its tokens cannot be used."""
    assert job.tokens is not None
    directory, trainer, options = Path(job.tokens), job.trainer, job.causal_lm
    longest = int(model.config.max_position_embeddings)
    context = options.context or longest
    if context > longest:
        raise ValueError(f"context is {context}, expected at most the model's {longest}")
    meta = read_meta(directory)
    if int(meta.get("vocab_size", 0)) > model.config.vocab_size:
        raise ValueError(
            f"{directory / 'meta.json'}: vocab_size is {meta['vocab_size']}, the model has {model.config.vocab_size}"
        )
    train, valid = open_tokens(directory, "train"), open_tokens(directory, "valid")
    packed = PackedBatches(train, context, trainer.batch_size, job.seed)
    tokens, size = int(meta["valid"]["tokens"]), int(meta["valid"]["bytes"])
    return Workload(
        model=model,
        build=lambda total: CausalLM(model, trainer, total, device),
        micro_batch=lambda index: {"ids": packed.batch(index)},
        batches_per_epoch=packed.batches_per_epoch,
        valid=lambda: windows(valid, context, trainer.batch_size, trainer.validate_batches),
        context=context,
        mean_length=context,
        facts={"train_tokens": len(train), "valid_tokens": tokens, "valid_bytes": size, "waste_share": 0.0},
        bits_per_byte=(lambda loss: loss / math.log(2) * tokens / size) if size else None,
    )
