"""kill -9 anywhere between the sources and the alias: the next run ends with the bits of one never killed."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from workspaces import RECIPE, alma, environment, make_workspace, receipts

STEP = re.compile(r"^\d\d:\d\d:\d\d  (\S+) +starts", re.MULTILINE)
LATEST = 3.0  # seconds after a step began


def digests(workspace: Path) -> dict[str, str]:
    """Return the digest of every weight file that the pipeline made, by its place."""
    return {
        f"{step}/{name}": digest
        for step, receipt in receipts(workspace).items()
        for name, digest in receipt["files"].items()
        if name.endswith(".safetensors")
    }


def registered(workspace: Path) -> dict[str, tuple[int, Any, int]]:
    """Return how many versions a model has, who is champion, and how often the alias moved, by its name."""
    from mlflow import MlflowClient

    store = MlflowClient(f"sqlite:///{workspace}/var/mlflow/mlflow.db")
    return {
        model.name: (
            len(store.search_model_versions(f"name = '{model.name}'")),
            model.aliases.get("champion"),
            sum(tag.startswith("alma.champion.") for tag in model.tags),
        )
        for model in store.search_registered_models()
    }


def killed(workspace: Path, steps: int, delay: float) -> str:
    """Run the pipeline until so many steps have begun, and kill it after the delay; return the last one's name.

    Empty where it ended before.
    """
    log = workspace / "killed.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", "pipeline", RECIPE],
            cwd=workspace,
            env=environment(workspace),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    end = time.monotonic() + 280
    while process.poll() is None and time.monotonic() < end:
        begun = STEP.findall(log.read_text(errors="replace"))
        if len(begun) >= steps:
            time.sleep(delay)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return begun[-1]
        time.sleep(0.02)
    assert process.wait() == 0, log.read_text()
    return ""


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_anywhere_it_ends_with_the_same_bits(
    workspace: Path, tmp_path: Path, torture: bool, dice: random.Random
) -> None:
    """Each run is killed a while after its second or third new step began, so the kills walk through the pipeline."""
    here = make_workspace(tmp_path / "killed")
    points = []
    for _ in range(20 if torture else 3):
        point = killed(here, dice.randint(1, 2) if torture else dice.randint(3, 6), dice.random() * LATEST)
        if point:
            points.append(point)
    assert points
    done = alma(here, "pipeline", RECIPE)
    assert done.returncode == 0, (points, done.stdout, done.stderr)
    assert digests(here) == digests(workspace), points
    found = registered(here)
    assert found == registered(workspace), points
    assert {versions for versions, _, _ in found.values()} == {1}, points
    decision = json.loads((here / "artifacts/tiny/promote/foundation/decision.json").read_text())
    assert decision["version"] == "1"
    print(f"killed in {', '.join(points)}")
