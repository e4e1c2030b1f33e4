"""GRPO: advantages, loss and gradients by the formula, draws that repeat and end, and a reward that rises."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_examples import StopAfter, rows_job, tokenizer, write_rows
from preference_examples import EXACT, config, judge, llama, preference_rows, token_log_probabilities
from safetensors.torch import load_file
from transformers import LlamaForSequenceClassification

from models.attention import WRITTEN_OUT, set_attention
from models.drawing import close, draw
from models.fit import fit
from models.job import Job, RLHFOptions
from models.preference_rows import prompt_ids
from models.reward import score
from models.rlhf import RLHF, advantages, divergence, load_reward
from models.signals import StopSignal

OPTIONS = RLHFOptions(group=3, max_new_tokens=12, kl=0.07, clip=0.2, temperature=0.8)
SIDES = ("chosen", "rejected")
FAST = {"learning_rate": 3e-3, "batch_size": 6, "log_every": 1, "precision": "fp32"}


def prompts(fast: Any) -> list[np.ndarray]:
    return prompt_ids(["Where?", "Who is Ada?", "Where does Ben live?"], fast)


def as_batch(asked: list[np.ndarray]) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([len(row) for row in asked])
    ids = torch.full((len(asked), int(lengths.max())), 1)
    for line, row in zip(ids, asked, strict=True):
        line[: len(row)] = torch.from_numpy(row)
    return {"ids": ids, "lengths": lengths}


def test_advantages_by_hand() -> None:
    """Rewards 1, 2, 3, 6: mean 3, deviations -2, -1, 0, 3, standard deviation sqrt(14 / 4) = 1.870829."""
    rewards, ended = torch.tensor([[1.0, 2.0, 3.0, 6.0]]), torch.ones(1, 4, dtype=torch.bool)
    expected = torch.tensor([[-2.0, -1.0, 0.0, 3.0]]) / (math.sqrt(3.5) + 1e-4)
    assert torch.allclose(advantages(rewards, ended), expected)
    # The best answer did not end: it counts 0, one below the worst; mean 1.5, deviations -.5, .5, 1.5, -1.5.
    cut = torch.tensor([[True, True, True, False]])
    expected = torch.tensor([[-0.5, 0.5, 1.5, -1.5]]) / (math.sqrt(1.25) + 1e-4)
    assert torch.allclose(advantages(rewards, cut), expected)
    assert not advantages(rewards, ~ended).any(), "where none ended, nothing is learnt"
    assert not advantages(torch.full((1, 4), 7.0), ended).any()


def test_divergence_by_hand() -> None:
    """d = ln 2: 2 - ln 2 - 1; the estimate's mean over the model's own distribution is the divergence."""
    assert divergence(torch.tensor(-2.0), torch.tensor(-2.0)).item() == 0
    assert divergence(torch.tensor(0.0), torch.tensor(math.log(2))).item() == pytest.approx(1 - math.log(2))
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    assert (p * divergence(p.log(), q.log())).sum().item() == pytest.approx((p * (p / q).log()).sum().item(), abs=1e-6)


def test_close_by_hand() -> None:
    end, stops = 4, [0, 2, 3, 4]
    for answer, expected, ended in (([9, 4], [9, 4], True), ([9, 8], [9, 8, 4], False), ([9, 0], [9, 4], False)):
        found, was = close(np.array(answer), end, stops)
        assert (found.tolist(), was) == (expected, ended)


def test_draws_repeat_end_and_follow_the_seed(tmp_path: Path) -> None:
    fast, model = tokenizer(tmp_path), llama(1)
    asked = prompts(fast)
    state = torch.get_rng_state()
    first, second = (draw(model, fast, asked, OPTIONS, 20, seed=5) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state()), "the program's own random state is left alone"
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    other = draw(model, fast, asked, OPTIONS, 20, seed=6)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    stops = [0, 2, 3, 4]
    assert len(first) == 60
    for answer in first + other:
        assert 1 <= len(answer) <= 12
        assert not np.isin(answer[:-1], stops).any(), "nothing is drawn after an ending token"
        assert len(answer) == 12 or answer[-1] in stops
    assert any(answer[-1] in stops for answer in first + other)
    # The attention that training uses draws the same.
    set_attention(model, WRITTEN_OUT)
    again = draw(model, fast, asked, OPTIONS, 20, seed=5)
    assert np.mean([np.array_equal(a, b) for a, b in zip(first, again, strict=True)]) > 0.95


def test_draws_follow_the_distribution(tmp_path: Path) -> None:
    """The first token's frequencies in 4000 draws are softmax(logits / temperature), whatever padding stands left."""
    fast, model = tokenizer(tmp_path), llama(1)
    asked = prompts(fast)
    options = OPTIONS.model_copy(update={"max_new_tokens": 1})
    drawn = np.array([answer[0] for answer in draw(model, fast, asked, options, 4000, seed=1)]).reshape(3, 4000)
    for row, tokens in zip(asked, drawn, strict=True):
        with torch.no_grad():
            expected = torch.softmax(model(torch.from_numpy(row)[None]).logits[0, -1] / 0.8, -1).numpy()
        found = np.bincount(tokens, minlength=320) / 4000
        assert np.abs(found - expected).max() < 5 * math.sqrt(0.25 / 4000)
        assert np.abs(found - expected).sum() < 0.35, "total variation of 4000 draws from 320 tokens"


