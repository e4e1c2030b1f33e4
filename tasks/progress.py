"""The progress artifact of the Prefect page, where a step runs inside a flow."""

import re
from uuid import UUID


class ProgressBar:
    """A bar from 0 to 100 on the page of the run; nothing where the step runs without Prefect."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.artifact: UUID | None = None

    def show(self, percent: float, said: str = "") -> None:
        """Set the bar (0 to 100), and say beside it how far the step is."""
        from prefect.artifacts import create_progress_artifact, update_progress_artifact
        from prefect.context import TaskRunContext

        if TaskRunContext.get() is None:
            return
        description = f"{self.step}: {said}" if said else self.step
        if self.artifact is None:
            key = re.sub(r"[^a-z0-9]+", "-", self.step.lower())  # all that Prefect takes for one
            artifact = create_progress_artifact(percent, key=key, description=description)
            assert isinstance(artifact, UUID)
            self.artifact = artifact
        else:
            update_progress_artifact(self.artifact, percent, description=description)
