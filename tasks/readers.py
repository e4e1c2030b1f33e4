"""Every source of a recipe into rows of the data contract, and the refused rows into a quarantine file."""

import glob
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from models.chat import question
from tasks.formats import (
    LINE_LIMIT,
    Fault,
    Record,
    quote,
    read_csv,
    read_json,
    read_jsonl,
    read_parquet,
    read_text,
    read_tsv,
)
from tasks.formats_annotated import read_conll, read_hh, read_squad
from tasks.hub import reached
from tasks.sources import FIELDS, FORMAT_KINDS, LABELLED, SPLITS, DataConfig, FieldType, Source
from tasks.spans import check_answers, check_tags, repair_tags

QUARANTINE = "quarantine.jsonl"

Records = Iterator[Record | Fault]

_TABLES = {"csv", "tsv", "parquet"}


def to_json_line(row: dict[str, Any]) -> str:
    """Return a row as one line of JSON: UTF-8 text as it is, keys in their order, "\\n" at the end."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON-lines file that the pipeline itself wrote."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def write_rows(path: Path, rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
    """Write rows as JSON lines; equal rows give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(to_json_line(row) for row in rows)


def find_files(source: Source, root: str) -> list[tuple[str, Path]]:
    """Return (name as the user wrote it, path) of a source's files; a glob's matches in sorted order.

    Raises ValueError for a path or a glob that matches no file.
    """
    found: list[tuple[str, Path]] = []
    for pattern in source.paths:
        names = sorted(glob.glob(pattern, root_dir=root, recursive=True))
        files = [(name, Path(root, name)) for name in names if Path(root, name).is_file()]
        if not files:
            raise ValueError(f"{pattern}: no such file (looked up in {root!r})")
        found += files
    return found


def detect_format(name: str) -> str:
    """Return the format that a file name's suffix stands for; ValueError for an unknown one."""
    suffix = Path(name.removesuffix(".gz")).suffix.removeprefix(".").lower()
    known = {"text": "txt", "ndjson": "jsonl"}.get(suffix, suffix)
    if known not in {"txt", "jsonl", "json", "conll", *_TABLES}:
        raise ValueError(
            f"{name}: format: no format is known for the suffix {suffix!r}; "
            "expected txt, jsonl, json, csv, tsv, parquet or conll"
        )
    return known


def read_file(path: Path, shown: str, form: str, source: Source) -> Records:
    """Yield the records and faults of one file of a known format."""
    if form == "txt":
        return read_text(path, shown, source.document, source.document_words)
    if form in ("csv", "tsv"):
        return (read_csv if form == "csv" else read_tsv)(path, shown, source.header)
    readers = {"jsonl": read_jsonl, "json": read_json, "parquet": read_parquet}
    readers |= {"conll": read_conll, "squad": read_squad, "hh": read_hh}
    return readers[form](path, shown)


def read_hub(source: Source) -> Records:
    """Yield the rows of a hub data set at its pinned commit; the row number stands for the line."""
    from datasets import load_dataset

    try:
        with reached():
            rows = load_dataset(source.dataset, source.config_name, split=source.split, revision=source.revision)
        # Where a commit is not to be had, the library takes another one out of its cache without a word.
        if not all(source.revision in file["filename"] for file in rows.cache_files):
            raise ValueError("only another revision is in the cache")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"hub:{source.dataset}: not to be had at revision {source.revision}: {str(error).splitlines()[0]}"
        ) from error
    for number, fields in enumerate(rows, 1):
        yield Record(number, dict(fields))


def _text_of(value: Any, field: str, required: bool, bounded: bool) -> str:
    """Return a field's value as text, or raise ValueError with the reason that the quarantine file shows."""
    if value is None and not required:
        return ""
    if field in ("label", "tags") and isinstance(value, bool | int):
        value = str(value).lower()
    if not isinstance(value, str):
        raise ValueError(f"field {field!r}: expected text, got {type(value).__name__}")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ValueError(f"field {field!r}: not UTF-8 at character {error.start}") from error
    if bounded and size > LINE_LIMIT:
        raise ValueError(f"field {field!r}: longer than {LINE_LIMIT} bytes")
    if required and not value.strip():
        raise ValueError(f"field {field!r} is empty")
    return value


