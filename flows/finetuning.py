"""From a foundation to its specialists."""

from prefect import flow

from flows.check import opened
from flows.parameters import ModelName, Overrides, RecipeFile
from flows.steps import Steps
from flows.watching import watched
from tasks.receipts import Receipt


@flow
@watched
def finetuning(
    recipe: RecipeFile = "recipes/starter.yaml",
    model: ModelName = "",
    overrides: Overrides = [],  # noqa: B006
) -> list[Receipt]:
    """Tune specialists from the foundation, making the foundation first where it is not there.

    Args:
        recipe: A recipe of the workspace: the whole pipeline in one file.
        model: One model of the recipe; empty for all.
        overrides: Fields of the recipe to change, as dotted.key=value: pretrain.train.steps=300 for example.
    """
    config = opened("finetuning", recipe, overrides, model)
    models = [model] if model else list(config.specialists)
    return Steps(config, as_tasks=True).receipts("finetune", models)
