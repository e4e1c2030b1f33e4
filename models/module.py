"""What every objective shares: the training step, whose loss is the mean over all targets of a whole step."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from models import lean
from models.attention import positions_of
from models.cross_entropy import linear_cross_entropy
from models.optim import build_optimizer, clip_inside_step, learning_rate_factor
from models.pieces import in_pieces, out_of_memory
from models.spikes import Spikes
from models.trainer import TrainerConfig, choose_compile, choose_precision

Batch = dict[str, Tensor]


class Counts(NamedTuple):
    """How much is in a batch."""

    targets: int
    """Predictions that have a loss."""
    tokens: int
    """Tokens of the text itself."""
    positions: int
    """Positions computed, padding included."""


def batch_digest(micro_batches: list[Batch]) -> str:
    """Return 12 hexadecimal digits that name the texts of a step: of the SHA-256 of their token ids."""
    found = hashlib.sha256()
    for batch in micro_batches:
        found.update(batch["ids"].cpu().numpy().tobytes())
    return found.hexdigest()[:12]


class DivergedError(ArithmeticError):
    """The loss or its gradient is no longer a finite number; the weights are those before the update."""


class Objective(pl.LightningModule):
    """A model, its optimiser and one optimiser step; an objective adds `loss_sum` and `count`.

    A step takes a list of micro-batches. Each adds its summed loss, divided by the number of targets in the
    whole list, so that accumulation over unequal micro-batches gives the loss of one large batch.
    """

    per_place: ClassVar[tuple[str, ...]] = ("places", "targets")
    """Tensors of a batch that have one entry a place, not one a row."""
    sides: ClassVar[int] = 1
    """Rows of a batch that stand or fall together."""
    divisible = True
    """Whether a micro-batch can be computed in pieces."""

    def __init__(self, model: PreTrainedModel, config: TrainerConfig, total_steps: int, device: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.config, self.total_steps = config, total_steps
        self.bf16 = choose_precision(config, device) == "bf16"
        self.compiled = choose_compile(config, device)
        self.device_kind = device
        self.dtype_of_products = torch.bfloat16 if self.bf16 else torch.float32
        self.lean = not self.compiled and lean.applies(model, device, int(model.config.max_position_embeddings))
        self.job_digest = ""
        self.tokens_seen = 0
        self.positions_seen = 0
        self.pieces = 1
        """In how many pieces a micro-batch is computed: more once memory ran out."""
        self.spikes: Spikes | None = None
        self._spikes_before: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        """What the last validation measured beside the loss, by name."""
        self.logged: Mapping[str, float | Tensor] = {}
        """What is logged of a training step beside its loss, by name."""
        self._sum: Callable[[Batch], Tensor] = torch.compile(self.loss_sum) if self.compiled else self.loss_sum

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the float32 sum of the loss over the batch's targets, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} gives no loss_sum")

    def count(self, batch: Batch) -> Counts:
        """Return how much is in the batch."""
        raise NotImplementedError(f"{type(self).__name__} gives no count")

    def begin_step(self, micro_batches: list[Batch], targets: float) -> None:
        """Put into the micro-batches what their losses need to know of the whole step, which has so many targets."""

    def hidden(self, ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """Return the last hidden states [batch * tokens, width] of right-padded ids [batch, tokens].

        `segments` as ids numbers the documents of packed rows: none sees another, and each begins at position 0.
        On a CPU by the lean form where it applies; else by the model's own forward, which `autocast` surrounds.
        """
        if self.lean:
            with torch.autocast(self.device_kind, enabled=False):
                return lean.hidden_states(self.model.base_model, ids, self.dtype_of_products, segments)
        # transformers keeps documents apart whose positions begin anew, where no attention mask is given.
        positions = None if segments is None else positions_of(segments)
        output: Tensor = self.model.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        return output.flatten(0, 1)

    def vocabulary_loss_sum(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the summed cross-entropy in nats of hidden states [n, width] against next tokens [n]."""
        head: Any = self.model.get_output_embeddings()
        if self.lean and head.bias is None:
            with torch.autocast(self.device_kind, enabled=False):
                return linear_cross_entropy(hidden, head.weight.to(hidden.dtype), targets)
        return F.cross_entropy(head(hidden).float(), targets, reduction="sum")

    def autocast(self) -> torch.autocast:
        """Return the precision context; casts of weights are cached over the micro-batches inside it."""
        return torch.autocast(self.device_kind, dtype=torch.bfloat16, enabled=self.bf16)

    def training_step(self, micro_batches: list[Batch], batch_idx: int) -> Tensor:
        """Do one optimiser step and return its mean loss, a detached scalar.

        Raises DivergedError before the weights change. On a GPU the update is skipped on the device, and the
        error raised when the loss is next read, so that no step waits for the device.
        """
        step = self.global_step
        wrapped = self.optimizers()
        assert not isinstance(wrapped, list)
        optimizer = wrapped.optimizer
        counts = [self.count(batch) for batch in micro_batches]
        total = float(sum(count.targets for count in counts))
        world = self.trainer.world_size
        if world > 1:
            total = float(self.trainer.strategy.reduce(torch.tensor(total, device=self.device), reduce_op="sum"))
            # The data-parallel gradient is a mean over processes; this turns it into the sum.
            total /= world
        loss = self._gradients(micro_batches, total)
        rate = self.config.learning_rate * learning_rate_factor(
            self.config.schedule,
            step,
            self.total_steps,
            self.config.warmup_share,
            self.config.decay_share,
            self.config.final_share,
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        norm = clip_inside_step(optimizer, self.model.parameters(), self.config.clip)
        if self.device_kind == "cpu" or step % self.config.log_every == 0:
            self.require_finite(loss, norm, micro_batches)
        self._look_for_spike(optimizer, loss, norm, micro_batches)
        wrapped.step()
        optimizer.zero_grad(set_to_none=True)
        self.tokens_seen += sum(count.tokens for count in counts) * world
        self.positions_seen += sum(count.positions for count in counts) * world
        self.last_rate, self.last_norm = rate, norm
        return loss

    def _gradients(self, micro_batches: list[Batch], total: float) -> Tensor:
        """Return the step's mean loss, its gradients left in the weights.

        Where memory runs out, once more with every micro-batch in twice as many pieces, and so from there on: the
        step's texts and the mean over them stay the same.
        """
        while True:
            batches = [piece for batch in micro_batches for piece in self._in_pieces(batch)]
            self.begin_step(batches, total)
            try:
                loss = torch.zeros((), device=self.device)
                for batch in batches:
                    with self.autocast():
                        part = self._sum(batch) / total
                    self.manual_backward(part)
                    loss += part.detach()
                return loss
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            # Outside of the handler, whose traceback holds what the step had computed.
            self.zero_grad(set_to_none=True)
            self._take_smaller_pieces(max(len(batch["ids"]) // self.sides for batch in micro_batches))

    def _in_pieces(self, batch: Batch) -> list[Batch]:
        return [batch] if self.pieces == 1 else in_pieces(batch, self.pieces, self.per_place, self.sides)

    def _take_smaller_pieces(self, texts: int) -> None:
        if self.device_kind == "cuda":
            torch.cuda.empty_cache()
        step = f"step {self.global_step + 1}: out of memory"
        if self.trainer.world_size > 1:  # each process would have its own number of backward passes
            raise MemoryError(f"{step}; lower batch_size and raise accumulation by as much, which trains the same")
        if self.pieces >= texts or not self.divisible:
            raise MemoryError(f"{step} with the smallest micro-batch; take a smaller batch_size, context or model")
        self.pieces *= 2
        warnings.warn(f"{step}; from here on a micro-batch is computed in {self.pieces} pieces", stacklevel=2)

    def _look_for_spike(
        self, optimizer: torch.optim.Optimizer, loss: Tensor, norm: Tensor, micro_batches: list[Batch]
    ) -> None:
        """Count a step that stands out, tell it where that costs nothing (on a CPU), and skip its update if asked."""
        if self.spikes is None:
            self.spikes = Spikes(self.device)
            if self._spikes_before:
                self.spikes.load_state_dict(self._spikes_before)
        found = self.spikes.stands_out(loss, norm)
        if self.config.spikes == "skip":
            # Fused AdamW leaves the weights and its own state alone where this is set.
            optimizer.found_inf = torch.maximum(optimizer.found_inf, found.float())  # type: ignore[attr-defined]
        self.logged = {**self.logged, "spikes": self.spikes.count}
        if self.device_kind == "cpu" and found:
            done = "skipped" if self.config.spikes == "skip" else "kept"
            warnings.warn(
                f"step {self.global_step + 1}: the loss {loss.item():.3g} or the gradient's norm {norm.item():.3g} "
                f"stands out, batch {batch_digest(micro_batches)}; the step is {done}",
                stacklevel=2,
            )

    def require_finite(self, loss: Tensor, norm: Tensor, micro_batches: list[Batch]) -> None:
        """Raise DivergedError naming step and batch when the loss or the gradient's norm is no finite number."""
        if not (torch.isfinite(loss) & torch.isfinite(norm)):
            raise DivergedError(
                f"step {self.global_step + 1}: the loss is {loss.item():g} and the gradient's norm {norm.item():g} on "
                f"batch {batch_digest(micro_batches)}; stopped before the update. The same command goes on from the "
                "last checkpoint; where it stops here again, lower learning_rate or clip, or look at the data"
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser; the learning rate is set in the step, as a pure function of its number."""
        return build_optimizer(self.model, self.config.learning_rate, self.config.weight_decay, self.config.beta2)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the job's digest and the counters."""
        checkpoint["alma"] = {
            "job": self.job_digest,
            "tokens": self.tokens_seen,
            "positions": self.positions_seen,
            "pieces": self.pieces,
            "spikes": self.spikes.state_dict() if self.spikes else {},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the counters back."""
        state = checkpoint["alma"]
        self.tokens_seen, self.positions_seen, self.pieces = state["tokens"], state["positions"], state["pieces"]
        self._spikes_before = state["spikes"]

    @torch.no_grad()
    def mean_loss(self, batches: Iterable[Batch], stopped: Callable[[], bool] = lambda: False) -> float | None:
        """Return the mean loss per target over the batches, or None when `stopped` says so in between."""
        total, count = 0.0, 0
        self.model.eval()
        cut = False
        for batch in batches:
            if cut := stopped():
                break
            moved = {name: tensor.to(self.device) for name, tensor in batch.items()}
            with self.autocast():
                total += float(self.loss_sum(moved))
            count += self.count(batch).targets
        self.model.train()
        return None if cut or not count else total / count


@dataclass(frozen=True)
class Workload:
    """One job made ready: the module, its data as pure functions, and what the summary says about them."""

    model: PreTrainedModel
    build: Callable[[int], Objective]
    """Takes the total number of steps."""
    micro_batch: Callable[[int], Batch]
    batches_per_epoch: float
    valid: Callable[[], Iterable[Batch]]
    context: int
    """Longest sequence in tokens; decides the attention."""
    mean_length: float
    """Mean sequence in tokens; decides the cost."""
    head_share: float = 1.0
    """Share of the positions whose logits are computed; decides the cost, too."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further entries of summary.json."""
    bits_per_byte: Callable[[float], float] | None = None
    """Turns a validation loss in nats per token into bits per byte."""
    general: Callable[[], Iterable[Batch]] | None = None
    """Validation batches of a general text, whose loss is measured beside (forgetting)."""
    general_bits_per_byte: Callable[[float], float] | None = None
    """As `bits_per_byte`, of the general text."""
