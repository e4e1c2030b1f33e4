"""What the user is told while the pipeline works: one logger, which Prefect forwards to its page."""

import logging
import sys

log = logging.getLogger("alma")
log.setLevel(logging.INFO)  # a run that Prefect starts never passes the command line, and its page wants the lines too


def speak() -> None:
    """Send the project's own messages to the terminal, one line each; call it once, at the entry."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    log.handlers[:] = [handler]
    log.propagate = False


def duration(seconds: float) -> str:
    """Return a duration for people: ``0.3 s``, ``42 s``, ``3 min 05 s``, ``1 h 02 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
