"""MLflow tracking: one run per trained model, found again by the key of its receipt.

The training subprocess writes its metrics to a spool file with fixed timestamps. MLflow keeps rows
of equal (key, timestamp, step, value) once, so the spool may be delivered again from its start at any
time: nothing is lost in an outage and nothing is doubled.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.console import log

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor


KEY_TAG = "alma.key"
DIGEST = 36  # characters that MLflow keeps of a data set's digest
BATCH = 1000  # rows that MLflow takes in one request


def client() -> "MlflowClient":
    """Return a client of the store that ``MLFLOW_TRACKING_URI`` names; the embedded one by default."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])


def experiment_id(recipe: str) -> str:
    """Return the id of the recipe's experiment, made on first use."""
    from mlflow.exceptions import MlflowException

    mlflow = client()
    found = mlflow.get_experiment_by_name(recipe)
    if found is None:
        try:
            return str(mlflow.create_experiment(recipe, artifact_location=os.environ.get("ALMA_MLFLOW_ARTIFACTS")))
        except MlflowException:  # another run made it in between
            found = mlflow.get_experiment_by_name(recipe)
            if found is None:
                raise
    return str(found.experiment_id)


def run_of(recipe: str, step: str, key: str, params: dict[str, Any], tags: dict[str, str]) -> str:
    """Return the id of the MLflow run of a step's key, opened with params and tags on first use."""
    mlflow, experiment = client(), experiment_id(recipe)
    found = mlflow.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    run = mlflow.create_run(experiment, run_name=step, tags={KEY_TAG: key, "alma.step": step, **tags})
    from mlflow.entities import Param

    rows = [Param(name, str(value)[:500]) for name, value in flatten(params).items()]
    mlflow.log_batch(run.info.run_id, params=rows[:100])
    for start in range(100, len(rows), 100):
        mlflow.log_batch(run.info.run_id, params=rows[start : start + 100])
    return str(run.info.run_id)


def deliver(run_id: str, spool: Path, start: int = 0) -> int:
    """Send the metrics of ``spool`` from byte ``start`` on to the run; return where it stopped.

    Half-written last lines are left for the next call.
    """
    from mlflow.entities import Metric

    with spool.open("rb") as file:
        file.seek(start)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    rows = [json.loads(line) for line in whole.splitlines() if line.strip()]
    metrics = [Metric(row["key"], row["value"], row["time"], row["step"]) for row in rows if "key" in row]
    _log(run_id, metrics)
    return start + len(whole)


def watch_machine(run_id: str) -> "SystemMetricsMonitor":
    """Log to the run, every ten seconds, what processors, memory, disk, network and graphics cards are doing.

    Call ``finish`` on what is returned. A run that was ended before, and goes on now, is running again.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    client().update_run(run_id, status="RUNNING")
    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    monitor.start()
    return monitor


def log_scores(run_id: str, scores: dict[str, Any], time: int) -> None:
    """Log single figures (numbers only, nested names joined by ``/``) at ``time`` (ms since 1970)."""
    from mlflow.entities import Metric

    numbers = {name: value for name, value in flatten(scores, "/").items() if _is_number(value)}
    _log(run_id, [Metric(name, float(value), time, 0) for name, value in numbers.items()])


def _log(run_id: str, metrics: "list[Metric]") -> None:
    mlflow = client()
    for start in range(0, len(metrics), BATCH):
        mlflow.log_batch(run_id, metrics=metrics[start : start + BATCH])


def log_data(run_id: str, name: str, source: str, digest: str, context: str) -> None:
    """Link the run to the version of the data that it saw (MLflow keeps 36 characters of a digest)."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(name, digest[:DIGEST], "local", json.dumps({"uri": source, "digest": digest}))
    client().log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])


def log_models(run_id: str, models: Iterable[str]) -> None:
    """Link the run to the logged models that it started from, or learned from, by their ids; each once."""
    from mlflow.entities import LoggedModelInput

    linked = client().get_run(run_id).inputs
    there = {found.model_id for found in linked.model_inputs} if linked else set()
    new = [LoggedModelInput(model) for model in models if model not in there]
    if new:
        client().log_inputs(run_id, models=new)


def bind_losses(run_id: str, model: str, history: Path, name: str, digest: str) -> None:
    """Bind the last losses of a training to the logged model and to the data set that they were measured on."""
    from mlflow.entities import Metric

    rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    last = {row["key"]: row for row in rows if row.get("key") in ("train/loss", "valid/loss")}
    data = {"model_id": model, "dataset_name": name, "dataset_digest": digest[:DIGEST]}
    _log(run_id, [Metric(key, row["value"], row["time"], row["step"], **data) for key, row in last.items()])


def finish(run_id: str, artifacts: Iterable[Path] = (), status: str = "FINISHED") -> None:
    """End the run, with its small files (histories, summaries) beside it."""
    mlflow = client()
    for path in artifacts:
        mlflow.log_artifact(run_id, str(path))
    mlflow.set_terminated(run_id, status)


def keep(run_id: str, directory: Path, name: str = "") -> None:
    """Keep a directory of small files with a run, under its own name or another."""
    client().log_artifacts(run_id, str(directory), name or directory.name)


def fetch(run_id: str, name: str) -> Path | None:
    """Return a directory that was kept with a run, copied here where the store is elsewhere; None without it."""
    import mlflow

    if not client().list_artifacts(run_id, name):
        return None
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name))


def params(run_id: str) -> dict[str, str]:
    """Return the parameters of a run, nested names joined by ``.``."""
    return dict(client().get_run(run_id).data.params)


def try_to(action: Callable[[], None]) -> bool:
    """Do ``action`` unless MLflow is out of reach; what was not delivered is sent again at promotion."""
    from mlflow.exceptions import MlflowException

    try:
        action()
    except (MlflowException, OSError) as error:
        log.warning("MLflow did not answer (%s): its rows are kept and sent later", str(error).splitlines()[0])
        return False
    return True


def flatten(values: dict[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """Return nested names as one level: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, separator, f"{prefix}{name}{separator}")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
