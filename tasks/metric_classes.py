"""The `evaluate.Metric` subclasses: library scores behind one interface, computed without a network.

This file imports `evaluate` (about two seconds), so `tasks/metrics.py` imports it only when it scores.
"""

import math
import tempfile
from typing import Any

import datasets
import evaluate

TEXT = datasets.Value("string")


def normalise(text: str) -> str:
    """Collapse white space: the only liberty that exact match takes."""
    return " ".join(text.split())


def compute(metric: type[evaluate.Metric], **inputs: Any) -> dict[str, Any]:
    """Compute a metric without leaving a trace: `evaluate` makes its cache folder even when in memory."""
    with tempfile.TemporaryDirectory() as folder:
        return metric(keep_in_memory=True, cache_dir=folder).compute(**inputs)


class Classification(evaluate.Metric):
    """Accuracy, macro F1, F1 of each class and the confusion matrix, all by scikit-learn.

    accuracy = correct / n. F1 of a class = 2 TP / (2 TP + FP + FN), 0 where a class is neither present nor
    predicted. Macro F1 = their unweighted mean (sklearn.metrics.f1_score, average="macro").
    `labels` given to compute() orders the classes; the confusion matrix has true rows, predicted columns.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": TEXT, "references": TEXT})
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=features)

    def _compute(self, predictions: list[str], references: list[str], labels: list[str]) -> dict[str, Any]:
        from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

        single = f1_score(references, predictions, labels=labels, average=None, zero_division=0.0)
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(single.mean()),
            "f1": dict(zip(labels, map(float, single), strict=True)),
            "confusion": confusion_matrix(references, predictions, labels=labels).tolist(),
        }


class InstructionText(evaluate.Metric):
    """Exact match, BLEU by sacrebleu and ROUGE-1/2/L by rouge-score, one reference per prediction.

    Exact match: equal after collapsing white space, 0 to 1. BLEU: corpus BLEU with sacrebleu's defaults
    (13a tokens, exponential smoothing), 0 to 100 (M. Post, WMT 2018). ROUGE: mean F-measure with stemming,
    0 to 1 (C.-Y. Lin, 2004). The `items` entry holds the per-item scores and BLEU counts for intervals.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": TEXT, "references": TEXT})
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=features)

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics import BLEU

        kinds = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}
        scorer = RougeScorer(list(kinds), use_stemmer=True)
        # effective_order only silences a warning here: single sentences are read for their counts alone.
        sentence = BLEU(effective_order=True)
        items: dict[str, list[Any]] = {"exact_match": [], **{name: [] for name in kinds.values()}, "bleu": []}
        for guess, truth in zip(predictions, references, strict=True):
            items["exact_match"].append(float(normalise(guess) == normalise(truth)))
            rouge = scorer.score(truth, guess)
            for kind, name in kinds.items():
                items[name].append(rouge[kind].fmeasure)
            counted = sentence.sentence_score(guess, [truth])
            items["bleu"].append([*counted.counts, *counted.totals, counted.sys_len, counted.ref_len])
        means = {name: sum(values) / len(values) for name, values in items.items() if name != "bleu"}
        bleu = BLEU()
        score = bleu.corpus_score(predictions, [references]).score
        return {**means, "bleu": score, "signature": str(bleu.get_signature()), "items": items}


class LanguageModelling(evaluate.Metric):
    """Perplexity and bits per byte from the summed negative log-likelihood of each document.

    perplexity = exp(sum nats / sum tokens); bits per byte = sum nats / (ln 2 * sum bytes), comparable
    across tokenizers (L. Gao et al., The Pile, 2020, sec. 3.1).
    """

    def _info(self) -> evaluate.MetricInfo:
        number, count = datasets.Value("float64"), datasets.Value("int64")
        features = datasets.Features({"nats": number, "tokens": count, "bytes": count})
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=features)

    def _compute(self, nats: list[float], tokens: list[int], bytes: list[int]) -> dict[str, float]:
        total = math.fsum(nats)
        per_token = total / sum(tokens)
        # exp overflows beyond 709 nats a token, which only a broken model reaches: infinity says so.
        perplexity = math.exp(per_token) if per_token < 700 else math.inf
        return {
            "nats_per_token": per_token,
            "perplexity": perplexity,
            "bits_per_byte": total / (math.log(2) * sum(bytes)),
        }
