"""Rows of a JSON lines file and their token ids, for the objectives that learn from examples."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import longest_text
from models.data import BucketedBatches
from models.job import Job
from models.module import Batch, Objective, Workload
from models.packing import PackedBuckets


def read_rows(path: Path, fields: tuple[str, ...], of: type[Any] = str) -> list[dict[str, Any]]:
    """Return the rows of a file, each a dict that has all the fields, of type `of`.

    Raises ValueError naming file, line and field; an empty file is one too.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected JSON lines with {', '.join(fields)}")
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}: line {number}: {error}, expected one JSON object") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}: line {number}: {type(row).__name__}, expected one JSON object")
            for name in fields:
                if not isinstance(row.get(name), of):
                    found = "missing" if name not in row else f"{row[name]!r:.40}"
                    expected = {"str": "a string", "list": "a list", "dict": "an object"}[of.__name__]
                    raise ValueError(f"{path}: line {number}: {name} is {found}, expected {expected}")
            rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no rows, expected at least one")
    return rows


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[np.ndarray]:
    """Return the token ids of each text, int64, with text that looks like a special token read as plain text.

    So nobody's data can open a turn or end a document.
    """
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
    finally:
        backend.encode_special_tokens = before
    return [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]


def plain_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return example numbers in batches sorted by length, the longest first, so that memory peaks at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def bucketed_workload(
    job: Job,
    model: PreTrainedModel,
    *,
    build: Callable[[int], Objective],
    train_lengths: np.ndarray,
    valid_lengths: np.ndarray,
    train_batch: Callable[[Any], Batch],
    valid_batch: Callable[[np.ndarray], Batch],
    facts: dict[str, Any],
    batches: BucketedBatches | PackedBuckets | None = None,
) -> Workload:
    """Return the workload of an objective that learns from examples, in batches of about equal length.

    `train_batch` and `valid_batch` take example numbers [batch]; lengths are in tokens, one an example. Other
    training `batches` may be given, for example packed ones; `train_batch` takes what they return.
    """
    size = job.trainer.batch_size
    order = batches or BucketedBatches(train_lengths, size, job.seed)
    return Workload(
        model=model,
        build=build,
        micro_batch=lambda index: train_batch(order.batch(index)),
        batches_per_epoch=order.batches_per_epoch,
        valid=lambda: map(valid_batch, plain_batches(valid_lengths, size)[: job.trainer.validate_batches]),
        context=longest_text(model),
        mean_length=float(np.mean(train_lengths)),
        facts={
            "train_examples": len(train_lengths),
            "valid_examples": len(valid_lengths),
            "waste_share": order.waste_share(),
            **facts,
        },
    )
