"""Annotated rows of every source: what is accepted, repaired and refused; any bytes; public files."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from data_examples import ANSWER, CONLL, GOOD, HH, SQUAD, assert_slices, data, files, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pydantic import ValidationError

from tasks.corpus import PrepareConfig, prepare_dataset
from tasks.formats import Record
from tasks.readers import ingest_sources, read_rows, to_row
from tasks.sources import Dataset
from tasks.spans import repair_tags


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_columns_of_every_kind_are_read_and_named(tmp_path: Path, kind: str, form: str) -> None:
    theirs = {f"their_{field}": value for field, value in GOOD[kind].items()}
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([theirs]), path)
    else:
        path.write_text(json.dumps([theirs] if form == "json" else theirs))
    source = files(path.name, columns={field: f"their_{field}" for field in GOOD[kind]})
    ingest_sources(data(tmp_path, kind, source), tmp_path / "out")
    assert list(read_rows(tmp_path / "out/task/train.jsonl")) == [{"id": "task-1", **GOOD[kind]}]


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("token_classification", {"tags": ["O"]}, "tokens has 2 entries, tags 1"),
        (
            "token_classification",
            {"tags": ["O", "X-PER"]},
            "tag 2 of 2 is 'X-PER', expected O, B-<type> or I-<type>",
        ),
        (
            "token_classification",
            {"tags": ["B-", "O"]},
            "tag 1 of 2 is 'B-', expected O, B-<type> or I-<type>",
        ),
        ("token_classification", {"tokens": ["Ada", " "]}, "field 'tokens' is empty"),
        ("token_classification", {"tokens": [], "tags": []}, "field 'tokens' is empty"),
        ("token_classification", {"tokens": "Ada bakes"}, "field 'tokens': expected a list of texts, got str"),
        ("token_classification", {"tokens": ["a", "\ud800"]}, "field 'tokens': not UTF-8 at character 0"),
        (
            "question_answering",
            {"answers": {"text": ["Ada"], "answer_start": [1]}},
            "answer 'Ada' is not at character 1 of the context",
        ),
        (
            "question_answering",
            {"answers": {"text": ["bread"], "answer_start": [-6]}},
            "answer 'bread' is not at character -6 of the context",
        ),
        (
            "question_answering",
            {"answers": {"text": ["Ada"], "answer_start": []}},
            "field 'answers': text has 1 entries, answer_start 0",
        ),
        (
            "question_answering",
            {"answers": {"text": [], "answer_start": []}},
            "field 'answers.text' is empty",
        ),
        (
            "question_answering",
            {"answers": {"text": ["Ada"], "answer_start": [0.0]}},
            "field 'answers.answer_start': expected a list of whole numbers",
        ),
        (
            "question_answering",
            {"answers": {"text": ["Ada"]}},
            "field 'answers': expected {text: [...], answer_start: [...]}, got keys text",
        ),
        (
            "question_answering",
            {"answers": ["Ada"]},
            "field 'answers': expected {text: [...], answer_start: [...]}, got list",
        ),
        ("preference", {"rejected": "Ada. "}, "chosen and rejected are the same answer"),
        ("preference", {"chosen": ""}, "field 'chosen' is empty"),
    ],
)
def test_bad_row_goes_to_quarantine_with_its_reason(
    tmp_path: Path, kind: str, change: dict[str, Any], reason: str
) -> None:
    rows = [GOOD[kind], GOOD[kind] | change]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = ingest_sources(data(tmp_path, kind, files("a.jsonl"), share=0.5), tmp_path / "out")
    assert (counts["task"]["train"]["rows"], counts["task"]["train"]["bad"]) == (1, 1)
    (fault,) = read_rows(tmp_path / "out/quarantine.jsonl")
    assert (fault["line"], fault["reason"]) == (2, reason)


def test_entities_that_begin_inside_are_repaired_and_counted(tmp_path: Path) -> None:
    assert repair_tags(["I-A", "I-A", "O", "I-B", "B-A", "I-B", "B-B", "I-B"]) == (
        ["B-A", "I-A", "O", "B-B", "B-A", "B-B", "B-B", "I-B"],
        3,
    )
    write(tmp_path / "a.conll", b"Ada I-PER\nOakes I-PER\n\nOxley I-LOC\n")
    counts = ingest_sources(data(tmp_path, "token_classification", files("a.conll")), tmp_path / "out")
    assert counts["task"]["train"]["repaired_tags"] == 2
    tags = [row["tags"] for row in read_rows(tmp_path / "out/task/train.jsonl")]
    assert tags == [["B-PER", "I-PER"], ["B-LOC"]]


def test_tags_that_are_numbers_are_renamed() -> None:
    source = files("a.parquet", labels={"0": "O", "3": "B-PER"})
    row = to_row(Record(1, {"tokens": ["Ada", "bakes"], "tags": [3, 0]}), "token_classification", source, "1")
    assert row["tags"] == ["B-PER", "O"]


def test_prompt_is_built_from_instruction_and_input(tmp_path: Path) -> None:
    pairs = [
        {"instruction": "Edit.", "input": text, "output": "", "chosen": "He goes.", "rejected": "No."}
        for text in ("He go.", "")
    ]
    (tmp_path / "a.json").write_text(json.dumps(pairs))
    source = files("a.json", columns={"prompt": "instruction", "prompt_input": "input"})
    ingest_sources(data(tmp_path, "preference", source), tmp_path / "out")
    assert list(read_rows(tmp_path / "out/task/train.jsonl")) == [
        {"id": "task-1", "prompt": "Edit.\nHe go.", "chosen": "He goes.", "rejected": "No."},
        {"id": "task-2", "prompt": "Edit.", "chosen": "He goes.", "rejected": "No."},
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            "preference",
            {"format": "conll"},
            r"train\[0\]\.format: conll holds kind token_classification only",
        ),
        ("text", {"format": "squad"}, "squad holds kind question_answering only, but this one is text"),
        ("instruction", {"columns": {"prompt_input": "input"}}, "'prompt_input' is no field of kind instruction"),
        (
            "preference",
            {"labels": {"a": "b"}},
            "labels: is for kind classification or token_classification, this one",
        ),
    ],
)
def test_source_that_does_not_fit_the_kind_is_refused(kind: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Dataset(kind=kind, train=[files("a", **fields)])


def test_suffix_conll_holds_tokens_only(tmp_path: Path) -> None:
    write(tmp_path / "a.conll", CONLL)
    with pytest.raises(ValueError, match=r"a\.conll: format: conll holds kind token_classification only, task is"):
        ingest_sources(data(tmp_path, "classification", files("a.conll")), tmp_path / "out")


SAMPLES = {
    "conll": ("token_classification", CONLL * 2),
    "squad": ("question_answering", json.dumps(SQUAD).encode()),
    "squad.gz": ("question_answering", gzip.compress(json.dumps(SQUAD).encode(), mtime=0)),
    "hh": ("preference", f"{json.dumps(HH)}\n{json.dumps(HH)}\n".encode()),
    "jsonl": ("question_answering", f"{json.dumps(ANSWER)}\n{json.dumps(ANSWER)}\n".encode()),
}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    noise=st.binary(max_size=40),
)
@pytest.mark.parametrize("form", SAMPLES)
def test_any_bytes_are_accepted_quarantined_or_one_value_error(
    tmp_path: Path, form: str, edits: list[tuple[int, int]], noise: bytes
) -> None:
    kind, content = SAMPLES[form]
    changed = bytearray(content + noise if len(noise) % 2 else content)
    for place, value in edits:
        changed[place % len(changed)] = value
    name = "a.gz" if form.endswith(".gz") else "a"
    write(tmp_path / name, bytes(changed))
    config = data(tmp_path, kind, files(name, format=form.removesuffix(".gz")), share=0.5)
    message = ""
    try:
        counts = ingest_sources(config, tmp_path / "out")
    except ValueError as error:
        message = str(error)
    if message:
        assert "\n" not in message
        assert message.startswith(f"{name}: ")
        return
    rows = list(read_rows(tmp_path / "out/task/train.jsonl"))
    assert counts["task"]["train"]["rows"] == len(rows)
    for row in rows:
        if kind == "token_classification":
            assert len(row["tokens"]) == len(row["tags"])
            assert repair_tags(row["tags"]) == (row["tags"], 0)
        elif kind == "question_answering":
            assert_slices(row)
        else:
            assert row["chosen"] != row["rejected"]


def real(name: str) -> Path:
    """Return a file of the folder of public data, or skip."""
    root = os.environ.get("ALMA_DATA")
    if not root:
        pytest.skip("ALMA_DATA names no folder of real data")
    path = Path(root, name)
    if not path.is_file():
        pytest.skip(f"{path}: no such file")
    return path


def test_real_wnut17(tmp_path: Path) -> None:
    for name in ("emerging.dev.conll", "emerging.test.annotated"):
        write(tmp_path / name, real(f"wnut17/{name}").read_bytes())
    config = data(
        tmp_path,
        "token_classification",
        files("emerging.dev.conll"),
        test=[files("emerging.test.annotated", format="conll")],
    )
    counts = ingest_sources(config, tmp_path / "out")["task"]
    assert [(part["rows"], part["bad"], part["repaired_tags"]) for part in counts.values()] == [
        (1009, 0, 0),
        (1287, 0, 0),
    ]


def test_real_squad(tmp_path: Path) -> None:
    with gzip.open(real("squadshifts/amazon_reviews_v1.0.json.gz")) as file:
        articles = json.load(file)["data"]
    articles[0]["paragraphs"] = articles[0]["paragraphs"][:150]
    write(tmp_path / "a.json.gz", gzip.compress(json.dumps({"data": articles[:1]}).encode()))
    config = data(tmp_path, "question_answering", files("a.json.gz", format="squad"))
    counts = ingest_sources(config, tmp_path / "in")["task"]["train"]
    assert counts["bad"] == 0
    asked = list(read_rows(tmp_path / "in/task/train.jsonl"))
    done, kept = prepare_dataset(PrepareConfig(), "task", "question_answering", {"train": asked})
    for row in (row for split in done.values() for row in split):
        assert_slices(row)
    assert kept["dropped_span_lost"] <= 0.01 * counts["rows"]


def test_real_preferences(tmp_path: Path) -> None:
    with gzip.open(real("hh_rlhf/harmless-base_test.jsonl.gz")) as file:
        write(tmp_path / "hh.jsonl", b"".join(file.readlines()[:600]))
    config = data(tmp_path, "preference", files("hh.jsonl", format="hh"), share=0.01)
    counts = ingest_sources(config, tmp_path / "out")["task"]["train"]
    assert (counts["rows"], counts["bad"]) == (598, 2)  # two empty answers
    row = next(read_rows(tmp_path / "out/task/train.jsonl"))
    assert row["prompt"].startswith("Human: what are some pranks with a pen i can do?\n\nAssistant: Are you")
    assert row["chosen"].startswith("No, sorry!  All of these involve a pen")

    pairs = json.loads(real("llms_from_scratch/instruction-data-with-preference.json").read_text())
    (tmp_path / "pairs.json").write_text(json.dumps(pairs[:200]))
    source = files("pairs.json", columns={"prompt": "instruction", "prompt_input": "input"})
    counts = ingest_sources(data(tmp_path, "preference", source, share=0.01), tmp_path / "again")["task"]["train"]
    assert (counts["rows"], counts["bad"]) == (199, 1)  # one has two equal answers
