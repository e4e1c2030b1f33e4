"""Held-out items that stand verbatim in the pretraining text: overlap of word n-grams.

An item overlaps with a document if both share one whole run of `ngram` words (13 as for GPT-3, Brown et al.
2020, appendix C), lower-cased and without punctuation. Items shorter than that, but of at least `min_words`
(8) words, are looked up whole; still shorter ones are counted as unchecked, because a few common words prove
nothing. Shared names or facts are no overlap.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tasks.duplicates import WordHasher, hash_runs, list_words

if TYPE_CHECKING:
    from tasks.duplicates import Hashes


class Overlap(NamedTuple):
    """A held-out item found in a document, with the first run of words that both share."""

    held_out: str
    item: str
    ngram: str


def list_passages(row: dict[str, Any]) -> list[str]:
    """Return the texts of a held-out row that must not stand in training text.

    An instruction row counts by its question and by its question with the answer; an answer alone may stand
    in the pretraining text, since that is where knowledge comes from.
    """
    if "instruction" in row:
        question = f"{row['instruction']} {row['input']}"
        return [question, f"{question} {row['output']}"]
    return [row["text"]]


class HeldOutIndex:
    """The word runs of every held-out item, searchable by document."""

    def __init__(self, ngram: int, min_words: int) -> None:
        """Take the run length that counts and the length of the shortest item that is looked up whole."""
        self.ngram, self.min_words = ngram, min_words
        self.unchecked: dict[str, int] = {}
        self._items: list[tuple[str, str]] = []
        self._hasher = WordHasher()
        self._pending: dict[int, list[tuple[Hashes, int]]] = {}
        self._runs: dict[int, tuple[Hashes, np.ndarray]] = {}

    def add(self, held_out: str, row: dict[str, Any]) -> None:
        """Add one row of the held-out set of that name."""
        number, checked = len(self._items), False
        self._items.append((held_out, row["id"]))
        for passage in list_passages(row):
            words = self._hasher.hash_words(list_words(passage))
            length = min(self.ngram, len(words))
            if length >= min(self.min_words, self.ngram):
                self._pending.setdefault(length, []).append((np.unique(hash_runs(words, length)), number))
                checked = True
        self.unchecked[held_out] = self.unchecked.get(held_out, 0) + (not checked)
        self._runs = {}

    def _build(self) -> None:
        for length, entries in self._pending.items():
            runs = np.concatenate([runs for runs, _ in entries])
            items = np.repeat([number for _, number in entries], [len(runs) for runs, _ in entries])
            order = np.argsort(runs, kind="stable")
            self._runs[length] = runs[order], items[order]

    def find(self, text: str) -> list[Overlap]:
        """Return the held-out items that a document overlaps with, in the order in which they were added."""
        if not self._runs:
            self._build()
        words = list_words(text)
        hashed = self._hasher.hash_words(words)
        found: dict[int, str] = {}
        for length, (runs, items) in self._runs.items():
            here = hash_runs(hashed, length)
            left = np.searchsorted(runs, here)
            hits = np.flatnonzero(runs[np.minimum(left, len(runs) - 1)] == here)
            for hit in hits:
                right = np.searchsorted(runs, here[hit], side="right")
                for number in items[left[hit] : right]:
                    found.setdefault(int(number), " ".join(words[hit : hit + length]))
        return [Overlap(*self._items[number], found[number]) for number in sorted(found)]
