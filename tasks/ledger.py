"""Who was champion when, and by whose word: the ledger of the alias `champion`.

MLflow keeps where an alias points, not where it pointed before. Every move is therefore one tag of the registered
model, `alma.champion.000003`, which is written first and commits the move. The alias and the tags of the versions
follow, and at last the entry says that it is done. A kill in between leaves an entry that is not done; whoever looks
next lets the alias follow. An alias that was moved by other means (a click in MLflow's page) is found and recorded.
"""

import getpass
import json
import subprocess
from datetime import UTC, datetime
from typing import Any, Literal

from models.config import Config
from tasks import registry
from tasks.lineage import PREFIX

CHAMPION, CHALLENGER = "champion", "challenger"
ENTRY = f"{PREFIX}champion."
"""How the tag of an entry begins; its number follows, in six digits."""
LONGEST_REASON = 2000
"""Characters: a tag of a registered model holds 5,000."""
THE_GATE = "the gate"

How = Literal["promoted", "approved", "rolled back", "found"]


class Move(Config):
    """One move of the alias `champion`."""

    number: int
    """Its place in the ledger, from 1."""
    how: How
    """promoted by the gate, approved by a person, rolled back, or found moved by other means."""
    version: str
    """Where the alias points from then on."""
    before: str | None
    """Where it pointed before; None: nowhere."""
    by: str
    at: str
    """UTC, to the second."""
    reason: str
    earlier: tuple[str, ...] = ()
    """In the first entry: versions that were champion before there was a ledger, oldest first."""
    done: bool = False
    """Whether alias and tags have followed."""


def moves(name: str) -> list[Move]:
    """Return the moves of a registered model's alias, oldest first; ValueError where there is no such model."""
    tags, _ = registry.model_of(name)
    return [Move.model_validate_json(tags[tag]) for tag in sorted(tags) if tag.startswith(ENTRY)]


def champions(name: str) -> list[str]:
    """Return the versions that were champion one upon the other, the last one on top; what was rolled back is gone.

    What was promoted before there was a ledger follows from the decisions that the versions carry.
    """
    recorded = moves(name)
    stack = list(recorded[0].earlier if recorded else _decided(name))
    for move in recorded:
        if move.how == "rolled back" and move.version in stack:
            del stack[stack.index(move.version) + 1 :]
        elif stack[-1:] != [move.version]:
            stack.append(move.version)
    return stack


def is_champion(name: str, version: str | None) -> bool:
    """Return whether the alias points at a version."""
    return version is not None and registry.model_of(name)[1].get(CHAMPION) == version


def rival(name: str, candidate: str | None) -> tuple[str, dict[str, Any]] | None:
    """Return the champion that a candidate is held against, and the evidence that it was promoted on.

    Where the candidate is the champion itself, decided again, that is the one that it took the place of. None without
    one.
    """
    try:
        registry.model_of(name)
    except ValueError:
        return None
    with registry.held(name):
        settle(name)
    now = registry.model_of(name)[1].get(CHAMPION)
    version = now if now != candidate else next(iter(champions(name)[-2:-1]), None)
    tags = None if version is None else registry.tags_of(name, version)
    return None if version is None or tags is None else (version, json.loads(tags.get(registry.EVIDENCE, "{}")))


def settle(name: str) -> Move | None:
    """Let the alias follow a move that was cut off, and return that; record one that was made by other means.

    The caller holds the model (`registry.held`).
    """
    recorded, now = moves(name), registry.model_of(name)[1].get(CHAMPION)
    if not recorded:
        return None
    last = recorded[-1]
    if not last.done:
        _follow(name, last)
        return last
    if now is not None and now != last.version:
        found = _next(name, "found", now, "", "the alias was moved by other means")
        _write(name, found.model_copy(update={"before": last.version, "done": True}))
    return None


def record(name: str, how: How, version: str, by: str, reason: str) -> Move:
    """Move the alias to a version, and say who did it and why; the caller holds the model and has settled it."""
    move = _next(name, how, version, by, reason)
    _write(name, move)
    return _follow(name, move)


