"""From sources to a foundation."""

from prefect import flow

from flows.check import opened
from flows.parameters import Overrides, RecipeFile
from flows.watching import watched
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.pretrain import pretrain
from tasks.receipts import Receipt
from tasks.tokenizer import tokenizer


@flow
@watched
def pretraining(recipe: RecipeFile = "recipes/starter.yaml", overrides: Overrides = []) -> Receipt:  # noqa: B006
    """Train a recipe's foundation on its corpus.

    Args:
        recipe: A recipe of the workspace: the whole pipeline in one file.
        overrides: Fields of the recipe to change, as dotted.key=value: pretrain.train.steps=300 for example.
    """
    config = opened("pretraining", recipe, overrides)
    ingested = ingest(config)
    prepared = prepare(config, ingested)
    encoded = tokenizer(config, prepared)
    return pretrain(config, encoded)
