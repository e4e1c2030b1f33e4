"""Policy optimisation against a reward model by GRPO (Shao et al. 2024, DeepSeekMath, section 4).

For each prompt a group of answers is drawn from the model as it is, the reward model scores them, and an answer's
advantage is its reward against its group. The loss is PPO's clipped one (Schulman et al. 2017) plus a KL term to the
model at the start. It is a mean over all tokens of a step, not first over each answer's: that would favour short
good and long bad answers (Liu et al. 2025, Dr. GRPO).
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import load_model, load_tokenizer, longest_text
from models.chat import END
from models.data import pad_right
from models.drawing import close, draw
from models.generation import stop_ids
from models.instruction import choose
from models.job import Job, RLHFOptions
from models.module import Batch, Counts, Objective, Workload
from models.preference import token_log_probabilities, without_dropout
from models.preference_rows import collate, prompt_ids
from models.reward import Reward
from models.rows import bucketed_workload, read_rows
from models.trainer import TrainerConfig, world

EPSILON = 1e-4
"""Added to a group's standard deviation: a group of equal rewards has no advantages."""
UNFINISHED = 1.0
"""How far an answer that did not end counts below the worst of its group, in the reward's unit (log-odds)."""


def advantages(rewards: Tensor, ended: Tensor) -> Tensor:
    """Return (reward - mean) / (standard deviation + epsilon) in each group, [prompts, group].

    An answer that did not end has the lowest reward of its group less one first, whatever the reward model says of
    it: else the model could learn to talk on. Where none ended, nothing is learnt of the group.
    """
    worst = rewards.amin(1, keepdim=True) - UNFINISHED
    shaped = torch.where(ended, rewards, worst)
    return (shaped - shaped.mean(1, keepdim=True)) / (shaped.std(1, correction=0, keepdim=True) + EPSILON)


def divergence(log_probabilities: Tensor, reference: Tensor) -> Tensor:
    """Return the estimate of KL(model || reference) in nats at each token drawn from the model, never negative.

    exp(d) - d - 1 with d = reference - log_probabilities (Schulman 2020, "k3"): unbiased, of low variance.
    """
    difference = reference - log_probabilities
    return difference.exp() - difference - 1


