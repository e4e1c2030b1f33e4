"""`make up` for real: run forms that refuse, a run, a schedule, work pools, and a run that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import psutil
import pytest
import yaml
from workspaces import PROJECT, TINY, alma, environment, make_workspace

from flows.fleet import TRIGGERS
from flows.servers import FLOWS, _start
from flows.watching import AUTOMATION
from tasks.announce import PROMOTED

WEEKLY = """
extends: tiny.yaml
name: weekly
schedule: {cron: "30 3 * * 1", timezone: Asia/Kolkata}
"""
TINY_RUN = {"recipe": "recipes/tiny.yaml", "overrides": ["pretrain.train.steps=3", "pretrain.train.validate_every=3"]}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = make_workspace(tmp_path_factory.mktemp("servers") / "work", TINY)
    (directory / "recipes/weekly.yaml").write_text(WEEKLY)
    started = alma(directory, "up")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield directory
    finally:
        alma(directory, "down")


def servers(workspace: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace / "var/servers.json").read_text())
    return found


def call(workspace: Path, path: str, body: Any = None, method: str | None = None) -> Any:
    """Ask the Prefect server; HTTPError where it refuses."""
    address = servers(workspace)["prefect"]["address"] + "/api" + path
    data = None if body is None else json.dumps(body).encode()
    request = Request(address, data, {"content-type": "application/json"}, method=method)
    with urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def deployments(workspace: Path, name: str = "alma") -> dict[str, Any]:
    """Return flow -> its deployment of that name."""
    found = call(workspace, "/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
    return {deployment["entrypoint"].rpartition(".")[2]: deployment for deployment in found}


def trigger(workspace: Path, flow: str, parameters: dict[str, Any], name: str = "alma") -> str:
    deployment = deployments(workspace, name)[flow]["id"]
    run = call(workspace, f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})
    return str(run["id"])


def refusal(workspace: Path, flow: str, parameters: dict[str, Any], name: str = "alma") -> str:
    with pytest.raises(HTTPError) as refused:
        trigger(workspace, flow, parameters, name)
    assert refused.value.code == 409
    return str(json.loads(refused.value.read())["detail"])


def automations(workspace: Path, name: str) -> list[dict[str, Any]]:
    return [each for each in call(workspace, "/automations/filter", {}) if each["name"] == name]


def wait(found: Callable[[], Any], seconds: float) -> Any:
    """Return what ``found`` gives as soon as it gives something, or its last answer."""
    end = time.monotonic() + seconds
    while not (answer := found()) and time.monotonic() < end:
        time.sleep(0.3)
    return answer


def ended(workspace: Path, run: str, seconds: float = 200) -> dict[str, Any]:
    def state() -> dict[str, Any] | None:
        now: dict[str, Any] = call(workspace, f"/flow_runs/{run}")
        return now if now["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    found: dict[str, Any] = wait(state, seconds) or {}
    return found


def lines(workspace: Path, run: str) -> list[str]:
    found = call(workspace, "/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
    return [line["message"] for line in found]


def test_a_server_that_cannot_be_recorded_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk, for example: no `down` would find it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"var/.tmp-servers.json-{os.getpid()}").mkdir(parents=True)
    before = psutil.Process().children()
    with pytest.raises(IsADirectoryError):
        _start("mlflow", [sys.executable, "-c", "import time; time.sleep(60)"], "http://nowhere")
    assert psutil.Process().children() == before


def test_every_flow_has_a_form_with_help_and_without_unions(workspace: Path) -> None:
    found = deployments(workspace)
    assert sorted(found) == sorted(FLOWS)
    for deployment in found.values():
        schema = deployment["parameter_openapi_schema"]
        assert schema["additionalProperties"] is False
        assert deployment["enforce_parameter_schema"] is True
        assert not {"anyOf", "oneOf", "allOf"} & set(json.dumps(schema).replace('"', " ").split())
        recipe = schema["properties"].get("recipe")
        if recipe is not None:
            assert recipe["enum"] == ["recipes/tiny.yaml", "recipes/weekly.yaml"]
            assert recipe["default"] in recipe["enum"]
        assert all(field["description"] for field in schema["properties"].values())


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"recipe": "recipes/nowhere.yaml"}, "field 'recipe'"),
        ({"recipe": 5}, "field 'recipe'"),
        ({"model": "No Such"}, "field 'model'"),
        ({"overrides": ["seed=1", "two words"]}, "field 'overrides[1]'"),
        ({"overrides": "seed=1"}, "field 'overrides'"),
        ({"recipy": "recipes/tiny.yaml"}, "'recipy' was unexpected"),
    ],
)
def test_the_form_refuses_by_the_fields_name(workspace: Path, parameters: dict[str, Any], named: str) -> None:
    assert named in refusal(workspace, "auditing", parameters)


def test_what_only_the_recipe_can_judge_fails_at_once_in_one_line(workspace: Path) -> None:
    run = trigger(workspace, "pretraining", {"overrides": ["pretrain.train.stepz=3"]})
    message = "recipes/tiny.yaml: pretrain.train.stepz: there is no such field; did you mean steps?"
    found = ended(workspace, run)
    assert (found["state"]["type"], found["state"]["message"]) == ("FAILED", message)
    assert wait(lambda: [line for line in lines(workspace, run) if line.startswith("Finished") and message in line], 30)
    assert "Traceback" not in "".join(lines(workspace, run))
    log = workspace / f"var/log/pretraining.{found['name']}.log"
    assert log.read_text().endswith(f"failed: {message}\n")
    assert not (workspace / "artifacts").exists()


def test_a_triggered_flow_runs_and_is_seen(workspace: Path) -> None:
    with urlopen(servers(workspace)["mlflow"]["address"] + "/health", timeout=10) as answer:
        assert answer.status == 200
    run = trigger(workspace, "pretraining", TINY_RUN)
    found = ended(workspace, run)
    assert found["state"]["type"] == "COMPLETED", found["state"]["message"]
    tasks = call(workspace, "/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    assert sorted(task["name"].rpartition("-")[0] for task in tasks) == ["ingest", "prepare", "pretrain", "tokenizer"]
    assert "done in" in (workspace / f"var/log/pretraining.{found['name']}.log").read_text()
    assert wait(lambda: [line for line in lines(workspace, run) if "pretrain " in line and "done in" in line], 60)
    bars = call(workspace, "/artifacts/filter", {"artifacts": {"type": {"any_": ["progress"]}}})
    assert [(bar["description"], bar["data"]) for bar in bars] == [("pretrain: done", 100.0)]
    assert (workspace / "artifacts/tiny/pretrain/model/model.safetensors").exists()


def test_a_recipes_schedule_makes_scheduled_runs(workspace: Path) -> None:
    (schedule,) = deployments(workspace)["pipeline"]["schedules"]
    assert (schedule["slug"], schedule["parameters"]) == ("weekly", {"recipe": "recipes/weekly.yaml"})
    waiting = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
    runs = wait(lambda: call(workspace, "/flow_runs/filter", waiting), 90)
    # Half past three in India, which has no summer time, is ten in the evening of the day before in UTC.
    assert runs
    assert {run["expected_start_time"][11:19] for run in runs} == {"22:00:00"}
    assert runs[0]["parameters"]["recipe"] == "recipes/weekly.yaml"


def test_the_documented_commands_make_pools_and_deploy_every_flow_to_them(workspace: Path) -> None:
    pools = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    for deployment in pools:
        module, _, name = deployment["entrypoint"].rpartition(".")
        assert getattr(import_module(module), name).name == name
    assert sorted(one["entrypoint"] for one in pools if one["name"] == "pool") == sorted(
        f"flows.{name}.{name}" for name in FLOWS
    )
    documented = (PROJECT / "docs/operating.md").read_text().splitlines()
    commands = [
        line for line in documented if line.startswith((".venv/bin/prefect work-pool", ".venv/bin/prefect deploy"))
    ]
    assert len(commands) == 5
    (workspace / "docker").mkdir()
    for file in ("prefect.yaml", "docker/kubernetes-job.json"):
        (workspace / file).write_text((PROJECT / file).read_text())
    address = servers(workspace)["prefect"]["address"] + "/api"
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *command.split()[1:]],
            cwd=workspace,
            env=environment(workspace, PREFECT_API_URL=address, PREFECT_HOME=str(workspace / "var/prefect")),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(deployments(workspace, "pool")) == sorted(FLOWS)
    assert {one["work_pool_name"] for one in deployments(workspace, "gpu").values()} == {"alma-gpu"}
    assert call(workspace, "/work_pools/alma-gpu")["concurrency_limit"] == 1
    assert call(workspace, "/work_pools/alma-kubernetes")["type"] == "kubernetes"
    assert "field 'recipe'" in refusal(workspace, "pipeline", {"recipe": "nowhere.yaml"}, "pool")


def test_a_killed_run_becomes_crashed_and_up_goes_on(workspace: Path) -> None:
    (automation,) = automations(workspace, AUTOMATION)
    # The rule as it is, with the least time that the server takes in the place of one and a half minutes.
    quick = {name: automation[name] for name in ("name", "description", "enabled", "trigger", "actions")}
    quick["trigger"]["within"] = 10
    call(workspace, f"/automations/{automation['id']}", quick, "PUT")
    run = trigger(workspace, "pretraining", {**TINY_RUN, "overrides": ["pretrain.train.steps=100000"]})
    sign = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    assert wait(lambda: call(workspace, "/events/filter", {"filter": sign})["events"], 100)
    served = psutil.Process(servers(workspace)["deployments"]["pid"])
    for process in [served, *served.children(recursive=True)]:
        os.kill(process.pid, signal.SIGKILL)
    state = ended(workspace, run, 90)["state"]
    assert (state["type"], state["message"]) == ("CRASHED", "killed: no sign of life for 90 s")
    again = trigger(workspace, "pretraining", TINY_RUN)
    assert alma(workspace, "up").returncode == 0
    assert ended(workspace, again)["state"]["type"] == "COMPLETED"


def test_a_new_foundation_starts_the_fleet(workspace: Path) -> None:
    (automation,) = automations(workspace, TRIGGERS[0].name or "")
    assert automation["trigger"]["expect"] == [PROMOTED]
    event = {
        "id": str(uuid4()),
        "event": PROMOTED,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": "alma.model.tiny-foundation"},
        "payload": {"name": "tiny-foundation", "version": "2", "recipe": "tiny"},
    }
    call(workspace, "/events", [event])
    asked = {"flow_runs": {"deployment_id": {"any_": [deployments(workspace)["fleet"]["id"]]}}}
    (run,) = wait(lambda: call(workspace, "/flow_runs/filter", asked), 60)
    assert run["parameters"] == {"foundation": "tiny-foundation", "refresh": True}
    assert ended(workspace, run["id"])["state"]["type"] == "COMPLETED"
    assert "No model is registered yet" in (workspace / "artifacts/fleet.html").read_text()


def test_up_again_starts_nothing_new_and_brings_the_page_up_to_date(workspace: Path) -> None:
    before = (workspace / "var/servers.json").read_text()
    (workspace / "recipes/weekly.yaml").write_text("extends: tiny.yaml\nname: weekly\n")
    (workspace / "recipes/broken.yaml").write_text(WEEKLY.replace("Asia/Kolkata", "Mars/Olympus"))
    done = alma(workspace, "up")
    assert done.returncode == 0, done.stderr
    assert (workspace / "var/servers.json").read_text() == before
    assert "recipes/broken.yaml: schedule.timezone: 'Mars/Olympus' is no time zone" in done.stdout
    pipeline = deployments(workspace)["pipeline"]
    assert pipeline["schedules"] == []
    assert "recipes/broken.yaml" in pipeline["parameter_openapi_schema"]["properties"]["recipe"]["enum"]
    (automation,) = automations(workspace, AUTOMATION)
    assert automation["trigger"]["within"] == 90
    assert "'recipy' was unexpected" in refusal(workspace, "pipeline", {"recipy": "x"}, "pool")


def test_a_step_run_by_hand_is_found_done(workspace: Path) -> None:
    started = time.monotonic()
    done = alma(workspace, "prepare", "recipes/tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert " starts" not in done.stdout
    assert time.monotonic() - started < 30


def test_down_stops_what_up_started(workspace: Path) -> None:
    started = servers(workspace)
    done = alma(workspace, "down")
    assert done.stdout.count("stopped") == 3, done.stdout
    for server in started.values():
        with pytest.raises(ProcessLookupError):
            os.kill(server["pid"], 0)
    assert "nothing was running" in alma(workspace, "down").stdout
