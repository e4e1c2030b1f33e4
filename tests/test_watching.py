"""The machine is watched while a training runs, in the training's own run."""

import time
from pathlib import Path

import pytest

from tasks import tracking


def test_a_training_that_goes_on_is_running_again_and_its_machine_is_watched_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("ALMA_MLFLOW_ARTIFACTS", (tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    run = tracking.run_of("town", "pretrain", "a" * 64, {}, {})
    client = tracking.client()
    seen: list[int] = []
    for _ in range(2):
        tracking.finish(run, status="FAILED")
        monitor = tracking.watch_machine(run)
        assert client.get_run(run).info.status == "RUNNING"
        before, end = len(seen), time.monotonic() + 60
        while len(seen) < before + 2 and time.monotonic() < end:
            time.sleep(0.1)
            seen = [row.step for row in client.get_metric_history(run, "system/cpu_utilization_percentage")]
        monitor.finish()
        seen = [row.step for row in client.get_metric_history(run, "system/cpu_utilization_percentage")]
    assert seen == list(range(len(seen)))  # the second part begins where the first one ended
    assert len(seen) >= 4
    assert "system/system_memory_usage_percentage" in client.get_run(run).data.metrics
