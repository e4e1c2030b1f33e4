"""`make up` and `make down`: the Prefect server, the MLflow server and the deployments, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil

from flows.environment import SERVERS, running_servers
from tasks.workspace import VAR, write_atomically

HOST = "127.0.0.1"
PORTS = {"prefect": 4200, "mlflow": 5000}
DEPLOYMENT = "alma"
START_WITHIN = 180.0  # seconds that a server has to answer
STOP_WITHIN = 15.0
FLOWS = ("pipeline", "pretraining", "finetuning", "auditing", "evaluation", "prompting", "promotion", "transfer")


def up() -> int:
    """Start what does not run yet, wait until it answers, and print the addresses.

    Raises:
        OSError: a server ended or did not answer; its log is named.
    """
    running = running_servers()
    addresses = {}
    for name in PORTS:
        addresses[name] = running.get(name) or _start_server(name)
    # The deployments and all runs report to this server, also when the environment was set before it ran.
    os.environ["PREFECT_API_URL"] = f"{addresses['prefect']}/api"
    if "deployments" not in running:
        command = [sys.executable, "-m", "flows", "deployments"]
        _start("deployments", command, address=f"{addresses['prefect']}/deployments")
        _wait_for_deployments()
    print(f"Prefect  {addresses['prefect']}")
    print(f"MLflow   {addresses['mlflow']}")
    print("Flows started by `make run` or from the Prefect page show in both; `make down` stops them.")
    return 0


def down() -> int:
    """Stop the processes that `up` started, and no others."""
    recorded = json.loads(SERVERS.read_text()) if SERVERS.exists() else {}
    for name in reversed(list(recorded)):
        stopped = _stop(recorded[name]["pid"], recorded[name]["started"])
        print(f"{name}: {'stopped' if stopped else 'was not running'}")
    SERVERS.unlink(missing_ok=True)
    if not recorded:
        print("nothing was running")
    return 0


def serve_deployments() -> int:
    """Serve every flow as a deployment, until stopped."""
    from importlib import import_module

    from prefect import serve
    from prefect.deployments.runner import EntrypointType

    flows = [getattr(import_module(f"flows.{name}"), name) for name in FLOWS]
    # By module: a path would put flows/ itself on sys.path, where a file named like a package shadows it.
    by_module = EntrypointType.MODULE_PATH
    serve(*[flow.to_deployment(name=DEPLOYMENT, entrypoint_type=by_module) for flow in flows], limit=1)
    return 0


def _start_server(name: str) -> str:
    port = _free_port(PORTS[name])
    address = f"http://{HOST}:{port}"
    var = VAR.resolve()
    commands = {
        "prefect": [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
        "mlflow": [
            sys.executable,
            *["-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"],
            *["--backend-store-uri", f"sqlite:///{var}/mlflow/mlflow.db"],
            *["--artifacts-destination", (var / "mlflow" / "artifacts").as_uri()],
        ],
    }
    health = {"prefect": "/api/health", "mlflow": "/health"}
    process = _start(name, commands[name], address)
    wait_for(name, process, address + health[name])
    return address


def _start(name: str, command: list[str], address: str) -> "subprocess.Popen[bytes]":
    """Start a server in a session of its own, with its log under var/log, and record its process."""
    log = VAR / "log" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PREFECT_SERVER_UI_API_URL": "/api",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
    }
    if name == "prefect":
        environment.pop("PREFECT_API_URL", None)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    recorded = json.loads(SERVERS.read_text()) if SERVERS.exists() else {}
    started = psutil.Process(process.pid).create_time()
    recorded[name] = {"pid": process.pid, "started": started, "address": address}
    write_atomically(SERVERS, json.dumps(recorded, indent=1))
    return process


def wait_for(name: str, process: "subprocess.Popen[bytes]", url: str) -> None:
    """Return once the server answers; OSError names its log, var/log/<name>.log, where it ended or did not."""
    from urllib.error import URLError
    from urllib.request import urlopen

    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end:
        if process.poll() is not None:
            raise OSError(f"the {name} server ended at once; see {VAR / 'log' / f'{name}.log'}")
        try:
            with urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise OSError(f"the {name} server did not answer within {START_WITHIN:g} s; see {VAR / 'log' / f'{name}.log'}")


def _wait_for_deployments() -> None:
    """Wait until every flow has its deployment on the server."""
    from prefect.client.orchestration import get_client

    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end:
        if "deployments" not in running_servers():
            raise OSError(f"the deployments ended at once; see {VAR / 'log' / 'deployments.log'}")
        with get_client(sync_client=True) as client:
            if len(client.read_deployments()) >= len(FLOWS):
                return
        time.sleep(0.5)
    raise OSError(f"the deployments did not appear within {START_WITHIN:g} s; see {VAR / 'log' / 'deployments.log'}")


def _free_port(wanted: int) -> int:
    """Return ``wanted``, or the next port that nobody listens on."""
    for port in range(wanted, wanted + 50):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {wanted} and {wanted + 49} on {HOST}")


def _stop(pid: int, started: float) -> bool:
    """Stop a recorded process and its children; a process that merely got the same id is left alone."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - started) >= 1:
            return False
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=STOP_WITHIN)
    for member in alive:
        member.kill()
    psutil.wait_procs(alive, timeout=5)
    return True
