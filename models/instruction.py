"""Instruction tuning: the fixed chat format, and a loss on the tokens of the response alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.chat import ASSISTANT, END, USER, question, turn
from models.data import BucketedBatches, pad_right
from models.job import Job
from models.module import Batch, Counts, Objective, Workload
from models.rows import encode, plain_batches, read_rows


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


def collate(ids: list[np.ndarray], starts: np.ndarray, pad_id: int) -> Batch:
    """Return padded ids [batch, longest], lengths [batch], and for each target its place and its token.

    `places` [targets] index the flattened [batch * longest] positions whose *next* token is trained;
    `targets` [targets] are those tokens: the response and `<|end|>`, never the question. All int64.
    """
    padded = pad_right(ids, pad_id)
    width = padded.shape[1]
    lengths = np.array([len(row) for row in ids])
    positions = np.arange(width)
    trained = (positions >= (np.asarray(starts) - 1)[:, None]) & (positions < (lengths - 1)[:, None])
    places = torch.from_numpy(np.flatnonzero(trained))
    return {
        "ids": padded,
        "lengths": torch.from_numpy(lengths),
        "places": places,
        "targets": padded.flatten()[places + 1],
    }


def mask_example(examples: Examples, tokenizer: PreTrainedTokenizerFast) -> list[list[object]]:
    """Return [token text, trained?] for each token of the first exchange, for a person to look at."""
    ids, start = examples.ids[0], int(examples.starts[0])
    return [[tokenizer.decode([int(token)]), place >= start] for place, token in enumerate(ids)]


class Instruction(Objective):
    """Cross-entropy of the response's tokens."""

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy in nats over the targets; logits exist at their places only."""
        return self.vocabulary_loss_sum(self.hidden(batch["ids"])[batch["places"]], batch["targets"])

    def count(self, batch: Batch) -> Counts:
        """Return trained tokens, all real tokens, and positions with padding."""
        return Counts(len(batch["targets"]), int(batch["lengths"].sum()), batch["ids"].numel())


def decode(ids: list[int], tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the text of a generated response, up to its end marker."""
    stops = {tokenizer.convert_tokens_to_ids(END), tokenizer.eos_token_id, tokenizer.pad_token_id}
    cut = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return str(tokenizer.decode(ids[:cut], clean_up_tokenization_spaces=False)).strip()


def prepare(job: Job, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload; ValueError names file, line and field of a row that cannot be used."""
    assert job.train is not None
    assert job.valid is not None
    paths = Path(job.train), Path(job.valid)
    rows, held_out = (read_rows(path, ("instruction", "input", "output")) for path in paths)
    rows = choose(rows, job.instruction.max_examples, job.seed)
    context, pad = int(model.config.max_position_embeddings), tokenizer.pad_token_id
    train, valid = (
        featurise(part, tokenizer, context, path) for part, path in zip((rows, held_out), paths, strict=True)
    )
    buckets = BucketedBatches(train.lengths, job.trainer.batch_size, job.seed)

    def batch(examples: Examples, chosen: np.ndarray) -> Batch:
        return collate([examples.ids[i] for i in chosen], examples.starts[chosen], pad)

    return Workload(
        model=model,
        build=lambda total: Instruction(model, job.trainer, total, device),
        micro_batch=lambda index: batch(train, buckets.batch(index)),
        batches_per_epoch=buckets.batches_per_epoch,
        valid=lambda: (
            batch(valid, chosen)
            for chosen in plain_batches(valid.lengths, job.trainer.batch_size)[: job.trainer.validate_batches]
        ),
        context=context,
        mean_length=float(train.lengths.mean()),
        facts={
            "train_examples": len(train.ids),
            "valid_examples": len(valid.ids),
            "dropped_examples": train.dropped,
            "waste_share": buckets.waste_share(),
            "loss_mask_example": mask_example(train, tokenizer),
        },
    )
