"""The devices of this machine, lent to one training each: two on one device slow each other down."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


class Devices:
    """Devices by the names that CUDA_VISIBLE_DEVICES takes; a machine without a GPU is one device."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.free = names, list(names)
        self.changed = threading.Condition()
        self.stopping = threading.Event()
        """Set when the run is stopped: a training in another thread then writes its checkpoint and ends."""

    @contextmanager
    def lend(self, *, whole: bool = False) -> Iterator[dict[str, str]]:
        """Wait for a device, or for the ``whole`` machine, and yield the environment that shows no other."""
        wanted = len(self.names) if whole else 1
        with self.changed:
            self.changed.wait_for(lambda: len(self.free) >= wanted)
            mine, self.free = self.free[:wanted], self.free[wanted:]
        try:
            yield {"CUDA_VISIBLE_DEVICES": ",".join(mine)} if len(self.names) > 1 else {}
        finally:
            with self.changed:
                self.free += mine
                self.changed.notify_all()


@cache
def machine() -> Devices:
    """Return the devices that this process may use, without importing torch."""
    return Devices(_names(os.environ.get("CUDA_VISIBLE_DEVICES")) or ["cpu"])


def _names(visible: str | None) -> list[str]:
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in done.stdout.splitlines())
    return [str(number) for number in range(count)]
