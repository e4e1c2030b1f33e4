"""The scores of prompts, by lm-eval: its tasks, its metrics and its model class, on local rows and without a network.

L. Gao et al., A framework for few-shot language model evaluation (the Language Model Evaluation Harness), 2021.
The prompts come ready made, examples and all, so that what does not fit into the context is counted here instead
of being cut there.
"""

import logging
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import datasets
import lm_eval.api.task
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from models.bases import longest_text
from tasks.in_context_prompts import Item
from tasks.in_context_tasks import InContextTask
from tasks.loading import TrainedModel

LOGITS = 2**26
"""Logits that are held at once (256 MiB in float32)."""


@dataclass(frozen=True)
class Scored:
    """One task under one number of examples."""

    metric: str
    """The score that leads."""
    values: list[float]
    """It for every item; the score is their mean."""
    also: dict[str, float]
    """The other scores."""
    answers: list[str]
    """What the model wrote or chose, item by item; empty where only a likelihood was asked for."""


class Answers(NamedTuple):
    """What a model made of a task at one number of examples."""

    scored: Scored
    numbers: list[int]
    """Of the rows, in the task's seeded choice."""
    beside: dict[str, Any]
    """What stands beside the score: chance, fewer_shots, cut, repeated, too_long and one example."""


class Causal(HFLM):
    """lm-eval's causal model; it writes with the project's own `generate`, which ends at the end of a turn."""

    def __init__(self, model: TrainedModel) -> None:
        self.trained = model
        context = longest_text(model.network)
        super().__init__(
            pretrained=model.network,
            tokenizer=model.tokenizer,
            backend="causal",
            max_length=context,
            batch_size=max(1, min(64, LOGITS // (context * int(model.network.config.vocab_size)))),
        )

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return (log P in nats, whether it is the greedy continuation) of each request."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Return the first line of the greedy continuation of each request."""
        from models.generation import generate

        most = max(request.args[1]["max_gen_toks"] for request in requests)
        prompts = [request.args[0] for request in requests]
        written = generate(self.trained.network, self.trained.tokenizer, prompts, most, self.batch_size)
        return [text.partition("\n")[0].strip() for text in written]


def score(model: TrainedModel, asked: dict[str, tuple[InContextTask, list[Item]]]) -> dict[str, Scored]:
    """Return the scores of each named list of prompts.

    completion: whether the greedy continuation is the answer; choice, classification, minimal_pairs: whether the
    right one is the likeliest, which is accuracy; choice also by likelihood per character (acc_norm). generation: its
    own metric.
    """
    quiet()
    lm = Causal(model)
    # One request of a kind holds one number of new tokens: tasks that write are run one by one.
    groups: list[dict[str, tuple[InContextTask, list[Item]]]] = [
        {name: entry for name, entry in asked.items() if entry[0].kind != "generation"},
        *({name: entry} for name, entry in asked.items() if entry[0].kind == "generation"),
    ]
    found: dict[str, Scored] = {}
    for group in groups:
        if group:
            tasks = {name: build(name, *entry) for name, entry in group.items()}
            results: Any = evaluate(lm, tasks, bootstrap_iters=0, log_samples=True)
            for name, (task, asked_items) in group.items():
                samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
                found[name] = _scored(task, asked_items, samples, results["results"][name])
    return {name: found[name] for name in asked}


def quiet() -> None:
    """Keep lm-eval's warnings and bars out of the pipeline's own lines."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = lambda rows, **_: rows


def build(name: str, task: InContextTask, asked: list[Item]) -> ConfigurableTask:
    """Return lm-eval's own task of these prompts."""
    form: dict[str, Any]
    match task.kind:
        case "completion":
            form = {"output_type": "loglikelihood", "metric_list": _metrics("acc", "perplexity")}
        case "generation":
            form = {
                "output_type": "generate_until",
                "generation_kwargs": {"until": ["\n"], "max_gen_toks": task.max_new_tokens, "do_sample": False},
                "metric_list": _metrics("bleu", "chrf"),
            }
        case _:
            form = {
                "output_type": "multiple_choice",
                "doc_to_choice": "choices",
                "target_delimiter": "",
                "metric_list": _metrics("acc", "acc_norm"),
            }
    rows = datasets.Dataset.from_list([asdict(item) for item in asked])
    return ConfigurableTask(
        config={
            "task": name,
            "custom_dataset": lambda **_: {"test": rows},
            "test_split": "test",
            "num_fewshot": 0,
            "doc_to_text": "prompt",
            "doc_to_target": "gold" if form["output_type"] == "multiple_choice" else "target",
            **form,
        }
    )


AGGREGATION = {"perplexity": "perplexity", "bleu": "bleu", "chrf": "chrf"}


def _metrics(*names: str) -> list[dict[str, Any]]:
    return [
        {"metric": name, "aggregation": AGGREGATION.get(name, "mean"), "higher_is_better": name != "perplexity"}
        for name in names
    ]


def _scored(task: InContextTask, asked: list[Item], samples: list[dict[str, Any]], results: dict[str, Any]) -> Scored:
    if task.kind == "generation":
        return _generated(task, asked, [str(sample["filtered_resps"][0]) for sample in samples], results)
    also = {name: float(results[f"{name},none"]) for name in ("perplexity", "acc_norm") if f"{name},none" in results}
    if task.kind != "choice":
        also.pop("acc_norm", None)
    answers = []
    if asked[0].choices:
        likelihoods = [[float(answer[0]) for answer in sample["filtered_resps"]] for sample in samples]
        answers = [
            item.choices[max(range(len(ll)), key=ll.__getitem__)] for item, ll in zip(asked, likelihoods, strict=True)
        ]
    return Scored("accuracy", [float(sample["acc"]) for sample in samples], also, answers)


def _generated(task: InContextTask, asked: list[Item], answers: list[str], results: dict[str, Any]) -> Scored:
    """Score written answers: corpus BLEU and chrF by lm-eval, exact match and ROUGE by the assessments' metrics."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    from tasks.metric_classes import normalise
    from tasks.metrics import instruction_scores

    targets = [item.target.strip() for item in asked]
    whole = instruction_scores(answers, targets, resamples=0).flat()
    also = {"bleu": float(results["bleu,none"]), "chrf": float(results["chrf,none"])}
    also |= {name: whole[name] for name in ("exact_match", "rouge_1", "rouge_2", "rouge_l")}
    pairs = list(zip(answers, targets, strict=True))
    match task.metric:
        case "exact_match":
            values = [float(normalise(answer) == normalise(target)) for answer, target in pairs]
        case "rouge_l":
            rouge = RougeScorer(["rougeL"], use_stemmer=True)
            values = [rouge.score(target, answer)["rougeL"].fmeasure for answer, target in pairs]
        case "chrf":
            values = [CHRF().sentence_score(answer, [target]).score for answer, target in pairs]
    return Scored(task.metric, values, also, answers)
