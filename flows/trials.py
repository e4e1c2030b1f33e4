"""A specialist from the foundation and from scratch, over seeds and shares of its labels, and what that gives."""

from collections.abc import Callable
from typing import Any

from tasks.assess import assess
from tasks.finetune import finetune
from tasks.receipts import Receipt
from tasks.recipe import Recipe
from tasks.scratch import scratch
from tasks.transfer import transfer
from tasks.trials import Tried, trials


def compared(
    recipe: Recipe, model: str, prepared: Receipt, encoded: Receipt, start: Receipt, call: Callable[..., Receipt]
) -> Receipt:
    """Return the receipt of `transfer/<model>`, after the pairs of trainings that it takes.

    Each training and each assessment is a step of its own, so that a run that is killed loses at most one of them;
    the pair on all labels with the recipe's own seed are the steps of the pipeline.

    Args:
        start: holds the model that the specialist is tuned from.
        call: runs a task with its arguments, as Prefect's task or as a plain function.
    """
    whole = call(finetune, recipe, model, prepared, encoded, start)
    tried = []
    for trial in trials(recipe, model, prepared, whole):
        own = trial.applied(recipe, model)
        trained = call(finetune, own, model, prepared, encoded, start, None, None, trial.name) if trial.name else whole
        twin = call(scratch, own, model, prepared, encoded, trial.name)
        both: tuple[Any, ...] = trained, twin, None, None, trial.name
        assessed = call(assess, own, model, prepared, encoded, *both)
        tried.append(Tried(trial=trial, trained=trained, twin=twin, assessed=assessed))
    return call(transfer, recipe, model, whole, tried)
