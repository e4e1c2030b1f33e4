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

    def __init__(self, path: Path, job: str = "") -> None:
        """Open the spool of a job (its digest); rows of another job that lie there are dropped.

        A resumed run writes again only what is not there yet: the steps that it repeats since the last
        checkpoint have equal values, and a second row with a second time would count twice.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._last = _keep_rows_of(path, job)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        if not path.stat().st_size:
            self._write({"job": job})

    def value(self, step: int, key: str, value: float) -> None:
        """Write one measured value of an optimiser step, unless an earlier run of the job wrote it."""
        if step > self._last.get(key, -1):
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


def _keep_rows_of(path: Path, job: str) -> dict[str, int]:
    """Drop another job's rows and a last row torn by a kill; return the last step written of each key."""
    last: dict[str, int] = {}
    kept = []
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if not lines or lines[0] != (json.dumps({"job": job}) + "\n").encode():
        lines = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n"):
            kept.append(line)
            if "key" in row:
                last[row["key"]] = max(row["step"], last.get(row["key"], -1))
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return last
