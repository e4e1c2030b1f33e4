"""The real pipeline on a tiny corpus: once, again, after damage, with another specialist."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from workspaces import RECIPE, alma, environment, receipts

MODELS = ["foundation", "reviews", "assistant", "clerk"]
CONTROLLED = ["reviews", "assistant"]


def test_every_step_leaves_a_receipt_and_every_model_a_version(workspace: Path) -> None:
    steps = {receipt["step"] for receipt in receipts(workspace).values()}
    assert steps == {"ingest", "prepare", "tokenizer", "pretrain", "overlap", "report", "cards"} | {
        f"{step}/{model}" for step, models in (("finetune", MODELS[1:]), ("scratch", CONTROLLED)) for model in models
    } | {f"{step}/{model}" for step in ("assess", "audit", "guard", "promote") for model in MODELS}
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
    audits = json.loads(tags["alma.evidence"])["audits"]
    assert audits, "the champion's audits are held against the next candidate's"
    assert not any(audit["details"] for audit in audits), "a tag has 100,000 characters, details have no end"
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


def test_a_new_specialist_leaves_the_foundation_as_it_is(workspace: Path) -> None:
    (workspace / "recipes/more.yaml").write_text(
        "extends: tiny.yaml\n"
        "data: {datasets: {helpdesk: {kind: classification, train: [{kind: starter, table: helpdesk}]}}}\n"
        "prepare: {contamination_ngram: 50, contamination_min_words: 50}\n"
        "specialists: {desk: {task: classification, data: helpdesk, train: {epochs: 1}}}\n"
    )
    # Without the contamination check the same corpus remains, so the foundation's key does too.
    same = "prepare={contamination_ngram: 50, contamination_min_words: 50}"
    first = alma(workspace, "pretrain", RECIPE, same)
    assert first.returncode == 0, first.stderr
    second = alma(workspace, "pretrain", "recipes/more.yaml")
    assert second.returncode == 0, second.stderr
    started = {line.split()[1] for line in second.stdout.splitlines() if " starts" in line}
    assert started == {"ingest", "prepare"}, second.stdout
