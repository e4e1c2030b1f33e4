"""A reward model: one number for an answer, learnt from which of two answers was preferred.

Bradley and Terry's loss, as Stiennon et al. 2020 (equation 1) and Ouyang et al. 2022 (equation 1) train it: the
difference of two rewards is the log-odds that the one answer is preferred. Only differences mean something: a
reward has no zero.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import load_model, longest_text
from models.data import pad_right
from models.job import Job
from models.module import Batch, Workload
from models.pairwise import Pairwise, pair_workload, read_both
from models.rows import plain_batches
from models.trainer import TrainerConfig


class Reward(Pairwise):
    """The loss of `Pairwise` on the one logit of a sequence classifier."""

    def rewards(self, batch: Batch) -> Tensor:
        """Return the reward of each row, [rows], float32, read off its last token, the answer's `<|end|>`."""
        ids, lengths = batch["ids"], batch["lengths"]
        ends = torch.arange(len(ids), device=ids.device) * ids.shape[1] + lengths - 1
        head: Any = self.model.score
        rewards: Tensor = head(self.hidden(ids)[ends]).float().squeeze(-1)
        return rewards


@torch.no_grad()
def score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, ids: list[np.ndarray], batch_size: int = 64
) -> np.ndarray:
    """Return the reward of each whole exchange (token ids that end in `<|end|>`), [exchanges], in float32."""
    module = Reward(model, TrainerConfig(steps=1, precision="fp32", compile="off"), 1, model.device.type)
    was_training = model.training
    model.eval()
    rewards = np.zeros(len(ids))
    for numbers in plain_batches(np.array([len(row) for row in ids]), batch_size):
        rows = [ids[i] for i in numbers]
        batch = {"ids": pad_right(rows, tokenizer.pad_token_id), "lengths": torch.tensor([len(row) for row in rows])}
        rewards[numbers] = module.rewards({name: tensor.to(model.device) for name, tensor in batch.items()}).cpu()
    model.train(was_training)
    return rewards


def prepare(job: Job, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload; ValueError names file, line and field of a row that cannot be used."""
    model = load_model(job, tokenizer, id2label={0: "reward"}, label2id={"reward": 0})
    train, valid = read_both(job, tokenizer, longest_text(model))
    return pair_workload(
        job,
        model,
        int(tokenizer.pad_token_id),
        train,
        valid,
        build=lambda total: Reward(model, job.trainer, total, device),
    )
