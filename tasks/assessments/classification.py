"""Classification: the label of each text, beside the majority, TF-IDF and the twin from scratch."""

from pathlib import Path
from typing import Any

from tasks.baselines import classification_baselines
from tasks.loading import TrainedModel
from tasks.metrics import Scores, classification_scores
from tasks.readers import read_rows
from tasks.recipe import SpecialistConfig

SHOWN = "accuracy"
"""The score that stands beside the one that decides."""


def assess(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, rows: Path, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Return the predictions on `rows`/test.jsonl, row by row, and the scores of each contender and baseline."""
    from models.classification import choose

    train, test = (list(read_rows(rows / f"{split}.jsonl")) for split in ("train", "test"))
    labels = sorted({row["label"] for row in train})
    texts, truth = [row["text"] for row in test], [row["label"] for row in test]
    # The baselines learn from the examples that the specialist had, and from no more.
    given = choose(train, specialist.max_examples, seed)
    answers = {name: contender.classify(texts)[0] for name, contender in contenders.items()}
    answers |= classification_baselines([row["text"] for row in given], [row["label"] for row in given], texts, seed)
    scores = {name: classification_scores(found, truth, labels, seed=seed) for name, found in answers.items()}
    predictions = [
        {"id": row["id"], "truth": row["label"], **{name: found[number] for name, found in answers.items()}}
        for number, row in enumerate(test)
    ]
    return predictions, scores


def assess_again(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, test: list[dict[str, Any]]
) -> Scores:
    """Score a registered model, with its own labels, on another test split than it was assessed on."""
    model = contenders["model"]
    labels = sorted({*model.label_names, *(row["label"] for row in test)})
    answers = model.classify([row["text"] for row in test])[0]
    return classification_scores(answers, [row["label"] for row in test], labels, resamples=0)
