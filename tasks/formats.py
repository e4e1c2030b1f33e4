"""Bounded readers of text, JSON, table and Parquet files: whatever the bytes, records and faults come out.

Files are material of unknown origin. A line or an object holds at most 1 MiB, JSON nests at most 32 deep, numbers
are finite, text is strict UTF-8 without lone surrogates, an object has no key twice, a file that is read as a
whole has a greatest size, and a gzip stream is cut off when it unfolds beyond a ratio or a size. A record that
breaks a rule becomes a `Fault` and reading goes on; a file that cannot be read any further raises ValueError with
its name.
"""

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

LINE_LIMIT = 1 << 20
DEPTH_LIMIT = 32
GZIP_RATIO_LIMIT = 200
GZIP_SIZE_LIMIT = 64 << 30
ARRAY_SIZE_LIMIT = 256 << 20
CHECK_EVERY = 16 << 20

# JSON strings (an unclosed one runs to the end, so that the scan stays linear) and structural marks.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)


class Record(NamedTuple):
    """One record of a file: its first line (1-based), its fields, and how many lines it took."""

    line: int
    fields: dict[str, Any]
    lines: int = 1


class Fault(NamedTuple):
    """One record that is refused: its line (1-based), why, and how it begins."""

    line: int
    reason: str
    row: str


def read_pieces(path: Path, shown: str) -> Iterator[tuple[int, bool, bytes]]:
    """Yield (line number, begins its line, bytes with the line end) of a plain or gzip file, in bounded pieces.

    A line up to `LINE_LIMIT` bytes is one piece. `shown` is the file's name in errors. Raises ValueError for a
    broken gzip stream and for one that unfolds more than `GZIP_RATIO_LIMIT` times or beyond `GZIP_SIZE_LIMIT`
    bytes.
    """
    number = total = checked = 0
    with path.open("rb") as raw:
        zipped = path.suffix == ".gz"
        stream = io.BufferedReader(gzip.GzipFile(fileobj=raw), CHECK_EVERY >> 6) if zipped else raw
        fresh = True
        while True:
            try:
                piece = stream.readline(LINE_LIMIT + 2)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise ValueError(f"{shown}: line {number + fresh}: broken gzip stream: {error}") from error
            if not piece:
                return
            total += len(piece)
            if zipped and total - checked > CHECK_EVERY:
                checked = total
                if total > GZIP_SIZE_LIMIT or total > GZIP_RATIO_LIMIT * raw.tell():
                    raise ValueError(
                        f"{shown}: line {number + fresh}: gzip unfolds {raw.tell()} bytes into {total}; "
                        f"at most {GZIP_RATIO_LIMIT} times and {GZIP_SIZE_LIMIT} bytes are read"
                    )
            number += fresh
            yield number, fresh, piece.removeprefix(b"\xef\xbb\xbf") if total == len(piece) else piece
            fresh = piece.endswith(b"\n")


