"""Readers: good rows arrive, bad rows are quarantined with a reason, bad files give one clear line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pydantic import ValidationError

from tasks.formats import Fault, parse_object, read_json, read_jsonl, read_lines, read_text
from tasks.readers import ingest_sources, read_rows
from tasks.sources import DataConfig, Dataset, Source


def files(*paths: str, **fields: Any) -> Source:
    return Source(kind="files", paths=list(paths), **fields)


def data(root: Path, train: Source, kind: Any = "text", share: float = 0.0, **splits: list[Source]) -> DataConfig:
    """Return a configuration whose corpus, or beside a small corpus whose set "task", is read from
    `train`."""
    sets = {"corpus" if kind == "text" else "task": Dataset(kind=kind, train=[train], **splits)}
    if kind != "text":
        (root / "corpus.txt").write_text("a b c\n")
        sets["corpus"] = Dataset(kind="text", train=[files("corpus.txt")])
    return DataConfig(root=str(root), max_bad_share=share, datasets=sets)


def reason_of(line: bytes) -> str:
    fault = parse_object(1, line)
    assert isinstance(fault, Fault)
    return fault.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a", "text": "b"}', "key 'text' stands twice"),
        (b'{"text": NaN}', "NaN is no finite number"),
        (b'{"text": -Infinity}', "-Infinity is no finite number"),
        (b'{"text": 1e999}', "1e999 is no finite number"),
        (b'{"text": "\xff"}', "not UTF-8 at byte 10"),
        (b'{"text": "a"', "broken JSON: Expecting ',' delimiter at character 13"),
        (b'["a"]', "expected a JSON object, got list"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "nested deeper than 32"),
        (b"[" * 100_000, "nested deeper than 32"),
    ],
)
def test_bad_object_is_refused_with_its_reason(line: bytes, reason: str) -> None:
    assert reason_of(line) == reason


def test_brackets_inside_strings_do_not_nest() -> None:
    assert not isinstance(parse_object(1, json.dumps({"text": '[{"' * 50}).encode()), Fault)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, form: str, zipped: bool) -> None:
    rows = [{"sentence": 'He said "no", twice', "class": "0"}, {"sentence": "Grüße ☃", "class": "1"}]
    name = f"rows.{form}" + (".gz" if zipped and form != "parquet" else "")
    if form == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    else:
        text = {
            "jsonl": "".join(json.dumps(row) + "\n" for row in rows),
            "json": json.dumps(rows, indent=2),
            "csv": 'sentence,class\n"He said ""no"", twice",0\nGrüße ☃,1\n',
            "tsv": 'sentence\tclass\nHe said "no", twice\t0\nGrüße ☃\t1\n',
        }[form].encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if zipped else text)
    source = files(name, columns={"text": "sentence", "label": "class"}, labels={"0": "bad"})
    counts = ingest_sources(data(tmp_path, source, "classification"), tmp_path / "out")
    assert list(read_rows(tmp_path / "out/task/train.jsonl")) == [
        {"id": "task-1", "text": 'He said "no", twice', "label": "bad"},
        {"id": "task-2", "text": "Grüße ☃", "label": "1"},
    ]
    assert counts["task"]["train"]["rows"] == 2


def test_table_without_header_is_read_by_column_number(tmp_path: Path) -> None:
    (tmp_path / "sms.tsv").write_text('ham\tGo "on\nspam\tFree\n')
    source = files("sms.tsv", header=False, columns={"label": "0", "text": "1"})
    ingest_sources(data(tmp_path, source, "classification"), tmp_path / "out")
    texts = [(row["label"], row["text"]) for row in read_rows(tmp_path / "out/task/train.jsonl")]
    assert texts == [("ham", 'Go "on'), ("spam", "Free")]


def test_documents_of_text_are_lines_joined_paragraphs_or_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one two\n\nthree four\n\nfive\n")

    def texts(document: str, words: int) -> list[str]:
        return [record.fields["text"] for record in read_text(path, "a.txt", document, words)]

    assert texts("line", 1) == ["one two", "three four", "five"]
    assert texts("paragraph", 3) == ["one two\n\nthree four\n", "five"]
    assert texts("file", 1) == ["one two\n\nthree four\n\nfive"]
    path.write_text("one two\nthree four\nfive\n")
    assert texts("paragraph", 2) == ["one two\nthree four", "five"]


def test_bad_rows_go_to_quarantine_and_too_many_fail(tmp_path: Path) -> None:
    lines = [b'{"text": "fine"}'] * 7 + [b'{"text": ""}', b'{"text": 3}', b'{"text": "\\ud800"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    counts = ingest_sources(data(tmp_path, files("a.jsonl"), share=0.3), tmp_path / "out")
    assert counts == {"corpus": {"train": {"rows": 7, "bad": 3, "bytes": 7 * 35}}}
    assert list(read_rows(tmp_path / "out/quarantine.jsonl")) == [
        {"file": "a.jsonl", "line": 8, "reason": "field 'text' is empty", "row": "{'text': ''}"},
        {
            "file": "a.jsonl",
            "line": 9,
            "reason": "field 'text': expected text, got int",
            "row": "{'text': 3}",
        },
        {
            "file": "a.jsonl",
            "line": 10,
            "reason": "field 'text': not UTF-8 at character 0",
            "row": "{'text': '\\ud800'}",
        },
    ]
    with pytest.raises(ValueError, match=r"a\.jsonl: line 8: field 'text' is empty \(3 of 10 rows are bad") as error:
        ingest_sources(data(tmp_path, files("a.jsonl"), share=0.29), tmp_path / "again")
    assert "\n" not in str(error.value)
    assert len(list(read_rows(tmp_path / "again/quarantine.jsonl"))) == 3


def test_own_ids_are_kept_and_may_not_repeat(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 7, "text": "x"}\n{"id": "7", "text": "y"}\n')
    with pytest.raises(ValueError, match="line 2: id '7' stands twice in corpus"):
        ingest_sources(data(tmp_path, files("a.jsonl")), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"x,label\nq,r\n", "a.csv: column 'text' is missing; there are x, label"),
        ("a.jsonl", b'{"x": "y", "label": "a"}\n', "column 'text' is missing; there are x, label"),
        ("a.csv", b"text,label\n", "a.csv: holds no row"),
        ("a.csv", b"text,text\nq,r\n", "a.csv: line 1: a column name stands twice"),
        ("a.csv", b'text,label\n"q,r\n', "a.csv: line 2: broken CSV"),
        ("a.tsv", b"text\tlabel\nq\n", "a.tsv: line 2: expected 2 cells, got 1"),
        ("a.jsonl", b"", "a.jsonl: holds no row"),
        ("a.json", b"{}", "a.json: line 1: expected '\\[', an array"),
        ("a.json", b'[{"text": "a", "label": "b"}', "a.json: line 1: the array is not closed"),
        ("a.json", b'[{"text": "a", "label": "b"}] x', "text after the end of the array"),
        ("a.parquet", b"PAR1 no", "a.parquet: row 1: not readable as Parquet"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz: line 1: broken gzip stream"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-9], "broken gzip stream"),
        ("a.docx", b"x", "no format is known for the suffix 'docx'"),
        ("a.txt", b"x", "txt holds kind text only"),
    ],
)
def test_bad_file_gives_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        ingest_sources(data(tmp_path, files(name), "classification"), tmp_path / "out")
    assert "\n" not in str(error.value)


def test_missing_file_is_named_as_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"deep/\*\*/x\.txt: no such file"):
        ingest_sources(data(tmp_path, files("deep/**/x.txt")), tmp_path / "out")


def test_long_line_is_cut_off_and_the_next_one_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * (3 << 20) + b"\nshort\r\n" + b"y" * (1 << 20) + b"\n")
    lines = list(read_lines(path, "a.txt"))
    assert [(number, long) for number, _, long in lines] == [(1, True), (2, False), (3, False)]
    assert lines[1][1] == b"short"


def test_gzip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(gzip.compress(b"0" * (40 << 20)))
    with pytest.raises(ValueError, match=r"bomb\.txt\.gz: line 1: gzip unfolds \d+ bytes into"):
        list(read_lines(path, "bomb.txt.gz"))


def test_one_bad_object_of_an_array_does_not_cost_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"a": 1},\n{"a": NaN},\n {"a": [2, {"b": ","}]}]\n')
    first, second, third = read_json(path, "a.json")
    assert (first.line, second.line, third.line) == (1, 2, 3)
    assert isinstance(second, Fault)
    assert not isinstance(third, Fault)
    assert third.fields == {"a": [2, {"b": ","}]}


GOOD = b"".join(json.dumps({"text": f"Grüße {n} [ok]", "n": [n, {"m": 1.5}]}).encode() + b"\n" for n in range(6))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8))
@pytest.mark.parametrize("form", ["txt", "jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz"])
def test_any_bytes_are_accepted_quarantined_or_one_value_error(
    tmp_path: Path, form: str, edits: list[tuple[int, int]]
) -> None:
    content = b"[" + GOOD.replace(b"\n", b",")[:-1] + b"]" if form == "json" else GOOD
    if form == "jsonl.gz":
        content = gzip.compress(content, mtime=0)
    if form == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([{"text": "a"}, {"text": "b"}]), tmp_path / "good")
        content = (tmp_path / "good").read_bytes()
    mutated = bytearray(content)
    for place, value in edits:
        mutated[place % len(mutated)] = value
    (tmp_path / f"a.{form}").write_bytes(bytes(mutated))
    header = form not in ("csv", "tsv")
    columns = {} if header else {"text": "0"}
    config = data(tmp_path, files(f"a.{form}", header=header, columns=columns), share=0.5)
    message = ""
    try:
        counts = ingest_sources(config, tmp_path / "out")
    except ValueError as error:
        message = str(error)
    if message:
        assert "\n" not in message
        assert message.startswith(f"a.{form}: ")
    else:
        assert counts["corpus"]["train"]["rows"] == len(list(read_rows(tmp_path / "out/corpus/train.jsonl")))


def test_jsonl_takes_a_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}')
    assert [record.line for record in read_jsonl(tmp_path / "a.jsonl", "a")] == [1, 3]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "files"}, "paths: is needed"),
        ({"kind": "starter"}, "table: is needed"),
        ({"kind": "files", "paths": ["a"], "table": "b"}, "table: is for a source of kind starter"),
        ({"kind": "hub", "dataset": "a/b", "revision": "main"}, "revision: expected a commit"),
        ({"kind": "files", "paths": ["a"], "trust_remote_code": True}, "trust_remote_code"),
    ],
)
def test_source_says_which_field_does_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source(**fields)


def test_config_needs_slugs_and_a_corpus() -> None:
    texts = Dataset(kind="text", train=[files("a.txt")])
    with pytest.raises(ValidationError, match="no slug"):
        DataConfig(datasets={"../x": texts})
    with pytest.raises(ValidationError, match="expected one named corpus"):
        DataConfig(datasets={"other": texts})
    with pytest.raises(ValidationError, match=r"train\[0\]\.columns: 'txt' is no field of kind text"):
        Dataset(kind="text", train=[files("a.txt", columns={"txt": "a"})])
