"""The real pipeline on a tiny corpus: through Prefect, through DVC, again, after damage, after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from workspaces import PROJECT, alma, environment, make_workspace

RECIPE = "recipes/tiny.yaml"
MODELS = ["foundation", "reviews", "assistant", "clerk"]
CONTROLLED = ["reviews", "assistant"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the pipeline has run once."""
    directory = make_workspace(tmp_path_factory.mktemp("pipeline") / "work")
    done = alma(directory, "pipeline", RECIPE)
    assert done.returncode == 0, done.stdout + done.stderr
    (directory / "first.txt").write_text(done.stdout)
    return directory


def receipts(workspace: Path) -> dict[str, Any]:
    paths = sorted((workspace / "artifacts" / "tiny").rglob("receipt.json"))
    return {path.parent.relative_to(workspace).as_posix(): json.loads(path.read_text()) for path in paths}


def test_every_step_leaves_a_receipt_and_every_model_a_version(workspace: Path) -> None:
    steps = {receipt["step"] for receipt in receipts(workspace).values()}
    assert steps == {"ingest", "prepare", "tokenizer", "pretrain", "report"} | {
        f"{step}/{model}" for step, models in (("finetune", MODELS[1:]), ("scratch", CONTROLLED)) for model in models
    } | {f"{step}/{model}" for step in ("assess", "audit", "promote") for model in MODELS}
    report = json.loads((workspace / "artifacts/tiny/report/report.json").read_text())
    assert [row["model"] for row in report["table"]] == [f"tiny-{model}" for model in MODELS]
    assert all(row["version"] == "1" for row in report["table"])
    assert all(row["reasons"] for row in report["table"])
    assert "what came out" in (workspace / "first.txt").read_text()
    page = (workspace / "artifacts/tiny/report/report.html").read_text()
    assert all(f"tiny-{model}" in page for model in MODELS)


def test_a_version_leads_back_to_its_data_weights_and_code(workspace: Path) -> None:
    by_step = {receipt["step"]: receipt for receipt in receipts(workspace).values()}
    record = json.loads((workspace / "artifacts/tiny/promote/reviews/decision.json").read_text())
    lineage = record["lineage"]
    pinned = yaml.safe_load((workspace / "data.dvc").read_text())["outs"][0]["md5"]
    assert lineage["data_dvc"] == pinned
    assert lineage["foundation_version"] == "1"
    foundation = json.loads((workspace / "artifacts/tiny/promote/foundation/decision.json").read_text())
    assert lineage["foundation_weights_digest"] == foundation["lineage"]["weights_digest"]
    assert lineage["assessment_digest"] == by_step["assess/reviews"]["digest"]
    assert lineage["foundation_flops_share"] == by_step["pretrain"]["cost"]["flops"] / 3 > 0
    assistant, clerk = (
        json.loads((workspace / f"artifacts/tiny/promote/{model}/decision.json").read_text())["lineage"]
        for model in ("assistant", "clerk")
    )
    assert "start" not in assistant
    assert (clerk["start"], clerk["start_version"]) == ("tiny-assistant", "1")
    assert clerk["start_weights_digest"] == assistant["weights_digest"]
    assert clerk["foundation_weights_digest"] == assistant["foundation_weights_digest"]
    script = (
        "import json\n"
        "from mlflow import MlflowClient\n"
        "client = MlflowClient('sqlite:///var/mlflow/mlflow.db')\n"
        "version = client.get_model_version('tiny-reviews', '1')\n"
        "run = client.get_run(version.run_id)\n"
        "history = client.get_metric_history(version.run_id, 'train/loss')\n"
        "print(json.dumps([version.tags, run.info.status, len(history), sorted(run.data.metrics),\n"
        "                  [i.dataset.digest for i in run.inputs.dataset_inputs]]))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=workspace,
        env=environment(workspace),
        capture_output=True,
        text=True,
        check=True,
    )
    tags, status, points, metrics, data = json.loads(answer.stdout.splitlines()[-1])
    assert tags["alma.weights_digest"] == lineage["weights_digest"]
    assert json.loads(tags["alma.decision"])["reasons"] == record["reasons"]
    assert status == "FINISHED"
    spool = [json.loads(line) for line in (workspace / "artifacts/tiny/finetune/reviews/history.jsonl").open()]
    assert points == sum(row.get("key") == "train/loss" for row in spool) > 0, "neither lost nor doubled"
    assert "test/accuracy" in metrics
    assert "baseline/majority/accuracy" in metrics
    assert lineage["corpus_digest"][:36] in data


def test_the_second_run_finds_every_step_done(workspace: Path) -> None:
    before = receipts(workspace)
    started = time.monotonic()
    done = alma(workspace, "pipeline", RECIPE)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    assert " starts" not in done.stdout
    assert sum(line.endswith("found done") for line in done.stdout.splitlines()) == len(before)
    assert receipts(workspace) == before


def test_a_damaged_result_is_made_again_to_the_same_bytes_and_nothing_else(workspace: Path) -> None:
    before = receipts(workspace)
    weights = workspace / "artifacts/tiny/finetune/reviews/model/model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\1")
    done = alma(workspace, "promote", RECIPE, "reviews")
    assert done.returncode == 0, done.stderr
    assert "model.safetensors is not what step finetune/reviews wrote" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines() if " starts" in line] == ["finetune/reviews"]
    after = receipts(workspace)["artifacts/tiny/finetune/reviews"]
    assert (
        after["files"]["model/model.safetensors"]
        == before["artifacts/tiny/finetune/reviews"]["files"]["model/model.safetensors"]
    )


