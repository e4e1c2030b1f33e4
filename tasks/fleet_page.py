"""The page of the fleet: one picture of the descent, a card for every model, and what the last refresh changed."""

import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tasks import report_words as words
from tasks.console import duration
from tasks.fleet import Change, Member, against, carried, stale_because, standing, target
from tasks.report_pages import templates
from tasks.workspace import ARTIFACTS, write_atomically

PAGE = ARTIFACTS / "fleet.html"
WIDTH, HEIGHT, BETWEEN, ACROSS, MARGIN = 236, 74, 18, 72, 6
"""Pixels of a box in the picture, between boxes of a column, between columns, and around."""
LONGEST = 27
"""Characters of a name in a box; a longer one is cut in its middle."""
OUTCOMES = {"renewed": "promoted", "kept": "refused", "waits": "challenger", "failed": "refused"}
"""What a refresh did to a model -> the colour of a decision."""
TOLD = {"renewed": "renewed", "kept": "old champion kept", "waits": "waits for a person", "failed": "failed"}

Row = dict[str, Any]


def arrange(members: list[Member], at: str, changes: list[Change]) -> Row:
    """Return what page, artifact and terminal show; numbers and times are already written as text."""
    cards = [_card(member) for member in members]
    return {
        "headline": headline(members),
        "picture": picture(cards),
        "cards": cards,
        "refreshed": _when(at),
        "changes": [_change(change) for change in changes],
    }


def write_page(page: Row, path: Path = PAGE) -> None:
    """Write the page as one HTML file without a script."""
    write_atomically(path, templates("html").get_template("fleet_page.html.jinja").render(page).strip() + "\n")


def markdown(page: Row) -> str:
    """Return the page as Markdown, for the run's artifact."""
    text = templates("md").get_template("fleet_page.md.jinja").render(page)
    return re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"


def headline(members: list[Member]) -> str:
    """Say how many models there are, and how they stand."""
    if not members:
        return "No model is registered yet."
    roots = [member for member in members if not member.parent]
    stale = [member.name for member in members if member.behind and not member.tried]
    held = [member.name for member in members if member.tried]
    served = sum(member.champion for member in members)
    fresh = sum(member.champion and not member.behind for member in members)
    said = [f"{len(members)} model{'s' * (len(members) != 1)} from {words.listed([root.name for root in roots])}"]
    said.append(f"{served} with a champion, {fresh} of them fresh")
    if stale:
        said.append(f"{len(stale)} stale ({words.listed(stale)})")
    if held:
        said.append(f"{len(held)} kept, since the gate held the new one back ({words.listed(held)})")
    return "; ".join(said) + "."


def state(member: Member) -> str:
    """Return one word for how a model stands."""
    if member.tried:
        return "kept"
    if member.behind:
        return "stale"
    return "fresh" if member.champion else "no champion"


def _card(member: Member) -> Row:
    shown, newest = member.shown, member.newest
    metric, value = target(shown)
    evidence = carried(shown, "evidence")
    audits = [(audit["audit"], audit["verdict"]) for audit in evidence.get("audits", [])]
    verdicts = Counter(verdict for _, verdict in audits)
    other = newest if newest is not shown else None
    return {
        "name": member.name,
        "kind": words.named(evidence["kind"]) if evidence.get("kind") else "",
        "recipe": member.recipe,
        "depth": member.depth,
        "parent": member.parent,
        "from": _from(member),
        "version": shown.version,
        "standing": standing(shown),
        "since": next((move.at[:10] for move in reversed(member.history) if move.version == shown.version), shown.day),
        "state": state(member),
        "metric": metric,
        "score": value,
        "audits": audits,
        "verdicts": ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "none made",
        "stale": [stale_because(each) for each in member.behind],
        "renewal": _renewal(member),
        "command": "python -m flows fleet --refresh" if member.elsewhere and not member.tried else "",
        "refused": [] if member.champion else against(shown),
        "newest": other and other.version,
        "newest_standing": other and standing(other),
        "newest_score": target(other)[1] if other else "",
        "newest_against": against(other) if other else [],
        "cost": duration(float(shown.carried["seconds"])) if "seconds" in shown.carried else "",
        "history": [
            f"{move.at[:10]} version {move.version} {'restored' if move.how == 'rolled back' else move.how}"
            + (f" by {move.by}: {move.reason}" if move.how in ("approved", "rolled back") else "")
            for move in reversed(member.history)
        ][:4],
    }


def _from(member: Member) -> str:
    """Return the version that the shown one started from, as it was recorded."""
    fields = member.shown.carried
    if member.role == "base":
        return fields.get("base", "").removeprefix("models:/")
    return f"{fields.get(member.role)}/{fields.get(f'{member.role}_version')}" if member.role else ""


