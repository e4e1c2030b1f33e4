"""Text to token arrays with the tokenizer of a base, whatever its kind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.encoding import CHUNK_BYTES, choose_dtype, encode_split, load_tiktoken, read_texts
from tasks.sources import SPLITS


def take_tokenizer(base: Path, out: Path) -> None:
    """Store the tokenizer of a base in `out`, with a padding token if it had none (`models.bases`)."""
    from models.bases import load_tokenizer

    load_tokenizer(str(base)).save_pretrained(out)


def encode_dataset(tokenizer: Path, source: Path, out: Path) -> dict[str, Any]:
    """Encode the three splits of a prepared text into `out` and return its meta.json.

    One `<split>.bin` each, described by meta.json: dtype, vocab_size, and tokens, bytes and documents by split.
    """
    try:
        load_tiktoken(tokenizer)
    except ValueError:
        encode = encode_with
    else:
        encode = encode_split
    counts = {split: encode(tokenizer, source / f"{split}.jsonl", out / f"{split}.bin") for split in SPLITS}
    vocab_size = _vocab_size(tokenizer)
    meta = {"dtype": choose_dtype(vocab_size).__name__, "vocab_size": vocab_size, **counts}
    (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    return meta


def encode_with(tokenizer: Path, source: Path, target: Path) -> dict[str, int]:
    """Write the ids of a prepared split, each document followed by its end, as one flat little-endian array.

    The end is the tokenizer's eos_token, or sep_token where it has none. Special tokens' names inside the text are
    encoded as plain text. Returns tokens, bytes (UTF-8, of the text alone) and documents. Raises ValueError for a
    tokenizer without an end.
    """
    from models.bases import load_tokenizer

    fast = load_tokenizer(str(tokenizer))
    end = fast.sep_token_id if fast.eos_token_id is None else fast.eos_token_id
    if end is None:
        raise ValueError(f"{tokenizer}: the tokenizer has neither an eos_token nor a sep_token to end a document")
    dtype = np.dtype(choose_dtype(_vocab_size(tokenizer))).newbyteorder("<")
    counts = {"tokens": 0, "bytes": 0, "documents": 0}
    backend = fast.backend_tokenizer
    backend.encode_special_tokens = True
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for texts in _chunks(source):
            for text, encoding in zip(texts, backend.encode_batch_fast(texts, add_special_tokens=False), strict=True):
                ids = np.array([*encoding.ids, end], dtype)
                counts["tokens"] += len(ids)
                counts["bytes"] += len(text.encode())
                counts["documents"] += 1
                file.write(ids.tobytes())
    return counts


def _chunks(source: Path) -> Iterator[list[str]]:
    chunk: list[str] = []
    held = 0
    for text in read_texts(source):
        chunk.append(text)
        held += len(text)
        if held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _vocab_size(tokenizer: Path) -> int:
    """Return one more than the largest id."""
    from tokenizers import Tokenizer

    stored = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    return 1 + max(stored.get_vocab(with_added_tokens=True).values())
