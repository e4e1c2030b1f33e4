"""Retraining: what is new is measured, a decision falls with its reasons, and what it says is done."""

from collections.abc import Callable
from typing import Any

from prefect import flow
from rich.console import Console
from rich.table import Table

from flows.check import opened
from flows.parameters import Overrides, RecipeFile
from flows.pipeline import pipeline
from flows.table import WIDTH
from flows.watching import watched
from tasks.console import log
from tasks.drift import drift, remember
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.receipts import Receipt
from tasks.recipe import Recipe
from tasks.retrain import DECISION, changes, read_retraining, retrain


@flow
@watched
def retraining(recipe: RecipeFile = "recipes/starter.yaml", overrides: Overrides = []) -> Receipt:  # noqa: B006
    """Read the sources, measure what moved since the champions were trained, decide, and train what is called for.

    Args:
        recipe: A recipe of the workspace: the whole pipeline in one file.
        overrides: Fields of the recipe to change, as dotted.key=value: pretrain.train.steps=300 for example.
    """
    config = opened("retraining", recipe, overrides)
    decided = look(config, lambda step, *given: step(*given))
    decision = read_retraining(decided)
    for reason in decision.reasons:
        log.info("%-24s %s", "retraining", reason)
    log.info("%-24s %s", "retraining", decision.action)
    if decision.action == "nothing":
        return decided
    return pipeline(recipe, [*overrides, *changes(config, decision.action)])


def look(config: Recipe, call: Callable[..., Any]) -> Receipt:
    """Measure and decide, without acting; ``call`` runs a step, as a Prefect task or as a plain function."""
    remember(config)
    prepared = call(prepare, config, call(ingest, config))
    decided: Receipt = call(retrain, config, call(drift, config, prepared))
    return decided


def run_drift(recipe: str, overrides: list[str]) -> int:
    """Print what moved and what `retraining` would do, and return the exit code."""
    decided = look(opened("drift", recipe, overrides), lambda step, *given: step.fn(*given))
    decision = read_retraining(decided)
    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False, markup=False)
    table = Table(title=f"{decided.recipe}: what moved since the champions were trained", title_justify="left")
    for column in ("model", "signal", "figure", "95 % interval", "threshold", "verdict"):
        table.add_column(column, overflow="fold")
    for found in decision.findings:
        table.add_row(found.model, found.signal, found.value, found.interval, found.limit, found.verdict)
    console.print(table)
    for reason in decision.reasons:
        console.print(reason, soft_wrap=True)
    kept = f"{decided.directory}/{DECISION}.md"
    console.print(f"\n{recipe}: retraining would do {decision.action}; kept in {kept}", soft_wrap=True)
    return 0
