"""From a foundation to its specialists."""

from prefect import flow

from flows.steps import Steps
from tasks.budget import open_recipe
from tasks.receipts import Receipt


@flow
def finetuning(recipe: str = "recipes/starter.yaml", model: str = "", overrides: list[str] = []) -> list[Receipt]:  # noqa: B006
    """Tune specialists from the foundation, making the foundation first where it is not there.

    Args:
        recipe: The recipe's file, relative to the workspace.
        model: One model of the recipe; empty for all.
        overrides: Fields to change, as dotted.key=value.
    """
    config = open_recipe(recipe, overrides)
    models = [model] if model else list(config.specialists)
    return Steps(config, as_tasks=True).receipts("finetune", models)
