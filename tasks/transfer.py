"""Step 8b: what the foundation is worth to a specialist, over seeds and shares of its labels."""

import json
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from prefect import task

from tasks import tracking
from tasks.assess import ITEMS
from tasks.console import log
from tasks.learning_curve import MODEL, TWIN, Items, Point, Seed, curve, pair_gain
from tasks.paired import read_items
from tasks.policy import load_policy
from tasks.receipts import Receipt, run_step
from tasks.recipe import Recipe
from tasks.report_words import named, scored
from tasks.trials import Tried

CURVE = "curve.json"


@task
def transfer(recipe: Recipe, model: str, whole: Receipt, tried: list[Tried]) -> Receipt:
    """Put the pairs of trainings of ``model`` side by side: from the foundation, from scratch, and the baselines.

    Writes ``curve.json``: at each share of the labels every score as a mean over the seeds with its interval, and
    what the foundation gained over each contender, paired by item within a seed (`tasks.over_seeds` says how the two
    variations are taken together). Logs the gains with the MLflow run of ``whole``, the training on all labels.

    Args:
        tried: every pair, those of a share side by side (`tasks.trials.trials`).
    """
    policy = getattr(load_policy(Path(recipe.policy)), recipe.kind(model))
    shown = _metrics(recipe, model, policy.target)

    def compute(out: Path, key: str) -> dict[str, Any]:
        points = [
            Point(share, pairs[0].trial.labels, pairs[0].trial.steps, [_seed(pair) for pair in pairs])
            for share, group in groupby(tried, key=lambda pair: pair.trial.share)
            if (pairs := list(group))
        ]
        known = points[0].seeds[0].items[MODEL]
        if policy.target not in known:
            raise ValueError(f"{recipe.policy}: {recipe.kind(model)}.target: {policy.target} cannot be paired by item")
        found = curve(points, [name for name in shown if name in known], policy.non_inferiority_margin)
        (out / CURVE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return {"transfer": {f"{point['share']:g}": _summary(point) for point in found["points"]}}

    receipt = run_step(
        recipe.name,
        f"transfer/{model}",
        config={"metrics": shown, "margin": policy.non_inferiority_margin, "trials": [_named(pair) for pair in tried]},
        parents=[
            part
            for pair in tried
            for part in (pair.trained.part("model"), pair.twin.part("model"), pair.assessed.part())
        ],
        compute=compute,
    )
    _tell(receipt, shown[0])
    # The time of the result, not of this call: delivered again they are the same rows, and MLflow keeps one of them.
    moment = int((receipt.directory / CURVE).stat().st_mtime * 1000)

    def send() -> None:
        run_id = tracking.run_of(recipe.name, whole.step, whole.key, whole.config, {})
        tracking.log_scores(run_id, {"transfer": receipt.metrics["transfer"]}, moment)

    tracking.try_to(send)
    return receipt


def read_curve(transferred: Receipt) -> dict[str, Any]:
    """Return the curve that a transfer step wrote."""
    found: dict[str, Any] = json.loads((transferred.directory / CURVE).read_text())
    return found


def one_pair(recipe: Recipe, model: str, target: str, assessed: Receipt) -> dict[str, Any]:
    """Return the same of the pipeline's own pair alone, which is of one seed: scores of both starts, and the gain."""
    items = read_items(assessed.directory / ITEMS)
    metrics = [name for name in _metrics(recipe, model, target) if name in items[MODEL]]
    return {
        "seed": recipe.seed,
        "metrics": metrics,
        "scores": {who: {name: items[who][name].value for name in metrics} for who in (MODEL, TWIN)},
        "gain": {name: pair_gain(items, name) for name in metrics},
    }


def _metrics(recipe: Recipe, model: str, target: str) -> list[str]:
    """Return the score that the gate reads, and the one that is shown beside it."""
    also = import_module(f"tasks.assessments.{recipe.objective(model)}").SHOWN
    return list(dict.fromkeys([target, str(also)]))


def _seed(pair: Tried) -> Seed:
    items: Items = read_items(pair.assessed.directory / ITEMS)
    losses = {who: _last_loss(made) for who, made in ((MODEL, pair.trained), (TWIN, pair.twin))}
    return Seed(pair.trial.seed, items, losses)


def _last_loss(made: Receipt) -> float:
    return float(json.loads((made.directory / "summary.json").read_text())["train_loss"]["final"])


def _named(pair: Tried) -> dict[str, Any]:
    return pair.trial.model_dump(mode="json")


def _summary(point: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a share that go to the tracking server."""
    return {
        "labels": point["labels"],
        **{
            metric: {
                "foundation": point["scores"][MODEL][metric]["value"],
                TWIN: point["scores"][TWIN][metric]["value"],
                "gain": gain["value"],
                "gain_low": gain["low"],
                "gain_high": gain["high"],
            }
            for metric, gain in point["gains"][TWIN].items()
        },
    }


def _tell(receipt: Receipt, metric: str) -> None:
    """Say in a line a share what came out."""
    for point in read_curve(receipt)["points"]:
        both = (f"{named(who)} {scored(metric, point['scores'][who][metric])}" for who in (MODEL, TWIN))
        log.info("%-24s %d labels, %s: %s", receipt.step, point["labels"], named(metric), ", ".join(both))
