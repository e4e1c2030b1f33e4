"""`make up` and `make down`: the Prefect server, the MLflow server and the deployments, on loopback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from filelock import FileLock

from flows.environment import SERVERS, running_servers
from tasks.workspace import VAR, write_atomically

HOST = "127.0.0.1"
PORTS = {"prefect": 4200, "mlflow": 5000}
HEALTH = {"prefect": "/api/health", "mlflow": "/health"}
DEPLOYMENT = "alma"
START_WITHIN = 180.0  # seconds that a server has to answer
STOP_WITHIN = 15.0
STARTS = "--- start of "
FLOWS = (
    "pipeline",
    "pretraining",
    "finetuning",
    "auditing",
    "evaluation",
    "prompting",
    "promotion",
    "transfer",
    "retraining",
    "fleet",
    "approve",
    "rollback",
)


def up() -> int:
    """Start what does not run yet, wait until it answers, and print the addresses.

    What runs already is kept, with the forms, schedules and recipes on the page brought up to date.

    Raises:
        OSError: a server ended or did not answer; its log is named.
    """
    running = running_servers()
    addresses = {}
    for name in PORTS:
        if name in running:
            _answers(name, running[name] + HEALTH[name], START_WITHIN)
        addresses[name] = running.get(name) or _start_server(name)
    # The deployments and all runs report to this server, also when the environment was set before it ran.
    os.environ["PREFECT_API_URL"] = f"{addresses['prefect']}/api"
    from flows.deployed import register

    register()
    page = f"{addresses['prefect']}/deployments"
    if running.get("deployments", page) != page:  # the server died, and found its port taken when it came back
        _stop_recorded("deployments")
        del running["deployments"]
    if "deployments" not in running:
        since = time.time()
        process = _start("deployments", [sys.executable, "-m", "flows", "deployments"], page)
        _wait_until_served(process, since)
    print(f"Prefect  {addresses['prefect']}")
    print(f"MLflow   {addresses['mlflow']}")
    print("Flows started by `make run` or from the Prefect page show in both; `make down` stops them.")
    return 0


def down() -> int:
    """Stop the processes that `up` started, and no others."""
    recorded = json.loads(SERVERS.read_text()) if SERVERS.exists() else {}
    for name in reversed(list(recorded)):
        print(f"{name}: {'stopped' if _stop_recorded(name) else 'was not running'}")
    SERVERS.unlink(missing_ok=True)
    if not recorded:
        print("nothing was running")
    return 0


def serve_deployments() -> int:
    """Serve every flow as a deployment, until stopped."""
    from flows.deployed import serve

    serve()
    return 0


def _start_server(name: str) -> str:
    # Another workspace of this machine may be starting too: a port is free until its server listens on it.
    with FileLock(Path(tempfile.gettempdir()) / f"alma-ports-{os.getuid()}.lock"):
        return _start_on(name, _free_port(PORTS[name]))


def _start_on(name: str, port: int) -> str:
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
    process = _start(name, commands[name], address)
    wait_for(name, process, address + HEALTH[name])
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
        output.write(f"{STARTS}{name}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        recorded = json.loads(SERVERS.read_text()) if SERVERS.exists() else {}
        started = psutil.Process(process.pid).create_time()
        recorded[name] = {"pid": process.pid, "started": started, "address": address}
        write_atomically(SERVERS, json.dumps(recorded, indent=1))
    except BaseException:  # a full disk: what is not recorded would run where no `down` finds it
        process.kill()
        process.wait()
        raise
    return process


def wait_for(name: str, process: "subprocess.Popen[bytes]", url: str) -> None:
    """Return once the server answers; OSError says why it does not, and names its log, var/log/<name>.log."""
    _answers(name, url, START_WITHIN, process)


def _answers(name: str, url: str, seconds: float, process: "subprocess.Popen[bytes] | None" = None) -> None:
    from urllib.error import URLError
    from urllib.request import urlopen

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise OSError(f"the {name} server ended at once{_why(name)}")
        try:
            with urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise OSError(f"the {name} server did not answer within {seconds:g} s{_why(name)}")


def _why(name: str) -> str:
    """Return the last error that a server's log names, and the log."""
    path = VAR / "log" / f"{name}.log"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 20_000))
        lines = file.read().decode(errors="replace").rpartition(STARTS)[2].splitlines()
    errors = [line for line in lines if re.match(r"(failed|error|(\w+\.)*\w*(Error|Exception)\b.*): ", line)]
    return (f": {errors[-1].strip()}" if errors else "") + f" (its log is {path})"


def _wait_until_served(process: "subprocess.Popen[bytes]", since: float) -> None:
    """Wait until the process asks the server for the runs of every deployment."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    ours = DeploymentFilter(name=DeploymentFilterName(any_=[DEPLOYMENT]))
    end = time.monotonic() + START_WITHIN
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            if process.poll() is not None:
                raise OSError(f"the deployments ended at once{_why('deployments')}")
            polled = [deployment.last_polled for deployment in client.read_deployments(deployment_filter=ours)]
            if sum(at is not None and at.timestamp() > since for at in polled) >= len(FLOWS):
                return
            time.sleep(0.3)
    raise OSError(f"the deployments were not served within {START_WITHIN:g} s{_why('deployments')}")


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


def _stop_recorded(name: str) -> bool:
    recorded = json.loads(SERVERS.read_text())[name]
    return _stop(recorded["pid"], recorded["started"])


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
