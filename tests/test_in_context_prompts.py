"""In-context prompts by hand: their examples, their cuts, and the rows and tasks that are refused."""

import json
from pathlib import Path
from typing import Any

import models_examples as examples
import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from tasks.in_context_prompts import Item, Row, Rows, choose_rows, fitting, items
from tasks.in_context_tasks import InContextConfig, InContextTask
from tasks.sources import DataConfig

CORPUS = {"corpus": {"kind": "text", "train": [{"kind": "starter", "table": "corpus"}]}}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return examples.tokenizer(tmp_path_factory.mktemp("tokenizer"))


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


def test_prompts_are_what_they_are_by_hand(tokenizer: PreTrainedTokenizerFast) -> None:
    found = prompts(
        task("completion"),
        {"text": "She went to the mill."},
        [{"text": "He has a dog."}],
        1,
        tokenizer,
    )
    assert (found.prompt, found.target, found.choices) == ("He has a dog.\n\nShe went to the", " mill.", [])
    named = task("completion", columns={"answer": "a"})
    found = prompts(named, {"text": "Ada lives on ", "answer": "Mill Lane"}, [], 0, tokenizer)
    assert (found.prompt, found.target) == ("Ada lives on", " Mill Lane")

    asked = {"question": "Who bakes?", "choices": ["Ada", "Ben"], "label": 1}
    shown = {"question": "Who sews?", "choices": ["Cora", "Dan"], "label": 0}
    found = prompts(task("choice"), asked, [shown], 1, tokenizer)
    assert found.prompt == "Question: Who sews?\nAnswer: Cora\n\nQuestion: Who bakes?\nAnswer:"
    assert (found.choices, found.gold, found.target) == ([" Ada", " Ben"], 1, " Ben")

    words = task(
        "classification", labels={"0": "bad", "1": "good"}, template="Review: {text}\nIt was", columns={"text": "s"}
    )
    found = prompts(words, {"text": "so {so}", "label": "0"}, [{"text": "a joy", "label": "1"}], 1, tokenizer)
    assert found.prompt == "Review: a joy\nIt was good\n\nReview: so {so}\nIt was"
    assert (found.choices, found.gold) == ([" bad", " good"], 0)

    pair, other = {"good": "He is.", "bad": "He are."}, {"good": "We are.", "bad": "We is."}
    found = prompts(task("minimal_pairs"), pair, [other], 1, tokenizer)
    assert (found.prompt, found.choices, found.gold) == ("We are.\n\n", ["He is.", "He are."], 0)
    assert prompts(task("minimal_pairs"), pair, [other], 0, tokenizer).prompt == ""

    written = task("generation", max_new_tokens=4, template="{source} =")
    found = prompts(
        written, {"source": "house", "target": "Haus"}, [{"source": "mill", "target": "Mühle"}], 1, tokenizer
    )
    assert (found.prompt, found.target, found.choices) == ("mill = Mühle\n\nhouse =", " Haus", [])
    found = prompts(task("generation", max_new_tokens=4), {"source": "a", "target": "b"}, [], 0, tokenizer)
    assert (found.prompt, found.target) == ("a\n", "b")


def test_a_long_prompt_loses_examples_from_the_front_and_is_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    own = task("classification", labels={"0": "bad", "1": "good"}, template="{text}\nIt was", seed=3)
    pool = [{"text": f"example {number} of the mill", "label": "1"} for number in range(5)]
    rows = Rows({0: {"text": "a joy", "label": "1"}}, pool, 0)
    (whole,) = items(own, rows, 5, tokenizer, 4000)
    assert whole.shots == 5
    parts = whole.prompt.split("\n\n")
    for kept in range(5, -1, -1):
        text = "\n\n".join(parts[5 - kept :])
        room = len(tokenizer.encode(text + " good", add_special_tokens=False))
        (found,) = items(own, rows, 5, tokenizer, room)
        assert (found.prompt, found.shots, found.cut) == (text, kept, False)
    (found,) = items(own, rows, 5, tokenizer, room - 1)
    assert (found.prompt, found.shots, found.cut) == ("a joy\nIt was", 0, True)


