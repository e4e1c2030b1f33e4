"""Checkpoints that survive a kill, a full disk and a flipped bit: directories written whole or not at all."""

import hashlib
import json
import os
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor

MANIFEST = "MANIFEST.json"
STATE = "state.pt"
KEPT = 2


class DirectoryCheckpointIO(CheckpointIO):
    """Lightning's way to disk: `<parent>/step-<n>/` with the state and a manifest of sizes and digests.

    The directory appears under its name by one rename after everything in it was forced to disk; the newest
    two are kept. The state is a torch file of tensors and plain values, loaded with `weights_only=True`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one checkpoint directory; OSError when the disk refuses, the older ones untouched."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_space(target.parent, _size_of(checkpoint))
        temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            with (temporary / STATE).open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            _write_manifest(temporary)
            _sync_directory(temporary)
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
            _sync_directory(target.parent)
        except (OSError, RuntimeError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            # torch.save reports a short write as RuntimeError; to the user both are the disk.
            raise OSError(f"{target}: the checkpoint could not be written: {error}") from error
        for old in checkpoints(target.parent)[KEPT:]:
            self.remove_checkpoint(old)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the state of one verified directory, on the CPU unless `map_location` says otherwise."""
        if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "").lower() in ("1", "y", "yes", "true"):
            raise ValueError("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set, expected it unset: it makes files run code")
        state: dict[str, Any] = torch.load(Path(path) / STATE, map_location=map_location or "cpu", weights_only=True)
        return state

    def remove_checkpoint(self, path: Any) -> None:
        """Delete one checkpoint directory."""
        shutil.rmtree(Path(path))


def checkpoints(directory: Path) -> list[Path]:
    """Return the finished checkpoint directories, the newest step first."""
    if not directory.is_dir():
        return []
    found = [p for p in directory.glob("step-*") if p.is_dir() and p.name[5:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[5:]), reverse=True)


def checkpoint_path(directory: Path, step: int) -> Path:
    """Return where the checkpoint of an optimiser step lies."""
    return directory / f"step-{step:09d}"


def fault(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint directory, naming the file, or None when it verifies."""
    manifest = checkpoint / MANIFEST
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        for name, entry in entries.items():
            path = checkpoint / name
            if path.stat().st_size != entry["size"]:
                return f"{path}: {path.stat().st_size} bytes, expected {entry['size']}"
            if _digest(path) != entry["sha256"]:
                return f"{path}: its SHA-256 differs from the manifest's"
        if STATE not in entries:
            return f"{manifest}: no entry for {STATE}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{manifest}: {type(error).__name__}: {error}"
    return None


def newest_verified(directory: Path) -> Path | None:
    """Return the newest checkpoint that verifies, warning about every one passed over; None without one."""
    for path in checkpoints(directory):
        reason = fault(path)
        if reason is None:
            return path
        warnings.warn(f"checkpoint passed over: {reason}", stacklevel=2)
    return None


def sweep(directory: Path) -> None:
    """Remove what a killed run left half written."""
    if directory.is_dir():
        for path in directory.glob(".tmp-*"):
            shutil.rmtree(path, ignore_errors=True)


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's, torch's and every CUDA generator, as tensors."""
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy_position": torch.tensor([int(position), int(has_gauss)], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` returned."""
    gauss: Tensor = state["python_gauss"]
    random.setstate((3, tuple(state["python"].tolist()), gauss.item() if gauss.numel() else None))
    position, has_gauss = state["numpy_position"].tolist()
    keys = state["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, state["numpy_gauss"].item()))
    torch.set_rng_state(state["torch"].cpu().to(torch.uint8))
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu().to(torch.uint8) for s in state["cuda"]])


def _size_of(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(_size_of(v) for v in value.values())
    return sum(_size_of(v) for v in value) if isinstance(value, list | tuple) else 64


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed * 1.1:
        raise OSError(f"{directory}: {free / 1e6:.0f} MB free, a checkpoint needs {needed * 1.1 / 1e6:.0f} MB")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(directory: Path) -> None:
    files = {
        p.name: {"size": p.stat().st_size, "sha256": _digest(p)} for p in sorted(directory.iterdir()) if p.is_file()
    }
    with (directory / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
