"""Step 5: a specialist, tuned from the foundation on its own data."""

from prefect import task

from tasks.receipts import Receipt
from tasks.recipe import Recipe
from tasks.specialist import train_specialist


@task
def finetune(recipe: Recipe, model: str, prepared: Receipt, encoded: Receipt, foundation: Receipt) -> Receipt:
    """Tune the foundation into the specialist ``model``."""
    return train_specialist(recipe, model, "finetune", prepared, encoded, foundation)
