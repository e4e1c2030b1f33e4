"""Is the foundation's worth luck? Whole towns and foundations over seeds: `python benchmarks/foundation_seeds.py 3`.

`recipes/transfer.yaml` repeats the tuning from one foundation. Here each seed generates the starter's text anew,
trains a foundation on it and compares the same specialists once with all of their labels and once with a twentieth:
about 8 minutes a seed on two cores. Works below var/ and prints a Markdown table, with Student's t over the seeds.
"""

import json
import math
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from scipy.stats import t

PROJECT = Path(__file__).resolve().parent.parent
RECIPE = """
extends: {base}
name: seeds
seed: {seed}
data: {{starter: {{seed: {seed}}}}}
transfer: {{seeds: 1, shares: [0.05, 1.0]}}
"""


def run_seed(seed: int, overrides: list[str]) -> dict[tuple[str, int, str], tuple[float, float]]:
    """Return (from the foundation, from scratch) by specialist, number of labels and score."""
    workspace = PROJECT / "var" / "foundation_seeds" / f"seed-{seed}"
    workspace.mkdir(parents=True, exist_ok=True)
    shutil.copytree(PROJECT / "mlflow", workspace / "mlflow", dirs_exist_ok=True)
    (workspace / "seeds.yaml").write_text(RECIPE.format(base=PROJECT / "recipes" / "transfer.yaml", seed=seed))
    subprocess.run([sys.executable, "-m", "flows", "transfer", "seeds.yaml", *overrides], cwd=workspace, check=True)
    found = {}
    for path in sorted((workspace / "artifacts/seeds/transfer").glob("*/curve.json")):
        for point in json.loads(path.read_text())["points"]:
            for metric in point["scores"]["model"]:
                both = tuple(point["scores"][who][metric]["value"] for who in ("model", "from_scratch"))
                found[path.parent.name, point["labels"], metric] = both
    return found


def main(seeds: int, overrides: list[str]) -> None:
    """Run the seeds and print the table."""
    results = [run_seed(seed, overrides) for seed in range(seeds)]
    columns = " | ".join(f"seed {seed}" for seed in range(seeds))
    print(f"| specialist | labels | score | {columns} | mean difference |\n|---|---|---|" + "---|" * (seeds + 1))
    for specialist, labels, metric in results[0]:
        pairs = [result[specialist, labels, metric] for result in results]
        gains = [ours - theirs for ours, theirs in pairs]
        shown = " | ".join(f"{ours:.3f}, {theirs:.3f}" for ours, theirs in pairs)
        mean, half = statistics.fmean(gains), math.nan
        if seeds > 1:
            half = t.ppf(0.975, seeds - 1) * statistics.stdev(gains) / math.sqrt(seeds)
        print(
            f"| {specialist} | {labels} | {metric} | {shown} | {mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}] |"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:])
