"""Train one model: `python -m models.fit job.json`.

Exit code 0: done. 2: bad input, one line on stderr. 1: a failure, one line. 143 and 130: stopped by SIGTERM
or SIGINT after a checkpoint; the same command resumes.
"""

import json
import logging
import os
import shutil
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from models.bases import fresh_ids, load_tokenizer
from models.job import Job
from models.memory import peak_memory
from models.signals import StopSignal, stop_with_parent

# torch, lightning and transformers take seconds to import: a misspelt job file is refused before that.
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from models.module import Workload


def prepare(job: Job, tokenizer: "PreTrainedTokenizerFast", device: str) -> "Workload":
    """Return the workload of the job's objective, its model included."""
    objective = import_module(f"models.{job.objective}")  # one file an objective, and no other one is loaded
    workload: Workload = objective.prepare(job, tokenizer, device)
    return workload


def fit(job: Job, stop: StopSignal) -> dict[str, Any]:
    """Train, write `out/model`, `out/summary.json` and `out/history.jsonl`, and return the summary.

    Resumes from the newest checkpoint that verifies and belongs to the same job. Raises ValueError for bad
    input, DivergedError for a loss that is no number, OSError for the disk, SystemExit after a signal.
    """
    import torch

    from models import adapters
    from models import checkpoint as ckpt
    from models.architecture import parameter_count, training_flops_per_token
    from models.callbacks import Checkpoints, Progress, Validation
    from models.data import Steps
    from models.spool import Spool
    from models.trainer import device_name, run, world

    began = time.time()
    if job.threads:
        torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    device, (rank, processes) = device_name(), world()
    tokenizer = load_tokenizer(job.tokenizer, job.objective)
    work = prepare(job, tokenizer, device)
    model = work.model
    attention = training_attention(model, device, work.context)
    adapter = adapters.add(model, job, fresh_ids(job, tokenizer)) if job.adapter else None
    trained, saved_flops = adapters.trainable_count(model), adapters.frozen_flops_per_token(model, work.head_share)
    total = job.trainer.total_steps(work.batches_per_epoch, processes)
    digest = job.digest()
    directory = Path(job.checkpoints) if job.checkpoints else None
    start, found, stopped_early = resume_point(directory, digest, total)

    module = work.build(total)
    module.job_digest = digest
    module.strict_loading = adapter is None  # a checkpoint holds no frozen weights
    spool = Spool(Path(job.spool), digest) if job.spool and rank == 0 else None
    validation = Validation(work, spool, stop)
    progress = Progress(spool)
    saving = Checkpoints(directory, job.trainer.checkpoint_every, stop)
    steps = Steps(work.micro_batch, start, start if stopped_early else total, job.trainer.accumulation, rank, processes)
    trainer = run(
        module,
        steps,
        start if stopped_early else total,
        [validation, progress, saving],
        ckpt.DirectoryCheckpointIO(),
        found,
    )
    reached = trainer.global_step
    if stop.received:
        if spool:
            spool.progress(reached, total, f"stopped by signal {stop.number} at step {reached}")
            spool.close()
        raise SystemExit(128 + stop.number)
    if validation.pending or validation.last is None:
        validation.validate(trainer, module)
    validation.restore_best(model)
    if spool:
        spool.progress(reached, total, "done")
        spool.close()
    seconds = progress.elapsed()
    tokens = module.tokens_seen
    bits = work.bits_per_byte
    flops = training_flops_per_token(model, work.mean_length, work.head_share) - saved_flops
    out = Path(job.out)
    if adapter is not None:
        if rank == 0:
            adapters.save_adapter(adapter, out / "adapter", fresh_ids(job, tokenizer))
        model = adapters.merge(adapter, job, out / "adapter")
    parameters = parameter_count(model)
    summary: dict[str, Any] = {
        "objective": job.objective,
        "seed": job.seed,
        "steps": reached,
        "total_steps": total,
        "stopped_early": validation.stopped_early,
        "resumed_from_step": start,
        "tokens": tokens,
        "seconds": seconds,
        "wall_seconds": time.time() - began,
        "tokens_per_second": tokens / seconds if seconds else None,
        "train_loss": {"first": progress.first_loss, "final": progress.last_loss},
        "valid_loss": {"final": validation.last, "best": validation.best, "best_step": validation.best_step},
        **{f"valid_{name}": value for name, value in validation.metrics.items()},
        "bits_per_byte": bits(validation.best if validation.best_weights else validation.last)
        if bits and validation.last is not None and validation.best is not None
        else None,
        **validation.forgetting(),
        "parameters": parameters,
        "trainable_parameters": trained,
        "trainable_share": trained / parameters,
        "peak_memory_bytes": peak_memory(device),
        "flops": flops * module.positions_seen,
        "context": work.context,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "processes": processes,
        "precision": "bf16" if module.bf16 else "fp32",
        "compile": module.compiled,
        "attention": attention,
        "micro_batch_pieces": module.pieces,
        "spikes": int(module.spikes.count) if module.spikes else 0,
        "forward": "lean" if module.lean else "transformers",
        "job": digest,
        **work.facts,
    }
    if rank == 0:
        write_out(out, model, tokenizer, summary, Path(job.spool) if job.spool else None)
    return summary