def _texts_of(value: Any, field: str) -> list[str]:
    """Return a field's value as a list of texts, none of them empty."""
    if not isinstance(value, list):
        raise ValueError(f"field {field!r}: expected a list of texts, got {type(value).__name__}")
    if not value:
        raise ValueError(f"field {field!r} is empty")
    return [_text_of(item, field, True, True) for item in value]


def _answers_of(value: Any, field: str) -> dict[str, list[Any]]:
    """Return a field's value as answers in the form of SQuAD, of equal numbers of texts and starts."""
    if not isinstance(value, dict) or not {"text", "answer_start"} <= value.keys():
        found = f"keys {', '.join(map(str, value))}" if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"field {field!r}: expected {{text: [...], answer_start: [...]}}, got {found}")
    texts, starts = _texts_of(value["text"], f"{field}.text"), value["answer_start"]
    if not isinstance(starts, list) or any(type(start) is not int for start in starts):
        raise ValueError(f"field '{field}.answer_start': expected a list of whole numbers")
    if len(texts) != len(starts):
        raise ValueError(f"field {field!r}: text has {len(texts)} entries, answer_start {len(starts)}")
    return {"text": texts, "answer_start": starts}


def _value_of(value: Any, field: str, holds: FieldType, bounded: bool) -> Any:
    if holds == "texts":
        return _texts_of(value, field)
    if holds == "answers":
        return _answers_of(value, field)
    return _text_of(value, field, holds == "text", bounded)


def to_row(record: Record, kind: str, source: Source, default_id: str, bounded: bool = True) -> dict[str, Any]:
    """Return a record as a row of the data contract; ValueError says what is missing, of the wrong type or wrong.

    Tags must be as many as tokens and in the form BIO, answers must be the slices of the context where they
    start, and of two answers to prefer one must differ from the other.
    """
    fields = record.fields
    row: dict[str, Any] = {}
    column = source.columns.get("id", "id")
    number = fields.get(column)
    if isinstance(number, int) and not isinstance(number, bool):
        number = str(number)
    row["id"] = default_id if number is None else _text_of(number, "id", True, True)
    wanted = FIELDS[kind] | ({"prompt_input": "optional"} if "prompt_input" in source.columns else {})
    for field, holds in wanted.items():
        column = source.columns.get(field, field)
        if column not in fields and (holds != "optional" or field in source.columns):
            raise ValueError(f"column {column!r} is missing; there are {', '.join(fields) or 'none'}")
        row[field] = _value_of(fields.get(column), field, holds, bounded)
    if kind in LABELLED:
        named = [row["label"]] if kind == "classification" else row["tags"]
        named = [source.labels.get(label.strip(), label.strip()) for label in named]
        row.update({"label": named[0]} if kind == "classification" else {"tags": named})
    if kind == "token_classification":
        check_tags(row["tokens"], row["tags"])
    elif kind == "question_answering":
        check_answers(row["context"], row["answers"])
    elif kind == "preference":
        row["prompt"] = question(row["prompt"], row.pop("prompt_input", ""))
        if row["chosen"].strip() == row["rejected"].strip():
            raise ValueError("chosen and rejected are the same answer")
    return row


