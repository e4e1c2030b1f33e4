"""Training in a process of its own: start it, watch its spool, stop it gently, resume it next time."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.console import duration, log
from tasks.devices import machine
from tasks.energy import gpu_kwh
from tasks.progress import ProgressBar
from tasks.workspace import VAR, write_atomically

STOP_WITHIN = 30.0  # seconds that a training process has for its last checkpoint
TOLD_EVERY = 10.0  # seconds between two progress lines in the terminal
SENT_EVERY = 5.0  # seconds between two deliveries of metrics


class TrainingFailed(RuntimeError):
    """The training process ended without a model; the message is its last line."""


def work_directory(key: str) -> Path:
    """Return where a step keeps what it needs to go on after a kill, by the step's key."""
    return VAR / "training" / key[:16]


def train(
    job: dict[str, Any], *, recipe: str, step: str, key: str, out: Path, launcher: str = "python"
) -> dict[str, Any]:
    """Run ``python -m models.fit`` on ``job`` in a subprocess and return the summary that it wrote.

    Checkpoints and the spool of metrics lie under the step's key, so that the same step, started
    again after a kill, goes on where it stopped, and another configuration starts afresh.

    Args:
        job: what ``models.fit.Job`` reads, without the paths that are set here.
        launcher: what starts Python, ``torchrun --nproc-per-node 2`` for example.

    Raises:
        ValueError: the training process refused its input.
        TrainingFailed: it failed in another way.
    """
    from models.launch import training_environment
    from models.signals import PARENT

    work = work_directory(key)
    work.mkdir(parents=True, exist_ok=True)
    spool = work / "spool.jsonl"
    job |= {"out": str(out), "checkpoints": str(work / "checkpoints"), "spool": str(spool)}
    write_atomically(work / "job.json", json.dumps(job, indent=1))
    python, *arguments = shlex.split(launcher)
    command = [
        sys.executable if python == "python" else python,
        *arguments,
        "-m",
        "models.fit",
        str(work / "job.json"),
    ]
    forwarder = Forwarder(recipe, step, key, job, spool)
    devices = machine()
    # A launcher of its own starts one process a device.
    with (work / "errors.log").open("wb") as errors, devices.lend(whole=python != "python") as device:
        # A session of its own: Ctrl-C reaches the parent alone, which then asks for one last checkpoint.
        environment = {**training_environment(), **os.environ, **device, PARENT: str(os.getpid())}
        cards = device["CUDA_VISIBLE_DEVICES"].split(",") if device else devices.names
        before = gpu_kwh(cards)
        process = subprocess.Popen(command, env=environment, stderr=errors, start_new_session=True)
        try:
            while process.poll() is None and not devices.stopping.is_set():
                time.sleep(0.3)
                forwarder.forward()
        finally:
            stopped = _stop(process)
        after = gpu_kwh(cards)
    if stopped:
        log.info("%-24s stopped; run the same command again to go on from its checkpoint", step)
    if process.returncode:
        forwarder.finish("FAILED")
        if devices.stopping.is_set():
            raise TrainingFailed(f"{step}: stopped with the whole run")
        lines = (work / "errors.log").read_text(errors="replace").strip().splitlines() or ["no message"]
        message = lines[-1].removeprefix("error: ").removeprefix("failed: ")
        if process.returncode == 2:
            raise ValueError(message)
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            message = f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        raise TrainingFailed(f"{step}: {message} (the whole message: {work / 'errors.log'})")
    forwarder.finish("FINISHED")
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    numbers = {name: value for name, value in summary.items() if isinstance(value, int | float | str | None)}
    cost = {name: float(summary[name]) for name in ("flops", "tokens")}
    if before is not None and after is not None:
        cost["gpu_kwh"] = after - before
    return {**numbers, "cost": cost}


def _stop(process: "subprocess.Popen[bytes]") -> bool:
    """Ask a process that still runs to write its checkpoint and end; return whether it had to be asked."""
    if process.poll() is not None:
        return False
    process.terminate()
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return True


