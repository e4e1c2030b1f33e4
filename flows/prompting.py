"""The causal models asked by prompt alone, before and after their tuning."""

from prefect import flow

from flows.steps import Steps
from tasks.budget import open_recipe
from tasks.in_context import asks
from tasks.receipts import Receipt


@flow
def prompting(recipe: str = "recipes/starter.yaml", model: str = "", overrides: list[str] = []) -> list[Receipt]:  # noqa: B006
    """Score models on the recipe's in-context tasks; what they need and is not there is made first.

    Args:
        recipe: The recipe's file, relative to the workspace.
        model: One model of the recipe; empty for all that write text.
        overrides: Fields to change, as dotted.key=value.
    """
    config = open_recipe(recipe, overrides)
    models = [model] if model else [name for name in config.models() if asks(config, name)]
    return Steps(config, as_tasks=True).receipts("in_context", models)
