"""What the steps around the trainings take: from the speed at which the model scores text, or from an earlier run.

The constants are those of receipts of the starter and the novels on two cores; they are stretched by how slowly a
training process starts here and now (`Speed.slowness`).
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tasks.audit_table import asked as audits_of
from tasks.cost import read_receipt
from tasks.in_context import asks
from tasks.plan_data import Survey
from tasks.readers import find_files
from tasks.recipe import FOUNDATION, Recipe

STARTUP = 5.5
"""Seconds that a training process took to start where the constants below were measured."""
GENERATING = 4.0
"""How many times longer a token takes to be generated than to be scored: one after the other, in batches."""
FP32 = 1.5
"""How many times as many tokens a second are scored in float32 as trained in bf16."""
VERSIONING, CLEANING, DECIDING, FIRST_DECISION, REPORTING = 1.0, 0.5, 0.6, 1.0, 3.0
ASSESSING, AUDITING, GUARDING, PROMPTING = 0.7, 1.5, 2.0, 0.7
"""Seconds of a step beside its model's own work."""
PERTURBED = 2.0
"""How many times the test split is asked again by `guard`, changed."""
OVERLAPPING = 0.5
"""Seconds of `overlap` for one of `prepare`, which looks for the same runs of words."""
BASELINE_ROW = 5e-5
"""Seconds a training row that the simple baselines of an assessment learn from."""
FLOW, OVERHEAD = 10.0, 0.4
"""Seconds of a run, and of each of its steps, that are in no receipt: the server's start, imports, digests."""
PROMPT_SHARE = 0.4
"""Tokens of a prompt with its answer, as a share of the context."""
DEFAULT_ITEMS = 500
"""Items of a task whose file is not counted."""
SEQUENCES = {"crows_pairs": (12, 18), "stereoset": (3, 15), "winobias": (2, 15), "bbq": (3, 80)}
"""Published set -> sequences that are scored for an item (CrowS-Pairs: by five random twins too), and their tokens."""


class Speed(NamedTuple):
    """How fast this machine is with this model now."""

    scored: float
    """Tokens of text that the foundation scores in a second."""
    startup: float
    """Seconds until a training process begins."""
    context: int

    @classmethod
    def of(cls, measured: dict[str, Any], first: dict[str, Any] | None) -> "Speed":
        """Return the speeds that a measurement found; `first` is the largest training's."""
        trained = first["step_positions"] / first["step_seconds"] if first else 10_000.0
        return cls(
            scored=float(measured.get("scored_per_second") or FP32 * trained),
            startup=float(measured["startup"]) or STARTUP,
            context=int(first["context"]) if first else 128,
        )

    @property
    def slowness(self) -> float:
        """How many times slower than where the constants come from."""
        return self.startup / STARTUP


def list_steps(recipe: Recipe, survey: Survey, speed: Speed) -> Iterator[tuple[str, str, float, str]]:
    """Yield (step, model, seconds, where the figure comes from) of all steps that train nothing.

    What an earlier run's receipt says goes first; the steps in no receipt come last, under the name "flow".
    """
    slow, count = speed.slowness, 0
    for step, model, seconds in _reckoned(recipe, survey, speed):
        before = read_receipt(recipe.name, step)
        count += 1
        if before is not None and before.cost["seconds"] > 0:
            yield step, model, before.cost["seconds"], "earlier run"
        else:
            yield step, model, seconds, "reckoned"
    trained = 1 + sum(1 + recipe.has_control(name) for name in recipe.specialists)
    yield "flow", "", slow * (FLOW + OVERHEAD * (count + trained)), "reckoned"


def _reckoned(recipe: Recipe, survey: Survey, speed: Speed) -> Iterator[tuple[str, str, float]]:
    slow = speed.slowness
    yield "ingest", "", survey.reading + VERSIONING * slow
    yield "prepare", "", survey.preparing + CLEANING * slow
    yield "tokenizer", "", survey.encoding
    for model in recipe.models():
        methods = ["", *(f"+{name}" for name in recipe.mitigations(model) if name == _method(recipe, model))]
        for ending in methods:
            yield f"assess/{model}{ending}", model, slow * ASSESSING + _assessed(recipe, survey, speed, model)
            yield f"audit/{model}{ending}", model, slow * AUDITING + _audited(recipe, speed, model)
        again = 0.0 if model == FOUNDATION else PERTURBED * _assessed(recipe, survey, speed, model)
        yield f"guard/{model}", model, slow * GUARDING + again
        if asks(recipe, model):
            yield f"in_context/{model}", model, slow * PROMPTING + _prompted(recipe, speed)
        first = FIRST_DECISION if model == FOUNDATION else 0.0
        yield f"promote/{model}", model, slow * (DECIDING + first)
    yield "overlap", "", slow * CLEANING + OVERLAPPING * survey.preparing
    yield "report", "", slow * REPORTING
    yield "cards", "", slow * DECIDING


def _method(recipe: Recipe, model: str) -> str:
    return "" if model == FOUNDATION else recipe.specialists[model].mitigation.method


def _assessed(recipe: Recipe, survey: Survey, speed: Speed, model: str) -> float:
    """Return the seconds of scoring a model and what stands beside it on the test split.

    The foundation's is the first step that needs torch in the flow's own process, which imports it.
    """
    if model == FOUNDATION:
        passes = 1 if recipe.pretrain.family == "causal" else 2
        return speed.startup + passes * survey.tokens["corpus"]["test"] / speed.scored
    specialist = recipe.specialists[model]
    data = survey.datasets[specialist.data]
    tokens = 2 * data.rows["test"] * speed.context * PROMPT_SHARE
    seconds = tokens / speed.scored
    if specialist.task in ("instruction", "rlhf"):
        seconds += 2 * data.rows["test"] * specialist.max_new_tokens * GENERATING / speed.scored
    if recipe.has_control(model):
        seconds += BASELINE_ROW * data.rows["train"] * speed.slowness
    return seconds


def _audited(recipe: Recipe, speed: Speed, model: str) -> float:
    """Return the seconds of scoring the published sets that the recipe has for a kind of model."""
    tokens = 0.0
    for audit in audits_of(recipe.kind(model), recipe.audit):
        sources = getattr(getattr(recipe.audit, audit.section), "sources", [])
        sequences, length = SEQUENCES.get(audit.section, (1, 30))
        items = sum(
            _lines(path)
            for source in sources
            if source.kind == "files"
            for _, path in find_files(source, recipe.data.root)
        )
        tokens += items * sequences * length
    return tokens / speed.scored


def _lines(path: Path) -> int:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        return sum(1 for _ in file)


def _prompted(recipe: Recipe, speed: Speed) -> float:
    """Return the seconds of all tasks by prompt alone."""
    assert recipe.in_context is not None
    seconds = 0.0
    for task in recipe.in_context.tasks.values():
        labels = max(2, len(task.labels))
        choices = {"choice": 4, "lm_eval": 4, "minimal_pairs": 2, "classification": labels}
        answers = choices.get(task.kind, 1)
        items = min(task.limit, DEFAULT_ITEMS) * len(task.shots)
        seconds += items * answers * speed.context * PROMPT_SHARE / speed.scored
        if task.kind == "generation":
            seconds += items * task.max_new_tokens * GENERATING / speed.scored
    return seconds
