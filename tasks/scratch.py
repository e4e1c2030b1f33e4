"""Step 5, the control: the same specialist on the same budget, from random weights."""

from prefect import task

from tasks.receipts import Receipt
from tasks.recipe import Recipe
from tasks.specialist import train_specialist


@task
def scratch(recipe: Recipe, model: str, prepared: Receipt, encoded: Receipt, trial: str = "") -> Receipt:
    """Train the specialist ``model`` without the foundation: what the foundation is worth is the difference.

    A ``trial`` is one of many such pairs, with a recipe of its own (`tasks.trials`).
    """
    return train_specialist(recipe, model, "scratch", prepared, encoded, None, trial=trial)
