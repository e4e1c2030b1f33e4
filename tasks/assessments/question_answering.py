"""Question answering: the span that answers each question, beside the nearest sentence and the twin from scratch."""

from pathlib import Path
from typing import Any

from tasks.baselines import answer_baselines
from tasks.loading import TrainedModel
from tasks.metrics import Scores, answer_scores
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
    given: list[dict[str, Any]] = choose(train, specialist.max_examples, seed)
    truth = [row["answers"]["text"] for row in test]
    options = specialist.question_answering
    answers = {name: contender.find_answers(test, options) for name, contender in contenders.items()}
    answers |= answer_baselines(
        [row["answers"]["text"][0] for row in given],
        [row["question"] for row in test],
        [row["context"] for row in test],
    )
    scores = {name: answer_scores(found, truth, seed=seed) for name, found in answers.items()}
    predictions = [
        {
            "id": row["id"],
            "question": row["question"],
            "truth": row["answers"]["text"],
            **{name: found[number] for name, found in answers.items()},
        }
        for number, row in enumerate(test)
    ]
    return predictions, scores


def assess_again(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, test: list[dict[str, Any]]
) -> Scores:
    """Score a registered model on another test split than it was assessed on."""
    answers = contenders["model"].find_answers(test, specialist.question_answering)
    found = answer_scores(answers, [row["answers"]["text"] for row in test], resamples=0)
    return found.model_copy(update={"answers": answers})
