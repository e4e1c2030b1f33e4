"""The scores of the evaluation, each with an item-level bootstrap interval.

The point scores come from scikit-learn, seqeval, sacrebleu and rouge-score through the `evaluate.Metric` subclasses
of `metric_classes.py` (formulas and sources there); this file adds the intervals (`audits/statistics.py`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, InstanceOf

from models.config import Config
from tasks.audits.statistics import Interval, bootstrap_statistic, percentile_interval, ratio_resamples
from tasks.paired import Terms, terms


class Score(Config):
    """One score with its 95 % interval, in the unit of the score."""

    value: float
    """Point estimate over all items."""
    low: float | None = None
    """Lower end; none where there was a single item to resample or none was asked for."""
    high: float | None = None
    """Upper end."""
    items: int
    """Number of items behind it."""
    scorer: str
    """The library and settings that computed it."""
    terms: InstanceOf[Terms] | None = Field(default=None, exclude=True, repr=False)
    """Its sums over the items, for paired comparisons; kept in a file of their own (`tasks.paired`)."""


class Scores(Config):
    """All scores of one set of predictions; the label fields are filled where there are classes."""

    scores: dict[str, Score]
    """Name of the score -> score."""
    labels: list[str] = Field(default_factory=list)
    """Order of the classes in `f1` and `confusion`; the types of entities in token classification."""
    f1: dict[str, float] = Field(default_factory=dict)
    """Class -> its F1."""
    confusion: list[list[int]] = Field(default_factory=list)
    """Confusion matrix, true rows and predicted columns; classification alone has one."""
    answers: list[Any] = Field(default_factory=list, exclude=True, repr=False)
    """What a model that was assessed again answered, row by row, where the kind has a true answer."""

    def flat(self) -> dict[str, float]:
        """Give the plain numbers by name, as they go to the tracking server and to `decide`."""
        return {name: score.value for name, score in self.scores.items()}

    def terms(self) -> dict[str, Terms]:
        """Give the sums over items of the scores that are made of such."""
        return {name: score.terms for name, score in self.scores.items() if score.terms is not None}


def classification_scores(
    predictions: Sequence[str],
    references: Sequence[str],
    labels: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Score predicted labels: accuracy, macro F1 and MCC with intervals, F1 per class, confusion matrix.

    Args: labels: the classes in order; None takes the sorted union of both lists. resamples: 0 for no
    intervals. Raises ValueError on unequal or zero lengths, or on a label that is not among `labels`.
    """
    _check(predictions, references)
    names = sorted({*predictions, *references}) if labels is None else list(labels)
    strange = sorted({*predictions, *references} - set(names))
    if strange:
        raise ValueError(f"metrics: label {strange[0]!r} is not among the declared {names}")
    from tasks.metric_classes import Classification, compute

    found = compute(Classification, predictions=list(predictions), references=list(references), labels=names)
    intervals: dict[str, Interval] = {}
    if resamples and len(references) > 1:
        drawn = _resampled_confusions(np.array(found["confusion"]), resamples, seed)
        for name, values in (("accuracy", _accuracy(drawn)), ("macro_f1", _macro_f1(drawn)), ("mcc", _mcc(drawn))):
            intervals[name] = percentile_interval(found[name], values)
    guess, truth = (np.array(column)[:, None] == np.array(names) for column in (predictions, references))
    sums = {
        "accuracy": terms((guess & truth).any(axis=1)),
        "macro_f1": terms(2.0 * (guess & truth), 1.0 * guess + truth),
        "mcc": None,
    }
    n, scorer = len(references), "scikit-learn"
    scores = {name: _score(found[name], intervals.get(name), n, scorer, own) for name, own in sums.items()}
    return Scores(scores=scores, labels=names, f1=found["f1"], confusion=found["confusion"])


