"""The models on held-out data."""

from prefect import flow

from flows.steps import Steps
from tasks.budget import open_recipe
from tasks.receipts import Receipt


@flow
def evaluation(recipe: str = "recipes/starter.yaml", model: str = "", overrides: list[str] = []) -> list[Receipt]:  # noqa: B006
    """Assess models beside their baselines; what they need and is not there is made first.

    Args:
        recipe: The recipe's file, relative to the workspace.
        model: One model of the recipe; empty for all.
        overrides: Fields to change, as dotted.key=value.
    """
    config = open_recipe(recipe, overrides)
    models = [model] if model else config.models()
    return Steps(config, as_tasks=True).receipts("assess", models)
