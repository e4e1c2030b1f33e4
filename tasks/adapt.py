"""Step 4b: the foundation, trained on with the text of a domain, and what it forgets of the general text."""

from pathlib import Path
from typing import Any

from prefect import task

from tasks.encoding_base import encode_dataset
from tasks.receipts import Receipt, run_step
from tasks.recipe import Recipe
from tasks.training import train


@task
def adapt(recipe: Recipe, prepared: Receipt, encoded: Receipt, foundation: Receipt) -> Receipt:
    """Continue the foundation's pretraining on `adapt.data` (Gururangan et al. 2020), in a subprocess.

    The corpus' validation text is measured beside the domain's, before the first step and at every validation:
    `valid/loss` and `valid/general_loss` in the history. The metrics have both before and after, and their
    difference on the general text, `forgetting`, in nats per token.
    """
    adaptation = recipe.adapt
    assert adaptation is not None, "the recipe has no adapt"
    domain, general, start = prepared.part(adaptation.data), encoded.part("tokens"), foundation.part("model")

    def compute(out: Path, key: str) -> dict[str, Any]:
        # The job names this place; the directory that compute fills is renamed when the step is done.
        meta = encode_dataset(start.directory, domain.directory, out / "tokens")
        job = {
            "objective": recipe.pretrain.objective,
            "seed": recipe.seed,
            "base": str(start.directory),
            "trainer": adaptation.train.model_dump(mode="json"),
            "tokens": str(out / "tokens"),
            "general": str(general.directory),
            "tokenizer": str(start.directory),
            "masked_lm": recipe.pretrain.masked_lm.model_dump(mode="json"),
        }
        found = train(job, recipe=recipe.name, step="adapt", key=key, out=out, launcher=recipe.launcher)
        return {**found, "domain": {split: meta[split] for split in ("train", "valid", "test")}}

    return run_step(
        recipe.name,
        "adapt",
        config={
            **adaptation.model_dump(mode="json"),
            "objective": recipe.pretrain.objective,
            "masked_lm": recipe.pretrain.masked_lm.model_dump(mode="json"),
            "seed": recipe.seed,
        },
        parents=[domain, general, start],
        compute=compute,
        code=("models.fit", f"models.{recipe.pretrain.objective}"),
    )
