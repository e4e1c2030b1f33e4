"""The event that tells the fleet of a new foundation; the flow `fleet` waits for it."""

from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event

from tasks import registry

PROMOTED = "alma.foundation.promoted"
"""The name of the event."""


def announce(name: str, version: str) -> None:
    """Say that another version is champion, if it is a foundation; outside of a flow run there is nobody to hear it.

    An event is lost where the run is killed before it is sent. What is stale follows from the registry alone, so the
    next refresh finds it all the same.
    """
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return
    tags = registry.tags_of(name, version) or {}
    if "alma.foundation" in tags:
        return
    emit_event(
        PROMOTED,
        resource={"prefect.resource.id": f"alma.model.{name}", "prefect.resource.name": f"{name}/{version}"},
        payload={"name": name, "version": version, "recipe": tags.get("alma.recipe", "")},
    )
