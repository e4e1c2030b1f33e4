"""Task files of lm-eval: the scores that lm-eval itself gives, rows and examples apart, and no code out of a folder."""

import json
from pathlib import Path
from typing import Any

import models_examples as examples
import pytest
import yaml
from test_generation import rigged, tiny
from transformers import PreTrainedTokenizerFast

from tasks.evaluation_sets import prompted
from tasks.in_context import _data_digest, compare, measure
from tasks.in_context_tasks import InContextConfig, InContextTask
from tasks.loading import TrainedModel
from tasks.sources import DataConfig
from tasks.suite_files import read_suite, suite_files
from tasks.suites import ask

NAMES = ["Ada", "Ben", "Cora", "Dan", "Eva", "Finn", "Gil", "Hana"]
PLACES = ["the mill", "a harbour", "the square"]
CHOICE = {
    "task": "homes",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl", "train": "shots.jsonl"}},
    "test_split": "test",
    "fewshot_split": "train",
    "output_type": "multiple_choice",
    "doc_to_text": "Question: Where does {{name}} live?\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
}
WRITTEN = {
    "task": "words",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "the mill =",
    "doc_to_target": "{{word}}",
    "generation_kwargs": {"until": [" und", "\n\n"], "max_gen_toks": 40},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return examples.tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> TrainedModel:
    return TrainedModel(tiny(tokenizer, context=256), tokenizer)


def suite(folder: Path, config: dict[str, Any], **rows: list[dict[str, Any]]) -> Path:
    (folder / "evals").mkdir()
    for name, found in rows.items():
        (folder / "evals" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "evals" / "task.yaml").write_text(yaml.safe_dump(config))
    return folder


def homes(names: list[str]) -> list[dict[str, Any]]:
    return [{"name": name, "choices": PLACES, "label": number % 3} for number, name in enumerate(names)]


def task(**more: Any) -> InContextTask:
    return InContextTask.model_validate({"kind": "lm_eval", "paths": ["evals/task.yaml"], "shots": [0], **more})


def test_scores_are_those_of_lm_eval(model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    from tasks.in_context_scoring import Causal

    suite(tmp_path, CHOICE, rows=homes(NAMES), shots=homes(["Ida", "Jon", "Kai", "Ada"]))
    found = ask(model, "homes", task(shots=[0, 2]), str(tmp_path))
    monkeypatch.chdir(tmp_path / "evals")
    theirs = lm_eval.simple_evaluate(
        model=Causal(model),
        tasks=["homes"],
        num_fewshot=0,
        task_manager=TaskManager(include_path=str(tmp_path / "evals"), include_defaults=False),
        bootstrap_iters=0,
        cache_requests=False,
    )
    assert theirs is not None
    of = {sample["doc"]["name"]: sample for sample in theirs["samples"]["homes"]}
    order = [row["name"] for row in read_suite(task(), str(tmp_path)).scored]
    assert found[0].scored.metric == "accuracy"
    assert found[0].scored.values == [float(of[order[number]]["acc"]) for number in found[0].numbers]
    assert found[0].scored.also["acc_norm"] == pytest.approx(theirs["results"]["homes"]["acc_norm,none"])
    assert found[0].beside["chance"] == pytest.approx(1 / 3)
    shown = found[2].beside["example"]["prompt"]
    assert shown.count("Question:") == 3, "two solved examples before the question"
    assert not any(f"does {name} live" in shown.rpartition("Question:")[0] for name in NAMES), "only of the other file"
    assert found[2].beside["repeated"] == 1, "Ada is asked, so she is no example"


def test_answers_end_where_the_file_says(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    says = tokenizer.encode(" der Mill\nund mehr und dann", add_special_tokens=False)
    suite(tmp_path, WRITTEN, rows=[{"word": "der Mill\nund mehr"}, {"word": "der Mill"}])
    found = ask(TrainedModel(rigged(tokenizer, "the mill =", says), tokenizer), "words", task(), str(tmp_path))[0]
    assert found.scored.answers == ["der Mill\nund mehr"] * 2, "cut before ` und`, across the line"
    assert sorted(found.scored.values) == [0.0, 1.0]
    assert found.beside["chance"] == 0


def test_a_task_file_stands_in_the_table_like_any_other(model: TrainedModel, tmp_path: Path) -> None:
    suite(tmp_path, CHOICE | {"fewshot_split": "test"}, rows=homes([f"{name} {i}" for name in NAMES for i in range(3)]))
    config = InContextConfig.model_validate(
        {"tasks": {"homes": task(shots=[0, 1], limit=10).model_dump(exclude_unset=True)}}
    )
    corpus = {"kind": "text", "train": [{"kind": "starter", "table": "corpus"}]}
    data = DataConfig.model_validate({"root": str(tmp_path), "datasets": {"corpus": corpus}})
    rows, values = measure(model, config, data)
    assert [(row["task"], row["shots"], row["n"]) for row in rows] == [("homes", 0, 10), ("homes", 1, 10)]
    assert all(row["low"] <= row["score"] <= row["high"] for row in rows)
    compare(rows, values, values)
    assert rows[0]["change"] == 0
    scored = read_suite(config.tasks["homes"], str(tmp_path))
    assert len(scored.shots) == 8, "a third is set aside for examples"
    assert not any(row in scored.shots for row in scored.scored)
    items = prompted(config.tasks["homes"], data)
    assert list(items) == list(values["homes/0"]), "the same rows by the same numbers are looked for in what was learnt"
    name = scored.scored[0]["name"]
    place = PLACES[scored.scored[0]["label"]]
    assert items["0"] == [
        f"Question: Where does {name} live?\nAnswer:",
        f"Question: Where does {name} live?\nAnswer: {place}",
    ]
    before = _data_digest(config, data)
    (tmp_path / "evals" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in homes(NAMES)))
    assert _data_digest(config, data) != before


def test_included_files_count(tmp_path: Path) -> None:
    suite(tmp_path, {"include": "base.yaml", "task": "homes"}, rows=homes(NAMES), shots=homes(["Ida", "Jon"]))
    (tmp_path / "evals" / "base.yaml").write_text(yaml.safe_dump(CHOICE | {"task": "base"}))
    found = suite_files(task(), str(tmp_path))
    assert [shown for shown, _ in found] == [
        f"evals/{n}" for n in ("task.yaml", "base.yaml", "rows.jsonl", "shots.jsonl")
    ]
    assert read_suite(task(), str(tmp_path)).config["task"] == "homes"
    (tmp_path / "evals" / "base.yaml").write_text("include: task.yaml\n")
    with pytest.raises(ValueError, match=r"task.yaml: include: the files include each other"):
        read_suite(task(), str(tmp_path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset_path": "allenai/ai2_arc"}, r"dataset_path: expected json, csv, parquet .*'allenai/ai2_arc'"),
        ({"process_results": "x"}, "process_results: names code to run"),
        ({"output_type": "loglikelihood_rolling"}, "output_type: expected multiple_choice"),
        ({"metric_list": [{"metric": "accuracy", "hf_evaluate": True}]}, "metric_list: expected metrics of lm-eval"),
        ({"metric_list": [{"metric": "nothing"}]}, "metric_list: lm-eval has no metric 'nothing'"),
        (
            {"metric_list": [{"metric": "mcc", "aggregation": "matthews_corrcoef"}]},
            "expected one metric that is a mean",
        ),
        (
            {"dataset_kwargs": {"data_files": {"train": "shots.jsonl"}}},
            "data_files: expected files for the split 'test'",
        ),
        ({"dataset_kwargs": {"data_files": {"test": "no.jsonl", "train": "shots.jsonl"}}}, "evals/no.jsonl: no such"),
        ({"doc_to_text": "{{nothing}}"}, "'nothing' is undefined"),
        ({"doc_to_text": "{{ name.__class__.__mro__ }}"}, "access to attribute '__class__'"),
        ({"test_split": None}, "test_split: missing"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(
    model: TrainedModel, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    suite(tmp_path, CHOICE | change, rows=homes(NAMES), shots=homes(["Ida", "Jon"]))
    with pytest.raises(ValueError, match=said) as caught:
        ask(model, "homes", task(), str(tmp_path))
    assert str(caught.value).startswith("evals/task.yaml: ")
    assert "\n" not in str(caught.value)


def test_a_function_is_refused_and_not_run(model: TrainedModel, tmp_path: Path) -> None:
    suite(tmp_path, CHOICE, rows=homes(NAMES), shots=homes(["Ida", "Jon"]))
    canary = tmp_path / "ran"
    (tmp_path / "evals" / "utils.py").write_text(f"open({str(canary)!r}, 'w')\ndef text(doc):\n    return ''\n")
    with (tmp_path / "evals" / "task.yaml").open("a") as file:
        file.write("process_docs: !function utils.text\n")
    with pytest.raises(
        ValueError, match=r"evals/task.yaml: line \d+, column \d+: !function utils.text would run Python"
    ):
        ask(model, "homes", task(), str(tmp_path))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"paths": ["a.yaml", "b.yaml"]}, "paths: expected one task file"),
        ({"paths": ["rows.jsonl"]}, "paths: expected one task file"),
        ({"template": "{text}"}, "template: the task file of lm-eval says that itself"),
    ],
)
def test_the_recipe_adds_nothing_to_a_task_file(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        task(**more)
