"""The stack of docker/compose.yaml without containers: its commands and settings, each host a port of this machine."""

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import yaml
from workspaces import PROJECT, environment

COMPOSE = PROJECT / "docker" / "compose.yaml"
HOSTS = {"postgres": 5432, "prefect": 4200, "mlflow": 5000, "service": 8000}
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_PASSWORD", "MLFLOW_PASSWORD", "MLFLOW_SECRET_KEY", "ALMA_API_KEY")
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\})")


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Put variables into a compose file by its own rules; KeyError with the file's message for a missing one."""

    def value(found: re.Match[str]) -> str:
        if found["name"] is None:
            return "$"
        if variables.get(found["name"]):
            return variables[found["name"]]
        if found["kind"] == "?":
            raise KeyError(found["rest"])
        return found["rest"] or ""

    return _VARIABLE.sub(value, text)


def binaries() -> Path | None:
    """Return where the newest PostgreSQL of Debian's packages lies; None without one."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


def free_ports(names: Mapping[str, int]) -> dict[str, int]:
    """Return a free port for each name."""
    probes = [socket.socket() for _ in names]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return {name: probe.getsockname()[1] for name, probe in zip(names, probes, strict=True)}
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def postgres(port: int, password: str) -> Iterator[None]:
    """Run a new PostgreSQL with the databases of docker/databases.sql, as a user who is not root."""
    home, found = Path(tempfile.mkdtemp(prefix="alma-pg-")), binaries()
    assert found is not None
    root = os.geteuid() == 0
    owner = pwd.getpwnam("postgres") if root else pwd.getpwuid(os.geteuid())

    def run(*command: str) -> None:
        done = subprocess.run(
            command, user=owner.pw_uid if root else None, cwd=home, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    (home / "password").write_text(password)
    (home / "databases.sql").write_text((PROJECT / "docker" / "databases.sql").read_text())
    for path in (home, *home.iterdir()):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    ctl, data = str(found / "pg_ctl"), str(home / "data")
    run(str(found / "initdb"), "--username=alma", f"--pwfile={home}/password", "--auth=scram-sha-256", data)
    run(ctl, "-D", data, "-w", "-l", f"{home}/log", "-o", f"-p {port} -c listen_addresses=127.0.0.1 -k {home}", "start")
    try:
        address = f"postgresql://alma:{password}@127.0.0.1:{port}/postgres"
        run(str(found / "psql"), "--quiet", "--set=ON_ERROR_STOP=1", f"--file={home}/databases.sql", address)
        yield
    finally:
        run(ctl, "-D", data, "-m", "fast", "-w", "stop")
        shutil.rmtree(home)


class Stack:
    """The services of the compose file as processes of this machine, in a workspace."""

    def __init__(self, workspace: Path, ports: dict[str, int]) -> None:
        self.workspace, self.ports = workspace, ports
        self.secrets = {name: secrets.token_hex(12) for name in SECRETS}
        text = interpolate(COMPOSE.read_text(), self.secrets)
        for host, port in HOSTS.items():
            text = text.replace(f"{host}:{port}", f"127.0.0.1:{ports[host]}").replace(str(port), str(ports[host]))
        text = text.replace("0.0.0.0", "127.0.0.1").replace("/srv/alma", str(workspace))
        self.config: dict[str, Any] = yaml.safe_load(text.replace("/etc/", f"{workspace}/etc/"))
        (workspace / "etc").mkdir()
        content = self.config["configs"]["mlflow-auth"]["content"]
        (workspace / "etc" / "mlflow-auth.ini").write_text(content)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def surroundings(self, service: str) -> dict[str, str]:
        """Return the environment of a service: what its container would have, beside this machine's own."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {name: str(value) for name, value in self.config["services"][service]["environment"].items()}
        return {**environment(self.workspace, PATH=path, OMP_NUM_THREADS="1"), **own}

    def once(self, service: str, *command: str, timeout: float = 240) -> str:
        """Run the command of a service that ends, or another one in its place, and return what it said."""
        given = list(command) or self.config["services"][service]["command"]
        done = subprocess.run(
            given, cwd=self.workspace, env=self.surroundings(service), capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, service: str) -> None:
        """Start a service in a session of its own, with its log beside."""
        with (self.workspace / f"{service}.log").open("wb") as log:
            command = [
                sys.executable if word == "python" else word for word in self.config["services"][service]["command"]
            ]
            self.running[service] = subprocess.Popen(
                command,
                cwd=self.workspace,
                env=self.surroundings(service),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait(self, service: str, path: str, expected: tuple[int, ...] = (200,), seconds: float = 150) -> None:
        """Return once a service answers with one of the status codes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.running[service].poll() is None, (self.workspace / f"{service}.log").read_text()[-3000:]
            with suppress(URLError, ConnectionError, TimeoutError):
                if self.ask(service, path)[0] in expected:
                    return
            time.sleep(0.3)
        raise AssertionError(f"{service}: no answer\n" + (self.workspace / f"{service}.log").read_text()[-3000:])

    def ask(self, service: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Return (status, body) of a request."""
        request = Request(f"http://127.0.0.1:{self.ports[service]}{path}", data=body, headers=headers)
        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    def stop(self) -> None:
        """End every service that was started, the last one first."""
        for process in reversed(list(self.running.values())):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
