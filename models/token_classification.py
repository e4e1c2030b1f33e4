"""Token classification: one tag per word, read off the word's first piece (Devlin et al. 2019, section 5.3).

The other pieces of a word have no tag and no loss. Words are encoded one by one, each with a space before it as
in running text: a byte-level vocabulary joins a word with that space, and by those tokens the base knows it.
(`is_split_into_words` of transformers would encode them without it where the tokenizer adds none of its own.)
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import load_model, longest_text
from models.heads import Head, enclose, frame, padded, run_head, sees_both_sides
from models.instruction import choose
from models.job import Job
from models.module import Batch, Workload
from models.rows import bucketed_workload, encode, plain_batches, read_rows

OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""


@dataclass(frozen=True)
class Sentences:
    """Token ids of each sentence, and where its words begin."""

    ids: list[np.ndarray]
    places: list[np.ndarray]
    """Places of the first pieces in `ids`, one for each word that has one."""
    words: list[np.ndarray]
    """Numbers of those words in the sentence."""
    truncated: int
    """Sentences that were cut."""
    lost: int
    """Words without a first piece: cut off, or made of characters that the tokenizer drops."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sentence."""
        return np.array([len(ids) for ids in self.ids])


def read_sentences(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; ValueError names file, line and what is wrong with its tokens or tags."""
    rows = read_rows(path, ("tokens", "tags"), list)
    for number, row in enumerate(rows, 1):
        tokens, tags = row["tokens"], row["tags"]
        if len(tokens) != len(tags):
            raise ValueError(f"{path}: line {number}: {len(tokens)} tokens but {len(tags)} tags, expected one for each")
        if strange := [word for word in tokens if not isinstance(word, str)]:
            raise ValueError(f"{path}: line {number}: tokens has {strange[0]!r:.40}, expected strings")
        for tag in tags:
            if not (isinstance(tag, str) and (tag == OUTSIDE or (tag[:2] in ("B-", "I-") and tag[2:]))):
                raise ValueError(f"{path}: line {number}: tag {tag!r:.40}, expected O, B-type or I-type")
    return rows


def tag_names(rows: list[dict[str, Any]]) -> list[str]:
    """Return the tags of the training rows, O first and the others in alphabetical order, at least two."""
    names = [OUTSIDE, *sorted({tag for row in rows for tag in row["tags"]} - {OUTSIDE})]
    if len(names) < 2:
        raise ValueError("tags: the training rows have no tag but O, expected at least one entity")
    return names


def require_known_tags(rows: list[dict[str, Any]], names: list[str], path: Path) -> None:
    """Raise ValueError naming file, line and tag for the first tag that training did not have."""
    known = set(names)
    for number, row in enumerate(rows, 1):
        for tag in row["tags"]:
            if tag not in known:
                shown = ", ".join(names[:10])
                raise ValueError(f"{path}: line {number}: tag {tag!r} is not among the training tags ({shown})")


def sentences(words: list[list[str]], tokenizer: PreTrainedTokenizerFast, context: int, both_sides: bool) -> Sentences:
    """Return the sentences as token ids, each at most `context` tokens with its frame (`heads.enclose`)."""
    distinct = sorted({word for sentence in words for word in sentence})
    pieces = dict(zip(distinct, encode(tokenizer, [f" {word}" for word in distinct]), strict=True))
    before, after = frame(tokenizer, both_sides)
    room = context - len(before) - len(after)
    texts, places, numbers = [], [], []
    truncated = lost = 0
    for sentence in words:
        lengths = np.array([len(pieces[word]) for word in sentence], dtype=np.int64)
        starts = lengths.cumsum() - lengths
        kept = np.flatnonzero((lengths > 0) & (starts < room))
        texts.append(np.concatenate([np.zeros(0, np.int64), *(pieces[word] for word in sentence)]))
        places.append(starts[kept] + len(before))
        numbers.append(kept)
        truncated += int(len(texts[-1]) > room)
        lost += len(sentence) - len(kept)
    return Sentences(enclose(texts, tokenizer, both_sides, context), places, numbers, truncated, lost)


def targets(rows: list[dict[str, Any]], found: Sentences, names: list[str]) -> list[np.ndarray]:
    """Return the tag numbers of each sentence, one for each first piece."""
    number = {name: i for i, name in enumerate(names)}
    tags = [np.array([number[tag] for tag in row["tags"]], dtype=np.int64) for row in rows]
    return [own[words] for own, words in zip(tags, found.words, strict=True)]


def collate(ids: list[np.ndarray], places: list[np.ndarray], tags: list[np.ndarray], pad_id: int) -> Batch:
    """Return padded ids [batch, longest], lengths [batch], and for each first piece its place and its tag.

    `places` [targets] index the flattened [batch * longest] positions; `tags` [targets]. All int64.
    """
    batch = padded(ids, pad_id)
    width = batch["ids"].shape[1]
    flat = np.concatenate([own + i * width for i, own in enumerate(places)])
    return {**batch, "places": torch.from_numpy(flat), "tags": torch.from_numpy(np.concatenate(tags))}


def tag_logits(model: PreTrainedModel, batch: Batch, both_sides: bool) -> Tensor:
    """Return the logits [targets, tags] at the first pieces of a batch."""
    logits: Tensor = run_head(model, batch, both_sides).logits
    return logits.flatten(0, 1)[batch["places"]]


class TokenClassification(Head):
    """Cross-entropy of the tags of first pieces."""

    per_place = ("places", "tags")

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy in nats over the first pieces of the batch."""
        logits = tag_logits(self.model, batch, self.both_sides)
        return F.cross_entropy(logits.float(), batch["tags"], reduction="sum")

    def targets(self, batch: Batch) -> int:
        """Return the number of first pieces."""
        return len(batch["tags"])


def tag(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, words: list[list[str]], batch_size: int = 64
) -> list[list[str]]:
    """Return the likeliest tag of each word of each sentence; a word without a first piece is O."""
    both_sides = sees_both_sides(model)
    found = sentences(words, tokenizer, longest_text(model), both_sides)
    names = {int(number): name for number, name in (model.config.id2label or {}).items()}
    tags = [[OUTSIDE] * len(sentence) for sentence in words]
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for chosen in plain_batches(found.lengths, batch_size):
            places = [found.places[i] for i in chosen]
            batch = collate([found.ids[i] for i in chosen], places, places, tokenizer.pad_token_id)
            moved = {name: tensor.to(model.device) for name, tensor in batch.items()}
            best = iter(tag_logits(model, moved, both_sides).argmax(-1).tolist())
            for i in chosen:
                for word in found.words[i]:
                    tags[i][word] = names[next(best)]
    model.train(was_training)
    return tags


def prepare(job: Job, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload; ValueError names file, line and field of a row that cannot be used.

    A sentence of which no word has a first piece teaches nothing: it is dropped and counted.
    """
    assert job.train is not None
    assert job.valid is not None
    paths = Path(job.train), Path(job.valid)
    rows: list[dict[str, Any]]
    rows, held_out = (read_sentences(path) for path in paths)
    names = tag_names(rows)
    require_known_tags(held_out, names, paths[1])
    rows = choose(rows, job.max_examples, job.seed)
    model = load_model(job, tokenizer, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    context, both_sides, pad = longest_text(model), sees_both_sides(model), tokenizer.pad_token_id
    train, valid = (
        sentences([list(row["tokens"]) for row in part], tokenizer, context, both_sides) for part in (rows, held_out)
    )
    train_tags, valid_tags = targets(rows, train, names), targets(held_out, valid, names)
    used = np.flatnonzero([len(tags) > 0 for tags in train_tags])

    def batch(of: Sentences, tags: list[np.ndarray], chosen: np.ndarray) -> Batch:
        return collate([of.ids[i] for i in chosen], [of.places[i] for i in chosen], [tags[i] for i in chosen], pad)

    return bucketed_workload(
        job,
        model,
        build=lambda total: TokenClassification(model, job.trainer, total, device),
        train_lengths=train.lengths[used],
        valid_lengths=valid.lengths,
        train_batch=lambda chosen: batch(train, train_tags, used[chosen]),
        valid_batch=lambda chosen: batch(valid, valid_tags, chosen),
        facts={
            "labels": names,
            "dropped_examples": len(rows) - len(used),
            "truncated_examples": train.truncated,
            "lost_words": train.lost,
        },
    )