def entity_scores(
    predictions: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Score predicted BIO tags: f1, precision and recall of whole entities, token_accuracy, and F1 of each type.

    Sentences are what the intervals resample. Args: one list of tags a sentence; resamples: 0 for no intervals.
    Raises ValueError on unequal or zero lengths.
    """
    _check(predictions, references)
    for number, (guess, truth) in enumerate(zip(predictions, references, strict=True)):
        if len(guess) != len(truth):
            raise ValueError(f"metrics: sentence {number} has {len(guess)} predicted tags but {len(truth)} true ones")
    from tasks.metric_classes import Entities, compute

    found = compute(Entities, predictions=list(map(list, predictions)), references=list(map(list, references)))
    correct, predicted, true, right, words = np.array(found["items"], dtype=np.float64).T
    parts = {
        "f1": (2 * correct, predicted + true),
        "precision": (correct, predicted),
        "recall": (correct, true),
        "token_accuracy": (right, words),
    }
    scores: dict[str, Score] = {}
    for name, (top, bottom) in parts.items():
        interval = None
        if resamples and len(references) > 1:
            with np.errstate(invalid="ignore"):
                # A resample without an entity scores 0, as the whole would.
                drawn = np.nan_to_num(ratio_resamples(top, bottom, None, resamples, seed))
            interval = percentile_interval(found[name], drawn)
        scores[name] = _score(found[name], interval, len(references), "seqeval, as conlleval", terms(top, bottom))
    return Scores(scores=scores, labels=list(found["types"]), f1=found["types"])


def answer_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], resamples: int = 1000, seed: int = 0
) -> Scores:
    """Score answers to questions: exact_match and f1 of SQuAD 1.1, 0 to 1, the best over the true answers of each.

    Args: references: the true answers of each question; resamples: 0 for no intervals. Raises ValueError on
    unequal or zero lengths, or a question without a true answer.
    """
    _check(predictions, references)
    if not all(references):
        raise ValueError("metrics: a question has no true answer, expected at least one")
    from tasks.metric_classes import Answers, compute

    found = compute(Answers, predictions=list(predictions), references=list(map(list, references)))
    scores: dict[str, Score] = {}
    for name, values in found["items"].items():
        drawn = ratio_resamples(values, np.ones(len(values)), None, resamples, seed) if resamples else None
        interval = None if drawn is None or len(values) < 2 else percentile_interval(found[name], drawn)
        scores[name] = _score(found[name], interval, len(values), "SQuAD 1.1", terms(values))
    return Scores(scores=scores)


def instruction_scores(
    predictions: Sequence[str], references: Sequence[str], resamples: int = 1000, seed: int = 0
) -> Scores:
    """Score generated answers: exact_match, rouge_1, rouge_2, rouge_l (0 to 1), bleu and chrf (0 to 100).

    Args: resamples: 0 for no intervals. Raises ValueError on unequal or zero lengths.
    """
    _check(predictions, references)
    from tasks.metric_classes import InstructionText, compute

    found = compute(InstructionText, predictions=list(predictions), references=list(references))
    items: dict[str, list[Any]] = found["items"]
    n = len(references)
    scores: dict[str, Score] = {}
    for name in ("exact_match", "rouge_1", "rouge_2", "rouge_l"):
        values = np.array(items[name])
        drawn = ratio_resamples(values, np.ones(n), None, resamples, seed) if resamples and n > 1 else None
        interval = None if drawn is None else percentile_interval(found[name], drawn)
        scorer = "equality after white space" if name == "exact_match" else "rouge-score, stemmed F-measure"
        scores[name] = _score(found[name], interval, n, scorer, terms(values))
    bleu = _bleu_interval(np.array(items["bleu"]), resamples, seed) if resamples and n > 1 else None
    scores["bleu"] = _score(found["bleu"], bleu, n, f"sacrebleu {found['signature']}")
    chrf = _chrf_interval(predictions, references, resamples, seed) if resamples and n > 1 else None
    scores["chrf"] = _score(found["chrf"], chrf, n, f"sacrebleu {found['chrf_signature']}")
    return Scores(scores=scores)


def language_scores(
    nats: Sequence[float],
    tokens: Sequence[int],
    bytes_: Sequence[int],
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Score a language model: perplexity, bits_per_byte, nats_per_token, and bytes_per_token, documents resampled.

    The last one says how well the tokenizer compresses the text, and nothing of the model.

    Args: one entry per document (or one for the whole set, then without interval): summed negative
    log-likelihood in nats, number of predicted tokens, UTF-8 bytes of the text.
    Raises ValueError on unequal lengths or when there is no token or no byte at all.
    """
    if not (len(nats) == len(tokens) == len(bytes_)) or sum(tokens) <= 0 or sum(bytes_) <= 0:
        raise ValueError(
            f"metrics: expected equally many nats, tokens and bytes, and some of each, got {len(nats)} "
            f"documents of nats, {sum(tokens)} tokens in {len(tokens)}, {sum(bytes_)} bytes in {len(bytes_)}"
        )
    from tasks.metric_classes import LanguageModelling, compute

    found = compute(
        LanguageModelling,
        nats=[float(value) for value in nats],
        tokens=[int(value) for value in tokens],
        bytes=[int(value) for value in bytes_],
    )
    intervals: dict[str, Interval] = {}
    if resamples and len(nats) > 1:
        per_token = ratio_resamples(nats, tokens, None, resamples, seed)
        drawn = {
            "nats_per_token": per_token,
            "perplexity": np.exp(np.minimum(per_token, 700)),
            "bits_per_byte": ratio_resamples(nats, bytes_, None, resamples, seed) / np.log(2),
        }
        intervals = {name: percentile_interval(found[name], values) for name, values in drawn.items()}
    scorer = "teacher-forced log-likelihood"
    sums = {
        "nats_per_token": terms(nats, tokens),
        "bits_per_byte": terms(np.array(nats) / np.log(2), bytes_),
    }
    scores = {
        name: _score(found[name], intervals.get(name), len(nats), scorer, sums.get(name))
        for name in ("nats_per_token", "perplexity", "bits_per_byte")
    }
    scores["bytes_per_token"] = Score(value=found["bytes_per_token"], items=len(nats), scorer="of the tokenizer")
    return Scores(scores=scores)


def _check(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    if len(predictions) != len(references) or not references:
        raise ValueError(
            f"metrics: expected as many predictions as references and at least one, "
            f"got {len(predictions)} and {len(references)}"
        )


def _score(value: float, interval: Interval | None, items: int, scorer: str, sums: Terms | None = None) -> Score:
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return Score(value=float(value), low=low, high=high, items=items, scorer=scorer, terms=sums)


def _resampled_confusions(confusion: NDArray[np.int64], resamples: int, seed: int) -> NDArray[np.int64]:
    """Draw bootstrap confusion matrices, shape (resamples, classes, classes).

    Drawing items with replacement makes the cells of the confusion matrix multinomial with the observed
    shares: the same distribution as resampling items, without touching an item.
    """
    n = int(confusion.sum())
    drawn = np.random.default_rng(seed).multinomial(n, confusion.ravel() / n, size=resamples)
    return drawn.reshape(resamples, *confusion.shape)


def _accuracy(confusions: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.trace(confusions, axis1=1, axis2=2) / confusions.sum(axis=(1, 2))


def _macro_f1(confusions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give macro F1 per matrix as scikit-learn does (a test holds them together), 0 for an empty class."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    either = confusions.sum(axis=1) + confusions.sum(axis=2)
    return np.divide(2 * hits, either, out=np.zeros(hits.shape), where=either > 0).mean(axis=1)


def _mcc(confusions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the MCC per matrix as scikit-learn does (a test holds them together), 0 where one side is constant.

    (c s - sum p t) / sqrt((s^2 - sum p^2) (s^2 - sum t^2)), c right of s, p predicted and t true of each class.
    """
    predicted, true = confusions.sum(axis=1), confusions.sum(axis=2)
    right, n = np.trace(confusions, axis1=1, axis2=2), confusions.sum(axis=(1, 2))
    spread = [np.maximum(0.0, n**2.0 - (side**2).sum(axis=1)) for side in (predicted, true)]
    below = np.sqrt(spread[0] * spread[1])
    return np.divide(right * n - (predicted * true).sum(axis=1), below, out=np.zeros(len(n)), where=below > 0)


def _bleu_interval(counts: NDArray[np.int64], resamples: int, seed: int) -> Interval:
    """Bootstrap corpus BLEU from per-item counts: matches of 4 orders, totals of 4, lengths of both."""
    from sacrebleu.metrics import BLEU

    def bleu(indices: NDArray[np.int64]) -> float:
        summed = counts[indices].sum(axis=0).tolist()
        return float(BLEU.compute_bleu(summed[:4], summed[4:8], summed[8], summed[9], "exp").score)

    return bootstrap_statistic(bleu, len(counts), resamples, seed)


def _chrf_interval(predictions: Sequence[str], references: Sequence[str], resamples: int, seed: int) -> Interval:
    """Bootstrap corpus chrF from per-item counts of character n-grams."""
    from sacrebleu.metrics import CHRF

    chrf = CHRF()
    counts = np.array(chrf._extract_corpus_statistics(list(predictions), [list(references)]))

    def score(indices: NDArray[np.int64]) -> float:
        return float(chrf._compute_f_score(counts[indices].sum(axis=0).tolist()))

    return bootstrap_statistic(score, len(counts), resamples, seed)
