"""Step 9: what came out, in one place: report.json for programs, report.md and report.html for people."""

import json
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from prefect import task

from tasks import in_context
from tasks.assess import ITEMS, PREDICTIONS, SCORES
from tasks.audit import AUDITS
from tasks.audit_table import not_asked
from tasks.clean_part import clean_scores
from tasks.compare import compare
from tasks.cost import ledger, steps_of
from tasks.evidence import gaps
from tasks.guard import read_guard
from tasks.mitigate import NONE, read_mitigation
from tasks.overlap import read_overlap
from tasks.paired import read_items
from tasks.planned import beside_plan, read_plan
from tasks.policy import load_policy
from tasks.promote import read_decision
from tasks.readers import read_rows
from tasks.receipts import Receipt, Result, run_step
from tasks.recipe import FOUNDATION, Recipe
from tasks.registered import find
from tasks.report_examples import example
from tasks.transfer import one_pair, read_curve

REPORT = "report"
EXAMPLES = 8


@task
def report(
    recipe: Recipe,
    ingested: Receipt,
    prepared: Receipt,
    encoded: Receipt,
    overlapping: Receipt,
    results: dict[str, Result],
    failed: dict[str, str],
    gains: dict[str, Receipt],
) -> Receipt:
    """Write the report, show it on the Prefect page and keep it with the foundation's MLflow run.

    ``failed`` says in one line of each model that was not made why it was not; ``gains`` are the comparisons with
    training from scratch over seeds, where there are such.
    """

    def compute(out: Path, key: str) -> dict[str, Any]:
        from tasks.report_pages import write_pages

        content = gather(recipe, ingested, prepared, encoded, overlapping, results, failed, gains)
        (out / f"{REPORT}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_pages(content, out)
        return {"table": content["table"], "failed": content["failed"]}

    receipt = run_step(
        recipe.name,
        "report",
        config={
            "seed": recipe.seed,
            "failed": failed,
            "cost": recipe.cost.model_dump(),
            "planned": (read_plan(recipe) or {}).get("total"),
        },
        parents=[
            overlapping.part(),
            *(
                receipt.part()
                for found in results.values()
                for receipt in (found.assessed, found.guarded, found.promoted)
                if receipt
            ),
            *(gain.part() for gain in gains.values()),
        ],
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
    decided = results[FOUNDATION].promoted
    assert decided is not None, "a report is written after the decisions"
    run_id = decided.metrics["run_id"]
    tracking.try_to(lambda: tracking.keep(run_id, receipt.directory))


def gather(
    recipe: Recipe,
    ingested: Receipt,
    prepared: Receipt,
    encoded: Receipt,
    overlapping: Receipt,
    results: dict[str, Result],
    failed: dict[str, str],
    gains: dict[str, Receipt],
) -> dict[str, Any]:
    """Return everything that the report says, as plain values."""
    policy = load_policy(Path(recipe.policy))
    models = {name: _model(recipe, name, prepared, result) for name, result in results.items()}
    overlaps = read_overlap(overlapping)
    targets = {name: getattr(policy, found["kind"]).target for name, found in models.items()}
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "data": {
            "ingested": ingested.metrics,
            "prepared": prepared.metrics,
            "tokenizer": encoded.metrics,
            "data_dvc": models[FOUNDATION]["lineage"]["data_dvc"],
        },
        "models": models,
        "contamination": {**overlaps, "scores": clean_scores(recipe, results, overlaps["sets"], targets)},
        "failed": [
            {"model": recipe.registered_name(name), "kind": recipe.kind(name), "reason": reason}
            for name, reason in failed.items()
        ],
        "worth": {
            name: {
                "model": recipe.registered_name(name),
                "curve": read_curve(gains[name]) if name in gains else None,
                "pair": one_pair(recipe, name, targets[name], found.assessed),
                "mitigation": found.mitigated.metrics["kept"] if found.mitigated else NONE,
            }
            for name, found in results.items()
            if name != FOUNDATION and recipe.has_control(name)
        },
        "cost": _costs(recipe, [ingested, prepared, encoded, overlapping], results, gains),
        "table": [_row(found, targets[name], _shown(recipe.objective(name))) for name, found in models.items()],
    }


def _shown(objective: str) -> str:
    """Return the score that stands beside the one that decides."""
    return str(import_module(f"tasks.assessments.{objective}").SHOWN)


def _control(recipe: Recipe, name: str, result: Result) -> Receipt | None:
    """Return the twin from scratch, where the model has one."""
    return result.beside if name != FOUNDATION and recipe.has_control(name) else None


def _model(recipe: Recipe, name: str, prepared: Receipt, result: Result) -> dict[str, Any]:
    assert result.promoted is not None, "a report is written after the decisions"
    decision, record = read_decision(result.promoted)
    data = "corpus" if name == FOUNDATION else recipe.specialists[name].data
    control = _control(recipe, name, result)
    return {
        "model": name,
        "registered_name": recipe.registered_name(name),
        "kind": recipe.kind(name),
        "sources": sorted({source.kind for source in recipe.data.datasets[data].train}),
        "version": record["version"],
        "run_id": record["run_id"],
        "decision": decision.model_dump(mode="json"),
        "lineage": record["lineage"],
        "scores": json.loads((result.assessed.directory / SCORES).read_text()),
        "baselines": result.assessed.metrics["baselines"],
        "gaps": _gaps(recipe, name, result),
        "audits": [_shown_audit(audit) for audit in json.loads((result.audited.directory / AUDITS).read_text())],
        "gates": getattr(load_policy(Path(recipe.policy)), recipe.kind(name)).audits,
        "not_made": not_asked(recipe.kind(name), recipe.audit),
        "mitigation": read_mitigation(result.mitigated) if result.mitigated else None,
        "training": _summary(result.trained),
        "curve": _curve(result.trained),
        "pretrained_curve": _curve(result.pretrained),
        "control_curve": _curve(control),
        "guard": read_guard(result.guarded) if result.guarded else None,
        "in_context": in_context.table(result.in_context) if result.in_context else [],
        "against": _against(f"{recipe.registered_name(name)}/{record['version']}", record),
        "examples": _examples(recipe, name, prepared.part(data).directory, result.assessed.directory / PREDICTIONS),
    }


def _against(version: str, record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the comparison with the champion that stood before the decision; None where none did."""
    before = record.get("champion_before")
    if before is None:
        return None
    champion = f"{record['model']}/{before}"
    try:
        return {"champion": champion, "found": compare(find(version), find(champion), examples=0, again=False)}
    except ValueError as error:
        return {"champion": champion, "found": None, "reason": str(error)}


def _gaps(recipe: Recipe, name: str, result: Result) -> dict[str, Any]:
    """Return score -> the paired gap to the twin from scratch, or to the model before; a foundation has neither."""
    if name == FOUNDATION:
        return {}
    items = read_items(result.assessed.directory / ITEMS)
    ours, theirs = items["model"], items.get(recipe.beside(name), {})
    return {score: gap.model_dump(mode="json") for score, gap in gaps(ours, theirs, sorted(ours)).items()}


def _shown_audit(audit: dict[str, Any]) -> dict[str, Any]:
    """Return an audit without the values of its single items, which stand in the step's own file."""
    return {**audit, "details": {key: value for key, value in audit["details"].items() if key != "items"}}


def _summary(trained: Receipt) -> dict[str, Any]:
    """Return what the training process wrote of itself; a base that is taken as it is was not trained."""
    path = trained.directory / "summary.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _examples(recipe: Recipe, name: str, data: Path, predictions: Path) -> list[dict[str, Any]]:
    """Return the first predictions with what was asked; a foundation has none."""
    if not predictions.exists():
        return []
    answers = {row["id"]: row for row in islice(read_rows(predictions), EXAMPLES)}
    rows = (row for row in read_rows(data / "test.jsonl") if row["id"] in answers)
    return [example(recipe.kind(name), row, answers[row["id"]]) for row in rows]


def _curve(trained: Receipt | None) -> dict[str, list[list[float]]]:
    """Return the loss curves of a training run: key -> [[step, value], ...]; none where nothing was trained."""
    curves: dict[str, list[list[float]]] = {}
    history = trained.directory / "history.jsonl" if trained else None
    for row in read_rows(history) if history and history.exists() else []:
        if "loss" in row.get("key", ""):
            curves.setdefault(row["key"], []).append([row["step"], row["value"]])
    return curves


def _costs(
    recipe: Recipe, common: list[Receipt], results: dict[str, Result], gains: dict[str, Receipt]
) -> dict[str, Any]:
    """Return the costs of all steps but the report, which is not done yet, and what was planned of them."""
    steps = {
        name: steps_of(recipe.name, name, result, _control(recipe, name, result), gains.get(name))
        for name, result in results.items()
    }
    every = [*common, *(receipt for receipts in steps.values() for receipt in receipts)]
    found = ledger(recipe.cost, common, steps, results, len(recipe.specialists))
    return {**found, "planned": beside_plan(read_plan(recipe), every)}


def _row(model: dict[str, Any], target: str, also: str) -> dict[str, Any]:
    """Return the model's line of the closing table: the score that the gate decides on, and one to go with it."""
    scores = {name: score["value"] for name, score in model["scores"]["model"]["scores"].items()}
    return {
        "model": model["registered_name"],
        "kind": model["kind"],
        "metric": target,
        "score": scores.get(target),
        "baselines": {name: found[target] for name, found in model["baselines"].items() if target in found},
        "also": also,
        "also_score": scores.get(also),
        "also_baselines": {name: found[also] for name, found in model["baselines"].items() if also in found},
        "audits": {audit["audit"]: audit["verdict"] for audit in model["audits"]},
        "promoted": model["decision"]["promote"],
        "reasons": model["decision"]["reasons"],
        "version": model["version"],
        "alias": model["decision"]["alias"],
    }
