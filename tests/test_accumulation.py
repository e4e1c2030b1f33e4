"""Accumulation over unequal micro-batches gives loss and gradients of the large batch, whatever is learnt."""

import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_examples import masked_job
from models_examples import answer_rows, causal_job, classification_rows, entity_rows, instruction_rows, rows_job
from preference_examples import preference_rows

from models.bases import load_tokenizer
from models.checkpoint import DirectoryCheckpointIO
from models.fit import prepare
from models.job import Job
from models.module import Batch, Workload
from models.trainer import run

ROWS: dict[str, list[dict[str, Any]]] = {
    "classification": [
        {**row, "text": " ".join(row["text"].split()[: 5 + i % 9])} for i, row in enumerate(classification_rows())
    ],
    "token_classification": entity_rows(),
    "question_answering": answer_rows(),
    "instruction": [
        {**row, "output": " ".join([row["output"]] * (1 + i % 5))} for i, row in enumerate(instruction_rows())
    ],
    "preference": preference_rows(),
    "reward": preference_rows(),
}
"""Rows of each objective that learns from rows. (Not rlhf, whose answers are drawn anew for each micro-batch.)"""


class Gradients(pl.Callback):
    """Keeps the gradients of the last step, as the optimiser finds them."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        self.found = {name: p.grad.clone() for name, p in module.model.named_parameters() if p.grad is not None}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.loss = float(outputs["loss"] if isinstance(outputs, dict) else outputs)


def one_step(work: Workload, micro_batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of one step of the trainer on these micro-batches."""
    for part in work.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    seen = Gradients()
    run(work.build(1), [micro_batches], 1, [seen], DirectoryCheckpointIO(), None)
    return seen.loss, seen.found


def prepared(job: dict[str, Any]) -> Workload:
    job = {**job, "trainer": {**job["trainer"], "steps": 1, "precision": "fp32"}}
    return prepare(Job(**job), load_tokenizer(job["tokenizer"], job["objective"]), "cpu")


def assert_equal(large: tuple[float, dict[str, torch.Tensor]], small: tuple[float, dict[str, torch.Tensor]]) -> None:
    assert small[0] == pytest.approx(large[0], rel=1e-5, abs=1e-5)
    assert small[1].keys() == large[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in large[1].values())
    assert largest > 1e-3
    for name, gradient in large[1].items():
        assert (small[1][name] - gradient).abs().max() <= 1e-5 * max(1.0, largest), name


@pytest.mark.parametrize("objective", ROWS)
@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000))
def test_twelve_rows_at_once_or_three_by_three(objective: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [ROWS[objective][i] for i in random.permutation(len(ROWS[objective]))[:12]]
    with tempfile.TemporaryDirectory() as folder:
        job = {**rows_job(Path(folder), objective, rows, batch_size=12), "seed": seed}
        large = prepared(job)
        small = prepared({**job, "trainer": {**job["trainer"], "batch_size": 3, "accumulation": 4}})
        whole, parts = [large.micro_batch(0)], [small.micro_batch(index) for index in range(4)]
        counts = [small.build(1).count(batch) for batch in parts]
        assert len({count.tokens for count in counts}) > 1
        if objective in ("instruction", "token_classification"):
            assert len({count.targets for count in counts}) > 1
        assert_equal(one_step(large, whole), one_step(small, parts))


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000), st.permutations([1, 2, 4, 5]))
def test_twelve_windows_at_once_or_by_unequal_parts(seed: int, sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = {**causal_job(Path(folder), batch_size=12), "seed": seed}
        large, small = prepared(job), prepared(job)
        batch = large.micro_batch(0)
        parts = [{"ids": ids} for ids in batch["ids"].split(sizes)]
        # And one window shorter than the others.
        batches = [{"ids": parts[0]["ids"][:, :9]}, *parts[1:]]
        assert_equal(one_step(large, [batch]), one_step(small, parts))
        loss = one_step(prepared(job), batches)[0]
        module = prepared(job).build(1)
        sums = [module.loss_sum(part).item() for part in batches]
        assert loss == pytest.approx(sum(sums) / sum(module.count(part).targets for part in batches), rel=1e-5)


@pytest.mark.parametrize("next_sentence", [True, False])
@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000))
def test_masked_batches_at_once_or_one_by_one(next_sentence: bool, seed: int) -> None:
    """Masks are drawn for each batch, so that the large one is made of the small ones."""
    with tempfile.TemporaryDirectory() as folder:
        family = "bert" if next_sentence else "modernbert"
        job = {**masked_job(Path(folder), family, next_sentence, batch_size=3), "seed": seed}
        job["masked_lm"]["mask_share"] = 0.4
        large, small = prepared(job), prepared(job)
        parts = [small.micro_batch(index) for index in range(4)]
        parts[1] = joined(parts[1:3])
        del parts[2]
        assert len({len(part["targets"]) for part in parts}) > 1
        assert_equal(one_step(large, [joined(parts)]), one_step(small, parts))


def joined(parts: list[Batch]) -> Batch:
    """Return masked batches as one, padded to the widest."""
    width = max(part["ids"].shape[1] for part in parts)
    batch: dict[str, list[torch.Tensor]] = {}
    first = 0
    for part in parts:
        rows, own = part["ids"].shape
        for name, values in part.items():
            if name == "places":
                values = first + values // own * width + values % own
            elif values.shape == (rows, own):
                values = torch.nn.functional.pad(values, (0, width - own))
            batch.setdefault(name, []).append(values)
        first += rows * width
    return {name: torch.cat(values) for name, values in batch.items()}
