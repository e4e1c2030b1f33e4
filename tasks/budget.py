"""Size by budget: the model, its tokens, batch and learning rate that a time, an amount of work or money is spent on.

The speeds of a few sizes are measured for ten seconds, those between and beyond them follow by interpolation; of all
sizes of a ladder that one is chosen which loses least by published scaling laws (`tasks.scaling`) after as many tokens
as the budget affords. The choice is written once, to ``artifacts/<recipe>/budget.json``, and read ever after: a speed
is never measured twice alike, and a step is found done by its numbers.
"""

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

from models.architecture import ArchitectureConfig
from models.trainer import TrainerConfig
from tasks import scaling
from tasks.base import pin_base
from tasks.budget_amount import parse_budget
from tasks.console import duration, log
from tasks.devices import machine
from tasks.recipe import FOUNDATION, Recipe, load_recipe
from tasks.workspace import ARTIFACTS, VAR, write_atomically

LADDER = (
    (2, 64, 2),
    (3, 96, 3),
    (4, 128, 4),
    (4, 192, 6),
    (4, 256, 8),
    (6, 320, 10),
    (6, 384, 6),
    (8, 512, 8),
    (10, 640, 10),
    (12, 768, 12),
    (16, 1024, 16),
    (24, 1024, 16),
    (22, 1536, 24),
    (22, 2048, 32),
)
"""Layers, width and heads, each about twice as large as the one before; between them `tiny`, `small`, `124m`, `1b`."""
MEASURED = {"cpu": (0, 3, 6), "gpu": (5, 8, 10)}
"""Which of them are measured."""
VALIDATIONS, VALIDATED = 6, 1 / 60
"""Validations of a run, and batches of each as a share of the steps: a thirtieth of the time in all."""
MICRO_BATCH = 64
"""Most sequences that are computed at once; a larger batch is accumulated."""
LEAST_STEPS = 20
CONTEXT = 128
"""Tokens of the context, where the recipe names none."""


