"""Instruction: the greedy answer to each request, beside copied answers and the twin from scratch."""

from pathlib import Path
from typing import Any

from models.chat import question
from tasks.baselines import instruction_baselines
from tasks.loading import TrainedModel
from tasks.metrics import Scores, instruction_scores
from tasks.readers import read_rows
from tasks.recipe import SpecialistConfig

SHOWN = "exact_match"
"""The score that stands beside the one that decides."""


def assess(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, rows: Path, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Return the predictions on `rows`/test.jsonl, row by row, and the scores of each contender and baseline."""
    from models.instruction import choose

    train, test = (list(read_rows(rows / f"{split}.jsonl")) for split in ("train", "test"))
    given = choose(train, specialist.max_examples, seed)
    truth = [row["output"] for row in test]
    answers = {name: contender.answer(test, specialist.max_new_tokens) for name, contender in contenders.items()}
    answers |= instruction_baselines(
        [question(row["instruction"], row["input"]) for row in given],
        [row["output"] for row in given],
        [question(row["instruction"], row["input"]) for row in test],
    )
    scores = {name: instruction_scores(found, truth, seed=seed) for name, found in answers.items()}
    predictions = [
        {"id": row["id"], "truth": row["output"], **{name: found[number] for name, found in answers.items()}}
        for number, row in enumerate(test)
    ]
    return predictions, scores


def assess_again(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, test: list[dict[str, Any]]
) -> Scores:
    """Score a registered model on another test split than it was assessed on."""
    answers = contenders["model"].answer(test, specialist.max_new_tokens)
    found = instruction_scores(answers, [row["output"] for row in test], resamples=0)
    return found.model_copy(update={"answers": answers})
