"""The reward model: Bradley and Terry's loss on transformers' own forward, and it ranks what is preferred."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models_examples import rows_job, tokenizer, write_rows
from preference_examples import EXACT, judge, preference_rows
from transformers import AutoModelForSequenceClassification

from models.fit import fit
from models.job import Job
from models.preference_rows import featurise
from models.reward import Reward, score
from models.signals import StopSignal

FAST = {"learning_rate": 1e-2, "batch_size": 12, "log_every": 5, "precision": "fp32"}


@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_loss_and_gradients_are_the_formula_on_the_librarys_forward(tmp_path: Path, key_value_heads: int) -> None:
    pairs = featurise(preference_rows()[:5], tokenizer(tmp_path), 64, tmp_path)
    model = judge(3, num_key_value_heads=key_value_heads)
    module = Reward(model, EXACT, 1, "cpu")
    batch = pairs.batch(np.arange(5), 1)
    loss = module.loss_sum(batch) / 5
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()

    def reward(ids: np.ndarray) -> torch.Tensor:
        return model(input_ids=torch.from_numpy(ids)[None]).logits[0, 0]

    expected = sum(-F.logsigmoid(reward(a) - reward(b)) / 5 for a, b in zip(pairs.chosen, pairs.rejected, strict=True))
    assert isinstance(expected, torch.Tensor)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        assert (found[name] - weight.grad).abs().max() < 1e-5, name
    # The padded forward of the library finds the same last token.
    mask = (torch.arange(batch["ids"].shape[1]) < batch["lengths"][:, None]).long()
    with torch.no_grad():
        own = model(input_ids=batch["ids"], attention_mask=mask).logits[:, 0]
        assert torch.allclose(own, module.rewards(batch), atol=1e-5)


def test_golden_values() -> None:
    """By hand: rewards 1 and 3 of chosen and rejected give log(1 + e^2) = 2.126928, equal ones ln 2."""

    class Given(Reward):
        def rewards(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return batch["rewards"]

    module = Given(judge(0), EXACT, 1, "cpu")
    assert module.loss_sum({"rewards": torch.tensor([1.0, 3.0])}).item() == pytest.approx(2.126928, abs=1e-6)
    batches = [{"rewards": torch.tensor([1.0, 5.0, 3.0, 5.0])}]
    assert module.mean_loss(batches) == pytest.approx((2.126928 + math.log(2)) / 2, abs=1e-6)
    assert module.metrics["preference_accuracy"] == 0, "a tie is not right"


def test_learns_separable_pairs_and_loads_plain(tmp_path: Path) -> None:
    rows = preference_rows()
    held_out = write_rows(tmp_path / "valid.jsonl", rows[::3])
    train = [row for i, row in enumerate(rows) if i % 3]
    job = {**rows_job(tmp_path, "reward", train, **FAST, steps=40), "valid": held_out}
    summary = fit(Job(**job), StopSignal())
    assert summary["valid_preference_accuracy"] > 0.9
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model").eval()
    assert model.config.num_labels == 1
    fast = tokenizer(tmp_path / "again")
    pairs = featurise(rows[::3], fast, 64, tmp_path)
    chosen, rejected = (score(model, fast, side, batch_size=5) for side in (pairs.chosen, pairs.rejected))
    assert np.mean(chosen > rejected) == pytest.approx(summary["valid_preference_accuracy"])
    assert np.mean(chosen) == pytest.approx(summary["valid_chosen_reward"], rel=1e-3)
    with torch.no_grad():
        single = model(input_ids=torch.from_numpy(pairs.chosen[0])[None]).logits.item()
    assert chosen[0] == pytest.approx(single, abs=1e-4)
