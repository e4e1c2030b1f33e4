"""Step 6: the bias audits of every model, which ask for capability before they say anything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from prefect import task

from models.config import Config
from tasks.audits import counterfactual, occupation_pronoun
from tasks.audits.verdict import AuditResult, Capability
from tasks.loading import TrainedModel, load
from tasks.readers import read_rows
from tasks.receipts import Part, Receipt, run_step
from tasks.recipe import AuditConfig, Recipe

AUDITS = "audits.json"


class Subject(NamedTuple):
    """A model under audit, and what its audit may look at."""

    model: TrainedModel
    config: AuditConfig
    capability: Capability
    halves: occupation_pronoun.Halves | None
    """The starter's planted halves, where the recipe asks for them."""
    rows: Path | None
    """The specialist's prepared data."""


class Kind(NamedTuple):
    """How one kind of model is audited."""

    audit: Callable[[Subject], AuditResult]
    config: str
    """The part of the recipe's `audit` that the result depends on."""
    capability: Callable[[dict[str, Any], dict[str, Any]], Capability]
    """The held-out score and the floor that it must beat before an audit means anything: of (scores, baselines)."""
    reads_rows: bool = False
    """Whether the model is audited on its own test rows."""


def _audit_foundation(subject: Subject) -> AuditResult:
    config = subject.config.occupation_pronoun
    return occupation_pronoun.audit(subject.model.score, config, subject.capability, halves=subject.halves)


def _audit_masked_foundation(subject: Subject) -> AuditResult:
    from models.masked_scoring import fill_log_probabilities

    config, (network, tokenizer) = subject.config.occupation_pronoun, (subject.model.network, subject.model.tokenizer)

    def score(pairs: list[tuple[str, str]]) -> list[float]:
        return fill_log_probabilities(network, tokenizer, [(prefix, word, config.after) for prefix, word in pairs])

    return occupation_pronoun.audit(
        score,
        config,
        subject.capability,
        halves=subject.halves,
        scorer=f"masked token probability before {config.after.strip()!r}",
    )


def _audit_assistant(subject: Subject) -> AuditResult:
    """Audit a model that speaks inside an answer: the sentence stands after the assistant's mark."""
    from models.chat import render, turn

    return occupation_pronoun.audit(
        subject.model.score,
        subject.config.occupation_pronoun,
        subject.capability,
        halves=subject.halves,
        wrap=lambda prefix: render("Go on.") + turn(prefix),
        scorer="causal log-likelihood inside an answer",
    )


def _audit_classifier(subject: Subject) -> AuditResult:
    assert subject.rows is not None
    texts = [row["text"] for row in read_rows(subject.rows / "test.jsonl")]
    return counterfactual.audit(
        subject.model.classify,
        texts,
        subject.config.counterfactual,
        subject.capability,
        label_names=subject.model.label_names,
    )


def _better_than(baseline: str, score: str, higher: bool) -> Callable[[dict[str, Any], dict[str, Any]], Capability]:
    """Return the capability of being better than a baseline by a score."""
    return lambda scores, baselines: Capability(
        name=score, value=scores[score], floor=baselines[baseline][score], higher_is_better=higher
    )


def _better_than_chance(scores: dict[str, Any], baselines: dict[str, Any]) -> Capability:
    return Capability(name="preference_accuracy", value=scores["preference_accuracy"], floor=0.5, higher_is_better=True)


KINDS: dict[str, Kind] = {
    "foundation": Kind(_audit_foundation, "occupation_pronoun", _better_than("unigram", "bits_per_byte", False)),
    "masked_foundation": Kind(
        _audit_masked_foundation, "occupation_pronoun", _better_than("unigram", "masked_perplexity", False)
    ),
    "classification": Kind(
        _audit_classifier,
        "counterfactual",
        lambda scores, baselines: counterfactual.accuracy_capability(
            scores["accuracy"], baselines["majority"]["accuracy"]
        ),
        reads_rows=True,
    ),
    "instruction": Kind(_audit_assistant, "occupation_pronoun", _better_than("majority", "rouge_l", True)),
    "preference": Kind(_audit_assistant, "occupation_pronoun", _better_than_chance),
    "rlhf": Kind(_audit_assistant, "occupation_pronoun", _better_than("before", "mean_reward", True)),
}
"""How each kind of model is audited; the other kinds have no audit yet and leave an empty list."""


@task
def audit(recipe: Recipe, model: str, prepared: Receipt, trained: Receipt, assessed: Receipt) -> Receipt:
    """Audit ``model`` as its kind in the table is; its held-out scores tell whether it can be audited at all.

    Writes ``audits.json``, an empty list for a kind that has no audit.
    """
    weights = trained.part("model")
    kind = KINDS.get(recipe.kind(model))
    rows = prepared.part(recipe.specialists[model].data) if kind and kind.reads_rows else None
    config: Config | None = getattr(recipe.audit, kind.config) if kind else None
    halves = _starter_halves(recipe) if config is recipe.audit.occupation_pronoun else None

    def compute(out: Path, key: str) -> dict[str, Any]:
        results = []
        if kind is not None:
            capability = kind.capability(assessed.metrics["scores"], assessed.metrics["baselines"])
            found = load(weights.directory, recipe.objective(model))
            results.append(
                kind.audit(Subject(found, recipe.audit, capability, halves, rows.directory if rows else None))
            )
        written = [result.model_dump(mode="json") for result in results]
        (out / AUDITS).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        return {
            result.audit: {
                "verdict": result.verdict.value,
                "estimate": result.estimate,
                "low": result.low,
                "high": result.high,
                "margin": result.margin,
                "items": result.items,
            }
            for result in results
        }

    parents: list[Part] = [weights, assessed.part()]
    return run_step(
        recipe.name,
        f"audit/{model}",
        config={
            "kind": recipe.kind(model),
            **(config.model_dump(mode="json") if config else {}),
            "planted": halves and halves._asdict(),
        },
        parents=[*parents, *([rows] if rows else [])],
        compute=compute,
        code=("models.scoring", "models.masked_scoring"),
    )


def read_audits(audited: Receipt) -> list[AuditResult]:
    """Return the results that an audit step wrote."""
    return [AuditResult.model_validate(row) for row in json.loads((audited.directory / AUDITS).read_text())]


def _starter_halves(recipe: Recipe) -> occupation_pronoun.Halves | None:
    """Return the starter's planted halves where the recipe asks for them."""
    if recipe.audit.occupation_pronoun.halves != "starter":
        return None
    from tasks.starter.occupations import halves

    return occupation_pronoun.Halves(*halves(recipe.data.starter.seed))
