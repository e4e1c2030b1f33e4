"""Reward: which of two answers gets the higher score, beside the model before as a language model and baselines."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.assessments.preference import likelihood
from tasks.loading import TrainedModel
from tasks.metrics import Score, Scores
from tasks.preferences import accuracy, baselines, fitting_pairs, given_start, mean, scored_share
from tasks.readers import read_rows
from tasks.recipe import SpecialistConfig

if TYPE_CHECKING:
    import numpy as np

    from models.preference_rows import Pairs

SHOWN = "margin"
"""The score that stands beside the one that decides."""


def assess(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, rows: Path, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Return the rewards on `rows`/test.jsonl, pair by pair, and the scores of the model and of the baselines.

    `preference_accuracy`: the share of pairs whose chosen answer has the higher reward. `margin`: the mean difference
    of the rewards, in log-odds. The model before has no reward: it prefers the answer that is likelier per token.
    """
    from models.instruction import choose

    train, test = (list(read_rows(rows / f"{split}.jsonl")) for split in ("train", "test"))
    model = contenders["model"]
    pairs = fitting_pairs(model, test, rows / "test.jsonl")
    rewards, kept = _rewards(model, pairs), [test[i] for i in pairs.kept]
    before = likelihood(given_start(model, contenders["before"]), kept).scores["likelihood_accuracy"]
    simple = {"before": before, **baselines(choose(train, specialist.max_examples, seed), kept, seed)}
    scores = {
        "model": Scores(scores={**_scores(rewards, seed), "scored_share": scored_share(pairs)}),
        **{name: Scores(scores={"preference_accuracy": score}) for name, score in simple.items()},
    }
    predictions = [
        {"id": row["id"], "chosen": round(float(chosen), 4), "rejected": round(float(rejected), 4)}
        for row, chosen, rejected in zip(kept, *rewards, strict=True)
    ]
    return predictions, scores


def assess_again(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, test: list[dict[str, Any]]
) -> Scores:
    """Score a registered reward model on another test split than it was assessed on."""
    model = contenders["model"]
    pairs = fitting_pairs(model, test, Path("test.jsonl"))
    return Scores(scores={**_scores(_rewards(model, pairs), seed=0), "scored_share": scored_share(pairs)})


def _rewards(model: TrainedModel, pairs: "Pairs") -> "np.ndarray":
    """Return the rewards [2, pairs], of the chosen answers first."""
    import numpy as np

    from models.reward import score

    return np.stack([score(model.network, model.tokenizer, side) for side in (pairs.chosen, pairs.rejected)])


def _scores(rewards: "np.ndarray", seed: int) -> dict[str, Score]:
    margins = rewards[0] - rewards[1]
    return {
        "preference_accuracy": accuracy(margins, "reward"),
        "margin": mean(margins, seed, "reward"),
    }
