"""All champions behind HTTP: `python -m flows serve`."""

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from tasks.service.config import KEY, ServiceConfig, api_key, listen

if TYPE_CHECKING:
    import socket

LEAVE_WITHIN = 8  # seconds that requests in flight have to finish in, once the service is told to end


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C, and then end the process; return 2, in one line, for what keeps it from that."""
    options = vars(_parser().parse_args(arguments))
    from flows.environment import set_environment
    from tasks.console import speak

    try:
        config = _config({name: value for name, value in options.items() if value is not None})
        key = api_key()
        with listen(config.host, config.port, key) as socket:
            speak()
            set_environment()
            _require_champion()
            _run(config, key, socket)
    except KeyboardInterrupt:
        pass
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    # Taking torch apart takes seconds where the machine is busy; whoever ended the service waits for nothing else.
    sys.stdout.flush()
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows serve",
        description="Serve every champion of the registry, and follow its alias: /v1/classify, /v1/tag, /v1/answer "
        "and /v1/chat/completions (OpenAI's protocol), with /v1/models, /health and /metrics.",
        epilog=f"Requests carry 'Authorization: Bearer' with the key in {KEY} where that is set.",
    )
    for name, field in ServiceConfig.model_fields.items():
        default = "" if field.default is None else f" (default: {field.default})"
        words = f"{field.description}{default}"
        parser.add_argument("--" + name.replace("_", "-"), metavar=name.rpartition("_")[2].upper(), help=words)
    return parser


def _config(given: dict[str, str]) -> ServiceConfig:
    """Return the settings; ValueError names the option that cannot be used."""
    from pydantic import ValidationError

    try:
        return ServiceConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise ValueError(f"{option} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def _require_champion() -> None:
    """Raise ValueError in one line where this workspace has nothing to serve.

    What a registry server holds is others' to promote: the service waits for it, and says 503 until then.
    """
    from tasks import registry

    if registry.is_remote():
        return
    try:
        found = registry.champions()
    except Exception as error:  # whatever a store out of reach makes MLflow raise
        raise ValueError(f"the registry: {error}; `make run` makes one") from None
    if not found:
        raise ValueError("no registered model has a champion; `make run` promotes one")


def _run(config: ServiceConfig, key: str | None, socket: "socket.socket") -> None:
    import uvicorn
    from transformers.utils.logging import set_verbosity_error

    from tasks.console import log
    from tasks.service.app import build

    set_verbosity_error()
    settings = uvicorn.Config(
        build(config, key),
        log_config=None,
        access_log=False,  # its lines have the query of each request in them
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=LEAVE_WITHIN,
    )
    host, port = socket.getsockname()[:2]
    log.info("listens on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    # Uvicorn raises the signal that ended it once more when all is done: it has then done its work.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.Server(settings).run(sockets=[socket])
