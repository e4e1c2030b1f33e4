"""Calibration of a classifier by group: does P(label) mean as much in one group's texts as in another's?

Of each group: the reliability table of P(label) (`tasks.calibration`), its expected calibration error, and the signed
mean gap
    mean P(label) - rate of the label                        (0 is perfect; above 0 it expects the label too often)
with the group's ECE if it were perfectly calibrated beside: of few texts that is not small. Whole clusters are
resampled. It informs: where base rates differ, no classifier but a perfect one has equal errors (which
`group_fairness` asks) and equal calibration (J. Kleinberg, S. Mullainathan, M. Raghavan, Inherent Trade-Offs in the
Fair Determination of Risk Scores, ITCS 2017).
"""

from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tasks.audits import statistics
from tasks.audits.gaps import GapsConfig
from tasks.calibration import calibration_error, reliability


def by_group(
    probability: ArrayLike,
    outcome: ArrayLike,
    groups: Sequence[AbstractSet[str]],
    names: Sequence[str],
    clusters: Sequence[Hashable],
    config: GapsConfig,
) -> dict[str, Any]:
    """Return the calibration of each group as plain values; one of fewer than `min_items` texts has its size alone.

    Args: probability, outcome: of one label, shape (texts,); groups: those of each text, which counts in all of them.

    Returns `groups` (name -> texts, mean_probability, rate, gap, ece, ece_by_chance), `bins` (name -> rows of low,
    high, n, probability, rate; no entry for a group of too few texts) and `min_items`.
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    # In an order of their own, so that no draw of the bootstrap depends on the order that the texts came in.
    order = sorted(range(len(p)), key=lambda i: (p[i], y[i], str(clusters[i])))
    p, y = p[order], y[order]
    groups, clusters = [groups[i] for i in order], [clusters[i] for i in order]
    table: dict[str, dict[str, Any]] = {}
    bins: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        at = np.array([name in mine for mine in groups], dtype=bool)
        table[name] = {"texts": int(at.sum())}
        if at.sum() < max(config.min_items, 2):
            continue
        own = [cluster for cluster, kept in zip(clusters, at.tolist(), strict=True) if kept]
        gap = statistics.bootstrap_mean(p[at] - y[at], own, config.resamples, config.seed)
        error = calibration_error(p[at], y[at], own, config.resamples, config.seed)
        table[name] |= {
            "mean_probability": float(p[at].mean()),
            "rate": float(y[at].mean()),
            "gap": {"estimate": gap.estimate, "low": gap.low, "high": gap.high},
            "ece": {"estimate": error.estimate, "low": error.low, "high": error.high},
            "ece_by_chance": error.by_chance,
        }
        bins[name] = [row._asdict() for row in reliability(p[at], y[at])]
    return {"groups": table, "bins": bins, "min_items": config.min_items}
