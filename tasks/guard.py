"""Step 7c: what a better score may have cost: robustness, general knowledge, the length of answers, time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from models.objectives import OBJECTIVES
from tasks.loading import TrainedModel, load
from tasks.paired import write_items
from tasks.readers import read_rows
from tasks.receipts import Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe
from tasks.robustness import METRICS, Pair, choose, load_templates
from tasks.workspace import file_digest

if TYPE_CHECKING:
    from models.generation import Continuation

GUARD = "guard.json"
ITEMS = "items.safetensors"
BEFORE, AFTER = "before", "after"
"""What a guardrail compares, in `ITEMS`: contender -> guardrail -> sums, as `tasks.paired` reads them."""
UNADAPTED = "before the adaptation"
"""What an adapted foundation was, among the models before."""
NEW_TOKENS = 16
"""Tokens that a foundation writes where its latency is taken."""
PROMPT_WORDS = 8

Row = dict[str, Any]


@task
def guard(
    recipe: Recipe,
    model: str,
    prepared: Receipt,
    encoded: Receipt,
    trained: Receipt,
    before: dict[str, Receipt],
) -> Receipt:
    """Measure what no gate on one score sees, for the model that is kept.

    Args:
        trained: the step that made the weights.
        before: the language models that it was: the foundation, and the specialist that it starts from; for a
            foundation, what it was before its adaptation.

    Writes ``guard.json`` (tables with intervals) and ``items.safetensors`` (the sums of rows and windows). The
    metrics have ``guardrails``, plain numbers by name; times stand with the cost, since no two runs agree on them.
    """
    weights, objective = trained.part("model"), recipe.objective(model)
    rows = prepared.part("corpus" if model == FOUNDATION else recipe.specialists[model].data)
    writes = OBJECTIVES[objective].auto == "AutoModelForCausalLM"
    earlier = {name: receipt.part("model") for name, receipt in before.items()} if writes else {}
    text = encoded.part("tokens")
    polarity = recipe.robustness.polarity.get(model, {}) if objective == "classification" else {}
    extra = recipe.robustness.templates if polarity else None

    def compute(out: Path, key: str) -> dict[str, Any]:
        from tasks import forgetting

        one = load(weights.directory, objective)
        found, items, cost = _asked(recipe, model, one, rows.directory, polarity)
        found["forgetting"] = []
        if earlier:
            others = {name: load(part.directory, recipe.pretrain.objective) for name, part in earlier.items()}
            found["forgetting"], windows = forgetting.measure(others, one, text.directory, recipe.seed)
            items["forgetting"] = next(iter(windows.values()))
        found["not_asked"] = not_asked(recipe, model, bool(earlier))
        (out / GUARD).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sides = {side: {name: pair[i] for name, pair in items.items()} for i, side in enumerate((BEFORE, AFTER))}
        write_items(out / ITEMS, sides)
        return {"guardrails": flat(found), **cost}

    return run_step(
        recipe.name,
        f"guard/{model}",
        config={
            "objective": objective,
            "seed": recipe.seed,
            "max_new_tokens": _limit(recipe, model),
            "polarity": polarity,
            "templates": file_digest(extra) if extra and extra.is_file() else str(extra or ""),
            "not_asked": not_asked(recipe, model, bool(earlier)),
        },
        parents=[weights, rows, *([text, *earlier.values()] if earlier else [])],
        compute=compute,
        code=("models.scoring", "models.generation"),
    )


def guardrails(guarded: Receipt) -> dict[str, float]:
    """Return everything that a gate may hold a margin against, by name; more is worse but for inputs_per_second.

    robustness_<change>: the score that is lost under it; forgetting: bits per byte that the model lost on general
    text since the foundation; answer_tokens, answer_cut_share; latency_ms, latency_p95_ms, inputs_per_second.
    """
    times = {name: value for name, value in guarded.cost.items() if name.startswith(("latency_", "inputs_"))}
    return {**guarded.metrics["guardrails"], **times}


def read_guard(guarded: Receipt) -> dict[str, Any]:
    """Return the tables that the step wrote, with the times and the machine."""
    found: dict[str, Any] = json.loads((guarded.directory / GUARD).read_text(encoding="utf-8"))
    return {**found, "latency": {**guardrails(guarded), **guarded.cost, "machine": guarded.metrics["machine"]}}


def flat(found: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of the tables that do not depend on the hour."""
    numbers = {f"robustness_{row['name']}": row["lost"] for row in found["robustness"]}
    if found["forgetting"]:
        numbers["forgetting"] = found["forgetting"][0]["forgetting"]
    if found["lengths"]:
        numbers |= {"answer_tokens": found["lengths"]["mean"], "answer_cut_share": found["lengths"]["cut_share"]}
    return numbers