def read_lines(path: Path, shown: str) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (line number, bytes without the line end, is longer than the limit) of a plain or gzip file.

    Of a line that is too long only the beginning is yielded. Raises ValueError as `read_pieces`.
    """
    for number, fresh, piece in read_pieces(path, shown):
        if fresh:
            piece = piece.rstrip(b"\r\n") if piece.endswith(b"\n") else piece
            yield number, piece, len(piece) > LINE_LIMIT


def read_whole(path: Path, shown: str, limit: int) -> bytes:
    """Return all the bytes of a plain or gzip file; ValueError beyond `limit` bytes, and as `read_pieces`."""
    pieces, size = [], 0
    for number, _, piece in read_pieces(path, shown):
        size += len(piece)
        if size > limit:
            raise ValueError(f"{shown}: line {number}: more than {limit} bytes; write it as JSON lines (jsonl)")
        pieces.append(piece)
    return b"".join(pieces)


def quote(row: bytes | str) -> str:
    """Return the first 200 characters of a row as printable text, for the quarantine file."""
    raw = row if isinstance(row, bytes) else row[:200].encode("utf-8", "replace")
    return raw[:800].decode("utf-8", "replace")[:200]


def too_long(line: int, row: bytes | str) -> Fault:
    """Return the fault of a line beyond the limit."""
    return Fault(line, f"longer than {LINE_LIMIT} bytes", quote(row))


def read_text(path: Path, shown: str, document: str, document_words: int) -> Iterator[Record | Fault]:
    """Yield the documents of a text file as {"text"}: its lines, joined paragraphs, or the whole of it.

    Paragraphs are joined until `document_words` words are reached and a blank line follows; text without
    blank lines is closed at the end of a line once it has twice as many.
    """
    held: list[str] = []
    start = words = 0
    for number, raw, long in read_lines(path, shown):
        if long:
            yield too_long(number, raw)
            continue
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield Fault(number, f"not UTF-8 at byte {error.start}", quote(raw))
            continue
        if document == "line":
            if line.strip():
                yield Record(number, {"text": line})
            continue
        start = start or number
        held.append(line)
        words += len(line.split())
        full = words >= document_words and (not line.strip() or words >= 2 * document_words)
        if document == "paragraph" and full:
            yield Record(start, {"text": "\n".join(held)}, len(held))
            held, start, words = [], 0, 0
    if words:
        yield Record(start, {"text": "\n".join(held)}, len(held))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    names = [name for name, _ in pairs]
    if len(fields) < len(names):
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return fields


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no finite number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is no finite number")
    return value


def _depth(raw: bytes) -> int:
    """Return how deep brackets nest outside of strings."""
    depth = deepest = 0
    for match in _STRUCTURE.finditer(raw):
        depth += (match[0] in b"[{") - (match[0] in b"]}")
        deepest = max(deepest, depth)
    return deepest


def load_json(raw: bytes) -> Any:
    """Return the value that bounded JSON stands for; ValueError, with the place, where it breaks a rule."""
    try:
        text = raw.decode("utf-8")
        # The parser recurses: count first, and only where there are brackets enough.
        if raw.count(b"[") + raw.count(b"{") > DEPTH_LIMIT and _depth(raw) > DEPTH_LIMIT:
            raise ValueError(f"nested deeper than {DEPTH_LIMIT}")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"broken JSON: {error.msg} at character {error.pos + 1}") from error


def parse_object(line: int, raw: bytes) -> Record | Fault:
    """Parse one JSON object, or say what is wrong with it."""
    if len(raw) > LINE_LIMIT:
        return too_long(line, raw)
    try:
        value = load_json(raw)
    except ValueError as error:
        return Fault(line, str(error), quote(raw))
    if not isinstance(value, dict):
        return Fault(line, f"expected a JSON object, got {type(value).__name__}", quote(raw))
    return Record(line, value)


def read_jsonl(path: Path, shown: str) -> Iterator[Record | Fault]:
    """Yield the objects of a JSON-lines file; blank lines are passed over."""
    for number, raw, long in read_lines(path, shown):
        if long:
            yield too_long(number, raw)
        elif raw.strip():
            yield parse_object(number, raw)


def read_json(path: Path, shown: str) -> Iterator[Record | Fault]:
    """Yield the objects of a file that holds one JSON array of them, of at most `ARRAY_SIZE_LIMIT` bytes.

    The array is cut at its commas by a scan without recursion, so that one bad object does not cost the
    others. It may stand on one line.
    """
    raw = read_whole(path, shown, ARRAY_SIZE_LIMIT)
    opening = len(raw) - len(raw.lstrip())
    depth, begin, line, counted = 0, opening + 1, 1 + raw.count(b"\n", 0, opening), opening
    if opening < len(raw) and raw[opening : opening + 1] != b"[":
        raise ValueError(f"{shown}: line {line}: expected '[', an array of objects")
    for match in _STRUCTURE.finditer(raw, opening):
        mark = match[0]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if (mark == b"," and depth == 1) or depth == 0:
            item = raw[begin : match.start()]
            first = begin + len(item) - len(item.lstrip())
            line, counted = line + raw.count(b"\n", counted, first), first
            if item.strip() or depth:
                yield parse_object(line, item.strip())
            begin = match.end()
        if depth == 0:
            break
    if depth or raw[begin:].strip():
        line = 1 + raw.count(b"\n", 0, begin)
        what = "text after the end of the array" if depth == 0 else "the array is not closed"
        raise ValueError(f"{shown}: line {line}: {what}")


def _named(names: list[str] | None, cells: list[str], line: int, lines: int) -> Record | Fault:
    if names is not None and len(cells) != len(names):
        return Fault(line, f"expected {len(names)} cells, got {len(cells)}", quote("\t".join(cells)))
    return Record(line, dict(zip(names or map(str, range(len(cells))), cells, strict=True)), lines)


def _header(cells: list[str], shown: str) -> list[str]:
    if len(set(cells)) == len(cells):
        return cells
    raise ValueError(f"{shown}: line 1: a column name stands twice: {', '.join(cells)}")


def read_tsv(path: Path, shown: str, header: bool) -> Iterator[Record | Fault]:
    """Yield the rows of a file with one row a line and cells between tabs; quotes are text like any other."""
    names: list[str] | None = None
    for number, raw, long in read_lines(path, shown):
        if long:
            yield too_long(number, raw)
        elif raw.strip():
            cells = raw.decode("utf-8", "surrogateescape").split("\t")
            if header and names is None:
                names = _header(cells, shown)
            else:
                yield _named(names, cells, number, 1)


def read_csv(path: Path, shown: str, header: bool) -> Iterator[Record | Fault]:
    """Yield the rows of a comma-separated file; a cell in double quotes may hold commas and line ends."""
    long_lines: list[int] = []

    def decoded() -> Iterator[str]:
        for number, raw, long in read_lines(path, shown):
            if long:
                long_lines.append(number)
            yield raw[:LINE_LIMIT].decode("utf-8", "surrogateescape") + "\n"

    csv.field_size_limit(LINE_LIMIT)
    rows = csv.reader(decoded(), strict=True)
    names: list[str] | None = None
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Fault(line, f"broken CSV: {error}", "")
            continue
        if long_lines:
            long_lines.clear()
            yield too_long(line, ",".join(cells))
        elif header and names is None and cells:
            names = _header(cells, shown)
        elif cells:
            yield _named(names, cells, line, rows.line_num + 1 - line)


def read_parquet(path: Path, shown: str) -> Iterator[Record | Fault]:
    """Yield the rows of a Parquet file; a row's number stands for its line."""
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for fields in batch.to_pylist():
                    number += 1
                    yield Record(number, fields)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        message = f"{shown}: row {number + 1}: not readable as Parquet: {str(error).split(chr(10))[0]}"
        raise ValueError(message) from error
