"""DPO: its loss and gradients are the formula's, its reference is the start, and it learns what is preferred."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from models_examples import rows_job, tokenizer, write_rows
from preference_examples import EXACT, llama, preference_rows, token_log_probabilities
from transformers import LlamaForCausalLM

from models.fit import fit
from models.job import Job
from models.preference import Preference, pair_log_probabilities, prepare, reference_log_probabilities
from models.preference_rows import answer_ids, collate, featurise, prompt_ids, read_pairs
from models.signals import StopSignal

FAST = {"learning_rate": 3e-3, "batch_size": 12, "log_every": 5, "precision": "fp32"}


def log_probability(model: LlamaForCausalLM, ids: np.ndarray, start: int) -> torch.Tensor:
    return token_log_probabilities(model, ids, start).sum()


@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_loss_and_gradients_are_the_formula(tmp_path: Path, key_value_heads: int) -> None:
    fast = tokenizer(tmp_path)
    pairs = featurise(preference_rows()[:6], fast, 64, tmp_path)
    policy, start = (llama(seed, num_key_value_heads=key_value_heads) for seed in (1, 2))
    module = Preference(policy, EXACT, 1, "cpu", beta=0.3)
    assert module.lean == (key_value_heads == 4)
    batch = pairs.batch(np.arange(6), 1)
    assert batch["ids"].shape[0] == 12
    assert (batch["lengths"] < batch["ids"].shape[1]).any(), "some row is padded"
    batch["reference"] = reference_log_probabilities(Preference(start, EXACT, 1, "cpu", 1.0), pairs, 4, 1).flatten()
    loss = module.loss_sum(batch) / 6
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in policy.named_parameters() if weight.grad is not None}
    policy.zero_grad()

    expected = torch.zeros(())
    for chosen, rejected, first in zip(pairs.chosen, pairs.rejected, pairs.starts, strict=True):
        ours = log_probability(policy, chosen, first) - log_probability(policy, rejected, first)
        with torch.no_grad():
            theirs = log_probability(start, chosen, first) - log_probability(start, rejected, first)
        expected = expected - F.logsigmoid(0.3 * (ours - theirs)) / 6
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, weight in policy.named_parameters():
        assert weight.grad is not None
        assert (found[name] - weight.grad).abs().max() < 1e-5, name
    assert module.count(batch).targets == 6


def test_golden_values(tmp_path: Path) -> None:
    """By hand: no log-ratio at all is ln 2; a margin of 2 at beta .5 is log(1 + e^-1) = .313262."""

    class Given(Preference):
        def log_probabilities(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return batch["policy"]

    module = Given(llama(0), EXACT, 1, "cpu", beta=0.5)
    same = {"policy": torch.tensor([-3.0, -9.0, -4.0, -1.0]), "reference": torch.tensor([-3.0, -9.0, -4.0, -1.0])}
    assert module.loss_sum(same).item() == pytest.approx(2 * math.log(2))
    one = {"policy": torch.tensor([-5.0, -8.0]), "reference": torch.tensor([-6.0, -7.0])}
    assert module.loss_sum(one).item() == pytest.approx(0.313262, abs=1e-6)
    assert module.mean_loss([same, one]) == pytest.approx((2 * math.log(2) + 0.313262) / 3, abs=1e-6)
    assert module.metrics == pytest.approx(
        {"preference_accuracy": 1 / 3, "margin": 1 / 3, "chosen_reward": 0.5 / 3, "rejected_reward": -0.5 / 3}
    )
    assert module.mean_loss([same], lambda: True) is None


def test_ids_places_and_dropping_by_hand(tmp_path: Path) -> None:
    fast = tokenizer(tmp_path)
    rows = [
        {"prompt": "a", "chosen": "baker", "rejected": "baker a"},
        {"prompt": "a", "chosen": "b" * 60, "rejected": "a"},
        {"prompt": "say <|end|>", "chosen": "<|user|>", "rejected": "b"},
    ]
    text = lambda ids: [fast.decode([int(i)]) for i in ids]  # noqa: E731
    pairs = featurise(rows, fast, 40, tmp_path)
    assert pairs.dropped == 1
    assert pairs.kept.tolist() == [0, 2]
    assert text(pairs.chosen[0]) == ["<|user|>", " a", "<|assistant|>", " baker", "<|end|>"]
    assert pairs.starts[0] == 3
    assert np.sum(pairs.chosen[1] == fast.convert_tokens_to_ids("<|end|>")) == 1, "markers in data are plain text"
    batch = pairs.batch(np.array([0]), 1)
    assert batch["ids"].shape == (2, 6)
    assert batch["lengths"].tolist() == [5, 6]
    assert batch["places"].tolist() == [2, 3, 8, 9, 10]
    assert text(batch["targets"]) == [" baker", "<|end|>", " baker", " a", "<|end|>"]
    assert batch["rows"].tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"rows.jsonl: no pair fits into the model's context of 4 tokens"):
        featurise(rows, fast, 4, Path("rows.jsonl"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=6))
def test_every_answer_token_is_a_target_once(shapes: list[tuple[int, int]]) -> None:
    ids = [np.arange(1, asked + answered + 1) + 100 * line for line, (asked, answered) in enumerate(shapes)]
    batch = collate(ids, np.array([asked for asked, _ in shapes]), 0)
    for line, (asked, _) in enumerate(shapes):
        own = batch["rows"] == line
        assert batch["targets"][own].tolist() == ids[line][asked:].tolist()
        assert batch["ids"].flatten()[batch["places"][own]].tolist() == ids[line][asked - 1 : -1].tolist()


def test_reference_is_recomputed_to_the_bit_and_is_the_start(tmp_path: Path) -> None:
    job = Job(**rows_job(tmp_path, "preference", preference_rows(), **FAST))
    fast = tokenizer(tmp_path / "again")
    first, second = (prepare(job, fast, "cpu") for _ in range(2))
    for index in range(3):
        a, b = first.micro_batch(index), second.micro_batch(index)
        assert all(torch.equal(a[name], b[name]) for name in a)
        module = first.build(1)
        with torch.no_grad():
            assert module.loss_sum(a).item() == pytest.approx(len(a["lengths"]) / 2 * math.log(2), rel=1e-6)
        start = a["reference"]
        for line in (0, -1):
            row = a["ids"][line, : a["lengths"][line]].numpy()
            begin = int(np.flatnonzero(row == fast.convert_tokens_to_ids("<|assistant|>"))[0]) + 1
            own = log_probability(first.model, row, begin).item()  # type: ignore[arg-type]
            assert start[line].item() == pytest.approx(own, abs=1e-4)
    assert 0 <= first.facts["waste_share"] < 0.5


def test_dpo_raises_the_held_out_preference(tmp_path: Path) -> None:
    rows = preference_rows()
    held_out = write_rows(tmp_path / "valid.jsonl", rows[::3])
    train = [row for i, row in enumerate(rows) if i % 3]
    job = {**rows_job(tmp_path, "preference", train, **FAST, steps=30, validate_every=15), "valid": held_out}
    summary = fit(Job(**job), StopSignal())
    assert summary["valid_preference_accuracy"] > 0.9
    assert summary["valid_loss"]["final"] < 0.6 < summary["train_loss"]["first"] == pytest.approx(math.log(2), rel=1e-5)
    assert summary["valid_margin"] > 0.1
    keys = {json.loads(line).get("key") for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()}
    assert {"valid/preference_accuracy", "valid/margin", "valid/chosen_reward", "valid/rejected_reward"} <= keys
    fast = tokenizer(tmp_path / "again")
    after = LlamaForCausalLM.from_pretrained(tmp_path / "out" / "model")
    before = prepare(Job(**job), fast, "cpu").model
    pairs = featurise(rows[::3], fast, 64, tmp_path)
    ratios = pair_log_probabilities(after, fast, pairs) - pair_log_probabilities(before, fast, pairs)
    assert np.mean(ratios[0] > ratios[1]) == pytest.approx(summary["valid_preference_accuracy"])
    assert 0.1 * np.mean(ratios[0] - ratios[1]) == pytest.approx(summary["valid_margin"], rel=1e-3)


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    path = write_rows(tmp_path / "rows.jsonl", [good, {**good, "rejected": " b "}])
    with pytest.raises(ValueError, match=r"rows.jsonl: line 2: chosen equals rejected"):
        read_pairs(Path(path))
    path = write_rows(tmp_path / "rows.jsonl", [good, {"prompt": "a", "chosen": "b"}])
    with pytest.raises(ValueError, match=r"rows.jsonl: line 2: rejected is missing"):
        read_pairs(Path(path))
    fast = tokenizer(tmp_path / "tokenizer")
    assert len(prompt_ids(["a"], fast)[0]) == 3
    assert answer_ids(["b"], fast)[0].tolist() == [*fast.encode(" b"), fast.convert_tokens_to_ids("<|end|>")]
