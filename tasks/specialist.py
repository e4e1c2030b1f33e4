"""How a specialist is trained, from another model or from random weights: one job, one receipt."""

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from tasks.audits.lexicon import load_lexicon
from tasks.mitigation import Method, mitigate_rows
from tasks.readers import read_rows, write_rows
from tasks.receipts import Receipt, run_step
from tasks.recipe import Recipe, step_of
from tasks.training import train, work_directory

WITH_OPTIONS = ("question_answering", "instruction", "preference", "rlhf")
"""Objectives that have options of their own, in a recipe and in a job under their name."""


def train_specialist(
    recipe: Recipe,
    model: str,
    step: Literal["finetune", "scratch"],
    prepared: Receipt,
    encoded: Receipt,
    start: Receipt | None,
    reward: Receipt | None = None,
    method: Method | None = None,
    trial: str = "",
) -> Receipt:
    """Train ``model`` of the recipe in a subprocess; without a start, the foundation's architecture anew.

    With a ``method`` the training rows are mitigated first, and kept with the model as ``train.jsonl``. A ``trial``
    names one of many trainings of the same model, which the recipe given tells apart.
    Only the specialist's own data, the model that it starts from with its tokenizer, and the reward model's
    weights are its parents: new data for another specialist leaves it as it is.
    """
    specialist = recipe.specialists[model]
    rows = prepared.part(specialist.data)
    # A model lies with its tokenizer, which may have more tokens than the one that the corpus was encoded with.
    origin = start.part("model") if start else encoded.part("hf")
    judge = reward.part("model") if reward else None
    options = {name: getattr(specialist, name) for name in WITH_OPTIONS if name == specialist.task}
    config: dict[str, Any] = {
        "seed": recipe.seed,
        "max_examples": specialist.max_examples,
        **{name: values.model_dump(mode="json") for name, values in options.items()},
    }
    if start is None:
        config["model"] = recipe.pretrain.model.model_dump(mode="json")
    elif specialist.adapter is not None:  # there is nothing to freeze in random weights
        config["adapter"] = specialist.adapter.model_dump(mode="json")
    if method == "logit_pairing":
        config["logit_pairing"] = specialist.mitigation.logit_pairing
    trainer = specialist.train.model_dump(mode="json")
    name = step_of(step, model, method or trial)

    def compute(out: Path, key: str) -> dict[str, Any]:
        learnt = rows.directory / "train.jsonl"
        counts: dict[str, Any] = {}
        if method is not None:
            # Beside the checkpoints, which know their training rows by name: a run that is resumed finds them again.
            # Chosen before they are mitigated: weights balance the very rows that are learnt from.
            choose = import_module(f"models.{specialist.task}").choose
            given = choose(list(read_rows(learnt)), specialist.max_examples, recipe.seed)
            learnt = work_directory(key) / "train.jsonl"
            mitigated, counts = mitigate_rows(method, given, load_lexicon(recipe.audit.lexicon), recipe.seed)
            write_rows(learnt, mitigated)
            shutil.copy(learnt, out / "train.jsonl")
        job = {
            **config,
            "objective": specialist.task,
            "base": str(origin.directory) if start else None,
            "reward": str(judge.directory) if judge else None,
            "trainer": trainer,
            "train": str(learnt),
            "valid": str(rows.directory / "valid.jsonl"),
            "tokenizer": str(origin.directory),
        }
        found = train(job, recipe=recipe.name, step=name, key=key, out=out, launcher=recipe.launcher)
        return {**found, "mitigation": counts} if method else found

    return run_step(
        recipe.name,
        name,
        config={**config, "task": specialist.task, "train": trainer, **({"method": method} if method else {})},
        parents=[rows, origin, *([judge] if judge else [])],
        compute=compute,
        code=("models.fit", f"models.{specialist.task}", *(("tasks.mitigation",) if method else ())),
    )
