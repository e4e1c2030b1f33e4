"""Instruction tuning: the fixed chat format, and a loss on the tokens of the response alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.bases import load_model, longest_text
from models.chat import ASSISTANT, END, USER, question, turn
from models.data import BucketedBatches, pad_right
from models.job import Job
from models.module import Batch, Counts, Objective, Workload
from models.packing import PackedBuckets, choose_batches
from models.rows import bucketed_workload, encode, read_rows


@dataclass(frozen=True)
class Examples:
    """Token ids of each exchange, and where its response begins."""

    ids: list[np.ndarray]
    starts: np.ndarray
    dropped: int

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each exchange."""
        return np.array([len(ids) for ids in self.ids])


def choose(rows: list[dict[str, str]], most: int | None, seed: int) -> list[dict[str, str]]:
    """Return the first `most` rows of a seeded shuffle; smaller choices are nested in larger ones."""
    if most is None or most >= len(rows):
        return rows
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:most]]


def featurise(rows: list[dict[str, str]], tokenizer: PreTrainedTokenizerFast, context: int, path: Path) -> Examples:
    """Return the exchanges as token ids: `<|user|>` question `<|assistant|>` response `<|end|>`.

    An exchange longer than the context is dropped and counted, since half an answer teaches to stop early.
    Raises ValueError naming the file when none is left.
    """
    vocabulary = tokenizer.get_vocab()
    for token in (USER, ASSISTANT, END):
        if token not in vocabulary:
            raise ValueError(f"the tokenizer has no {token} token, expected the chat format's markers")
    user, assistant, end = (np.array([vocabulary[token]]) for token in (USER, ASSISTANT, END))
    questions = encode(tokenizer, [turn(question(row["instruction"], row["input"])) for row in rows])
    responses = encode(tokenizer, [turn(row["output"]) for row in rows])
    ids, starts = [], []
    for asked, answered in zip(questions, responses, strict=True):
        exchange = np.concatenate([user, asked, assistant, answered, end])
        if len(exchange) <= context:
            ids.append(exchange)
            starts.append(len(asked) + 2)
    if not ids:
        raise ValueError(f"{path}: no exchange fits into the model's context of {context} tokens")
    return Examples(ids, np.array(starts), len(rows) - len(ids))


def collate(examples: Examples, rows: Sequence[np.ndarray] | np.ndarray, pad_id: int) -> Batch:
    """Return padded ids [rows, longest], lengths [examples], and for each target its place and its token.

    `rows` has the example number of each row, or the numbers of those packed into it. `places` [targets] index
    the flattened [rows * longest] positions whose *next* token is trained; `targets` [targets] are those tokens:
    the response and `<|end|>`, never the question. Where a row has several examples, `segments` as ids numbers
    them, -1 for padding. All int64.
    """
    rows = [np.atleast_1d(row) for row in rows]
    ids = pad_right([np.concatenate([examples.ids[i] for i in row]) for row in rows], pad_id)
    trained = pad_right([np.concatenate([_before_targets(examples, i) for i in row]) for row in rows], 0)
    places = trained.flatten().nonzero()[:, 0]
    lengths = [[len(examples.ids[i]) for i in row] for row in rows]
    batch = {
        "ids": ids,
        "lengths": torch.tensor([length for row in lengths for length in row]),
        "places": places,
        "targets": ids.flatten()[places + 1],
    }
    if any(len(row) > 1 for row in rows):
        batch["segments"] = pad_right([np.repeat(np.arange(len(row)), row) for row in lengths], -1)
    return batch


def _before_targets(examples: Examples, number: int) -> np.ndarray:
    """Return 1 for each token of an exchange whose next token is trained, else 0."""
    flags = np.zeros(len(examples.ids[number]), dtype=np.int64)
    flags[examples.starts[number] - 1 : -1] = 1
    return flags


def mask_example(examples: Examples, tokenizer: PreTrainedTokenizerFast) -> list[list[object]]:
    """Return [token text, trained?] for each token of the first exchange, for a person to look at."""
    ids, start = examples.ids[0], int(examples.starts[0])
    return [[tokenizer.decode([int(token)]), place >= start] for place, token in enumerate(ids)]


class Instruction(Objective):
    """Cross-entropy of the response's tokens."""

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy in nats over the targets; logits exist at their places only."""
        hidden = self.hidden(batch["ids"], batch.get("segments"))
        return self.vocabulary_loss_sum(hidden[batch["places"]], batch["targets"])

    def count(self, batch: Batch) -> Counts:
        """Return trained tokens, all real tokens, and positions with padding."""
        return Counts(len(batch["targets"]), int(batch["lengths"].sum()), batch["ids"].numel())


def decode(ids: list[int], tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the text of a generated response, up to its end marker."""
    stops = {tokenizer.convert_tokens_to_ids(END), tokenizer.eos_token_id, tokenizer.pad_token_id}
    cut = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return str(tokenizer.decode(ids[:cut], clean_up_tokenization_spaces=False)).strip()


def prepare(job: Job, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload; ValueError names file, line and field of a row that cannot be used."""
    assert job.train is not None
    assert job.valid is not None
    paths = Path(job.train), Path(job.valid)
    rows, held_out = (read_rows(path, ("instruction", "input", "output")) for path in paths)
    rows = choose(rows, job.max_examples, job.seed)
    model = load_model(job, tokenizer)
    context, pad = longest_text(model), tokenizer.pad_token_id
    train, valid = (
        featurise(part, tokenizer, context, path) for part, path in zip((rows, held_out), paths, strict=True)
    )
    buckets = BucketedBatches(train.lengths, job.trainer.batch_size, job.seed)
    batches = choose_batches(job.instruction.packing, model, buckets, context)
    return bucketed_workload(
        job,
        model,
        build=lambda total: Instruction(model, job.trainer, total, device),
        train_lengths=train.lengths,
        valid_lengths=valid.lengths,
        train_batch=lambda chosen: collate(train, chosen, pad),
        valid_batch=lambda chosen: collate(valid, chosen, pad),
        facts={
            "dropped_examples": train.dropped,
            "packed": isinstance(batches, PackedBuckets),
            "loss_mask_example": mask_example(train, tokenizer),
        },
        batches=batches,
    )
