"""Step 9: what came out, in one place: report.json for programs, report.md and report.html for people."""

import json
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from prefect import task

from models.chat import question
from tasks.assess import PREDICTIONS, SCORES
from tasks.decide import load_policy
from tasks.promote import read_decision
from tasks.readers import read_rows
from tasks.receipts import Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe

REPORT = "report"
EXAMPLES = 8


class Result(NamedTuple):
    """All receipts of one model."""

    trained: Receipt
    control: Receipt | None
    assessed: Receipt
    audited: Receipt
    promoted: Receipt


@task
def report(
    recipe: Recipe, ingested: Receipt, prepared: Receipt, encoded: Receipt, results: dict[str, Result]
) -> Receipt:
    """Write the report, show it on the Prefect page and keep it with the foundation's MLflow run."""

    def compute(out: Path, key: str) -> dict[str, Any]:
        from tasks.report_pages import write_pages

        content = gather(recipe, ingested, prepared, encoded, results)
        (out / f"{REPORT}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_pages(content, out)
        return {"table": content["table"]}

    receipt = run_step(
        recipe.name,
        "report",
        config={"seed": recipe.seed},
        parents=[part for result in results.values() for part in (result.assessed.part(), result.promoted.part())],
        compute=compute,
        code=("tasks.report_pages",),
    )
    publish(recipe, receipt, results)
    return receipt


def publish(recipe: Recipe, receipt: Receipt, results: dict[str, Result]) -> None:
    """Show the report as a Prefect artifact, where a flow runs, and keep it with the foundation's run."""
    from prefect.artifacts import create_markdown_artifact
    from prefect.context import TaskRunContext

    from tasks import tracking

    if TaskRunContext.get() is not None:
        text = (receipt.directory / f"{REPORT}.md").read_text(encoding="utf-8")
        create_markdown_artifact(text, key=f"{recipe.name}-report", description=f"Report of {recipe.name}")
    run_id = results[FOUNDATION].promoted.metrics["run_id"]
    tracking.try_to(lambda: tracking.keep(run_id, receipt.directory))


def gather(
    recipe: Recipe, ingested: Receipt, prepared: Receipt, encoded: Receipt, results: dict[str, Result]
) -> dict[str, Any]:
    """Return everything that the report says, as plain values."""
    policy = load_policy(Path(recipe.policy))
    models = {name: _model(recipe, name, prepared, result) for name, result in results.items()}
    cost = {name: _cost(result) for name, result in results.items()}
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "data": {
            "ingested": ingested.metrics,
            "prepared": prepared.metrics,
            "tokenizer": encoded.metrics,
            "data_dvc": results[FOUNDATION].promoted and models[FOUNDATION]["lineage"]["data_dvc"],
        },
        "models": models,
        "cost": cost,
        "table": [_row(found, getattr(policy, found["kind"]).target) for found in models.values()],
    }


def _model(recipe: Recipe, name: str, prepared: Receipt, result: Result) -> dict[str, Any]:
    decision, record = read_decision(result.promoted)
    summary = json.loads((result.trained.directory / "summary.json").read_text())
    data = "corpus" if name == FOUNDATION else recipe.specialists[name].data
    return {
        "model": name,
        "registered_name": recipe.registered_name(name),
        "kind": FOUNDATION if name == FOUNDATION else recipe.specialists[name].task,
        "sources": sorted({source.kind for source in recipe.data.datasets[data].train}),
        "version": record["version"],
        "run_id": record["run_id"],
        "decision": decision.model_dump(mode="json"),
        "lineage": record["lineage"],
        "scores": json.loads((result.assessed.directory / SCORES).read_text()),
        "baselines": result.assessed.metrics["baselines"],
        "audits": json.loads((result.audited.directory / "audits.json").read_text()),
        "training": summary,
        "curve": _curve(result.trained.directory / "history.jsonl"),
        "control_curve": _curve(result.control.directory / "history.jsonl") if result.control else {},
        "examples": _examples(prepared.part(data).directory, result.assessed.directory / PREDICTIONS),
    }


def _examples(data: Path, predictions: Path) -> list[dict[str, Any]]:
    """Return the first predictions with what was asked; a foundation has none."""
    if not predictions.exists():
        return []
    return [
        {**answers, "asked": row["text"] if "text" in row else question(row["instruction"], row["input"])}
        for row, answers in zip(read_rows(data / "test.jsonl"), islice(read_rows(predictions), EXAMPLES), strict=False)
    ]


def _curve(history: Path) -> dict[str, list[list[float]]]:
    """Return the loss curves of a training run: key -> [[step, value], ...]."""
    curves: dict[str, list[list[float]]] = {}
    for row in read_rows(history):
        if "loss" in row.get("key", ""):
            curves.setdefault(row["key"], []).append([row["step"], row["value"]])
    return curves


def _cost(result: Result) -> dict[str, float]:
    parts = [part for part in (result.trained, result.control, result.assessed, result.audited) if part is not None]
    return {
        "training_seconds": result.trained.cost["seconds"],
        "training_flops": result.trained.cost.get("flops", 0.0),
        "control_seconds": result.control.cost["seconds"] if result.control else 0.0,
        "all_seconds": sum(part.cost["seconds"] for part in [*parts, result.promoted]),
    }


def _row(model: dict[str, Any], target: str) -> dict[str, Any]:
    """Return the model's line of the closing table: the score that the gate decides on, and one to go with it."""
    also = {"foundation": "perplexity", "classification": "accuracy", "instruction": "exact_match"}[model["kind"]]
    scores = {name: score["value"] for name, score in model["scores"]["model"]["scores"].items()}
    return {
        "model": model["registered_name"],
        "kind": model["kind"],
        "metric": target,
        "score": scores[target],
        "baselines": {name: found[target] for name, found in model["baselines"].items() if target in found},
        "also": also,
        "also_score": scores[also],
        "also_baselines": {name: found[also] for name, found in model["baselines"].items() if also in found},
        "audits": {audit["audit"]: audit["verdict"] for audit in model["audits"]},
        "promoted": model["decision"]["promote"],
        "reasons": model["decision"]["reasons"],
        "version": model["version"],
        "alias": model["decision"]["alias"],
    }
