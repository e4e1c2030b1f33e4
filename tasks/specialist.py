"""How a specialist is trained, from another model or from random weights: one job, one receipt."""

from pathlib import Path
from typing import Any, Literal

from tasks.receipts import Receipt, run_step
from tasks.recipe import Recipe
from tasks.training import train

WITH_OPTIONS = ("question_answering", "instruction", "preference", "rlhf")
"""Objectives that have options of their own, in a recipe and in a job under their name."""


def train_specialist(
    recipe: Recipe,
    model: str,
    step: Literal["finetune", "scratch"],
    prepared: Receipt,
    encoded: Receipt,
    start: Receipt | None,
    reward: Receipt | None = None,
) -> Receipt:
    """Train ``model`` of the recipe in a subprocess; without a start, the foundation's architecture anew.

    Only the specialist's own data, the model that it starts from with its tokenizer, and the reward model's
    weights are its parents: new data for another specialist leaves it as it is.
    """
    specialist = recipe.specialists[model]
    rows = prepared.part(specialist.data)
    # A model lies with its tokenizer, which may have more tokens than the one that the corpus was encoded with.
    origin = start.part("model") if start else encoded.part("hf")
    judge = reward.part("model") if reward else None
    options = {name: getattr(specialist, name) for name in WITH_OPTIONS if name == specialist.task}
    config: dict[str, Any] = {
        "seed": recipe.seed,
        "max_examples": specialist.max_examples,
        **{name: values.model_dump(mode="json") for name, values in options.items()},
    }
    if start is None:
        config["model"] = recipe.pretrain.model.model_dump(mode="json")
    elif specialist.adapter is not None:  # there is nothing to freeze in random weights
        config["adapter"] = specialist.adapter.model_dump(mode="json")
    trainer = specialist.train.model_dump(mode="json")

    def compute(out: Path, key: str) -> dict[str, Any]:
        job = {
            **config,
            "objective": specialist.task,
            "base": str(origin.directory) if start else None,
            "reward": str(judge.directory) if judge else None,
            "trainer": trainer,
            "train": str(rows.directory / "train.jsonl"),
            "valid": str(rows.directory / "valid.jsonl"),
            "tokenizer": str(origin.directory),
        }
        return train(job, recipe=recipe.name, step=f"{step}/{model}", key=key, out=out, launcher=recipe.launcher)

    return run_step(
        recipe.name,
        f"{step}/{model}",
        config={**config, "task": specialist.task, "train": trainer},
        parents=[rows, origin, *([judge] if judge else [])],
        compute=compute,
        code=("models.fit", f"models.{specialist.task}"),
    )