def not_asked(recipe: Recipe, model: str, forgets: bool) -> dict[str, str]:
    """Return what is not measured of a model, and why."""
    objective = recipe.objective(model)
    reasons = {}
    if objective not in METRICS:
        reasons["robustness"] = "its score is no answer to a text that could be misspelt"
    elif objective == "classification" and model not in recipe.robustness.polarity:
        reasons["negation"] = "the recipe does not say which of its labels praise and blame (robustness.polarity)"
    elif objective == "token_classification":
        reasons["spaces"] = "its words come one by one"
    if not forgets:
        if model == FOUNDATION:
            why = "it was adapted to nothing" if recipe.adapt is None else "the adaptation measures it"
        else:
            why = "it writes no text any more, so nobody can ask for what it knew"
        reasons["forgetting"] = why
    return reasons


def _limit(recipe: Recipe, model: str) -> int:
    return NEW_TOKENS if model == FOUNDATION else recipe.specialists[model].max_new_tokens


def _asked(
    recipe: Recipe, model: str, one: TrainedModel, rows: Path, polarity: dict[Any, str]
) -> tuple[dict[str, Any], dict[str, Pair], dict[str, Any]]:
    """Return robustness and lengths, the scores of the rows by guardrail, and the cost with the times."""
    from tasks import latency, robustness

    objective, seed = recipe.objective(model), recipe.seed
    asked = choose([_question(objective, row) for row in read_rows(rows / "test.jsonl")], seed)
    call = caller(recipe, model, one)
    single = latency.time_single(lambda row: call([row]), asked)
    answers, speed = latency.time_batch(call, asked)
    cost = {"cost": {**single, "inputs_per_second": speed}, "machine": latency.machine_name()}
    found: dict[str, Any] = {"robustness": [], "lengths": None}
    items: dict[str, Pair] = {}
    if objective in METRICS:
        texts = _texts(answers)
        found["robustness"], items = robustness.measure(objective, lambda rows: _texts(call(rows)), asked, texts, seed)
    if polarity:
        for says, label in polarity.items():
            if label not in one.label_names:
                known = ", ".join(one.label_names)
                raise ValueError(f"robustness.polarity.{model}.{says}: no label {label!r}; there are {known}")
        templates = load_templates(recipe.robustness.templates)
        row, values = robustness.negations(one, polarity, templates, seed)
        found["robustness"].append(row)
        items[row["name"]] = values
    items = {f"robustness_{name}": pair for name, pair in items.items()}
    if objective in ("instruction", "preference", "rlhf"):
        from models.rows import encode

        said = [len(ids) for ids in encode(one.tokenizer, [f" {row['output'].strip()}" for row in asked])]
        found["lengths"] = latency.answer_lengths(answers, said, _limit(recipe, model))
    return found, items, cost


def _question(objective: str, row: Row) -> Row:
    """Return a test row in the form in which the model is asked: pairs of answers as a request with its answer."""
    if objective in ("preference", "rlhf", "reward"):
        return {"id": row["id"], "instruction": row["prompt"], "input": "", "output": row["chosen"]}
    return row


def caller(recipe: Recipe, model: str, one: TrainedModel) -> Callable[[list[Row]], list[Any]]:
    """Return how the model is asked, as it is where it serves: it takes rows and gives an answer to each.

    A causal foundation goes on from the first words of a text, a masked one reads the text once; a reward model
    scores an answer.
    """
    objective = recipe.objective(model)
    match objective:
        case "classification":
            return lambda rows: one.classify([row["text"] for row in rows])[0]
        case "token_classification":
            return one.tag
        case "question_answering":
            options = recipe.specialists[model].question_answering
            return lambda rows: one.find_answers(rows, options)
        case "causal_lm":
            from models.bases import longest_text
            from models.generation import continuations

            def begin(row: Row) -> str:
                return " ".join(row["text"].split()[:PROMPT_WORDS])

            length = min(NEW_TOKENS, longest_text(one.network) // 2)
            return lambda rows: continuations(one.network, one.tokenizer, [begin(row) for row in rows], length)
        case "masked_lm":
            return lambda rows: list(one.embed([row["text"] for row in rows]))
        case "reward":
            return lambda rows: _rewards(one, rows)
    limit = recipe.specialists[model].max_new_tokens
    return lambda rows: one.answers(rows, limit)


def _rewards(one: TrainedModel, rows: list[Row]) -> list[float]:
    import numpy as np

    from models.bases import longest_text
    from models.preference_rows import answer_ids, prompt_ids
    from models.reward import score

    asked = prompt_ids([row["instruction"] for row in rows], one.tokenizer)
    said = answer_ids([row["output"] for row in rows], one.tokenizer)
    longest = longest_text(one.network)
    whole = [np.concatenate(pair)[-longest:] for pair in zip(asked, said, strict=True)]
    return [float(value) for value in score(one.network, one.tokenizer, whole)]


def _texts(answers: "list[Any] | list[Continuation]") -> list[Any]:
    """Return what was said: of an answer its text, of anything else itself."""
    return [getattr(answer, "text", answer) for answer in answers]
