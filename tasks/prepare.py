"""Step 2: rows into clean, deduplicated, scrubbed and split text, with nothing held out among it."""

from pathlib import Path
from typing import Any

from prefect import task

from tasks.corpus import prepare_datasets
from tasks.receipts import Receipt, run_step
from tasks.recipe import Recipe
from tasks.workspace import file_digest


@task
def prepare(recipe: Recipe, ingested: Receipt) -> Receipt:
    """Clean every data set of the recipe and count what was changed or removed, and why."""
    lexicon = recipe.audit.lexicon if recipe.prepare.mitigation.method != "none" else None

    def compute(out: Path, key: str) -> dict[str, Any]:
        return prepare_datasets(recipe.prepare, recipe.data, ingested.directory, out, lexicon)

    words = {"lexicon": file_digest(lexicon)} if lexicon else {}
    kinds = {name: dataset.kind for name, dataset in recipe.data.datasets.items()}
    return run_step(
        recipe.name,
        "prepare",
        config={"prepare": recipe.prepare.model_dump(mode="json"), "kinds": kinds, **words},
        parents=[ingested.part()],
        compute=compute,
    )
