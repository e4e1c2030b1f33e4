"""Extractive question answering: the span of a context that answers a question (Rajpurkar et al. 2016, SQuAD 1.1).

An encoder reads `[CLS] question [SEP] context [SEP]` (Devlin et al. 2019, section 4.2), a decoder
`question newline context <eos>`: the question first, so that every token of the context has seen it. A context that
does not fit is read in windows that share `stride` tokens. A window that does not hold the whole answer has its
target at the one place that sees all of the window and none of the context's words: [CLS], or a decoder's <eos>.
So every window is trained, and at answering time the windows are compared by probabilities that know of "not here".
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import load_model, longest_text
from models.heads import Head, frame, padded, real, run_head, sees_both_sides, special_id
from models.instruction import choose
from models.job import Job, QuestionAnsweringOptions
from models.module import Batch, Workload
from models.rows import bucketed_workload, encode, plain_batches, read_rows


@dataclass(frozen=True)
class Windows:
    """Token ids of each window, and which part of which context it holds."""

    ids: list[np.ndarray]
    rows: list[int]
    """Number of the question of each window."""
    starts: list[int]
    """Place of the first token of the context in `ids`."""
    offsets: list[np.ndarray]
    """Characters of the context [tokens, 2] that each of its tokens covers, end exclusive."""
    nowhere: list[int]
    """Place of the token that stands for "not in this window"."""
    truncated: int
    """Questions that were cut, to half of the room."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each window."""
        return np.array([len(ids) for ids in self.ids])


