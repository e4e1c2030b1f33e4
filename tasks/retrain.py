"""The decision to train again: held against the recipe's thresholds, written down, and turned into fields to change."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import task

from tasks import registry
from tasks.drift import read_measured
from tasks.receipts import Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe
from tasks.report_words import size
from tasks.retraining import Action, Decision, Measured, decide

DECISION = "decision"
"""Stem of the files: `decision.json` for programs, `decision.md` for people."""
DOES = {
    "nothing": "Nothing is trained.",
    "finetune": "The champion foundation is taken as it is, and the specialists are tuned from it on the data of now.",
    "continue_pretraining": "The champion foundation is trained on with the text of now, at a lower learning rate, and "
    "the specialists are tuned from it.",
    "from_scratch": "The whole recipe is run as it stands.",
}


@task
def retrain(recipe: Recipe, drifted: Receipt) -> Receipt:
    """Decide, and write `artifacts/<recipe>/retraining/decision.{json,md}`; shown as a Prefect artifact in a flow."""
    today = datetime.now(UTC).date()

    def compute(out: Path, key: str) -> dict[str, Any]:
        measured = read_measured(drifted)
        decision = decide(measured, recipe.retraining, today=today)
        record = {
            **decision.model_dump(mode="json"),
            "day": today.isoformat(),
            "thresholds": recipe.retraining.model_dump(mode="json"),
            "measured": measured.model_dump(mode="json"),
        }
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        (out / f"{DECISION}.json").write_text(text, encoding="utf-8")
        (out / f"{DECISION}.md").write_text(as_markdown(recipe.name, decision, measured), encoding="utf-8")
        return {"action": decision.action, "reasons": decision.reasons}

    receipt = run_step(
        recipe.name,
        "retraining",
        config={**recipe.retraining.model_dump(mode="json"), "day": today.isoformat()},
        parents=[drifted.part()],
        compute=compute,
    )
    _show(recipe, receipt)
    return receipt


def read_retraining(decided: Receipt) -> Decision:
    """Return the decision that the step wrote."""
    record = json.loads((decided.directory / f"{DECISION}.json").read_text(encoding="utf-8"))
    return Decision.model_validate({name: record[name] for name in Decision.model_fields})


def changes(recipe: Recipe, action: Action) -> list[str]:
    """Return what an action changes in the recipe, as dotted.key=value.

    Raises:
        ValueError: the champion foundation that it starts from is no longer in the registry.
    """
    if action in ("nothing", "from_scratch"):
        return []
    name = recipe.registered_name(FOUNDATION)
    found = registry.champion(name)
    if found is None:
        raise ValueError(f"{name}@champion: is not in the registry, so there is no foundation to {action} from")
    train = recipe.pretrain.train
    if action == "continue_pretraining":
        assert train is not None, "where a foundation is not trained, nothing calls for more of it"
        share = recipe.retraining.learning_rate_share
        train = train.model_copy(update={"learning_rate": train.learning_rate * share})
        adapt = []
    else:
        train, adapt = None, ["adapt=null"]  # what was adapted is so already
    model = recipe.pretrain.model.model_dump_json(exclude_unset=True)
    return [
        f"pretrain.base={_local(registry.model_directory(name, found[0]))}",
        "pretrain.revision=''",
        "pretrain.budget=''",
        f"pretrain.model={model}",
        f"pretrain.train={'null' if train is None else train.model_dump_json()}",
        *adapt,
    ]


def _local(directory: Path) -> Path:
    """Return a directory of the workspace by its name there, so that the workspace may move."""
    here = Path.cwd().resolve()
    return directory.resolve().relative_to(here) if directory.resolve().is_relative_to(here) else directory


def _show(recipe: Recipe, receipt: Receipt) -> None:
    from prefect.artifacts import create_markdown_artifact
    from prefect.context import TaskRunContext

    if TaskRunContext.get() is not None:
        text = (receipt.directory / f"{DECISION}.md").read_text(encoding="utf-8")
        create_markdown_artifact(
            text, key=f"{recipe.name}-retraining", description=f"Whether {recipe.name} is trained again, and why"
        )


def as_markdown(name: str, decision: Decision, measured: Measured) -> str:
    """Return the decision as a page: what is done, why, and everything that was looked at in a table."""
    learnt = f", trained as {measured.learnt}" if measured.learnt != measured.version else ""
    lines = [
        f"# {name}: {decision.action.replace('_', ' ')}",
        "",
        DOES[decision.action],
        "",
        f"Champion foundation: {measured.version or 'none'}{learnt}. {_data(measured)}",
        "",
        *(f"* {_cell(reason)}" for reason in decision.reasons),
        "",
        "| model | signal | figure | 95 % interval | threshold | verdict | calls for |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in decision.findings:
        calls = found.action.replace("_", " ") if found.verdict == "over" else ""
        shown = found.model, found.signal, found.value, found.interval, found.limit, found.verdict, calls
        lines.append(f"| {' | '.join(map(_cell, shown))} |")
    return "\n".join(lines) + "\n"


def _data(measured: Measured) -> str:
    if not measured.version:
        return ""
    if not measured.changed:
        return "Its pretraining text is the same as now."
    if measured.new_rows is None:
        return "Its pretraining text was another one."
    return (
        f"Since then {measured.new_rows:,} documents ({size(measured.new_bytes or 0)}) came and "
        f"{measured.gone_rows or 0:,} went."
    )


def _cell(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line of a table: labels are a user's own words."""
    for mark in "\\|*_`<>[]":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
