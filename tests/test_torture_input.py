"""Recipes, policies and rows that are damaged at random: accepted, or one clear line that names the file."""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from workspaces import PROJECT

from tasks.policy import load_policy
from tasks.readers import ingest_sources, read_rows
from tasks.recipe import load_recipe
from tasks.sources import DataConfig, Dataset, Source

RECIPES = sorted((PROJECT / "recipes").glob("*.yaml"))
HOSTILE = (
    "null", "true", "-1", "0", "1e999", ".nan", "-.inf", "''", "[]", "{}", "[[[[]]]]", "9" * 400, "*anchor", "&a [*a]",
    "!!python/object/apply:os.system ['echo fired']", "!!binary YQ==", "../../../etc/passwd", "2026-01-01", "0x1F",
    "\u202e", "\x85", "{a: 1, a: 2}", "<<: {x: 1}", "? [1, 2]", "'unclosed", "\ufffd\ufffe",
    "- " * 50, "a: " * 50, "[" * 400, "!!set {a, b}", "!!float x", "1_000", "0o17", "12:30:45",
)  # fmt: skip


def changed(content: bytes, dice: random.Random) -> bytes:
    """Return the content with one to four random changes: bytes, lines, or a value that is a hostile one."""
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(max(1, len(content)))
        way = dice.choice(("byte", "insert", "cut", "line", "swap", "value", "value", "twice"))
        lines = content.split(b"\n")
        at = dice.randrange(len(lines))
        if way == "byte":
            content = content[:place] + bytes([dice.randrange(256)]) + content[place + 1 :]
        elif way == "insert":
            content = content[:place] + dice.randbytes(dice.randint(1, 8)) + content[place:]
        elif way == "cut":
            content = content[:place] + content[place + dice.randint(1, 40) :]
        elif way == "line":
            del lines[at]
            content = b"\n".join(lines)
        elif way == "twice":
            lines.insert(at, lines[at])
            content = b"\n".join(lines)
        elif way == "swap":
            other = dice.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
            content = b"\n".join(lines)
        else:
            name, colon, _ = lines[at].partition(b":")
            if colon:
                lines[at] = name + b": " + dice.choice(HOSTILE).encode()
            content = b"\n".join(lines)
    return content


def one_line(error: ValueError, names: str) -> None:
    message = str(error)
    assert "\n" not in message, message
    assert len(message) < 3000, message[:300]
    assert names in message, message


@pytest.mark.timeout(1200)
def test_a_damaged_recipe_is_read_or_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: bool, dice: random.Random
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    originals = {path.name: path.read_bytes() for path in RECIPES}
    for name, content in originals.items():
        (tmp_path / "recipes" / name).write_bytes(content)
    read = 0
    for number in range(10_000 if torture else 300):
        name = dice.choice(sorted(originals))
        path = tmp_path / "recipes" / name
        damaged = changed(originals[name], dice)
        path.write_bytes(damaged)
        try:
            load_recipe(path)
            read += 1
        except ValueError as error:
            one_line(error, "recipes")
        except Exception as error:
            raise AssertionError(f"number {number}, {name}: {error!r}\n{damaged!r}") from error
        path.write_bytes(originals[name])
    assert read, "some changes are harmless"


@pytest.mark.timeout(600)
def test_a_damaged_policy_is_read_or_refused_in_one_line(tmp_path: Path, torture: bool, dice: random.Random) -> None:
    original = (PROJECT / "mlflow" / "promotion.yaml").read_bytes()
    path = tmp_path / "promotion.yaml"
    for number in range(2000 if torture else 100):
        damaged = changed(original, dice)
        path.write_bytes(damaged)
        try:
            load_policy(path)
        except ValueError as error:
            one_line(error, "promotion.yaml")
        except Exception as error:
            raise AssertionError(f"number {number}: {error!r}\n{damaged!r}") from error


def rows(kind: str) -> list[dict[str, Any]]:
    """Return good rows of a kind of data set, with letters of other scripts."""
    made: dict[str, Callable[[int], dict[str, Any]]] = {
        "text": lambda n: {"text": f"Grüße {n} aus Köln, 東京 and Ωmega."},
        "classification": lambda n: {"text": f"text {n}", "label": "ab"[n % 2]},
        "token_classification": lambda n: {"tokens": ["Ann", "Lee", "sat"], "tags": ["B-P", "I-P", "O"]},
        "question_answering": lambda n: {
            "question": f"who {n}?",
            "context": f"Ann {n} sat",
            "answers": {"text": ["Ann"], "answer_start": [0]},
        },
        "instruction": lambda n: {"instruction": f"say {n}", "input": "", "output": "yes"},
        "preference": lambda n: {"prompt": f"say {n}", "chosen": "yes", "rejected": "no"},
    }
    return [made[kind](n) for n in range(8)]


def content_of(form: str, kind: str, folder: Path) -> bytes:
    found = rows(kind)
    lines = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in found)
    if form == "json":
        return json.dumps(found, ensure_ascii=False).encode()
    if form == "jsonl.gz":
        return gzip.compress(lines, mtime=0)
    if form == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(found), folder / "good")
        return (folder / "good").read_bytes()
    if form in ("csv", "tsv"):
        out = io.StringIO()
        writer = csv.DictWriter(out, list(found[0]), delimiter="," if form == "csv" else "\t")
        writer.writeheader()
        writer.writerows(found)
        return out.getvalue().encode()
    return lines


FORMS = {
    "text": ("txt", "jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz"),
    "classification": ("jsonl", "json", "csv", "tsv", "parquet"),
    "token_classification": ("jsonl", "json", "parquet"),
    "question_answering": ("jsonl", "json", "parquet"),
    "instruction": ("jsonl", "csv", "parquet"),
    "preference": ("jsonl", "tsv", "parquet"),
}


@pytest.mark.timeout(1200)
def test_damaged_rows_are_taken_set_aside_or_refused_in_one_line(
    tmp_path: Path, torture: bool, dice: random.Random
) -> None:
    """What is counted as read is there, and what is set aside is kept with its place and its reason."""
    cases = [(kind, form) for kind, forms in FORMS.items() for form in forms]
    good = {case: content_of(case[1], case[0], tmp_path) for case in cases}
    (tmp_path / "corpus.txt").write_text("a b c\n")
    taken = refused = aside = 0
    for number in range(10_000 if torture else 400):
        kind, form = dice.choice(cases)
        path = tmp_path / f"a.{form}"
        damaged = changed(good[kind, form], dice)
        path.write_bytes(damaged)
        sets = {"corpus": Dataset(kind="text", train=[Source(kind="files", paths=["corpus.txt"])])}
        sets["task" if kind != "text" else "corpus"] = Dataset(
            kind=kind,  # type: ignore[arg-type]
            train=[Source(kind="files", paths=[path.name])],
        )
        config = DataConfig(root=str(tmp_path), max_bad_share=0.5, datasets=sets)
        out = tmp_path / "out"
        try:
            counts = ingest_sources(config, out)
        except ValueError as error:
            one_line(error, path.name)
            refused += 1
            continue
        except Exception as error:
            raise AssertionError(f"number {number}, {kind} {form}: {error!r}\n{damaged!r}") from error
        name = "task" if kind != "text" else "corpus"
        count = counts[name]["train"]
        assert count["rows"] == len(list(read_rows(out / name / "train.jsonl"))), number
        taken += count["rows"]
        aside += count.get("quarantined", 0)
    assert taken
    assert refused
