"""Where things lie: the current directory is the workspace, and every path is relative to it."""

import hashlib
import os
import socket
from pathlib import Path

import psutil

DATA = Path("data")
ARTIFACTS = Path("artifacts")
VAR = Path("var")


def step_directory(recipe: str, step: str) -> Path:
    """Return ``artifacts/<recipe>/<step>``; a step of one model is named ``finetune/<model>``."""
    return ARTIFACTS / recipe / step


def fsync_tree(directory: Path) -> None:
    """Flush every file below ``directory``, and the directories themselves, to the disk."""
    for path in [*directory.rglob("*"), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the whole new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def this_process() -> dict[str, object]:
    """Return what names this process beyond its life: host, pid and start (seconds since 1970)."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_digest(text: str) -> str:
    """Return the sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
