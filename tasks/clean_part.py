"""Scores on the clean part of a set, beside the whole: without the items that stand in what a model learnt from.

A clean part is a choice of items that may be easier or harder than the rest; that the scores differ tells that
memory may have helped, not that it did (A. Brown et al., Language models are few-shot learners, 2020, appendix C).
"""

import json
from typing import Any

import numpy as np

from tasks import in_context
from tasks.assess import ITEMS, PREDICTIONS
from tasks.audit import read_audits
from tasks.audits.item_values import ItemValues, item_values
from tasks.audits.statistics import Interval, percentile_interval, ratio_resamples
from tasks.paired import Terms, interval, read_items
from tasks.readers import read_rows
from tasks.receipts import Result
from tasks.recipe import FOUNDATION, Recipe

AUDITS = {
    "crows_pairs": "crows_pairs",
    "winobias": "winobias",
    "stereoset": "stereoset",
    "bbq_ambiguous": "bbq",
    "bbq_disambiguated": "bbq",
}
"""Audits whose results are told item by item -> the section of the set that they ask."""


def clean_scores(
    recipe: Recipe, results: dict[str, Result], sets: dict[str, Any], targets: dict[str, str]
) -> list[dict[str, Any]]:
    """Return a line for every score on a set that has items which its model learnt from.

    Args:
        sets: what `tasks.overlap.look` found; `targets`: by model the score that decides.

    Fields: model, set, metric, n and value with low and high on the whole, and the same on the clean part under
    clean_n, clean_value, clean_low and clean_high (None where nothing is left, or too little for an interval).
    """
    found = []
    for model, result in results.items():
        data = "corpus" if model == FOUNDATION else recipe.specialists[model].data
        name = recipe.registered_name(model)
        if model != FOUNDATION and sets[data]["dirty"]:
            found += _tested(result, sets[data]["dirty"], targets[model], recipe.seed, {"model": name, "set": data})
        for audit in read_audits(result.audited):
            own = f"audit/{AUDITS.get(audit.audit, '')}"
            values = item_values(audit) if own in sets and sets[own]["dirty"] else None
            if values is not None:
                line = {"model": name, "set": own, "metric": f"{audit.audit}: {audit.metric}", "n": len(values.ids)}
                whole = {"value": audit.estimate, "low": audit.low, "high": audit.high}
                found.append({**line, **whole, **_audited(values, set(sets[own]["dirty"]), recipe.seed)})
        if result.in_context is not None:
            found += _prompted(result, sets, recipe, name)
    return found


def _tested(result: Result, dirty: list[str], target: str, seed: int, line: dict[str, Any]) -> list[dict[str, Any]]:
    own = read_items(result.assessed.directory / ITEMS)["model"].get(target)
    ids = [row["id"] for row in read_rows(result.assessed.directory / PREDICTIONS)]
    if own is None or len(own) != len(ids):  # a score that is no sum over the rows
        return []
    kept = np.array([name not in set(dirty) for name in ids])
    whole, left = interval(own, seed=seed), _part(own, kept)
    shown = {"n": len(own), "value": whole.estimate, "low": whole.low, "high": whole.high}
    return [{**line, "metric": target, **shown, **_shown(int(kept.sum()), interval(left, seed=seed) if left else None)}]


def _part(own: Terms, kept: np.ndarray) -> Terms | None:
    """Return the terms of some items; None where there are too few to resample."""
    if kept.sum() < 2:
        return None
    clusters = None if own.clusters is None else np.unique(own.clusters[kept], return_inverse=True)[1]
    return Terms(own.top[kept], own.bottom[kept], clusters)


def _prompted(result: Result, sets: dict[str, Any], recipe: Recipe, name: str) -> list[dict[str, Any]]:
    assert result.in_context is not None
    assert recipe.in_context is not None
    values = json.loads((result.in_context.directory / in_context.ITEMS).read_text(encoding="utf-8"))
    found = []
    for row in in_context.table(result.in_context):
        dirty = set(sets[f"in_context/{row['task']}"]["dirty"])
        if not dirty:
            continue
        kept = [v for number, v in values[f"{row['task']}/{row['shots']}"].items() if number not in dirty]
        clean = in_context.interval(kept, recipe.in_context.tasks[row["task"]].seed) if len(kept) > 1 else None
        shots = f"{row['metric']}, {row['shots']} examples"
        line = {"model": name, "set": f"in_context/{row['task']}", "metric": shots, "n": row["n"]}
        whole = {"value": row["score"], "low": row["low"], "high": row["high"]}
        found.append({**line, **whole, **_shown(len(kept), clean and Interval(*clean, 0.0))})
    return found


def _audited(values: ItemValues, dirty: set[str], seed: int) -> dict[str, Any]:
    """Return the estimate of an audit on the clean items, as `item_values.py` defines it."""
    kept = np.array([name not in dirty for name in values.ids])
    groups = np.array(values.groups or [1] * len(kept))[kept]
    weights = np.array(values.weights or [1.0] * len(kept), dtype=np.float64)[kept]
    numbers, clusters = np.array(values.values)[kept], [c for c, k in zip(values.clusters, kept, strict=True) if k]
    sides = [groups == side for side in (1, -1) if side in (values.groups or [1])]
    if any(weights[side].sum() == 0 for side in sides):
        return _shown(int(kept.sum()), None)
    estimate, drawn = 0.0, np.zeros(2000)
    for sign, side in zip((1, -1), sides, strict=False):
        top, bottom = np.where(side, weights * numbers, 0.0), np.where(side, weights, 0.0)
        estimate += sign * float(top.sum() / bottom.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = drawn + sign * ratio_resamples(top, bottom, clusters, len(drawn), seed)
    return _shown(int(kept.sum()), percentile_interval(estimate, drawn[np.isfinite(drawn)]))


def _shown(n: int, found: Interval | None) -> dict[str, Any]:
    value, low, high = (None, None, None) if found is None else found[:3]
    return {"clean_n": n, "clean_value": value, "clean_low": low, "clean_high": high}
