"""A user's own task file of lm-eval, asked of a causal model: prompts, examples and scores as lm-eval makes them.

L. Gao et al., A framework for few-shot language model evaluation (the Language Model Evaluation Harness), 2021.
"""

from itertools import groupby
from typing import Any

import datasets
import lm_eval.utils
from jinja2.exceptions import TemplateError
from jinja2.sandbox import SandboxedEnvironment
from lm_eval.api.registry import get_aggregation, metric_registry
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate

from models.bases import longest_text
from tasks.in_context_scoring import Answers, Causal, Scored, quiet
from tasks.in_context_tasks import InContextTask
from tasks.loading import TrainedModel
from tasks.suite_files import SHOTS, Suite, read_suite

ASSESSED = "test"
MOST_TOKENS = 256
"""Tokens after which lm-eval cuts an answer where a task file says nothing else."""
NAMES = {"acc": "accuracy"}
MISTAKES = (TemplateError, ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError)
"""What a mistake in a task file ends in: lm-eval lets it through as whatever exception comes."""


class Greedy(Causal):
    """The model, whose answers end where the task file says."""

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Return the greedy continuation of each request up to the first of its stops."""
        from models.generation import generate

        def settings(number: int) -> tuple[int, tuple[str, ...]]:
            most, stops = _limits(requests[number].args[1])
            return most, stops

        answers: dict[int, str] = {}
        for (most, stops), group in groupby(sorted(range(len(requests)), key=settings), key=settings):
            numbers = list(group)
            prompts = [requests[number].args[0] for number in numbers]
            written = generate(self.trained.network, self.trained.tokenizer, prompts, most, self.batch_size)
            for number, text in zip(numbers, written, strict=True):
                ends = [place for stop in stops if (place := text.find(stop)) >= 0]
                answers[number] = text[: min(ends, default=len(text))]
        return [answers[number] for number in range(len(requests))]


def ask(model: TrainedModel, name: str, task: InContextTask, root: str) -> dict[int, Answers]:
    """Return number of examples -> what the model made of the task file.

    Raises ValueError naming the task file where a template does not fit the rows or no metric scores a single row.
    """
    quiet()
    _sandbox()
    suite, shown = read_suite(task, root), task.paths[0]
    for metric in suite.config.get("metric_list") or []:
        if metric["metric"] not in metric_registry:
            raise ValueError(f"{shown}: metric_list: lm-eval has no metric {metric['metric']!r} of its own")
    try:
        numbers = _fitting(suite, model)
        if len(numbers) < 2:
            raise ValueError(f"{len(numbers)} rows have answers that fit into the model's context, expected 2")
        return {shots: _answered(model, suite, name, numbers, shots, task.seed) for shots in task.shots}
    except MISTAKES as error:
        raise ValueError(f"{shown}: {error or type(error).__name__}") from error


def prompts(task: InContextTask, root: str) -> list[list[str]]:
    """Return of each row that is scored, in the seeded choice, what is asked, and what is asked with its answer."""
    _sandbox()
    suite = read_suite(task, root)
    try:
        made = _build(suite, list(range(len(suite.scored))), "prompts", 0)
        found = []
        for row in made.test_docs():
            asked, answer = made.doc_to_text(row), made.doc_to_target(row)
            if made.config.doc_to_choice is not None and isinstance(answer, int):
                answer = made.doc_to_choice(row)[answer]
            found.append([str(asked), f"{asked}{made.config.target_delimiter}{answer}"])
    except MISTAKES as error:
        raise ValueError(f"{task.paths[0]}: {error or type(error).__name__}") from error
    return found


def _sandbox() -> None:
    """Let templates reach the fields of a row and nothing else of the process."""
    if not isinstance(lm_eval.utils.env, SandboxedEnvironment):
        known = lm_eval.utils.env
        sandboxed = SandboxedEnvironment(undefined=known.undefined, keep_trailing_newline=True)
        sandboxed.filters["regex_replace"] = known.filters["regex_replace"]
        lm_eval.utils.env = sandboxed


def _build(suite: Suite, numbers: list[int], name: str, shots: int) -> ConfigurableTask:
    rows = {ASSESSED: [suite.scored[number] for number in numbers]} | ({SHOTS: suite.shots} if shots else {})
    own = {key: value for key, value in suite.config.items() if not key.startswith("dataset_")}
    return ConfigurableTask(
        config={
            **{key: value for key, value in own.items() if key not in ("tag", "metadata")},
            "task": name,
            # A list of rows as a data set of its own: datasets' cache of local files trusts their modification times.
            "custom_dataset": lambda **_: {split: datasets.Dataset.from_list(found) for split, found in rows.items()},
            "test_split": ASSESSED,
            "validation_split": None,
            "training_split": None,
            "fewshot_split": SHOTS if shots else None,
            "num_fewshot": shots,
        }
    )


def _fitting(suite: Suite, model: TrainedModel) -> list[int]:
    """Return the numbers of the rows of which no continuation alone fills the model's context."""
    if suite.config.get("output_type", "generate_until") == "generate_until":
        return list(range(len(suite.scored)))
    context = longest_text(model.network)
    probe = _build(suite, list(range(len(suite.scored))), "probe", 0)
    kept = []
    for number, row in enumerate(probe.test_docs()):
        said = probe.doc_to_choice(row) if probe.config.doc_to_choice is not None else [probe.doc_to_target(row)]
        lengths = [len(model.tokenizer.encode(str(text), add_special_tokens=False)) for text in said]
        if max(lengths) < context - 1:
            kept.append(number)
    return kept


