"""Step 8b: of every set that a model is asked, which items stand in the text that it learnt from.

Pretraining text is looked through twice: as it was ingested, where `prepare` had not yet removed what overlaps with
a specialist's held-out rows, and as it was trained on. The rule is that of `tasks/contamination.py`, a shared run of
so many words; what is looked through is read as `prepare` reads it, normalised and scrubbed. An item that was
removed from the training text is clean. A specialist's test rows are held against its own training rows too.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from prefect import task

from tasks.contamination import HeldOutIndex
from tasks.corpus import CONTAMINATION, PrepareConfig, clean_text
from tasks.duplicates import WordHasher, hash_shingles, list_words
from tasks.evaluation_sets import EvaluationSet, published_sets, sets_digest
from tasks.kinds import ask_of, list_passages
from tasks.readers import read_rows
from tasks.receipts import Part, Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe

SHOWN = 200
"""Findings that are listed of a set; all are counted."""


class Place(NamedTuple):
    """Where an item was found."""

    dataset: str
    document: str
    ngram: str


@task
def overlap(recipe: Recipe, ingested: Receipt, prepared: Receipt) -> Receipt:
    """Look through the training text for the items of every test split and of every published set of the recipe.

    Writes ``contamination.json`` (see `look`).
    """
    models = {FOUNDATION: "corpus"} | {name: own.data for name, own in recipe.specialists.items()}
    texts = ["corpus", *([recipe.adapt.data] if recipe.adapt else [])]
    published = Part(name="published", directory=Path(recipe.data.root), digest=sets_digest(recipe))
    used = sorted({*models.values(), *texts})

    def compute(out: Path, key: str) -> dict[str, Any]:
        sets = [
            EvaluationSet(data, "test split", {row["id"]: list_passages(row) for row in _test(prepared, data)})
            for data in dict.fromkeys(models.values())
        ]
        sets += published_sets(recipe)
        found = look(recipe.prepare, sets, texts, ingested.directory, prepared.directory)
        for data in dict.fromkeys(models[name] for name in recipe.specialists):
            train = list(read_rows(prepared.directory / data / "train.jsonl"))
            alike = near_duplicates(recipe.prepare, train, list(_test(prepared, data)))
            found[data] |= {"duplicates": len(alike), "duplicate_of": alike}
        for entry in found.values():
            entry["dirty"] = sorted({*entry["in_training"], *entry.get("duplicate_of", {})})
            entry["clean"] = entry["items"] - len(entry["dirty"])
        content = {"text": known_text(recipe), "ngram": recipe.prepare.contamination_ngram, "sets": found}
        (out / CONTAMINATION).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return {name: {key: n for key, n in entry.items() if isinstance(n, int)} for name, entry in found.items()}

    return run_step(
        recipe.name,
        "overlap",
        config={
            "prepare": recipe.prepare.model_dump(mode="json"),
            "texts": texts,
            "models": models,
            "said": known_text(recipe),
            "audit": recipe.audit.model_dump(mode="json"),
            "in_context": recipe.in_context and recipe.in_context.model_dump(mode="json"),
        },
        parents=[*(ingested.part(name) for name in texts), *(prepared.part(name) for name in used), published],
        compute=compute,
    )


def read_overlap(overlapping: Receipt) -> dict[str, Any]:
    """Return what the step wrote."""
    found: dict[str, Any] = json.loads((overlapping.directory / CONTAMINATION).read_text(encoding="utf-8"))
    return found


def known_text(recipe: Recipe) -> str:
    """Say what is known of the text that the foundation learnt from; empty where all of it is looked through."""
    if not recipe.pretrain.base:
        return ""
    here = "it is taken as it is" if recipe.pretrain.train is None else "only what it is trained on here is"
    return f"What {recipe.pretrain.base} learnt from before is unknown and not looked through; {here}."


def look(
    config: PrepareConfig, sets: list[EvaluationSet], texts: list[str], ingested: Path, prepared: Path
) -> dict[str, dict[str, Any]]:
    """Return for each set by name: kind, items, unchecked (too short to tell), ingested (items that stand in the text
    as it was ingested), removed (of these, no longer in what is trained on), pretraining (still there), in_training
    (the ids of these) and found (where, of the first `SHOWN`).

    Args:
        texts: names of the data sets that are pretrained on.
        ingested, prepared: the directories of the two steps.
    """
    index = HeldOutIndex(config.contamination_ngram, config.contamination_min_words)
    for one in sets:
        for item, passages in one.items.items():
            index.add_passages(one.name, item, passages)
    before: dict[str, dict[str, Place]] = defaultdict(dict)
    after: dict[str, dict[str, Place]] = defaultdict(dict)
    for name in texts:
        for document, text, trained in documents(config, ingested / name, prepared / name):
            for hit in index.find(text):
                place = Place(name, document, hit.ngram)
                before[hit.held_out].setdefault(hit.item, place)
                if trained:
                    after[hit.held_out].setdefault(hit.item, place)
    report: dict[str, dict[str, Any]] = {}
    for one in sets:
        places, left = before[one.name], after[one.name]
        report[one.name] = {
            "kind": one.kind,
            "items": len(one.items),
            "unchecked": index.unchecked.get(one.name, 0),
            "ingested": len(places),
            "removed": len(places) - len(left),
            "pretraining": len(left),
            "in_training": sorted(left),
            "found": [
                {"item": item, "trained_on": item in left, **left.get(item, place)._asdict()}
                for item, place in sorted(places.items())[:SHOWN]
            ],
        }
    return report


def documents(config: PrepareConfig, ingested: Path, prepared: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield (id, text, whether it is trained on) of a text's documents as they were ingested, its held-out ones not.

    A document that is trained on whole is yielded once. Of one that was dropped, or cut into pieces some of which
    may have been, the whole is yielded as well.
    """
    kept = {row["id"]: row["text"] for row in read_rows(prepared / "train.jsonl")}
    held_out = {row["id"] for split in ("valid", "test") for row in read_rows(prepared / f"{split}.jsonl")}
    held_out |= {name.rpartition("/")[0] for name in held_out}
    for name, text in kept.items():
        yield name, text, True
    for row in read_rows(ingested / "train.jsonl"):
        if row["id"] not in kept and row["id"] not in held_out:
            yield row["id"], clean_text(config, row["text"], Counter()), False


