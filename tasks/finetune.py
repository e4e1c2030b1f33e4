"""Step 5: a specialist, tuned from the foundation or from another specialist on its own data."""

from prefect import task

from tasks.mitigation import Method
from tasks.receipts import Receipt
from tasks.recipe import Recipe
from tasks.specialist import train_specialist


@task
def finetune(
    recipe: Recipe,
    model: str,
    prepared: Receipt,
    encoded: Receipt,
    start: Receipt,
    reward: Receipt | None = None,
    method: Method | None = None,
    trial: str = "",
) -> Receipt:
    """Tune ``start`` into the specialist ``model``; ``reward`` scores its answers where it learns by rlhf.

    A ``method`` mitigates what identity words do, and the result stands beside the model without it; so does that of
    a ``trial``, whose recipe differs in rows, steps and seed (`tasks.trials`).
    """
    return train_specialist(recipe, model, "finetune", prepared, encoded, start, reward, method, trial)
