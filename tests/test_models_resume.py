"""A run that is killed and resumed ends with the bits of one that never stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from models_examples import StopAfter, causal_job, instruction_rows, rows_job
from safetensors.torch import load_file

from models.checkpoint import checkpoints, newest_verified
from models.fit import fit
from models.job import Job
from models.signals import StopSignal


def weights(out: str) -> dict[str, torch.Tensor]:
    return load_file(Path(out) / "model" / "model.safetensors")


def equal(a: str, b: str) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def rows_of(spool: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(spool).read_text().splitlines()]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("objective", ["causal_lm", "instruction"])
def test_stopped_and_resumed_equals_straight(tmp_path: Path, accumulation: int, objective: str) -> None:
    rhythm = {"accumulation": accumulation, "validate_every": 3}
    job = (
        causal_job(tmp_path, **rhythm)
        if objective == "causal_lm"
        else rows_job(tmp_path, objective, instruction_rows(), **rhythm)
    )
    straight = {**job, "out": str(tmp_path / "straight"), "checkpoints": None, "spool": None}
    fit(Job(**straight), StopSignal())
    with pytest.raises(SystemExit) as stopped:
        fit(Job(**job), StopAfter(4))
    assert stopped.value.code == 143
    summary = fit(Job(**job), StopSignal())
    assert 0 < summary["resumed_from_step"] < 8
    assert summary["steps"] == 8
    assert equal(straight["out"], job["out"])
    steps = [(row["key"], row["step"]) for row in rows_of(job["spool"]) if "key" in row]
    assert len(steps) == len(set(steps))
    assert [step for key, step in steps if key == "train/loss"] == list(range(1, 9))
    assert [step for key, step in steps if key == "valid/loss"] == [3, 6, 8]


def test_sigterm_saves_and_the_same_command_resumes(tmp_path: Path) -> None:
    job = causal_job(tmp_path, steps=100_000, log_every=1)
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job))
    command = [sys.executable, "-m", "models.fit", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    spool = Path(job["spool"])
    while process.poll() is None and not (spool.exists() and "train/loss" in spool.read_text()):
        time.sleep(0.05)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143, process.communicate()[1]
    assert time.monotonic() - asked < 10
    saved = newest_verified(Path(job["checkpoints"]))
    assert saved is not None
    assert int(saved.name[5:]) == max(row["step"] for row in rows_of(job["spool"]) if "step" in row)


def test_corrupted_newest_checkpoint_falls_back_and_is_named(tmp_path: Path) -> None:
    job = causal_job(tmp_path, checkpoint_every=2)
    fit(Job(**job), StopSignal())
    first = weights(job["out"])
    newest, older = checkpoints(Path(job["checkpoints"]))
    state = newest / "state.pt"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.warns(UserWarning, match=f"passed over: .*{newest.name}.*state.pt"):
        summary = fit(Job(**job), StopSignal())
    assert summary["resumed_from_step"] == int(older.name[5:]) == 6
    assert all(torch.equal(first[name], value) for name, value in weights(job["out"]).items())


def test_checkpoint_of_another_job_is_passed_over(tmp_path: Path) -> None:
    job = causal_job(tmp_path, checkpoint_every=2)
    fit(Job(**job), StopSignal())
    with pytest.warns(UserWarning, match="another job"):
        assert fit(Job(**{**job, "seed": 2}), StopSignal())["resumed_from_step"] == 0
