"""One held-out input for a registered model, in the form that the served model asks for."""

from typing import Any

from models.chat import question
from tasks.readers import read_rows
from tasks.receipts import Part, Receipt
from tasks.recipe import FOUNDATION, Recipe

MASK = "[MASK]"
"""What a served masked model fills in, whatever its tokenizer calls it."""


def example_input(recipe: Recipe, model: str, prepared: Receipt) -> list[Any]:
    """Return one held-out input in the form that the served model asks for, kept with the version."""
    if model == FOUNDATION:
        words = _first(prepared.part("corpus"))["text"].split()[:8]
        return [" ".join(words if recipe.pretrain.family == "causal" else [*words[:-1], MASK])]
    row = _first(prepared.part(recipe.specialists[model].data))
    match recipe.specialists[model].task:
        case "classification":
            return [row["text"]]
        case "token_classification":
            return [" ".join(row["tokens"])]
        case "question_answering":
            return [{"question": row["question"], "context": row["context"]}]
        case "instruction":
            return [question(row["instruction"], row["input"])]
        case "reward":
            return [{"prompt": row["prompt"], "answer": row["chosen"]}]
    return [row["prompt"]]


def _first(part: Part) -> dict[str, Any]:
    return next(iter(read_rows(part.directory / "test.jsonl")))
