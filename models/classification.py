"""Text classification: one label per text.

A decoder's label is read off the hidden state of the last token, the only one that has seen the whole text; an
encoder's by its own head, from `[CLS] text [SEP]`.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import load_model, longest_text
from models.heads import Head, enclose, frame, padded, run_head, sees_both_sides
from models.job import Job
from models.module import Batch, Workload
from models.rows import bucketed_workload, encode, read_rows


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


def text_ids(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, context: int, both_sides: bool = False
) -> tuple[list[np.ndarray], int]:
    """Return the ids of the texts, each at most `context` tokens with its frame (`heads.enclose`), and how many
    texts were cut for that."""
    ids = encode(tokenizer, texts)
    room = context - sum(map(len, frame(tokenizer, both_sides)))
    return enclose(ids, tokenizer, both_sides, context), sum(len(row) > room for row in ids)


def featurise(
    rows: list[dict[str, str]],
    names: list[str],
    tokenizer: PreTrainedTokenizerFast,
    context: int,
    both_sides: bool = False,
) -> Examples:
    """Return the rows as token ids and label numbers."""
    number = {name: i for i, name in enumerate(names)}
    ids, truncated = text_ids([row["text"] for row in rows], tokenizer, context, both_sides)
    return Examples(ids, np.array([number[row["label"]] for row in rows]), truncated)


def collate(ids: list[np.ndarray], labels: np.ndarray, pad_id: int) -> Batch:
    """Return ids [batch, longest] padded on the right, lengths [batch] and labels [batch], all int64."""
    return {**padded(ids, pad_id), "labels": torch.from_numpy(np.asarray(labels, dtype=np.int64))}


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


def label_logits(model: PreTrainedModel, batch: Batch, both_sides: bool) -> Tensor:
    """Return the logits [batch, labels] of the texts of a batch."""
    if both_sides:
        logits: Tensor = run_head(model, batch, both_sides).logits
        return logits
    return last_token_logits(model, batch["ids"], batch["lengths"])


class Classification(Head):
    """Cross-entropy of the label."""

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy in nats over the texts of the batch."""
        logits = label_logits(self.model, batch, self.both_sides)
        return F.cross_entropy(logits.float(), batch["labels"], reduction="sum")


def decode(logits: Tensor, names: dict[int, str]) -> tuple[list[str], np.ndarray]:
    """Return the likeliest label of each row of logits [n, labels] and the probabilities [n, labels]."""
    probabilities = torch.softmax(logits.float(), dim=-1).cpu().numpy()
    return [names[int(i)] for i in probabilities.argmax(-1)], probabilities


def prepare(job: Job, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload; ValueError names file, line and field of a row that cannot be used."""
    assert job.train is not None
    assert job.valid is not None
    rows, held_out = (read_rows(Path(path), ("text", "label")) for path in (job.train, job.valid))
    names = label_names(rows)
    require_known_labels(held_out, names, Path(job.valid))
    rows = choose(rows, job.max_examples, job.seed)
    model = load_model(job, tokenizer, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    context, pad, both_sides = longest_text(model), tokenizer.pad_token_id, sees_both_sides(model)
    train, valid = (featurise(part, names, tokenizer, context, both_sides) for part in (rows, held_out))
    return bucketed_workload(
        job,
        model,
        build=lambda total: Classification(model, job.trainer, total, device),
        train_lengths=train.lengths,
        valid_lengths=valid.lengths,
        train_batch=lambda chosen: collate([train.ids[i] for i in chosen], train.labels[chosen], pad),
        valid_batch=lambda chosen: collate([valid.ids[i] for i in chosen], valid.labels[chosen], pad),
        facts={"labels": names, "truncated_examples": train.truncated},
    )