def near_duplicates(config: PrepareConfig, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the test rows that ask what a training row asks, nearly or exactly: id -> the nearest row and how near.

    Near is a Jaccard similarity of the sets of word runs of at least `near_duplicate_threshold`, measured for every
    pair that shares a run; 1 is the same words in the same order, or as good as.
    """
    hasher = WordHasher()

    def shingles(row: dict[str, Any]) -> Any:
        return hash_shingles(hasher.hash_words(list_words(ask_of(row))), config.shingle_words)

    sets = [shingles(row) for row in test]
    sizes = np.array([len(one) for one in sets])
    runs, owners = np.concatenate(sets), np.repeat(np.arange(len(test)), sizes)
    order = np.argsort(runs, kind="stable")
    runs, owners = runs[order], owners[order]
    best: dict[int, tuple[float, str]] = {}
    for row in train:
        own = shingles(row)
        left, right = (np.searchsorted(runs, own, side=side) for side in ("left", "right"))
        spans = [owners[a:b] for a, b in zip(left, right, strict=True) if b > a]
        if not spans:
            continue
        numbers, shared = np.unique(np.concatenate(spans), return_counts=True)
        similarity = shared / (len(own) + sizes[numbers] - shared)
        for number, value in zip(numbers.tolist(), similarity.tolist(), strict=True):
            if value >= config.near_duplicate_threshold and value > best.get(number, (0.0, ""))[0]:
                best[number] = (value, row["id"])
    return {
        test[number]["id"]: {"train": name, "similarity": round(value, 4)}
        for number, (value, name) in sorted(best.items())
    }


def _test(prepared: Receipt, data: str) -> Iterator[dict[str, Any]]:
    return read_rows(prepared.directory / data / "test.jsonl")
