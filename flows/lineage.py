"""Where a registered version comes from, and what a text has gone into: `python -m flows lineage <what>`."""

import argparse
import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text as Words
from rich.tree import Tree

from flows.table import WIDTH
from tasks.console import duration
from tasks.lineage import SHORT, Descendant, Lineage, Node, Version, is_foundation
from tasks.report_words import flops, listed, named, score

LOOKS = {"PASS": "green", "promoted": "green", "FAIL": "red", "REFUSED": "red", "refused": "red"}
OTHER = "yellow"
"""The colour of a verdict or a decision that is neither for nor against; each is written out as well."""
MOST_NAMES = 20


def main(arguments: list[str]) -> int:
    """Print a version's tree with its descendants, or what a text has gone into; return 0, or 2 for a wrong name."""
    options = _parser().parse_args(arguments)
    from flows.environment import set_environment

    set_environment()
    from tasks.registry import versions

    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False, markup=False)
    try:
        lineage = Lineage(versions())
        if not lineage.versions:
            raise ValueError("the registry holds no version yet")
        for shown in answer(lineage, options.what):
            console.print(shown, soft_wrap=isinstance(shown, str))
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows lineage",
        description="Where a registered version comes from and what it went into, or which versions learned from a "
        "text. Reads the registry alone.",
    )
    parser.add_argument(
        "what",
        help="a registered model: starter-clerk (its champion), starter-clerk@challenger, starter-clerk/3; or the "
        "digest of a text (six characters of it are enough): of a corpus, of a data set, of data/ under DVC; "
        "or data.dvc, the digest that it pins now, or data.dvc@<git revision>",
    )
    return parser


def answer(lineage: Lineage, what: str) -> Iterable[Any]:
    """Return what is printed, one after the other."""
    pointer, at, revision = what.partition("@")
    if pointer == "data.dvc":
        from tasks.versioning import data_digest

        digest = data_digest(revision)
        if digest is None or (at and not revision):
            raise ValueError(f"{what}: expected data.dvc here, or data.dvc@<git revision>")
        yield from _of_data(lineage, digest, f"{what} pins {digest}. ")
    elif re.fullmatch(r"[0-9a-f]+(\.dir)?", what) and not any(version.name == what for version in _all(lineage)):
        yield from _of_data(lineage, _digest(lineage, what))
    else:
        yield from _of_version(lineage, _find(lineage, what))


def _all(lineage: Lineage) -> Iterable[Version]:
    return lineage.versions.values()


def _digest(lineage: Lineage, prefix: str) -> str:
    """Return the digest of a text that begins so; ValueError where there is none, or more than one."""
    if len(prefix) < 6:
        raise ValueError(f"{prefix}: expected at least 6 characters of a digest, or the name of a registered model")
    digests = lineage.digests()
    found = sorted(digest for digest in digests if digest.startswith(prefix))
    if not found:
        known = sorted({kind for kinds in digests.values() for kind in kinds})
        raise ValueError(
            f"{prefix}: no registered version carries a digest that begins so; "
            f"there are {len(digests)} of {listed(known)}"
        )
    if len(found) > 1:
        said = "; ".join(f"{digest} ({listed(sorted(digests[digest]))})" for digest in found)
        raise ValueError(f"{prefix}: {len(found)} digests begin so: {said}")
    return found[0]


def _find(lineage: Lineage, what: str) -> Version:
    """Return the version that a name, name@alias or name/version means; ValueError says what there is instead."""
    name, slash, number = what.partition("/")
    name, _, alias = name.partition("@")
    mine = [version for version in _all(lineage) if version.name == name]
    if not mine:
        names = sorted({version.name for version in _all(lineage)})
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        raise ValueError(f"{name}: no registered version of that name; there are {', '.join(names[:MOST_NAMES])}{more}")
    alias = alias or "champion"
    found = [version for version in mine if (version.version == number if slash else alias in version.aliases)]
    if not found:
        there = ", ".join(f"{version.reference} ({_standing(version)})" for version in mine[-MOST_NAMES:])
        missing = f"version {number}" if slash else f"version with the alias {alias}"
        raise ValueError(f"{name}: there is no {missing}; there are {there}")
    return found[0]


