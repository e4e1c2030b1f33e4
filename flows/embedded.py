"""A Prefect server for one command, which boots while the command still imports.

Prefect would start one by itself, but only when the first flow begins, and it imports the whole server into the
flow's own process for that: five seconds more of a run that has nothing to do.
"""

import atexit
import os
import socket
import subprocess
import sys

from flows.servers import HOST, wait_for
from models.signals import PARENT, stop_with_parent
from tasks.workspace import VAR

NAME = "prefect-embedded"
ADDRESS = "ALMA_EMBEDDED_PREFECT"
"""Holds the address of an embedded server: it has no page, so nobody can be asked there."""
STOP_WITHIN = 5.0


class EmbeddedServer:
    """The server in a process of its own, with the database of this workspace and without a page."""

    def __init__(self) -> None:
        """Start it and point Prefect at it; call this before Prefect is imported."""
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        log = VAR / "log" / f"{NAME}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self.address = f"http://{HOST}:{port}/api"
        environment = {
            **os.environ,
            PARENT: str(os.getpid()),
            "PREFECT_UI_ENABLED": "0",
            # What Prefect sets for such servers itself: no services that only pay where a server lives long.
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
        }
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches the flow alone, which then still reports how it ended.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.embedded", str(port)],
                env=environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        # Registered before Prefect's own handlers and so called after them: they still send the last log lines.
        atexit.register(self.stop)
        os.environ["PREFECT_API_URL"] = os.environ[ADDRESS] = self.address

    def wait(self) -> None:
        """Return once the server answers; OSError names its log where it ended or did not answer in time."""
        wait_for(NAME, self.process, f"{self.address}/health")

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


if __name__ == "__main__":
    import uvicorn

    stop_with_parent()
    uvicorn.run(
        "prefect.server.api.server:create_app", factory=True, host=HOST, port=int(sys.argv[1]), log_level="error"
    )
