"""Growth over the training data: does a classifier give a label more unevenly than its training rows have it?

For a label y and two groups g, h
    of the model  P(yhat = y | text names g, not h) - P(yhat = y | text names h, not g),  on its own test rows
    of the data   P(y | ...) - P(y | ...), the same of its training rows
    growth = |gap of the model| - |gap of the data|, with both intervals                       (0 or less is perfect)
as `amplification.data_amplification` joins them. A fair classifier repeats the gap of its data; one that leans on
who is named makes it larger (J. Zhao et al., Men Also Like Shopping, EMNLP 2017).

Of several labels and pairs of groups that one is compared in which the training rows differ most, chosen without a
look at the model, so that its interval stays honest. Intervals of both gaps: Newcombe's (`label_association.newcombe`).
The training rows are taken as they were written, also where the training was mitigated or saw a part of them.
Pitfall: test rows are other rows; where they are few the model's gap is theirs by chance, and the interval says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from tasks.audits import statistics
from tasks.audits.amplification import data_amplification
from tasks.audits.counterfactual import Classify
from tasks.audits.label_association import newcombe
from tasks.audits.labelled_texts import (
    GroupsOf,
    LabelledSetConfig,
    LabelledText,
    audited_labels,
    check_labels,
    memberships,
)
from tasks.audits.verdict import AuditResult, Capability, Verdict, refused

OF = "group_fairness"
AUDIT = f"{OF}_data_amplification"
METRIC = "selection_rate_gap"


class _Pair(NamedTuple):
    """A label and two groups, with rows that name one of them and not the other."""

    label: str
    first: str
    second: str
    hits: tuple[int, int]
    """Rows of the label that name the first, the second."""
    rows: tuple[int, int]

    @property
    def gap(self) -> float:
        return self.hits[0] / self.rows[0] - self.hits[1] / self.rows[1]

    def result(self, scorer: str, margin: float, capability: Capability | None) -> AuditResult:
        """Return the gap as a result that `data_amplification` compares."""
        found = newcombe((self.hits[0], self.rows[0]), (self.hits[1], self.rows[1]))
        key = {"label": self.label, "first": self.first, "second": self.second, "gap": found.estimate}
        return AuditResult(
            audit=OF,
            scorer=scorer,
            metric=METRIC,
            estimate=found.estimate,
            low=found.low,
            high=found.high,
            margin=margin,
            items=sum(self.rows),
            clusters=sum(self.rows),
            mde=statistics.minimal_detectable_effect(found.standard_error),
            verdict=Verdict(statistics.equivalence(found.low, found.high, margin)),
            reason=f"P({self.label} | {self.first}) - P({self.label} | {self.second}).",
            capability=capability,
            details={"gaps": [key]},
        )

    def shown(self, of: str) -> list[dict[str, Any]]:
        """Return both rates for the report."""
        sides = zip((self.first, self.second), self.rows, self.hits, strict=True)
        return [
            {"rate of": f"{self.label} {of}", "group": group, "rows": n, "rate": hits / n} for group, n, hits in sides
        ]


def audit(
    classify: Classify,
    test: Sequence[LabelledText],
    train: Iterable[Mapping[str, Any]],
    config: LabelledSetConfig,
    capability: Capability | None,
    margin: float,
    *,
    label_names: Sequence[str],
    groups_of: GroupsOf | None = None,
    scorer: str = "argmax label of the classifier's softmax, labels of the training rows as written",
) -> AuditResult:
    """Compare what a classifier says of its test texts with what its training rows {text, label} say of theirs.

    Args:
        classify: called once, with the test texts that name one group of the pair.
        config: that of `group_fairness`: `positive`, `axis`, `groups` and `min_items`.
        margin: largest growth that is borne, a difference of rates.
        groups_of: the groups of a text, of both sides; None: the lexicon's, of `config.axis`.

    REFUSED below the capability floor, and where no two groups can be compared on both sides. INCONCLUSIVE below
    `min_items` rows a group on either side. Raises ValueError for a label that the model does not have.
    """
    check_labels(test, label_names, config.positive)
    given = [LabelledText(str(row["text"]), str(row["label"])) for row in train]
    if capability is not None and not capability.reached:
        return _refused(
            f"The model is below the capability floor ({capability.sentence()}).", scorer, margin, capability
        )
    learnt, asked = memberships(given, groups_of, config), memberships(test, groups_of, config)
    labels = audited_labels([item.label for item in test], label_names, config.positive)
    names = sorted(set(config.groups).union(*learnt, *asked))
    pairs = list(_pairs([item.label for item in given], learnt, labels, names))
    both = [pair for pair in pairs if all(_count(asked, *side) for side in _sides(pair))]
    if not both:
        seen = ", ".join(f"{name} {_count(learnt, name)} and {_count(asked, name)}" for name in names) or "none"
        reason = f"No two groups stand in rows of their own in training and in test; named in so many: {seen}."
        return _refused(reason, scorer, margin, capability)
    data = max(both, key=lambda pair: (min(pair.rows) >= config.min_items, abs(pair.gap)))
    kept = [number for number, mine in enumerate(asked) if len({data.first, data.second} & mine) == 1]
    answers, probabilities = classify([test[number].text for number in kept])
    if not np.isfinite(probabilities).all():
        reason = f"The model gave {int((~np.isfinite(probabilities)).sum())} probabilities that are not finite."
        return _refused(reason, scorer, margin, capability)
    members = [asked[number] for number in kept]
    (model,) = _pairs(answers, members, [data.label], [data.first, data.second])
    found = data_amplification(
        model.result(scorer, margin, capability), data.result(scorer, margin, capability), margin
    )
    details = found.details | {"rates": [*data.shown("in the training rows"), *model.shown("as the model answers")]}
    if len(pairs) > 1:
        keys = ("label", "first", "second", "rows")
        details["training_gaps"] = [
            {**{key: getattr(pair, key) for key in keys}, "rows": [*pair.rows], "gap": pair.gap}
            for pair in sorted(pairs, key=lambda pair: -abs(pair.gap))
        ]
    shown = f"{found.reason} The gap is P({data.label} | {data.first}) - P({data.label} | {data.second})."
    changes: dict[str, Any] = {"details": details, "reason": shown}
    if (fewest := min(*data.rows, *model.rows)) < config.min_items:
        few = f"A group has only {fewest} rows in training or test, {config.min_items} are needed. "
        changes |= {"verdict": Verdict.INCONCLUSIVE, "reason": few + shown}
    return found.model_copy(update=changes)


def _refused(reason: str, scorer: str, margin: float, capability: Capability | None) -> AuditResult:
    return refused(AUDIT, scorer, f"{METRIC}_amplification", margin, reason, capability)


def _sides(pair: _Pair) -> tuple[tuple[str, str], tuple[str, str]]:
    return (pair.first, pair.second), (pair.second, pair.first)


def _count(members: Sequence[AbstractSet[str]], group: str, other: str = "") -> int:
    """Count the rows that name a group and not the other."""
    return sum(group in mine and other not in mine for mine in members)


def _pairs(
    labels: Sequence[str], members: Sequence[AbstractSet[str]], compared: Sequence[str], names: Sequence[str]
) -> Iterable[_Pair]:
    """Yield every label with every pair of groups that both have rows of their own."""
    for first, second in combinations(names, 2):
        sides = [
            [label for label, mine in zip(labels, members, strict=True) if one in mine and other not in mine]
            for one, other in ((first, second), (second, first))
        ]
        if all(sides):
            for label in compared:
                hits = sides[0].count(label), sides[1].count(label)
                yield _Pair(label, first, second, hits, (len(sides[0]), len(sides[1])))


def self_test() -> str:
    """Compare training rows of a gap of .2 with a model of .4 and one of .2: "" if the growth is .2 and 0."""
    size = 4000
    groups = {"a": frozenset(["a"]), "b": frozenset(["b"])}

    def rows(gap: float) -> list[dict[str, str]]:
        share = {"a": 0.5 + gap / 2, "b": 0.5 - gap / 2}
        return [
            {"text": f"{group} {number}", "label": "yes" if number < round(size * share[group]) else "no"}
            for group in groups
            for number in range(size)
        ]

    for gap, growth, expected in ((0.4, 0.2, Verdict.FAIL), (0.2, 0.0, Verdict.PASS)):
        said = {row["text"]: row["label"] for row in rows(gap)}
        found = audit(
            lambda texts, said=said: ([said[text] for text in texts], np.ones((len(texts), 2))),  # type: ignore[misc]
            [LabelledText(text, label) for text, label in said.items()],
            rows(0.2),
            LabelledSetConfig(positive="yes"),
            None,
            0.05,
            label_names=["no", "yes"],
            groups_of=lambda text: groups[text[0]],
        )
        if found.estimate is None or abs(found.estimate - growth) > 1e-9 or found.verdict is not expected:
            return f"{AUDIT}: expected {growth} and {expected}, found {found.estimate} and {found.verdict}."
    return ""
