"""What happens between two steps, in this order: validate, log, save, stop."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from models.checkpoint import checkpoint_path, random_state, set_random_state
from models.module import Batch, DivergedError, Objective
from models.signals import StopSignal
from models.spool import Spool


class Validation(pl.Callback):
    """Mean loss on the validation batches every so many steps, the best weights, and the early stop."""

    def __init__(
        self,
        batches: Callable[[], Iterable[Batch]],
        spool: Spool | None,
        stop: StopSignal,
        bits_per_byte: Callable[[float], float] | None = None,
    ) -> None:
        self.batches, self.spool, self.stop, self.bits_per_byte = batches, spool, stop, bits_per_byte
        self.last: float | None = None
        self.best: float | None = None
        self.best_step = 0
        self.validated_step = 0
        self.without_better = 0
        self.stopped_early = False
        self.pending = False
        self.best_weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Do the validation that a signal cut short before this run was resumed."""
        if self.pending:
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
        loss = module.mean_loss(self.batches(), lambda: self.stop.received)
        self.pending = loss is None and self.stop.received
        if loss is None:
            return
        step, patience = trainer.global_step, module.config.patience
        self.last, self.validated_step = loss, step
        if self.spool:
            self.spool.value(step, "valid/loss", loss)
            if self.bits_per_byte:
                self.spool.value(step, "valid/bits_per_byte", self.bits_per_byte(loss))
        if self.best is None or loss < self.best:
            self.best, self.best_step, self.without_better = loss, step, 0
            if patience:
                self.best_weights = {n: p.detach().cpu().clone() for n, p in module.model.named_parameters()}
        else:
            self.without_better += 1
            if patience and self.without_better >= patience:
                self.stopped_early = trainer.should_stop = True

    def restore_best(self, model: torch.nn.Module) -> None:
        """Put the best weights back, where early stopping kept them."""
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in self.best_weights:
                    weight.copy_(self.best_weights[name])

    _SAVED = (
        "last",
        "best",
        "best_step",
        "validated_step",
        "without_better",
        "stopped_early",
        "pending",
        "best_weights",
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

    def state_dict(self) -> dict[str, Any]:
        """Return the states of every random generator."""
        return random_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the states until training starts."""
        self._random = state
