"""A person's word on a promotion: the form of a paused run, and the flow that takes the answer later."""

import os
from collections.abc import Callable
from typing import Annotated

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL
from prefect.states import Running
from pydantic import StringConstraints

from flows.embedded import ADDRESS
from flows.watching import watched
from tasks import ledger
from tasks.announce import announce
from tasks.approval import Answer, answer
from tasks.approval_form import summary
from tasks.console import log
from tasks.receipts import Receipt

ANSWER_WITHIN = 3600
"""Seconds that a run is paused for an answer. The deployments run one flow at a time, and this one keeps the others
waiting; afterwards the version still waits, and the flow `approve` takes the answer."""
LOOK_EVERY = 5
"""Seconds from look to look whether there is one."""

Said = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"\S", max_length=ledger.LONGEST_REASON)]
"""Not blank; by a pattern, since the page's server knows of the form what its JSON schema says."""


class Approval(RunInput):
    """The form of a paused run."""

    decision: Answer
    reason: Said
    name: Said


@flow
@watched
def approve(version: str, reason: str, decision: Answer = "approve", name: str = "") -> str:
    """Say the last word on a version that waits for a person, or let one return that was champion before.

    Args:
        version: A registered version, starter-reviews/3 for example.
        reason: Why; kept with the version.
        decision: approve lets it become champion, reject refuses it.
        name: Who says so; empty: the user that the flow runs as.
    """
    return say(version, reason, decision, name)


def say(version: str, reason: str, decision: Answer, name: str = "") -> str:
    """Do what the flow does, without a server; ValueError in one line for what waits for nobody."""
    model, slash, number = version.partition("/")
    if not (slash and number.isdigit()):
        raise ValueError(f"{version}: expected a model and a version, starter-reviews/3 for example")
    said = answer(model, number, decision, reason, name.strip() or ledger.whoami())
    if decision == "approve":
        announce(model, number)
    return said


def asked(promoted: Receipt, again: Callable[[], Receipt]) -> Receipt:
    """Return the receipt of a promotion after a person was asked for it, where the policy wants one.

    The run pauses and its page shows the form. Where there is no page, or nobody answers in time, the version goes on
    waiting.

    Args: again: promotes once more, and finds the answer.
    """
    if promoted.metrics["approval"] != "awaiting":
        return promoted
    model, version = str(promoted.config["registered_name"]), str(promoted.metrics["version"])
    later = f"python -m flows approve {model}/{version} --reason ... [--reject]"
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or PREFECT_API_URL.value() in (None, os.environ.get(ADDRESS)):
        log.info("%-24s version %s waits for a person: %s", promoted.step, version, later)
        return promoted
    log.info("%-24s version %s waits for a person: resume this run on its page, or %s", promoted.step, version, later)
    form = Approval.with_initial_data(description=summary(model, version))
    try:
        given = pause_flow_run(
            wait_for_input=form, timeout=ANSWER_WITHIN, poll_interval=LOOK_EVERY, key=f"{model}-{version}"
        )
    except FlowPauseTimeout:
        log.info("%-24s nobody answered; version %s goes on waiting: %s", promoted.step, version, later)
        with get_client(sync_client=True) as client:
            # A run that was paused for too long can only fail, unless it is told otherwise.
            client.set_flow_run_state(context.flow_run.id, Running(message="nobody answered"), force=True)
        return promoted
    try:
        log.info("%-24s %s", promoted.step, answer(model, version, given.decision, given.reason, given.name))
    except ValueError as error:  # somebody was faster, on the command line
        log.warning("%-24s %s", promoted.step, error)
    else:
        if given.decision == "approve":
            announce(model, version)
    return again()
