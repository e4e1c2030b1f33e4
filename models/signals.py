"""Stopping in good order: SIGTERM and SIGINT are noted, and obeyed between two optimiser steps."""

import signal
import threading
from types import FrameType


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