def promote(name: str, version: str) -> Move | None:
    """Move the alias to a version that passed the gate; None where it points there already."""
    with registry.held(name):
        settle(name)
        if registry.model_of(name)[1].get(CHAMPION) == version:
            return None
        return record(name, "promoted", version, THE_GATE, "every gate of the policy was passed")


def roll_back(name: str, reason: str, by: str) -> Move:
    """Let the alias return to the version that was champion before; the same command again finishes one cut off.

    Raises:
        ValueError: there is no reason, no earlier champion, or the version before was deleted; in one line.
    """
    reason = checked(reason)
    with registry.held(name):
        finished = settle(name)
        if finished is not None and finished.how == "rolled back":
            return finished
        stack, now = champions(name), registry.model_of(name)[1].get(CHAMPION)
        if now is None or registry.tags_of(name, now) is None:
            gone = f"; version {stack[-1]}, the last one, was deleted" if stack else ""
            raise ValueError(f"{name}: has no champion to roll back{gone}")
        if len(stack) < 2:
            raise ValueError(f"{name}: version {now} is the first champion, there is no earlier one to return to")
        if registry.tags_of(name, stack[-2]) is None:
            raise ValueError(f"{name}: version {stack[-2]}, the champion before version {now}, was deleted")
        return record(name, "rolled back", stack[-2], by, reason)


def checked(reason: str) -> str:
    """Return a reason without blanks around it; ValueError where nothing or a whole book is left."""
    reason = reason.strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        raise ValueError(f"reason: expected 1 to {LONGEST_REASON} characters, got {len(reason)}")
    return reason


def whoami() -> str:
    """Return the name of the user: git's, else the system's."""
    done = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
    if done.stdout.strip():
        return done.stdout.strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def moment() -> str:
    """Return the present time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _decided(name: str) -> list[str]:
    """Return the older versions that were promoted by the decision they carry, and the champion on top of them."""
    now = registry.model_of(name)[1].get(CHAMPION)
    if now is None:
        return []
    found = {
        int(version.version)
        for version in registry.versions()
        if version.name == name and _promoted(version.carried.get("decision", "{}"))
    }
    return [*(str(number) for number in sorted(found) if number < int(now)), now]


def _promoted(decision: str) -> bool:
    try:
        return bool(json.loads(decision).get("promote"))
    except (ValueError, AttributeError):
        return False


def _next(name: str, how: How, version: str, by: str, reason: str) -> Move:
    recorded, now = moves(name), registry.model_of(name)[1].get(CHAMPION)
    earlier = [] if recorded else _decided(name)
    if how != "rolled back" and version in earlier:
        earlier.remove(version)  # just registered, or champion once: it comes on top
    return Move(
        number=recorded[-1].number + 1 if recorded else 1,
        how=how,
        version=version,
        before=now,
        by=by,
        at=moment(),
        reason=reason,
        earlier=tuple(earlier),
    )


def _write(name: str, move: Move) -> None:
    registry.note(name, f"{ENTRY}{move.number:06d}", move.model_dump_json())


def _follow(name: str, move: Move) -> Move:
    """Let tags and alias follow an entry, then say that they have; a version that was deleted since is passed over."""
    if move.how == "rolled back":
        said = {"by": move.by, "at": move.at, "reason": move.reason}
        back = {"approval": move.how, **{f"approval_{field}": value for field, value in said.items()}}
        _tag(name, move.before, {**back, "rolled_back_to": move.version})
        restored = {f"restored_{field}": value for field, value in said.items()}
        _tag(name, move.version, {**restored, "restored_from": str(move.before)})
    else:
        _tag(name, move.version, {"promoted_at": move.at})
    if registry.tags_of(name, move.version) is not None:
        registry.point(name, CHAMPION, move.version)
        if registry.model_of(name)[1].get(CHALLENGER) == move.version:
            registry.point(name, CHALLENGER, None)
    done = move.model_copy(update={"done": True})
    _write(name, done)
    return done


def _tag(name: str, version: str | None, tags: dict[str, str]) -> None:
    if version is not None and registry.tags_of(name, version) is not None:
        for field, value in tags.items():
            registry.note(name, f"{PREFIX}{field}", value, version)