def training_attention(model: "PreTrainedModel", device: str, context: int) -> str:
    """Switch the model to the fastest attention that computes what its own does, and return that one's name."""
    from transformers import BertConfig, LlamaConfig, ModernBertConfig

    from models.attention import choose_attention, set_attention

    config: Any = model.config
    dropout = max(getattr(config, name, 0.0) for name in ("attention_dropout", "attention_probs_dropout_prob"))
    # The written-out form has no dropout, no soft caps and no sinks: it is for the families it is tested with.
    plain = isinstance(config, LlamaConfig | BertConfig | ModernBertConfig) and not dropout
    return set_attention(model, choose_attention(device, context) if plain else "sdpa")


def resume_point(directory: Path | None, digest: str, total: int) -> tuple[int, Path | None, bool]:
    """Return (step to start from, checkpoint or None, whether early stopping had ended the run there).

    A checkpoint of another job is passed over with a warning, since its weights answer another question.
    """
    from models import checkpoint as ckpt

    if directory is None:
        return 0, None, False
    ckpt.sweep(directory)
    found = ckpt.newest_verified(directory)
    if found is None:
        return 0, None, False
    state = ckpt.DirectoryCheckpointIO().load_checkpoint(found)
    if state.get("alma", {}).get("job") != digest:
        warnings.warn(f"checkpoint passed over: {found} belongs to another job or other data", stacklevel=2)
        shutil.rmtree(directory)
        return 0, None, False
    step = int(state["global_step"])
    assert step <= total, (step, total)
    return step, found, bool(state["callbacks"]["Validation"]["stopped_early"])


def write_out(
    out: Path,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    summary: dict[str, Any],
    spool: Path | None,
) -> None:
    """Write the model as transformers loads it (safetensors, plain attention), summary and history."""
    from models.attention import set_attention

    out.mkdir(parents=True, exist_ok=True)
    set_attention(model, "sdpa")
    plain: Any = model
    plain.to("cpu").save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    if spool is not None:
        shutil.copyfile(spool, out / "history.jsonl")
    text = json.dumps(summary, indent=1, ensure_ascii=False)
    (out / "summary.json").write_text(text + "\n", encoding="utf-8")


def read_job(path: Path) -> Job:
    """Return the job of a JSON file; ValueError names the file and each wrong field in one line."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected a job in JSON")
    try:
        return Job.model_validate_json(path.read_bytes())
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'job'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path}: {faults}") from None


def main(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    # Libraries' notes about themselves; warnings and errors still come through.
    for name in ("lightning.pytorch", "lightning.fabric", "transformers"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("TQDM_DISABLE", "1")
    stop = StopSignal()
    stop.install()
    stop_with_parent()
    try:
        if len(arguments) != 1:
            raise ValueError("expected one argument, the job file: python -m models.fit job.json")
        fit(read_job(Path(arguments[0])), stop)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (OSError, ArithmeticError, MemoryError, RuntimeError) as error:
        from models.pieces import out_of_memory

        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
        print(f"failed: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