def _of_version(lineage: Lineage, version: Version) -> Iterable[Any]:
    node = lineage.tree(version)
    tree = Tree(_title(node))
    _grow(tree, node, reasons=True)
    yield tree
    below = lineage.descendants(version)
    yield f"\n{_descent(below, version.reference)}"
    if below:
        yield _table(below)


def _of_data(lineage: Lineage, digest: str, before: str = "") -> Iterable[Any]:
    kinds = lineage.digests().get(digest, {})
    digests = [digest]
    if "data.dvc" in kinds:
        held = lineage.held(digest)
        digests += [text.digest for text in held]
        said = "; ".join(f"{text.role} {text.digest[:SHORT]}" for text in held)
        yield f"{before}Versions registered under data.dvc {digest[:SHORT]} learned from: {said}."
    elif kinds:
        yield f"{digest[:SHORT]} is {listed(sorted(kinds))}."
    else:
        known = sorted(value for value, found in lineage.digests().items() if "data.dvc" in found)
        yield f"{before}No version was registered under it; the registry knows {', '.join(known) or 'no data.dvc'}."
        yield "A version that was found done stays under the data.dvc that it was first registered with."
        return
    found = lineage.learned_from(digests)
    yield _table(found)
    champions = [each.version.reference for each in found if "champion" in each.version.aliases]
    yield (
        f"{len(found)} of {len(lineage.versions)} registered versions learned from it. If it is withdrawn, "
        f"{len(champions)} champion{'s' * (len(champions) != 1)} must be retrained"
        f"{': ' if champions else '.'}{', '.join(champions)}"
    )
    for gap in lineage.unknown(found):
        others = [reference for reference in gap.below if reference != gap.reference]
        more = f", and so of {', '.join(others)}" if others else ""
        yield f"Not known of {gap.reference}{more}: it {gap.reason}."
    also = [f"{text.role} {text.digest[:SHORT]} of {of}" for text, of in lineage.siblings(found, digests)]
    if also:
        yield f"Not counted, though they may hold some of the same documents: {'; '.join(also)}."


def _descent(below: list[Descendant], reference: str) -> str:
    if not below:
        return f"No registered version descends from {reference}."
    champions = [each.version.reference for each in below if "champion" in each.version.aliases]
    return (
        f"{len(below)} registered version{'s' * (len(below) != 1)} descend{'s' * (len(below) == 1)} from {reference}, "
        f"{len(champions)} of them champion{'s' * (len(champions) != 1)} now."
    )


def _table(found: list[Descendant]) -> Table:
    columns = ("version", "now", "registered", "learned from it as", "by way of")
    with_text = any(what for each in found for what in each.saw)
    table = Table(show_lines=False)
    for column in columns:
        if with_text or column != "learned from it as":
            table.add_column(column, overflow="fold")
    for each in found:
        cells: list[Any] = [each.version.reference, _shown(_standing(each.version)), each.version.day]
        if with_text:
            cells.append(", ".join(each.saw))
        steps = ["itself"] if each.itself else []
        cells.append("\n".join([*steps, *(f"{role} {reference}" for role, reference in each.through)]))
        table.add_row(*(cell if isinstance(cell, Words) else Words(cell) for cell in cells))
    return table


def _standing(version: Version) -> str:
    """Return what a version is now: its alias, or what was decided where no alias points at it any more."""
    if version.aliases:
        return ", ".join(version.aliases)
    decision = _json(version, "decision")
    if not decision:
        return "no decision recorded"
    return f"no alias, once {decision['alias']}" if decision.get("alias") else "refused"


def _json(version: Version, field: str) -> dict[str, Any]:
    """Return a field that holds an object; an empty one where the version does not carry it, or not whole."""
    try:
        found = json.loads(version.carried.get(field, "{}"))
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _shown(word: str) -> Words:
    style = "green" if "champion" in word else LOOKS.get(word, OTHER)
    return Words(word, style=style)