def _answered(model: TrainedModel, suite: Suite, name: str, numbers: list[int], shots: int, seed: int) -> Answers:
    task = _build(suite, numbers, name, shots)
    task.set_fewshot_seed(seed=seed)
    if task.OUTPUT_TYPE == "generate_until":
        most, _ = _limits(task.config.generation_kwargs or {})
        if most >= longest_text(model.network):
            raise ValueError(f"generation_kwargs.max_gen_toks: {most} fills the model's context alone")
    lm = Greedy(model)
    results: Any = evaluate(lm, {name: task}, bootstrap_iters=0, log_samples=True)
    by = results["samples"][name][0]["filter"]
    samples = sorted((one for one in results["samples"][name] if one["filter"] == by), key=lambda one: one["doc_id"])
    lead = _lead(task, samples)
    scores = results["results"][name]
    also = {
        NAMES.get(metric, metric): float(scores[f"{metric},{by}"])
        for metric in task.aggregation()
        if metric != lead and isinstance(scores.get(f"{metric},{by}"), int | float)
    }
    values = [float(sample[lead]) for sample in samples]
    choices = [len(sample["arguments"]) if task.OUTPUT_TYPE == "multiple_choice" else 0 for sample in samples]
    first = samples[0]
    answers = [str(sample["filtered_resps"][0]) for sample in samples] if task.OUTPUT_TYPE == "generate_until" else []
    return Answers(
        Scored(NAMES.get(lead, lead), values, also, answers),
        numbers,
        {
            "chance": sum(1 / count for count in choices if count) / len(choices),
            "fewer_shots": 0,
            "cut": sum(_is_cut(lm, sample["arguments"]) for sample in samples),
            "repeated": suite.repeated,
            "too_long": len(suite.scored) - len(numbers),
            "example": {
                "prompt": first["arguments"][0][0],
                "target": str(first["target"]),
                "answer": answers[0] if answers else None,
            },
        },
    )


def _lead(task: ConfigurableTask, samples: list[dict[str, Any]]) -> str:
    """Return the first metric that is a mean over rows."""
    mean = get_aggregation("mean")
    for metric, aggregation in task.aggregation().items():
        if aggregation is mean and all(isinstance(sample.get(metric), int | float) for sample in samples):
            return str(metric)
    raise ValueError(f"metric_list: expected one metric that is a mean over rows, got {', '.join(task.aggregation())}")


def _limits(settings: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Return the most tokens of an answer, and the texts that end it."""
    until = settings.get("until") or []
    return int(settings.get("max_gen_toks", MOST_TOKENS)), tuple([until] if isinstance(until, str) else until)


def _is_cut(lm: Causal, arguments: list[tuple[Any, ...]]) -> bool:
    """Return whether a request is longer than what the model reads."""
    for prompt, rest in arguments:
        room = lm.max_length - (_limits(rest)[0] if isinstance(rest, dict) else 0)
        whole = prompt if isinstance(rest, dict) else f"{prompt}{rest}"
        if len(lm.tok_encode(whole)) > room:
            return True
    return False
