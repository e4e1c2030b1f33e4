"""`make up` for real: both servers, the deployments, a run triggered over the API, a schedule that fires."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from workspaces import TINY, alma, environment, make_workspace

TRIGGER = """
import sys, time
from datetime import timedelta
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import IntervalSchedule

with get_client(sync_client=True) as client:
    names = sorted(d.name for d in client.read_deployments())
    assert names == ["alma"] * 8, names
    deployment = client.read_deployment_by_name("pretraining/alma")
    overrides = ["pretrain.train.steps=3", "pretrain.train.validate_every=3"]
    run = client.create_flow_run_from_deployment(
        deployment.id, parameters={"recipe": "recipes/tiny.yaml", "overrides": overrides}
    )
    end = time.monotonic() + 200
    while not (state := client.read_flow_run(run.id).state).is_final() and time.monotonic() < end:
        time.sleep(1)
    print("state", state.type.value, state.message)
    tasks = [t.name.rsplit("-", 1)[0] for t in client.read_task_runs()]
    print("tasks", *sorted(tasks))
    told, end = False, time.monotonic() + 60  # logs reach the server some seconds after they are written
    while not told and time.monotonic() < end:
        told = any("pretrain" in log.message and "done in" in log.message for log in client.read_logs())
        time.sleep(1)
    print("told", told)
    client.create_deployment_schedules(deployment.id, [(IntervalSchedule(interval=timedelta(hours=6)), True)])
    end = time.monotonic() + 90
    scheduled = []
    while not scheduled and time.monotonic() < end:
        scheduled = [r for r in client.read_flow_runs() if r.state and r.state.type.value == "SCHEDULED"]
        time.sleep(1)
    print("scheduled", len(scheduled) > 0)
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = make_workspace(tmp_path_factory.mktemp("servers") / "work", TINY)
    started = alma(directory, "up")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield directory
    finally:
        alma(directory, "down")


def test_a_flow_is_triggered_and_a_schedule_appears(workspace: Path) -> None:
    servers = json.loads((workspace / "var/servers.json").read_text())
    with urlopen(servers["mlflow"]["address"] + "/health", timeout=10) as answer:
        assert answer.status == 200
    done = subprocess.run(
        [sys.executable, "-c", TRIGGER],
        cwd=workspace,
        env=environment(workspace, PREFECT_API_URL=servers["prefect"]["address"] + "/api"),
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "state COMPLETED" in done.stdout, done.stdout
    assert "tasks ingest prepare pretrain tokenizer" in done.stdout
    assert "told True" in done.stdout
    assert "scheduled True" in done.stdout
    assert (workspace / "artifacts/tiny/pretrain/model/model.safetensors").exists()


def test_up_again_starts_nothing_new_and_a_step_run_by_hand_is_found_done(workspace: Path) -> None:
    before = (workspace / "var/servers.json").read_text()
    assert alma(workspace, "up").returncode == 0
    assert (workspace / "var/servers.json").read_text() == before
    started = time.monotonic()
    done = alma(workspace, "prepare", "recipes/tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert " starts" not in done.stdout
    assert time.monotonic() - started < 30


def test_down_stops_what_up_started(workspace: Path) -> None:
    servers = json.loads((workspace / "var/servers.json").read_text())
    done = alma(workspace, "down")
    assert done.stdout.count("stopped") == 3, done.stdout
    for server in servers.values():
        with pytest.raises(ProcessLookupError):
            os.kill(server["pid"], 0)
    assert "nothing was running" in alma(workspace, "down").stdout
