"""How long a model takes for one input and for many, and how long its answers are.

Times are of this machine at this hour: they are kept with what a step cost and are no part of what it found.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.generation import Continuation

WARM_UP = 3
CALLS = 20
"""Single calls that are timed, one after the other."""


def time_single(call: Callable[[Any], object], inputs: Sequence[Any]) -> dict[str, float]:
    """Time `CALLS` calls of one input each, after `WARM_UP` others; inputs are taken in turn.

    Returns latency_ms (the median) and latency_p95_ms, and the half-width of the median's 95 % interval by order
    statistics as latency_noise_ms: the noise within this measurement, not that between two days.
    """
    import numpy as np

    took = []
    for number in range(WARM_UP + CALLS):
        started = time.perf_counter()
        call(inputs[number % len(inputs)])
        took.append(1000 * (time.perf_counter() - started))
    times = np.sort(took[WARM_UP:])
    # The median lies between the 6th and the 15th of 20 sorted draws with probability .959 (binomial).
    return {
        "latency_ms": round(float(np.median(times)), 3),
        "latency_p95_ms": round(float(np.quantile(times, 0.95)), 3),
        "latency_noise_ms": round(float(times[14] - times[5]) / 2, 3),
    }


def time_batch(call: Callable[[list[Any]], Any], inputs: list[Any]) -> tuple[Any, float]:
    """Return what the model answers to all inputs at once, and inputs a second."""
    started = time.perf_counter()
    answers = call(inputs)
    return answers, round(len(inputs) / (time.perf_counter() - started), 3)


def machine_name() -> str:
    """Return the device that models run on here, by name, and how busy the machine is beside.

    The load is the number of processes that want to run, over the last minute: above that of the cores, times are
    those of waiting.
    """
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    cores = os.cpu_count()
    return f"{device}, {torch.get_num_threads()} of {cores} cores, load {os.getloadavg()[0]:.1f}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(named, "") or platform.processor() or platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def answer_lengths(answers: "list[Continuation]", references: list[int], limit: int) -> dict[str, Any]:
    """Return the tokens of the answers (mean, p95) beside the references' tokens, and the share that was cut.

    `cut_share` is of the answers that reached the limit of new tokens without ending.
    """
    import numpy as np

    tokens = [answer.tokens for answer in answers]
    return {
        "n": len(answers),
        "limit": limit,
        **{
            f"{who}{name}": float(value)
            for who, lengths in (("", tokens), ("reference_", references))
            for name, value in (("mean", np.mean(lengths)), ("p95", np.quantile(lengths, 0.95)))
        },
        "cut_share": sum(not answer.ended for answer in answers) / len(answers),
    }
