"""A person's word on a version: asked for by the policy, given with a reason, kept as tags that promote reads.

The gate decides first. A person can hold back what the gate lets through, and can let a version return that was
champion before; never does a person let through what the gate refused.
"""

import json
from typing import Any, Literal

from models.config import Config
from tasks import ledger, registry
from tasks.decide import Decision
from tasks.lineage import PREFIX

State = Literal["awaiting", "approved", "rejected", "rolled back"]
Answer = Literal["approve", "reject"]

APPROVAL = f"{PREFIX}approval"
WAITING = "note: every gate is passed; a person is to approve it."
WEIGHTS = f"{PREFIX}weights_digest"


class Word(Config):
    """What a person said of a version, or that nobody has yet."""

    version: str
    state: State
    by: str = ""
    at: str = ""
    reason: str = ""


def word(name: str, version: str | None, weights: str) -> Word | None:
    """Return the last word on a version, or on the weights that it holds; None where nobody was asked.

    What was rolled back does not return under another number: a roll back of any version with these weights counts,
    until one of them is approved. An approval of one version is none of another, whose evidence nobody saw.
    """
    said = [
        Word.model_validate(
            {"version": number, "state": tags[APPROVAL]}
            | {field: tags.get(f"{APPROVAL}_{field}", "") for field in ("by", "at", "reason")}
        )
        for number, tags in registry.with_tag(name, WEIGHTS, weights).items()
        if APPROVAL in tags
    ]
    own = next((each for each in said if each.version == version), None)
    if own is not None and own.state != "awaiting":
        return own
    others = [each for each in said if each.state in ("approved", "rolled back")]
    last = max(others, key=lambda each: (each.at, int(each.version)), default=None)
    return last if last is not None and last.state == "rolled back" else own


def weigh(decision: Decision, said: Word | None, *, asked: bool) -> Decision:
    """Return the gate's decision as it stands with a person's word.

    Args: asked: whether the policy asks for a person, and the version is not the champion already.
    """
    if said is not None and said.state in ("rejected", "rolled back"):
        return _held(decision, None, f"fail: {_told(said)}{_how(decision, said)}")
    if not decision.promote:
        return decision
    if said is not None and said.state == "approved":
        return decision.model_copy(update={"reasons": [*decision.reasons, f"pass: {_told(said)}"]})
    return (
        _held(decision, ledger.CHALLENGER, "note: every gate is passed; a person is to approve it.")
        if asked
        else decision
    )


def waits(decision: Decision, weighed: Decision) -> bool:
    """Return whether a decision waits for a person."""
    return decision.promote and not weighed.promote and weighed.alias == ledger.CHALLENGER


def answer(name: str, version: str, given: Answer, reason: str, by: str) -> str:
    """Approve or reject a version, and return a sentence that says what became of it; a repeat finishes one cut off.

    Raises:
        ValueError: there is no such version or no reason, or the version does not wait for anybody; in one line.
    """
    reason, reference = ledger.checked(reason), f"{name}/{version}"
    with registry.held(name):
        ledger.settle(name)
        tags, now = registry.tags_of(name, version), registry.model_of(name)[1].get(ledger.CHAMPION)
        if tags is None:
            raise ValueError(f"{reference}: no such registered version")
        state = tags.get(APPROVAL, "")
        if version == now:
            raise ValueError(f"{reference}: is the champion; `rollback {name}` takes it back")
        again = given == "approve" and (state == "rolled back" or version in _once(name))
        if not (state == "awaiting" or again or state == _state(given)):
            raise ValueError(f"{reference}: does not wait for a person: {_standing(tags)}")
        said = Word(version=version, state=_state(given), by=by or ledger.whoami(), at=ledger.moment(), reason=reason)
        decision = Decision.model_validate_json(tags[registry.DECISION])
        if given == "approve":
            whole = [line for line in decision.reasons if line != WAITING]
            weighed = Decision(model=name, promote=True, alias="champion", reasons=[*whole, f"pass: {_told(said)}"])
        else:
            weighed = _held(decision, None, f"fail: {_told(said)}")
        for field in ("by", "at", "reason"):
            registry.note(name, f"{APPROVAL}_{field}", getattr(said, field), version)
        registry.note(name, registry.DECISION, weighed.model_dump_json(), version)
        registry.note(name, APPROVAL, said.state, version)
        if given == "approve":
            ledger.record(name, "approved", version, said.by, reason)
            return f"{reference} is champion: approved by {said.by}: {reason}"
        if registry.model_of(name)[1].get(ledger.CHALLENGER) == version:
            registry.point(name, ledger.CHALLENGER, None)
        return f"{reference} is refused: rejected by {said.by}: {reason}"


def _held(decision: Decision, alias: Any, sentence: str) -> Decision:
    return decision.model_copy(update={"promote": False, "alias": alias, "reasons": [*decision.reasons, sentence]})


def _told(said: Word) -> str:
    return f"{said.state} by {said.by or 'an unknown person'} on {said.at[:10]}: {said.reason}"


def _how(decision: Decision, said: Word) -> str:
    if said.state != "rolled back":
        return ""
    return f" (`python -m flows approve {decision.model}/{said.version}` lets it return)"


def _state(given: Answer) -> State:
    return "approved" if given == "approve" else "rejected"


def _once(name: str) -> set[str]:
    return {version for move in ledger.moves(name) for version in (move.version, *move.earlier)}


def _standing(tags: dict[str, str]) -> str:
    """Say in a few words what was decided on a version."""
    state = tags.get(APPROVAL)
    if state:
        return f"it is {state} by {tags.get(f'{APPROVAL}_by', 'nobody')}"
    decision = json.loads(tags.get(registry.DECISION, "{}"))
    if decision.get("alias") == ledger.CHALLENGER:
        return "the gate did not find it better than the champion"
    return "the gate refused it" if decision else "it carries no decision"
