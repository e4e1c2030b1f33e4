"""The learning curve of a specialist over its labels: both starts and the baselines, with intervals over seeds."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from tasks.over_seeds import OverSeeds, over_seeds
from tasks.paired import Terms, difference

MODEL, TWIN = "model", "from_scratch"

Items = Mapping[str, Mapping[str, Terms]]
"""Contender -> score -> its sums over the items."""


class Seed(NamedTuple):
    """What one pair of trainings came to."""

    seed: int
    items: Items
    """Of both starts and of the baselines that learn from the same rows."""
    losses: Mapping[str, float]
    """MODEL and TWIN -> training loss at the end."""


class Point(NamedTuple):
    """One share of the labels."""

    share: float
    labels: int
    steps: int
    seeds: Sequence[Seed]


def curve(points: Sequence[Point], metrics: Sequence[str], margin: float) -> dict[str, Any]:
    """Return the curve as plain values.

    Args:
        metrics: the scores that are shown; the first of them decides what is said of saved labels.
        margin: difference of that score which still counts as a tie.
    """
    return {
        "metrics": list(metrics),
        "seeds": [own.seed for own in points[0].seeds],
        "margin": margin,
        "points": [_point(point, metrics) for point in points],
        "saved": saved_labels(points, metrics[0], margin),
    }


def saved_labels(points: Sequence[Point], metric: str, margin: float) -> dict[str, Any]:
    """Return the fewest labels with which the foundation is where training from scratch is with all, if that is shown.

    It is where at this share and at every larger one the interval of the difference to the twins on all labels lies
    above -``margin``, and where those twins learnt anything at all: more than every constant answer, that is, than
    the baseline majority (or all_o). Returns ``share``, ``labels`` and the ``gain`` there, or ``why`` there is none.
    """
    whole = points[-1]
    if whole.share < 1:
        return {"why": "no share is all labels"}
    constant = next(name for name in ("majority", "all_o") if name in whole.seeds[0].items)
    twins = [own.items[TWIN][metric] for own in whole.seeds]
    learnt = over_seeds(twins, [own.items[constant][metric] for own in whole.seeds])
    if learnt.low <= 0:
        return {"why": "not learnt", "baseline": constant, "gain": _plain(learnt)}
    reached: dict[str, Any] = {"why": "not reached"}
    for point in reversed(points):
        gain = over_seeds([own.items[MODEL][metric] for own in point.seeds], twins)
        if gain.low <= -margin:
            break
        reached = {"share": point.share, "labels": point.labels, "of": whole.labels, "gain": _plain(gain)}
    return reached if reached.get("share") != 1 else {"why": "not with fewer", "gain": reached["gain"]}


def _point(point: Point, metrics: Sequence[str]) -> dict[str, Any]:
    contenders = list(point.seeds[0].items)

    def sums(contender: str, metric: str) -> list[Terms]:
        return [own.items[contender][metric] for own in point.seeds]

    return {
        **{name: getattr(point, name) for name in ("share", "labels", "steps")},
        "scores": {who: {metric: _plain(over_seeds(sums(who, metric))) for metric in metrics} for who in contenders},
        "gains": {
            who: {metric: _plain(over_seeds(sums(MODEL, metric), sums(who, metric))) for metric in metrics}
            for who in contenders
            if who != MODEL
        },
        "losses": {who: fmean(own.losses[who] for own in point.seeds) for who in (MODEL, TWIN)},
        "by_seed": [_seed(own, contenders, metrics) for own in point.seeds],
    }


def _seed(own: Seed, contenders: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    return {
        "seed": own.seed,
        "scores": {who: {metric: own.items[who][metric].value for metric in metrics} for who in contenders},
        "gain": {metric: pair_gain(own.items, metric) for metric in metrics},
        "losses": dict(own.losses),
    }


def pair_gain(items: Items, metric: str) -> dict[str, float]:
    """Return what the foundation gained over its twin from scratch for one seed, paired by item."""
    found = difference(items[MODEL][metric], items[TWIN][metric]).interval
    return {"value": found.estimate, "low": found.low, "high": found.high}


def _plain(found: OverSeeds) -> dict[str, float | None]:
    return found._asdict()
