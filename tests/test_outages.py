"""Servers that are down and databases that are locked: one clear line, and a state from which the next run goes on."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from stack import free_ports
from workspaces import RECIPE, alma, environment, receipts

PASSWORD = "correct horse battery"


class Mlflow:
    """An MLflow server on the workspace's own database, with users where it is asked for them."""

    def __init__(self, workspace: Path, users: bool = False) -> None:
        self.workspace, self.port, self.users = workspace, free_ports({"mlflow": 0})["mlflow"], users
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        var = self.workspace / "var" / "mlflow"
        var.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{var}/mlflow.db"]
        command += ["--artifacts-destination", (var / "artifacts").as_uri()]
        more = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        if self.users:
            settings = var / "auth.ini"
            settings.write_text(
                f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{var}/auth.db\nadmin_username = alma\n"
                f"admin_password = {PASSWORD}\n"
                "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            )
            command += ["--app-name", "basic-auth"]
            more |= {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 24}
        with (self.workspace / "mlflow-server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=environment(self.workspace, **more),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with suppress(OSError), urlopen(self.address + "/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.2)
        raise AssertionError((self.workspace / "mlflow-server.log").read_text()[-2000:])

    def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def mlflow(workspace: Path, users: bool = False) -> Iterator[Mlflow]:
    server = Mlflow(workspace, users)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def last_line(code: int, stdout: str, stderr: str, expected: int = 1) -> str:
    """Return what a command said at its end, which is no traceback."""
    assert code == expected, stdout + stderr
    assert "Traceback" not in stdout + stderr, stderr
    found = [line for line in stderr.splitlines() if line.startswith(("failed: ", "error: "))]
    assert len(found) == 1, stderr
    return found[0]


def refused(workspace: Path, *command: str, expected: int = 1, **more: str) -> str:
    done = alma(workspace, *command, **more)
    return last_line(done.returncode, done.stdout, done.stderr, expected)


def history(address: str, run_id: str, key: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return sorted((row.step, row.value) for row in MlflowClient(address).get_metric_history(run_id, key))


class Running:
    """A promotion of the reviews, trained anew and longer, that goes on beside the test."""

    command = ("promote", RECIPE, "reviews", "specialists.reviews.train.epochs=12")

    def __init__(self, workspace: Path, **more: str) -> None:
        self.out, self.err = workspace / "out.log", workspace / "err.log"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            command = [sys.executable, "-m", "flows", *self.command]
            self.process = subprocess.Popen(
                command, cwd=workspace, env=environment(workspace, **more), stdout=out, stderr=err
            )

    def wait_for(self, said: str) -> None:
        end = time.monotonic() + 200
        while said not in self.out.read_text():
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < end, self.out.read_text()
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mlflow_killed_in_a_training_and_back_again_costs_no_row(workspace: Path) -> None:
    """Killed after the first rows, and back before the training's end: every row is there once."""
    with mlflow(workspace) as server:
        running = Running(workspace, MLFLOW_TRACKING_URI=server.address)
        running.wait_for("finetune/reviews         step ")
        server.kill()
        time.sleep(3)
        server.start()
        assert running.process.wait(300) == 0, running.out.read_text() + running.err.read_text()
        step = workspace / "artifacts/tiny/finetune/reviews"
        record = json.loads((workspace / "artifacts/tiny/promote/reviews/decision.json").read_text())
        rows = [json.loads(line) for line in (step / "history.jsonl").read_text().splitlines()]
        for key in ("train/loss", "valid/loss"):
            own = sorted((row["step"], row["value"]) for row in rows if row.get("key") == key)
            assert own
            assert history(server.address, record["run_id"], key) == own
        assert record["version"] == "2"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mlflow_away_at_the_decision_is_one_line_and_the_next_run_goes_on(workspace: Path) -> None:
    with mlflow(workspace) as server:
        where = {"MLFLOW_TRACKING_URI": server.address}
        running = Running(workspace, **where)
        running.wait_for("audit/reviews            starts")
        server.kill()
        code = running.process.wait(200)
        line = last_line(code, running.out.read_text(), running.err.read_text())
        assert f"MLflow at {server.address} does not answer" in line
        weights = receipts(workspace)["artifacts/tiny/finetune/reviews"]["digest"]
        # While it is away, the next run says so before it begins anything.
        assert f"MLflow at {server.address} does not answer" in refused(workspace, *Running.command, **where)
        server.start()
        again = alma(workspace, *Running.command, **where)
        assert again.returncode == 0, again.stdout + again.stderr
        assert "finetune/reviews         found done" in again.stdout
        assert receipts(workspace)["artifacts/tiny/finetune/reviews"]["digest"] == weights


def test_a_wrong_password_is_one_line(workspace: Path) -> None:
    with mlflow(workspace, users=True) as server:
        where = {"MLFLOW_TRACKING_URI": server.address, "MLFLOW_TRACKING_USERNAME": "alma"}
        shutil.rmtree(workspace / "artifacts/tiny/promote/reviews")
        line = refused(workspace, "promote", RECIPE, "reviews", MLFLOW_TRACKING_PASSWORD="not-this-one", **where)
        assert "MLFLOW_TRACKING_PASSWORD" in line
        assert "not-this-one" not in line
        done = alma(workspace, "promote", RECIPE, "reviews", MLFLOW_TRACKING_PASSWORD=PASSWORD, **where)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_locked_database_is_one_line_and_the_next_run_goes_on(workspace: Path) -> None:
    shutil.rmtree(workspace / "artifacts/tiny/promote/reviews")
    with closing(sqlite3.connect(workspace / "var/mlflow/mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        line = refused(workspace, "promote", RECIPE, "reviews")
        assert "mlflow.db locked" in line, line
        other.execute("ROLLBACK")
    done = alma(workspace, "promote", RECIPE, "reviews")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((workspace / "artifacts/tiny/promote/reviews/decision.json").read_text())["version"] == "1"


def test_a_champion_that_was_deleted_is_told_and_registered_again(workspace: Path) -> None:
    from mlflow import MlflowClient

    store = MlflowClient(f"sqlite:///{workspace}/var/mlflow/mlflow.db")
    store.delete_model_version("tiny-foundation", "1")
    for command in (["lineage", "tiny-foundation@champion"], ["export", "tiny-foundation", "out"]):
        assert "tiny-foundation" in refused(workspace, *command, expected=2)
    assert "version 1, the last one, was deleted" in refused(
        workspace, "rollback", "tiny-foundation", "--reason", "looks odd", expected=2
    )
    done = alma(workspace, "promote", RECIPE, "foundation")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pretrain                 found done" in done.stdout
    assert str(store.get_model_version_by_alias("tiny-foundation", "champion").version) == "2"


def test_prefect_away_at_the_start_is_one_line(workspace: Path) -> None:
    port = free_ports({"prefect": 0})["prefect"]
    address = f"http://127.0.0.1:{port}/api"
    line = refused(workspace, "pretraining", RECIPE, PREFECT_API_URL=address)
    assert f"Prefect at {address} does not answer" in line
