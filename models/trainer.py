"""How a model is trained, whatever its objective: the configuration and one run of the Lightning Trainer."""

import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from models.config import Config

# The configuration is read by the command line, which must not wait for torch: the functions import it.
if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO


class TrainerConfig(Config):
    """Optimiser, schedule, batches and rhythm of one training run."""

    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; give either this or `epochs`."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the training data; give either this or `steps`."""
    batch_size: int = Field(default=32, ge=1)
    """Sequences of one micro-batch on one device."""
    accumulation: int = Field(default=1, ge=1)
    """Micro-batches of one optimiser step."""
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Peak learning rate."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """Course of the learning rate after the warm-up."""
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from zero."""
    decay_share: float = Field(default=0.2, gt=0, le=1)
    """Share of the steps over which "wsd" falls at the end."""
    final_share: float = Field(default=0.05, ge=0, le=1)
    """Learning rate at the end, as a share of the peak."""
    weight_decay: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """Decoupled weight decay of the matrices; norms, biases and embeddings have none."""
    beta2: float = Field(default=0.95, gt=0, lt=1)
    """Decay of AdamW's second moment."""
    clip: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Largest norm of the gradient."""
    spikes: Literal["keep", "skip"] = "keep"
    """What becomes of a step whose loss or gradient lies six standard deviations above those before; it is told too."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """bf16 computes in bfloat16 and keeps weights in float32; auto: where the hardware is fast at it."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: on for a GPU, off for a CPU, where it pays only after 5 to 15 minutes."""
    validate_every: int | None = Field(default=None, ge=1)
    """Optimiser steps between validations; empty: only at the end."""
    validate_batches: int | None = Field(default=None, ge=1)
    """Most validation batches of one validation; empty: all."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many validations without a better loss, and keep the best weights; empty: never."""
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Optimiser steps between checkpoints; empty: only when stopped and at the end."""
    log_every: int = Field(default=10, ge=1)
    """Optimiser steps between logged values."""

    @model_validator(mode="after")
    def _one_length(self) -> "TrainerConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"steps is {self.steps} and epochs is {self.epochs}, expected exactly one of them")
        if self.patience is not None and self.validate_every is None:
            raise ValueError(f"patience is {self.patience} without validate_every, expected both")
        return self

    def total_steps(self, batches_per_epoch: float, world: int = 1) -> int:
        """Return the optimiser steps of the whole run."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, math.ceil(self.epochs * batches_per_epoch / (self.accumulation * world) - 1e-9))


def fast_at_bf16(device: str) -> bool:
    """Return whether bf16 runs at the hardware's full rate: AVX512-BF16 or AMX on a CPU, Ampere and later."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    capabilities = torch.backends.cpu.get_cpu_capability()
    cpu_flags = Path("/proc/cpuinfo")
    flags = cpu_flags.read_text(encoding="utf-8", errors="replace") if cpu_flags.is_file() else ""
    return capabilities.startswith("AVX512") and ("avx512_bf16" in flags or "amx_bf16" in flags)


def choose_precision(config: TrainerConfig, device: str) -> Literal["bf16", "fp32"]:
    """Return the precision that "auto" stands for on this device."""
    if config.precision != "auto":
        return config.precision
    return "bf16" if fast_at_bf16(device) else "fp32"


def choose_compile(config: TrainerConfig, device: str) -> bool:
    """Return whether the step is compiled on this device."""
    return config.compile == "on" or (config.compile == "auto" and device == "cuda")


def device_name() -> str:
    """Return "cuda" or "cpu", whichever training will run on."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def world() -> tuple[int, int]:
    """Return (rank, processes) as the launcher (torchrun) put them into the environment; (0, 1) alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def run(
    module: "pl.LightningModule",
    steps: Any,
    total_steps: int,
    callbacks: "list[pl.Callback]",
    checkpoint_io: "CheckpointIO",
    checkpoint: Path | None,
) -> "pl.Trainer":
    """Train to `total_steps`, from `checkpoint` if given, and return Lightning's trainer.

    `steps` (models.data.Steps) yields one whole optimiser step at a time, so that Lightning's step is the
    optimiser's.
    """
    import lightning.pytorch as pl
    import torch

    processes = world()[1]
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    with warnings.catch_warnings():
        # One process feeds the step from memory-mapped arrays in microseconds: worker advice does not apply.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists.*")
        trainer = pl.Trainer(
            accelerator=device_name() if device_name() == "cpu" else "gpu",
            devices=local if processes > 1 else 1,
            num_nodes=max(1, processes // local),
            strategy="ddp" if processes > 1 else "auto",
            max_steps=total_steps,
            max_epochs=-1,
            callbacks=callbacks,
            plugins=[checkpoint_io],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            barebones=False,
        )
        loader: Any = torch.utils.data.DataLoader(steps, batch_size=None)
        trainer.fit(module, loader, ckpt_path=None if checkpoint is None else str(checkpoint), weights_only=True)
    return trainer
