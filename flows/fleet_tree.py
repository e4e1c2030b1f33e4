"""The fleet in the terminal: `python -m flows fleet [--refresh]`."""

import argparse
import os
import sys
from typing import Any

LOOKS = {"fresh": "green", "stale": "yellow", "kept": "red", "no champion": "dim"}


def main(arguments: list[str]) -> int:
    """Print the fleet and write its page; with --refresh, derive stale models again before. Return 0, 1 or 2."""
    options = _parser().parse_args(arguments)
    from flows.environment import set_environment
    from tasks.console import speak

    speak()
    set_environment()
    server = None
    if options.refresh and "PREFECT_API_URL" not in os.environ:
        from flows.embedded import EmbeddedServer

        server = EmbeddedServer()
    from flows.failures import one_line
    from flows.fleet import FleetFailed, fleet, fleet_page

    code = 0
    try:
        if server is not None:
            server.wait()
        if options.refresh:
            fleet()
        page = fleet_page()
    except FleetFailed as error:
        print(f"failed: {one_line(error)}", file=sys.stderr)
        page, code = fleet_page(), 1
    except KeyboardInterrupt:
        return 130
    except ValueError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    show(page)
    return code


def show(page: dict[str, Any]) -> None:
    """Print the tree of the models, why some are stale or were refused, and what the last refresh did."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    from flows.table import WIDTH
    from tasks.fleet_page import PAGE

    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False, markup=False)
    root = Tree(Text("the fleet", style="bold"), guide_style="dim")
    branches = {"": root}
    for card in page["cards"]:
        title = Text.assemble((card["name"], "bold"), f"  version {card['version']}  ", (card["standing"], "dim"))
        title.append(f"  {card['state']}", LOOKS[card["state"]])
        branch = branches[card["parent"]].add(title)
        branches[card["name"]] = branch
        branch.add(Text(f"{card['metric']} {card['score']}; audits {card['verdicts']}".strip(), style="dim"))
        for sentence in card["stale"]:
            branch.add(Text(sentence, style="yellow"))
        said = [(card["version"], "refused", line) for line in card["refused"]]
        said += [(card["newest"], card["newest_standing"], line) for line in card["newest_against"]]
        for number, decided, line in said:
            branch.add(Text(f"version {number} {decided}: {line}", style="red"))
        if card["newest_standing"] == "awaiting":
            branch.add(Text(f"version {card['newest']} waits for a person", style="yellow"))
    if not page["cards"]:
        root.add("the registry holds no version yet")
    console.print(root)
    if page["changes"]:
        console.print(f"\nThe last refresh, {page['refreshed']}:")
    for change in page["changes"]:
        console.print(f"  {change['name']}: {change['moved']}, {change['outcome']}", soft_wrap=True)
        for reason in change["reasons"]:
            console.print(f"    {reason}", soft_wrap=True)
    console.print(f"\nPage     {PAGE}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows fleet",
        description="Who descends from whom, which models an older foundation left behind, and why the gate refused "
        "what it refused; written to artifacts/fleet.html too.",
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="run the pipeline of every recipe whose models descend from a registered foundation that is not champion "
        "any more (pretrain.base: models:/...); what the gate refuses keeps its old champion",
    )
    return parser
