"""The served model stands alone, and answers what the pipeline itself answers."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models_examples import TEXTS

from models.architecture import ArchitectureConfig, build
from models.chat import render
from models.job import QuestionAnsweringOptions
from models.objectives import OBJECTIVES
from tasks.code import PROJECT
from tasks.encoding import TokenizerConfig, train_tokenizer
from tasks.loading import load

FAMILIES = ("llama", "bert")
TAGS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
LONG = " ".join(TEXTS)[:400]


@pytest.fixture(scope="module")
def served_module() -> Any:
    spec = importlib.util.spec_from_file_location("served_model", PROJECT / "mlflow" / "served_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(directory: Path, family: str, objective: str, **changes: Any) -> Path:
    """Write a tiny random model of an objective, with its tokenizer, and return its directory."""
    from transformers import AutoTokenizer

    masked = family == "bert"
    train_tokenizer(TokenizerConfig(vocab_size=320), TEXTS, directory, masked=masked, types=masked)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    shape = ArchitectureConfig.model_validate(
        {"family": family, "layers": 1, "hidden": 32, "heads": 2, "intermediate": 64, "context": 64}
    )
    auto = OBJECTIVES[objective].auto
    model = build(shape, len(tokenizer), 3, tokenizer.eos_token_id, tokenizer.pad_token_id, auto=auto, **changes)
    # Initial weights are small: larger ones tell answers apart.
    for weight in model.parameters():
        weight.data.mul_(8)
    model.save_pretrained(directory)
    return directory


def served(served_module: Any, directory: Path, kind: str) -> Any:
    from mlflow.pyfunc.model import PythonModelContext

    model = served_module.OfFields() if kind in served_module.FIELDS else served_module.OfTexts()
    model.load_context(PythonModelContext({"model": str(directory)}, {"task": kind}))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_labels(tmp_path: Path, served_module: Any, family: str) -> None:
    directory = make(tmp_path, family, "classification", id2label={0: "bad", 1: "fine", 2: "good"})
    texts = [*TEXTS[:3], "", LONG, "a <|end|> that is text"]
    found = served(served_module, directory, "classification").predict(texts)
    labels, probabilities = load(directory, "classification").classify(texts)
    assert [row["label"] for row in found] == labels
    np.testing.assert_allclose([row["score"] for row in found], probabilities.max(1), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_entities_stand_where_they_are_said_to(tmp_path: Path, served_module: Any, family: str) -> None:
    directory = make(tmp_path, family, "token_classification", id2label=TAGS)
    text = "Ada Cole, of Elmsford;  met Bo-Ann at 9 o'clock.\nThen she left."
    words = ["Ada", "Cole", ",", "of", "Elmsford", ";", "met", "Bo-Ann", "at", "9", "o'clock", "."]
    words += ["Then", "she", "left", "."]
    tags = load(directory, "token_classification").tag([{"tokens": words}])[0]
    entities = served(served_module, directory, "token_classification").predict([text])[0]
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in entities)
    expected: list[list[Any]] = []
    before = "O"
    for word, tag in zip(words, tags, strict=True):
        if tag == "O":
            pass
        elif tag[0] == "I" and before[1:] == tag[1:]:
            expected[-1][1].append(word)
        else:
            expected.append([tag[2:], [word]])
        before = tag
    assert [(entity["label"], "".join(entity["text"].split())) for entity in entities] == [
        (label, "".join(parts)) for label, parts in expected
    ]
    assert served(served_module, directory, "token_classification").predict([""]) == [[]]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_over_several_windows(tmp_path: Path, served_module: Any, family: str) -> None:
    directory = make(tmp_path, family, "question_answering")
    rows = [{"question": "Who bakes?", "context": text} for text in (*TEXTS[:3], LONG)]
    expected = load(directory, "question_answering").find_answers(rows, QuestionAnsweringOptions())
    found = served(served_module, directory, "question_answering").predict(rows)
    assert [row["answer"] for row in found] == expected
    for row, asked in zip(found, rows, strict=True):
        assert asked["context"][row["start"] : row["end"]] == row["answer"]


def test_requests_are_answered_up_to_the_end_of_the_turn(tmp_path: Path, served_module: Any) -> None:
    directory = make(tmp_path, "llama", "instruction")
    rows = [{"instruction": text, "input": ""} for text in ("Who bakes?", "Where is it, and since when?")]
    expected = load(directory, "instruction").answer(rows, 6)
    for kind in ("instruction", "preference", "rlhf"):
        found = served(served_module, directory, kind).predict(
            [row["instruction"] for row in rows], {"max_new_tokens": 6}
        )
        assert found == expected


def test_rewards(tmp_path: Path, served_module: Any) -> None:
    from models.preference_rows import answer_ids, prompt_ids
    from models.reward import score

    directory = make(tmp_path, "llama", "reward", num_labels=1)
    rows = [{"prompt": "My lamp is broken.", "answer": answer} for answer in ("Sorry, we send one.", "So what?")]
    judge = load(directory, "reward")
    ids = [
        np.concatenate(
            [prompt_ids([row["prompt"]], judge.tokenizer)[0], answer_ids([row["answer"]], judge.tokenizer)[0]]
        )
        for row in rows
    ]
    assert judge.tokenizer.decode(ids[0]) == render("My lamp is broken.", output="Sorry, we send one.")
    found = served(served_module, directory, "reward").predict(rows)
    np.testing.assert_allclose(found, score(judge.network, judge.tokenizer, ids), atol=1e-5)


def test_masks_are_filled_and_foundations_go_on(tmp_path: Path, served_module: Any) -> None:
    masked = served(served_module, make(tmp_path / "m", "bert", "masked_lm"), "masked_foundation")
    text = TEXTS[0].split()
    both = masked.predict([" ".join(["[MASK]", *text[1:-1], "[MASK]"]), "nothing hidden"])
    assert [len(found) for found in both] == [2, 0]
    assert all(len(guesses) == 5 for guesses in both[0])
    assert all(0 <= guess["score"] <= 1 for guesses in both[0] for guess in guesses)
    causal = served(served_module, make(tmp_path / "c", "llama", "causal_lm"), "foundation")
    assert [isinstance(text, str) for text in causal.predict(["The baker", ""], {"max_new_tokens": 4})] == [True, True]


@pytest.mark.parametrize(
    ("kind", "message"),
    [("reward", "expected the fields prompt and answer"), ("question_answering", "the fields question and context")],
)
def test_other_fields_are_refused(served_module: Any, kind: str, message: str) -> None:
    model = served_module.OfFields()
    model.task = kind
    with pytest.raises(ValueError, match=message):
        model.predict([{"question": "x"}])
