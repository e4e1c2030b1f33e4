"""Classification: the label of each text, beside the majority, TF-IDF and the twin from scratch.

Contenders that give probabilities are asked for their calibration too (`tasks.calibration`): is a label that they are
90 % sure of right in 90 % of the texts?
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.baselines import classification_baselines
from tasks.calibration import BINS, calibration_error, expected_calibration_error
from tasks.loading import TrainedModel
from tasks.metrics import Score, Scores, classification_scores
from tasks.readers import read_rows
from tasks.recipe import SpecialistConfig

if TYPE_CHECKING:
    import numpy as np

SHOWN = "accuracy"
"""The score that stands beside the one that decides."""
ECE = "ece"
CONFIDENCE_DIGITS = 4


def assess(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, rows: Path, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Return the predictions on `rows`/test.jsonl, row by row, and the scores of each contender and baseline.

    A prediction's `confidence` is the probability of the label, by contender, of those that give one.
    """
    from models.classification import choose

    train, test = (list(read_rows(rows / f"{split}.jsonl")) for split in ("train", "test"))
    labels = sorted({row["label"] for row in train})
    texts, truth = [row["text"] for row in test], [row["label"] for row in test]
    # The baselines learn from the examples that the specialist had, and from no more.
    given = choose(train, specialist.max_examples, seed)
    found = {name: contender.classify(texts) for name, contender in contenders.items()}
    answers = {name: labels for name, (labels, _) in found.items()}
    confidence = {name: probabilities.max(axis=1) for name, (_, probabilities) in found.items()}
    answers |= classification_baselines([row["text"] for row in given], [row["label"] for row in given], texts, seed)
    scores = {
        name: _with_calibration(
            classification_scores(given, truth, labels, seed=seed), given, truth, confidence.get(name), seed
        )
        for name, given in answers.items()
    }
    predictions = [
        {
            "id": row["id"],
            "truth": row["label"],
            **{name: given[number] for name, given in answers.items()},
            "confidence": {name: round(float(sure[number]), CONFIDENCE_DIGITS) for name, sure in confidence.items()},
        }
        for number, row in enumerate(test)
    ]
    return predictions, scores


def assess_again(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, test: list[dict[str, Any]]
) -> Scores:
    """Score a registered model, with its own labels, on another test split than it was assessed on."""
    model = contenders["model"]
    labels = sorted({*model.label_names, *(row["label"] for row in test)})
    answers, probabilities = model.classify([row["text"] for row in test])
    truth = [row["label"] for row in test]
    scores = classification_scores(answers, truth, labels, resamples=0)
    scores = scores.model_copy(update={"answers": answers})
    return _with_calibration(scores, answers, truth, probabilities.max(axis=1))


def _with_calibration(
    scores: Scores, answers: list[str], truth: list[str], confidence: "np.ndarray | None", seed: int | None = None
) -> Scores:
    """Return the scores with `ece`, where there is a confidence, shape (texts,); without a seed it has no interval."""
    # Of numbers that are none nothing can be said; the audits refuse such a model by name.
    if confidence is None or confidence.max() != confidence.max():
        return scores
    right = [given == true for given, true in zip(answers, truth, strict=True)]
    value, low, high = expected_calibration_error(confidence, right), None, None
    if seed is not None and len(right) > 1:
        _, low, high, _ = calibration_error(confidence, right, seed=seed)
    scorer = f"expected calibration error of the answered label, {BINS} bins; 0 is perfect"
    ece = Score(value=value, low=low, high=high, items=len(right), scorer=scorer)
    return scores.model_copy(update={"scores": {**scores.scores, ECE: ece}})
