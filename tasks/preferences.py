"""Scores of what learns from pairs of answers, with their intervals, and the simple baselines beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.audits.statistics import Interval, bootstrap_mean, percentile_interval, ratio_resamples, wilson
from tasks.loading import TrainedModel
from tasks.metrics import Score
from tasks.paired import Terms, terms

if TYPE_CHECKING:
    from models.preference_rows import Pairs

Row = dict[str, Any]


def accuracy(margins: ArrayLike, scorer: str) -> Score:
    """Give the share of pairs with a positive margin, a tie counting half, and Wilson's interval."""
    values = np.asarray(margins, dtype=np.float64)
    right = (values > 0) + 0.5 * (values == 0)
    return _score(wilson(float(right.sum()), len(values)), terms(right), scorer)


def mean(values: ArrayLike, seed: int, scorer: str) -> Score:
    """Give the mean over the items and its bootstrap interval."""
    items: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    return _score(bootstrap_mean(items, seed=seed), terms(items), scorer)


def ratio(numerator: ArrayLike, denominator: ArrayLike, seed: int, scorer: str) -> Score:
    """Give sum(numerator) / sum(denominator) over the items and its bootstrap interval."""
    top: NDArray[np.float64] = np.asarray(numerator, dtype=np.float64)
    interval = percentile_interval(float(top.sum() / np.sum(denominator)), ratio_resamples(top, denominator, seed=seed))
    return _score(interval, terms(top, denominator), scorer)


def _score(interval: Interval, own: Terms, scorer: str) -> Score:
    estimate, low, high, _ = interval
    return Score(value=estimate, low=low, high=high, items=len(own), scorer=scorer, terms=own)


def given_start(model: TrainedModel, before: TrainedModel) -> TrainedModel:
    """Return the start with the model's tokenizer, the fresh tokens' rows made as training made them."""
    from models.bases import grow

    known = before.tokenizer.get_vocab()
    fresh = sorted(number for token, number in model.tokenizer.get_vocab().items() if token not in known)
    grow(before.network, model.tokenizer, fresh, "before")
    return TrainedModel(before.network, model.tokenizer)


def fitting_pairs(model: TrainedModel, rows: Sequence[Row], path: Path) -> "Pairs":
    """Return the pairs that fit into the model's context; the others cannot be scored and are counted."""
    from models.bases import longest_text
    from models.preference_rows import featurise

    return featurise(list(rows), model.tokenizer, longest_text(model.network), path)


def scored_share(pairs: "Pairs") -> Score:
    """Give the share of the pairs that fit into the context."""
    kept, all_ = len(pairs.kept), len(pairs.kept) + pairs.dropped
    return Score(value=kept / all_, items=all_, scorer="pairs within the context")


def baselines(train: Sequence[Row], test: Sequence[Row], seed: int) -> dict[str, Score]:
    """Score two ways to prefer an answer that know no language: the longer one, and a bag of words.

    `longer_answer` counts characters. `tfidf_lr` is a logistic regression on the difference of the answers' TF-IDF
    (words and word pairs), without an intercept: Bradley and Terry's model, each pair given in both orders.
    """
    lengths = [len(row["chosen"].strip()) - len(row["rejected"].strip()) for row in test]
    return {
        "longer_answer": accuracy(lengths, "more characters"),
        "tfidf_lr": accuracy(_tfidf_margins(train, test, seed), "TF-IDF, logistic regression"),
    }


def _tfidf_margins(train: Sequence[Row], test: Sequence[Row], seed: int) -> NDArray[np.float64]:
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = [[row[side] for row in train] for side in ("chosen", "rejected")]
    if not any(character.isalnum() for side in texts for text in side for character in text):
        return np.zeros(len(test))  # without a word there is nothing to learn from
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    vectorizer.fit(texts[0] + texts[1])
    differences = vectorizer.transform(texts[0]) - vectorizer.transform(texts[1])
    model = LogisticRegression(max_iter=1000, random_state=seed, fit_intercept=False)
    model.fit(vstack([differences, -differences]), np.repeat([1, 0], len(train)))
    asked = [vectorizer.transform([row[side] for row in test]) for side in ("chosen", "rejected")]
    margins: NDArray[np.float64] = model.decision_function(asked[0] - asked[1])
    return margins
