"""In-context scores by hand, agreement with lm-eval's own task, and the step on a real receipt."""

import json
import os
from pathlib import Path
from typing import Any

import models_examples as examples
import numpy as np
import pytest
import yaml
from test_generation import tiny
from transformers import PreTrainedTokenizerFast

from models.chat import END
from tasks.in_context import compare, interval, measure
from tasks.in_context_prompts import Item, Row, Rows, chance, choose_rows, items
from tasks.in_context_scoring import Causal, build, score
from tasks.in_context_tasks import InContextConfig, InContextTask
from tasks.loading import TrainedModel
from tasks.sources import DataConfig

CORPUS = {"corpus": {"kind": "text", "train": [{"kind": "starter", "table": "corpus"}]}}
STARTER = ["facts", "questions", "sentiment", "acceptability", "translation", "summaries"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return examples.tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> TrainedModel:
    return TrainedModel(tiny(tokenizer, context=256), tokenizer)


def data(root: Path | str = ".") -> DataConfig:
    return DataConfig.model_validate(
        {"root": str(root), "datasets": CORPUS, "starter": {"people": 8, "mentions": 10, "notices": 0}}
    )


def write(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def task(kind: str, **more: Any) -> InContextTask:
    return InContextTask.model_validate({"kind": kind, "paths": ["x"], **more})


def prompts(own: InContextTask, row: Row, pool: list[Row], shots: int, tokenizer: PreTrainedTokenizerFast) -> Item:
    return items(own, Rows({0: row}, pool, 0), shots, tokenizer, 200)[0]


def test_scores_are_those_of_the_likelihoods(model: TrainedModel) -> None:
    """The project's own scoring, another implementation over another tokenisation of the border, says the same."""
    choices = [" the mill", " a harbour", " near the square", " Ada"]
    asked = [
        Item(f"{name} lives in", choices[number % 4], choices, number % 4, 0, False)
        for number, name in enumerate(("Ada", "Ben", "Cora", "Dan", "The baker", "A smith"))
    ]
    own = task("choice")
    found = score(model, {"a": (own, asked)})["a"]
    logs = np.array(model.score([(item.prompt, choice) for item in asked for choice in choices])).reshape(-1, 4)
    assert found.answers == [choices[number] for number in logs.argmax(1)]
    assert found.values == [float(number == item.gold) for number, item in zip(logs.argmax(1), asked, strict=True)]
    normed = (logs / [len(choice) for choice in choices]).argmax(1)
    assert found.also["acc_norm"] == np.mean([number == item.gold for number, item in zip(normed, asked, strict=True)])
    made = build("a", own, asked)
    made.build_all_requests(rank=0, world_size=1)
    assert [value for value, _ in Causal(model).loglikelihood(made.instances)] == pytest.approx(
        logs.flatten(), abs=1e-4
    )
    assert chance(asked) == 0.25

    said = [Item(item.prompt, item.target, [], 0, 0, False) for item in asked]
    found = score(model, {"b": (task("completion"), said)})["b"]
    logs = np.array(model.score([(item.prompt, item.target) for item in said]))
    assert found.also["perplexity"] == pytest.approx(np.exp(-logs.mean()), rel=1e-4)
    assert chance(said) == 0


def test_written_answers_end_with_the_line_and_the_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    from test_generation import rigged

    says = tokenizer.encode(" der Mill\nund mehr", add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids(END)
    asked = [Item("the mill =", " der Mill", [], 0, 0, False), Item("the mill =", " die Mill", [], 0, 0, False)]
    for told in (says, [*tokenizer.encode(" der Mill", add_special_tokens=False), end, *says]):
        network = rigged(tokenizer, "the mill =", told)
        own = task("generation", max_new_tokens=40, metric="exact_match")
        found = score(TrainedModel(network, tokenizer), {"a": (own, asked)})["a"]
        assert found.answers == ["der Mill", "der Mill"]
        assert found.values == [1.0, 0.0]
    from sacrebleu.metrics import BLEU, CHRF

    targets = ["der Mill", "die Mill"]
    assert found.also["bleu"] == pytest.approx(BLEU().corpus_score(found.answers, [targets]).score)
    assert found.also["chrf"] == pytest.approx(CHRF().corpus_score(found.answers, [targets]).score)
    assert found.also["rouge_l"] == pytest.approx((1 + 0.5) / 2), "one word of two is right"
    chrf = score(TrainedModel(network, tokenizer), {"a": (own.model_copy(update={"metric": "chrf"}), asked)})["a"]
    assert chrf.values[0] == pytest.approx(100)
    assert 0 < chrf.values[1] < 100


def test_prompts_and_scores_are_those_of_lm_eval_s_own_task(model: TrainedModel, tmp_path: Path) -> None:
    """The same rows as lm-eval's arc_easy asks them, zero-shot, through its own evaluation."""
    import datasets
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate

    rows = [
        {"question": f"Where does {name} live?", "choices": ["mill", "harbour", "the square"], "label": number % 3}
        for number, name in enumerate(("Ada", "Ben", "Cora", "Dan", "Eva", "Finn", "Gil"))
    ]
    theirs = [
        {
            "question": row["question"],
            "choices": {"text": row["choices"], "label": ["A", "B", "C"]},
            "answerKey": "ABC"[row["label"]],
        }
        for row in rows
    ]
    path = Path(lm_eval.__file__).parent / "tasks" / "arc" / "arc_easy.yaml"
    config = {name: value for name, value in yaml.safe_load(path.read_text()).items() if not name.startswith("dataset")}
    config |= {"custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(theirs)}, "training_split": None}
    config |= {"validation_split": None, "metadata": None, "num_fewshot": 0, "tag": None}
    results: Any = evaluate(Causal(model), {"arc_easy": ConfigurableTask(config=config)}, bootstrap_iters=0)
    own = task("choice", paths=[write(tmp_path / "rows.jsonl", rows)], shots=[0])
    found, values = measure(model, InContextConfig(tasks={"arc": own}), data(tmp_path))
    assert found[0]["score"] == results["results"]["arc_easy"]["acc,none"]
    assert found[0]["also"]["acc_norm"] == results["results"]["arc_easy"]["acc_norm,none"]
    chosen = choose_rows(own, data(tmp_path))
    asked = {item.prompt: item for item in items(own, chosen, 0, model.tokenizer, 256)}
    for sample in results["samples"]["arc_easy"]:
        (prompt, *_), *_ = sample["arguments"]
        assert [choice for _, choice in sample["arguments"]] == asked[prompt].choices
        place = list(asked).index(prompt)
        assert values["arc/0"][str(place)] == sample["acc"]


def test_every_starter_table_runs_offline_and_before_stands_beside_after(
    model: TrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    kinds = dict(
        zip(STARTER, ["completion", "choice", "classification", "minimal_pairs", *["generation"] * 2], strict=True)
    )
    config = InContextConfig.model_validate(
        {
            "tasks": {
                table: {"kind": kind, "starter": table, "shots": [0, 2], "limit": 6, "max_new_tokens": 4}
                for table, kind in kinds.items()
            }
        }
    )
    earlier, first = measure(model, config, data())
    assert [(row["task"], row["shots"]) for row in earlier] == [(name, shots) for name in STARTER for shots in (0, 2)]
    for row in earlier:
        assert row["n"] + row["too_long"] in (4, 6)
        assert 0 <= row["low"] <= row["score"] <= row["high"]
        assert row["before"] is None
    assert {row["task"]: row["chance"] for row in earlier} == {
        "facts": 0,
        "questions": 0.25,
        "sentiment": 0.5,
        "acceptability": 0.5,
        "translation": 0,
        "summaries": 0,
    }
    rows, second = measure(TrainedModel(tiny(tokenizer, seed=1, context=256), tokenizer), config, data())
    compare(rows, second, first)
    for row, old in zip(rows, earlier, strict=True):
        assert row["before"] == pytest.approx(old["score"])
        assert row["change"] == pytest.approx(row["score"] - old["score"])
        assert row["change_low"] <= row["change"] <= row["change_high"]
    with pytest.raises(ValueError, match=r"in_context\.tasks\.x: starter: there is no table 'nowhere' for prompts"):
        measure(model, InContextConfig(tasks={"x": InContextTask(kind="choice", starter="nowhere")}), data())


def test_the_starter_s_pairs_differ_in_agreement_alone_and_its_answers_are_true() -> None:
    from tasks.starter.in_context import tables
    from tasks.starter.people import townspeople

    made = tables(0, 8)
    assert tables(0, 8) == made
    facts = {person.name: person.facts for person in townspeople(0, 8)}
    for part in ("scored", "shots"):
        for row in made["acceptability"][part]:
            differ = [(a, b) for a, b in zip(row["good"].split(), row["bad"].split(), strict=True) if a != b]
            assert len(differ) == 1
        for row in made["facts"][part]:
            assert row["answer"] in facts[" ".join(row["text"].split()[:2])].values()
        for row in made["questions"][part]:
            assert len(set(row["choices"])) == 4
            owner = next(name for name in facts if name in row["question"])
            assert row["choices"][row["label"]] in facts[owner].values()
    asked = [{row["text"][:12] for row in made["facts"][part]} for part in ("scored", "shots")]
    assert not asked[0] & asked[1]


def test_intervals_of_rates_and_of_other_scores() -> None:
    assert interval([1.0] * 20, 0)[:2] == (1.0, pytest.approx(0.8389, abs=1e-3))  # Wilson: 20 / (20 + 1.96^2)
    value, low, high = interval([0.0, 0.5, 1.0, 0.25], 0)
    assert value == 0.4375
    assert low < value < high


def test_the_step_leaves_receipts_and_is_found_done(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workspaces import TINY

    from tasks.in_context import asks, in_context, table
    from tasks.receipts import Receipt, run_step
    from tasks.recipe import load_recipe

    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"Ada is a baker {number}", "label": number % 2} for number in range(12)]
    own = {"kind": "classification", "paths": [write(tmp_path / "rows.jsonl", rows)], "shots": [0, 2]}
    Path("tiny.yaml").write_text(TINY + yaml.safe_dump({"in_context": {"tasks": {"trade": own}}}))
    recipe = load_recipe("tiny.yaml")
    assert asks(recipe, "foundation")
    assert asks(recipe, "assistant")
    assert not asks(recipe, "reviews"), "a classifier writes no text"
    assert not asks(recipe.model_copy(update={"in_context": None}), "foundation")

    def trained(step: str) -> Receipt:
        def compute(out: Path, key: str) -> dict[str, Any]:
            model.network.save_pretrained(out / "model")
            model.tokenizer.save_pretrained(out / "model")
            return {}

        monkeypatch.setattr(compute, "__module__", "tasks.pretrain")
        return run_step("tiny", step, config={}, parents=[], compute=compute)

    first = in_context.fn(recipe, "foundation", trained("pretrain"), None)
    second = in_context.fn(recipe, "assistant", trained("finetune/assistant"), first)
    assert [(row["task"], row["shots"], row["before"]) for row in table(first)] == [
        ("trade", 0, None),
        ("trade", 2, None),
    ]
    for row, old in zip(table(second), table(first), strict=True):
        assert (row["before"], row["change"]) == (pytest.approx(old["score"]), 0)
        assert (row["n"], row["metric"], row["chance"]) == (8, "accuracy", 0.5)
    found = json.loads((second.directory / "scores.json").read_text())
    assert found[0]["example"]["prompt"].startswith("Ada is a baker")
    made = (second.directory / "scores.json").stat().st_mtime_ns
    assert in_context.fn(recipe, "assistant", trained("finetune/assistant"), first) == second
    write(tmp_path / "rows.jsonl", [*rows, {"text": "Ben is a smith", "label": 1}])
    assert in_context.fn(recipe, "foundation", trained("pretrain"), None).digest != first.digest
    assert (second.directory / "scores.json").stat().st_mtime_ns == made
    Path("rows.jsonl").unlink()
    with pytest.raises(ValueError, match=r"in_context\.tasks\.trade: rows\.jsonl: no such file"):
        in_context.fn(recipe, "foundation", trained("pretrain"), None)


def test_real_data_is_read(model: TrainedModel) -> None:
    root = os.environ.get("ALMA_DATA")
    if root is None:
        pytest.skip("ALMA_DATA names no folder of real data")
    sst2 = {"columns": {"text": "sentence"}, "labels": {"0": "negative", "1": "positive"}}
    blimp = {"columns": {"good": "sentence_good", "bad": "sentence_bad"}}
    tasks = {
        "lambada": {"kind": "completion", "paths": ["lambada/lambada_test.jsonl"]},
        "arc": {"kind": "choice", "paths": ["arc/ARC-Easy.test.jsonl"], "shot_paths": ["arc/ARC-Easy.train.jsonl"]},
        "sst2": {"kind": "classification", "paths": ["sst2/dev.tsv"], "shot_paths": ["sst2/train.tsv"], **sst2},
        "blimp": {"kind": "minimal_pairs", "paths": ["blimp/*.jsonl.gz"], **blimp},
    }
    config = InContextConfig.model_validate(
        {"tasks": {name: {**own, "limit": 8, "shots": [0, 1]} for name, own in tasks.items()}}
    )
    rows, _ = measure(model, config, data(root))
    assert [row["n"] for row in rows] == [8] * 8
    for own in config.tasks.values():
        found = choose_rows(own, data(root))
        assert not {str(row) for row in found.scored.values()} & {str(row) for row in found.pool}