def _renewal(member: Member) -> str:
    """Say what brings a stale model up to date."""
    if not member.behind:
        return ""
    if member.tried:
        return "The new one was made and the gate held it back, so the old champion stays."
    if member.elsewhere:
        return "A refresh derives it again:"
    return f"The pipeline of its own recipe, {member.recipe}, derives it again."


def _change(change: Change) -> Row:
    versions = [f"version {number}" if number else "none" for number in (change.before, change.after)]
    return {
        "name": change.name,
        "recipe": change.recipe,
        "moved": versions[0] if change.before == change.after else " → ".join(versions),
        "outcome": TOLD[change.outcome],
        "look": OUTCOMES[change.outcome],
        "reasons": list(change.reasons),
    }


def _when(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC" if at else ""


def picture(cards: list[Row]) -> str:
    """Draw who descends from whom, from left to right, as one <svg> element in the page's colours."""
    rows = _rows(cards)
    lowest = max(rows.values(), default=0)
    deepest = max((card["depth"] for card in cards), default=0)
    width = 2 * MARGIN + WIDTH + deepest * (WIDTH + ACROSS)
    height = 2 * MARGIN + HEIGHT + lowest * (HEIGHT + BETWEEN)
    places = {card["name"]: (_x(card), MARGIN + rows[card["name"]] * (HEIGHT + BETWEEN)) for card in cards}
    drawn = [_edge(card, places) for card in cards if card["parent"] in places]
    drawn += [_box(card, *places[card["name"]]) for card in cards]
    said = html.escape("; ".join(_alt(card) for card in cards))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" style="max-width: {width:g}px" '
        f'role="img" aria-label="Descent: {said}.">{"".join(drawn)}</svg>'
    )


def _rows(cards: list[Row]) -> dict[str, float]:
    """Return the row of every box: leaves one below the other, parents in the middle of their children."""
    children: dict[str, list[str]] = {}
    for card in cards:
        children.setdefault(card["parent"], []).append(card["name"])
    rows: dict[str, float] = {}
    for card in cards:
        if card["name"] not in children:
            rows[card["name"]] = float(len(rows))
    for card in reversed(cards):
        if card["name"] in children:
            below = [rows[name] for name in children[card["name"]]]
            rows[card["name"]] = (below[0] + below[-1]) / 2
    return rows


def _x(card: Row) -> float:
    return MARGIN + card["depth"] * (WIDTH + ACROSS)


def _edge(card: Row, places: dict[str, tuple[float, float]]) -> str:
    """Draw a line from a parent to a child; a dashed one where the child is of an older version of it."""
    (x, y), (to, down) = places[card["parent"]], places[card["name"]]
    x, y, down = x + WIDTH, y + HEIGHT / 2, down + HEIGHT / 2
    bend = ACROSS / 2
    look = "edge behind" if card["stale"] else "edge"
    return (
        f'<path class="{look}" d="M{x:g} {y:g} C{x + bend:g} {y:g} {to - bend:g} {down:g} {to - 5:g} {down:g}"/>'
        f'<path class="tip{" behind" if card["stale"] else ""}" d="M{to - 8:g} {down - 4:g} L{to - 1:g} {down:g} '
        f'L{to - 8:g} {down + 4:g} Z"/>'
    )


def _box(card: Row, x: float, y: float) -> str:
    look = card["state"].replace(" ", "-")
    second = f"version {card['version']} · {card['standing']}"
    if card["newest"]:
        second += f" · {card['newest']} {card['newest_standing']}"
    third = f"{card['metric']} {card['score'].partition(' [')[0]}" if card["metric"] else ""
    lines = [(24, "name", _cut(card["name"])), (43, "line", second), (60, "line", third)]
    texts = "".join(
        f'<text class="{kind}" x="{x + 16:g}" y="{y + down:g}">{html.escape(text)}</text>' for down, kind, text in lines
    )
    return (
        f'<a href="#{html.escape(card["name"])}"><g class="model {look}">'
        f'<rect class="box" x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="9"/>'
        f'<rect class="bar" x="{x:g}" y="{y + 12:g}" width="4" height="{HEIGHT - 24}" rx="2"/>{texts}'
        f'<text class="state" x="{x + WIDTH - 12:g}" y="{y + 60:g}" text-anchor="end">{card["state"]}</text></g></a>'
    )


def _alt(card: Row) -> str:
    parent = f" from {card['from']}" if card["from"] else ""
    return f"{card['name']} version {card['version']} ({card['standing']}, {card['state']}){parent}"


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 + 1 :]}"
