"""What can be seen of a run: its log under its own name, its faults in one line, and that it was killed."""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flows.environment import set_environment
from flows.failures import ModelsFailed, one_line
from tasks.console import log
from tasks.workspace import VAR

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

P = ParamSpec("P")
R = TypeVar("R")
AUTOMATION = "alma: a killed run is crashed"
SILENT = 90.0
"""Seconds without a sign of life after which a run counts as killed: two heartbeats of 30 s may be missed."""


def watched(work: Callable[P, R]) -> Callable[P, R]:
    """Return a flow's function with its log in ``var/log/<flow>.<run>.log`` and its faults told in one line.

    Decorate the function below ``@flow``. A fault of the input, or of some models, ends the run as failed with that
    line for its message and without a traceback on the page; a caller of the flow gets the exception as before.
    """

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from prefect.states import Failed

        set_environment()  # a worker that started this process knows of Prefect alone
        with _own_log() as note:
            try:
                return work(*args, **kwargs)
            except (ValueError, ModelsFailed) as error:
                note(f"failed: {one_line(error)}")
                _say_no_more(error)
                return Failed(message=one_line(error), data=error)  # type: ignore[return-value]
            except BaseException:
                note(traceback.format_exc())
                raise

    return run


def _say_no_more(told: Exception) -> None:
    """Keep Prefect from writing the traceback of what was told: it logs whatever a run of a deployment ends with."""

    def unless_told(record: logging.LogRecord) -> bool:
        return record.exc_info is None or record.exc_info[1] is not told

    logging.getLogger("prefect.flow_runs").addFilter(unless_told)


@contextmanager
def _own_log() -> Iterator[Callable[[str], None]]:
    """Write the project's lines to a file of the run's name as well; give what adds a text to that file alone."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    assert context is not None
    assert context.flow is not None
    assert context.flow_run is not None
    path = VAR / "log" / f"{context.flow.name}.{context.flow_run.name}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:  # a full disk: the run may still have room to say what it says elsewhere
        log.warning("%s is not written (%s)", path, error.strerror)
        yield lambda _: None
        return
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    log.addHandler(handler)
    try:
        yield lambda text: handler.emit(log.makeRecord(log.name, logging.ERROR, __file__, 0, text, (), None))
    finally:
        log.removeHandler(handler)
        handler.close()


def mark_killed_runs(client: "SyncPrefectClient") -> None:
    """Let the server mark a run as crashed that sends no heartbeat any more: one automation, made once.

    The process that serves the deployments sees a killed run at once; this is for when it was killed as well, and for
    runs from a terminal.
    """
    from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture
    from prefect.client.schemas.objects import StateType

    heartbeat = "prefect.flow-run.heartbeat"
    ends = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")}
    silence: dict[str, Any] = {
        "after": {heartbeat},
        "expect": {heartbeat, *ends},
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "for_each": {"prefect.resource.id"},
        "posture": Posture.Proactive,
        "within": timedelta(seconds=SILENT),
    }
    message = f"killed: no sign of life for {SILENT:g} s"
    wanted = AutomationCore(
        name=AUTOMATION,
        description="Marks a run as crashed whose process was killed.",
        trigger=EventTrigger(**silence),
        actions=[ChangeFlowRunState(name=None, state=StateType.CRASHED, message=message, force=False)],
    )
    there = client.read_automations_by_name(AUTOMATION)
    for extra in there[1:]:
        client.delete_automation(extra.id)
    if there:
        client.update_automation(there[0].id, wanted.model_copy(update={"enabled": there[0].enabled}))
    else:
        client.create_automation(wanted)
