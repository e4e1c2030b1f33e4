"""How the audits of classifiers ask a trained model: on its own rows or on a published set."""

from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.audits import (
    counterfactual,
    group_fairness,
    label_association,
    labelled_texts,
    selection_gap,
    subgroup_auc,
)
from tasks.audits.verdict import AuditResult

if TYPE_CHECKING:
    from tasks.audit_table import Subject


def counterfactuals(subject: "Subject") -> list[AuditResult]:
    """Audit a classifier on its own test rows."""
    texts = [row["text"] for row in subject.split("test")]
    names = subject.model.label_names
    ask = partial(counterfactual.audit, label_names=names, lexicon=subject.lexicon)
    return [ask(subject.model.classify, texts, subject.config.counterfactual, subject.capability)]


def labels(subject: "Subject") -> list[AuditResult]:
    """Audit the training rows of a classifier."""
    config, groups_of = subject.config.label_association, label_association.gender_groups(subject.lexicon)
    return [label_association.audit(subject.split("train"), config, groups_of=groups_of, where="train.jsonl")]


def _labelled(subject: "Subject", config: Any) -> list[labelled_texts.LabelledText]:
    if config.sources:
        return labelled_texts.read(config, subject.root)
    return [labelled_texts.LabelledText(row["text"], row["label"]) for row in subject.split("test")]


def _groups_of(subject: "Subject", axis: str) -> labelled_texts.GroupsOf:
    """Return what tells the groups that a text names: of an axis of the lexicon, or he and she."""
    if axis:
        return partial(subject.lexicon.mentions, axis=axis)
    return label_association.gender_groups(subject.lexicon)


def groups(subject: "Subject") -> list[AuditResult]:
    """Audit a classifier's rates by group, on its own test rows or on a published set."""
    config, names = subject.config.group_fairness, subject.model.label_names
    ask = partial(group_fairness.audit, label_names=names, groups_of=_groups_of(subject, config.axis))
    return [ask(subject.model.classify, _labelled(subject, config), config, subject.capability)]


def growth_over_data(subject: "Subject") -> list[AuditResult]:
    """Hold a classifier's rates by group against its training rows; on a published set, which has none, not made."""
    config, names = subject.config.group_fairness, subject.model.label_names
    if config.sources:
        return []
    ask = partial(selection_gap.audit, label_names=names, groups_of=_groups_of(subject, config.axis))
    rows, margin = subject.split("train"), subject.config.amplification_margin
    return [ask(subject.model.classify, _labelled(subject, config), rows, config, subject.capability, margin)]


def rankings(subject: "Subject") -> list[AuditResult]:
    """Audit a classifier's scores by group, on its own test rows or on a published set."""
    config, names = subject.config.subgroup_auc, subject.model.label_names
    ask = partial(subgroup_auc.audit, label_names=names, groups_of=_groups_of(subject, config.axis))
    return [ask(subject.model.classify, _labelled(subject, config), config, subject.capability)]
