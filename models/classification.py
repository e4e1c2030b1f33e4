"""Text classification: one label per text, read off the hidden state of its last token."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

from models.data import BucketedBatches, pad_right
from models.job import Job
from models.module import Batch, Counts, Objective, Workload
from models.rows import encode, plain_batches, read_rows


@dataclass(frozen=True)
class Examples:
    """Token ids of each text and the number of its label."""

    ids: list[np.ndarray]
    labels: np.ndarray
    truncated: int

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text."""
        return np.array([len(ids) for ids in self.ids])


def label_names(rows: list[dict[str, str]]) -> list[str]:
    """Return the labels of the training rows in alphabetical order, at least two."""
    names = sorted({row["label"] for row in rows})
    if len(names) < 2:
        raise ValueError(f"label: the training rows have {len(names)} label ({names[0]!r}), expected at least two")
    return names


def require_known_labels(rows: list[dict[str, str]], names: list[str], path: Path) -> None:
    """Raise ValueError naming file, line and label for the first label that training did not have."""
    known = set(names)
    for number, row in enumerate(rows, 1):
        if row["label"] not in known:
            shown = ", ".join(names[:10])
            raise ValueError(
                f"{path}: line {number}: label {row['label']!r} is not among the training labels ({shown})"
            )


def choose(rows: list[dict[str, str]], most: int | None, seed: int) -> list[dict[str, str]]:
    """Return at most `most` rows of a seeded shuffle, the labels in turn; smaller choices are nested."""
    if most is None or most >= len(rows):
        return rows
    by_label: dict[str, list[dict[str, str]]] = defaultdict(list)
    for i in np.random.default_rng(seed).permutation(len(rows)):
        by_label[rows[i]["label"]].append(rows[i])
    turns = zip_longest(*(by_label[name] for name in sorted(by_label)))
    return [row for row in chain.from_iterable(turns) if row is not None][:most]


def text_ids(texts: list[str], tokenizer: PreTrainedTokenizerFast, context: int) -> tuple[list[np.ndarray], int]:
    """Return the ids of the texts, cut after `context` tokens, and how many were; an empty text is <eos>."""
    ids = encode(tokenizer, texts)
    truncated = sum(len(row) > context for row in ids)
    empty = np.array([tokenizer.eos_token_id])
    return [row[:context] if len(row) else empty for row in ids], truncated


def featurise(
    rows: list[dict[str, str]], names: list[str], tokenizer: PreTrainedTokenizerFast, context: int
) -> Examples:
    """Return the rows as token ids and label numbers."""
    number = {name: i for i, name in enumerate(names)}
    ids, truncated = text_ids([row["text"] for row in rows], tokenizer, context)
    return Examples(ids, np.array([number[row["label"]] for row in rows]), truncated)


def collate(ids: list[np.ndarray], labels: np.ndarray, pad_id: int) -> Batch:
    """Return ids [batch, longest] padded on the right, lengths [batch] and labels [batch], all int64."""
    return {
        "ids": pad_right(ids, pad_id),
        "lengths": torch.tensor([len(row) for row in ids]),
        "labels": torch.from_numpy(np.asarray(labels, dtype=np.int64)),
    }


def last_token_logits(model: PreTrainedModel, ids: Tensor, lengths: Tensor) -> Tensor:
    """Return the logits [batch, labels] at each text's last token.

    Padding stands to the right, where causal attention never looks: no mask is needed, and the result is that
    of the model's own forward with one.
    """
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]
    head: Any = model.score
    logits: Tensor = head(last)
    return logits


class Classification(Objective):
    """Cross-entropy of the label."""

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy in nats over the texts of the batch."""
        logits = last_token_logits(self.model, batch["ids"], batch["lengths"])
        return F.cross_entropy(logits.float(), batch["labels"], reduction="sum")

    def count(self, batch: Batch) -> Counts:
        """Return texts, their tokens, and positions with padding."""
        return Counts(len(batch["labels"]), int(batch["lengths"].sum()), batch["ids"].numel())


def decode(logits: Tensor, names: dict[int, str]) -> tuple[list[str], np.ndarray]:
    """Return the likeliest label of each row of logits [n, labels] and the probabilities [n, labels]."""
    probabilities = torch.softmax(logits.float(), dim=-1).cpu().numpy()
    return [names[int(i)] for i in probabilities.argmax(-1)], probabilities


def classifier(foundation: PreTrainedModel, names: list[str], seed: int) -> PreTrainedModel:
    """Return a sequence classifier with the foundation's body and a new head drawn from `seed`."""
    config = type(foundation.config).from_dict(foundation.config.to_dict())
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    model.base_model.load_state_dict(foundation.base_model.state_dict())
    return model


def prepare(job: Job, foundation: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload; ValueError names file, line and field of a row that cannot be used."""
    assert job.train is not None
    assert job.valid is not None
    rows, held_out = (read_rows(Path(path), ("text", "label")) for path in (job.train, job.valid))
    names = label_names(rows)
    require_known_labels(held_out, names, Path(job.valid))
    rows = choose(rows, job.classification.max_examples, job.seed)
    model = classifier(foundation, names, job.seed)
    context, pad = int(model.config.max_position_embeddings), tokenizer.pad_token_id
    train, valid = (featurise(part, names, tokenizer, context) for part in (rows, held_out))
    buckets = BucketedBatches(train.lengths, job.trainer.batch_size, job.seed)

    def batch(examples: Examples, chosen: np.ndarray) -> Batch:
        return collate([examples.ids[i] for i in chosen], examples.labels[chosen], pad)

    return Workload(
        model=model,
        build=lambda total: Classification(model, job.trainer, total, device),
        micro_batch=lambda index: batch(train, buckets.batch(index)),
        batches_per_epoch=buckets.batches_per_epoch,
        valid=lambda: (
            batch(valid, chosen)
            for chosen in plain_batches(valid.lengths, job.trainer.batch_size)[: job.trainer.validate_batches]
        ),
        context=context,
        mean_length=float(train.lengths.mean()),
        facts={
            "labels": names,
            "train_examples": len(rows),
            "valid_examples": len(held_out),
            "truncated_examples": train.truncated,
            "waste_share": buckets.waste_share(),
        },
    )
