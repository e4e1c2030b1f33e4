"""The pipeline's result under DVC, with a specialist that fails, after a kill: what is done is not done again."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from workspaces import PROJECT, RECIPE, alma, environment, make_workspace, receipts

MODELS = ["foundation", "reviews", "assistant", "clerk"]


@pytest.mark.slow
def test_dvc_repro_after_a_run_trains_nothing_again(workspace: Path) -> None:
    # The project's dvc.yaml asks by prompt, too.
    with (workspace / RECIPE).open("a") as file:
        file.write("in_context: {tasks: {facts: {kind: completion, starter: facts, shots: [0], limit: 8}}}\n")
    assert alma(workspace, "pipeline", RECIPE).returncode == 0
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
    stages["vars"][0] |= {"python": sys.executable, "recipe": "tiny", "specialists": ["assistant"]}
    stages["vars"][0]["models"].remove("reviews")
    stages["stages"]["report"]["deps"].remove("artifacts/${recipe}/promote/reviews")
    for stage in stages["stages"].values():  # the code is not in this workspace
        stage.get("do", stage)["deps"] = [
            dep for dep in stage.get("do", stage)["deps"] if dep not in ("models", "tasks")
        ]
    (workspace / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    before = {name: receipt["files"] for name, receipt in receipts(workspace).items()}

    def repro() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=workspace,
            env=environment(workspace),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = repro()
    assert " starts" not in first, first
    assert {name: receipt["files"] for name, receipt in receipts(workspace).items()} == before
    started = time.monotonic()
    assert "Data and pipelines are up to date" in repro()
    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_a_specialist_that_fails_leaves_the_others_standing(workspace: Path) -> None:
    pairs = "task: preference, data: preferences, train: {steps: 1, batch_size: 8, learning_rate: %s}, start: %s"
    more = [
        f"specialists.broken={{{pairs % ('1.0e+30', 'assistant')}}}".replace("steps: 1", "steps: 9"),
        f"specialists.orphan={{{pairs % ('1.0e-4', 'broken')}}}",
        f"specialists.later={{{pairs % ('1.0e-4', 'assistant')}}}",
    ]
    done = alma(workspace, "pipeline", RECIPE, *more)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert sum(line.startswith("failed: broken: finetune/broken: step ") for line in lines) == 1
    assert "failed: orphan: skipped, since broken was not made" in lines
    assert "Traceback" not in done.stdout + done.stderr
    started = [line.split()[1] for line in done.stdout.splitlines() if " starts" in line]
    steps = [
        "finetune/broken",
        *(f"{step}/later" for step in ("finetune", "assess", "audit", "guard", "promote")),
        "overlap",
        "report",
        "cards",
    ]
    assert started == steps, done.stdout
    report = json.loads((workspace / "artifacts/tiny/report/report.json").read_text())
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
    home = {"PREFECT_HOME": str(workspace / "var/prefect"), "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"}
    state = subprocess.run(
        [sys.executable, "-c", script],
        cwd=workspace,
        env=environment(workspace, **home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "FAILED" in state.stdout
    assert "broken" in state.stdout


@pytest.mark.slow
def test_on_a_new_test_split_the_champion_is_assessed_again(workspace: Path) -> None:
    """One tuned on pairs stands against the version that it started from, as the registry's lineage names it.

    On the same split what the champion's run kept is read, item by item.
    """
    decision = workspace / "artifacts/tiny/promote/clerk/decision.json"
    other = alma(workspace, "promote", RECIPE, "clerk", "specialists.clerk.train.learning_rate=3.0e-3")
    assert other.returncode == 0, other.stdout + other.stderr
    assert "assesses the champion" not in other.stdout
    record = json.loads(decision.read_text())
    assert record["version"] == "2"
    assert "against the champion's" in record["reasons"][-1], record["reasons"]
    assert "drawn apart" not in record["reasons"][-1]
    for split in ("train", "test"):
        rows = (workspace / f"data/tiny/preferences/{split}.jsonl").read_text().splitlines()
        kept = rows[: len(rows) // 2] if split == "test" else rows
        (workspace / f"pairs-{split}.jsonl").write_text("\n".join(kept) + "\n")
    files = ", ".join(f"{split}: [{{kind: files, paths: [pairs-{split}.jsonl]}}]" for split in ("train", "test"))
    done = alma(workspace, "promote", RECIPE, "clerk", f"data.datasets.preferences={{kind: preference, {files}}}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "assesses the champion, version" in done.stdout
    record = json.loads(decision.read_text())
    assert record["version"] == "3"
    assert "against the champion's" in record["reasons"][-1], record["reasons"]


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
