"""What happens between two steps, in this order: validate, log, save, stop."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from models.checkpoint import checkpoint_path, random_state, set_random_state
from models.module import DivergedError, Objective, Workload
from models.signals import StopSignal
from models.spool import Spool


class Validation(pl.Callback):
    """Mean loss on the validation batches every so many steps, the best weights, and the early stop.

    Where the workload has a general text, its mean loss is measured beside, and both before the first step too.
    """

    def __init__(self, work: Workload, spool: Spool | None, stop: StopSignal) -> None:
        self.work, self.spool, self.stop = work, spool, stop
        self.last: float | None = None
        self.metrics: dict[str, float] = {}
        """What the last validation measured beside the loss."""
        self.best: float | None = None
        self.best_step = 0
        self.validated_step = 0
        self.without_better = 0
        self.stopped_early = False
        self.pending = False
        self.best_weights: dict[str, Tensor] = {}
        self.both: dict[int, list[float]] = {}
        """Losses on the validation text and on the general one by step, where there is one."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Do the validation that a signal cut short before this run was resumed, or the one before the first step."""
        if self.pending or (self.work.general and trainer.global_step == 0):
            self.validate(trainer, module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate when it is due."""
        assert isinstance(module, Objective)
        every, step = module.config.validate_every, trainer.global_step
        if step == module.total_steps or (every and step % every == 0):
            self.validate(trainer, module)

    def validate(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Measure the validation loss now, and take the best weights and the early stop from it."""
        assert isinstance(module, Objective)
        step, patience = trainer.global_step, module.config.patience

        def stopped() -> bool:
            # Before the first step a signal ends the process at once, and the run starts anew.
            return step > 0 and self.stop.received

        loss = module.mean_loss(self.work.valid(), stopped)
        metrics = dict(module.metrics)
        general = module.mean_loss(self.work.general(), stopped) if self.work.general else None
        cut = loss is None or (general is None and self.work.general is not None)
        self.pending = cut and stopped()
        if loss is None or cut:
            return
        self.last, self.validated_step, self.metrics = loss, step, metrics
        self._write(step, "valid/", loss, self.work.bits_per_byte)
        for name, value in metrics.items():
            self._value(step, f"valid/{name}", value)
        if general is not None:
            self.both[step] = [loss, general]
            self._write(step, "valid/general_", general, self.work.general_bits_per_byte)
        if self.best is None or loss < self.best:
            self.best, self.best_step, self.without_better = loss, step, 0
            if patience:
                trained = ((n, p) for n, p in module.model.named_parameters() if p.requires_grad)
                self.best_weights = {name: weight.detach().cpu().clone() for name, weight in trained}
        else:
            self.without_better += 1
            if patience and self.without_better >= patience:
                self.stopped_early = trainer.should_stop = True

    def _write(self, step: int, name: str, loss: float, bits: Callable[[float], float] | None) -> None:
        self._value(step, f"{name}loss", loss)
        if bits:
            self._value(step, f"{name}bits_per_byte", bits(loss))

    def _value(self, step: int, name: str, value: float) -> None:
        if self.spool:
            self.spool.value(step, name, value)

    def forgetting(self) -> dict[str, float]:
        """Return the losses before the first step and of the weights that are kept, and the general loss' rise.

        In nats per target (and bits per byte where they are known); nothing without a general text.
        """
        if not self.both:
            return {}
        kept = self.best_step if self.best_weights else self.validated_step
        found: dict[str, float] = {}
        for when, (domain, general) in (("before", self.both[0]), ("after", self.both[kept])):
            found |= {f"domain_loss_{when}": domain, f"general_loss_{when}": general}
            if self.work.bits_per_byte:
                found[f"domain_bits_per_byte_{when}"] = self.work.bits_per_byte(domain)
            if self.work.general_bits_per_byte:
                found[f"general_bits_per_byte_{when}"] = self.work.general_bits_per_byte(general)
        return {**found, "forgetting": found["general_loss_after"] - found["general_loss_before"]}

    def restore_best(self, model: torch.nn.Module) -> None:
        """Put the best weights back, where early stopping kept them."""
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in self.best_weights:
                    weight.copy_(self.best_weights[name])

    _SAVED = (
        "last",
        "metrics",
        "best",
        "best_step",
        "validated_step",
        "without_better",
        "stopped_early",
        "pending",
        "best_weights",
        "both",
    )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to stop at the same step."""
        return {name: getattr(self, name) for name in self._SAVED}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        for name in self._SAVED:
            setattr(self, name, state[name])


class Progress(pl.Callback):
    """Loss, learning rate, gradient norm and speed into the spool, and a message for whoever watches."""

    def __init__(self, spool: Spool | None) -> None:
        self.spool = spool
        self.first_loss: float | None = None
        self.last_loss: float | None = None
        self.seconds = 0.0
        """Time spent training, over all resumed parts."""
        self._since = 0.0
        self._recent: list[Tensor] = []
        self._tokens, self._time = 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        assert isinstance(module, Objective)
        self._since = self._time = time.perf_counter()
        self._tokens = module.tokens_seen

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the mean of the losses since the last row, every `log_every` steps."""
        assert isinstance(module, Objective)
        self._recent.append(outputs["loss"] if isinstance(outputs, dict) else outputs)
        step = trainer.global_step
        last = step == module.total_steps or trainer.should_stop
        if self.first_loss is not None and step % module.config.log_every and not last:
            return
        loss = torch.stack(self._recent).mean().item()
        self._recent.clear()
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise DivergedError(f"step {step}: the loss is {loss:g}; the updates were skipped")
        now = time.perf_counter()
        speed = (module.tokens_seen - self._tokens) / max(1e-9, now - self._time)
        self._tokens, self._time = module.tokens_seen, now
        self.first_loss = loss if self.first_loss is None else self.first_loss
        self.last_loss = loss
        if self.spool:
            self.spool.value(step, "train/loss", loss)
            self.spool.value(step, "train/learning_rate", module.last_rate)
            self.spool.value(step, "train/gradient_norm", float(module.last_norm))
            self.spool.value(step, "train/tokens_per_second", speed)
            for name, value in module.logged.items():
                self.spool.value(step, f"train/{name}", float(value))
            self.spool.progress(step, module.total_steps, f"loss {loss:.3f}, {speed:,.0f} tokens/s")

    def elapsed(self) -> float:
        """Return the seconds of training so far, the parts before a resume included."""
        return self.seconds + (time.perf_counter() - self._since if self._since else 0.0)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.seconds, self._since = self.elapsed(), 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the losses and the time so far, and the losses not yet written."""
        return {
            "first_loss": self.first_loss,
            "last_loss": self.last_loss,
            "seconds": self.elapsed(),
            "recent": [loss.detach().cpu() for loss in self._recent],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.first_loss, self.last_loss = state["first_loss"], state["last_loss"]
        self.seconds, self._recent = state["seconds"], list(state["recent"])


class Checkpoints(pl.Callback):
    """A checkpoint every so many steps, at the end and on a signal; the random states go with it."""

    def __init__(self, directory: Path | None, every: int | None, stop: StopSignal) -> None:
        self.directory, self.every, self.stop = directory, every, stop
        self._random: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put the saved random states back last, when nothing draws before the first step any more."""
        if self._random is not None:
            set_random_state(self._random)
        # Lightning put its own handlers in place when the fit began.
        self.stop.install()
        self.stop.deferring = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when due, and end the run after a signal."""
        assert isinstance(module, Objective)
        step = trainer.global_step
        last = step == module.total_steps or trainer.should_stop
        # Read once: a signal between two readings would end the run unsaved.
        stopped = self.stop.received
        due = last or stopped or (self.every and step % self.every == 0)
        if due and self.directory is not None:
            trainer.save_checkpoint(checkpoint_path(self.directory, step))
        if stopped:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """From here on a signal ends the process at once."""
        self.stop.deferring = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leave out what is frozen: the base of an adapter comes from its own directory again."""
        for name, weight in pl_module.named_parameters(remove_duplicate=False):
            if not weight.requires_grad:
                checkpoint["state_dict"].pop(name, None)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of every random generator."""
        return random_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the states until training starts."""
        self._random = state
