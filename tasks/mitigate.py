"""Step 7b: what each mitigation of a specialist did to bias and to utility, and which model is kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task

from tasks.assess import PREDICTIONS
from tasks.audit import read_audits
from tasks.audits.lexicon import load_lexicon
from tasks.audits.verdict import AuditResult, Verdict
from tasks.decide import OF_DATA
from tasks.metrics import Score
from tasks.mitigation import COSTS, group, reweigh
from tasks.policy import load_policy
from tasks.preferences import ratio
from tasks.readers import read_rows
from tasks.receipts import Receipt, Result, run_step
from tasks.recipe import Recipe

MITIGATION = "mitigation.json"
NONE = "none"
"""The name of the model as it came out of fine-tuning, beside those of the methods."""


@task
def mitigate(recipe: Recipe, model: str, prepared: Receipt, tried: dict[str, Result]) -> Receipt:
    """Put the mitigated models beside the one that is not, and say which of them is kept.

    ``tried`` maps "none" and the methods that were tried, in their order, to what was found about each. A method
    that the recipe names is kept. With ``auto`` that is the first one whose audits all pass the gate and that costs at
    most the utility margin on the balanced test; where none does, the model stays as it was. Writes
    ``mitigation.json``: a row each with its audits, its score on the test as it is and on the balanced test (the
    rows weighted so that group and label are independent), and what was done to its training rows.
    """
    rows = prepared.part(recipe.specialists[model].data)
    target = getattr(load_policy(Path(recipe.policy)), recipe.kind(model)).target
    config = recipe.specialists[model].mitigation

    def compute(out: Path, key: str) -> dict[str, Any]:
        table = [_row(recipe, model, name, result, rows.directory, target) for name, result in tried.items()]
        kept = _keep(table, config.method, config.utility_margin)
        text = json.dumps({"kept": kept, "target": target, "rows": table}, indent=1, ensure_ascii=False)
        (out / MITIGATION).write_text(text + "\n", encoding="utf-8")
        return {"kept": kept, "tried": list(tried)}

    return run_step(
        recipe.name,
        f"mitigate/{model}",
        config={**config.model_dump(mode="json"), "target": target, "gates": _gates(recipe, model)},
        parents=[rows, *(part.part() for found in tried.values() for part in (found.assessed, found.audited))],
        compute=compute,
    )


def settled(recipe: Recipe, model: str, method: str, result: Result) -> bool:
    """Return whether ``auto`` has nothing more to try: all gating audits pass, or one cannot be made at all."""
    if recipe.specialists[model].mitigation.method != "auto":
        return False
    audits = _gating(recipe, model, result)
    return any(found.verdict is Verdict.REFUSED for found in audits) or _passes(method, audits)


def _passes(method: str, audits: list[AuditResult]) -> bool:
    """Return whether the gate lets the audits through; it excuses what the rows of a mitigated training say."""
    asked = [found for found in audits if method == NONE or found.audit not in OF_DATA]
    return all(found.verdict is Verdict.PASS for found in asked)


def read_mitigation(mitigated: Receipt) -> dict[str, Any]:
    """Return the table that the step wrote."""
    table: dict[str, Any] = json.loads((mitigated.directory / MITIGATION).read_text())
    return table


def _gates(recipe: Recipe, model: str) -> list[str]:
    gates: list[str] = getattr(load_policy(Path(recipe.policy)), recipe.kind(model)).audits
    return gates


def _gating(recipe: Recipe, model: str, result: Result) -> list[AuditResult]:
    """Return the audits that the promotion policy asks to pass."""
    gates = _gates(recipe, model)
    return [found for found in read_audits(result.audited) if found.audit in gates]


def _row(recipe: Recipe, model: str, name: str, result: Result, rows: Path, target: str) -> dict[str, Any]:
    balanced = balanced_accuracy(rows, result.assessed.directory / PREDICTIONS, recipe.seed, recipe.audit.lexicon)
    audits = _gating(recipe, model, result)
    return {
        "method": name,
        "cost": COSTS.get(name, ""),  # type: ignore[call-overload]  # "none" costs nothing
        "done": result.trained.metrics.get("mitigation", {}),
        "score": result.assessed.metrics["scores"][target],
        "balanced_accuracy": balanced and balanced.model_dump(mode="json"),
        "passes": _passes(name, audits),
        "audits": [
            audit.model_dump(mode="json", include={"audit", "metric", "estimate", "low", "high", "margin", "verdict"})
            for audit in audits
        ],
        "seconds": result.trained.cost["seconds"],
    }


def balanced_accuracy(rows: Path, predictions: Path, seed: int, extra: Path | None = None) -> Score | None:
    """Return a classifier's accuracy on the balanced test: each row weighs P(g) P(y) / P(g, y) of its group and label.

    On the test as it is, a model may earn points with what identity words have to do with the label; under these
    weights it cannot. None for rows without labels.
    """
    test = list(read_rows(rows / "test.jsonl"))
    if "label" not in test[0]:
        return None
    lexicon = load_lexicon(extra)
    weights = np.array(reweigh([group(row["text"], lexicon) for row in test], [row["label"] for row in test]))
    right = np.array([row["model"] == row["truth"] for row in read_rows(predictions)], dtype=np.float64)
    return ratio(weights * right, weights, seed, "rows weighted to make group and label independent")


def _keep(table: list[dict[str, Any]], method: str, margin: float) -> str:
    """Return the name of the row that is kept (see `mitigate`)."""
    if method != "auto":
        return method
    before = _utility(table[0])
    for row in table:
        if row["passes"] and _utility(row) >= before - margin:
            return str(row["method"])
    return NONE


def _utility(row: dict[str, Any]) -> float:
    """Return the score on the balanced test, where rows have labels, else the score that the gate reads."""
    balanced = row["balanced_accuracy"]
    return float(balanced["value"] if balanced else row["score"])