def test_rows_whose_answer_fills_the_context_are_left_out_and_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = {number: {"good": "He is.", "bad": "He are."} for number in range(3)}
    rows[1] = {"good": "He is " * 40, "bad": "He are " * 40}
    found = fitting(task("minimal_pairs"), Rows(rows, [], 0), tokenizer, 64)
    assert (list(found.scored), found.too_long) == ([0, 2], 1)
    with pytest.raises(ValueError, match="0 rows have answers that fit into a context of 2 tokens"):
        fitting(task("minimal_pairs"), Rows(rows, [], 0), tokenizer, 2)


def test_no_example_is_scored_and_the_choice_is_seeded(tmp_path: Path) -> None:
    rows = [{"text": f"sentence {number}", "label": number % 2} for number in range(40)]
    one = write(tmp_path / "one.jsonl", rows)
    other = write(
        tmp_path / "other.jsonl", [*rows[:10], {"text": "new one", "label": 1}, {"text": "new two", "label": 0}]
    )
    alone = choose_rows(task("classification", paths=[one], limit=20, shots=[0, 3]), data(tmp_path))
    assert (len(alone.scored), len(alone.pool), alone.repeated) == (20, 13, 0)
    assert not {row["text"] for row in alone.scored.values()} & {row["text"] for row in alone.pool}
    assert choose_rows(task("classification", paths=[one], limit=20, shots=[0, 3]), data(tmp_path)) == alone
    assert choose_rows(task("classification", paths=[one], limit=20, shots=[3], seed=1), data(tmp_path)) != alone
    apart = choose_rows(task("classification", paths=[one], shot_paths=[other], shots=[2]), data(tmp_path))
    assert (len(apart.scored), len(apart.pool), apart.repeated) == (40, 2, 10)
    with pytest.raises(ValueError, match=r"one\.jsonl: 40 rows to score and 2 for examples, expected at least 2 and 3"):
        choose_rows(task("classification", paths=[one], shot_paths=[other], shots=[3]), data(tmp_path))


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("choice", {"question": "q", "choices": ["a", "b"]}, "line 1: column 'label' is missing"),
        (
            "choice",
            {"question": "q", "choices": ["a", "b"], "label": 2},
            "line 1: label: expected the number of a choice",
        ),
        ("choice", {"question": "q", "choices": ["a"], "label": 0}, "line 1: choices: expected a list of at least two"),
        ("completion", {"text": "one"}, "line 1: text: expected at least two words"),
        ("completion", {"text": "one two", "answer": 3}, "line 1: answer: expected text, got 3"),
        ("classification", {"text": "a", "label": "2"}, "line 1: label '2' is not among 0, 1"),
        ("minimal_pairs", {"good": "a", "bad": ""}, "line 1: bad: expected text, got ''"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, kind: str, row: Row, message: str) -> None:
    own = task(
        kind, paths=[write(tmp_path / "rows.jsonl", [row])], labels={"0": "n", "1": "y"} if kind[:2] == "cl" else {}
    )
    with pytest.raises(ValueError, match=r"rows\.jsonl: ") as error:
        choose_rows(own, data(tmp_path))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "completion"}, "expected exactly one of them"),
        ({"kind": "completion", "paths": ["a"], "starter": "facts"}, "expected exactly one of them"),
        ({"kind": "completion", "starter": "facts", "shot_paths": ["a"]}, "shot_paths"),
        ({"kind": "completion", "paths": ["a"], "columns": {"good": "x"}}, "'good' is no field of kind completion"),
        ({"kind": "choice", "paths": ["a"], "labels": {"0": "x"}}, "labels: are for kind classification"),
        ({"kind": "classification", "paths": ["a"], "labels": {"0": "x", "1": "x"}}, "two labels have one word"),
        ({"kind": "choice", "paths": ["a"], "template": "{question} {label}"}, "expected {question} and no other"),
        ({"kind": "choice", "paths": ["a"], "template": "{question"}, "template: "),
        ({"kind": "minimal_pairs", "paths": ["a"], "template": "{good}"}, "minimal_pairs has none"),
        ({"kind": "choice", "paths": ["a"], "shots": [0, 0]}, "different numbers"),
        ({"kind": "choice", "paths": ["a"], "shots": [-1]}, "different numbers"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        InContextTask.model_validate(values)
    assert message in str(error.value)
    with pytest.raises(ValidationError, match="no slug"):
        InContextConfig.model_validate({"tasks": {"a/b": {"kind": "choice", "paths": ["a"]}}})