class RLHF(Objective):
    """Clipped policy gradient on drawn answers, plus the weighted KL divergence from the model at the start."""

    per_place = ("places", "targets", "rows", "old", "reference")

    def __init__(
        self,
        model: PreTrainedModel,
        config: TrainerConfig,
        total_steps: int,
        device: str,
        options: RLHFOptions,
        seed: int,
        tokenizer: PreTrainedTokenizerFast,
        reference: PreTrainedModel,
        reward: PreTrainedModel,
    ) -> None:
        super().__init__(model, config, total_steps, device)
        self.options, self.seed, self.tokenizer = options, seed, tokenizer
        self.end, self.stops = int(tokenizer.get_vocab()[END]), stop_ids(model, tokenizer)
        # In a tuple, so that they are neither trained nor written into checkpoints.
        self.frozen = Objective(reference, config, 1, device), Reward(reward, config, 1, device)
        self.drawn: list[Batch] = []
        """The answers of the present round, one batch a micro-batch of prompts."""

    def rollout(self, prompts: Batch, group: int, seed: tuple[int, ...]) -> Batch:
        """Return drawn answers with all that the loss needs of them, `prompts * group` rows.

        `prompts` has right-padded ids [prompts, longest] and lengths. To `collate`'s fields come, on the device:
        old and reference log-probabilities [targets], rewards as the reward model gives them [rows], whether the
        answer ended [rows] and advantages [rows].
        """
        reference, reward = self.frozen
        for frozen in self.frozen:
            frozen.model.to(self.device)  # type: ignore[arg-type]
        lengths = prompts["lengths"].tolist()
        asked = [row[:length] for row, length in zip(prompts["ids"].cpu().numpy(), lengths, strict=True)]
        number = int(np.random.SeedSequence((self.seed, *seed)).generate_state(1)[0])
        with self.autocast():
            answers = draw(self.model, self.tokenizer, asked, self.options, group, number)
        pad, repeated = self.tokenizer.pad_token_id, [row for row in asked for _ in range(group)]
        starts = np.array([len(row) for row in repeated])
        exchanges = [np.concatenate(both) for both in zip(repeated, answers, strict=True)]
        batch = self._moved(collate(exchanges, starts, pad))
        closed = [close(answer, self.end, self.stops) for answer in answers]
        whole = [np.concatenate([row, answer]) for row, (answer, _) in zip(repeated, closed, strict=True)]
        judged = self._moved({"ids": pad_right(whole, pad), "lengths": torch.tensor([len(row) for row in whole])})
        ended = torch.tensor([ended for _, ended in closed], device=self.device)
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad(), self.autocast():
            rewards = reward.rewards(judged)
            found = {
                "old": self.log_probabilities(self, batch),
                "reference": self.log_probabilities(reference, batch),
                "rewards": rewards,
                "ended": ended,
                "advantages": advantages(rewards.view(-1, group), ended.view(-1, group)).flatten(),
            }
        self.model.train(was_training)
        return {**batch, **found}

    def log_probabilities(self, of: Objective, batch: Batch) -> Tensor:
        """Return log P of each answer token at the options' temperature, [targets], by the model of an objective."""
        return token_log_probabilities(of.model, of.hidden(batch["ids"]), batch, self.options.temperature)

    def training_step(self, micro_batches: list[Batch], batch_idx: int) -> Tensor:
        """Draw new answers every `updates` steps, and do one optimiser step on them; see `Objective`.

        The draw's seed is (seed, step, process, micro-batch), and answers that are to be used again stand in the
        checkpoint, so that a resumed run draws and learns the same. (With several processes it draws anew.)
        """
        step = self.global_step
        if step % self.options.updates == 0 or not self.drawn:
            self.drawn = [
                self.rollout(prompts, self.options.group, (0, step, self.global_rank, number))
                for number, prompts in enumerate(micro_batches)
            ]
            self.logged = _measured(self.drawn)
        self.drawn = [self._moved(batch) for batch in self.drawn]
        return super().training_step(self.drawn, batch_idx)

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed loss over the answers' tokens: KL weight * KL - min(ratio * A, clipped ratio * A)."""
        found = self.log_probabilities(self, batch)
        ratio, advantage = (found - batch["old"]).exp(), batch["advantages"][batch["rows"]]
        clipped = ratio.clamp(1 - self.options.clip, 1 + self.options.clip)
        gain = torch.minimum(ratio * advantage, clipped * advantage)
        return (self.options.kl * divergence(found, batch["reference"]) - gain).sum()

    def count(self, batch: Batch) -> Counts:
        """Return the answers' tokens, all tokens of the exchanges, and positions with padding."""
        return Counts(len(batch["targets"]), int(batch["lengths"].sum()), batch["ids"].numel())

    @torch.no_grad()
    def mean_loss(self, batches: Iterable[Batch], stopped: Callable[[], bool] = lambda: False) -> float | None:
        """Return what the policy is to lower: KL weight * KL - reward of one drawn answer to each prompt, the mean.

        (Ouyang et al. 2022, equation 2.) KL in nats an answer; one that did not end counts 1 less. The seed is the
        same each time, so that two validations differ by the weights alone.
        """
        drawn: list[Batch] = []
        for number, prompts in enumerate(batches):
            if stopped():
                return None
            drawn.append(self.rollout(self._moved(prompts), 1, (1, number)))
        if not drawn:
            return None
        self.metrics = _measured(drawn)
        answers = sum(len(batch["lengths"]) for batch in drawn)
        kl = sum(float(divergence(batch["old"], batch["reference"]).sum()) for batch in drawn) / answers
        unfinished = UNFINISHED * (1 - self.metrics["ended_share"])
        return self.options.kl * kl - self.metrics["reward"] + unfinished

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the answers that the next step learns from again."""
        super().on_save_checkpoint(checkpoint)
        again = self.global_step % self.options.updates and self.trainer.world_size == 1
        checkpoint["alma"]["drawn"] = self.drawn if again else []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back."""
        super().on_load_checkpoint(checkpoint)
        self.drawn = checkpoint["alma"]["drawn"]
        self.logged = _measured(self.drawn) if self.drawn else {}

    def _moved(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device) for name, tensor in batch.items()}


