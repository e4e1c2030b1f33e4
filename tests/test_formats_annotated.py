"""Readers of CoNLL, SQuAD and HH-RLHF files: goldens by hand, each fault with its line and reason."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from data_examples import CONLL, CONTEXT, HELLO, HH, SQUAD, data, files, write

from tasks.formats import Fault, Record, read_json
from tasks.formats_annotated import SQUAD_SIZE_LIMIT, read_conll, read_hh, read_squad
from tasks.readers import ingest_sources


@pytest.mark.parametrize(
    "content",
    [
        CONLL,
        CONLL.replace(b"\n", b"\r\n"),
        CONLL.replace(b"\t", b" "),
        b"-DOCSTART-\tO\n\nEU x y\tB-ORG\nrejects\tx\tO\n\n\n\nPeter NNP  B-PER\nBlackburn NNP I-PER",
    ],
)
def test_conll_gives_a_sentence_a_record(tmp_path: Path, content: bytes) -> None:
    if content.startswith(b"-DOC"):
        content = content.replace(b"EU x y", b"EU\tx\ty")
    found = list(read_conll(write(tmp_path / "a.conll", content), "a.conll"))
    assert [record.fields for record in found if isinstance(record, Record)] == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"tokens": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]},
    ]
    assert len(found) == 2


@pytest.mark.parametrize(
    ("middle", "line", "reason"),
    [
        (b"b", 4, "expected a token and a tag, with a tab or a space between them"),
        (b"\tO", 4, "expected a token and a tag, with a tab or a space between them"),
        (b"b\t", 4, "expected a token and a tag, with a tab or a space between them"),
        (b"\xff\tO", 4, "not UTF-8 at byte 0"),
        (b"x" * (1 << 20) + b"\tO", 4, "longer than 1048576 bytes"),
    ],
)
def test_conll_sentence_with_a_broken_line_is_one_fault(tmp_path: Path, middle: bytes, line: int, reason: str) -> None:
    content = b"one\tO\n\na\tO\n" + middle + b"\nc\tO\nd\n\ntwo\tO\n"
    first, fault, last = read_conll(write(tmp_path / "a.conll", content), "a.conll")
    assert (first.line, last.line) == (1, 8)
    assert isinstance(fault, Fault)
    assert (fault.line, fault.reason) == (line, reason)


def test_conll_sentence_without_end_is_bounded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", b"token\tB-X\n" * 150_000 + b"\nc\tO\n")
    fault, record = read_conll(path, "a.conll")
    assert isinstance(fault, Fault)
    assert fault.reason == "longer than 1048576 bytes"
    assert isinstance(record, Record)
    assert record.fields["tokens"] == ["c"]


@pytest.mark.parametrize("zipped", [False, True])
def test_squad_gives_a_question_a_record(tmp_path: Path, zipped: bool) -> None:
    content = json.dumps(SQUAD).encode()
    path = write(tmp_path / ("a.json" + ".gz" * zipped), gzip.compress(content) if zipped else content)
    assert list(read_squad(path, "a")) == [
        Record(
            1,
            {
                "id": "q1",
                "question": "Who bakes?",
                "context": CONTEXT,
                "answers": {"text": ["Ada"], "answer_start": [0]},
            },
        ),
        Record(
            2,
            {
                "id": "q2",
                "question": "What does she sell?",
                "context": CONTEXT,
                "answers": {"text": ["bread", "bread."], "answer_start": [27, 27]},
            },
        ),
    ]


def test_squad_and_json_files_of_one_long_line_are_read(tmp_path: Path) -> None:
    paragraph = {
        "context": "x" * 900_000,
        "qas": [{"question": "?", "answers": [{"text": "x", "answer_start": 5}]}],
    }
    path = write(tmp_path / "a.json", json.dumps({"data": [{"paragraphs": [paragraph] * 7}]}).encode())
    assert path.stat().st_size > 6_000_000
    assert sum(isinstance(record, Record) for record in read_squad(path, "a")) == 7
    write(path, json.dumps([{"text": "x" * 900_000}] * 3).encode())
    assert sum(isinstance(record, Record) for record in read_json(path, "a")) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": 3}', "a.json: data: expected a list, got int"),
        (b"[]", "a.json: expected a JSON object, got list"),
        (b'{"data": []', "a.json: broken JSON: Expecting ',' delimiter at character 12"),
        (b'{"data": "\xff"}', "a.json: not UTF-8 at byte 10"),
        (b'{"data": NaN}', "a.json: NaN is no finite number"),
        (b'{"data": ' + b"[" * 5000, "a.json: nested deeper than 32"),
        (b'{"data": []}', "a.json: holds no row"),
    ],
)
def test_broken_squad_file_gives_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path / "a.json", content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        ingest_sources(data(tmp_path, "question_answering", files("a.json", format="squad")), tmp_path / "out")
    assert "\n" not in str(error.value)


def test_squad_file_beyond_the_size_limit_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(SQUAD_SIZE_LIMIT + 1)
    with pytest.raises(ValueError, match=f"a.json: line 1: more than {SQUAD_SIZE_LIMIT} bytes"):
        list(read_squad(tmp_path / "a.json", "a.json"))


def test_broken_parts_of_a_squad_file_do_not_cost_the_others(tmp_path: Path) -> None:
    good = SQUAD["data"][0]["paragraphs"][0]
    broken = [
        {"question": "?", "answers": []},
        {"question": 3, "answers": []},
        {"question": "?", "answers": [{"text": "Ada"}]},
        {"question": "?", "answers": [{"text": "Ada", "answer_start": "0"}]},
        7,
    ]
    articles = [5, {"paragraphs": [{"qas": []}, {"context": CONTEXT, "qas": broken}, good]}]
    found = list(read_squad(write(tmp_path / "a.json", json.dumps({"data": articles}).encode()), "a"))
    where = "data[1].paragraphs[1].qas"
    assert [(record.line, record.reason) for record in found if isinstance(record, Fault)] == [
        (1, "data[0]: expected a JSON object, got int"),
        (2, "data[1].paragraphs[0]: context: expected text, got nothing"),
        (3, f"{where}[0]: answers: expected at least one (SQuAD 1.1); questions without are not learnt"),
        (4, f"{where}[1]: question: expected text, got int"),
        (5, f"{where}[2]: answer_start: expected a whole number, got nothing"),
        (6, f"{where}[3]: answer_start: expected a whole number, got str"),
        (7, f"{where}[4]: expected a JSON object, got int"),
    ]
    assert [record.line for record in found if isinstance(record, Record)] == [8, 9]


def test_hh_splits_dialogues_at_the_last_answer(tmp_path: Path) -> None:
    (record,) = read_hh(write(tmp_path / "a.jsonl", json.dumps(HH).encode()), "a")
    assert record == Record(
        1,
        {
            "prompt": "Human: Hello\n\nAssistant: Hi!\n\nHuman: Who are you?",
            "chosen": "A friend.",
            "rejected": "Nobody.",
        },
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"rejected": "\n\nHuman: Bye\n\nAssistant: Nobody."},
            "the two dialogues differ before their last turn",
        ),
        (
            {"chosen": "\n\nHuman: Hello"},
            r"chosen: expected a dialogue that ends in a turn of the assistant ('\n\nAssistant:')",
        ),
        (
            {"rejected": f"{HELLO} No.\n\nHuman: Oh"},
            r"rejected: expected a dialogue that ends in a turn of the assistant ('\n\nAssistant:')",
        ),
        ({"chosen": 3}, "chosen: expected a dialogue as text, got int"),
    ],
)
def test_hh_refuses_what_is_no_pair(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    lines = f"{json.dumps(HH)}\n{json.dumps(HH | change)}\n"
    good, fault = read_hh(write(tmp_path / "a.jsonl", lines.encode()), "a")
    assert isinstance(good, Record)
    assert isinstance(fault, Fault)
    assert (fault.line, fault.reason) == (2, reason)
