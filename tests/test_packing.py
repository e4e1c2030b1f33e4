"""Packed rows: the same loss and gradients as unpacked ones, documents blind to each other, little padding."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_examples import instruction_rows, rows_job
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

from models.architecture import ArchitectureConfig, build
from models.attention import WRITTEN_OUT, positions_of, segment_bias, set_attention
from models.chat import render
from models.data import BucketedBatches
from models.fit import fit
from models.instruction import Examples, Instruction, collate
from models.job import Job
from models.packing import PackedBuckets, choose_batches, pack
from models.signals import StopSignal
from models.trainer import TrainerConfig

CONTEXT = 32
SHAPES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 16)), min_size=1, max_size=9)
"""Tokens of the question with its markers less one, and of the answer, of each example."""


def model(kind: str) -> Any:
    """Return a random tiny model whose attention is far from uniform."""
    if kind == "gpt2":
        drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        torch.manual_seed(0)
        built: Any = GPT2LMHeadModel(
            GPT2Config(vocab_size=60, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2, **drops)
        )
    else:
        heads = 2 if kind == "grouped" else 4
        shape = ArchitectureConfig(
            layers=2, hidden=32, heads=4, key_value_heads=heads, intermediate=48, context=CONTEXT
        )
        built = build(shape, 60, seed=3, eos_id=0, pad_id=1)
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if "norm" not in name and "ln_" not in name:
                weight.mul_(4)
    return built


def module(kind: str) -> Instruction:
    """Return the objective on the lean path ("lean"), or on that of transformers with a named attention."""
    family, _, attention = kind.partition("/")
    built = Instruction(model(family), TrainerConfig(steps=1, precision="fp32"), 1, "cpu")
    assert built.lean == (family == "lean")
    if attention:
        set_attention(built.model, attention)
    return built


PATHS = ["lean", "grouped/sdpa", f"grouped/{WRITTEN_OUT}", "grouped/eager", "gpt2/sdpa"]
MODULES = {kind: module(kind) for kind in PATHS}


def examples(shapes: list[tuple[int, int]], seed: int) -> Examples:
    random = np.random.default_rng(seed)
    ids = [random.integers(5, 60, asked + answered + 1) for asked, answered in shapes]
    return Examples(ids, np.array([asked + 1 for asked, _ in shapes]), 0)


def loss_and_gradients(objective: Instruction, batch: dict[str, torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
    objective.model.zero_grad()
    loss = objective.loss_sum(batch) / objective.count(batch).targets
    loss.backward()
    return loss.item(), [weight.grad.clone() for weight in objective.model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("kind", PATHS)
@settings(max_examples=12, deadline=None)
@given(SHAPES, st.integers(0, 99))
def test_packed_loss_and_gradients_equal_unpacked(kind: str, shapes: list[tuple[int, int]], seed: int) -> None:
    objective, given_examples = MODULES[kind], examples(shapes, seed)
    alone = collate(given_examples, np.arange(len(shapes)), 1)
    # Everything that fits behind each other in one row: as many documents in a row as there can be.
    rows, room = [[]], CONTEXT
    for i, length in enumerate(given_examples.lengths):
        if length > room:
            rows.append([])
            room = CONTEXT
        rows[-1].append(i)
        room -= length
    packed = collate(given_examples, [np.array(row) for row in rows], 1)
    assert objective.count(packed)[:2] == objective.count(alone)[:2]
    loss, gradients = loss_and_gradients(objective, packed)
    expected, expected_gradients = loss_and_gradients(objective, alone)
    assert loss == pytest.approx(expected, abs=1e-5, rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in expected_gradients)
    for own, other in zip(gradients, expected_gradients, strict=True):
        assert (own - other).abs().max() <= 1e-5 * max(1.0, largest)


@pytest.mark.parametrize("kind", PATHS)
def test_changing_one_document_leaves_the_others_as_they_are(kind: str) -> None:
    objective = MODULES[kind]
    random = np.random.default_rng(1)
    ids = torch.from_numpy(random.integers(5, 60, (2, 14)))
    segments = torch.tensor([[0] * 5 + [1] * 1 + [2] * 8, [0] * 6 + [1] * 6 + [-1] * 2])
    with torch.no_grad():
        before = objective.hidden(ids, segments).view(2, 14, -1)
        for row, number in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
            own = segments[row] == number
            changed = ids.clone()
            changed[row, own] = 64 - ids[row, own]
            after = objective.hidden(changed, segments).view(2, 14, -1)
            moved = (before != after).any(-1)
            assert torch.equal(moved[row], own)
            assert not moved[1 - row].any()
        # Without segments the later tokens of the row do see them.
        assert (objective.hidden(ids) != objective.hidden(changed)).view(2, 14, -1).any(-1)[1, 12:].all()


def test_positions_and_mask_golden() -> None:
    segments = torch.tensor([[0, 0, 0, 1, 2, 2, -1], [0, 1, 1, 1, 1, 1, 1]])
    assert positions_of(segments).tolist() == [[0, 1, 2, 0, 0, 1, 0], [0, 0, 1, 2, 3, 4, 5]]
    sees = segment_bias(segments[:, :6], torch.float)[:, 0] == 0
    assert sees[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def test_collate_packed_golden() -> None:
    # user 2, question 7 8, assistant 3, response 9, end 4; and user, assistant, response 5 6, end; and a third.
    three = Examples([np.array(r) for r in ([2, 7, 8, 3, 9, 4], [2, 3, 5, 6, 4], [2, 3, 4])], np.array([4, 2, 2]), 0)
    batch = collate(three, [np.array([0, 2]), np.array([1])], pad_id=1)
    assert batch["ids"].tolist() == [[2, 7, 8, 3, 9, 4, 2, 3, 4], [2, 3, 5, 6, 4, 1, 1, 1, 1]]
    assert batch["segments"].tolist() == [[0, 0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, -1, -1, -1, -1]]
    assert batch["places"].tolist() == [3, 4, 7, 10, 11, 12]
    assert batch["targets"].tolist() == [9, 4, 4, 5, 6, 4]
    assert batch["lengths"].tolist() == [6, 3, 5]


def test_pack_golden() -> None:
    # 20 tokens into rows of 10: two full rows; the context alone would allow one row.
    assert [sorted(row.tolist()) for row in pack(np.array([8, 2, 5, 5]), 20)] == [[0, 1], [2, 3]]
    # Equal examples stay alone: longer rows would save nothing.
    assert [row.tolist() for row in pack(np.array([7, 7, 7]), 21)] == [[0], [1], [2]]
    with pytest.raises(ValueError, match="an example has 9 tokens, expected at most the context of 8"):
        pack(np.array([3, 9]), 8)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=120), st.integers(1, 40), st.integers(0, 5))
def test_each_example_once_an_epoch_and_no_row_over_the_context(lengths: list[int], batch_size: int, seed: int) -> None:
    buckets = BucketedBatches(np.array(lengths), batch_size, seed)
    packed = PackedBuckets(buckets, 64)
    for epoch in range(2):
        batches = [packed.batch(epoch * packed.batches_per_epoch + i) for i in range(packed.batches_per_epoch)]
        for number, rows in enumerate(batches):
            # A batch has the examples that it has unpacked, so that a step learns the same.
            unpacked = buckets.batch(epoch * packed.batches_per_epoch + number)
            assert sorted(np.concatenate(rows)) == sorted(unpacked)
            assert max(sum(lengths[i] for i in row) for row in rows) <= 64
        assert sorted(i for rows in batches for row in rows for i in row) == list(range(len(lengths)))
        assert packed.waste_share(epoch) <= buckets.waste_share(epoch) + 1e-12
    again = PackedBuckets(BucketedBatches(np.array(lengths), batch_size, seed), 64)
    assert [row.tolist() for row in again.batch(3)] == [row.tolist() for row in packed.batch(3)]


@pytest.mark.parametrize("count", [64, 600])
def test_packed_waste_is_at_most_a_tenth(count: int) -> None:
    random = np.random.default_rng(0)
    # The starter's questions (15 to 26 tokens at context 64), and long-tailed instructions.
    for lengths, context in (
        (random.normal(19, 2.5, count).clip(15, 26).astype(int), 64),
        (random.lognormal(4, 0.7, count).clip(8, 512).astype(int), 1024),
    ):
        assert PackedBuckets(BucketedBatches(lengths, 32, 0), context).waste_share() <= 0.10


def test_packing_is_chosen_where_buckets_waste_much() -> None:
    llama, mamba = model("lean"), MambaForCausalLM(MambaConfig(vocab_size=60, hidden_size=8, num_hidden_layers=1))
    equal, spread = (BucketedBatches(np.array(lengths), 8, 0) for lengths in ([9] * 30, [1, 3, 9, 30] * 2))
    assert spread.waste_share() > 0.1
    for packing, buckets, packed in (
        ("auto", equal, False),
        ("auto", spread, True),
        ("on", equal, True),
        ("off", spread, False),
    ):
        assert isinstance(choose_batches(packing, llama, buckets, CONTEXT), PackedBuckets) == packed
    assert choose_batches("auto", mamba, spread, CONTEXT) is spread
    with pytest.raises(ValueError, match="packing is on, but a mamba model cannot keep packed documents apart"):
        choose_batches("on", mamba, spread, CONTEXT)


def test_a_packed_run_learns_what_an_unpacked_one_learns(tmp_path: Path) -> None:
    rows = [{**row, "output": " ".join([row["output"]] * (1 + i % 5))} for i, row in enumerate(instruction_rows())]
    job = rows_job(tmp_path, "instruction", rows, steps=6, batch_size=36, learning_rate=1e-2, precision="fp32")
    curves, summaries = {}, {}
    for packing in ("on", "off"):
        spool = tmp_path / f"{packing}.jsonl"
        changes = {"instruction": {"packing": packing}, "spool": str(spool), "checkpoints": None}
        summaries[packing] = fit(Job(**{**job, **changes}), StopSignal())
        lines = [json.loads(line) for line in spool.read_text().splitlines()]
        curves[packing] = [row["value"] for row in lines if row.get("key") in ("train/loss", "valid/loss")]
    assert summaries["on"]["packed"]
    assert not summaries["off"]["packed"]
    assert summaries["on"]["waste_share"] <= 0.10 < summaries["off"]["waste_share"]
    assert summaries["on"]["tokens"] == summaries["off"]["tokens"]
    assert len(curves["on"]) == 7
    assert curves["on"] == pytest.approx(curves["off"], rel=1e-4)


def test_padding_of_real_instructions_is_at_most_a_tenth() -> None:
    if not os.environ.get("ALMA_DATA"):
        pytest.skip("ALMA_DATA names no folder of real data")
    path = Path(os.environ["ALMA_DATA"]) / "llms_from_scratch" / "instruction-data.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    # About 4 bytes a token; what counts here is how lengths spread.
    lengths = np.array([len(render(r["instruction"], r["input"], r["output"]).encode()) // 4 + 3 for r in rows])
    for part in (lengths, lengths[:100]):
        for batch_size in (8, 32, 64):
            assert PackedBuckets(BucketedBatches(part, batch_size, 0), 256).waste_share() <= 0.10
    assert BucketedBatches(lengths, 32, 0).waste_share() <= 0.10
