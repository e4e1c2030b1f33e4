"""The fast forms compute what transformers computes: loss and gradients in float32 within 1e-5."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

from models.architecture import ArchitectureConfig, build
from models.attention import WRITTEN_OUT, set_attention
from models.causal_lm import CausalLM
from models.cross_entropy import linear_cross_entropy
from models.instruction import Examples, Instruction, collate
from models.trainer import TrainerConfig


def model(key_value_heads: int = 4) -> LlamaForCausalLM:
    config = ArchitectureConfig(layers=2, hidden=32, heads=4, key_value_heads=key_value_heads, intermediate=48)
    built = build(config, 101, seed=3, eos_id=0, pad_id=1)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5, generator=generator)
            elif "embed" not in name:
                weight.mul_(5)
    return built


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}


def reference(attention: str, ids: torch.Tensor, heads: int = 4) -> tuple[float, dict[str, torch.Tensor]]:
    plain = model(heads)
    set_attention(plain, attention)
    logits = plain(input_ids=ids[:, :-1]).logits
    loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
    loss.backward()
    return loss.item(), gradients(plain)


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    largest = max(value.abs().max() for value in b.values())
    for name in a:
        assert (a[name] - b[name]).abs().max() <= 1e-5 * max(1.0, largest), name


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_lean_loss_and_gradients_equal_transformers(attention: str) -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 101, (3, 18))
    own = model()
    module = CausalLM(own, TrainerConfig(steps=1, precision="fp32"), 1, "cpu")
    assert module.lean
    loss = module.loss_sum({"ids": ids})
    loss.backward()
    expected, expected_gradients = reference(attention, ids)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert_close(gradients(own), expected_gradients)


@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_causal_lm_equals_the_models_own_loss(key_value_heads: int) -> None:
    """Four key-value heads take the lean path, two that of transformers, which is also the reference."""
    torch.manual_seed(0)
    ids = torch.randint(5, 101, (3, 18))
    own, other = model(key_value_heads), model(key_value_heads)
    module = CausalLM(own, TrainerConfig(steps=1, precision="fp32"), 1, "cpu")
    assert module.lean == (key_value_heads == 4)
    loss = module.loss_sum({"ids": ids}) / module.count({"ids": ids}).targets
    loss.backward()
    expected = other(input_ids=ids, labels=ids).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert_close(gradients(own), gradients(other))


@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_instruction_equals_the_models_own_loss(key_value_heads: int) -> None:
    """The reference masks padding away and has -100 for every token that is no answer."""
    random = np.random.default_rng(0)
    rows = [random.integers(5, 101, length) for length in (18, 7, 12)]
    starts = np.array([9, 2, 11])
    own, other = model(key_value_heads), model(key_value_heads)
    module = Instruction(own, TrainerConfig(steps=1, precision="fp32"), 1, "cpu")
    assert module.lean == (key_value_heads == 4)
    batch = collate(Examples(rows, starts, 0), np.arange(3), 1)
    loss = module.loss_sum(batch) / module.count(batch).targets
    loss.backward()
    places = torch.arange(18)
    real = places < torch.tensor([[18], [7], [12]])
    labels = batch["ids"].masked_fill(~(real & (places >= torch.from_numpy(starts)[:, None])), -100)
    expected = other(input_ids=batch["ids"], attention_mask=real.long(), labels=labels).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert_close(gradients(own), gradients(other))


@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_written_out_attention_equals_sdpa(key_value_heads: int) -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 101, (3, 18))
    loss, own = reference(WRITTEN_OUT, ids, key_value_heads)
    expected, expected_gradients = reference("sdpa", ids, key_value_heads)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_close(own, expected_gradients)


def test_written_out_attention_respects_padding_and_cache() -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 101, (2, 12))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    outputs = {}
    for name in (WRITTEN_OUT, "sdpa"):
        plain = model().eval()
        set_attention(plain, name)
        with torch.inference_mode():
            whole = plain(input_ids=ids, attention_mask=mask).logits[:, 4:]
            generated = plain.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=[]
            )
        outputs[name] = (whole, generated)
    assert (outputs[WRITTEN_OUT][0] - outputs["sdpa"][0]).abs().max() < 1e-4
    assert torch.equal(outputs[WRITTEN_OUT][1], outputs["sdpa"][1])


def test_bf16_is_as_near_to_float32_as_autocast() -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 101, (8, 33))
    losses = {}
    for precision in ("fp32", "bf16"):
        module = CausalLM(model(), TrainerConfig(steps=1, precision=precision), 1, "cpu")
        losses[precision] = module.loss_sum({"ids": ids}).item()
    plain = model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = plain(input_ids=ids[:, :-1]).logits
    auto = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").item()
    assert abs(losses["bf16"] - losses["fp32"]) <= 2 * abs(auto - losses["fp32"]) + 1e-3 * losses["fp32"]


def test_linear_cross_entropy_over_several_chunks() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(700, 8, requires_grad=True), torch.randn(9001, 8, requires_grad=True)
    targets = torch.randint(0, 9001, (700,))
    (linear_cross_entropy(hidden, weight, targets) / 700).backward()
    own = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    expected = F.cross_entropy(hidden @ weight.T, targets)
    expected.backward()
    assert own[0] is not None
    assert own[1] is not None
    assert (own[0] - hidden.grad).abs().max() < 1e-6
    assert (own[1] - weight.grad).abs().max() < 1e-6