def open_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Return the recipe as it is run: `load_recipe`, what its budget was spent on, and the version of its base."""
    return pin_base(settle(load_recipe(path, overrides)))


def settle(recipe: Recipe) -> Recipe:
    """Return the recipe with size and training in place of its budget; chosen at the first time, then read.

    Raises:
        ValueError: the budget affords no training, or the sources cannot be read.
    """
    if not recipe.pretrain.budget:
        return recipe
    path = ARTIFACTS / recipe.name / "budget.json"
    asked = _asked(recipe)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    if record.get("asked") != asked:
        record = {"asked": asked, **_choose(recipe)}
        write_atomically(path, json.dumps(record, indent=1) + "\n")
        log.info("%-24s %s", "budget", record["said"])
    return _with(recipe, record["model"], record["train"])


def _with(recipe: Recipe, model: dict[str, Any], train: dict[str, Any]) -> Recipe:
    chosen = {
        "model": ArchitectureConfig.model_validate(model),
        "train": TrainerConfig.model_validate(train),
        "budget": "",
    }
    return recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update=chosen)})


def _asked(recipe: Recipe) -> dict[str, Any]:
    """Return all that a choice depends on but the machine: with another one it is made anew."""
    money = parse_budget(recipe.pretrain.budget).unit == "money"
    return {
        "budget": recipe.pretrain.budget,
        "model": recipe.pretrain.model.model_dump(mode="json"),
        "tokenizer": recipe.tokenizer.model_dump(mode="json"),
        "data": recipe.data.model_dump(mode="json", exclude={"root"}),
        "prepare": recipe.prepare.model_dump(mode="json"),
        **({"device_hour": recipe.cost.device_hour} if money else {}),
    }


def _shape(recipe: Recipe, layers: int, hidden: int, heads: int) -> dict[str, Any]:
    """Return the fields of a rung, with a SwiGLU of 8/3 the width (Shazeer 2020) in whole 32s."""
    return {
        "family": "llama",
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "key_value_heads": heads,
        "intermediate": 32 * round(hidden * 8 / 3 / 32),
        "context": recipe.pretrain.model.context or CONTEXT,
    }


def _choose(recipe: Recipe) -> dict[str, Any]:
    """Look at the data, measure, and return the choice with what it was made from."""
    from tasks.plan_data import survey
    from tasks.plan_trainings import Training, measure_trainings

    work = VAR / "plan" / f"{recipe.name}.budget"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    log.info("%-24s looks at the data and measures", "budget")
    shapes = [_shape(recipe, *rung) for rung in LADDER]
    context = shapes[0]["context"]
    found = survey(recipe, work)
    common = {
        "objective": "causal_lm",
        "seed": recipe.seed,
        "tokens": str(work / "tokens"),
        "tokenizer": str(work / "hf"),
        "out": str(work / "out"),
    }
    batch = {"steps": 10**6, "batch_size": _rows(20 * 10**6, context)[0]}
    trainings = [
        Training(f"rung {number}", FOUNDATION, {**common, "model": shapes[number], "trainer": batch}, "corpus")
        for number in MEASURED["cpu" if machine().names == ["cpu"] else "gpu"]
    ]
    counted = [{**common, "model": shape, "trainer": batch} for shape in shapes]
    answer = measure_trainings(recipe, trainings, found, counted=counted)
    shutil.rmtree(work, ignore_errors=True)
    speeds = [
        (figures["parameters"], figures["step_positions"] * figures["flops_per_position"] / figures["step_seconds"])
        for figures in answer["measured"].values()
    ]
    sizes = [(count["parameters"], count["flops_per_position"]) for count in answer["counted"]]
    return {**choose(recipe, shapes, sizes, speeds, found.tokens["corpus"]["train"]), "busy": answer["busy"]}


def choose(
    recipe: Recipe,
    shapes: list[dict[str, Any]],
    sizes: list[tuple[float, float]],
    speeds: list[tuple[float, float]],
    unique: float,
) -> dict[str, Any]:
    """Return the shape and training that lose least, what is expected of them, and the whole ladder.

    Args:
        shapes: fields of the architecture, by size.
        sizes: weights of each shape, and operations of a token.
        speeds: weights, and operations a second, of those that were measured, by size.
        unique: tokens of the text.
    """
    budget = parse_budget(recipe.pretrain.budget)
    seconds = budget.seconds(recipe.cost)
    rungs = []
    for shape, (weights, flops) in zip(shapes, sizes, strict=True):
        speed = between(speeds, weights)
        afforded = budget.amount / flops if seconds is None else seconds * speed / flops
        tokens = min(afforded, scaling.MOST_EPOCHS * unique)
        rows, accumulation = _rows(tokens, shape["context"])
        step = rows * accumulation * shape["context"]
        beside = 1 + (VALIDATIONS * VALIDATED / 3 if seconds is not None else 0.0)
        steps = int(tokens / step / beside)
        if steps < LEAST_STEPS:
            continue
        tokens = steps * step
        rungs.append(
            {
                "model": shape,
                "weights": weights,
                "steps": steps,
                "batch_size": rows,
                "accumulation": accumulation,
                "tokens": tokens,
                "epochs": tokens / unique,
                "flops": tokens * flops,
                "seconds": beside * tokens * flops / speed,
                "loss": scaling.loss(weights, tokens, unique),
            }
        )
    if not rungs:
        raise ValueError(
            f"pretrain.budget: {recipe.pretrain.budget} is less than {LEAST_STEPS} steps of the smallest model"
        )
    best = min(rungs, key=lambda rung: rung["loss"])
    steps = best["steps"]
    train = {
        "steps": steps,
        "batch_size": best["batch_size"],
        "accumulation": best["accumulation"],
        "learning_rate": scaling.learning_rate(best["weights"], best["tokens"]),
        "validate_every": math.ceil(steps / VALIDATIONS),
        "validate_batches": max(1, round(steps * VALIDATED / best["accumulation"])),
        "checkpoint_every": math.ceil(steps / VALIDATIONS),
    }
    said = (
        f"{recipe.pretrain.budget}: {best['weights'] / 1e6:.3g} M weights, {best['tokens'] / 1e6:.3g} M tokens "
        f"({best['epochs']:.2g} passes), about {duration(best['seconds'])}"
    )
    return {"said": said, "model": best["model"], "train": train, "expected": best, "speeds": speeds, "ladder": rungs}


def between(speeds: list[tuple[float, float]], weights: float) -> float:
    """Return the speed at a size: on a line between two measured ones in logarithms, the nearest one beyond them.

    >>> between([(1e6, 1e11), (1e8, 4e11)], 1e7)
    200000000000.0
    """
    for (small, low), (large, high) in pairwise(speeds):
        if small <= weights <= large:
            share = math.log(weights / small) / math.log(large / small)
            return float(f"{low * (high / low) ** share:.12g}")
    return speeds[0][1] if weights < speeds[0][0] else speeds[-1][1]


def _rows(tokens: float, context: int) -> tuple[int, int]:
    """Return the sequences of a micro-batch and how many of those make a step: a power of 2 near the law's batch."""
    rows = 2 ** max(3, round(math.log2(max(1.0, scaling.batch_tokens(tokens) / context))))
    return (rows, 1) if rows <= MICRO_BATCH else (MICRO_BATCH, rows // MICRO_BATCH)
