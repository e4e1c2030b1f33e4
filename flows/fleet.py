"""The fleet: what descends from an older foundation, in other recipes than its own, is derived again."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.events import DeploymentEventTrigger

from flows.failures import ModelsFailed, one_line
from flows.pipeline import pipeline
from flows.watching import watched
from tasks.announce import PROMOTED
from tasks.console import log
from tasks.fleet import Change, changes, due, keep_changes, last_changes, read_fleet, recipe_file
from tasks.fleet_page import PAGE, arrange, markdown, write_page
from tasks.ledger import moment

TRIGGERS = [
    DeploymentEventTrigger(
        name="alma: derive the fleet from a new foundation",
        description="A foundation's champion changed: specialists of other recipes that descend from it follow.",
        expect={PROMOTED},
        match={"prefect.resource.id": "alma.model.*"},
        parameters={"foundation": "{{ event.payload.name }}", "refresh": True},
    )
]
"""What starts this flow; served with its deployment, which replaces them each time."""


class FleetFailed(RuntimeError):
    """Some models could not be derived again; the others are, and all old champions stand."""


@flow
@watched
def fleet(foundation: str = "", refresh: bool = True) -> str:
    """Derive what a newer foundation left behind, each model gated on its own, and write the page of the fleet.

    Args:
        foundation: Only what descends from this registered model; empty: from any.
        refresh: Derive stale models again; without it, only look.
    """
    failed: list[Change] = []
    if refresh:
        found = refreshed(foundation)
        keep_changes(found, moment())
        failed = [change for change in found if change.outcome == "failed"]
    page = fleet_page()
    create_markdown_artifact(markdown(page), key="fleet", description="Who descends from whom, and who is stale.")
    if failed:
        raise FleetFailed("; ".join(f"{change.name}: {' '.join(change.reasons)}" for change in failed))
    return str(page["headline"])


def fleet_page() -> dict[str, Any]:
    """Write the page of the fleet as it stands, and return what is on it."""
    page = arrange(read_fleet(), *last_changes())
    write_page(page)
    log.info("%-24s %s (%s)", "fleet", page["headline"], PAGE)
    return page


def refreshed(foundation: str) -> list[Change]:
    """Run the pipeline of every recipe with stale models, nearest descendants first, and return what it did to them.

    A pipeline's new foundation may leave others behind, so they are looked for again after each. One that fails leaves
    the others standing, and each model its old champion.
    """
    found: list[Change] = []
    tried: set[str] = set()
    before = read_fleet()
    while (recipe := due(before, foundation, tried)) is not None:
        tried.add(recipe)
        log.info("%-24s derives %s again", "fleet", recipe)
        error = ""
        try:
            pipeline(recipe_file(recipe).as_posix())
        except ModelsFailed as failure:
            error = str(failure)
        except Exception as failure:
            # Whatever it is, the next recipe has no part in it; it is told on the page and fails this run at its end.
            error = one_line(failure)
        after = read_fleet()
        done = changes(recipe, before, after, error)
        if error and all(change.outcome != "failed" for change in done):  # no model's own fault: a report, a card
            done.append(Change(name=recipe, recipe=recipe, outcome="failed", reasons=(error,)))
        found += done
        before = after
    return found