def test_a_new_specialist_leaves_the_foundation_as_it_is(tmp_path: Path, workspace: Path) -> None:
    here = tmp_path / "work"
    shutil.copytree(workspace, here)
    (here / "recipes/more.yaml").write_text(
        "extends: tiny.yaml\n"
        "data: {datasets: {helpdesk: {kind: classification, train: [{kind: starter, table: helpdesk}]}}}\n"
        "prepare: {contamination_ngram: 50, contamination_min_words: 50}\n"
        "specialists: {desk: {task: classification, data: helpdesk, train: {epochs: 1}}}\n"
    )
    # Without the contamination check the same corpus remains, so the foundation's key does too.
    same = "prepare={contamination_ngram: 50, contamination_min_words: 50}"
    first = alma(here, "pretrain", RECIPE, same)
    assert first.returncode == 0, first.stderr
    second = alma(here, "pretrain", "recipes/more.yaml")
    assert second.returncode == 0, second.stderr
    started = {line.split()[1] for line in second.stdout.splitlines() if " starts" in line}
    assert started == {"ingest", "prepare"}, second.stdout


def test_dvc_repro_after_a_run_trains_nothing_again(tmp_path: Path, workspace: Path) -> None:
    here = tmp_path / "work"
    shutil.copytree(workspace, here)
    # The project's dvc.yaml asks by prompt, too.
    with (here / RECIPE).open("a") as file:
        file.write("in_context: {tasks: {facts: {kind: completion, starter: facts, shots: [0], limit: 8}}}\n")
    assert alma(here, "pipeline", RECIPE).returncode == 0
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
    stages["vars"][0] |= {"python": sys.executable, "recipe": "tiny"}
    for stage in stages["stages"].values():  # the code is not in this workspace
        stage.get("do", stage)["deps"] = [
            dep for dep in stage.get("do", stage)["deps"] if dep not in ("models", "tasks")
        ]
    (here / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    before = {name: receipt["files"] for name, receipt in receipts(here).items()}

    def repro() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=here,
            env=environment(here),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = repro()
    assert " starts" not in first, first
    assert {name: receipt["files"] for name, receipt in receipts(here).items()} == before
    started = time.monotonic()
    assert "Data and pipelines are up to date" in repro()
    assert time.monotonic() - started < 20


def test_a_specialist_that_fails_leaves_the_others_standing(tmp_path: Path, workspace: Path) -> None:
    here = tmp_path / "work"
    shutil.copytree(workspace, here)
    pairs = "task: preference, data: preferences, train: {steps: 1, batch_size: 8, learning_rate: %s}, start: %s"
    more = [
        f"specialists.broken={{{pairs % ('1.0e+30', 'assistant')}}}".replace("steps: 1", "steps: 9"),
        f"specialists.orphan={{{pairs % ('1.0e-4', 'broken')}}}",
        f"specialists.later={{{pairs % ('1.0e-4', 'assistant')}}}",
    ]
    done = alma(here, "pipeline", RECIPE, *more)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert sum(line.startswith("failed: broken: finetune/broken: step ") for line in lines) == 1
    assert "failed: orphan: skipped, since broken was not made" in lines
    assert "Traceback" not in done.stdout + done.stderr
    started = [line.split()[1] for line in done.stdout.splitlines() if " starts" in line]
    steps = ["finetune/broken", *(f"{step}/later" for step in ("finetune", "assess", "audit", "promote")), "report"]
    assert started == steps, done.stdout
    report = json.loads((here / "artifacts/tiny/report/report.json").read_text())
    assert [row["model"] for row in report["table"]] == [f"tiny-{model}" for model in [*MODELS, "later"]]
    assert [row["model"] for row in report["failed"]] == ["tiny-broken", "tiny-orphan"]
    assert all(row["version"] == "1" for row in report["table"])
    assert "tiny-broken: not made" in done.stdout
    script = (
        "from prefect.client.orchestration import get_client\n"
        "with get_client(sync_client=True) as client:\n"
        "    runs = sorted(client.read_flow_runs(), key=lambda run: run.start_time)\n"
        "    print(runs[-1].state.type.value, runs[-1].state.message)\n"
    )
    home = {"PREFECT_HOME": str(here / "var/prefect"), "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"}
    state = subprocess.run(
        [sys.executable, "-c", script],
        cwd=here,
        env=environment(here, **home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "FAILED" in state.stdout
    assert "broken" in state.stdout


def test_a_killed_pipeline_resumes_to_the_same_weights(workspace: Path, tmp_path: Path) -> None:
    here = make_workspace(tmp_path / "work", (workspace / RECIPE).read_text().replace("steps: 30", "steps: 400"))
    whole = alma(here, "pretrain", RECIPE)
    assert whole.returncode == 0, whole.stderr
    receipt = here / "artifacts/tiny/pretrain/receipt.json"
    weights = json.loads(receipt.read_text())["files"]["model/model.safetensors"]
    shutil.rmtree(here / "artifacts/tiny/pretrain")
    shutil.rmtree(here / "var/training")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "pretrain", RECIPE],
        cwd=here,
        env=environment(here),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while not list((here / "var").glob("training/*/checkpoints/*[0-9]")) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not receipt.exists()
    again = alma(here, "pretrain", RECIPE)
    assert again.returncode == 0, again.stderr
    summary = json.loads((here / "artifacts/tiny/pretrain/summary.json").read_text())
    assert 0 < summary["resumed_from_step"] < 400
    assert json.loads(receipt.read_text())["files"]["model/model.safetensors"] == weights
