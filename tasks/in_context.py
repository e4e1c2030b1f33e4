"""What a causal model does from a prompt alone, with and without examples, before and after its tuning."""

import json
from pathlib import Path
from typing import Any

from prefect import task

from models.bases import longest_text
from models.objectives import OBJECTIVES
from tasks.audits.statistics import bootstrap_mean, wilson
from tasks.in_context_tasks import InContextConfig, InContextTask
from tasks.loading import TrainedModel, load
from tasks.receipts import Part, Receipt, run_step
from tasks.recipe import Recipe
from tasks.sources import DataConfig, Source
from tasks.workspace import file_digest, text_digest

SCORES = "scores.json"
ITEMS = "items.json"

Values = dict[str, dict[str, float]]
"""Task and number of examples -> number of a row -> its value."""


def asks(recipe: Recipe, model: str) -> bool:
    """Return whether a model of the recipe is asked by prompt: the recipe says what, and the model writes text."""
    return recipe.in_context is not None and OBJECTIVES[recipe.objective(model)].auto == "AutoModelForCausalLM"


@task
def in_context(recipe: Recipe, model: str, trained: Receipt, before: Receipt | None) -> Receipt:
    """Score ``model`` on every task of the recipe's ``in_context``, beside the model that it started from.

    Args:
        trained: the step that made the weights.
        before: this step's receipt of the model that it started from; none for a foundation.

    Writes ``scores.json``, a row for each task and number of examples, and ``items.json``, the value of each item,
    from which the change since ``before`` gets its interval item by item.
    """
    config = recipe.in_context
    assert config is not None, "the recipe asks nothing by prompt"
    assert asks(recipe, model), f"{model} writes no text"
    weights = trained.part("model")
    data = Part(name="prompts", directory=Path(recipe.data.root), digest=_data_digest(config, recipe.data))

    def compute(out: Path, key: str) -> dict[str, Any]:
        rows, values = measure(load(weights.directory, recipe.objective(model)), config, recipe.data)
        if before is not None:
            compare(rows, values, json.loads((before.directory / ITEMS).read_text(encoding="utf-8")))
        for name, content in ((SCORES, rows), (ITEMS, values)):
            (out / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return {"rows": [{name: value for name, value in row.items() if name != "example"} for row in rows]}

    return run_step(
        recipe.name,
        f"in_context/{model}",
        config=config.model_dump(mode="json"),
        parents=[weights, data, *([before.part()] if before else [])],
        compute=compute,
        code=("models.generation",),
    )


def table(receipt: Receipt) -> list[dict[str, Any]]:
    """Return the lines of a table: one a task, kind of score and number of examples, in the recipe's order.

    Fields: task, kind, shots (examples before each row), metric, n (rows), score with low and high (95 %), chance (a
    model that guesses), before (the model that it started from) and change with change_low and change_high, None
    for a foundation; also (other scores by name); fewer_shots (prompts that lost examples to fit into the context),
    cut (questions longer than the context), repeated (examples left out because they are scored), too_long (rows
    left out because an answer alone fills the context).
    """
    rows: list[dict[str, Any]] = receipt.metrics["rows"]
    return rows


def measure(model: TrainedModel, config: InContextConfig, data: DataConfig) -> tuple[list[dict[str, Any]], Values]:
    """Return the rows of the table (see `table`) with one example each, and the value of every item.

    Raises ValueError naming the task, and file and line where a row cannot be used.
    """
    from tasks.in_context_prompts import Item, Rows, chance, choose_rows, fitting, items
    from tasks.in_context_scoring import Answers, score

    context = longest_text(model.network)
    asked: dict[str, tuple[InContextTask, list[Item]]] = {}
    chosen: dict[str, Rows] = {}
    found: dict[str, Answers] = {}
    for name, own in config.tasks.items():
        try:
            if own.kind == "lm_eval":
                from tasks.suites import ask

                found |= {f"{name}/{shots}": said for shots, said in ask(model, name, own, data.root).items()}
                continue
            chosen[name] = fitting(own, choose_rows(own, data), model.tokenizer, context)
            for number in own.shots:
                asked[f"{name}/{number}"] = own, items(own, chosen[name], number, model.tokenizer, context)
        except ValueError as error:
            raise ValueError(f"in_context.tasks.{name}: {error}") from None
    for key, scored in score(model, asked).items():
        own, prompts = asked[key]
        name, _, shots = key.partition("/")
        found[key] = Answers(
            scored,
            list(chosen[name].scored),
            {
                "chance": chance(prompts),
                "fewer_shots": sum(item.shots < int(shots) for item in prompts),
                "cut": sum(item.cut for item in prompts),
                "repeated": chosen[name].repeated,
                "too_long": chosen[name].too_long,
                "example": {
                    "prompt": prompts[0].prompt,
                    "target": prompts[0].target,
                    "answer": scored.answers[0] if scored.answers else None,
                },
            },
        )
    table: list[dict[str, Any]] = []
    values: Values = {}
    for key in (f"{name}/{shots}" for name, own in config.tasks.items() for shots in own.shots):
        answers, name = found[key], key.partition("/")[0]
        own, scored = config.tasks[name], answers.scored
        value, low, high = interval(scored.values, own.seed)
        values[key] = dict(zip(map(str, answers.numbers), scored.values, strict=True))
        table.append(
            {
                "task": name,
                "kind": own.kind,
                "shots": int(key.partition("/")[2]),
                "metric": scored.metric,
                "n": len(scored.values),
                "score": value,
                "low": low,
                "high": high,
                "before": None,
                "change": None,
                "change_low": None,
                "change_high": None,
                "also": scored.also,
                **answers.beside,
            }
        )
    return table, values


def interval(values: list[float], seed: int) -> tuple[float, float, float]:
    """Return mean and 95 % interval: Wilson's for rates, which stays honest at 0 and 1, else the bootstrap's."""
    rate = set(values) <= {0.0, 1.0}
    found = wilson(sum(values), len(values)) if rate else bootstrap_mean(values, seed=seed)
    return found.estimate, found.low, found.high


def compare(rows: list[dict[str, Any]], values: Values, earlier: Values) -> None:
    """Put beside each row the score before tuning, and the change with its interval, items paired by their number."""
    for row in rows:
        key = f"{row['task']}/{row['shots']}"
        first, second = earlier[key], values[key]
        change = bootstrap_mean([value - first[number] for number, value in second.items() if number in first])
        row |= {
            "before": sum(first.values()) / len(first),
            "change": change.estimate,
            "change_low": change.low,
            "change_high": change.high,
        }


def _data_digest(config: InContextConfig, data: DataConfig) -> str:
    """Return the digest of all that the rows come from: local files, and what the starter is made of."""
    from tasks.readers import find_files
    from tasks.suite_files import suite_files

    made = [data.starter.model_dump(mode="json")] if any(own.starter for own in config.tasks.values()) else []
    files = []
    for name, own in config.tasks.items():
        for paths in filter(None, (own.paths, own.shot_paths)):
            try:
                suite = own.kind == "lm_eval"
                found = (
                    suite_files(own, data.root) if suite else find_files(Source(kind="files", paths=paths), data.root)
                )
            except ValueError as error:
                raise ValueError(f"in_context.tasks.{name}: {error}") from None
            files += [[shown, file_digest(path)] for shown, path in found]
    return text_digest(json.dumps([made, files]))
