"""What a masked language model is trained on: hidden tokens, pairs of segments, framed windows; all in numpy.

Every function is pure or draws from a generator that it is given: batches are functions of (seed, index) alone.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

CHUNK = 1 << 24
"""Tokens looked at at once: a memory-mapped array is never read whole."""
CLOSING = "\"'”’»)]"  # noqa: RUF001
"""What may stand between the end of a sentence and the next one."""


@dataclass(frozen=True)
class Markers:
    """The special ids of a tokenizer, and which ids are ordinary."""

    cls: int
    sep: int
    mask: int
    pad: int
    end: int
    """Behind every document in the token arrays."""
    ordinary: np.ndarray
    """Ids of all tokens that are not special, [ids]."""
    is_ordinary: np.ndarray
    """Whether an id is ordinary, [vocabulary]."""
    ends_sentence: np.ndarray
    """Whether an id's text ends with a full stop, an exclamation or a question mark, [vocabulary]."""


def read_markers(tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> Markers:
    """Return the markers of a tokenizer whose model has `vocab_size` ids; ValueError names a token that is missing."""
    for name in ("cls_token", "sep_token", "mask_token", "pad_token"):
        if getattr(tokenizer, f"{name}_id") is None:
            raise ValueError(f"{tokenizer.name_or_path}: the tokenizer has no {name}, which masked_lm needs")
    texts = tokenizer.batch_decode([[number] for number in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    is_ordinary, ends = np.zeros(vocab_size, dtype=bool), np.zeros(vocab_size, dtype=bool)
    is_ordinary[: len(tokenizer)] = True
    is_ordinary[list(tokenizer.all_special_ids)] = False
    ends[: len(texts)] = [text.rstrip().rstrip(CLOSING).endswith((".", "!", "?")) for text in texts]
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    return Markers(
        cls=tokenizer.cls_token_id,
        sep=tokenizer.sep_token_id,
        mask=tokenizer.mask_token_id,
        pad=tokenizer.pad_token_id,
        end=end,
        ordinary=np.flatnonzero(is_ordinary),
        is_ordinary=is_ordinary,
        ends_sentence=ends & is_ordinary,
    )


def hide(
    ids: np.ndarray, markers: Markers, share: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (shown ids [rows, width], places [targets], targets [targets]) of whole ids [rows, width], int64.

    In each row round(share * ordinary tokens) of them, at least one, are predicted. Of these 80 % are shown as the
    mask, 10 % as a random ordinary token and 10 % as they are (Devlin et al. 2019, section 3.1). Special tokens are
    never chosen. `places` index the flattened ids.
    """
    ordinary = markers.is_ordinary[ids]
    tokens = ordinary.sum(1)
    wanted = np.minimum(tokens, np.maximum(1, np.rint(share * tokens))).astype(np.int64)
    order = np.where(ordinary, random.random(ids.shape), 2.0).argsort(1)
    chosen = np.zeros(ids.shape, dtype=bool)
    np.put_along_axis(chosen, order, np.arange(ids.shape[1]) < wanted[:, None], 1)
    places = np.flatnonzero(chosen)
    targets = ids.ravel()[places]
    fate = random.random(len(places))
    replaced = markers.ordinary[random.integers(len(markers.ordinary), size=len(places))]
    shown = ids.copy()
    shown.ravel()[places] = np.where(fate < 0.8, markers.mask, np.where(fate < 0.9, replaced, targets))
    return shown, places, targets


def frame(windows: np.ndarray, markers: Markers) -> np.ndarray:
    """Return windows [rows, width] as `[CLS] window [SEP]`, [rows, width + 2], int64."""
    framed = np.empty((len(windows), windows.shape[1] + 2), dtype=np.int64)
    framed[:, 0], framed[:, 1:-1], framed[:, -1] = markers.cls, windows, markers.sep
    return framed


class Spans(NamedTuple):
    """Pairs of segments as spans of the token array; every field is [pairs], int64."""

    first: np.ndarray
    """Where segment A begins."""
    first_length: np.ndarray
    second: np.ndarray
    """Where segment B begins."""
    second_length: np.ndarray
    not_next: np.ndarray
    """0 where B follows A in the text, 1 where it is from another document (the labels of transformers)."""
    document: np.ndarray
    """Number of A's document."""


class PairBatches:
    """Pairs of segments cut from flat tokens whose documents end with `markers.end`, for next-sentence prediction.

    A pair is drawn as a border between two sentences of one document. A is the text before it, at most a random
    quarter to three quarters of the room; B is the text behind it, or, for half of the pairs, behind a border
    drawn from another document, as much as there is room for. So a true and a random B are drawn alike, and
    neither where it is cut nor how it begins tells them apart. Both stop at their document's ends.

    Every border is met once before any is met twice. Pairs of about equal length share a batch: they are sorted
    inside pools of `POOL` batches. Pool p is drawn from (seed, p) alone.
    """

    POOL = 32

    def __init__(self, tokens: np.ndarray, markers: Markers, context: int, batch_size: int, seed: int) -> None:
        if context < 8:
            raise ValueError(f"context is {context}, expected at least 8 tokens for a pair of segments")
        self.tokens, self.markers, self.room = tokens, markers, context - 3
        self.batch_size, self.seed = batch_size, seed
        ends, borders = [], []
        for start in range(0, len(tokens), CHUNK):
            # One token more, since a border needs both of its sides.
            part = np.asarray(tokens[start : start + CHUNK + 1])
            ends.append(np.flatnonzero(part[:CHUNK] == markers.end) + start)
            inside = markers.ends_sentence[part[:-1]] & (part[1:] != markers.end)
            borders.append(np.flatnonzero(inside) + start + 1)
        self.borders = np.concatenate([np.zeros(0, np.int64), *borders])
        stops = np.append(np.concatenate([np.zeros(0, np.int64), *ends]), len(tokens))
        self.documents = np.searchsorted(stops, self.borders)
        """The document of each border."""
        self._starts, self._stops = np.append(0, stops[:-1] + 1), stops
        if len(np.unique(self.documents)) < 2:
            raise ValueError(
                f"{len(np.unique(self.documents))} documents have two sentences, expected at least two such "
                "documents for next-sentence prediction (or set masked_lm.next_sentence to false)"
            )
        self._order = lru_cache(maxsize=2)(self._draw_order)
        self._pool = lru_cache(maxsize=2)(self._draw_pool)

    def _draw_order(self, turn: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 0, turn)).permutation(len(self.borders))

    def _draw_pool(self, pool: int) -> list[Spans]:
        count, size = len(self.borders), self.POOL * self.batch_size
        turns, within = np.divmod(np.arange(pool * size, (pool + 1) * size), count)
        own = np.concatenate([self._order(int(turn))[within[turns == turn]] for turn in np.unique(turns)])
        random = np.random.default_rng((self.seed, 1, pool))
        is_random = random.random(size) < 0.5
        # The borders of one document are neighbours; any but those of A's own are drawn alike.
        document = self.documents[own]
        before = np.searchsorted(self.documents, document)
        among = np.searchsorted(self.documents, document, side="right") - before
        drawn = random.integers(0, count - among)
        other = np.where(is_random, drawn + (drawn >= before) * among, own)
        most = random.integers(self.room // 4, self.room - self.room // 4 + 1, size=size)
        border, second = self.borders[own], self.borders[other]
        first_length = np.minimum(border - self._starts[document], most)
        second_length = np.minimum(self._stops[self.documents[other]] - second, self.room - first_length)
        spans = Spans(border - first_length, first_length, second, second_length, is_random.astype(np.int64), document)
        order = np.argsort(first_length + second_length, kind="stable").reshape(self.POOL, self.batch_size)
        return [Spans(*(field[chosen] for field in spans)) for chosen in random.permutation(order)]

    def spans(self, index: int) -> Spans:
        """Return the pairs of batch `index` of the endless sequence."""
        pool, within = divmod(index, self.POOL)
        return self._pool(pool)[within]

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (ids, types, real) of batch `index`, each [pairs, longest]: `[CLS] A [SEP] B [SEP]` and padding.

        ids int64; types int64, 1 for B and its [SEP]; real says what is no padding.
        """
        pairs, markers = self.spans(index), self.markers
        a, b = pairs.first_length[:, None], pairs.second_length[:, None]
        column = np.arange(int((a + b).max()) + 3)
        in_a, in_b = (column >= 1) & (column <= a), (column >= a + 2) & (column < a + b + 2)
        source = np.where(in_a, pairs.first[:, None] + column - 1, 0)
        source = np.where(in_b, pairs.second[:, None] + column - a - 2, source)
        real = column < a + b + 3
        ids = np.where(in_a | in_b, self.tokens[source].astype(np.int64), np.where(real, markers.sep, markers.pad))
        ids[:, 0] = markers.cls
        return ids, (real & (column >= a + 2)).astype(np.int64), real

    def lengths(self) -> np.ndarray:
        """Return the tokens of each pair of the first pool, [batches, pairs], markers included."""
        return np.array([spans.first_length + spans.second_length + 3 for spans in self._pool(0)])

    @property
    def batches_per_epoch(self) -> float:
        """Batches whose segments hold as many tokens as the text has."""
        return float(len(self.tokens) / (self.lengths().mean() - 3) / self.batch_size)

    def waste_share(self) -> float:
        """Return the share of padding among all positions of the first pool, 0 to 1."""
        lengths = self.lengths()
        return 1.0 - float(lengths.sum()) / float(lengths.max(1).sum() * self.batch_size)
