"""What has been written so far: refuses a text that comes too near to another."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

CONTACT = re.compile(r"\S+@\S+\w|\+\d[\d ()-]+\d")
PRONOUN = re.compile(r"\b(?:he|she)\b")
WORD = re.compile(r"[a-z0-9']+")

NEAR = 0.5
"""No two unplanted documents reach this Jaccard similarity of word 3-grams."""
OVERLAP = 13
"""No two unplanted documents share this many words in a row."""
REPEATED = 4
"""No document says this many words in a row twice: quality filters take that for boilerplate."""
LEAST = 3
"""The l of the prefix filter: more makes longer prefixes and fewer candidates."""
HELD_OUT = 10
"""No unplanted document shares this many words in a row with a held-out item."""


def words(text: str) -> list[str]:
    """Return the lower-cased words; addresses, phone numbers, he and she count as one word each.

    Two documents that differ only in a number or a pronoun would become equal once addresses are
    scrubbed or pronouns swapped, so they are taken as equal from the start.
    """
    return WORD.findall(PRONOUN.sub("someone", CONTACT.sub("contact", text.lower())))


def grams(tokens: list[str], n: int) -> list[str]:
    """Return the runs of n words, or the whole as one run where there are fewer."""
    if len(tokens) < n:
        return [" ".join(tokens)]
    return [" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


class Ledger:
    """The documents admitted so far, searchable by similarity.

    Candidates come from the prefix filter (Chaudhuri, Ganti and Kaushik 2006; with l > 1 Wang, Li and
    Feng 2012): two sets with Jaccard similarity >= t, if they share l elements at all, share l among the
    first n - ceil(t n) + l of each, under any one order.
    Here the order is: triples with a rare word first, then longest first, which keeps the lists short.
    """

    def __init__(self, rare: Iterable[str] = ()) -> None:
        """Start empty; ``rare`` names words that few documents share. They speed the search, no more."""
        self._rare = frozenset(word.lower() for word in rare)
        self._texts: set[str] = set()
        self._runs: set[str] = set()
        self._held_out: set[str] = set()
        self._sets: list[frozenset[str]] = []
        self._index: dict[str, list[int]] = {}

    def hold_out(self, texts: Iterable[str]) -> None:
        """Keep every later document free of these texts' runs of words."""
        for text in texts:
            tokens = words(text)
            if len(tokens) >= HELD_OUT:
                self._held_out.update(grams(tokens, HELD_OUT))

    def admit(self, text: str) -> bool:
        """Record the text and return True, or return False if it is too near to an earlier one."""
        tokens = words(text)
        key = " ".join(tokens)
        if key in self._texts or not self._held_out.isdisjoint(grams(tokens, HELD_OUT)):
            return False
        inside = grams(tokens, REPEATED)
        runs = grams(tokens, OVERLAP)
        if len(set(inside)) < len(inside):
            return False
        if not self._runs.isdisjoint(runs):
            return False
        shingles = frozenset(grams(tokens, 3))
        ordered = sorted(shingles, key=lambda s: (self._rare.isdisjoint(s.split()), -len(s), s))
        needed = math.ceil(NEAR * len(ordered))
        prefix = ordered[: len(ordered) - needed + LEAST]
        hits = Counter(chain.from_iterable(self._index.get(shingle, ()) for shingle in prefix))
        least = min(LEAST, needed)
        for other, count in hits.items():
            if count >= least:
                shared = len(shingles & self._sets[other])
                if shared >= NEAR * (len(shingles) + len(self._sets[other]) - shared):
                    return False
        for shingle in prefix:
            self._index.setdefault(shingle, []).append(len(self._sets))
        self._sets.append(shingles)
        self._texts.add(key)
        self._runs.update(runs)
        return True

    def write(self, make: Callable[..., str], *args: Any) -> str:
        """Return the first text of make(*args) that is admitted."""
        for _ in range(2000):
            text = make(*args)
            if self.admit(text):
                return text
        raise ValueError(f"no new text was found in 2000 tries (last: {text!r}); ask for fewer documents")
