"""Step 6: the bias audits of every model, which ask for capability before they say anything."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from prefect import task

from models.config import Config
from tasks.audit_table import Audit, Subject, asked, self_test
from tasks.audits import counterfactual, occupation_pronoun
from tasks.audits.lexicon import load_lexicon
from tasks.audits.verdict import AuditResult, Capability, refused
from tasks.loading import Unscorable, load
from tasks.mitigation import Method
from tasks.readers import find_files
from tasks.receipts import Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe, step_of
from tasks.sources import Source
from tasks.workspace import file_digest

AUDITS = "audits.json"
TALKING = ("instruction", "preference", "rlhf")
"""Kinds of models that speak inside an answer of the chat format."""


class Floor(NamedTuple):
    """The held-out score that a kind of model must have before an audit of it means anything: better than this."""

    score: str
    baseline: str
    """A baseline's name, or a number."""
    higher_is_better: bool = True


FLOORS = {
    "foundation": Floor("bits_per_byte", "unigram", higher_is_better=False),
    "masked_foundation": Floor("masked_perplexity", "unigram", higher_is_better=False),
    "token_classification": Floor("f1", "all_o"),
    "question_answering": Floor("f1", "majority"),
    "instruction": Floor("rouge_l", "majority"),
    "rlhf": Floor("mean_reward", "before"),
}


def capability(kind: str, scores: dict[str, Any], baselines: dict[str, Any]) -> Capability:
    """Return a model's held-out score beside the floor of its kind."""
    if kind == "classification":
        return counterfactual.accuracy_capability(scores["accuracy"], baselines["majority"]["accuracy"])
    if kind == "preference":  # half is chance
        return Capability(
            name="preference_accuracy", value=scores["preference_accuracy"], floor=0.5, higher_is_better=True
        )
    name, baseline, higher = FLOORS[kind]
    return Capability(name=name, value=scores[name], floor=baselines[baseline][name], higher_is_better=higher)


@task
def audit(
    recipe: Recipe,
    model: str,
    prepared: Receipt,
    trained: Receipt,
    assessed: Receipt,
    started: Receipt | None = None,
    method: Method | None = None,
) -> Receipt:
    """Audit ``model`` and what it learnt from, as its kind in the table of audits is.

    Its held-out scores tell whether it can be audited at all; ``started``, the audits of the model that it starts
    from, what it made of that one's bias; ``method`` how it was mitigated. An audit whose own code fails on planted
    fixtures is REFUSED, and so is a model that cannot be scored the audit's way. Writes ``audits.json``, an empty
    list for a kind that has no audit.
    """
    kind, weights = recipe.kind(model), trained.part("model")
    table = asked(kind, recipe.audit)
    rows = prepared.part("corpus" if model == FOUNDATION else recipe.specialists[model].data)
    halves = _starter_halves(recipe) if _has_occupations(table) else None
    before = started if reads_start(recipe, model) else None

    def compute(out: Path, key: str) -> dict[str, Any]:
        subject = None
        results: list[AuditResult] = []
        for one in table:
            subject = subject or Subject(
                model=load(weights.directory, recipe.objective(model)),
                config=recipe.audit,
                capability=capability(kind, assessed.metrics["scores"], assessed.metrics["baselines"]),
                masked=recipe.pretrain.family == "masked",
                root=recipe.data.root,
                lexicon=load_lexicon(recipe.audit.lexicon),
                halves=halves,
                rows=rows.directory,
                parent=read_audits(before) if before else [],
                talks=kind in TALKING,
                parent_talks=model != FOUNDATION and recipe.specialists[model].start != FOUNDATION,
                max_new_tokens=48 if model == FOUNDATION else recipe.specialists[model].max_new_tokens,
            )
            results += _made(one, subject)
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

    sections: dict[str, Config] = {one.section: getattr(recipe.audit, one.section) for one in table}
    return run_step(
        recipe.name,
        step_of("audit", model, method),
        config={
            "kind": kind,
            **{name: section.model_dump(mode="json") for name, section in sections.items()},
            "planted": halves and halves._asdict(),
            "amplification_margin": recipe.audit.amplification_margin
            if before or any(one.name for one in table)
            else None,
            "files": dict(file for section in (*sections.values(), recipe.audit) for file in _files(section, recipe)),
        },
        parents=[
            weights,
            assessed.part(),
            *([rows] if any(one.rows for one in table) else []),
            *([before.part()] if before else []),
        ],
        compute=compute,
        code=("models.scoring", "models.masked_scoring", "models.pair_scoring", "models.drawing"),
    )


def _made(one: Audit, subject: Subject) -> list[AuditResult]:
    """Return the results of an audit, or that it may not speak and why."""
    section = getattr(subject.config, one.section)
    named = (getattr(section, key, None) for key in ("margin", "margin_ambiguous", "sentiment_margin"))
    margin = next((value for value in named if isinstance(value, float)), 0.0)
    name = metric = one.name or one.section
    if wrong := self_test(one):
        reason = f"The audit's own code fails on a planted fixture: {wrong}"
        return [refused(name, "not scored", metric, margin, reason, subject.capability)]
    try:
        return one.run(subject)
    except Unscorable as error:
        reason = f"The model cannot be scored this way: {error}."
        return [refused(name, "not scored", metric, margin, reason, subject.capability)]


def read_audits(audited: Receipt) -> list[AuditResult]:
    """Return the results that an audit step wrote."""
    return [AuditResult.model_validate(row) for row in json.loads((audited.directory / AUDITS).read_text())]


def reads_start(recipe: Recipe, model: str) -> bool:
    """Return whether the audits of a model are held against those of the model that it starts from."""
    return model != FOUNDATION and _has_occupations(asked(recipe.kind(model), recipe.audit))


def _has_occupations(table: list[Audit]) -> bool:
    return any(one.section == occupation_pronoun.AUDIT for one in table)


def _starter_halves(recipe: Recipe) -> occupation_pronoun.Halves | None:
    """Return the starter's planted halves where the recipe asks for them."""
    if "starter" not in (recipe.audit.occupation_pronoun.halves, recipe.audit.association.halves):
        return None
    from tasks.starter.occupations import halves

    return occupation_pronoun.Halves(*halves(recipe.data.starter.seed))


def _files(section: Config, recipe: Recipe) -> list[tuple[str, str]]:
    """Return name and digest of every local file that an audit reads."""
    sources: list[Source] = [source for source in getattr(section, "sources", []) if source.kind == "files"]
    if paths := [str(path) for path in getattr(section, "paths", [])]:
        sources.append(Source(kind="files", paths=paths))
    found = [file for source in sources for file in find_files(source, recipe.data.root)]
    own = [getattr(section, name, None) for name in ("path", "prompts", "lexicon")]
    found += [(str(path), Path(path)) for path in own if path is not None]
    return [(shown, file_digest(path)) for shown, path in found]
