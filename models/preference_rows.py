"""Pairs of answers to one prompt as token ids in the chat format, and answers in padded batches."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from models.chat import ASSISTANT, END, USER, turn
from models.data import pad_right
from models.module import Batch
from models.rows import encode, read_rows


@dataclass(frozen=True)
class Pairs:
    """Token ids of both exchanges of each pair, and where both answers begin."""

    chosen: list[np.ndarray]
    rejected: list[np.ndarray]
    starts: np.ndarray
    """Tokens of the prompt with its markers, equal for both sides; [pairs]."""
    kept: np.ndarray
    """Which of the rows these are, by number from 0; [pairs]."""
    dropped: int
    """Rows of which one side is longer than the context."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of the longer exchange of each pair, which both are padded to."""
        return np.array([max(len(a), len(b)) for a, b in zip(self.chosen, self.rejected, strict=True)])

    def batch(self, numbers: np.ndarray, pad_id: int) -> Batch:
        """Return `collate` of the pairs of these numbers: first all chosen exchanges, then all rejected ones."""
        rows = [side[i] for side in (self.chosen, self.rejected) for i in numbers]
        return collate(rows, np.tile(self.starts[numbers], 2), pad_id)

    def waste_share(self, batches: list[np.ndarray]) -> float:
        """Return the share of padding among all positions of these batches of pairs, 0 to 1."""
        tokens = sum(len(self.chosen[i]) + len(self.rejected[i]) for batch in batches for i in batch)
        lengths = self.lengths
        return 1.0 - tokens / sum(2 * len(batch) * int(lengths[batch].max()) for batch in batches)


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; ValueError names file, line and field, also where both answers are equal."""
    rows = read_rows(path, ("prompt", "chosen", "rejected"))
    for number, row in enumerate(rows, 1):
        if turn(row["chosen"]) == turn(row["rejected"]):
            raise ValueError(f"{path}: line {number}: chosen equals rejected, expected two different answers")
    return rows


def prompt_ids(prompts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    """Return `<|user|>` prompt `<|assistant|>` as token ids, int64; ValueError for a tokenizer without markers."""
    user, assistant, _ = _markers(tokenizer)
    return [np.concatenate([user, ids, assistant]) for ids in encode(tokenizer, [turn(text) for text in prompts])]


def answer_ids(answers: list[str], tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    """Return answer `<|end|>` as token ids, int64; ValueError for a tokenizer without markers."""
    *_, end = _markers(tokenizer)
    return [np.concatenate([ids, end]) for ids in encode(tokenizer, [turn(text) for text in answers])]


def _markers(tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    vocabulary = tokenizer.get_vocab()
    for token in (USER, ASSISTANT, END):
        if token not in vocabulary:
            raise ValueError(f"the tokenizer has no {token} token, expected the chat format's markers")
    return [np.array([vocabulary[token]]) for token in (USER, ASSISTANT, END)]


def featurise(rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerFast, context: int, path: Path) -> Pairs:
    """Return the pairs as token ids: `<|user|>` prompt `<|assistant|>` answer `<|end|>`, twice.

    A pair whose longer side exceeds the context is dropped and counted: a cut answer would be judged by its
    first half, and a cut prompt may have lost what tells the answers apart. Raises ValueError naming the file when
    none is left.
    """
    prompts = prompt_ids([row["prompt"] for row in rows], tokenizer)
    sides = [answer_ids([row[side] for row in rows], tokenizer) for side in ("chosen", "rejected")]
    kept = [i for i, asked in enumerate(prompts) if len(asked) + max(len(side[i]) for side in sides) <= context]
    if not kept:
        raise ValueError(f"{path}: no pair fits into the model's context of {context} tokens")
    chosen, rejected = ([np.concatenate([prompts[i], side[i]]) for i in kept] for side in sides)
    starts = np.array([len(prompts[i]) for i in kept])
    return Pairs(chosen, rejected, starts, np.array(kept), len(rows) - len(kept))


def collate(ids: list[np.ndarray], starts: np.ndarray, pad_id: int) -> Batch:
    """Return padded ids [rows, longest], lengths [rows], and of each answer token its place, id and row.

    `places` [targets] index the flattened [rows * longest] positions whose *next* token belongs to an answer or
    is its `<|end|>`; `targets` [targets] are those tokens, `rows` [targets] the rows they stand in. All int64.
    """
    padded = pad_right(ids, pad_id)
    lengths = np.array([len(row) for row in ids])
    positions = np.arange(padded.shape[1])
    answered = (positions >= (np.asarray(starts) - 1)[:, None]) & (positions < (lengths - 1)[:, None])
    places = torch.from_numpy(np.flatnonzero(answered))
    return {
        "ids": padded,
        "lengths": torch.from_numpy(lengths),
        "places": places,
        "targets": padded.flatten()[places + 1],
        "rows": places // padded.shape[1],
    }
