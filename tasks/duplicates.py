"""Exact and near duplicates: content digests, word shingles as integers, MinHash with verified candidates."""

import hashlib
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

_WORD = re.compile(r"\w+(?:['’]\w+)*")  # noqa: RUF001
_MISSED = 1e-3


def digest_content(text: str) -> str:
    """Return the sha256 of the lower-cased text with every run of white space folded into one space."""
    return hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()


def list_words(text: str) -> list[str]:
    """Return the lower-cased words of a text without punctuation."""
    return _WORD.findall(text.lower())


class WordHasher:
    """Words as 64-bit integers, the same in every process; each distinct word is hashed once."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def hash_words(self, words: list[str]) -> "Hashes":
        """Return one integer a word, (len(words),)."""
        known = self._known
        for word in set(words).difference(known):
            known[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return np.fromiter(map(known.__getitem__, words), np.uint64, len(words))


def hash_runs(words: "Hashes", length: int) -> "Hashes":
    """Return one integer for each run of `length` words, (max(0, words - length + 1),).

    A polynomial modulo 2**64, mixed by the finaliser of splitmix64 (Steele et al. 2014), so that all its bits vary.
    """
    return hash_all_runs(words, [length])[length]


def hash_all_runs(words: "Hashes", lengths: Collection[int]) -> "dict[int, Hashes]":
    """Return `hash_runs` by length; a longer run is a shorter one and a word, so all cost what the longest does."""
    found: dict[int, Hashes] = {}
    total = np.zeros(len(words) + 1, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(max(lengths)):
            count = max(0, len(words) - offset)
            total = total[:count] * np.uint64(0x9E3779B97F4A7C15) + words[offset : offset + count]
            if offset + 1 in lengths:
                mixed = (total ^ (total >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                found[offset + 1] = mixed ^ (mixed >> np.uint64(31))
    return found


def hash_shingles(words: "Hashes", length: int) -> "Hashes":
    """Return the sorted set of a text's word runs as integers; a shorter text is one run of all its words."""
    return np.unique(hash_runs(words, min(length, max(1, len(words)))))


def choose_bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Return (bands, rows) of the most selective index that misses 1 of 1,000 pairs at the threshold.

    A pair of Jaccard similarity t meets in a band of r rows with probability t**r, so that b bands miss it
    with (1 - t**r)**b (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4.2).
    """
    for rows in range(permutations // 2, 1, -1):  # two bands at least: datasketch has no index of one
        if (1 - threshold**rows) ** (permutations // rows) <= _MISSED:
            return permutations // rows, rows
    return permutations, 1


def measure_jaccard(one: "Hashes", other: "Hashes") -> float:
    """Return the share of two sorted sets' union that is in both."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)


def find_near_duplicates(
    texts: list[str], threshold: float, shingle_words: int, permutations: int, seed: int
) -> dict[int, int]:
    """Return the texts to drop as {index: index of the text that is kept in its place}.

    Two texts are near duplicates if the Jaccard similarity of their sets of `shingle_words`-word runs is at
    least `threshold`. Candidates come from MinHash and locality-sensitive hashing (Broder 1997), each is then
    measured on the true sets. Of a cluster of texts that hang together, however loosely, the first stays.
    """
    from datasketch import MinHash, MinHashLSH

    scheme: Literal["affine64"] = "affine64"
    shared = MinHash(permutations, seed, scheme=scheme).permutations  # drawn once, not once a text
    index = MinHashLSH(num_perm=permutations, params=choose_bands(threshold, permutations))
    hasher = WordHasher()
    sets: list[Hashes] = []
    leader = list(range(len(texts)))

    def find(item: int) -> int:
        while leader[item] != item:
            leader[item] = leader[leader[item]]
            item = leader[item]
        return item

    for number, text in enumerate(texts):
        shingles = hash_shingles(hasher.hash_words(list_words(text)), shingle_words)
        sets.append(shingles)
        if not len(shingles):
            continue
        minhash = MinHash(permutations, hashfunc=int, permutations=shared, scheme=scheme)
        minhash.update_batch(shingles.tolist())
        for candidate in sorted(index.query(minhash)):
            one, other = find(candidate), find(number)
            if one != other and measure_jaccard(sets[candidate], shingles) >= threshold:
                leader[max(one, other)] = min(one, other)
        index.insert(number, minhash, check_duplication=False)
    return {number: find(number) for number in range(len(texts)) if find(number) != number}
