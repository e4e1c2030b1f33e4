"""Step 4: the foundation, a causal language model trained from scratch on the packed tokens."""

from pathlib import Path
from typing import Any

from prefect import task

from tasks.receipts import Receipt, run_step
from tasks.recipe import Recipe
from tasks.training import train


@task
def pretrain(recipe: Recipe, encoded: Receipt) -> Receipt:
    """Train the foundation in a subprocess; a run that was stopped goes on from its checkpoint."""

    def compute(out: Path, key: str) -> dict[str, Any]:
        job = {
            "objective": "causal_lm",
            "seed": recipe.seed,
            "model": recipe.pretrain.model.model_dump(mode="json"),
            "trainer": recipe.pretrain.train.model_dump(mode="json"),
            "tokens": str(encoded.directory / "tokens"),
            "tokenizer": str(encoded.directory / "hf"),
        }
        return train(job, recipe=recipe.name, step="pretrain", key=key, out=out, launcher=recipe.launcher)

    return run_step(
        recipe.name,
        "pretrain",
        config={**recipe.pretrain.model_dump(mode="json"), "seed": recipe.seed},
        parents=[encoded.part()],
        compute=compute,
        code=("models.fit", "models.causal_lm"),
    )
