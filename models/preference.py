"""Preference tuning by DPO: the chosen answer gains on the rejected one, measured from the model at the start.

Rafailov et al. 2023, Direct Preference Optimization, equation 7. The log-probabilities of the model at the start
are computed once, before the first step, and kept as two numbers a pair: no second model stays in memory.
"""

import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import load_model, longest_text
from models.job import Job
from models.module import Batch, Objective, Workload
from models.pairwise import Pairwise, pair_workload, read_both
from models.preference_rows import Pairs, collate
from models.rows import plain_batches
from models.trainer import TrainerConfig


def token_log_probabilities(model: PreTrainedModel, hidden: Tensor, batch: Batch, temperature: float = 1.0) -> Tensor:
    """Return log P of each answer token, [targets], float32, from hidden states [positions, width].

    The logits, divided by the temperature, exist at the answers' places only.
    """
    head = model.get_output_embeddings()
    logits = head(hidden[batch["places"]]).float() / temperature
    return -F.cross_entropy(logits, batch["targets"], reduction="none")


class Preference(Pairwise):
    """The loss of `Pairwise` on implicit rewards: beta * log(P of the answer / its P by the model at the start)."""

    def __init__(
        self, model: PreTrainedModel, config: TrainerConfig, total_steps: int, device: str, beta: float
    ) -> None:
        super().__init__(model, config, total_steps, device)
        self.beta = beta

    def log_probabilities(self, batch: Batch) -> Tensor:
        """Return log P(answer and `<|end|>` | prompt) of each row, [2 * pairs], float32, in nats."""
        tokens = token_log_probabilities(self.model, self.hidden(batch["ids"]), batch)
        return torch.zeros(len(batch["lengths"]), device=tokens.device).index_add(0, batch["rows"], tokens)

    def rewards(self, batch: Batch) -> Tensor:
        """Return the implicit reward of each row, [2 * pairs]; batch["reference"] are the log P at the start."""
        return self.beta * (self.log_probabilities(batch) - batch["reference"])


def without_dropout(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model with its dropout off: two passes over an answer must differ by the weights alone."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def own_device(device: str) -> torch.device:
    """Return the device of this process; a launcher gives each its own GPU."""
    return torch.device(device, int(os.environ.get("LOCAL_RANK", "0"))) if device == "cuda" else torch.device(device)


@torch.no_grad()
def reference_log_probabilities(module: Preference, pairs: Pairs, batch_size: int, pad_id: int) -> Tensor:
    """Return log P(answer | prompt) in nats under the module's present weights, [2, pairs], float32, on the CPU.

    Row 0 is of the chosen answers. A pure function of weights and pairs, so that a resumed run finds the same.
    """
    found = torch.zeros(2, len(pairs.starts))
    was_training = module.model.training
    module.model.eval()
    for numbers in plain_batches(pairs.lengths, batch_size):
        batch = {name: tensor.to(module.model.device) for name, tensor in pairs.batch(numbers, pad_id).items()}
        with module.autocast():
            found[:, numbers] = module.log_probabilities(batch).view(2, -1).cpu()
    module.model.train(was_training)
    return found


@torch.no_grad()
def answer_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    ids: list[np.ndarray],
    starts: np.ndarray,
    temperature: float = 1.0,
    batch_size: int = 64,
) -> list[Tensor]:
    """Return log P of each token of each exchange from its start on, in nats, for scoring: float32, on the CPU.

    `ids` are whole exchanges, `starts` [exchanges] where their answers begin.
    """
    module = Objective(model, TrainerConfig(steps=1, precision="fp32", compile="off"), 1, model.device.type)
    found: dict[int, Tensor] = {}
    was_training = model.training
    model.eval()
    for numbers in plain_batches(np.array([len(row) for row in ids]), batch_size):
        batch = collate([ids[i] for i in numbers], starts[numbers], int(tokenizer.pad_token_id))
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        tokens = token_log_probabilities(model, module.hidden(batch["ids"]), batch, temperature).cpu()
        answered = [len(ids[i]) - int(starts[i]) for i in numbers]
        found |= dict(zip(numbers.tolist(), tokens.split(answered), strict=True))
    model.train(was_training)
    return [found[number] for number in range(len(ids))]


def pair_log_probabilities(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, pairs: Pairs) -> np.ndarray:
    """Return log P(answer and `<|end|>` | prompt) in nats, [2, pairs], chosen ones first, for scoring."""
    sides = [answer_log_probabilities(model, tokenizer, side, pairs.starts) for side in (pairs.chosen, pairs.rejected)]
    return np.array([[float(tokens.double().sum()) for tokens in side] for side in sides])


def prepare(job: Job, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload; ValueError names file, line and field of a row that cannot be used."""
    model, pad, beta = without_dropout(load_model(job, tokenizer)), int(tokenizer.pad_token_id), job.preference.beta
    train, valid = read_both(job, tokenizer, longest_text(model))
    placed: torch.nn.Module = model
    placed.to(own_device(device))
    start = Preference(model, job.trainer, 1, device, beta)
    references = {
        id(pairs): reference_log_probabilities(start, pairs, job.trainer.batch_size, pad) for pairs in (train, valid)
    }
    return pair_workload(
        job,
        model,
        pad,
        train,
        valid,
        build=lambda total: Preference(model, job.trainer, total, device, beta),
        more=lambda pairs, numbers: {"reference": references[id(pairs)][:, numbers].flatten()},
    )
