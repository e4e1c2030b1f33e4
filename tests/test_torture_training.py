"""Training that is cut off anywhere, and checkpoints that are damaged in every way: the same bits, or a named file.

`make torture` does all of it; `make test` a part that is drawn anew from a fixed seed.
"""

import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from masked_examples import masked_job
from models_examples import (
    StopAfter,
    answer_rows,
    causal_job,
    classification_rows,
    entity_rows,
    instruction_rows,
    rows_job,
    tokenizer,
)
from preference_examples import preference_rows
from test_models_resume import equal
from test_rlhf import made_judge
from torch.utils.data import DataLoader

from models.checkpoint import MANIFEST, STATE, checkpoints, newest_verified
from models.data import BucketedBatches, Steps
from models.fit import fit
from models.job import Job
from models.signals import StopSignal

STEPS = 6


def reward_job(root: Path, **trainer: Any) -> dict[str, Any]:
    return rows_job(root, "reward", preference_rows(), **trainer)


def rlhf_job(root: Path, **trainer: Any) -> dict[str, Any]:
    """Return a job that starts at random weights: what it draws is noise, and noise is to be drawn again."""
    fast = tokenizer(root / "fast")
    start = rows_job(root, "instruction", instruction_rows(), steps=1)
    fit(Job(**{**start, "out": str(root / "start"), "checkpoints": None, "spool": None}), StopSignal())
    job = rows_job(root, "rlhf", preference_rows()[::4], **trainer)
    judge = made_judge(root / "judge", fast, " baker")
    more = {"group": 2, "max_new_tokens": 6, "updates": 2}
    return {**job, "model": None, "base": str(root / "start" / "model"), "reward": judge, "rlhf": more}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "causal_lm": causal_job,
    "masked_lm": masked_job,
    "classification": lambda root, **more: rows_job(root, "classification", classification_rows(), **more),
    "token_classification": lambda root, **more: rows_job(root, "token_classification", entity_rows(), **more),
    "question_answering": lambda root, **more: rows_job(root, "question_answering", answer_rows(), **more),
    "instruction": lambda root, **more: rows_job(root, "instruction", instruction_rows(), **more),
    "preference": lambda root, **more: rows_job(root, "preference", preference_rows(), **more),
    "reward": reward_job,
    "rlhf": rlhf_job,
}


@pytest.mark.parametrize("objective", sorted(JOBS))
def test_stopped_after_every_step_it_ends_with_the_same_bits(
    tmp_path: Path, objective: str, torture: bool, dice: random.Random
) -> None:
    """Each step is a process's whole life, as far as the trainer knows; all of them together equal one run."""
    for accumulation in (1, 4) if torture else (dice.choice((1, 4)),):
        root = tmp_path / str(accumulation)
        root.mkdir()
        rhythm = {"steps": STEPS, "batch_size": 2, "accumulation": accumulation, "validate_every": 2}
        job = JOBS[objective](root, **rhythm)
        straight = {**job, "out": str(root / "straight"), "checkpoints": None, "spool": None}
        fit(Job(**straight), StopSignal())
        lives = 0
        while not (Path(job["out"]) / "summary.json").exists():
            lives += 1
            # In `make test` some steps share a life: with one of two each, the other one is not cut off after.
            stop = StopAfter(1 if torture else dice.choice((1, 3)))
            try:
                fit(Job(**job), stop)
            except SystemExit as ended:
                assert ended.code == 143
        assert lives > (STEPS - 1 if torture else 1)
        assert equal(straight["out"], job["out"]), f"accumulation {accumulation}"


def damage(checkpoint: Path, dice: random.Random) -> str:
    """Damage one file of a checkpoint in one of seven ways, and return the file's name."""
    name = dice.choice((STATE, MANIFEST))
    path = checkpoint / name
    content = bytearray(path.read_bytes())
    way = dice.choice(("bit", "bytes", "cut", "more", "empty", "gone", "other"))
    if way == "bit":
        # In the manifest a letter's case or a blank may change and nothing of what it says: then nothing is damaged.
        place = dice.randrange(len(content))
        content[place] ^= 1 << dice.randrange(8)
    elif way == "bytes":
        place = dice.randrange(len(content) - 8)
        content[place : place + 8] = dice.randbytes(8)
    elif way == "cut":
        del content[dice.randrange(len(content)) :]
    elif way == "more":
        content += dice.randbytes(dice.randrange(1, 99))
    elif way == "empty":
        content.clear()
    elif way == "other":
        content = bytearray(dice.randbytes(len(content)))
    if way == "gone":
        path.unlink()
    else:
        path.write_bytes(content)
    return name


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tmp_path: Path, torture: bool, dice: random.Random
) -> None:
    job = causal_job(tmp_path, steps=4, checkpoint_every=2)
    fit(Job(**job), StopSignal())
    newest, older = checkpoints(Path(job["checkpoints"]))
    sound = tmp_path / "sound"
    shutil.copytree(newest, sound)
    state = torch.load(sound / STATE, weights_only=True)
    for number in range(1000 if torture else 100):
        shutil.rmtree(newest)
        shutil.copytree(sound, newest)
        name = damage(newest, dice)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = newest_verified(Path(job["checkpoints"]))
        if found == newest:
            # The manifest still says the same, of files that are the same.
            again = torch.load(newest / STATE, weights_only=True)
            assert name == MANIFEST, number
            assert all(torch.equal(again["state_dict"][key], value) for key, value in state["state_dict"].items())
            continue
        assert found == older, (number, name)
        (warning,) = said
        assert str(newest) in str(warning.message), number
        # A digest that was changed in the manifest is told as a file that differs from it.
        assert name in str(warning.message) or name == MANIFEST, (number, str(warning.message))


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_order_of_batches_is_the_same_for_any_number_of_workers_and_processes(accumulation: int) -> None:
    batches = BucketedBatches(torch.arange(1, 200).numpy() % 17 + 1, 4, seed=3)

    def order(workers: int = 0, rank: int = 0, world: int = 1, each: int = accumulation) -> list[list[list[int]]]:
        steps = Steps(batches.batch, 5, 29, each, rank, world)
        loader: Any = DataLoader(steps, batch_size=None, num_workers=workers, collate_fn=None)
        return [[list(map(int, micro)) for micro in step] for step in loader]

    alone = order()
    assert order(workers=2) == alone
    if accumulation == 4:  # one process of four micro-batches, or two of two each: the same texts in the same steps
        both = zip(order(rank=0, world=2, each=2), order(rank=1, world=2, each=2), strict=True)
        assert [sorted([*a, *b]) for a, b in both] == [sorted(step) for step in alone]