class _Ingest:
    """Counts, identifiers and open files of one data set while its sources are read."""

    def __init__(self, name: str, kind: str, max_bad_share: float, out: Path, quarantine: TextIO) -> None:
        self.name, self.kind, self.max_bad_share = name, kind, max_bad_share
        self.out, self.quarantine = out, quarantine
        self.counts: dict[str, dict[str, int]] = {}
        self.ids: set[str] = set()
        self.files = ExitStack()
        self.opened: dict[str, TextIO] = {}

    def file(self, split: str) -> TextIO:
        if split not in self.opened:
            path = self.out / self.name / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.opened[split] = self.files.enter_context(path.open("w", encoding="utf-8", newline="\n"))
        return self.opened[split]

    def read(self, shown: str, split: str, form: str, source: Source, records: Records) -> None:
        """Write one file's rows; ValueError when too many are bad, or when there is none."""
        counts = self.counts.setdefault(split, {"rows": 0, "bad": 0, "bytes": 0})
        if self.kind == "token_classification":
            counts.setdefault("repaired_tags", 0)
        file, good, bad, first = self.file(split), 0, 0, ""
        for record in records:
            if isinstance(record, Record):
                try:
                    row = to_row(record, self.kind, source, self._next_id(), bounded=form != "txt")
                    if row["id"] in self.ids:
                        raise ValueError(f"id {row['id']!r} stands twice in {self.name}")
                except ValueError as error:
                    if form in _TABLES | {"hub"} and str(error).startswith("column "):
                        raise ValueError(f"{shown}: {error}") from error  # no row of a table can be better
                    record = Fault(record.line, str(error), quote(str(record.fields)))
                else:
                    if self.kind == "token_classification":
                        row["tags"], repaired = repair_tags(row["tags"])
                        counts["repaired_tags"] += repaired
                    self.ids.add(row["id"])
                    good += record.lines
                    counts["rows"] += 1
                    line = to_json_line(row)
                    counts["bytes"] += len(line.encode())
                    file.write(line)
            if isinstance(record, Fault):
                bad += 1
                counts["bad"] += 1
                first = first or f"line {record.line}: {record.reason}"
                self.quarantine.write(to_json_line({"file": shown, **record._asdict()}))
        if good + bad == 0:
            raise ValueError(f"{shown}: holds no row; expected rows of {', '.join(FIELDS[self.kind])}")
        if bad > self.max_bad_share * (good + bad):
            raise ValueError(
                f"{shown}: {first} ({bad} of {good + bad} rows are bad, at most a share of "
                f"{self.max_bad_share:g} may be; all of them are in {QUARANTINE})"
            )

    def _next_id(self) -> str:
        return f"{self.name}-{len(self.ids) + 1}"


def _starter_tables(config: DataConfig) -> dict[str, dict[str, list[dict[str, Any]]]]:
    sources = [source for dataset in config.datasets.values() for source in dataset.train]
    if not any(source.kind == "starter" for source in sources):
        return {}
    from tasks.starter.generate import generate

    return generate(config.starter)


def ingest_sources(config: DataConfig, out: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Read every source and write `out/<data set>/<split>.jsonl` and `out/quarantine.jsonl`.

    Only splits that a source declares get a file. A refused row goes to the quarantine file as {file, line,
    reason, row}. Returns rows, bad rows and bytes by data set and split; of tags, how many were repaired as well.
    Raises ValueError, in one line, for a missing, empty or broken file, a missing column, and a file with more
    than `max_bad_share` bad rows; the quarantine file then still stands in `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    metrics = {}
    tables = _starter_tables(config)
    with (out / QUARANTINE).open("w", encoding="utf-8", newline="\n") as quarantine:
        for name, dataset in config.datasets.items():
            ingest = _Ingest(name, dataset.kind, config.max_bad_share, out, quarantine)
            with ingest.files:
                for split in SPLITS:
                    for source in getattr(dataset, split):
                        _read_source(ingest, split, source, config.root, tables)
            metrics[name] = ingest.counts
    return metrics


def _read_source(ingest: _Ingest, split: str, source: Source, root: str, tables: dict[str, Any]) -> None:
    if source.kind == "hub":
        ingest.read(f"hub:{source.dataset}", split, "hub", source, read_hub(source))
    elif source.kind == "starter":
        if source.table not in tables:
            raise ValueError(f"table: the starter has no {source.table!r}; there are {', '.join(tables)}")
        for part, rows in tables[source.table].items():
            records = (Record(number, row) for number, row in enumerate(rows, 1))
            ingest.read(f"starter:{source.table}", part, "starter", source, records)
    else:
        for shown, path in find_files(source, root):
            form = detect_format(shown) if source.format == "auto" else source.format
            if (holds := FORMAT_KINDS.get(form, ingest.kind)) != ingest.kind:
                raise ValueError(f"{shown}: format: {form} holds kind {holds} only, {ingest.name} is {ingest.kind}")
            ingest.read(shown, split, form, source, read_file(path, shown, form, source))
