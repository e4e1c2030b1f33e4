"""What a person is shown who is asked for a promotion: the report of one version, short enough for a form."""

from tasks import registry
from tasks import report_words as words
from tasks.decide import Decision
from tasks.evidence import Evidence


def summary(name: str, version: str) -> str:
    """Return what is known of a version, as Markdown for the form that asks for it."""
    tags = registry.tags_of(name, version) or {}
    evidence = Evidence.model_validate_json(tags[registry.EVIDENCE])
    decision = Decision.model_validate_json(tags[registry.DECISION])
    lines = [f"## {name}, version {version}", "", f"A {words.named(evidence.kind)} model that passed every gate.", ""]
    lines += ["| score | 95 % interval | champion | beside |", "|---|---|---|---|"]
    for metric, value in evidence.metrics.items():
        low, high = evidence.intervals.get(metric, (None, None))
        whole = words.scored(metric, {"value": value, "low": low, "high": high})
        gap = evidence.to_champion.get(metric)
        against = words.difference(metric, gap.model_dump()) if gap else words.NONE
        beside = "; ".join(
            f"{words.named(other)} {words.score(metric, found[metric])}"
            for other, found in evidence.baselines.items()
            if metric in found
        )
        lines.append(f"| {words.named(metric)} | {whole} | {against} | {beside or words.NONE} |")
    lines += ["", "| audit | verdict | estimate | margin |", "|---|---|---|---|"]
    for audit in evidence.audits:
        row = audit.model_dump(mode="json")
        lines.append(
            f"| {words.named(audit.audit)} | {audit.verdict.value} | {words.audited(row)} | {words.margin(row)} |"
        )
    return "\n".join([*lines, "", "What the gate said:", "", *(f"* {reason}" for reason in decision.reasons)])
