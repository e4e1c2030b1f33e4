"""What both objectives on pairs of answers share: Bradley and Terry's loss, its measures, and the batches."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.data import BucketedBatches
from models.instruction import choose
from models.job import Job
from models.module import Batch, Counts, Objective, Workload
from models.preference_rows import Pairs, featurise, read_pairs
from models.rows import bucketed_workload


class Pairwise(Objective):
    """-log sigmoid(reward of the chosen answer - reward of the rejected one) (Bradley and Terry 1952)."""

    per_place = ("places", "targets", "rows")
    sides = 2

    def rewards(self, batch: Batch) -> Tensor:
        """Return the reward of each row, [2 * pairs], float32, the chosen answers before the rejected ones."""
        raise NotImplementedError(f"{type(self).__name__} gives no rewards")

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed loss in nats over the pairs; ln 2 a pair where both rewards are equal."""
        chosen, rejected = self.rewards(batch).chunk(2)
        return -F.logsigmoid(chosen - rejected).sum()

    def count(self, batch: Batch) -> Counts:
        """Return pairs, the tokens of both sides, and positions with padding."""
        return Counts(len(batch["lengths"]) // 2, int(batch["lengths"].sum()), batch["ids"].numel())

    @torch.no_grad()
    def mean_loss(self, batches: Iterable[Batch], stopped: Callable[[], bool] = lambda: False) -> float | None:
        """Return the mean loss a pair, or None when `stopped` says so; beside it how the rewards stand.

        `metrics` gets the preference accuracy (the share of pairs whose chosen answer has the higher reward), the
        mean margin, and the mean rewards of both sides.
        """
        self.model.eval()
        found: list[Tensor] = []
        cut = False
        for batch in batches:
            if cut := stopped():
                break
            with self.autocast():
                rewards = self.rewards({name: tensor.to(self.device) for name, tensor in batch.items()})
            found.append(rewards.double().view(2, -1))
        self.model.train()
        if cut or not found:
            return None
        chosen, rejected = torch.cat(found, 1)
        self.metrics = {
            "preference_accuracy": float((chosen > rejected).double().mean()),
            "margin": float((chosen - rejected).mean()),
            "chosen_reward": float(chosen.mean()),
            "rejected_reward": float(rejected.mean()),
        }
        return float(-F.logsigmoid(chosen - rejected).mean())


def read_both(job: Job, tokenizer: PreTrainedTokenizerFast, context: int) -> tuple[Pairs, Pairs]:
    """Return the training and the validation pairs of a job; ValueError names file, line and field."""
    assert job.train is not None
    assert job.valid is not None
    rows = choose(read_pairs(Path(job.train)), job.max_examples, job.seed)
    held_out = read_pairs(Path(job.valid))
    return featurise(rows, tokenizer, context, Path(job.train)), featurise(
        held_out, tokenizer, context, Path(job.valid)
    )


def pair_workload(
    job: Job,
    model: PreTrainedModel,
    pad_id: int,
    train: Pairs,
    valid: Pairs,
    build: Callable[[int], Objective],
    more: Callable[[Pairs, Any], Batch] = lambda pairs, numbers: {},
) -> Workload:
    """Return the workload of an objective on pairs, in batches of about equally long ones.

    `more` gives what a batch of pairs, by their numbers, holds beyond `Pairs.batch`.
    """
    buckets = BucketedBatches(train.lengths, job.trainer.batch_size, job.seed)
    return bucketed_workload(
        job,
        model,
        build=build,
        train_lengths=train.lengths,
        valid_lengths=valid.lengths,
        train_batch=lambda chosen: {**train.batch(chosen, pad_id), **more(train, chosen)},
        valid_batch=lambda chosen: {**valid.batch(chosen, pad_id), **more(valid, chosen)},
        facts={
            "dropped_examples": train.dropped,
            "dropped_valid_examples": valid.dropped,
            "waste_share": train.waste_share([buckets.batch(i) for i in range(buckets.batches_per_epoch)]),
        },
    )
