"""What a run will take, before it: `artifacts/<recipe>/plan.json`, from a short measurement of its own trainings.

The trainings are measured on a sample of the recipe's own data (`tasks.plan_trainings`); the steps around them are
reckoned from the speed at which the model scores text and from what they took elsewhere (`tasks.plan_steps`).
"""

import json
import shutil
from typing import Any

from models.measure import USED
from tasks.console import log
from tasks.cost import read_receipt
from tasks.devices import machine
from tasks.energy import power
from tasks.plan_data import survey
from tasks.plan_steps import Speed, list_steps
from tasks.plan_trainings import foresee, list_trainings, measure_trainings
from tasks.planned import digest, plan_path
from tasks.recipe import Recipe
from tasks.workspace import VAR, write_atomically


def make_plan(recipe: Recipe) -> dict[str, Any]:
    """Measure, reckon, write ``plan.json`` and return it as plain values.

    Raises:
        ValueError: the sources cannot be read, or a training cannot be built.
    """
    work = VAR / "plan" / recipe.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    log.info("%-24s looks at the data", "plan")
    found = survey(recipe, work)
    trainings = list_trainings(recipe, found)
    measured: dict[str, Any] = {"startup": 0.0, "busy": 1.0, "measured": {}}
    if trainings:
        log.info("%-24s measures %d trainings", "plan", sum(not training.like for training in trainings))
        measured = measure_trainings(recipe, trainings, found)
    rows = []
    for training in trainings:
        figures = measured["measured"][training.like or training.step]
        expected = foresee(training, figures, measured["startup"], found, recipe.launcher)
        rows.append({"step": training.step, "model": training.model, "training": True, "how": "measured", **expected})
    first = next(iter(measured["measured"].values()), None)
    speed = Speed.of(measured, first)
    done = {row["step"] for row in rows}
    for step, model, seconds, how in list_steps(recipe, found, speed):
        if step not in done:
            rows.append({"step": step, "model": model, "training": False, "seconds": seconds, "how": how})
    for row in rows:
        _price(recipe, row)
    plan = {
        "recipe": recipe.name,
        "digest": digest(recipe),
        "data": {name: {"rows": data.rows, "known": data.known} for name, data in found.datasets.items()},
        "tokens": found.tokens,
        "startup": measured["startup"],
        "busy": measured["busy"],
        "rows": rows,
        "total": {name: _total(rows, name) for name in ("seconds", "flops", "tokens", "energy_kwh", "co2_kg", "money")},
        "left_out": _left_out(recipe),
        "currency": recipe.cost.currency,
        "device": "GPU" if machine().names != ["cpu"] else "CPU",
    }
    write_atomically(plan_path(recipe), json.dumps(plan, indent=1) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    return plan


def _left_out(recipe: Recipe) -> list[str]:
    """Return what a run may do beyond the plan, in words."""
    tried = [name for name, own in recipe.specialists.items() if own.mitigation.method == "auto"]
    said = [f"mitigations that auto may try ({', '.join(tried)})"] if tried else []
    return said + (["the comparisons of section transfer"] if recipe.transfer is not None else [])


def _price(recipe: Recipe, row: dict[str, Any]) -> None:
    """Add energy, emissions and money to a row. What a graphics card will draw is known only of an earlier run."""
    constants, seconds = power(recipe.cost.country), row["seconds"]
    energy = None
    if constants is not None:
        threads = constants.threads * USED if row["training"] else 1.0
        energy = constants.kwh(seconds, seconds * threads)
    if machine().names != ["cpu"] and row["training"]:
        before = read_receipt(recipe.name, row["step"])
        watched = before.cost.get("gpu_kwh") if before else None
        if energy is None or before is None or watched is None:
            energy = None
        else:  # a card draws about the same power at each step of one training
            energy += watched * seconds / before.cost["seconds"]
    row["energy_kwh"] = energy
    row["co2_kg"] = None if energy is None or constants is None else energy * constants.kg_per_kwh
    row["money"] = recipe.cost.money(seconds * row.get("devices", 1))


def _total(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [row.get(name, 0.0) for row in rows]
    return None if None in values else sum(values)
