"""Adapters: only they are trained, base + adapter is the merged model, and a resumed run ends with the same bits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bases_examples import bert, gpt2, qwen
from models_examples import StopAfter, causal_job, classification_rows, instruction_rows, rows_job
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from models import adapters
from models.bases import fresh_ids, load_model, load_tokenizer
from models.checkpoint import DirectoryCheckpointIO, newest_verified
from models.fit import fit, main, prepare
from models.job import Job
from models.optim import build_optimizer
from models.signals import StopSignal

HEADS = {"classification": AutoModelForSequenceClassification, "instruction": AutoModelForCausalLM}
ROWS = {"classification": classification_rows, "instruction": instruction_rows}


def llama(directory: Path) -> Path:
    """Train a foundation of our own for two steps: its tokenizer lacks nothing."""
    job = causal_job(directory, steps=2)
    job["model"]["context"] = 64
    fit(Job(**{**job, "causal_lm": {"context": 16}, "checkpoints": None}), StopSignal())
    return directory / "out/model"


def adapter_job(root: Path, base: Path, objective: str, **adapter: Any) -> dict[str, Any]:
    root.mkdir(exist_ok=True)
    trainer = {"learning_rate": 1e-2, "batch_size": 12, "precision": "fp32", "weight_decay": 0.1}
    job = rows_job(root, objective, ROWS[objective](), **trainer)
    return {**job, "model": None, "base": str(base), "tokenizer": str(base), "adapter": {"rank": 4, **adapter}}


def changed_rows(before: torch.Tensor, after: torch.Tensor) -> set[int]:
    return set((before != after).flatten(1).any(1).nonzero().flatten().tolist())


@pytest.mark.parametrize(
    ("make", "objective"),
    [
        (llama, "instruction"),
        (gpt2, "instruction"),
        (qwen, "instruction"),
        (bert, "classification"),
        (gpt2, "classification"),
    ],
)
def test_base_plus_adapter_is_the_merged_model(tmp_path: Path, make: Any, objective: str) -> None:
    base = make(tmp_path / "base")
    job = adapter_job(tmp_path / "job", base, objective)
    summary = fit(Job(**job), StopSignal())
    assert summary["forward"] == "transformers", "the lean form knows no adapters"
    assert 0 < summary["trainable_share"] < 0.5
    assert summary["peak_memory_bytes"] > 1e7
    out = Path(job["out"])
    merged = HEADS[objective].from_pretrained(out / "model").eval()
    plain = HEADS[objective].from_pretrained(base, num_labels=3) if objective == "classification" else None
    plain = plain or HEADS[objective].from_pretrained(base)
    plain.config.pad_token_id = merged.config.pad_token_id
    stored = PreTrainedTokenizerFast.from_pretrained(out / "model")
    rows = plain.get_input_embeddings().num_embeddings
    if len(stored) > rows:
        plain.resize_token_embeddings(len(stored), mean_resizing=False)
    plain.eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    with torch.no_grad():
        alone = plain(input_ids=ids).logits
        both = PeftModel.from_pretrained(plain, str(out / "adapter")).eval()(input_ids=ids).logits
        whole = merged(input_ids=ids).logits
    assert (both - whole).abs().max() < 1e-5
    assert (alone[..., :rows] - whole[..., :rows]).abs().max() > 1e-2


def test_only_the_adapter_its_head_and_the_new_rows_move(tmp_path: Path) -> None:
    base = qwen(tmp_path / "base")
    for objective in ("instruction", "classification"):
        job = adapter_job(tmp_path / objective, base, objective, targets=["q_proj", "v_proj"])
        fit(Job(**job), StopSignal())
        before, after = load_file(base / "model.safetensors"), load_file(Path(job["out"]) / "model/model.safetensors")
        moved = {
            name
            for name in after
            if name not in before or not torch.equal(before[name], after[name][: len(before[name])])
        }
        matrices = {
            f"model.layers.{layer}.self_attn.{name}.weight" for layer in (0, 1) for name in ("q_proj", "v_proj")
        }
        tables = {"model.embed_tokens.weight", "lm_head.weight"}
        assert moved == matrices | (tables if objective == "instruction" else {"score.weight"})
        if objective == "instruction":
            # Both tables have more rows than the tokenizer has tokens: the three markers took the first of these.
            known = len(load_tokenizer(str(base)))
            for name in tables:
                assert changed_rows(before[name], after[name]) == {known, known + 1, known + 2}
        update = after["model.layers.0.self_attn.q_proj.weight"] - before["model.layers.0.self_attn.q_proj.weight"]
        assert torch.linalg.matrix_rank(update, rtol=1e-3) == 4


def test_the_optimiser_holds_what_is_trained_and_nothing_else(tmp_path: Path) -> None:
    base = llama(tmp_path / "base")
    job = Job(**adapter_job(tmp_path / "job", base, "instruction"))
    tokenizer = load_tokenizer(job.tokenizer, job.objective)
    work = prepare(job, tokenizer, "cpu")
    whole = sum(weight.numel() for weight in work.model.parameters())
    adapters.add(work.model, job, fresh_ids(job, tokenizer))
    # 2 layers of width 32 and 64 in between, rank 4: q, k, v, o are 32 x 32; gate, up and down 32 x 64.
    expected = 2 * (4 * 4 * (32 + 32) + 3 * 4 * (32 + 64))
    assert adapters.trainable_count(work.model) == expected
    optimiser = build_optimizer(work.model, 1e-3, 0.1, 0.95)
    assert sum(weight.numel() for group in optimiser.param_groups for weight in group["params"]) == expected
    assert sum(weight.numel() for weight in work.model.parameters()) == whole + expected
    tables = work.model.get_input_embeddings().weight.numel()
    assert adapters.frozen_flops_per_token(work.model, 1.0) == 2.0 * whole, "tied: the table is the output layer"
    assert adapters.frozen_flops_per_token(work.model, 0.0) == 2.0 * (whole - tables)


def test_the_first_update_starts_from_the_base(tmp_path: Path) -> None:
    base = gpt2(tmp_path / "base")
    job = Job(**adapter_job(tmp_path / "job", base, "instruction"))
    tokenizer = load_tokenizer(job.tokenizer, job.objective)
    ids = torch.tensor([[5, 6, 7, 8]])
    before = load_model(job, tokenizer).eval()
    expected = before(ids).logits
    adapters.add(before, job, fresh_ids(job, tokenizer))
    assert torch.equal(before.eval()(ids).logits, expected)


@pytest.mark.parametrize(("make", "objective"), [(gpt2, "instruction"), (bert, "classification")])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, make: Any, objective: str) -> None:
    base = make(tmp_path / "base")  # with dropout in the base and in the adapter
    job = adapter_job(tmp_path / "job", base, objective, dropout=0.2)
    straight = {**job, "out": str(tmp_path / "straight"), "checkpoints": None, "spool": None}
    fit(Job(**straight), StopSignal())
    with pytest.raises(SystemExit):
        fit(Job(**job), StopAfter(4))
    saved = newest_verified(Path(job["checkpoints"]))
    assert saved is not None
    state = DirectoryCheckpointIO().load_checkpoint(saved)["state_dict"]
    assert state
    assert not any("base_layer" in name for name in state), "the base is not in the checkpoint"
    assert fit(Job(**job), StopSignal())["resumed_from_step"] > 0
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
        assert (Path(job["out"]) / name).read_bytes() == (Path(straight["out"]) / name).read_bytes(), name


def test_what_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = gpt2(tmp_path / "base")
    cases = [({"targets": ["q_proj"]}, "no linear layer 'q_proj'; there are c_attn, c_fc, c_proj")]
    if not torch.cuda.is_available():
        cases.append(({"quantise": True}, "adapter.quantise: 4 bits need a GPU"))
    for number, (adapter, expected) in enumerate(cases):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(adapter_job(tmp_path / f"job-{number}", base, "instruction", **adapter)))
        assert main([str(path)]) == 2
        assert expected in capsys.readouterr().err
