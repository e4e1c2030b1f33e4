"""Two registered models side by side: `python -m flows compare A B`."""

import argparse
import sys
from typing import Any

from tasks.workspace import ARTIFACTS


def main(arguments: list[str]) -> int:
    """Compare two versions, print it and write it; return 0, or 2 for two that cannot be compared."""
    options = _parser().parse_args(arguments)
    from flows.environment import set_environment

    set_environment()
    try:
        if options.examples < 0:
            raise ValueError(f"--examples is {options.examples}, expected 0 or more")
        _compare(options.a, options.b, options.examples)
    except KeyboardInterrupt:
        return 130
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows compare",
        description="Put two registered models of one kind side by side: scores with the interval of their difference, "
        "the rows on which they differ, slices, what they were made with, and audits. Where they were asked different "
        "test sets, B is assessed again on that of A if its data is at hand.",
        epilog=f"Writes compare.html and compare.json under {ARTIFACTS}/compare/.",
    )
    named = (
        "starter-reviews (its champion), starter-reviews@challenger, starter-reviews/3, or what a recipe made here: "
    )
    parser.add_argument("a", metavar="A", help=f"{named}recipes/starter.yaml:reviews")
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument("--examples", type=int, default=10, help="rows shown of either side (default: 10)")
    return parser


def _compare(a: str, b: str, examples: int) -> None:
    from transformers.utils.logging import set_verbosity_error

    from tasks.compare import compare, write
    from tasks.compare_view import arrange
    from tasks.registered import find

    set_verbosity_error()
    first, second = find(a), find(b)
    found = compare(first, second, examples)
    directory = ARTIFACTS / "compare" / f"{first.slug}--{second.slug}"
    write(found, directory)
    _show(arrange(found))
    print(f"\nWritten to {directory}/compare.html (and compare.json)")


def _show(comparison: dict[str, Any]) -> None:
    """Print a comparison as tables, without markup from its texts."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from flows.table import WIDTH
    from tasks.report_words import NONE, named

    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False)

    def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
        say(f"\n{title}")
        shown = Table()
        for column in columns:
            shown.add_column(column, overflow="fold")
        for row in rows:
            shown.add_row(*(Text(cell) for cell in row))
        console.print(shown)

    say(f"A: {comparison['a']}\nB: {comparison['b']}\n{comparison['headline']}")
    for note in comparison["notes"]:
        say(note)
    columns = ["a", "b", "difference", "ahead"]
    table(
        "Scores",
        ["score", "A", "B", "A less B", "better"],
        [[named(row["metric"]), *(row[key] or NONE for key in columns)] for row in comparison["scores"]],
    )
    if comparison["outcomes"]:
        say(f"By {named(comparison['by_item'])}: {comparison['outcomes']}")
    for side, count, rows in comparison["examples"]:
        shown = [[row["asked"] or row["id"], *(_line(answer) for answer in row["answers"])] for row in rows]
        table(f"{side}: {len(rows)} of {count}", ["asked", "truth", "A", "B"], shown)
    if comparison["slices"]:
        columns = ["slice", "items", "difference", "counts", "q"]
        rows = [[str(row[key]) for key in columns] for row in comparison["slices"]]
        table("Slices (exploratory)", ["slice", "rows", "A less B", "better A / B / equal", "q"], rows)
    if comparison["settings"]:
        table("Settings that differ", ["field", "A", "B"], [list(row) for row in comparison["settings"]])
    differing = [[said, one, other] for said, one, other, same in comparison["lineage"] if not same]
    table("Facts that differ", ["fact", "A", "B"], differing)
    audits = [[named(name), *(_audit(audit) for audit in both)] for name, *both in comparison["audits"]]
    table("Audits", ["audit", "A", "B"], audits)


def _line(pieces: list[list[str | None]]) -> str:
    """Write an answer in one line, entities with their names."""
    return " ".join(f"{text} ({label})" if label else str(text) for text, label in pieces)


def _audit(audit: dict[str, Any] | None) -> str:
    return f"{audit['verdict']} {audit['numbers']}" if audit else "not made"
