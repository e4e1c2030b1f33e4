"""The fleet: every registered model, what it descends from, and which of them a newer foundation left behind.

Read from the registry alone, as the lineage is. A model is stale whose champion descends from a foundation that is
not the champion of its name any more; it is told by the weights, so that a foundation that was merely registered again
makes nothing stale.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from models.config import Config
from tasks import ledger, registry
from tasks import report_words as words
from tasks.lineage import Lineage, Parent, Version
from tasks.policy import POLICY_PATH, load_policy
from tasks.recipe import load_recipe
from tasks.workspace import ARTIFACTS, write_atomically

CHAMPION = ledger.CHAMPION
REFRESHED = ARTIFACTS / "fleet.json"
"""What the last refresh did."""
RECIPES = Path("recipes")
DESCENT = ("foundation", "base")
"""The roles by way of which a foundation goes into a model."""
NEAREST = ("start", *DESCENT)

Standing = Literal["champion", "challenger", "refused", "awaiting", "rolled back", "replaced"]


class Behind(NamedTuple):
    """A foundation that a version descends from, and that is not the champion of its name."""

    role: str
    reference: str
    champion: str
    why: str
    """What became of it, where that is known: rolled back, deleted."""


class Member(NamedTuple):
    """One registered model of the fleet."""

    name: str
    recipe: str
    shown: Version
    """The champion; without one, the newest version."""
    newest: Version
    parent: str
    """The model that it started from; empty for one that started from nothing that is registered."""
    role: str
    depth: int
    behind: tuple[Behind, ...]
    """Foundations that left it behind; none for a fresh one."""
    tried: bool
    """Its newest version descends from the foundations that its champion misses: the gate held that one back."""
    ancestors: frozenset[str]
    """Names of all models that it descends from."""
    history: tuple[ledger.Move, ...]

    @property
    def champion(self) -> bool:
        """Return whether a version of it is served."""
        return CHAMPION in self.shown.aliases

    @property
    def elsewhere(self) -> bool:
        """Return whether it was left behind by a foundation that another recipe made, so that nobody else renews it."""
        return any(each.role == "base" for each in self.behind)


class Change(Config):
    """What a refresh did to a model."""

    name: str
    recipe: str
    before: str = ""
    """The champion's version before; empty: none."""
    after: str = ""
    outcome: Literal["renewed", "kept", "waits", "failed"]
    reasons: tuple[str, ...] = ()


def muster(versions: list[Version], histories: dict[str, list[ledger.Move]] | None = None) -> list[Member]:
    """Return the models, each below the one that it started from.

    Args: histories: name -> the moves of its alias, where they are known.
    """
    lineage, by_name = Lineage(versions), dict[str, list[Version]]()
    for version in sorted(versions, key=lambda each: int(each.version)):
        by_name.setdefault(version.name, []).append(version)
    champions = {version.name: version for version in versions if CHAMPION in version.aliases}
    found: dict[str, Member] = {}
    for name, mine in by_name.items():
        shown, newest = champions.get(name, mine[-1]), mine[-1]
        nearest = next((each for each in _nearest(lineage, shown) if _name(each) in by_name.keys() - {name}), None)
        behind = _behind(lineage, champions, shown)
        missed = {each.champion for each in behind}
        found[name] = Member(
            name=name,
            recipe=shown.carried.get("recipe", ""),
            shown=shown,
            newest=newest,
            parent=_name(nearest) if nearest else "",
            role=nearest.role if nearest else "",
            depth=0,
            behind=tuple(behind),
            tried=bool(behind) and missed.isdisjoint(each.champion for each in _behind(lineage, champions, newest)),
            ancestors=frozenset(_ancestors(lineage, shown)),
            history=tuple((histories or {}).get(name, ())),
        )
    return _ordered(found)


def read_fleet() -> list[Member]:
    """Return the models of the registry, as `muster` does."""
    versions = registry.versions()
    return muster(versions, {name: ledger.moves(name) for name in sorted({version.name for version in versions})})


def standing(version: Version) -> Standing:
    """Return what a version is now, or what was decided on it."""
    if CHAMPION in version.aliases:
        return "champion"
    state = version.carried.get("approval", "")
    if state in ("awaiting", "rolled back"):
        return "awaiting" if state == "awaiting" else "rolled back"
    if ledger.CHALLENGER in version.aliases:
        return "challenger"
    alias = carried(version, "decision").get("alias")
    return "replaced" if alias == CHAMPION else "challenger" if alias else "refused"


def against(version: Version) -> list[str]:
    """Return the sentences that speak against a version."""
    reasons = carried(version, "decision").get("reasons", [])
    said = [reason.removeprefix("fail: ") for reason in reasons if reason.startswith("fail: ")]
    if version.carried.get("approval") == "rolled back":
        by, why = (version.carried.get(f"approval_{field}", "") for field in ("by", "reason"))
        said.append(f"rolled back by {by}: {why}")
    return said


def target(version: Version) -> tuple[str, str]:
    """Return the score that the gate decides by: its name, and its value with its interval; empty where unknown."""
    evidence = carried(version, "evidence")
    metrics, kind = evidence.get("metrics", {}), evidence.get("kind", "")
    try:
        metric = getattr(load_policy(POLICY_PATH), kind).target if kind else ""
    except (ValueError, AttributeError):
        metric = ""
    if metric not in metrics:
        metric = next(iter(metrics), "")
    if not metric:
        return "", ""
    low, high = evidence.get("intervals", {}).get(metric, (None, None))
    return words.named(metric), words.scored(metric, {"value": metrics[metric], "low": low, "high": high})


