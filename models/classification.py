"""Text classification: one label per text.

A decoder's label is read off the hidden state of the last token, the only one that has seen the whole text; an
encoder's by its own head, from `[CLS] text [SEP]`.

Two mitigations of what a text's identity words do to its label act here, on fields that training rows may have
beside `text` and `label`: `weight` is what the row counts in the loss, relative to the mean (Kamiran and Calders
2012), and `swapped` is the text with its identity words swapped, whose logits the option `logit_pairing` draws to
those of the text (Garg et al. 2019). Validation looks at neither.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
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
from models.trainer import TrainerConfig


@dataclass(frozen=True)
class Examples:
    """Token ids of each text, the number of its label, and what a mitigation knows of it."""

    ids: list[np.ndarray]
    labels: np.ndarray
    truncated: int
    weights: np.ndarray | None = None
    """What each text counts in the loss, [texts], 1 on average; None: all the same."""
    swapped: list[np.ndarray | None] | None = None
    """Token ids of each text with its identity words swapped, None where it has none; None: no pairing."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text."""
        return np.array([len(ids) for ids in self.ids])

    def batch(self, chosen: np.ndarray, pad_id: int) -> Batch:
        """Return the batch of the texts with these numbers, as `collate` lays it out."""
        return collate(
            [self.ids[i] for i in chosen],
            self.labels[chosen],
            pad_id,
            None if self.weights is None else self.weights[chosen],
            None if self.swapped is None else [self.swapped[i] for i in chosen],
        )


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


def require_mitigation_fields(rows: list[dict[str, Any]], path: Path, pairing: bool) -> None:
    """Raise ValueError naming file, line and field where rows cannot be weighted or, with `pairing`, paired.

    Either every row has a `weight` above 0 or none has one; some row has a text `swapped`.
    """
    if any("weight" in row for row in rows):
        for number, row in enumerate(rows, 1):
            weight = row.get("weight")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e9:
                found = f"{weight!r:.40}" if "weight" in row else "missing, though other rows have one"
                raise ValueError(f"{path}: line {number}: weight is {found}, expected a number above 0, at most 1e9")
    if pairing:
        for number, row in enumerate(rows, 1):
            if not isinstance(row.get("swapped", ""), str):
                raise ValueError(f"{path}: line {number}: swapped is {row['swapped']!r:.40}, expected a string")
        if not any("swapped" in row for row in rows):
            raise ValueError(f"{path}: swapped: no row has it, expected it where logit_pairing is above 0")


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


def relative_weights(rows: list[dict[str, Any]]) -> np.ndarray | None:
    """Return the weights of the rows divided by their mean, [rows], or None where they have none.

    So the rows that were chosen of a file keep the scale of the loss, and with it the learning rate its meaning.
    """
    if not rows or "weight" not in rows[0]:
        return None
    weights = np.array([row["weight"] for row in rows], dtype=np.float64)
    return weights / weights.mean()


def swapped_ids(
    rows: list[dict[str, Any]],
    ids: list[np.ndarray],
    tokenizer: PreTrainedTokenizerFast,
    context: int,
    both_sides: bool = False,
) -> list[np.ndarray | None]:
    """Return the ids of each row's `swapped`, None where it has none or it reads as the row's own `ids`.

    It does where the identity words lie beyond the context, or are one unknown token: nothing could be learnt.
    """
    places = [i for i, row in enumerate(rows) if "swapped" in row]
    found, _ = text_ids([rows[i]["swapped"] for i in places], tokenizer, context, both_sides)
    swapped: list[np.ndarray | None] = [None] * len(rows)
    for i, other in zip(places, found, strict=True):
        swapped[i] = None if np.array_equal(other, ids[i]) else other
    return swapped


