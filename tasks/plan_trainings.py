"""The trainings of a recipe as jobs on a sample of its data, measured, and what each will take."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from models.trainer import TrainerConfig
from tasks.plan_data import Survey, Surveyed
from tasks.recipe import FOUNDATION, Recipe
from tasks.specialist import WITH_OPTIONS

MEASURED = 10.0
"""Seconds of training that are measured in all, beside the imports."""
FIRST = 0.3
"""Share of them that the foundation has."""
LEAST = 0.5
"""Fewest seconds of a training."""


class Training(NamedTuple):
    """One training of a recipe: its step, its job on the sample, and the data set that it learns from."""

    step: str
    model: str
    job: dict[str, Any]
    data: str
    like: str = ""
    """The step whose measurement stands for this one's, where both compute the same."""


def list_trainings(recipe: Recipe, survey: Survey) -> list[Training]:
    """Return every training in the order of the pipeline: foundation, adaptation, specialists and their twins."""
    found = survey.directory
    base = _base(recipe)
    start: dict[str, Any] = {"base": base} if base else {"model": recipe.pretrain.model.model_dump(mode="json")}
    common = {"seed": recipe.seed, "tokenizer": str(found / "hf"), "out": str(found / "out"), **start}
    masked = recipe.pretrain.masked_lm.model_dump(mode="json")
    text = {**common, "objective": recipe.pretrain.objective, "masked_lm": masked}
    trainings = []
    if recipe.pretrain.train is not None:
        job = {**text, "trainer": recipe.pretrain.train.model_dump(mode="json"), "tokens": str(found / "tokens")}
        trainings.append(Training("pretrain", FOUNDATION, job, "corpus"))
    if recipe.adapt is not None:
        job = {
            **text,
            "trainer": recipe.adapt.train.model_dump(mode="json"),
            "tokens": str(found / "tokens-domain"),
            "general": str(found / "tokens"),
        }
        trainings.append(Training("adapt", FOUNDATION, job, recipe.adapt.data))
    for name, specialist in recipe.specialists.items():
        rows = found / specialist.data
        job = {
            **common,
            **{
                option: getattr(specialist, option).model_dump(mode="json")
                for option in WITH_OPTIONS
                if option == specialist.task
            },
            "objective": specialist.task,
            "trainer": specialist.train.model_dump(mode="json"),
            "train": str(rows / "train.jsonl"),
            "valid": str(rows / "valid.jsonl"),
        }
        adapted = {"adapter": specialist.adapter.model_dump(mode="json")} if specialist.adapter else {}
        judge = {"reward": str(found / "reward")} if specialist.task == "rlhf" else {}
        tuned = Training(f"finetune/{name}", name, {**job, **adapted, **judge}, specialist.data)
        if recipe.has_control(name):
            like = "" if adapted else tuned.step
            trainings.append(Training(f"scratch/{name}", name, job, specialist.data, like))
        trainings.append(tuned)
        if specialist.mitigation.method not in ("none", "auto"):
            again = f"finetune/{name}+{specialist.mitigation.method}"
            trainings.append(Training(again, name, tuned.job, specialist.data, tuned.step))
    return trainings


def _base(recipe: Recipe) -> str:
    from tasks.base import find_base

    base = find_base(recipe.pretrain)
    return str(base.directory) if base else ""


