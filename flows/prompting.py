"""The causal models asked by prompt alone, before and after their tuning."""

from prefect import flow

from flows.check import opened
from flows.parameters import ModelName, Overrides, RecipeFile
from flows.steps import Steps
from flows.watching import watched
from tasks.in_context import asks
from tasks.receipts import Receipt


@flow
@watched
def prompting(
    recipe: RecipeFile = "recipes/starter.yaml",
    model: ModelName = "",
    overrides: Overrides = [],  # noqa: B006
) -> list[Receipt]:
    """Score models on the recipe's in-context tasks; what they need and is not there is made first.

    Args:
        recipe: A recipe of the workspace: the whole pipeline in one file.
        model: One model of the recipe; empty for all that write text.
        overrides: Fields of the recipe to change, as dotted.key=value: pretrain.train.steps=300 for example.
    """
    config = opened("prompting", recipe, overrides, model)
    models = [model] if model else [name for name in config.models() if asks(config, name)]
    return Steps(config, as_tasks=True).receipts("in_context", models)
