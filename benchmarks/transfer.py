"""What the foundation is worth, over seeds: `python benchmarks/transfer.py [seeds]`, about 6 minutes a seed.

For each seed the starter text is generated anew, a foundation is trained, and the specialists are tuned from it
and from random weights on the same budget: questions about the other half of the people, reviews with all
labels, reviews with 20 labels. Works in a workspace of its own below var/ and prints a Markdown table.
"""

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
RECIPE = """
extends: {starter}
name: transfer
seed: {seed}
data: {{starter: {{seed: {seed}}}}}
specialists:
  reviews-20:
    task: classification
    data: reviews
    max_examples: 20
    train: {{epochs: 30, batch_size: 10, learning_rate: 1e-4}}
"""
ASKED = {"assistant": "exact_match", "reviews": "accuracy", "reviews-20": "accuracy"}


def run_seed(seed: int) -> dict[str, tuple[float, float]]:
    """Return (from the foundation, from scratch) of each specialist's score on its test split."""
    workspace = PROJECT / "var" / "transfer" / f"seed-{seed}"
    workspace.mkdir(parents=True, exist_ok=True)
    shutil.copytree(PROJECT / "mlflow", workspace / "mlflow", dirs_exist_ok=True)
    (workspace / "transfer.yaml").write_text(RECIPE.format(starter=PROJECT / "recipes" / "starter.yaml", seed=seed))
    found = {}
    for model, metric in ASKED.items():
        subprocess.run([sys.executable, "-m", "flows", "assess", "transfer.yaml", model], cwd=workspace, check=True)
        receipt = json.loads((workspace / "artifacts/transfer/assess" / model / "receipt.json").read_text())["metrics"]
        found[model] = (receipt["scores"][metric], receipt["baselines"]["from_scratch"][metric])
        print(f"seed {seed}: {model} {found[model]}", flush=True)
    return found


def main(seeds: int) -> None:
    """Run the seeds and print the table."""
    results = [run_seed(seed) for seed in range(seeds)]
    columns = " | ".join(f"seed {seed}" for seed in range(seeds))
    print(f"| specialist | score | start | {columns} | median |\n|---|---|---|" + "---|" * (seeds + 1))
    for model, metric in ASKED.items():
        for number, start in enumerate(("foundation", "scratch")):
            values = [result[model][number] for result in results]
            shown = " | ".join(f"{100 * value:.1f} %" for value in [*values, statistics.median(values)])
            print(f"| {model} | {metric} | {start} | {shown} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
