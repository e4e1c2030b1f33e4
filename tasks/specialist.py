"""How a specialist is trained, from the foundation or from random weights: one job, one receipt."""

from pathlib import Path
from typing import Any, Literal

from tasks.receipts import Receipt, run_step
from tasks.recipe import Recipe
from tasks.training import train


def train_specialist(
    recipe: Recipe,
    model: str,
    step: Literal["finetune", "scratch"],
    prepared: Receipt,
    encoded: Receipt,
    foundation: Receipt | None,
) -> Receipt:
    """Train ``model`` of the recipe in a subprocess; without a foundation, its architecture starts anew.

    Only the specialist's own data, the tokenizer and the foundation's weights are its parents: new data for
    another specialist leaves it as it is.
    """
    specialist = recipe.specialists[model]
    rows, tokenizer = prepared.part(specialist.data), encoded.part("hf")
    start = foundation.part("model") if foundation is not None else None
    architecture = recipe.pretrain.model.model_dump(mode="json")

    def compute(out: Path, key: str) -> dict[str, Any]:
        job = {
            "objective": specialist.task,
            "seed": recipe.seed,
            "model": None if start else architecture,
            "base": str(start.directory) if start else None,
            "trainer": specialist.train.model_dump(mode="json"),
            "train": str(rows.directory / "train.jsonl"),
            "valid": str(rows.directory / "valid.jsonl"),
            "tokenizer": str(tokenizer.directory),
            specialist.task: {"max_examples": specialist.max_examples},
        }
        return train(job, recipe=recipe.name, step=f"{step}/{model}", key=key, out=out, launcher=recipe.launcher)

    return run_step(
        recipe.name,
        f"{step}/{model}",
        config={
            "task": specialist.task,
            "train": specialist.train.model_dump(mode="json"),
            "max_examples": specialist.max_examples,
            "seed": recipe.seed,
            **({} if start else {"model": architecture}),
        },
        parents=[rows, tokenizer, *([start] if start else [])],
        compute=compute,
        code=("models.fit", f"models.{specialist.task}"),
    )
