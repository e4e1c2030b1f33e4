"""What the foundation is worth: specialists from it and from scratch, over seeds and shares of their labels."""

from prefect import flow

from flows.steps import Steps
from tasks.budget import open_recipe
from tasks.receipts import Receipt


@flow
def transfer(recipe: str = "recipes/transfer.yaml", model: str = "", overrides: list[str] = []) -> list[Receipt]:  # noqa: B006
    """Compare specialists with training from scratch, by the recipe's section transfer; what they need is made first.

    Args:
        recipe: The recipe's file, relative to the workspace.
        model: One specialist that has a twin from scratch; empty for all that the section names.
        overrides: Fields to change, as dotted.key=value.
    """
    config = open_recipe(recipe, overrides)
    models = [model] if model else config.compared()
    return Steps(config, as_tasks=True).receipts("transfer", models)
