"""The stack for a team: the image's file, the compose file, and its commands and settings on a real PostgreSQL."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from stack import COMPOSE, HOSTS, SECRETS, Stack, binaries, free_ports, interpolate, postgres
from workspaces import PROJECT, RECIPE, make_workspace

GIVEN = {name: f"{name.lower()}0123456789" for name in SECRETS}


def test_the_image_s_file_is_clean() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, PROJECT / "docker" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_compose_file_follows_the_specification() -> None:
    content = yaml.safe_load(interpolate(COMPOSE.read_text(), GIVEN))
    PyCompose.from_json(json.dumps(content)).validate()
    services = content["services"]
    assert set(services) == {"postgres", "prefect", "mlflow", "deployments", "worker", "service"}
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open beyond loopback"
        assert "healthcheck" in service or name in ("deployments", "worker")
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other]


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_secret_is_named_before_anything_starts(name: str) -> None:
    with pytest.raises(KeyError, match=f"set {name} in docker/.env"):
        interpolate(COMPOSE.read_text(), GIVEN | {name: ""})
    assert f"\n{name}=\n" in (PROJECT / "docker" / "env.example").read_text(), "without a default"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    if binaries() is None:
        pytest.skip("PostgreSQL of Debian's packages is not installed")
    workspace = make_workspace(tmp_path / "srv")
    shutil.copy(PROJECT / "prefect.yaml", workspace)
    found = Stack(workspace, free_ports(HOSTS))
    with postgres(found.ports["postgres"], found.secrets["POSTGRES_PASSWORD"]):
        try:
            yield found
        finally:
            found.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pipeline_runs_on_the_stack(stack: Stack) -> None:
    """Through the pool and the worker, into both servers behind their passwords, out of the service with its key."""
    stack.start("prefect")
    stack.start("mlflow")
    stack.wait("prefect", "/api/health")
    stack.wait("mlflow", "/health")
    assert stack.ask("prefect", "/api/deployments/filter", b"{}", **{"Content-Type": "application/json"})[0] == 401
    assert stack.ask("mlflow", "/api/2.0/mlflow/registered-models/search")[0] == 401
    password = base64.b64encode(f"alma:{stack.secrets['MLFLOW_PASSWORD']}".encode()).decode()
    registered = ("mlflow", "/api/2.0/mlflow/registered-models/search")
    assert json.loads(stack.ask(*registered, Authorization=f"Basic {password}")[1]) == {}

    stack.once("deployments")
    stack.start("worker")
    stack.start("service")
    stack.wait("service", "/health", (503,))
    said = stack.once(
        "worker",
        *["prefect", "deployment", "run", "pipeline/pool", "--param", f"recipe={RECIPE}", "--watch"],
        timeout=600,
    )
    assert "Completed" in said, said + (stack.workspace / "worker.log").read_text()[-3000:]
    found = json.loads(stack.ask(*registered, Authorization=f"Basic {password}")[1])["registered_models"]
    champions = {
        model["name"] for model in found if "champion" in {alias["alias"] for alias in model.get("aliases", [])}
    }
    assert {model["name"] for model in found} == {
        f"tiny-{name}" for name in ("foundation", "reviews", "assistant", "clerk")
    }
    assert "tiny-foundation" in champions
    served = stack.workspace / "var" / "mlflow" / "artifacts"
    assert list(served.rglob("model.safetensors")), "artifacts went through the server's proxy into its own folder"

    key = {"Authorization": f"Bearer {stack.secrets['ALMA_API_KEY']}"}
    assert stack.ask("service", "/v1/models")[0] == 401
    stack.wait("service", "/health")
    models = json.loads(stack.ask("service", "/v1/models", **key)[1])["data"]
    assert {model["id"] for model in models} <= champions


@pytest.mark.parametrize("gpus", [0, 2])
def test_a_job_of_the_kubernetes_template_follows_its_schema(gpus: int) -> None:
    """What Prefect makes of the template, with the variables that its Kubernetes worker fills in."""
    import asyncio

    import kubernetes_validate
    from jsonschema import Draft202012Validator
    from prefect.client.orchestration import PrefectClient
    from prefect.workers.base import BaseJobConfiguration

    class Job(BaseJobConfiguration):
        job_manifest: dict[str, Any]

    template = json.loads((PROJECT / "docker" / "kubernetes-job.json").read_text())
    Draft202012Validator.check_schema(template["variables"])
    values = {"image": "alma@sha256:0", "name": "run", "labels": {"alma": "run"}, "gpus": gpus}
    Draft202012Validator(template["variables"]).validate(values)
    nowhere = PrefectClient(api="http://127.0.0.1:1/api")  # blocks alone would be asked for, and there are none
    made = asyncio.run(Job.from_template_and_values.__wrapped__(Job, template, values, client=nowhere))
    manifest = made.job_manifest
    pod = manifest["spec"]["template"]["spec"]
    # The worker turns the variables into the list that a container has.
    pod["containers"][0]["env"] = [{"name": name, "value": value} for name, value in made.env.items()]
    kubernetes_validate.validate(manifest, "1.37", strict=True)
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == gpus
    assert pod["securityContext"]["runAsNonRoot"]
    assert "{{" not in json.dumps(manifest)
    assert {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow:5000"} in pod["containers"][0]["env"]
