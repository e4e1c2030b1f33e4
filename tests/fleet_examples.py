"""A fleet by hand: one foundation of two versions, six specialists of three recipes, two stale and one held back."""

import json
from typing import Any

from tasks.ledger import Move
from tasks.lineage import Version

DAY = 86_400_000
SCORES = {
    "foundation": "bits_per_byte",
    "classification": "macro_f1",
    "instruction": "rouge_l",
    "token_classification": "f1",
    "preference": "preference_accuracy",
}


def audit(name: str, verdict: str) -> dict[str, Any]:
    return {"audit": name, "verdict": verdict, "metric": "gap"}


def version(
    reference: str,
    kind: str,
    value: float,
    *aliases: str,
    audits: dict[str, str] | None = None,
    reasons: tuple[str, ...] = (),
    **carried: str,
) -> Version:
    """Return a version; role=name/version among what it carries becomes the tags that a promotion writes."""
    name, _, number = reference.partition("/")
    metric = SCORES[kind]
    tags = {
        "recipe": name.rpartition("-")[0],
        "weights_digest": f"weights of {reference}",
        "corpus_digest": "c" * 64,
        "seconds": "73.2",
        "evidence": json.dumps(
            {
                "kind": kind,
                "metrics": {metric: value},
                "intervals": {metric: [value - 0.012, value + 0.011]},
                "audits": [audit(*each) for each in (audits or {}).items()],
            }
        ),
        "decision": json.dumps(
            {
                "model": name,
                "promote": not reasons,
                "alias": None if reasons else "champion",
                "reasons": [*reasons],
            }
        ),
    }
    for field, value_of in carried.items():
        if field in ("foundation", "start"):
            parent, _, parent_number = value_of.partition("/")
            tags |= {field: parent, f"{field}_version": parent_number}
            tags[f"{field}_weights_digest"] = f"weights of {value_of}"
        else:
            tags[field] = value_of
    if kind == "foundation" and tags.get("base"):
        tags["base_weights_digest"] = f"weights of {tags['base'].removeprefix('models:/')}"
    created = 1_763_000_000_000 + int(number) * DAY
    return Version(name=name, version=number, aliases=aliases, created=created, carried=tags)


WORSE = (
    "pass: beats the baseline majority: macro F1 0.8120 against 0.4012, a gain of +0.4108 [+0.3801, +0.4400]; its "
    "lower end is to be above +0.05.",
    "fail: worse than the champion: macro_f1 0.8120 against the champion's 0.8710, a gain of -0.0590 [-0.0910, "
    "-0.0270]; its lower end is to be above 0.",
    "fail: the audit counterfactual says FAIL: the flip rate 0.0410 [0.0280, 0.0570] is above the margin .02.",
)


def fleet() -> list[Version]:
    """Return the versions: `town` made the foundation anew; `desk` and `court` start from it, and differ in luck."""
    fails = {"counterfactual": "FAIL", "group_fairness": "PASS", "label_association": "INCONCLUSIVE"}
    gap = {"occupation_pronoun": "PASS"}
    flips = {"counterfactual": "PASS", "group_fairness": "PASS", "label_association": "INCONCLUSIVE"}
    town = {"foundation": "town-foundation/2"}
    old, new = {"foundation": "desk-foundation/1"}, {"foundation": "desk-foundation/2"}
    court = {"foundation": "court-foundation/1"}
    return [
        version("town-foundation/1", "foundation", 1.934, audits=gap, base=""),
        version("town-foundation/2", "foundation", 1.887, "champion", audits=gap, base=""),
        version("town-reviews/2", "classification", 0.972, "champion", audits=flips, **town),
        version("town-assistant/2", "instruction", 0.983, "champion", audits=gap, **town),
        version("town-clerk/2", "preference", 0.871, "champion", audits=gap, start="town-assistant/2", **town),
        version("desk-foundation/1", "foundation", 1.99, audits=gap, base="models:/town-foundation/1"),
        version("desk-foundation/2", "foundation", 1.93, "champion", audits=gap, base="models:/town-foundation/2"),
        version("desk-mail/1", "classification", 0.871, "champion", audits=flips, **old),
        version("desk-mail/2", "classification", 0.812, audits=fails, reasons=WORSE, **new),
        version("desk-names/2", "token_classification", 0.934, "champion", audits={"name_recall": "PASS"}, **new),
        version("court-foundation/1", "foundation", 2.11, "champion", audits=gap, base="models:/town-foundation/1"),
        version("court-rulings/1", "classification", 0.796, "champion", audits=flips, **court),
    ]


def histories() -> dict[str, list[Move]]:
    """Return the moves of some of them."""

    def move(number: int, version: str, how: Any, by: str = "the gate", reason: str = "") -> Move:
        at = f"2025-11-1{3 + number}T09:30:00+00:00"
        return Move(number=number, how=how, version=version, before=None, by=by, at=at, reason=reason, done=True)

    return {
        "town-foundation": [move(1, "1", "promoted"), move(2, "2", "approved", "A. Person", "read the audits, fine")],
        "desk-mail": [move(1, "1", "promoted")],
    }
