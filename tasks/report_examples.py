"""What the report shows of single rows: what was asked, what was expected, and what each model answered."""

from typing import Any

from models.chat import question

Runs = list[list[str | None]]
"""Pieces of a text, each with the name of the entity that it is, or None: [["Ada Cole", "PER"], ["left .", None]]."""


LEFT_OUT = ("id", "tokens", "question", "confidence")
"""Fields of a prediction that say again what the row says, or that are no answer."""


def example(kind: str, row: dict[str, Any] | None, answers: dict[str, Any]) -> dict[str, Any]:
    """Return one held-out row and the answers to it, as the report shows them.

    Args:
        row: the row of the data set; None where it is not at hand, and only what the predictions say again is shown.
        answers: its line of the predictions: by contender what it answered, and ``truth`` where there is one.

    Returns ``id``, ``asked`` (a text), ``answers`` (contender -> text or `Runs`) and ``agree``, the contenders that
    are right.
    """
    given = {name: value for name, value in answers.items() if name not in LEFT_OUT}
    truth = given.get("truth")
    if kind == "token_classification":
        words = (row or answers)["tokens"]
        shown: dict[str, Any] = {name: entities(words, tags) for name, tags in given.items()}
    else:
        shown = {name: _text(value) for name, value in given.items()}
    right = truth if kind == "question_answering" and isinstance(truth, list) else [truth]
    agree = [name for name, value in given.items() if name != "truth" and truth is not None and value in right]
    said = asked(kind, row) if row else str(answers.get("question", ""))
    return {"id": answers["id"], "asked": said, "answers": shown, "agree": agree}


def entities(tokens: list[str], tags: list[str]) -> Runs:
    """Return the sentence cut into its entities (BIO tags) and what stands between them.

    >>> entities(["Ada", "Cole", "left"], ["B-PER", "I-PER", "O"])
    [['Ada Cole', 'PER'], ['left', None]]
    """
    runs: Runs = []
    before = None
    for token, tag in zip(tokens, tags, strict=True):
        place, _, name = tag.partition("-")
        label = name or None
        # An I that continues nothing begins an entity, as in the evaluation (CoNLL-2000).
        if runs and label == before and place != "B":
            runs[-1][0] = f"{runs[-1][0]} {token}"
        else:
            runs.append([token, label])
        before = label
    return runs


def asked(kind: str, row: dict[str, Any]) -> str:
    """Return what a row asks, as one text; of a tagged sentence nothing, since its answers show it."""
    match kind:
        case "classification":
            return str(row["text"])
        case "token_classification":
            return ""
        case "question_answering":
            return f"{row['question']}\n{row['context']}"
        case "instruction":
            return question(row["instruction"], row["input"])
        case "rlhf":
            return str(row["prompt"])
    return f"{row['prompt']}\nchosen: {row['chosen']}\nrejected: {row['rejected']}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return " / ".join(_text(part) for part in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    return str(value)
