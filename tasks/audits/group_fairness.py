"""Group fairness of a classifier: does it find, or wrongly claim, a label more often in one group's texts?

Texts carry a true label and groups: the identities that they mention, or a column. Per label against the rest
    selection rate P(yhat=1 | g), TPR P(yhat=1 | y=1, g), FPR P(yhat=1 | y=0, g), beside the base rate P(y=1 | g)
    demographic parity, equal opportunity = max - min over groups of selection rate, TPR; equalised odds = the
    larger of the TPR's and the FPR's                                                              (0 is perfect)
(M. Hardt, E. Price, N. Srebro, Equality of Opportunity in Supervised Learning, NIPS 2016; tables by fairlearn.)
With two labels only the declared positive one is audited, else the rarer: the other's gaps are the same numbers.

The gate is on the signed TPR and FPR gaps of every pair of groups, judged as `gaps` says, because the
interval of a max - min never reaches 0. Whole clusters (templates, else equal texts) are resampled, all groups
together, so that a template with both groups stays a pair. The permutation p is exact: groups are dealt anew among
the texts of the same true label, which takes texts as exchangeable; it is the interval that knows of clusters.
A text of several groups counts in each of them, and on neither side of the permutation of a pair that it is in.
PASS needs as many positives (negatives) a group as show a gap of the margin with power .8, at the pooled rate.
Unequal base rates move selection rates of a fair classifier too: they are shown, and do not gate. Nor does each
group's calibration (`group_calibration`), which stands in the details.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.audits import statistics
from tasks.audits.counterfactual import Classify
from tasks.audits.gaps import Gap, GapKey, conclude, digests
from tasks.audits.group_calibration import by_group
from tasks.audits.labelled_texts import (
    GroupsOf,
    LabelledSetConfig,
    LabelledText,
    audited_labels,
    check_labels,
    memberships,
)
from tasks.audits.verdict import AuditResult, Capability, Verdict, refused

AUDIT = "group_fairness"
METRIC = "pairwise_rate_gap"
SELECTION, TPR, FPR = range(3)
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
Z2 = statistics.quantile(0.975) ** 2

Code = tuple[tuple[str, ...], str, str]
"""A text as the rates see it: its groups, its true and its predicted label."""


class GroupFairnessConfig(LabelledSetConfig):
    """What the group fairness audit demands of a classifier."""


def _group_size(margin: float, rate: float) -> int:
    """Give the n a group at which `statistics.detectable_rate_gap(n, rate)` falls to the margin."""
    return math.ceil(2 * rate * (1 - rate) * (statistics.minimal_detectable_effect(1.0) / margin) ** 2)


def audit(
    classify: Classify,
    items: Sequence[LabelledText],
    config: GroupFairnessConfig,
    capability: Capability | None,
    *,
    label_names: Sequence[str],
    groups_of: GroupsOf | None = None,
    scorer: str = "argmax label of the classifier's softmax",
    about: GapKey | None = None,
) -> AuditResult:
    """Audit one classifier on the texts that have a group; the others are left out.

    Args:
        classify: called once, with all texts that have a group.
        capability: accuracy beside its floor (`counterfactual.accuracy_capability`); below it REFUSED.
        label_names: the model's labels, what the columns of the probabilities stand for.
        groups_of: the groups of a text whose item brings none; None: the lexicon's, of `config.axis`.
        about: the gap whose numbers are reported, where not the deciding one: the parent's, for `amplification`.

    Raises ValueError for a label that the model does not have, with file and line, and for an unknown axis or gap.
    """
    check_labels(items, label_names, config.positive)
    frame: dict[str, Any] = {
        "audit": AUDIT,
        "scorer": scorer,
        "metric": METRIC,
        "margin": config.margin,
        "capability": capability,
    }
    if capability is not None and not capability.reached:
        reason = f"The model is below the capability floor ({capability.sentence()})."
        return refused(**frame, reason=reason, items=len(items))
    groups = memberships(items, groups_of, config)
    kept = [(item, mine) for item, mine in zip(items, groups, strict=True) if mine]
    names = sorted(set(config.groups).union(*groups))
    codes: list[Code] = []
    clusters = [item.text if item.cluster is None else item.cluster for item, _ in kept]
    if len(names) > 1 and kept:
        labels, probabilities = classify([item.text for item, _ in kept])
        rows = np.asarray(probabilities, dtype=np.float64)
        assert rows.shape == (len(kept), len(label_names)), f"probabilities of shape {rows.shape}"
        if not np.isfinite(rows).all():
            reason = f"The model gave {int((~np.isfinite(rows)).sum())} probabilities that are not finite."
            return refused(**frame, reason=reason, items=len(kept))
        codes = [(tuple(sorted(mine)), item.label, guess) for (item, mine), guess in zip(kept, labels, strict=True)]
    gaps: list[Gap] = []
    tables, calibration = {}, {}
    audited = audited_labels([item.label for item in items], label_names, config.positive)
    for label in audited if codes else []:
        found, tables[label] = _compare(codes, clusters, names, label, config)
        gaps += found
        true = [item.label == label for item, _ in kept]
        probability, members = rows[:, list(label_names).index(label)], [mine for _, mine in kept]
        calibration[label] = by_group(probability, true, members, names, clusters, config)
    details = {
        "texts": len(items),
        "texts_with_group": len(kept),
        "labels": tables,
        "calibration": calibration,
    }

    def items_of(gap: Gap) -> dict[str, Any]:
        rate, label = next((rate, label) for rate in (TPR, FPR) for label in audited if gap.of == _named(rate, label))
        sides = [
            (number, sign, float(guess == label))
            for number, (mine, truth, guess) in enumerate(codes)
            for sign, group in ((1, gap.first), (-1, gap.second))
            if group in mine and (truth == label) == (rate == TPR)
        ]
        prefix = f"{gap.of}, {gap.first} - {gap.second}: "
        texts = [f"{sign:+d} {kept[number][0].text}" for number, sign, _ in sides]
        return {
            "ids": [prefix + name for name in digests(texts)],
            "values": [value for _, _, value in sides],
            "clusters": digests((clusters[number] for number, _, _ in sides), once=False),
            "groups": [sign for _, sign, _ in sides],
        }

    result = partial(AuditResult, **frame, items=len(kept), clusters=len(set(clusters)))
    absent = f"{len(kept)} of {len(items)} texts have a group, and there are {len(names)} groups: nothing to compare."
    return conclude(result, gaps, config, details, absent, about, items_of)


def _named(rate: int, label: str) -> str:
    return f"{RATES[rate].replace('_', ' ')} of {label!r}"


def _compare(
    codes: Sequence[Code], clusters: Sequence[str], names: Sequence[str], label: str, config: GroupFairnessConfig
) -> tuple[list[Gap], dict[str, Any]]:
    """Return the gaps of one label against the rest, not yet judged, and its table by group."""
    column = {name: number for number, name in enumerate(names)}
    members: dict[str, list[Code]] = {}
    for cluster, code in zip(clusters, codes, strict=True):
        members.setdefault(cluster, []).append(code)
    # Clusters that hold the same are interchangeable: draw how many of each sort, not which. Sorted, so that
    # the order of the texts changes nothing.
    sorts = sorted(Counter(tuple(sorted(mine)) for mine in members.values()).items())
    hits, totals = np.zeros((2, len(sorts), len(RATES), len(names)))
    for number, (alike, _) in enumerate(sorts):
        for groups, truth, guess in alike:
            for rate in (SELECTION, TPR if truth == label else FPR):
                for group in groups:
                    totals[number, rate, column[group]] += 1
                    hits[number, rate, column[group]] += guess == label
    count = np.array([count for _, count in sorts])
    drawn = _resample(hits, totals, count, config)
    right, n, held = (np.tensordot(count, part, 1) for part in (hits, totals, totals > 0))
    strata = Counter(codes)
    gaps = []
    for rate, unit in ((TPR, f"texts labelled {label!r}"), (FPR, f"texts not labelled {label!r}")):
        for a, b in combinations(range(len(names)), 2):
            both = n[rate, a] > 0 and n[rate, b] > 0
            # Shrunk to the centre of Wilson's interval: a rate of 0 in a few texts needs more of them, not none.
            pooled = (right[rate, [a, b]].sum() + Z2 / 2) / (n[rate, [a, b]].sum() + Z2)
            gap = Gap(
                of=_named(rate, label),
                unit=unit,
                first=names[a],
                second=names[b],
                estimate=float(right[rate, a] / n[rate, a] - right[rate, b] / n[rate, b]) if both else None,
                items=(int(n[rate, a]), int(n[rate, b])),
                clusters=(int(held[rate, a]), int(held[rate, b])),
                needed=_group_size(config.margin, pooled),
                p_value=_exact_p(strata, names[a], names[b], label, rate) if both else 1.0,
            )
            gaps.append(gap.spread(drawn[:, rate, a] - drawn[:, rate, b]))
    table = _table(codes, label)
    for name, row in table["groups"].items():
        for rate, shown in enumerate(RATES):
            if row[shown] is not None:
                row[f"{shown}_interval"] = _interval(row[shown], drawn[:, rate, column[name]], held[rate, column[name]])
    return gaps, table


def _resample(
    hits: NDArray[np.float64], totals: NDArray[np.float64], count: NDArray[np.int64], config: GroupFairnessConfig
) -> NDArray[np.float64]:
    """Draw rates from resampled clusters, shape (resamples, rates, groups); nan where a draw has no text of one.

    hits, totals: per sort of cluster, shape (sorts, rates, groups); count: clusters of each sort.
    """
    random = np.random.default_rng(config.seed)
    drawn = []
    step = max(1, statistics.BLOCK // len(count))
    for start in range(0, config.resamples, step):
        size = min(step, config.resamples - start)
        weights = random.multinomial(count.sum(), count / count.sum(), size=size).astype(np.float64)
        with np.errstate(invalid="ignore"):
            drawn.append(np.tensordot(weights, hits, 1) / np.tensordot(weights, totals, 1))
    return np.concatenate(drawn)


def _interval(rate: float, drawn: NDArray[np.float64], clusters: float) -> list[float]:
    """Give the span of a rate's bootstrap interval and Wilson's for as many clusters: neither 0 nor 1 is certain."""
    exact = statistics.wilson(rate * clusters, clusters)
    found = statistics.percentile_interval(rate, drawn[np.isfinite(drawn)])
    return [min(found.low, exact.low), max(found.high, exact.high)]


def _exact_p(codes: Counter[Code], first: str, second: str, label: str, rate: int) -> float:
    """Give the exact two-sided permutation p of a rate's gap: groups dealt among the texts of the same true label.

    The first group's hits then are a sum of independent hypergeometric numbers, one a true label, and p sums what
    is no likelier than what is seen (with one true label: R. A. Fisher's exact test). Texts of both stay out.
    """
    from scipy.stats import hypergeom

    strata: dict[str, NDArray[np.int64]] = {}
    for (groups, truth, guess), count in codes.items():
        if (truth == label) == (rate == TPR) and (first in groups) != (second in groups):
            cell = strata.setdefault(truth, np.zeros((2, 2), dtype=np.int64))
            cell[int(second in groups), int(guess == label)] += count
    chances, seen = np.ones(1), 0
    for cell in strata.values():
        n, mine, right = int(cell.sum()), int(cell[0].sum()), int(cell[:, 1].sum())
        lowest = max(0, mine + right - n)
        chances = np.convolve(chances, hypergeom.pmf(np.arange(lowest, min(mine, right) + 1), n, right, mine))
        seen += int(cell[0, 1]) - lowest
    # What is as likely as the observed differs from it by rounding alone.
    return float(min(1.0, chances[chances <= chances[seen] * (1 + 1e-7)].sum()))


def _table(codes: Sequence[Code], label: str) -> dict[str, Any]:
    """Return the rates of each group by fairlearn's MetricFrame, and by how much they differ at most."""
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

    # Equal rows as one with a weight: the frame's time grows with the rows of each metric and group.
    rows = Counter((int(truth == label), int(guess == label), group) for mine, truth, guess in codes for group in mine)
    truth, guess, group = (list(column) for column in zip(*rows, strict=True))
    metrics = {
        "texts": lambda y_true, y_pred, sample_weight: float(np.sum(sample_weight)),
        "base_rate": lambda y_true, y_pred, sample_weight: float(np.average(y_true, weights=sample_weight)),
        "selection_rate": selection_rate,
        "true_positive_rate": partial(true_positive_rate, pos_label=1),
        "false_positive_rate": partial(false_positive_rate, pos_label=1),
    }
    frame = MetricFrame(
        metrics=metrics,
        y_true=truth,
        y_pred=guess,
        sensitive_features=group,
        sample_params={metric: {"sample_weight": list(rows.values())} for metric in metrics},
    ).by_group
    table: dict[str, dict[str, Any]] = {
        str(name): {metric: float(row[metric]) for metric in metrics} for name, row in frame.iterrows()
    }
    for row in table.values():
        row["texts"] = int(row["texts"])
        # fairlearn gives the rate of no text at all as 0.
        row.update({"true_positive_rate": None} if row["base_rate"] == 0 else {})
        row.update({"false_positive_rate": None} if row["base_rate"] == 1 else {})

    def widest(rate: int) -> float | None:
        known = [row[RATES[rate]] for row in table.values() if row[RATES[rate]] is not None]
        return max(known) - min(known) if known else None

    odds = [value for value in (widest(TPR), widest(FPR)) if value is not None]
    return {
        "groups": table,
        "demographic_parity_difference": widest(SELECTION),
        "equal_opportunity_difference": widest(TPR),
        "equalized_odds_difference": max(odds, default=None),
    }


def self_test() -> str:
    """Audit a table of TPR .9 and FPR .1, in one group .9 - s and .1 + s, at s = .2 and 0: "" if the gaps are s."""
    size = 600
    for s, expected in ((0.2, Verdict.FAIL), (0.0, Verdict.PASS)):
        items = [
            LabelledText(f"{group} {label} {number}", label, groups=frozenset([group]))
            for group in ("a", "b")
            for label in ("bad", "good")
            for number in range(size)
        ]

        def classify(texts: list[str], s: float = s) -> tuple[list[str], NDArray[np.floating]]:
            parts = [text.split() for text in texts]
            wrong = [int(number) < round(size * (0.1 + s * (group == "b"))) for group, _, number in parts]
            # The label is wrong where the text is among the first of its kind.
            bad = [(label == "bad") != miss for (_, label, _), miss in zip(parts, wrong, strict=True)]
            return ["bad" if flag else "good" for flag in bad], np.stack([bad, np.logical_not(bad)], axis=1).astype(
                float
            )

        found = audit(classify, items, GroupFairnessConfig(resamples=200), None, label_names=["bad", "good"])
        gaps = [abs(gap["estimate"]) for gap in found.details["gaps"]]
        if max(abs(gap - s) for gap in gaps) > 1e-9 or found.verdict is not expected:
            return f"{AUDIT}: expected gaps of {s} and {expected}, found {gaps} and {found.verdict}."
    return ""
