"""Step 7: every model on held-out data it never saw, each score beside its baselines."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from prefect import task

from tasks.loading import load
from tasks.metrics import Scores
from tasks.mitigation import Method
from tasks.paired import write_items
from tasks.readers import read_rows, write_rows
from tasks.receipts import Part, Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe, step_of
from tasks.workspace import file_digest, text_digest

SCORES = "scores.json"
PREDICTIONS = "predictions.jsonl"
ITEMS = "items.safetensors"


@task
def assess(
    recipe: Recipe,
    model: str,
    prepared: Receipt,
    encoded: Receipt,
    trained: Receipt,
    beside: Receipt | None,
    reward: Receipt | None = None,
    method: Method | None = None,
    trial: str = "",
) -> Receipt:
    """Score ``model`` on its test split, by the file of its kind in ``tasks/assessments``.

    A foundation stands beside the unigram distribution; a specialist beside simple baselines and another model,
    ``beside``: its twin from random weights, or the model that it was before; ``reward`` scores the answers of one
    that learnt by rlhf; ``method`` says how it was mitigated, ``trial`` which of many pairs of trainings it is. Writes
    ``scores.json`` (every score with its interval), ``items.safetensors`` (its sums item by item, for paired
    comparisons) and, for specialists, ``predictions.jsonl``.
    """
    objective = recipe.objective(model)
    kind = import_module(f"tasks.assessments.{objective}")
    weights = trained.part("model")
    if model == FOUNDATION:
        held_out, parents, config = encoded.part("tokens"), [weights, encoded.part("tokens")], {}
    else:
        assert beside is not None, "a specialist is assessed beside another model"
        specialist = recipe.specialists[model]
        held_out = prepared.part(specialist.data)
        parents = [weights, held_out, beside.part("model"), *([reward.part("model")] if reward else [])]
        config = specialist.model_dump(mode="json", exclude={"train", "adapter"})

    def compute(out: Path, key: str) -> dict[str, Any]:
        scores: dict[str, Scores]
        if model == FOUNDATION:
            scores = kind.assess(load(weights.directory, objective), held_out.directory)
        else:
            assert beside is not None
            contenders = {"model": load(weights.directory, objective)}
            # A twin has the same head; the model before had the one of its own objective.
            other = objective if recipe.has_control(model) else recipe.objective(recipe.specialists[model].start)
            contenders[recipe.beside(model)] = load(beside.part("model").directory, other)
            if reward is not None:
                contenders["reward"] = load(reward.part("model").directory, "reward")
            predictions, scores = kind.assess(contenders, recipe.specialists[model], held_out.directory, recipe.seed)
            write_rows(out / PREDICTIONS, predictions)
        baselines = {name: found.flat() for name, found in scores.items() if name != "model"}
        write_items(out / ITEMS, {name: found.terms() for name, found in scores.items()})
        whole = {name: found.model_dump(mode="json") for name, found in scores.items()}
        (out / SCORES).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return {"scores": scores["model"].flat(), "baselines": baselines, "test_digest": _test_digest(held_out, reward)}

    return run_step(
        recipe.name,
        step_of("assess", model, method or trial),
        config={"objective": objective, **config, "seed": recipe.seed},
        parents=parents,
        compute=compute,
        code=(f"tasks.assessments.{objective}", "models.scoring", "models.generation"),
    )


def assess_again(recipe: Recipe, model: str, contenders: dict[str, Path], held_out: Part) -> Scores:
    """Score a registered model, with its own tokenizer, on another test split than it was assessed on.

    Args:
        contenders: the directories of the ``model``, and, for one tuned on pairs of answers, of the version
            ``before`` and of the model whose ``reward`` counts.
        held_out: the prepared data set whose ``test.jsonl`` is asked.
    """
    objective = recipe.objective(model)
    kind = import_module(f"tasks.assessments.{objective}")
    heads = {"model": objective, "before": "causal_lm", "reward": "reward"}
    found = {name: load(directory, heads[name]) for name, directory in contenders.items()}
    test = list(read_rows(held_out.directory / "test.jsonl"))
    scores: Scores
    if model == FOUNDATION:
        scores = kind.assess_again(found["model"], test)
    else:
        scores = kind.assess_again(found, recipe.specialists[model], test)
    return scores


def _test_digest(held_out: Part, reward: Receipt | None) -> str:
    """Return the digest of the test split alone: scores of unequal digests are never compared.

    A mean reward is comparable only where the same model gave it, so that one belongs to the test.
    """
    digest = file_digest(next(path for path in sorted(held_out.directory.glob("test.*"))))
    return digest if reward is None else text_digest(f"{digest} {reward.part('model').digest}")
