"""The plan that was made of a recipe, read again: what was expected beside what it took."""

import json
from pathlib import Path
from typing import Any

from tasks.receipts import Receipt
from tasks.recipe import Recipe
from tasks.workspace import ARTIFACTS, text_digest


def plan_path(recipe: Recipe) -> Path:
    """Return where the recipe's plan lies."""
    return ARTIFACTS / recipe.name / "plan.json"


def digest(recipe: Recipe) -> str:
    """Return what names the recipe that a plan is of; where its data lie and what it costs is no part of it."""
    values = recipe.model_dump(mode="json", exclude={"cost": True, "data": {"root"}})
    return text_digest(json.dumps(values, sort_keys=True))


def read_plan(recipe: Recipe) -> dict[str, Any] | None:
    """Return the plan that was made of this recipe as it is, if there is one."""
    try:
        plan: dict[str, Any] = json.loads(plan_path(recipe).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return plan if plan.get("digest") == digest(recipe) else None


def beside_plan(plan: dict[str, Any] | None, receipts: list[Receipt]) -> dict[str, Any] | None:
    """Return expected and true seconds by step, of the steps that stand in both; None without a plan."""
    if plan is None:
        return None
    took = {receipt.step: receipt.cost["seconds"] for receipt in receipts}
    rows = [
        {"step": row["step"], "expected": row["seconds"], "took": took[row["step"]]}
        for row in plan["rows"]
        if row["step"] in took
    ]
    sums = {name: sum(row[name] for row in rows) for name in ("expected", "took")}
    return {"rows": rows, "total": sums, "busy": plan["busy"]}
