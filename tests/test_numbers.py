"""Numbers that go wrong: no number at all, one that stands out, and more of them than memory holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from masked_examples import masked_job
from models_examples import causal_job, rows_job
from safetensors.torch import load_file
from test_accumulation import ROWS, assert_equal, one_step, prepared
from test_torture_training import rlhf_job

from models import causal_lm
from models.bases import load_tokenizer
from models.checkpoint import checkpoints
from models.fit import fit, prepare
from models.job import Job
from models.module import Batch, DivergedError, batch_digest
from models.pieces import in_pieces
from models.signals import StopSignal
from models.spikes import LEAST, Spikes


def run(job: dict[str, Any]) -> dict[str, Any]:
    return fit(Job(**job), StopSignal())


def weights(job: dict[str, Any]) -> dict[str, torch.Tensor]:
    return load_file(Path(job["out"]) / "model" / "model.safetensors")


def multiplied(monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], index: int, factor: float) -> str:
    """Multiply the training loss of one batch, and return the batch's digest."""
    work = prepare(Job(**job), load_tokenizer(job["tokenizer"], "causal_lm"), "cpu")
    chosen = batch_digest([work.micro_batch(index)])

    class Multiplied(causal_lm.CausalLM):
        def loss_sum(self, batch: Batch) -> torch.Tensor:
            hit = self.model.training and batch_digest([batch]) == chosen
            return super().loss_sum(batch) * (factor if hit else 1.0)

    monkeypatch.setattr(causal_lm, "CausalLM", Multiplied)
    return chosen


def test_too_large_a_learning_rate_stops_before_the_update(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="step 2: the loss is nan"):
        run(causal_job(tmp_path, learning_rate=1e30, precision="fp32", checkpoint_every=1))


def test_no_number_names_its_batch_and_the_mended_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is from before the bad step, and what goes on from it ends as if nothing had been."""
    job = causal_job(tmp_path, steps=6, checkpoint_every=1)
    straight = {**job, "out": str(tmp_path / "straight"), "checkpoints": None, "spool": None}
    run(straight)
    with monkeypatch.context() as fault:
        chosen = multiplied(fault, job, 3, float("inf"))
        with pytest.raises(
            DivergedError, match=f"step 4: the loss is inf .* batch {chosen}; stopped before the update"
        ):
            run(job)
    assert checkpoints(Path(job["checkpoints"]))[0].name == "step-000000003"
    assert run(job)["resumed_from_step"] == 3
    assert all(torch.equal(weights(job)[name], value) for name, value in weights(straight).items())


@pytest.mark.parametrize("spikes", ["keep", "skip"])
def test_a_spike_is_told_and_skipped_where_the_recipe_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spikes: str
) -> None:
    """One step's loss is a thousand times as large. Skipped, it leaves weights and optimiser as they were."""
    job = causal_job(tmp_path, steps=LEAST + 3, spikes=spikes, schedule="wsd", checkpoint_every=LEAST + 1)
    with monkeypatch.context() as fault:
        chosen = multiplied(fault, job, LEAST + 1, 1000.0)
        with pytest.warns(UserWarning, match=f"step {LEAST + 2}: .* stands out, batch {chosen}; the step is"):
            summary = run(job)
    assert summary["spikes"] == 1
    state = [torch.load(path / "state.pt", weights_only=True) for path in checkpoints(Path(job["checkpoints"]))]
    steps = [int(found["optimizer_states"][0]["state"][0]["step"]) for found in state]
    assert steps == [LEAST + 3 - (spikes == "skip"), LEAST + 1]


def test_what_stands_out_does_so_by_six_standard_deviations() -> None:
    """Losses 1 and 3 in turns have the mean 2 and, of 32, the standard deviation 1.016: 8.0 stands out from 8.1 on."""
    for loss, expected in ((8.0, False), (8.2, True), (-9.0, False)):
        spikes = Spikes("cpu")
        for number in range(LEAST):
            assert not spikes.stands_out(torch.tensor(1.0 + 2 * (number % 2)), torch.tensor(1.0))
        assert bool(spikes.stands_out(torch.tensor(loss), torch.tensor(1.0))) == expected, loss
        again = Spikes("cpu")
        again.load_state_dict(spikes.state_dict())
        later = [bool(one.stands_out(torch.tensor(8.3), torch.tensor(1.0))) for one in (spikes, again)]
        assert later[0] == later[1]
        assert int(again.count) == int(spikes.count)


def batches_of(objective: str, root: Path) -> tuple[Any, Batch]:
    """Return an objective's module and a batch of 12 rows, windows or pairs."""
    if objective == "causal_lm":
        work = prepared(causal_job(root, batch_size=12))
    elif objective == "masked_lm":
        work = prepared(masked_job(root, batch_size=12))
    elif objective == "rlhf":
        work = prepared(rlhf_job(root, batch_size=6))
        module = work.build(1)
        return module, module.rollout(work.micro_batch(0), 2, (0, 0, 0, 0))
    else:
        work = prepared(rows_job(root, objective, ROWS[objective][:12], batch_size=12))
    return work.build(1), work.micro_batch(0)


@pytest.mark.parametrize("objective", ["causal_lm", "masked_lm", "rlhf", *ROWS])
@pytest.mark.parametrize("pieces", [2, 5, 99])
def test_the_losses_of_the_pieces_add_up(tmp_path: Path, objective: str, pieces: int) -> None:
    module, batch = batches_of(objective, tmp_path)
    module.model.eval()
    module.begin_step([batch], float(module.count(batch).targets))
    parts = in_pieces(batch, pieces, module.per_place, module.sides)
    assert 1 < len(parts) <= 12
    with torch.no_grad():
        found = sum(float(module.loss_sum(part)) for part in parts)
        assert found == pytest.approx(float(module.loss_sum(batch)), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("objective", ["causal_lm", "instruction", "preference", "masked_lm"])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    """More than three units at once ask for an exabyte, which the allocator really refuses: 12 become 4 times 3."""
    straight, module_batch = batches_of(objective, tmp_path)
    del straight
    make = {"causal_lm": causal_job, "masked_lm": masked_job}.get(objective)
    job = make(tmp_path, batch_size=12) if make else rows_job(tmp_path, objective, ROWS[objective][:12], batch_size=12)
    whole = one_step(prepared(job), [module_batch])
    work = prepared(job)
    module = work.build(1)
    kind, sum_of = type(module), type(module).loss_sum

    def hungry(self: Any, batch: Batch) -> torch.Tensor:
        if len(batch["ids"]) // self.sides > 3:
            torch.empty(1 << 58)
        return sum_of(self, batch)

    monkeypatch.setattr(kind, "loss_sum", hungry)
    with pytest.warns(UserWarning, match="out of memory") as told:
        parts = one_step(work, [module_batch])
    said = [str(warning.message) for warning in told if "out of memory" in str(warning.message)]
    # Rows of instructions are packed ones, six of them.
    expected = ["2 pieces"] if objective == "instruction" else ["2 pieces", "4 pieces"]
    assert [line.split("computed in ")[1] for line in said] == expected
    assert_equal(whole, parts)


def test_where_one_text_is_too_much_it_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Any, batch: Batch) -> torch.Tensor:
        return torch.empty(1 << 58)

    monkeypatch.setattr(causal_lm.CausalLM, "loss_sum", never)
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(MemoryError, match="step 1: out of memory with"),
    ):
        run(causal_job(tmp_path, steps=2))
