"""The spool: metrics and progress as JSON lines on disk, with times fixed when they are written."""

import json
import os
import time
from pathlib import Path
from types import TracebackType


class Spool:
    """An append-only file of values and of progress.

    Rows are `{"time", "step", "key", "value"}` and `{"time", "progress", "total", "message"}`.

    Times are Unix milliseconds. A reader may follow the file while it grows and forward it as often as it
    likes: a row never changes.
    """

    def __init__(self, path: Path, resumed_step: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _keep_until(path, resumed_step)
        self.path = path
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def value(self, step: int, key: str, value: float) -> None:
        """Write one measured value of an optimiser step."""
        self._write({"time": time.time_ns() // 1_000_000, "step": step, "key": key, "value": float(value)})

    def progress(self, done: int, total: int, message: str) -> None:
        """Write how far the run is, in optimiser steps."""
        self._write({"time": time.time_ns() // 1_000_000, "progress": done, "total": total, "message": message})

    def _write(self, row: dict[str, object]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Force the rows to disk and close the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _keep_until(path: Path, step: int) -> None:
    """Drop the rows of steps that will be trained again, and a last row torn by a kill."""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and row.get("step", row.get("progress", 0)) <= step:
            kept.append(line)
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("wb") as file:
        file.writelines(kept if step else [])
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
