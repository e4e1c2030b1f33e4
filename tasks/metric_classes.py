"""The `evaluate.Metric` subclasses: library scores behind one interface, computed without a network.

This file imports `evaluate` (about two seconds), so `tasks/metrics.py` imports it only when it scores.
"""

import math
import re
import string
import tempfile
from collections import Counter
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
    """Accuracy, macro F1, MCC, F1 of each class and the confusion matrix, all by scikit-learn.

    accuracy = correct / n. F1 of a class = 2 TP / (2 TP + FP + FN), 0 where a class is neither present nor
    predicted. Macro F1 = their unweighted mean (sklearn.metrics.f1_score, average="macro").
    `labels` given to compute() orders the classes; the confusion matrix has true rows, predicted columns.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": TEXT, "references": TEXT})
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=features)

    def _compute(self, predictions: list[str], references: list[str], labels: list[str]) -> dict[str, Any]:
        from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef

        single = f1_score(references, predictions, labels=labels, average=None, zero_division=0.0)
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(single.mean()),
            "mcc": float(matthews_corrcoef(references, predictions)),
            "f1": dict(zip(labels, map(float, single), strict=True)),
            "confusion": confusion_matrix(references, predictions, labels=labels).tolist(),
        }


class InstructionText(evaluate.Metric):
    """Exact match, BLEU and chrF by sacrebleu and ROUGE-1/2/L by rouge-score, one reference per prediction.

    Exact match: equal after collapsing white space, 0 to 1. BLEU: corpus BLEU with sacrebleu's defaults
    (13a tokens, exponential smoothing), 0 to 100 (M. Post, WMT 2018). chrF: F2 of character n-grams up to 6,
    0 to 100 (M. Popovic, WMT 2015). ROUGE: mean F-measure with stemming, 0 to 1 (C.-Y. Lin, 2004).
    The `items` entry holds the per-item scores and BLEU counts for intervals.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": TEXT, "references": TEXT})
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=features)

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics import BLEU, CHRF

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
        bleu, chrf = BLEU(), CHRF()
        return {
            **means,
            "bleu": bleu.corpus_score(predictions, [references]).score,
            "signature": str(bleu.get_signature()),
            "chrf": chrf.corpus_score(predictions, [references]).score,
            "chrf_signature": str(chrf.get_signature()),
            "items": items,
        }


class Entities(evaluate.Metric):
    """Precision, recall and F1 of whole entities by seqeval, micro and of each type, and accuracy of the tags.

    An entity counts when its type and both its ends are right. Entities are read as conlleval does (Tjong Kim Sang
    and Buchholz, CoNLL 2000), seqeval's default: an I- that follows no entity of its type begins one. A score
    without any entity in its denominator is 0. The `items` entry holds (correct, predicted, true) entities of each
    sentence, and its right tags and its words, for intervals.
    """

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(TEXT)
        features = datasets.Features({"predictions": tags, "references": tags})
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=features)

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, Any]:
        from seqeval.metrics import accuracy_score, classification_report
        from seqeval.metrics.sequence_labeling import get_entities

        items, types = [], set()
        for guess, truth in zip(predictions, references, strict=True):
            found, there = set(get_entities(guess)), set(get_entities(truth))
            types |= {kind for kind, *_ in found | there}
            right = sum(map(str.__eq__, guess, truth))
            items.append([len(found & there), len(found), len(there), right, len(truth)])
        # seqeval refuses a text that has no entity at all.
        report: dict[str, Any] = {"micro avg": {}}
        if types:
            report = classification_report(references, predictions, output_dict=True, zero_division=0)
        micro = report["micro avg"]
        return {
            "f1": float(micro.get("f1-score", 0)),
            "precision": float(micro.get("precision", 0)),
            "recall": float(micro.get("recall", 0)),
            "token_accuracy": float(accuracy_score(references, predictions)),
            "types": {kind: float(report[kind]["f1-score"]) for kind in sorted(types)},
            "items": items,
        }


class Answers(evaluate.Metric):
    """Exact match and F1 of answers as the evaluation script of SQuAD 1.1 defines them, as fractions.

    Both compare after `normalise_answer` and take the best of the true answers. F1 is that of the bags of words,
    0 where they share none (P. Rajpurkar et al., EMNLP 2016, and its `evaluate-v1.1.py`). The `items` entry holds
    the scores of each question for intervals.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": TEXT, "references": datasets.Sequence(TEXT)})
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=features)

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, Any]:
        items: dict[str, list[float]] = {"exact_match": [], "f1": []}
        for guess, truths in zip(predictions, references, strict=True):
            said = normalise_answer(guess)
            items["exact_match"].append(float(any(said == normalise_answer(truth) for truth in truths)))
            items["f1"].append(max(_overlap(said.split(), normalise_answer(truth).split()) for truth in truths))
        return {**{name: sum(values) / len(values) for name, values in items.items()}, "items": items}


def normalise_answer(text: str) -> str:
    """Return an answer as SQuAD 1.1 compares it: lower case, without ASCII punctuation, articles and extra space."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def _overlap(guess: list[str], truth: list[str]) -> float:
    """Return the F1 of two bags of words."""
    same = sum((Counter(guess) & Counter(truth)).values())
    return 2 * same / (len(guess) + len(truth)) if same else 0.0


class LanguageModelling(evaluate.Metric):
    """Perplexity and bits per byte from the summed negative log-likelihood of each document.

    perplexity = exp(sum nats / sum tokens); bits per byte = sum nats / (ln 2 * sum bytes), comparable
    across tokenizers (L. Gao et al., The Pile, 2020, sec. 3.1). bytes per token is the tokenizer's compression.
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
            "bytes_per_token": sum(bytes) / sum(tokens),
        }
