"""Stopping in good order: SIGTERM and SIGINT are noted, and obeyed between two optimiser steps."""

import os
import signal
import threading
import time
from types import FrameType

PARENT = "ALMA_PARENT"
"""Environment variable with the process id without which a training process has nobody to report to."""


def stop_with_parent() -> None:
    """Send this process SIGTERM once the process named in ``ALMA_PARENT`` is gone.

    A flow that is killed outright cannot stop its training process; left alone, that would go on writing to
    the checkpoints that the next run resumes from.
    """
    parent = int(os.environ.get(PARENT, "0"))
    if not parent:
        return

    def watch() -> None:
        while True:
            try:
                os.kill(parent, 0)
            except OSError:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.5)

    threading.Thread(target=watch, daemon=True).start()


class StopSignal:
    """Remembers the first SIGTERM or SIGINT; a second one ends the process at once."""

    def __init__(self) -> None:
        self.number = 0
        self.deferring = False

    def install(self) -> None:
        """Become the handler of both signals (main thread only; elsewhere nothing happens)."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number or not self.deferring:
            raise SystemExit(128 + number)
        self.number = number

    @property
    def received(self) -> bool:
        """Whether a signal asked the run to stop."""
        return self.number != 0