def measure_trainings(
    recipe: Recipe, trainings: list[Training], survey: Survey, counted: list[dict[str, Any]] | None = None
) -> Any:
    """Measure the trainings one after the other in a process as trainings have it, and return its answer.

    The models of the jobs in ``counted`` are not trained: their weights and operations are counted.

    Raises:
        ValueError: a job cannot be built; the message names its step.
    """
    from models.launch import training_environment
    from models.signals import PARENT

    own = [training for training in trainings if not training.like]
    others = max(1, len(own) - 1)
    request = []
    for number, training in enumerate(own):
        share = 1.0 if len(own) == 1 else FIRST if number == 0 else (1 - FIRST) / others
        asked: dict[str, Any] = {
            "name": training.step,
            "job": training.job,
            "seconds": max(LEAST, share * MEASURED),
        }
        if training.step == "pretrain" and training.job["objective"] == "causal_lm":
            meta = json.loads((survey.directory / "tokens" / "meta.json").read_text(encoding="utf-8"))
            asked["score"] = {"path": str(survey.directory / "tokens" / "valid.bin"), "dtype": meta["dtype"]}
        if training.job["objective"] == "rlhf":
            judge = next(other.job for other in trainings if other.step == f"finetune/{_judge(recipe, training)}")
            asked["reward_job"] = judge
        request.append(asked)
    path = survey.directory / "measure.json"
    path.write_text(json.dumps({"train": request, "count": counted or []}, indent=1), encoding="utf-8")
    environment = {**training_environment(), **os.environ, PARENT: str(os.getpid())}
    done = subprocess.run(
        [sys.executable, "-m", "models.measure", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("error: ")
        raise ValueError(f"a training cannot be measured: {said}")
    return json.loads(done.stdout.splitlines()[-1])


def _judge(recipe: Recipe, training: Training) -> str:
    return recipe.specialists[training.model].reward


def foresee(training: Training, found: dict[str, Any], startup: float, survey: Survey, launcher: str) -> dict[str, Any]:
    """Return what a training will take: steps, tokens, operations, memory and seconds.

    Args:
        found: what `models.measure.measure` said of it.
        startup: seconds until a training process begins.
    """
    trainer = TrainerConfig.model_validate(training.job["trainer"])
    data = survey.datasets[training.data]
    ratio, held_out = _ratios(training, found, data, survey, trainer)
    steps = trainer.total_steps(found["batches_per_epoch"] * ratio)
    validations = 1 + ((steps - 1) // trainer.validate_every if trainer.validate_every else 0)
    seconds = (
        startup
        + found["setup"]
        + found["rows_setup"] * (max(ratio, 1.0) - 1.0)
        + steps * found["step_seconds"]
        + validations * held_out * found["valid_batch_seconds"]
    )
    positions = steps * found["step_positions"]
    return {
        "parameters": found["parameters"],
        "trainable_parameters": found["trainable_parameters"],
        "steps": steps,
        "tokens": round(steps * found["step_tokens"]),
        "tokens_per_second": found["step_tokens"] / found["step_seconds"],
        "flops": positions * found["flops_per_position"],
        "memory": memory(found, trainer),
        "peak_memory_bytes": found["peak_memory_bytes"],
        "seconds": seconds,
        "devices": devices(launcher),
    }


def _ratios(
    training: Training, found: dict[str, Any], data: Surveyed, survey: Survey, trainer: TrainerConfig
) -> tuple[float, float]:
    """Return how many times the sample's batches the whole has, and the batches of one validation."""
    if "tokens" in training.job:
        meta = json.loads((Path(training.job["tokens"]) / "meta.json").read_text(encoding="utf-8"))
        whole = survey.tokens[training.data]
        ratio = whole["train"] / max(meta["train"]["tokens"], 1)
        texts = [whole["valid"]] + ([survey.tokens["corpus"]["valid"]] if "general" in training.job else [])
        batches = [count / (found["context"] * trainer.batch_size) for count in texts]
    else:
        ratio = data.rows["train"] / max(data.sample["train"], 1)
        examples = found["valid_examples"] * data.rows["valid"] / max(data.sample["valid"], 1)
        batches = [examples / trainer.batch_size]
    most = trainer.validate_batches
    return ratio, sum(min(max(1.0, count), most or count or 1.0) for count in batches)


def devices(launcher: str) -> int:
    """Return the processes that a launcher starts, as far as its words say: torchrun's --nproc-per-node.

    >>> devices("torchrun --nproc-per-node 4"), devices("python")
    (4, 1)
    """
    words = shlex.split(launcher.replace("=", " ").replace("_", "-"))
    if "--nproc-per-node" in words[:-1]:
        count = words[words.index("--nproc-per-node") + 1]
        return int(count) if count.isdigit() else 1
    return 1


def memory(found: dict[str, Any], trainer: TrainerConfig) -> dict[str, float]:
    """Return the bytes of a training by formula: weights, gradients, AdamW's states, activations, logits.

    N weights in float32 are 4 N bytes, and 2 N more for their bf16 copies; of the trained ones the gradients are
    4 N and AdamW's two moments 8 N (Rajbhandari et al. 2020, ZeRO, section 3.1, with its float32 copy as the
    weights). Activations of a micro-batch of b rows of s tokens: s b h L (34 + 5 a s / h) bytes in 16 bits, twice
    that in 32 (Korthikanti et al. 2022, equation 2, h wide, L layers, a heads: attention that keeps its scores), and
    4 s b v for the logits of v tokens where they are computed.
    """
    wide = 1 if found["precision"] == "bf16" else 2
    rows = found["step_positions"] / trainer.accumulation
    length = min(found["length"], found["context"])
    per_token = 34 + 5 * found["heads"] * length / max(found["hidden"], 1)
    language = found["objective"] not in ("classification", "token_classification", "question_answering", "reward")
    parts = {
        "weights": found["parameters"] * (4.0 if wide == 2 else 6.0),
        "gradients": found["trainable_parameters"] * 4.0,
        "optimiser": found["trainable_parameters"] * 8.0,
        "activations": wide * rows * found["hidden"] * found["layers"] * per_token,
        "logits": 4.0 * rows * found["vocabulary"] * found["head_share"] if language else 0.0,
    }
    return {**parts, "total": sum(parts.values())}
