"""DVC: which bytes the corpora are, and how to get them back. The one file that speaks to DVC."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tasks.workspace import DATA

POINTER = Path("data.dvc")


def add_data() -> str:
    """Bring ``data/`` under DVC and return its digest (``outs[0].md5`` of ``data.dvc``).

    A workspace without ``.dvc`` gets one: inside git as usual, elsewhere with ``--no-scm``.

    Raises:
        OSError: DVC could not do it; the message carries its last line.
    """
    if not Path(".dvc").is_dir():
        _dvc("init", "--quiet", *([] if Path(".git").exists() else ["--no-scm"]))
        _dvc("config", "core.analytics", "false")
        _dvc("config", "core.check_update", "false")
    _dvc("add", "--quiet", DATA.as_posix())
    digest = data_digest()
    assert digest is not None
    return digest


def data_digest(revision: str = "") -> str | None:
    """Return the digest that ``data.dvc`` pins, now or in a revision of git; None where no data was ingested yet.

    Raises:
        ValueError: ``data.dvc`` is not what DVC writes, or git knows no such revision of it.
    """
    where = f"{POINTER}@{revision}" if revision else str(POINTER)
    if revision:
        command = ["git", "show", "--end-of-options", f"{revision}:./{POINTER}"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        if shown.returncode:
            raise ValueError(f"{where}: git shows no such file: {' '.join(shown.stderr.split())}")
        text = shown.stdout
    elif POINTER.exists():
        text = POINTER.read_text(encoding="utf-8")
    else:
        return None
    try:
        return str(yaml.safe_load(text)["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{where}: expected a file that DVC wrote, with outs[0].md5; restore it with git") from error


def _dvc(*arguments: str) -> None:
    # A subprocess, because two threads of one process race inside DVC without a word.
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        if shutil.disk_usage(".").free < 1 << 20:  # DVC itself then says nothing of use
            raise OSError(errno.ENOSPC, "No space left on device", "data")
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        told = [line for line in lines if line.startswith("ERROR:") or "Error" in line] or lines
        raise OSError(f"dvc {' '.join(arguments)} failed: {told[-1].removeprefix('ERROR: ')}")
