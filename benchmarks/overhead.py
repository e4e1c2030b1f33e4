"""What the flow and DVC cost when there is nothing to do: `python benchmarks/overhead.py [turns]`, after `make run`.

Everything is found done, so all the time is overhead: the pipeline flow with its embedded Prefect server, the
same steps without Prefect, and `dvc repro`. The three are run in turns; medians of at least 5 turns.
"""

import statistics
import subprocess
import sys
import time

from flows.environment import running_servers

RECIPE = "recipes/starter.yaml"
SIDES = {
    "pipeline flow, embedded server": [sys.executable, "-m", "flows", "pipeline", RECIPE],
    "the same steps without Prefect": [sys.executable, "-m", "flows", "report", RECIPE],
    "dvc repro": [sys.executable, "-m", "dvc", "repro"],
}


def main(turns: int) -> None:
    """Run the sides in turns and print a Markdown table of seconds."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    if "prefect" in running_servers():
        sys.exit("a server is up, which makes the flow cheaper than `make run` is: `make down` first")
    for turn in range(turns + 1):
        for side, command in SIDES.items():
            started = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
            if turn:  # the first turn warms the disk's cache, and lets dvc write what the run left to it
                seconds[side].append(time.perf_counter() - started)
                if " starts" in done.stdout:
                    sys.exit(f"{side}: not everything was done; run `make run` first")
    print("| nothing to do | seconds, median | least | most |\n|---|---|---|---|")
    for side, found in seconds.items():
        print(f"| {side} | {statistics.median(found):.1f} | {min(found):.1f} | {max(found):.1f} |")


if __name__ == "__main__":
    main(max(5, int(sys.argv[1])) if len(sys.argv) > 1 else 5)
