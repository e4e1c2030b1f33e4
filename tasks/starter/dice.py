"""A seeded source of choices whose results are the same on every machine and Python version."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Random choices built on ``random.Random.random`` alone.

    That is the one method whose sequence the Python documentation promises to keep between versions;
    ``shuffle``, ``choice`` and ``sample`` are therefore written out here. Each purpose gets a stream of
    its own (seed and name), so that a change to one part of the corpus leaves the others as they were.
    """

    def __init__(self, seed: int, name: str) -> None:
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        self._uniform = random.Random(int.from_bytes(digest[:8], "big")).random

    def below(self, n: int) -> int:
        """Return a uniform integer in [0, n)."""
        return int(self._uniform() * n)

    def between(self, low: int, high: int) -> int:
        """Return a uniform integer in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def chance(self, p: float) -> bool:
        """Return True with probability p."""
        return self._uniform() < p

    def pick(self, items: Sequence[T]) -> T:
        """Return one item."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in a random order (Fisher and Yates)."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """Return k different positions of items, in random order."""
        assert k <= len(items)
        return self.shuffled(items)[:k]

    def spread(self, items: Sequence[T], n: int) -> list[T]:
        """Return n items in random order, each item as often as any other (give or take one)."""
        rounds = -(-n // len(items))
        out: list[T] = []
        for _ in range(rounds):
            out += self.shuffled(items)
        return self.shuffled(out[:n])
