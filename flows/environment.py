"""The surroundings of every command: embedded stores by default, nothing sent anywhere, quiet libraries."""

import json
import os

from tasks.hub import stay_offline
from tasks.workspace import VAR

SERVERS = VAR / "servers.json"


def set_environment() -> None:
    """Point Prefect and MLflow at this workspace's stores, unless the environment already says where.

    While `make up` runs, flows report to its Prefect server; else each command starts an embedded one.
    Call it before Prefect or MLflow are imported.
    """
    var = VAR.resolve()
    (var / "mlflow").mkdir(parents=True, exist_ok=True)
    servers = running_servers()
    if "prefect" in servers:
        os.environ.setdefault("PREFECT_API_URL", f"{servers['prefect']}/api")
    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{var}/mlflow/mlflow.db"
        os.environ.setdefault("ALMA_MLFLOW_ARTIFACTS", (var / "mlflow" / "artifacts").as_uri())
    stay_offline()
    quiet = {
        "DO_NOT_TRACK": "true",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
        # A run that sends no sign of life any more is marked as crashed (flows/watching.py); 30 s is Prefect's least.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_HOME": str(var / "prefect"),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "alma",
        # The page keeps every line; the terminal shows the project's own.
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def running_servers() -> dict[str, str]:
    """Return the addresses of the servers that `make up` started and that still live, by name."""
    import psutil

    if not SERVERS.exists():
        return {}
    alive = {}
    for name, server in json.loads(SERVERS.read_text()).items():
        try:
            process = psutil.Process(server["pid"])
            same = abs(process.create_time() - server["started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            continue
        if same:
            alive[name] = server["address"]
    return alive