def collate(
    ids: list[np.ndarray],
    labels: np.ndarray,
    pad_id: int,
    weights: np.ndarray | None = None,
    swapped: list[np.ndarray | None] | None = None,
) -> Batch:
    """Return ids [batch, longest] padded on the right, lengths [batch] and labels [batch], all int64.

    With `weights` [batch] those as float32. With `swapped` the other versions of the rows that have one follow
    below: ids [batch + pairs, longest], lengths [batch + pairs], and `paired` [pairs], the row that each is of.
    """
    paired = [i for i, other in enumerate(swapped or []) if other is not None]
    others = [other for other in swapped or [] if other is not None]
    batch = {**padded([*ids, *others], pad_id), "labels": torch.from_numpy(np.asarray(labels, dtype=np.int64))}
    if weights is not None:
        batch["weights"] = torch.from_numpy(weights.astype(np.float32))
    if swapped is not None:
        batch["paired"] = torch.tensor(paired, dtype=torch.int64)
    return batch


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
    """Cross-entropy of the label, each text by its weight where it has one, and counterfactual logit pairing.

    Loss of a step: mean of w_i CE_i over its texts (the weights are 1 on average over the data, so that texts are
    what is counted), plus `logit_pairing` times the mean of (z(x) - z(swap x))^2 over the labels and over the texts
    that have a swap. Both means are of the whole step, so that accumulation gives the large batch's loss.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: TrainerConfig,
        total_steps: int,
        device: str,
        logit_pairing: float = 0.0,
    ) -> None:
        super().__init__(model, config, total_steps, device)
        self.logit_pairing = logit_pairing
        self.divisible = not logit_pairing  # a text and its other version stand far apart in a batch

    def targets(self, batch: Batch) -> int:
        """Return the number of texts; their other versions have no label to predict."""
        return len(batch["labels"])

    def begin_step(self, micro_batches: list[Batch], targets: float) -> None:
        """Put the weight of a pair into each micro-batch: its share of the penalty by that of a text of the loss."""
        if not self.logit_pairing:
            return
        pairs = float(sum(len(batch["paired"]) for batch in micro_batches))
        if self.trainer.world_size > 1:
            pairs = float(self.trainer.strategy.reduce(torch.tensor(pairs, device=self.device), reduce_op="sum"))
            pairs /= self.trainer.world_size  # as the targets are
        for batch in micro_batches:
            weight = self.logit_pairing * targets / pairs if pairs else 0.0
            batch["pair_weight"] = torch.tensor(weight, device=self.device)

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed loss over the texts of the batch: the cross-entropy in nats, and the pairs' penalty."""
        logits, labels = label_logits(self.model, batch, self.both_sides).float(), batch["labels"]
        own = logits[: len(labels)]
        if "weights" in batch:
            loss = (batch["weights"] * F.cross_entropy(own, labels, reduction="none")).sum()
        else:
            loss = F.cross_entropy(own, labels, reduction="sum")
        if "pair_weight" in batch:
            moved = own[batch["paired"]] - logits[len(labels) :]
            loss = loss + batch["pair_weight"] * moved.square().mean(1).sum()
        return loss


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
    require_mitigation_fields(rows, Path(job.train), bool(job.logit_pairing))
    rows = choose(rows, job.max_examples, job.seed)
    model = load_model(job, tokenizer, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    context, pad, both_sides = longest_text(model), tokenizer.pad_token_id, sees_both_sides(model)
    train, valid = (featurise(part, names, tokenizer, context, both_sides) for part in (rows, held_out))
    facts = {"labels": names, "truncated_examples": train.truncated}
    train = replace(train, weights=relative_weights(rows))
    if job.logit_pairing:
        train = replace(train, swapped=swapped_ids(rows, train.ids, tokenizer, context, both_sides))
        facts["paired_examples"] = sum(other is not None for other in train.swapped or [])
    return bucketed_workload(
        job,
        model,
        build=lambda total: Classification(model, job.trainer, total, device, job.logit_pairing),
        train_lengths=train.lengths,
        valid_lengths=valid.lengths,
        train_batch=lambda chosen: train.batch(chosen, pad),
        valid_batch=lambda chosen: valid.batch(chosen, pad),
        facts=facts,
    )