def read_questions(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; ValueError names file, line and the answer that is not where it says."""
    rows = read_rows(path, ("question", "context"))
    for number, row in enumerate(rows, 1):
        where, answers = f"{path}: line {number}", row.get("answers")
        texts, starts = (
            (answers.get("text"), answers.get("answer_start")) if isinstance(answers, dict) else (None, None)
        )
        if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts) > 0):
            raise ValueError(f"{where}: answers is {answers!r:.60}, expected equally many text and answer_start")
        for text, start in zip(texts, starts, strict=True):
            if not (isinstance(text, str) and text.strip() and type(start) is int and start >= 0):
                raise ValueError(
                    f"{where}: answer {text!r:.40} at {start!r:.20}, expected a text and its first character"
                )
            if not row["context"].startswith(text, start):
                raise ValueError(f"{where}: answer {text!r:.40} is not at character {start} of the context")
    return rows


def encode_contexts(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (ids [tokens], offsets [tokens, 2]) of each text, as `rows.encode` reads it; offsets in characters."""
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        encodings = backend.encode_batch(texts, add_special_tokens=False)
    finally:
        backend.encode_special_tokens = before
    return [(np.array(e.ids, np.int64), np.array(e.offsets, np.int64).reshape(-1, 2)) for e in encodings]


def windows(
    rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerFast, context: int, both_sides: bool, stride: int
) -> Windows:
    """Return the windows of all rows, each at most `context` tokens, in the order of the rows.

    Two windows share `stride` tokens of their context, or half of the room where that is less. A question
    has at most half of the room and is cut behind that.
    """
    questions = encode(tokenizer, [row["question"] for row in rows])
    distinct = list(dict.fromkeys(row["context"] for row in rows))
    contexts = dict(zip(distinct, encode_contexts(tokenizer, distinct), strict=True))
    if both_sides:
        before, after = frame(tokenizer, both_sides)
        between = after
    else:
        before, between = np.zeros(0, np.int64), encode(tokenizer, ["\n"])[0]
        after = np.array([special_id(tokenizer, "eos_token")])
    free = context - len(before) - len(between) - len(after)
    if free < 2:
        raise ValueError(f"the model's context is {context} tokens, expected room for a question and its context")
    found = Windows([], [], [], [], [], 0)
    truncated = 0
    for number, (row, asked) in enumerate(zip(rows, questions, strict=True)):
        truncated += int(len(asked) > free // 2)
        head = np.concatenate([before, asked[: free // 2], between])
        ids, offsets = contexts[row["context"]]
        room = context - len(head) - len(after)
        step = room - min(stride, room // 2)
        for start in range(0, max(len(ids) - room, 0) + step, step):
            part = slice(start, start + room)
            found.ids.append(np.concatenate([head, ids[part], after]))
            found.rows.append(number)
            found.starts.append(len(head))
            found.offsets.append(offsets[part])
            found.nowhere.append(0 if both_sides else len(found.ids[-1]) - 1)
    return replace(found, truncated=truncated)


def spans(found: Windows, rows: list[dict[str, Any]]) -> np.ndarray:
    """Return the places of the first and the last token of the first answer, int64 [windows, 2].

    Both are `nowhere` in a window that does not hold the whole answer.
    """
    targets = np.array([[place, place] for place in found.nowhere], dtype=np.int64)
    for i, (number, start, offsets) in enumerate(zip(found.rows, found.starts, found.offsets, strict=True)):
        text, begin = (rows[number]["answers"][name][0] for name in ("text", "answer_start"))
        # White space at the rims has no token of its own.
        first, last = begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())
        touched = np.flatnonzero((offsets[:, 1] > first) & (offsets[:, 0] < last))
        if len(touched) and offsets[0, 0] <= first and last <= offsets[-1, 1]:
            targets[i] = start + touched[0], start + touched[-1]
    return targets


def collate(ids: list[np.ndarray], starts: np.ndarray, spans: np.ndarray, pad_id: int) -> Batch:
    """Return padded ids [batch, longest], lengths [batch], seconds [batch] and spans [batch, 2], all int64.

    `seconds` are the places where the contexts begin, `spans` those of the answers' first and last tokens.
    """
    return {
        **padded(ids, pad_id),
        "seconds": torch.from_numpy(np.asarray(starts, dtype=np.int64)),
        "spans": torch.from_numpy(np.asarray(spans, dtype=np.int64)),
    }


def span_logits(model: PreTrainedModel, batch: Batch, both_sides: bool) -> Tensor:
    """Return the logits of first and last tokens, float32 [batch, 2, longest], padding at -infinity.

    transformers' own loss lets padding take part in the softmax, so that it depends on how long the longest
    window of the batch is; here it does not.
    """
    output = run_head(model, batch, both_sides)
    logits = torch.stack([output.start_logits, output.end_logits], dim=1).float()
    return logits.masked_fill(~real(batch)[:, None], float("-inf"))


class QuestionAnswering(Head):
    """Mean of the cross-entropies of an answer's first and last token."""

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the cross-entropy in nats summed over the windows of the batch."""
        logits = span_logits(self.model, batch, self.both_sides)
        return F.cross_entropy(logits.flatten(0, 1), batch["spans"].flatten(), reduction="sum") / 2


def best_span(log_probabilities: np.ndarray, most: int) -> tuple[float, int, int]:
    """Return (score, first, last) of the likeliest span of at most `most` tokens among all of them.

    log_probabilities [2, tokens] of being first and last; the score is the sum of the two.
    """
    first, last = log_probabilities
    tokens = len(first)
    ends = np.concatenate([last, np.full(most - 1, -np.inf)])
    scores = first[:, None] + ends[np.arange(tokens)[:, None] + np.arange(most)]
    place = int(scores.argmax())
    return float(scores.flat[place]), place // most, place // most + place % most


def find_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[dict[str, Any]],
    options: QuestionAnsweringOptions,
    batch_size: int = 32,
) -> list[str]:
    """Return the likeliest span of each row's context, as it stands there without white space around it.

    All spans inside the context of at most `options.max_answer_tokens` tokens, of all windows, are compared by
    the joint log-probability of first and last token in their window. A context without tokens answers "".
    """
    both_sides = sees_both_sides(model)
    found = windows(rows, tokenizer, longest_text(model), both_sides, options.stride)
    best = [(-np.inf, "")] * len(rows)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for chosen in plain_batches(found.lengths, batch_size):
            starts = np.array([found.starts[i] for i in chosen])
            blank = np.zeros((len(chosen), 2))
            batch = collate([found.ids[i] for i in chosen], starts, blank, tokenizer.pad_token_id)
            moved = {name: tensor.to(model.device) for name, tensor in batch.items()}
            likely = span_logits(model, moved, both_sides).log_softmax(-1).cpu().numpy()
            for i, start, own in zip(chosen, starts, likely, strict=True):
                offsets, number = found.offsets[i], found.rows[i]
                if len(offsets):
                    score, first, last = best_span(own[:, start : start + len(offsets)], options.max_answer_tokens)
                    text = rows[number]["context"][offsets[first, 0] : offsets[last, 1]].strip()
                    best[number] = max(best[number], (score, text), key=lambda pair: pair[0])
    model.train(was_training)
    return [text for _, text in best]


def prepare(job: Job, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload; ValueError names file, line and field of a row that cannot be used."""
    assert job.train is not None
    assert job.valid is not None
    rows, held_out = (read_questions(Path(path)) for path in (job.train, job.valid))
    rows = choose(rows, job.max_examples, job.seed)
    model = load_model(job, tokenizer)
    context, both_sides, pad = longest_text(model), sees_both_sides(model), tokenizer.pad_token_id
    stride = job.question_answering.stride
    train, valid = (windows(part, tokenizer, context, both_sides, stride) for part in (rows, held_out))
    train_spans, valid_spans = spans(train, rows), spans(valid, held_out)
    away = train_spans[:, 0] == np.array(train.nowhere)

    def batch(of: Windows, targets: np.ndarray, chosen: np.ndarray) -> Batch:
        return collate([of.ids[i] for i in chosen], np.array([of.starts[i] for i in chosen]), targets[chosen], pad)

    return bucketed_workload(
        job,
        model,
        build=lambda total: QuestionAnswering(model, job.trainer, total, device),
        train_lengths=train.lengths,
        valid_lengths=valid.lengths,
        train_batch=lambda chosen: batch(train, train_spans, chosen),
        valid_batch=lambda chosen: batch(valid, valid_spans, chosen),
        facts={
            "train_questions": len(rows),
            "windows_without_answer": int(away.sum()),
            "questions_never_answered": len(rows) - len({train.rows[i] for i in np.flatnonzero(~away)}),
            "truncated_questions": train.truncated,
        },
    )
