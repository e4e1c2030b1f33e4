"""Preference: which of two answers gained more on the model before, beside that model and simple baselines."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.loading import TrainedModel
from tasks.metrics import Score, Scores
from tasks.preferences import accuracy, baselines, fitting_pairs, given_start, mean, scored_share
from tasks.readers import read_rows
from tasks.recipe import SpecialistConfig

if TYPE_CHECKING:
    import numpy as np

    from models.preference_rows import Pairs

SHOWN = "likelihood_accuracy"
"""The score that stands beside the one that decides."""


def assess(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, rows: Path, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Return the log-probabilities on `rows`/test.jsonl, pair by pair, and the scores of each contender and baseline.

    `preference_accuracy`: the share of pairs whose chosen answer gained more log-probability on the model before
    than the rejected one (DPO's implicit reward); the model before gained nothing and has one half.
    `likelihood_accuracy`: the share whose chosen answer is likelier per token. `margin`: the mean difference of the
    gains in nats. `chosen_gain`: the mean gain of the chosen answer in nats, below 0 where both sides lose, which
    DPO does not forbid.
    """
    from models.instruction import choose

    train, test = (list(read_rows(rows / f"{split}.jsonl")) for split in ("train", "test"))
    pairs = fitting_pairs(contenders["model"], test, rows / "test.jsonl")
    found, scores = _both(contenders, pairs, seed)
    kept = [test[i] for i in pairs.kept]
    simple = baselines(choose(train, specialist.max_examples, seed), kept, seed)
    scores |= {name: Scores(scores={"preference_accuracy": score}) for name, score in simple.items()}
    predictions = [
        {
            "id": row["id"],
            **{
                f"{name}_{side}": round(float(found[name][line, number]), 4)
                for name in found
                for line, side in enumerate(("chosen", "rejected"))
            },
        }
        for number, row in enumerate(kept)
    ]
    return predictions, scores


def _both(
    contenders: dict[str, TrainedModel], pairs: "Pairs", seed: int
) -> tuple[dict[str, "np.ndarray"], dict[str, Scores]]:
    """Return the log-probabilities, [2, pairs] in nats, and the scores of the model and of the one before."""
    from models.preference import pair_log_probabilities

    model = contenders["model"]
    found = {
        name: pair_log_probabilities(contender.network, contender.tokenizer, pairs)
        for name, contender in (("model", model), ("before", given_start(model, contenders["before"])))
    }
    share = scored_share(pairs)
    scores = {
        name: Scores(
            scores={**gains(values - found["before"], seed), **_likelihood(values, pairs), "scored_share": share}
        )
        for name, values in found.items()
    }
    return found, scores


def gains(ratios: "np.ndarray", seed: int) -> dict[str, Score]:
    """Score the log-ratios to the model before, [2, pairs], in nats."""
    scorer = "log-probability against the model before"
    return {
        "preference_accuracy": accuracy(ratios[0] - ratios[1], scorer),
        "margin": mean(ratios[0] - ratios[1], seed, scorer),
        "chosen_gain": mean(ratios[0], seed, scorer),
    }


def _likelihood(values: "np.ndarray", pairs: "Pairs") -> dict[str, Score]:
    import numpy as np

    tokens = np.array([[len(row) for row in side] for side in (pairs.chosen, pairs.rejected)]) - pairs.starts
    chosen, rejected = values / tokens
    return {"likelihood_accuracy": accuracy(chosen - rejected, "log-probability a token")}


def assess_again(
    contenders: dict[str, TrainedModel], specialist: SpecialistConfig, test: list[dict[str, Any]]
) -> Scores:
    """Score a registered model on another test split, against the version that it started from.

    Where that version is not known, its likelihoods alone are scored.
    """
    model = contenders["model"]
    if "before" not in contenders:
        return likelihood(model, test)
    return _both(contenders, fitting_pairs(model, test, Path("test.jsonl")), seed=0)[1]["model"]


def likelihood(model: TrainedModel, test: list[dict[str, Any]]) -> Scores:
    """Score a language model alone on pairs: the share whose chosen answer is likelier per token."""
    from models.preference import pair_log_probabilities

    pairs = fitting_pairs(model, test, Path("test.jsonl"))
    values = pair_log_probabilities(model.network, model.tokenizer, pairs)
    return Scores(scores={**_likelihood(values, pairs), "scored_share": scored_share(pairs)})
