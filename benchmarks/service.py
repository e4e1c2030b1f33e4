"""A champion behind HTTP beside the same model in-process: `python benchmarks/service.py [model] [--rounds N]`.

In a workspace with a registered classifier (starter-reviews unless another is named). Each round asks one text after
the other in-process, then over HTTP with one client, then with eight, so that what else the machine does falls on all
three. Prints a Markdown table: median and 95th percentile of a request's milliseconds, requests a second, and the
processor's milliseconds a request, which a busy machine changes least.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from flows.environment import set_environment
from tasks import registry

REQUESTS = 100  # of each side in a round
CLIENTS = 8
TEXT = "The soup was warm, the beds were clean, and the keeper of the inn remembered our names from last year."
USED = "process_cpu_seconds_total"


def ask(port: int, name: str, count: int) -> list[float]:
    """Return the seconds of each of so many requests over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body, seconds = json.dumps({"model": name, "inputs": [TEXT]}), []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("POST", "/v1/classify", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.read(), answer.status
        assert answer.status == 200
        seconds.append(time.perf_counter() - began)
    connection.close()
    return seconds


def get(port: int, path: str) -> tuple[int, str]:
    """Return status and text of a page of the service."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def used(port: int) -> float:
    """Return the processor seconds that the service has used."""
    return next(float(line.split()[1]) for line in get(port, "/metrics")[1].splitlines() if line.startswith(USED))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="starter-reviews")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    set_environment()
    directory = registry.directory_of(options.model)
    if directory is None:
        sys.exit(f"{options.model}: no champion of that name in this workspace")
    model = registry.answering("classification", directory)
    command = [sys.executable, "-m", "flows", "serve", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "ALMA_API_KEY"}
    service = subprocess.Popen(command, env={**environment, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        port = int(service.stdout.readline().rpartition(":")[2])
        while f'"{options.model}":{{"version"' not in get(port, "/health")[1].partition("not_loaded")[0]:
            time.sleep(0.5)
        ask(port, options.model, 20)
        seconds, wall, processor = defaultdict(list), defaultdict(float), defaultdict(float)
        for _ in range(options.rounds):
            began, before = time.perf_counter(), time.process_time()
            for _ in range(REQUESTS):
                start = time.perf_counter()
                model.answers([TEXT], None)
                seconds["in-process"].append(time.perf_counter() - start)
            processor["in-process"] += time.process_time() - before
            wall["in-process"] += time.perf_counter() - began
            for clients in (1, CLIENTS):
                side = f"/v1/classify, {clients} client{'s' * (clients > 1)}"
                share = [REQUESTS // clients] * clients
                began, before = time.perf_counter(), used(port)
                with ThreadPoolExecutor(clients) as pool:
                    for found in pool.map(ask, [port] * clients, [options.model] * clients, share):
                        seconds[side] += found
                wall[side] += time.perf_counter() - began
                processor[side] += used(port) - before
    finally:
        service.terminate()
        service.wait(30)
    print("| | median ms | 95 % ms | requests/s | processor ms |\n|---|---|---|---|---|")
    for side, found in seconds.items():
        middle, late = statistics.median(found), statistics.quantiles(found, n=20)[-1]
        rate, cost = len(found) / wall[side], processor[side] / len(found)
        print(f"| {side} | {middle * 1e3:.1f} | {late * 1e3:.1f} | {rate:.0f} | {cost * 1e3:.1f} |")


if __name__ == "__main__":
    main()
