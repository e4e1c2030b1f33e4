"""Step 4: the foundation: a language model trained on the packed tokens, from nothing or from a base."""

import json
from pathlib import Path
from typing import Any

from prefect import task

from tasks.base import find_base, take_base
from tasks.receipts import Part, Receipt, run_step
from tasks.recipe import Recipe
from tasks.training import train


@task
def pretrain(recipe: Recipe, encoded: Receipt) -> Receipt:
    """Train the foundation in a subprocess; a run that was stopped goes on from its checkpoint.

    With a base and without training, the foundation is the base as it is.
    """
    base, training, step = find_base(recipe.pretrain), recipe.pretrain.train, "pretrain"
    if training is None:
        assert base is not None, "a recipe without a base has a training"
        return _as_it_is(recipe, base)

    def compute(out: Path, key: str) -> dict[str, Any]:
        job = {
            "objective": recipe.pretrain.objective,
            "seed": recipe.seed,
            "model": None if base else recipe.pretrain.model.model_dump(mode="json"),
            "base": str(base.directory) if base else None,
            "trainer": training.model_dump(mode="json"),
            "tokens": str(encoded.directory / "tokens"),
            "tokenizer": str(encoded.directory / "hf"),
            "masked_lm": recipe.pretrain.masked_lm.model_dump(mode="json"),
        }
        return train(job, recipe=recipe.name, step=step, key=key, out=out, launcher=recipe.launcher)

    return run_step(
        recipe.name,
        step,
        config={**recipe.pretrain.model_dump(mode="json"), "seed": recipe.seed},
        parents=[encoded.part(), *([base] if base else [])],
        compute=compute,
        code=("models.fit", f"models.{recipe.pretrain.objective}"),
    )


def _as_it_is(recipe: Recipe, base: Part) -> Receipt:
    """Return the receipt of a foundation that nobody trained here: its cost is nothing, its history empty."""

    def compute(out: Path, key: str) -> dict[str, Any]:
        summary = {
            "objective": recipe.pretrain.objective,
            "base": recipe.pretrain.base,
            "revision": recipe.pretrain.revision,
            "trained": False,
            "steps": 0,
            "tokens": 0,
            "flops": 0.0,
            **take_base(base, out),
        }
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        (out / "history.jsonl").touch()
        return {**summary, "cost": {"flops": 0.0, "tokens": 0.0}}

    config = recipe.pretrain.model_dump(mode="json", include={"objective", "base", "revision"})
    return run_step(recipe.name, "pretrain", config=config, parents=[base], compute=compute)
