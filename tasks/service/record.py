"""The file that keeps what was asked and answered, where somebody asks for it."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.console import log
from tasks.service.metrics import Metrics


class Record:
    """JSON lines, appended, for the eyes of the service's own user alone (mode 600)."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        """Open the file; ValueError where it cannot be written."""
        self.path, self._metrics = path, metrics
        try:
            self._file = open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_private)  # noqa: SIM115
        except OSError as error:
            raise ValueError(f"--record is {path}: cannot be written ({error.strerror})") from None

    def write(self, model: str, version: str, input: Any, output: Any) -> None:
        """Add a line; a full disk is told and counted, and stops no answer."""
        line = {"time": datetime.now(UTC).isoformat(), "model": model, "version": version}
        try:
            self._file.write(json.dumps({**line, "input": input, "output": output}, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            log.error("%s: a request was not recorded (%s)", self.path, error.strerror)
            self._metrics.unrecorded.inc()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
