"""Rows of a JSON lines file and their token ids, for the objectives that learn from examples."""

import json
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast


def read_rows(path: Path, fields: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a file, each a dict that has all the fields as strings.

    Raises ValueError naming file, line and field; an empty file is one too.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected JSON lines with {', '.join(fields)}")
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}: line {number}: {error}, expected one JSON object") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}: line {number}: {type(row).__name__}, expected one JSON object")
            for name in fields:
                if not isinstance(row.get(name), str):
                    found = "missing" if name not in row else f"{row[name]!r:.40}"
                    raise ValueError(f"{path}: line {number}: {name} is {found}, expected a string")
            rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no rows, expected at least one")
    return rows


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[np.ndarray]:
    """Return the token ids of each text, int64, with text that looks like a special token read as plain text.

    So nobody's data can open a turn or end a document.
    """
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
    finally:
        backend.encode_special_tokens = before
    return [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]


def plain_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return example numbers in batches sorted by length, the longest first, so that memory peaks at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