def _title(node: Node) -> Words:
    role = {"start": "started from ", "reward": "scored by ", "base": "base "}.get(node.role, f"{node.role} ".lstrip())
    title = Words.assemble(role, (node.reference, "bold"))
    if node.told:
        return title.append(" (above)", "dim")
    if node.version is None:
        return title.append("  not a version of this registry", "red")
    kind = _json(node.version, "evidence").get("kind", "")
    title.append(f"  {named(kind)}  " if kind else "  ").append(_shown(_standing(node.version)))
    return title.append(f"  registered {node.version.day}", "dim")


def _grow(tree: Tree, node: Node, *, reasons: bool) -> None:
    """Hang onto a tree what is known of a version, then what it came from."""
    if node.version is None or node.told:
        return
    carried = node.version.carried
    if "weights_digest" in carried:
        for line in _facts(node.version):
            tree.add(line)
        for branch in _judged(node.version, reasons):
            tree.add(branch)
    under = f", registered under data.dvc {carried['data_dvc'][:SHORT]}" if "data_dvc" in carried else ""
    for text in node.texts:
        tree.add(Words(f"{text.role} {text.digest[:SHORT]}{under}"))
    for gap in node.gaps:
        tree.add(Words(f"not known: it {gap}", style=OTHER))
    for parent in node.parents:
        _grow(tree.add(_title(parent)), parent, reasons=False)


def _facts(version: Version) -> Iterable[Words]:
    """Say in a few lines how a version was made; what it does not carry is called not recorded."""
    carried = version.carried

    def short(field: str) -> str:
        return carried[field][:SHORT] if field in carried else "not recorded"

    yield Words(f"weights {short('weights_digest')}, tokenizer {short('tokenizer_digest')}, run {version.run_id}")
    yield Words(
        f"recipe {carried.get('recipe', '')} {short('recipe_digest')}, configuration {short('config_digest')}, "
        f"commit {short('commit')}, seed {short('seed')}"
    )
    how = [f"{field} {carried[field]}" for field in ("mitigation", "adapter") if carried.get(field)]
    if how:
        yield Words(", ".join(how))
    shared = (
        "" if is_foundation(version) else f"; its share of the foundation {_cost(carried, 'foundation_', '_share')}"
    )
    yield Words(f"cost {_cost(carried)}{shared}")


def _cost(carried: dict[str, str], before: str = "", after: str = "") -> str:
    seconds, operations = (carried.get(f"{before}{field}{after}") for field in ("seconds", "flops"))
    if seconds is None or operations is None:
        return "not recorded"
    return f"{duration(float(seconds))}, {flops(float(operations))}"


def _judged(version: Version, reasons: bool) -> Iterable[Tree]:
    """Return the scores, the audits and what was decided of them."""
    carried, evidence, decision = version.carried, _json(version, "evidence"), _json(version, "decision")
    scores = ", ".join(f"{named(name)} {score(name, value)}" for name, value in evidence.get("metrics", {}).items())
    yield Tree(Words(f"scores {scores or 'not recorded'}"))
    by: dict[str, list[str]] = {}
    for audit in evidence.get("audits", []):
        by.setdefault(audit["verdict"], []).append(audit["audit"])
    audits = Words("audits ")
    if not by:
        audits.append("none was made" if "audits" in evidence else carried.get("audit_verdicts", "not recorded"))
    for place, (verdict, names) in enumerate(by.items()):
        audits.append("; " if place else "").append(verdict, LOOKS.get(verdict, OTHER)).append(f" {', '.join(names)}")
    yield Tree(audits)
    standing = "promoted" if decision.get("promote") else "challenger" if decision.get("alias") else "refused"
    decided = Tree(Words("decision ").append(_shown(standing if decision else "not recorded")))
    for reason in decision.get("reasons", []) if reasons else []:
        decided.add(Words(reason))
    yield decided
