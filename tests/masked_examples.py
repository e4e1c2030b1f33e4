"""A tiny tokenizer, tokens and jobs of masked language models for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from models_examples import TEXTS
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.masking import Markers
from models.rows import encode
from tasks.encoding import TokenizerConfig, train_tokenizer

CLS, SEP, MASK, PAD, END = 1, 2, 3, 4, 0
STOP = 9
"""The one token that ends a sentence; words are 10 and more."""


def markers(vocab_size: int = 100) -> Markers:
    """Return the special ids above; any id from 5 on may stand for a hidden token."""
    ids = np.arange(vocab_size)
    return Markers(CLS, SEP, MASK, PAD, END, ids[5:], ids >= 5, ids == STOP)


def documents(count: int = 30) -> np.ndarray:
    """Return documents of one to five sentences of three to nine words, each followed by END."""
    random = np.random.default_rng(0)
    parts: list[np.ndarray] = []
    for _ in range(count):
        for _ in range(random.integers(1, 6)):
            parts += [random.integers(10, 100, random.integers(3, 10)), np.array([STOP])]
        parts.append(np.array([END]))
    return np.concatenate(parts).astype(np.uint16)


def masked_tokenizer(directory: Path, types: bool = True) -> PreTrainedTokenizerFast:
    """Train the pipeline's tokenizer of a masked foundation on TEXTS."""
    train_tokenizer(TokenizerConfig(vocab_size=340), TEXTS, directory, masked=True, types=types)
    fast: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(directory)
    return fast


def masked_tokens(directory: Path, fast: PreTrainedTokenizerFast, repeats: int = 4) -> None:
    """Write the token arrays of TEXTS as the pipeline does."""
    directory.mkdir(parents=True, exist_ok=True)
    meta: dict[str, Any] = {"dtype": "uint16", "vocab_size": len(fast)}
    for split, times in (("train", repeats), ("valid", 1), ("test", 1)):
        ids = np.concatenate([part for row in encode(fast, TEXTS * times) for part in (row, [fast.eos_token_id])])
        ids.astype(np.uint16).tofile(directory / f"{split}.bin")
        size = sum(len(text.encode()) for text in TEXTS * times)
        meta[split] = {"tokens": len(ids), "bytes": size, "documents": len(TEXTS) * times}
    (directory / "meta.json").write_text(json.dumps(meta))


def masked_job(root: Path, family: str = "bert", next_sentence: bool = True, **trainer: Any) -> dict[str, Any]:
    """Return a small masked_lm job whose tokenizer and tokens lie under `root`."""
    if not (root / "tokenizer").exists():
        masked_tokens(root / "tokens", masked_tokenizer(root / "tokenizer", family == "bert"))
    shape = {"family": family, "layers": 2, "hidden": 32, "heads": 2, "intermediate": 64, "context": 40}
    return {
        "objective": "masked_lm",
        "seed": 1,
        "model": shape,
        "trainer": {"steps": 8, "batch_size": 4, "log_every": 1, "precision": "fp32", **trainer},
        "masked_lm": {"next_sentence": next_sentence},
        "tokens": str(root / "tokens"),
        "tokenizer": str(root / "tokenizer"),
        "out": str(root / "out"),
        "checkpoints": str(root / "checkpoints"),
        "spool": str(root / "spool.jsonl"),
        "threads": 1,
    }
