"""What the foundation is worth: specialists from it and from scratch, over seeds and shares of their labels."""

from prefect import flow

from flows.check import opened
from flows.parameters import ModelName, Overrides, RecipeFile
from flows.steps import Steps
from flows.watching import watched
from tasks.receipts import Receipt


@flow
@watched
def transfer(
    recipe: RecipeFile = "recipes/transfer.yaml",
    model: ModelName = "",
    overrides: Overrides = [],  # noqa: B006
) -> list[Receipt]:
    """Compare specialists with training from scratch, by the recipe's section transfer; what they need is made first.

    Args:
        recipe: A recipe of the workspace: the whole pipeline in one file.
        model: One specialist that has a twin from scratch; empty for all that the section names.
        overrides: Fields of the recipe to change, as dotted.key=value: pretrain.train.steps=300 for example.
    """
    config = opened("transfer", recipe, overrides, model)
    models = [model] if model else config.compared()
    return Steps(config, as_tasks=True).receipts("transfer", models)
