"""Servers that are down, slow, locked or locked up: one clear line, and a state from which the next run goes on."""

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


def last_line(done: "subprocess.CompletedProcess[str]", code: int = 1) -> str:
    """Return what a command said at its end, which is no traceback."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    found = [line for line in done.stderr.splitlines() if line.startswith(("failed: ", "error: "))]
    assert len(found) == 1, done.stderr
    return found[0]


def history(workspace: Path, address: str, run_id: str, key: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return sorted((row.step, row.value) for row in MlflowClient(address).get_metric_history(run_id, key))


LONGER = "specialists.reviews.train.epochs=12"


def test_mlflow_killed_in_a_training_and_back_again_costs_no_row(workspace: Path) -> None:
    """Killed after the first rows, and back before the training's end: every row is there once."""
    with mlflow(workspace) as server:
        where = {"MLFLOW_TRACKING_URI": server.address}
        with (workspace / "out.log").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows", "promote", RECIPE, "reviews", LONGER],
                cwd=workspace,
                env=environment(workspace, **where),
                stdout=out,
                stderr=out,
            )
        end = time.monotonic() + 120
        while "step " not in (workspace / "out.log").read_text() and time.monotonic() < end:
            time.sleep(0.05)
        server.kill()
        time.sleep(3)
        server.start()
        assert process.wait(200) == 0, (workspace / "out.log").read_text()
        step = workspace / "artifacts/tiny/finetune/reviews"
        record = json.loads((workspace / "artifacts/tiny/promote/reviews/decision.json").read_text())
        rows = [json.loads(line) for line in (step / "history.jsonl").read_text().splitlines()]
        for key in ("train/loss", "valid/loss"):
            own = sorted((row["step"], row["value"]) for row in rows if row.get("key") == key)
            assert own
            assert history(workspace, server.address, record["run_id"], key) == own
        assert record["version"] == "2"


def test_mlflow_away_at_the_decision_is_one_line_and_the_next_run_goes_on(workspace: Path) -> None:
    with mlflow(workspace) as server:
        server.kill()
        where = {"MLFLOW_TRACKING_URI": server.address}
        line = last_line(alma(workspace, "promote", RECIPE, "reviews", LONGER, **where))
        assert server.address in line, line
        assert "MLflow" in line
        weights = receipts(workspace)["artifacts/tiny/finetune/reviews"]["digest"]
        server.start()
        again = alma(workspace, "promote", RECIPE, "reviews", LONGER, **where)
        assert again.returncode == 0, again.stdout + again.stderr
        assert "finetune/reviews         found done" in again.stdout
        assert receipts(workspace)["artifacts/tiny/finetune/reviews"]["digest"] == weights


def test_a_wrong_password_is_one_line(workspace: Path) -> None:
    with mlflow(workspace, users=True) as server:
        where = {"MLFLOW_TRACKING_URI": server.address, "MLFLOW_TRACKING_USERNAME": "alma"}
        shutil.rmtree(workspace / "artifacts/tiny/promote/reviews")
        line = last_line(alma(workspace, "promote", RECIPE, "reviews", MLFLOW_TRACKING_PASSWORD="wrong", **where))
        assert "MLFLOW_TRACKING_PASSWORD" in line
        assert "wrong" not in line.replace("is wrong", "")
        done = alma(workspace, "promote", RECIPE, "reviews", MLFLOW_TRACKING_PASSWORD=PASSWORD, **where)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_locked_database_is_one_line_and_the_next_run_goes_on(workspace: Path) -> None:
    shutil.rmtree(workspace / "artifacts/tiny/promote/reviews")
    with closing(sqlite3.connect(workspace / "var/mlflow/mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        line = last_line(alma(workspace, "promote", RECIPE, "reviews"))
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
        assert "tiny-foundation" in last_line(alma(workspace, *command), 2)
    assert "version 1, the last one, was deleted" in last_line(
        alma(workspace, "rollback", "tiny-foundation", "--reason", "looks odd"), 2
    )
    done = alma(workspace, "promote", RECIPE, "foundation")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pretrain                 found done" in done.stdout
    assert str(store.get_model_version_by_alias("tiny-foundation", "champion").version) == "2"


def test_prefect_away_at_the_start_is_one_line(workspace: Path) -> None:
    port = free_ports({"prefect": 0})["prefect"]
    address = f"http://127.0.0.1:{port}/api"
    line = last_line(alma(workspace, "pretraining", RECIPE, PREFECT_API_URL=address))
    assert f"Prefect at {address} does not answer" in line