@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_loss_and_gradients_are_the_formula(tmp_path: Path, key_value_heads: int) -> None:
    fast = tokenizer(tmp_path)
    policy, reference = (llama(seed, num_key_value_heads=key_value_heads) for seed in (1, 2))
    module = RLHF(policy, EXACT, 1, "cpu", OPTIONS, 0, fast, reference, judge(3))
    asked = prompts(fast)
    batch = module.rollout(as_batch(asked), 3, (0, 0))
    # One step later the policy is another one, so that some ratios lie beyond the clip on either side.
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(7))
    total = module.count(batch).targets
    assert total == len(batch["targets"])
    loss = module.loss_sum(batch) / total
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in policy.named_parameters() if weight.grad is not None}
    policy.zero_grad()

    before = llama(1, num_key_value_heads=key_value_heads)
    expected, beyond = torch.zeros(()), 0

    def tempered(model: Any, ids: np.ndarray, start: int) -> torch.Tensor:
        model.lm_head.weight.data /= 0.8
        result = token_log_probabilities(model, ids, start)
        model.lm_head.weight.data *= 0.8
        return result

    rewards = batch["rewards"].view(3, 3)
    ended = batch["ended"].view(3, 3)
    for line in range(9):
        ids = batch["ids"][line, : batch["lengths"][line]].numpy()
        start, group = len(asked[line // 3]), line // 3
        shaped = [r if e else rewards[group].min() - 1 for r, e in zip(rewards[group], ended[group], strict=True)]
        centred = torch.stack(shaped) - torch.stack(shaped).mean()
        advantage = centred[line % 3] / (centred.square().mean().sqrt() + 1e-4)
        with torch.no_grad():
            old, fixed = tempered(before, ids, start), tempered(reference, ids, start)
            assert torch.allclose(old, batch["old"][batch["rows"] == line], atol=1e-4)
        # Written with its own graph: the division of the weights must be part of it.
        logits = policy(torch.from_numpy(ids)[None]).logits[0] / 0.8
        own = torch.log_softmax(logits, -1)[range(start - 1, len(ids) - 1), ids[start:]]
        for now, then, first in zip(own, old, fixed, strict=True):
            ratio = torch.exp(now - then)
            beyond += int(abs(ratio - 1) > 0.2)
            gain = torch.min(ratio * advantage, torch.clamp(ratio, 0.8, 1.2) * advantage)
            kl = torch.exp(first - now) - (first - now) - 1
            expected = expected - (gain - 0.07 * kl) / total
    expected.backward()
    assert beyond > 3
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    for name, weight in policy.named_parameters():
        assert weight.grad is not None
        assert torch.allclose(found[name], weight.grad, rtol=1e-4, atol=1e-5), name


def test_the_reward_model_sees_prompt_and_closed_answer(tmp_path: Path) -> None:
    fast, scorer = tokenizer(tmp_path), judge(3)
    module = RLHF(llama(1), EXACT, 1, "cpu", OPTIONS, 0, fast, llama(2), scorer)
    batch = module.rollout(as_batch(prompts(fast)), 3, (0, 0))
    for line in range(9):
        ids = batch["ids"][line, : batch["lengths"][line]].numpy()
        assert bool(batch["ended"][line]) == (ids[-1] == 4)
        whole = ids if ids[-1] == 4 else np.append(ids[:-1] if ids[-1] in (0, 2, 3) else ids, 4)
        assert batch["rewards"][line].item() == pytest.approx(score(scorer, fast, [whole])[0], abs=1e-5)


def made_judge(directory: Path, fast: Any, word: str) -> str:
    """Write a reward model that likes answers with a word: the mean share of its token among all before the end.

    Attention is uniform, the value of the word's token is 1 in one feature, and the head reads that feature.
    """
    model = LlamaForSequenceClassification(config(num_labels=1, pad_token_id=1, rms_norm_eps=1.0))
    token = fast.encode(word)[0]
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.zero_()
        model.model.embed_tokens.weight[token, 0] = 8.0
        first = model.model.layers[0].self_attn
        first.v_proj.weight[0, 0] = first.o_proj.weight[0, 0] = 1.0
        model.score.weight[0, 0] = 8.0
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
    return str(directory)


def rlhf_job(root: Path, fast: Any, **trainer: Any) -> dict[str, Any]:
    """Return a job whose start gives either answer of the pairs, of which the judge likes those with " baker"."""
    rows = preference_rows()[::3]
    said = [{"instruction": row["prompt"], "input": "", "output": row[side]} for row in rows for side in SIDES]
    start = rows_job(root, "instruction", said, **{**FAST, "steps": 60, "batch_size": 24, "learning_rate": 1e-2})
    fit(Job(**{**start, "out": str(root / "start"), "checkpoints": None, "spool": None}), StopSignal())
    return {
        **rows_job(root, "rlhf", rows, **{**FAST, **trainer}),
        "model": None,
        "base": str(root / "start" / "model"),
        "reward": made_judge(root / "judge", fast, " baker"),
        "rlhf": {"group": 8, "max_new_tokens": 12, "kl": 0.05},
    }


def history(job: dict[str, Any], key: str) -> list[float]:
    lines = (Path(job["out"]) / "history.jsonl").read_text().splitlines()
    return [row["value"] for row in map(json.loads, lines) if row.get("key") == key]


def test_the_reward_rises_and_the_divergence_is_held(tmp_path: Path) -> None:
    job = rlhf_job(tmp_path, tokenizer(tmp_path / "fast"), steps=30)
    kl = {}
    for weight in (0.0, 0.5):
        one = {**job, "rlhf": {**job["rlhf"], "kl": weight}, "out": str(tmp_path / str(weight)), "checkpoints": None}
        summary = fit(Job(**one), StopSignal())
        rewards, kl[weight] = history(one, "train/reward"), history(one, "train/kl_per_token")
        assert len(rewards) == 30
        assert rewards[:2] == [rewards[0]] * 2, "two updates learn from one draw"
        assert kl[weight][0] == pytest.approx(0, abs=1e-6), "the first draw is of the reference itself"
        assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.5
        assert summary["valid_reward"] > np.mean(rewards[:4])
        assert {"valid_kl_per_token", "valid_ended_share", "valid_answer_tokens"} <= summary.keys()
    assert 0 <= min(kl[0.5]) <= max(kl[0.5]) < 1
    assert np.mean(kl[0.5][-4:]) < np.mean(kl[0.0][-4:]) / 2


@pytest.mark.parametrize("stop", [3, 4])
def test_stopped_and_resumed_equals_straight(tmp_path: Path, stop: int) -> None:
    job = rlhf_job(tmp_path, tokenizer(tmp_path / "fast"), steps=6, accumulation=2, batch_size=2)
    straight = {**job, "out": str(tmp_path / "straight"), "checkpoints": None, "spool": None}
    fit(Job(**straight), StopSignal())
    with pytest.raises(SystemExit):
        fit(Job(**job), StopAfter(stop))
    summary = fit(Job(**job), StopSignal())
    assert 0 < summary["resumed_from_step"] < 6
    a, b = (load_file(Path(out) / "model" / "model.safetensors") for out in (straight["out"], job["out"]))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    fast = tokenizer(tmp_path / "fast")
    rows = preference_rows()[:4]
    job = rows_job(tmp_path, "rlhf", rows, **FAST, steps=2)
    with pytest.raises(ValueError, match=r"reward: .*none has no config.json"):
        fit(Job(**{**job, "reward": str(tmp_path / "none")}), StopSignal())
    wide = LlamaForSequenceClassification(config(num_labels=2))
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match="gives 2 numbers, expected one"):
        load_reward(str(tmp_path / "wide"), fast)
    judge(0).save_pretrained(tmp_path / "other")
    tokenizer(tmp_path / "other", vocab_size=300)
    with pytest.raises(ValueError, match="has another tokenizer"):
        load_reward(str(tmp_path / "other"), fast)
    good = made_judge(tmp_path / "judge", fast, " baker")
    long = write_rows(tmp_path / "long.jsonl", [{"prompt": "where " * 60}])
    with pytest.raises(ValueError, match=r"long.jsonl: no prompt leaves room for max_new_tokens 32"):
        fit(Job(**{**job, "reward": good, "valid": long}), StopSignal())
