"""The gate: decide, register, move aliases."""

from prefect import flow

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
    return Steps(config, as_tasks=True).receipts("promote", models)
