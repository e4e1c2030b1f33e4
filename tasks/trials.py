"""Pairs of trainings of one specialist, from the foundation and from scratch, on shares of its labels and over seeds.

The curve over the labels tells something only where every training has come to its end. On few rows the epochs of
the recipe are a handful of steps, and fine-tuning on few rows fails by too few steps far sooner than by too many
(M. Mosbach et al., On the stability of fine-tuning BERT, ICLR 2021). So every share gets the steps that all labels
get, or, where a recipe names `least_steps`, its part of them and at least so many. Both starts have the same rows, in
the same order, the same batches, rates and steps.
"""

import math

from models.config import Config
from tasks.receipts import Receipt
from tasks.recipe import Recipe


class Trial(Config):
    """One pair of trainings on the same rows for the same steps."""

    name: str
    """What its steps are called after the model's name; empty for the pair that the pipeline makes anyway."""
    share: float
    """Of the labels."""
    labels: int
    """Rows that are learnt from."""
    steps: int
    """Optimiser steps of each of the two trainings."""
    seed: int
    """Of the choice of the rows, of fresh weights and of the order of the batches."""

    def applied(self, recipe: Recipe, model: str) -> Recipe:
        """Return the recipe whose steps of ``model`` are this pair's."""
        specialist = recipe.specialists[model]
        if self.share < 1:
            train = specialist.train.model_copy(update={"steps": self.steps, "epochs": None})
            specialist = specialist.model_copy(update={"max_examples": self.labels, "train": train})
        return recipe.model_copy(
            update={"seed": self.seed, "specialists": {**recipe.specialists, model: specialist}},
        )


class Tried(Config):
    """What came of one pair of trainings."""

    trial: Trial
    """What was tried."""
    trained: Receipt
    """The training from the foundation, or from what the recipe starts the specialist from."""
    twin: Receipt
    """The training from random weights."""
    assessed: Receipt
    """Both on the test split, beside baselines that learn from the same rows."""


def trials(recipe: Recipe, model: str, prepared: Receipt, whole: Receipt) -> list[Trial]:
    """Return the pairs of a specialist, the smallest share first and at each share the recipe's seed first.

    Args:
        whole: its training on all labels with the recipe's seed, which tells how many steps that is.
    """
    config, specialist = recipe.transfer, recipe.specialists[model]
    assert config is not None, "the recipe compares nothing over seeds"
    there = int(prepared.metrics["datasets"][specialist.data]["rows_out"]["train"])
    rows, steps = min(there, specialist.max_examples or there), int(whole.metrics["total_steps"])
    found = []
    for share in config.shares:
        part = steps if config.least_steps is None else max(config.least_steps, math.ceil(share * steps))
        for seed in range(recipe.seed, recipe.seed + config.seeds):
            own = share == 1 and seed == recipe.seed
            name = "" if own else f"{share:g}-{seed}"
            labels = max(1, round(share * rows))
            found.append(Trial(name=name, share=share, labels=labels, steps=min(part, steps), seed=seed))
    return found
