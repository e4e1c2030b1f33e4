"""Token classification: the entities of each sentence, beside O throughout, each word's usual tag and the twin."""

from pathlib import Path
from typing import Any

from tasks.baselines import entity_baselines
from tasks.loading import TrainedModel
from tasks.metrics import Scores, entity_scores
from tasks.readers import read_rows
from tasks.recipe import SpecialistConfig

SHOWN = "token_accuracy"
"""The score that stands beside the one that decides."""


def assess(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, rows: Path, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Return the predictions on `rows`/test.jsonl, row by row, and the scores of each contender and baseline."""
    from models.instruction import choose

    train, test = (list(read_rows(rows / f"{split}.jsonl")) for split in ("train", "test"))
    # The baselines learn from the examples that the specialist had, and from no more.
    given = choose(train, specialist.max_examples, seed)
    truth = [row["tags"] for row in test]
    answers = {name: contender.tag(test) for name, contender in contenders.items()}
    answers |= entity_baselines(
        [row["tokens"] for row in given], [row["tags"] for row in given], [row["tokens"] for row in test]
    )
    scores = {name: entity_scores(found, truth, seed=seed) for name, found in answers.items()}
    predictions = [
        {
            "id": row["id"],
            "tokens": row["tokens"],
            "truth": row["tags"],
            **{name: found[number] for name, found in answers.items()},
        }
        for number, row in enumerate(test)
    ]
    return predictions, scores


def assess_again(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, test: list[dict[str, Any]]
) -> Scores:
    """Score a registered model, with its own tags, on another test split than it was assessed on."""
    answers = contenders["model"].tag(test)
    found = entity_scores(answers, [row["tags"] for row in test], resamples=0)
    return found.model_copy(update={"answers": answers})
