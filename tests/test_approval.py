"""A person's word in the real pipeline: asked by a real Prefect server, given later, and found by the next run."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from registered_examples import FOUNDATION, register_noise
from workspaces import RECIPE, alma, environment

from flows.answers import main as answers
from tasks import ledger, registry, tracking

WAIT = 240


@pytest.fixture
def inside(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the workspace after its policy began to ask for a person, with the test inside of it."""
    policy = workspace / "mlflow/promotion.yaml"
    policy.write_text(policy.read_text().replace("approval: none", "approval: person"))
    monkeypatch.chdir(workspace)
    for name in ("PREFECT_API_URL", "ALMA_EMBEDDED_PREFECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/var/mlflow/mlflow.db")
    return workspace


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a Prefect server that is none of a command's own."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.embedded", str(port)],
        env=environment(home, PREFECT_HOME=str(home), ALMA_PARENT=str(os.getpid()), DO_NOT_TRACK="true"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}/api"
    try:
        end = time.monotonic() + WAIT
        while time.monotonic() < end and not _answers(address):
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, ConnectionError, TimeoutError):
        return False


def promoted(model: str) -> dict[str, Any]:
    """Return the decision that lies in the workspace."""
    found: dict[str, Any] = json.loads(Path(f"artifacts/tiny/promote/{model}/decision.json").read_text())
    return found


def promote(workspace: Path, model: str) -> str:
    done = alma(workspace, "promote", RECIPE, model)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def forget(*models: str) -> None:
    """Take models out of the registry, so that the next promotion is their first."""
    for model in models:
        tracking.client().delete_registered_model(f"tiny-{model}")


ASKED = """
import json, sys, time
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

answers = [json.loads(line) for line in sys.argv[1:]]
with get_client(sync_client=True) as client:
    for answer in answers:
        end = time.monotonic() + 240
        said = None
        while said is None:
            assert time.monotonic() < end, "no run was paused"
            time.sleep(0.5)
            for run in client.read_flow_runs():
                keys = run.state.state_details.run_input_keyset if run.state and run.state.name == "Paused" else None
                try:
                    said = client.read_flow_run_input(run.id, keys["description"]) if keys else None
                except PrefectHTTPStatusError:
                    continue  # the form is sent after the state
                if said is not None:
                    break
        print(said)
        told = client.resume_flow_run(run.id, run_input={**answer, "reason": "  "})
        print(json.dumps(told.status.value))
        told = client.resume_flow_run(run.id, run_input=answer)
        print(json.dumps(told.status.value))
"""


def test_the_page_asks_and_the_run_goes_on_with_the_answer(inside: Path, server: str) -> None:
    forget("foundation", "clerk")
    run = subprocess.Popen(
        [sys.executable, "-m", "flows", "promotion", RECIPE],
        cwd=inside,
        env=environment(inside, PREFECT_API_URL=server),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    answered = [
        {"decision": "approve", "reason": "the audits are read", "name": "A. Person"},
        {"decision": "reject", "reason": "it is rude to customers", "name": "B. Person"},
    ]
    asking = subprocess.run(
        [sys.executable, "-c", ASKED, *map(json.dumps, answered)],
        env=environment(inside, PREFECT_API_URL=server),
        capture_output=True,
        text=True,
        timeout=WAIT + 60,
        check=False,
    )
    said = run.communicate(timeout=WAIT)[0]
    assert asking.returncode == 0, asking.stderr + said
    assert run.returncode == 0, said
    first, refused, taken, second, *_ = map(json.loads, asking.stdout.splitlines())
    assert (refused, taken) == ("REJECT", "ACCEPT"), "an answer without a reason is none"
    assert "## tiny-foundation, version 1" in first
    assert "| bits per byte |" in first
    assert "| occupation-pronoun | PASS |" in first
    assert "beats the baseline unigram" in first
    assert "## tiny-clerk, version 1" in second
    assert registry.model_of(FOUNDATION)[1] == {"champion": "1"}
    assert registry.model_of("tiny-clerk")[1] == {}
    foundation, clerk = promoted("foundation"), promoted("clerk")
    assert (foundation["promote"], foundation["alias"]) == (True, "champion")
    assert "pass: approved by A. Person on " in foundation["reasons"][-1]
    assert (clerk["promote"], clerk["alias"]) == (False, None)
    assert clerk["reasons"][-1].endswith(": it is rude to customers")
    tags = registry.tags_of("tiny-clerk", "1") or {}
    assert [tags[f"alma.approval{field}"] for field in ("", "_by", "_reason")] == [
        "rejected",
        "B. Person",
        "it is rude to customers",
    ]
    assert [move.how for move in ledger.moves(FOUNDATION)] == ["approved"]


@pytest.mark.slow
def test_where_nobody_can_be_asked_the_version_waits_for_the_command(
    inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget("foundation")
    embedded = alma(inside, "promotion", RECIPE, "foundation")
    assert embedded.returncode == 0, embedded.stdout + embedded.stderr
    assert "version 1 waits for a person: python -m flows approve tiny-foundation/1" in embedded.stdout
    assert registry.model_of(FOUNDATION)[1] == {"challenger": "1"}
    assert answers(["approve", f"{FOUNDATION}/1", "--reason", "read it"]) == 0
    assert "tiny-foundation/1 is champion" in capsys.readouterr().out
    assert registry.model_of(FOUNDATION)[1] == {"champion": "1"}
    assert "promote/foundation       starts" in promote(inside, "foundation")
    assert promoted("foundation")["alias"] == "champion"
    assert answers(["approve", f"{FOUNDATION}/1", "--reason", "again"]) == 2
    assert answers(["approve", FOUNDATION, "--reason", "again"]) == 2
    assert answers(["rollback", FOUNDATION, "--reason", "too soon"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in told] == [
        "is the champion; `rollback tiny-foundation` takes it back",
        "expected a model and a version, starter-reviews/3 for example",
        "version 1 is the first champion, there is no earlier one to return to",
    ]


@pytest.mark.slow
def test_a_run_does_not_promote_again_what_was_rolled_back(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = register_noise(inside)
    with registry.held(FOUNDATION):
        ledger.record(FOUNDATION, "promoted", noise, "the gate", "once")
        ledger.record(FOUNDATION, "promoted", "1", "the gate", "better")
    assert answers(["rollback", FOUNDATION, "--reason", "it names a customer"]) == 0
    assert f"version {noise} is champion again; version 1 was rolled back by" in capsys.readouterr().out
    said = promote(inside, "foundation")
    assert "assesses the champion" in said, "the gate looked, and found it better"
    decided = promoted("foundation")
    assert any("better than the champion" in reason for reason in decided["reasons"])
    assert (decided["version"], decided["promote"], decided["alias"]) == ("1", False, None)
    assert decided["reasons"][-1].startswith("fail: rolled back by ")
    assert ": it names a customer" in decided["reasons"][-1]
    assert registry.model_of(FOUNDATION)[1] == {"champion": noise}
    assert "promote/foundation       found done" in promote(inside, "foundation")
    assert answers(["approve", f"{FOUNDATION}/1", "--reason", "the name is gone from the text"]) == 0
    assert registry.model_of(FOUNDATION)[1] == {"champion": "1"}
