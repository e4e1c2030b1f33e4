"""Step 1: the rows of every source into `data/<recipe>`, under DVC."""

import json
import shutil
from pathlib import Path
from typing import Any

from prefect import task

from tasks.readers import QUARANTINE, find_files, ingest_sources
from tasks.receipts import Part, Receipt, run_step
from tasks.recipe import Recipe
from tasks.sources import FOR_CARDS, SPLITS, DataConfig
from tasks.versioning import add_data
from tasks.workspace import DATA, VAR, file_digest, text_digest


@task
def ingest(recipe: Recipe) -> Receipt:
    """Read, check and version the recipe's sources; bad rows go to a quarantine file.

    Raises:
        ValueError: a source is missing, empty, lacks a column or has too many bad rows.
    """
    sources = Part(name="sources", directory=Path(recipe.data.root), digest=_input_digest(recipe.data))

    def compute(out: Path, key: str) -> dict[str, Any]:
        try:
            return ingest_sources(recipe.data, out)
        finally:
            if (out / QUARANTINE).exists():
                kept = VAR / "quarantine" / f"{recipe.name}.jsonl"
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(out / QUARANTINE, kept)

    receipt = run_step(
        recipe.name,
        "ingest",
        config=recipe.data.model_dump(mode="json", exclude={"root": True, "datasets": {"__all__": FOR_CARDS}}),
        parents=[sources],
        compute=compute,
        content=DATA / recipe.name,
    )
    add_data()
    return receipt


def _input_digest(data: DataConfig) -> str:
    """Return the digest of all local files that the sources name, so that a changed file is read again."""
    files = {
        shown: file_digest(path)
        for dataset in data.datasets.values()
        for split in SPLITS
        for source in getattr(dataset, split)
        if source.kind == "files"
        for shown, path in find_files(source, data.root)
    }
    return text_digest(json.dumps(sorted(files.items())))