class Forwarder:
    """Carries what the training process writes to the terminal, to MLflow and to the Prefect page."""

    def __init__(self, recipe: str, step: str, key: str, job: dict[str, Any], spool: Path) -> None:
        self.recipe, self.step, self.key, self.job, self.spool = recipe, step, key, job, spool
        self.run_id: str | None = None
        self.sent = self.read = self.inode = 0
        self.told_at = self.sent_at = time.monotonic()
        self.losses: dict[str, float] = {}
        self.first: dict[str, Any] | None = None
        self.newest: dict[str, Any] | None = None
        self.bar = ProgressBar(step)
        self.monitor: Any = None

    def forward(self) -> None:
        """Read what is new and pass it on, each listener at its own pace."""
        progress = self._read_new()
        now = time.monotonic()
        if progress and now - self.told_at >= TOLD_EVERY:
            self.told_at = now
            self._tell(progress)
        if now - self.sent_at >= SENT_EVERY:
            self.sent_at = now
            self._deliver()
            if self.run_id is not None and self.monitor is None:
                tracking.try_to(self._watch_machine)
            if progress:
                done, total = progress["progress"], max(progress["total"], 1)
                self.bar.show(100 * done / total, f"step {done} of {total}{self._time_left(progress)}")

    def finish(self, status: str) -> None:
        """Deliver the rest and end the run; what an outage kept back is sent again from the start."""
        if self.monitor is not None:
            self.monitor.finish()
        self._deliver()
        if self.run_id is not None:
            tracking.try_to(lambda: tracking.finish(self.run_id or "", status=status))
        if status == "FINISHED":
            self.bar.show(100.0, "done")

    def _watch_machine(self) -> None:
        assert self.run_id is not None
        self.monitor = tracking.watch_machine(self.run_id)

    def _read_new(self) -> dict[str, Any] | None:
        """Return the newest progress row of the whole lines written so far."""
        if not self.spool.exists():
            return None
        with self.spool.open("rb") as file:
            self._follow(os.fstat(file.fileno()).st_ino)
            file.seek(self.read)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self.read += end
        for line in data[:end].splitlines():
            row = json.loads(line)
            if "progress" in row:
                self.first, self.newest = self.first or row, row
            elif "loss" in row.get("key", "") or "per_second" in row.get("key", ""):
                self.losses[row["key"]] = row["value"]
        return self.newest

    def _follow(self, inode: int) -> None:
        """Begin anew with a file that took the old one's place: a training puts its own there when it opens it."""
        if inode != self.inode:
            self.inode, self.read, self.sent, self.first = inode, 0, 0, None

    def _tell(self, progress: dict[str, Any]) -> None:
        figures = "  ".join(
            f"{key.removeprefix('train/')} {value:,.0f}" if "per_second" in key else f"{key} {value:.3f}"
            for key, value in sorted(self.losses.items())
        )
        done, total = progress["progress"], progress["total"]
        log.info("%-24s step %d of %d  %s%s", self.step, done, total, figures, self._time_left(progress))

    def _time_left(self, progress: dict[str, Any]) -> str:
        """Say how long the rest takes at the pace since the first progress row that this process read."""
        if self.first is None:
            return ""
        steps = progress["progress"] - self.first["progress"]
        if steps <= 0:
            return ""
        seconds = (progress["time"] - self.first["time"]) / 1000 / steps * (progress["total"] - progress["progress"])
        return f"  {duration(seconds)} left"

    def _deliver(self) -> None:
        if not self.spool.exists():
            return

        def send() -> None:
            if self.run_id is None:
                self.run_id = tracking.run_of(self.recipe, self.step, self.key, self.job, {})
            self._follow(self.spool.stat().st_ino)
            self.sent = tracking.deliver(self.run_id, self.spool, self.sent)

        tracking.try_to(send)
