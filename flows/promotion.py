"""The gate: decide, register, move aliases."""

from functools import partial

from prefect import flow

from flows.approve import asked
from flows.check import opened
from flows.parameters import ModelName, Overrides, RecipeFile
from flows.steps import Steps
from flows.watching import watched
from tasks.receipts import Receipt


@flow
@watched
def promotion(
    recipe: RecipeFile = "recipes/starter.yaml",
    model: ModelName = "",
    overrides: Overrides = [],  # noqa: B006
) -> list[Receipt]:
    """Decide on models and register them; what they need and is not there is made first.

    Args:
        recipe: A recipe of the workspace: the whole pipeline in one file.
        model: One model of the recipe; empty for all.
        overrides: Fields of the recipe to change, as dotted.key=value: pretrain.train.steps=300 for example.
    """
    config = opened("promotion", recipe, overrides, model)
    models = [model] if model else config.models()
    steps = Steps(config, as_tasks=True)
    decided = zip(models, steps.receipts("promote", models), strict=True)
    return [asked(receipt, partial(steps.again, "promote", name)) for name, receipt in decided]
