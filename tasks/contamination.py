"""Held-out items that stand verbatim in a text that is pretrained on: overlap of word n-grams.

An item overlaps with a document if both share one whole run of `ngram` words (13 as for GPT-3, Brown et al.
2020, appendix C), lower-cased and without punctuation. Items shorter than that, but of at least `min_words`
(8) words, are looked up whole; still shorter ones are counted as unchecked, because a few common words prove
nothing. Shared names or facts are no overlap.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tasks.duplicates import WordHasher, hash_all_runs, hash_runs, list_words
from tasks.kinds import Row, Rows, list_passages

if TYPE_CHECKING:
    from tasks.duplicates import Hashes


class Overlap(NamedTuple):
    """A held-out item found in a document, with the first run of words that both share."""

    held_out: str
    item: str
    ngram: str


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

    def add(self, held_out: str, row: Row) -> None:
        """Add one row of the held-out set of that name."""
        self.add_passages(held_out, row["id"], list_passages(row))

    def add_passages(self, held_out: str, item: str, passages: list[str]) -> None:
        """Add an item of that set by the texts that must not be found."""
        number, checked = len(self._items), False
        self._items.append((held_out, item))
        for passage in passages:
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
        if not self._runs:  # no item is long enough
            return []
        words = list_words(text)
        hashed = self._hasher.hash_words(words)
        found: dict[int, str] = {}
        every = hash_all_runs(hashed, self._runs)
        for length, (runs, items) in self._runs.items():
            here = every[length]
            left = np.searchsorted(runs, here)
            hits = np.flatnonzero(runs[np.minimum(left, len(runs) - 1)] == here)
            for hit in hits:
                right = np.searchsorted(runs, here[hit], side="right")
                for number in items[left[hit] : right]:
                    found.setdefault(int(number), " ".join(words[hit : hit + length]))
        return [Overlap(*self._items[number], found[number]) for number in sorted(found)]


def remove_contamination(index: HeldOutIndex, datasets: dict[str, Rows], texts: set[str]) -> dict[str, dict[str, Any]]:
    """Remove the documents of `texts` that overlap with held-out items, for which the index is new; return the report.

    `texts` are the data sets that are pretrained on: the corpus and the text of a domain. All held-out rows are kept
    out of every text's train, the texts' own too, since a quotation that two novels share would make bits per byte
    look better than they are. Specialists' held-out rows are kept out of the corpus' valid and test as well, so
    that a leak is found in whatever split it fell; those of a domain's text are often the specialist's very rows,
    and stay: no weights learn from them. The report maps "<data set>/<split>" to items, unchecked (too short),
    overlapping items, documents removed and their list.
    """
    report: dict[str, dict[str, Any]] = {}
    for name, rows in sorted(datasets.items()):
        for split in ("valid", "test"):
            for row in rows[split]:
                index.add(f"{name}/{split}", row)
            report[f"{name}/{split}"] = {"items": len(rows[split]), "removed": []}
    for name in sorted(texts):
        for part, documents in datasets[name].items():
            if part != "train" and name != "corpus":
                continue
            kept = []
            for row in documents:
                overlaps = index.find(row["text"])
                if part != "train":  # no weights learn from it; and it overlaps with itself
                    overlaps = [overlap for overlap in overlaps if overlap.held_out.rpartition("/")[0] not in texts]
                for overlap in overlaps:
                    pair = {"dataset": name, "document": row["id"], "item": overlap.item, "ngram": overlap.ngram}
                    report[overlap.held_out]["removed"].append(pair)
                if not overlaps:
                    kept.append(row)
            datasets[name][part] = kept
    for held_out, entry in report.items():
        removed = entry.pop("removed")
        entry["unchecked"] = index.unchecked.get(held_out, 0)
        entry["overlapping"] = len({pair["item"] for pair in removed})
        entry["documents_removed"] = len({(pair["dataset"], pair["document"]) for pair in removed})
        entry["removed"] = removed
    return report
