"""Measure trainings by a few of their own steps: `python -m models.measure request.json` writes the answer to stdout.

The request is {train: [{name, job, seconds}, ...], count: [job, ...]}. Each job is built and trained as `models.fit`
does it, for about so many seconds, and nothing of it is kept; the models of the jobs to count are not trained.

The answer is one JSON object: `measured`, name -> figures (`measure`); `counted` (`count`); `startup`, the seconds from
the start of the process to the first job, most of it imports; and `busy`, how many times longer all this took than it
would on a machine that does nothing else (`quiet`). All other seconds are of such a machine.
"""

import gc
import itertools
import json
import logging
import os
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

STARTED = time.perf_counter(), time.process_time()

USED = 0.85
"""Share of its threads that a training keeps busy on a CPU: .79 to .94 by the receipts of quiet machines."""

WARM = 2
"""First steps that are not counted: memory is taken, kernels are chosen."""
LEAST = 3
"""Fewest steps that are counted, however long they take."""
VALIDATED = 2
"""Validation batches that are timed, if there are so many."""


def clock() -> tuple[float, float]:
    """Return the time of the wall and that of this process on all processors, in seconds."""
    return time.perf_counter(), time.process_time()


def quiet(began: tuple[float, float], ended: tuple[float, float], threads: int = 1) -> float:
    """Return the seconds between two clocks, less those in which other work had the processors.

    That is the processor time, divided among the threads that had work, and at most the wall's.
    """
    share = threads * USED if threads > 1 else 1.0
    return min(ended[0] - began[0], (ended[1] - began[1]) / share)


def measure(job: Any, seconds: float) -> dict[str, Any]:
    """Train the job's model for about `seconds` and return what one step takes.

    Times are means over the counted steps, since batches of examples differ in length. `step_positions` counts
    padding, `step_tokens` does not; `flops_per_position` is `training_flops_per_token` less what freezing saves;
    `setup` is the time before the first step: a model is made, rows become ids, a reference model is asked;
    `rows_setup` is what of it comes again with every row. `batches_per_epoch` is of the rows that the job names.
    """
    import torch

    from models import adapters
    from models import checkpoint as ckpt
    from models.architecture import parameter_count, training_flops_per_token
    from models.bases import fresh_ids, load_tokenizer
    from models.data import Steps
    from models.fit import prepare, training_attention
    from models.memory import peak_memory
    from models.trainer import device_name, run

    began = clock()
    torch.manual_seed(job.seed)
    device = device_name()
    tokenizer = load_tokenizer(job.tokenizer, job.objective)
    work = prepare(job, tokenizer, device)
    model = work.model
    training_attention(model, device, work.context)
    if job.adapter:
        adapters.add(model, job, fresh_ids(job, tokenizer))
    trained, saved = adapters.trainable_count(model), adapters.frozen_flops_per_token(model, work.head_share)
    total = job.trainer.total_steps(work.batches_per_epoch)
    module = work.build(total)
    ready = clock()
    if job.train:  # without what is done once: what is left is the rows' own share
        prepare(job, tokenizer, device)
    rows_ready = clock()

    rounds = job.rlhf.updates if job.objective == "rlhf" else 1
    watch = _watch(seconds, rounds, device)
    steps = Steps(work.micro_batch, 0, total, job.trainer.accumulation)
    run(module, steps, total, [watch], ckpt.DirectoryCheckpointIO(), None)
    first = min(WARM, len(watch.ends) - 1)
    counted = len(watch.ends) - first
    start, seen = (watch.ends[first - 1], watch.seen[first - 1]) if first else (rows_ready, (0, 0))
    threads = torch.get_num_threads()
    model.eval()
    before = clock()
    batches = list(itertools.islice(work.valid(), VALIDATED))
    if batches:
        module.mean_loss(batches)
    validated = clock()
    elapsed = partial(_elapsed, device)
    return {
        "objective": job.objective,
        "parameters": parameter_count(model),
        "trainable_parameters": trained,
        "layers": getattr(model.config, "num_hidden_layers", 0),
        "hidden": getattr(model.config, "hidden_size", 0),
        "heads": getattr(model.config, "num_attention_heads", 0),
        "vocabulary": getattr(model.config, "vocab_size", 0),
        "context": work.context,
        "length": work.mean_length,
        "head_share": work.head_share,
        "flops_per_position": training_flops_per_token(model, work.mean_length, work.head_share) - saved,
        "batches_per_epoch": work.batches_per_epoch,
        "train_examples": work.facts.get("train_examples", 0),
        "valid_examples": work.facts.get("valid_examples", 0),
        "steps": counted,
        "step_seconds": elapsed(start, watch.ends[-1], threads) / counted,
        "step_tokens": (watch.seen[-1][0] - seen[0]) / counted,
        "step_positions": (watch.seen[-1][1] - seen[1]) / counted,
        "valid_batch_seconds": elapsed(before, validated, threads) / len(batches) if batches else 0.0,
        "setup": elapsed(began, ready, 1),
        "rows_setup": elapsed(ready, rows_ready, 1),
        "wall_seconds": validated[0] - began[0],
        "quiet_seconds": elapsed(began, rows_ready, 1) + elapsed(rows_ready, validated, threads),
        "precision": "bf16" if module.bf16 else "fp32",
        "peak_memory_bytes": peak_memory(device),
    }


