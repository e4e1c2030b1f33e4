"""Training speed beside the Hugging Face Trainer: `python benchmarks/training.py [turns]`.

Both sides train the same Llama on the same token array with the same batch, in turns, each in a process of
its own with that side's best environment: ours in `training_environment()`, theirs with bf16 and
torch.compile. A turn reports the median tokens/s of its steps after warm-up, compilation excluded. Prints a
Markdown table of medians over the turns.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPES: dict[str, dict[str, int]] = {
    "tiny (4 x d256, context 128, vocab 4k, batch 32)": {
        "layers": 4, "hidden": 256, "heads": 8, "intermediate": 688, "context": 128, "vocab": 4096, "batch": 32
    },
    "starter (4 x d128, context 64, vocab 1k, batch 64)": {
        "layers": 4, "hidden": 128, "heads": 4, "intermediate": 384, "context": 64, "vocab": 1024, "batch": 64
    },
}  # fmt: skip
STEPS, WARM = 60, 15


def build_model(shape: dict[str, int]) -> Any:
    """Return the same Llama for both sides."""
    from models.architecture import ArchitectureConfig, build

    sizes = {k: shape[k] for k in ("layers", "hidden", "heads", "intermediate", "context")}
    return build(ArchitectureConfig(size="tiny", **sizes), shape["vocab"], 0, 0, 1)


def speed(times: list[float], shape: dict[str, int]) -> float:
    """Return the median tokens per second of the steps after the warm-up."""
    steps = [b - a for a, b in zip(times[WARM:], times[WARM + 1 :], strict=False)]
    return shape["batch"] * shape["context"] / statistics.median(steps)


def ours(shape: dict[str, int], tokens: np.ndarray) -> float:
    """Train with `models`, as `models.fit` does, and return tokens/s."""
    import lightning.pytorch as pl

    from models.attention import choose_attention, set_attention
    from models.callbacks import Progress, Validation
    from models.causal_lm import CausalLM
    from models.checkpoint import DirectoryCheckpointIO
    from models.data import PackedBatches, Steps
    from models.module import Workload
    from models.signals import StopSignal
    from models.spool import Spool
    from models.trainer import TrainerConfig, run

    times: list[float] = []

    class Clock(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            times.append(time.perf_counter())

    model = build_model(shape)
    set_attention(model, choose_attention("cpu", shape["context"]))
    config = TrainerConfig(steps=STEPS, batch_size=shape["batch"])
    packed = PackedBatches(tokens, shape["context"], shape["batch"], 0)
    module = CausalLM(model, config, STEPS, "cpu")
    steps = Steps(lambda index: {"ids": packed.batch(index)}, 0, STEPS, 1)
    with tempfile.TemporaryDirectory() as folder, Spool(Path(folder) / "spool.jsonl", "benchmark") as spool:
        work = Workload(model, lambda _: module, lambda _: {}, 1.0, list, shape["context"], shape["context"])
        callbacks = [Validation(work, spool, StopSignal()), Progress(spool), Clock()]
        run(module, steps, STEPS, callbacks, DirectoryCheckpointIO(), None)
    return speed(times, shape)


def theirs(shape: dict[str, int], tokens: np.ndarray, compiled: bool) -> float:
    """Train with transformers.Trainer in bf16, compiled or not, and return tokens/s."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    class Windows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
        def __len__(self) -> int:
            return len(tokens) // shape["context"] - 1

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            start = index * shape["context"]
            ids = torch.from_numpy(tokens[start : start + shape["context"]].astype(np.int64))
            return {"input_ids": ids, "labels": ids}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            per_device_train_batch_size=shape["batch"],
            bf16=True,
            torch_compile=compiled,
            optim="adamw_torch_fused",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_steps=10,
            disable_tqdm=True,
        )
        Trainer(build_model(shape), arguments, train_dataset=Windows(), callbacks=[Clock()]).train()
    return speed(times, shape)


def measure(side: str, shape: dict[str, int], tokens: np.ndarray) -> float:
    """Return the tokens/s of one side by its name in the table."""
    return ours(shape, tokens) if side == "alma" else theirs(shape, tokens, compiled=side == "trainer compiled")


def turn(side: str, name: str, environment: dict[str, str]) -> float:
    """Run one side once in a process of its own and return tokens/s."""
    command = [sys.executable, __file__, "--side", side, name]
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    """Take both sides in turns and print the table."""
    if sys.argv[1:2] == ["--side"]:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        shape = SHAPES[sys.argv[3]]
        tokens = np.random.default_rng(0).integers(0, shape["vocab"], 2_000_000).astype(np.uint16)
        print(json.dumps(measure(sys.argv[2], shape, tokens)))
        return
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from models.launch import training_environment

    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    threads = {"OMP_NUM_THREADS": str(os.cpu_count())}
    sides = {"trainer": threads, "trainer compiled": threads, "alma": training_environment()}
    print("| shape | Trainer bf16 | Trainer bf16 + compile | Alma | Alma / best Trainer |\n|---|---|---|---|---|")
    for name in SHAPES:
        measured: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(turns):
            for side, environment in sides.items():
                measured[side].append(turn(side, name, environment))
        medians = {side: statistics.median(values) for side, values in measured.items()}
        ratio = medians["alma"] / max(medians["trainer"], medians["trainer compiled"])
        print(f"| {name} | " + " | ".join(f"{m:,.0f}" for m in medians.values()) + f" | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
