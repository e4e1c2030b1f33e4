"""What a version learned from, kept with it: digests of its rows, its words and labels, and never the text itself.

Sources grow and change, and the prepared rows of a champion are soon replaced by later ones. What is asked of them
then (is this row new, did it learn from this test row, has it ever read this word) needs no text: sixteen bytes of
digests a row and eight a word. That two of a million rows collide has a chance of 3e-8.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import registry, tracking
from tasks.duplicates import WordHasher, list_words
from tasks.kinds import Row, digest_row
from tasks.paired import Terms, terms
from tasks.readers import read_rows
from tasks.recipe import FOUNDATION, Recipe
from tasks.sources import SPLITS

if TYPE_CHECKING:
    from tasks.duplicates import Hashes

PROFILE = "profile"
_ARRAYS, _REST = "profile.safetensors", "profile.json"


def _nothing() -> "Hashes":
    return np.zeros(0, np.uint64)


@dataclass(frozen=True, eq=False)
class Profile:
    """What is kept of the data of one version."""

    rows: "Hashes" = field(default_factory=_nothing)
    """Every row of every split, sorted."""
    learnt: "Hashes" = field(default_factory=_nothing)
    """What is asked of every training row (`tasks.kinds.Digests`), sorted."""
    words: "Hashes" = field(default_factory=_nothing)
    """Every word of the training text, sorted; none of labelled rows."""
    held_out: "np.ndarray" = field(default_factory=lambda: np.zeros((0, 2)))
    """Of every document of its test split: words that are not in the training text, and all words, [documents, 2]."""
    labels: dict[str, int] = field(default_factory=dict)
    """Label, or type of tag -> how often it stands in the training rows."""
    bytes_per_token: float | None = None
    """Of its tokenizer on its test split; None for a specialist."""

    def new_words(self) -> Terms | None:
        """Return the share of unknown words in its own test split, document by document; None where there is none."""
        return terms(*self.held_out.T) if len(self.held_out) else None


def row_hash(row: Row) -> int:
    """Return the digest of a row without its id, which counts lines and moves."""
    content = json.dumps({name: row[name] for name in sorted(row) if name != "id"}, ensure_ascii=False)
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little")


def asked_hash(row: Row) -> int:
    """Return the digest of what a row asks, by which `prepare` tells leaks."""
    return int(digest_row(row).asked[:16], 16)


def label_counts(row: Row) -> Counter[str]:
    """Return the label of a row, or the types of the entities in it, once each time they stand there."""
    if "tags" in row:
        return Counter(tag[2:] for tag in row["tags"] if tag.startswith("B-"))
    return Counter([row["label"]] if "label" in row else [])


def unknown_words(texts: Sequence[str], known: "Hashes", hasher: WordHasher | None = None) -> "np.ndarray":
    """Return how many words of each text are not among the ``known`` ones, and how many it has, [texts, 2]."""
    hasher = hasher or WordHasher()
    counts = np.zeros((len(texts), 2))
    for number, text in enumerate(texts):
        words = hasher.hash_words(list_words(text))
        counts[number] = np.isin(words, known, invert=True).sum(), len(words)
    return counts


def learnt_data(recipe: Recipe, model: str) -> list[str]:
    """Return the names of the data sets that a model learns from: the corpus and a domain's text, or its own."""
    if model != FOUNDATION:
        return [recipe.specialists[model].data]
    return ["corpus", *([recipe.adapt.data] if recipe.adapt else [])]


def make_profile(data: Sequence[Path], bytes_per_token: float | None = None) -> Profile:
    """Return the profile of prepared data sets, one directory each; the first one's test split is the held-out text."""
    rows: set[int] = set()
    learnt: set[int] = set()
    labels: Counter[str] = Counter()
    found: list[Hashes] = []
    hasher, texts = WordHasher(), True
    for directory in data:
        for split in SPLITS:
            for row in read_rows(directory / f"{split}.jsonl"):
                rows.add(row_hash(row))
                texts = texts and row.keys() == {"id", "text"}
                if split == "train":
                    learnt.add(asked_hash(row))
                    labels += label_counts(row)
                    if texts:
                        found.append(np.unique(hasher.hash_words(list_words(row["text"]))))
    words = np.unique(np.concatenate(found)) if texts and found else _nothing()
    held_out = np.zeros((0, 2))
    if texts:
        test = [row["text"] for row in read_rows(data[0] / "test.jsonl")]
        held_out = unknown_words(test, words, hasher)
    return Profile(
        rows=np.array(sorted(rows), np.uint64),
        learnt=np.array(sorted(learnt), np.uint64),
        words=words,
        held_out=held_out,
        labels=dict(sorted(labels.items())),
        bytes_per_token=bytes_per_token,
    )


def write_profile(profile: Profile, directory: Path) -> Path:
    """Write a profile into a directory, of equal bytes for equal profiles."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(profile, name) for name in ("rows", "learnt", "words", "held_out")}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, directory / _ARRAYS)
    rest = {"labels": profile.labels, "bytes_per_token": profile.bytes_per_token}
    (directory / _REST).write_text(json.dumps(rest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return directory


def read_profile(directory: Path) -> Profile:
    """Read what `write_profile` wrote."""
    from safetensors.numpy import load_file

    rest: dict[str, Any] = json.loads((directory / _REST).read_text(encoding="utf-8"))
    arrays: dict[str, Any] = load_file(directory / _ARRAYS)
    return Profile(**arrays, **rest)


def kept_profile(run_id: str, data_digest: str) -> Profile | None:
    """Return the profile of the data of that digest that a version's run keeps; None where it keeps none."""
    if not run_id or not data_digest:
        return None
    kept = tracking.fetch(run_id, registry.evidence_name(PROFILE, data_digest))
    return None if kept is None else read_profile(kept)


def together(profiles: Iterable[Profile]) -> Profile:
    """Return what several trainings, one after the other, learned from; the newest first, whose test split stands."""
    first, *earlier = profiles

    def union(name: str) -> "Hashes":
        return np.unique(np.concatenate([getattr(each, name) for each in (first, *earlier)]))

    return replace(first, rows=union("rows"), learnt=union("learnt"), words=union("words"))


def is_among(hashes: Sequence[int], known: "Hashes") -> "np.ndarray":
    """Return which of the hashes are known, [hashes]."""
    return np.isin(np.array(hashes, np.uint64), known)