def _measured(drawn: list[Batch]) -> dict[str, float]:
    """Return the mean reward, KL in nats a token, tokens of an answer, and the share of answers that ended."""
    rewards, ended = (torch.cat([batch[name] for batch in drawn]) for name in ("rewards", "ended"))
    kl = torch.cat([divergence(batch["old"], batch["reference"]) for batch in drawn])
    return {
        "reward": float(rewards.mean()),
        "kl_per_token": float(kl.mean()),
        "answer_tokens": len(kl) / len(rewards),
        "ended_share": float(ended.float().mean()),
    }


def load_reward(directory: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Return the frozen reward model; ValueError for a directory without one, or of another tokenizer."""
    from transformers import AutoModelForSequenceClassification

    if not (Path(directory) / "config.json").is_file():
        raise ValueError(f"reward: {directory} has no config.json, expected a reward model's directory")
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        directory, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    if model.config.num_labels != 1:
        raise ValueError(f"reward: {directory} gives {model.config.num_labels} numbers, expected one, the reward")
    if load_tokenizer(directory, "reward").get_vocab() != tokenizer.get_vocab():
        raise ValueError(f"reward: {directory} has another tokenizer than the model, expected the same")
    frozen: PreTrainedModel = model.eval().requires_grad_(False)
    return frozen


def fitting_prompts(
    prompts: list[str],
    tokenizer: PreTrainedTokenizerFast,
    networks: tuple[PreTrainedModel, ...],
    options: RLHFOptions,
    path: Path,
) -> tuple[list[np.ndarray], list[int]]:
    """Return the token ids of the prompts that leave room for an answer, and their numbers.

    Room is for `max_new_tokens` and `<|end|>` in every network's context. ValueError names the file where none does.
    """
    room = min(map(longest_text, networks)) - options.max_new_tokens - 1
    ids = prompt_ids(prompts, tokenizer)
    kept = [number for number, row in enumerate(ids) if len(row) <= room]
    if not kept:
        raise ValueError(f"{path}: no prompt leaves room for max_new_tokens {options.max_new_tokens}")
    return [ids[number] for number in kept], kept


def prepare(job: Job, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload; ValueError names file, line and field of a row, or what cannot be used of the models.

    A prompt that leaves no room for an answer in the model's or the reward model's context is dropped and counted.
    A step takes `batch_size` prompts a micro-batch, hence `batch_size * group` answers; an epoch is each prompt once.
    """
    assert job.train is not None
    assert job.valid is not None
    assert job.reward is not None
    options, trainer = job.rlhf, job.trainer
    paths = Path(job.train), Path(job.valid)
    rows, held_out = (read_rows(path, ("prompt",)) for path in paths)
    rows = choose(rows, job.max_examples, job.seed)
    model = without_dropout(load_model(job, tokenizer))
    reward = load_reward(job.reward, tokenizer)
    (train, _), (valid, _) = (
        fitting_prompts([row["prompt"] for row in part], tokenizer, (model, reward), options, path)
        for part, path in zip((rows, held_out), paths, strict=True)
    )
    reference: PreTrainedModel = copy.deepcopy(model).eval().requires_grad_(False)

    def batch(prompts: list[np.ndarray], numbers: np.ndarray) -> Batch:
        chosen = [prompts[i] for i in numbers]
        return {
            "ids": pad_right(chosen, tokenizer.pad_token_id),
            "lengths": torch.tensor([len(row) for row in chosen]),
        }

    work = bucketed_workload(
        job,
        model,
        build=lambda total: RLHF(model, trainer, total, device, options, job.seed, tokenizer, reference, reward),
        train_lengths=np.array([len(row) for row in train]),
        valid_lengths=np.array([len(row) for row in valid]),
        train_batch=lambda chosen: batch(train, chosen),
        valid_batch=lambda chosen: batch(valid, chosen),
        facts={"dropped_examples": len(rows) - len(train), "dropped_valid_examples": len(held_out) - len(valid)},
    )
    width = trainer.accumulation * world()[1]

    def prompts_of(index: int) -> Batch:
        """Return the prompts of a micro-batch: those of the round that its step belongs to."""
        step, within = divmod(index, width)
        return work.micro_batch(step // options.updates * width + within)

    return replace(
        work,
        micro_batch=prompts_of,
        batches_per_epoch=work.batches_per_epoch * options.updates,
        mean_length=work.mean_length + options.max_new_tokens,
    )