def count(job: Any) -> dict[str, float]:
    """Return the weights of a new model of the job and the operations of a token in training, without its memory."""
    import torch

    from models.architecture import build, parameter_count, training_flops_per_token
    from models.bases import load_tokenizer

    tokenizer = load_tokenizer(job.tokenizer, job.objective)
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    with torch.device("meta"):
        model = build(job.model, len(tokenizer), job.seed, eos, pad)
    flops = training_flops_per_token(model, model.config.max_position_embeddings)
    return {"parameters": parameter_count(model), "flops_per_position": flops}


def score(job: Any, path: Path, dtype: str) -> float:
    """Return how many tokens a second a new causal model of the job scores, as its assessment does it."""
    import torch

    from models.bases import load_model, load_tokenizer
    from models.scoring import token_array_losses
    from models.trainer import device_name

    model: Any = load_model(job, load_tokenizer(job.tokenizer, job.objective)).to(device_name())  # type: ignore[arg-type]
    began = clock()
    tokens = int(token_array_losses(model, path, dtype)[1].sum())
    return tokens / _elapsed(model.device.type, began, clock(), torch.get_num_threads())


def _elapsed(device: str, began: tuple[float, float], ended: tuple[float, float], threads: int) -> float:
    """Return `quiet` seconds on a CPU, and the wall's on a GPU, which works while its process waits."""
    return ended[0] - began[0] if device == "cuda" else quiet(began, ended, threads)


def _save_new(job: Any, directory: Path) -> None:
    """Write a new model of the job where another job looks for its reward model."""
    from models.bases import load_tokenizer
    from models.fit import prepare
    from models.trainer import device_name

    tokenizer = load_tokenizer(job.tokenizer, job.objective)
    prepare(job, tokenizer, device_name()).model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _watch(seconds: float, rounds: int, device: str) -> Any:
    """Return a callback that notes when each step ended and ends the training when the time is over.

    Steps come in whole `rounds`: rlhf draws its answers every few of them.
    """
    import lightning.pytorch as pl
    import torch

    class Watch(pl.Callback):
        def __init__(self) -> None:
            self.ends: list[tuple[float, float]] = []
            self.seen: list[tuple[int, int]] = []

        def on_train_batch_end(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            module: Any = pl_module
            if device == "cuda":
                torch.cuda.synchronize()
            self.ends.append(clock())
            self.seen.append((module.tokens_seen, module.positions_seen))
            counted = len(self.ends) - WARM
            if counted >= LEAST and counted % rounds == 0 and self.ends[-1][0] - self.ends[WARM - 1][0] >= seconds:
                trainer.should_stop = True

    return Watch()


def main(arguments: list[str]) -> int:
    """Run the command line and return its exit code; 2 with one line for a job that cannot be built."""
    from models.job import Job
    from models.signals import stop_with_parent

    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("TQDM_DISABLE", "1")
    stop_with_parent()
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    asked: dict[str, Any] = {"name": "request"}
    import lightning.pytorch  # noqa: F401  # part of every training's start
    import transformers  # noqa: F401

    startup = quiet(STARTED, clock())
    wall, still = time.perf_counter() - STARTED[0], startup
    answer: dict[str, Any] = {"startup": startup, "measured": {}}
    try:
        answer["counted"] = [count(Job.model_validate(job)) for job in request["count"]]
        for asked in request["train"]:
            job = Job.model_validate(asked["job"])
            if asked.get("reward_job"):
                _save_new(Job.model_validate(asked["reward_job"]), Path(asked["job"]["reward"]))
            found = measure(job, asked["seconds"])
            gc.collect()  # a trainer and its model hold each other, and the next one needs their memory
            wall, still = wall + found.pop("wall_seconds"), still + found.pop("quiet_seconds")
            answer["measured"][asked["name"]] = found
            if asked.get("score"):
                answer["scored_per_second"] = score(job, Path(asked["score"]["path"]), asked["score"]["dtype"])
    except ValueError as error:
        print(f"error: {asked['name']}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps({**answer, "busy": wall / still}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
