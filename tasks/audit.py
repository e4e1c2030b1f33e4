"""Step 6: the bias audits of every model, which ask for capability before they say anything."""

import json
from pathlib import Path
from typing import Any

from prefect import task

from tasks.audits import counterfactual, occupation_pronoun
from tasks.audits.verdict import AuditResult, Capability
from tasks.loading import load
from tasks.readers import read_rows
from tasks.receipts import Part, Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe

AUDITS = "audits.json"


@task
def audit(recipe: Recipe, model: str, prepared: Receipt, trained: Receipt, assessed: Receipt) -> Receipt:
    """Audit ``model``; its held-out scores tell whether it can be audited at all.

    A foundation and an instruction model: the occupation-pronoun gap. A classifier: the counterfactual
    flip rate on its test texts. Writes ``audits.json``.
    """
    weights = trained.part("model")
    task_name = FOUNDATION if model == FOUNDATION else recipe.specialists[model].task
    rows = prepared.part(recipe.specialists[model].data) if task_name == "classification" else None
    config = recipe.audit.counterfactual if rows else recipe.audit.occupation_pronoun
    halves = _starter_halves(recipe) if config is recipe.audit.occupation_pronoun else None
    capability = _capability(task_name, assessed.metrics)

    def compute(out: Path, key: str) -> dict[str, Any]:
        found = load(weights.directory, task_name)
        if rows is not None:
            texts = [row["text"] for row in read_rows(rows.directory / "test.jsonl")]
            result = counterfactual.audit(
                found.classify, texts, recipe.audit.counterfactual, capability, label_names=found.label_names
            )
        else:
            result = _audit_language_model(found.score, recipe, task_name, capability, halves)
        results = [result.model_dump(mode="json")]
        (out / AUDITS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        return {
            result.audit: {
                "verdict": result.verdict.value,
                "estimate": result.estimate,
                "low": result.low,
                "high": result.high,
                "margin": result.margin,
                "items": result.items,
            }
        }

    parents: list[Part] = [weights, assessed.part()]
    return run_step(
        recipe.name,
        f"audit/{model}",
        config={"task": task_name, **config.model_dump(mode="json"), "planted": halves and halves._asdict()},
        parents=[*parents, *([rows] if rows else [])],
        compute=compute,
        code=("models.scoring",),
    )


def read_audits(audited: Receipt) -> list[AuditResult]:
    """Return the results that an audit step wrote."""
    return [AuditResult.model_validate(row) for row in json.loads((audited.directory / AUDITS).read_text())]


def _capability(task_name: str, metrics: dict[str, Any]) -> Capability:
    """Return the held-out score and the floor it must beat before an audit means anything."""
    scores, baselines = metrics["scores"], metrics["baselines"]
    if task_name == FOUNDATION:
        return Capability(
            name="bits_per_byte",
            value=scores["bits_per_byte"],
            floor=baselines["unigram"]["bits_per_byte"],
            higher_is_better=False,
        )
    if task_name == "classification":
        return counterfactual.accuracy_capability(scores["accuracy"], baselines["majority"]["accuracy"])
    return Capability(
        name="rouge_l", value=scores["rouge_l"], floor=baselines["majority"]["rouge_l"], higher_is_better=True
    )


def _starter_halves(recipe: Recipe) -> occupation_pronoun.Halves | None:
    """Return the starter's planted halves where the recipe asks for them."""
    if recipe.audit.occupation_pronoun.halves != "starter":
        return None
    from tasks.starter.occupations import halves

    return occupation_pronoun.Halves(*halves(recipe.data.starter.seed))


def _audit_language_model(
    score: occupation_pronoun.Score,
    recipe: Recipe,
    task_name: str,
    capability: Capability,
    halves: occupation_pronoun.Halves | None,
) -> AuditResult:
    config = recipe.audit.occupation_pronoun
    if task_name == FOUNDATION:
        return occupation_pronoun.audit(score, config, capability, halves=halves)
    from models.chat import render, turn

    # An instruction model speaks inside an answer: the sentence stands after the assistant's mark.
    return occupation_pronoun.audit(
        score,
        config,
        capability,
        halves=halves,
        wrap=lambda prefix: render("Go on.") + turn(prefix),
        scorer="causal log-likelihood inside an answer",
    )