def carried(version: Version, field: str) -> dict[str, Any]:
    """Return a field that holds an object; an empty one where the version does not carry it whole."""
    try:
        found = json.loads(version.carried.get(field, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def stale_because(behind: Behind) -> str:
    """Say in a sentence why a model is stale."""
    became = f", which was {behind.why}" if behind.why else ""
    return f"descends from {behind.reference}{became}; the champion is {behind.champion}"


def due(members: list[Member], foundation: str, tried: set[str]) -> str | None:
    """Return the recipe that a refresh runs next, those of the nearest descendants first; None when all is done.

    Only models that a foundation of another recipe left behind: within a recipe its own pipeline derives them again.
    """
    waiting = [
        member
        for member in members
        if member.elsewhere
        and not member.tried
        and member.recipe not in tried
        and (not foundation or foundation in member.ancestors)
    ]
    return min(waiting, key=lambda member: (member.depth, member.name)).recipe if waiting else None


def recipe_file(name: str) -> Path:
    """Return the file of a recipe by the name in it; ValueError where there is none, or more than one."""
    found = []
    for path in sorted(RECIPES.glob("*.yaml")):
        try:
            if load_recipe(path).name == name:
                found.append(path)
        except ValueError:
            continue  # not the one that is looked for, or its own pipeline says what is wrong with it
    if len(found) != 1:
        there = ", ".join(map(str, found)) or "none"
        raise ValueError(f"expected one recipe under {RECIPES}/ that names itself {name}, found {there}")
    return found[0]


def changes(recipe: str, before: list[Member], after: list[Member], error: str = "") -> list[Change]:
    """Return what the pipeline of a recipe did to its models."""
    old = {member.name: member for member in before}
    found = []
    for member in after:
        if member.recipe != recipe:
            continue
        was = old.get(member.name)
        then = was.shown.version if was and was.champion else ""
        now = member.shown.version if member.champion else ""
        held = standing(member.newest)
        if now != then:
            outcome, reasons = "renewed", []
        elif member.behind and not member.tried and error:
            outcome, reasons = "failed", [error]
        elif held == "awaiting":
            outcome, reasons = "waits", ["passed every gate; a person is to approve it"]
        elif member.behind:
            outcome, reasons = "kept", against(member.newest) or [stale_because(member.behind[0])]
        else:
            continue
        found.append(
            Change(name=member.name, recipe=recipe, before=then, after=now, outcome=outcome, reasons=tuple(reasons))  # type: ignore[arg-type]
        )
    return found


def keep_changes(found: list[Change], at: str) -> None:
    """Write what a refresh did, for the page."""
    text = json.dumps({"at": at, "changes": [change.model_dump(mode="json") for change in found]}, indent=1)
    write_atomically(REFRESHED, text + "\n")


def last_changes() -> tuple[str, list[Change]]:
    """Return when the last refresh was, and what it did; empty without one."""
    try:
        record = json.loads(REFRESHED.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "", []
    return record["at"], [Change.model_validate(change) for change in record["changes"]]


def _behind(lineage: Lineage, champions: dict[str, Version], version: Version) -> list[Behind]:
    """Return the foundations of a version, and of these, that are not the champion of their name."""
    found, waiting, seen = [], [version], {version.reference}
    for each in waiting:
        for parent in lineage.parents(each):
            if parent.version is not None and parent.role in DESCENT and parent.reference not in seen:
                seen.add(parent.reference)
                waiting.append(parent.version)
            champion = champions.get(_name(parent))
            # A foundation that was trained on from its own last version is not left behind by itself.
            own = _name(parent) == each.name
            if parent.role not in DESCENT or own or champion is None or _same(parent, champion):
                continue
            why = "deleted" if parent.version is None else ""
            if parent.version is not None and standing(parent.version) in ("rolled back", "refused"):
                why = standing(parent.version)
            found.append(Behind(parent.role, parent.reference, champion.reference, why))
    return found


def _same(parent: Parent, champion: Version) -> bool:
    weights = champion.carried.get("weights_digest")
    return parent.reference == champion.reference or (bool(parent.weights) and parent.weights == weights)


def _nearest(lineage: Lineage, version: Version) -> list[Parent]:
    parents = {parent.role: parent for parent in lineage.parents(version)}
    return [parents[role] for role in NEAREST if role in parents]


def _ancestors(lineage: Lineage, version: Version) -> set[str]:
    found, waiting = set[str](), [version]
    for each in waiting:
        for parent in lineage.parents(each):
            if _name(parent) not in found:
                found.add(_name(parent))
                waiting += [parent.version] if parent.version else []
    return found


def _name(parent: Parent) -> str:
    return parent.reference.rpartition("/")[0] or parent.reference


def _ordered(found: dict[str, Member]) -> list[Member]:
    """Return the models in the order of a tree; tags that lead in a circle are cut where they are met again."""
    ordered: dict[str, Member] = {}

    def hang(parent: str, depth: int) -> None:
        for name in sorted(found):
            if found[name].parent == parent and name not in ordered:
                ordered[name] = found[name]._replace(depth=depth)
                hang(name, depth + 1)

    hang("", 0)
    for name in sorted(found):
        if name not in ordered:
            ordered[name] = found[name]._replace(depth=0, parent="", role="")
            hang(name, 1)
    return list(ordered.values())
