"""From sources to a foundation."""

from prefect import flow

from tasks.budget import open_recipe
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.pretrain import pretrain
from tasks.receipts import Receipt
from tasks.tokenizer import tokenizer


@flow
def pretraining(recipe: str = "recipes/starter.yaml", overrides: list[str] = []) -> Receipt:  # noqa: B006
    """Train a recipe's foundation on its corpus.

    Args:
        recipe: The recipe's file, relative to the workspace.
        overrides: Fields to change, as dotted.key=value.
    """
    config = open_recipe(recipe, overrides)
    ingested = ingest(config)
    prepared = prepare(config, ingested)
    encoded = tokenizer(config, prepared)
    return pretrain(config, encoded)
