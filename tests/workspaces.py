"""A workspace of its own for a test, and the command line run in it as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
RECIPE = "recipes/tiny.yaml"

TINY = """
name: tiny
seed: 0
data:
  starter: {people: 8, mentions: 12, notices: 60}
  datasets:
    corpus: {kind: text, train: [{kind: starter, table: corpus}]}
    reviews: {kind: classification, train: [{kind: starter, table: reviews}]}
    questions: {kind: instruction, train: [{kind: starter, table: questions}]}
    preferences: {kind: preference, train: [{kind: starter, table: preferences}]}
prepare: {near_duplicate_threshold: 0.8}
tokenizer: {vocab_size: 512}
pretrain:
  model: {layers: 1, hidden: 32, heads: 2, intermediate: 64, context: 128}
  train: {steps: 30, batch_size: 16, learning_rate: 5e-3, validate_every: 15, checkpoint_every: 10}
specialists:
  reviews: {task: classification, data: reviews, train: {epochs: 1, batch_size: 32}}
  assistant: {task: instruction, data: questions, train: {epochs: 1, batch_size: 32}, max_new_tokens: 8}
  clerk: {task: preference, data: preferences, start: assistant, train: {epochs: 1, batch_size: 32}, max_new_tokens: 8}
audit: {occupation_pronoun: {halves: starter}}
robustness: {}
"""


def make_workspace(directory: Path, recipe: str = TINY) -> Path:
    """Make a git repository with one recipe and the promotion policy, and return its directory."""
    (directory / "recipes").mkdir(parents=True)
    (directory / "recipes" / "tiny.yaml").write_text(recipe)
    (directory / "mlflow").mkdir()
    policy = (PROJECT / "mlflow" / "promotion.yaml").read_text()
    # The tiny assistant learns nothing and cannot be audited, so no child can be held against it.
    lenient = policy.replace(", occupation_pronoun_amplification]", "]")
    (directory / "mlflow" / "promotion.yaml").write_text(lenient)
    subprocess.run(["git", "init", "--quiet"], cwd=directory, check=True)
    return directory


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment that knows nothing of the machine's own Prefect and MLflow."""
    ours = ("PREFECT_", "MLFLOW_", "ALMA_", "HF_")  # another test of this process may have set them
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**inherited, "PYTHONPATH": str(PROJECT), "HOME": str(home), **more}


def alma(workspace: Path, *arguments: str, timeout: float = 280, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m flows`` in the workspace."""
    return subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        cwd=workspace,
        env=environment(workspace, **more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def receipts(workspace: Path) -> dict[str, Any]:
    """Return the receipts of the recipe tiny by the directory of their step."""
    paths = sorted((workspace / "artifacts" / "tiny").rglob("receipt.json"))
    return {path.parent.relative_to(workspace).as_posix(): json.loads(path.read_text()) for path in paths}
