"""A tiny tokenizer, tiny text and tiny jobs for the tests of the training core."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.chat import ASSISTANT, CHAT_TEMPLATE, END, END_OF_TEXT, PAD, USER
from models.signals import StopSignal

TEXTS = [
    f"{name} is a {trade} and lives in {place}. The {trade} {name} works near the {place}."
    for name in ("Ada", "Ben", "Cora", "Dan")
    for trade in ("baker", "smith", "nurse")
    for place in ("mill", "harbour", "square")
]


def tokenizer(directory: Path, vocab_size: int = 320) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on TEXTS and save it as the pipeline does."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT, PAD, USER, ASSISTANT, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)
    return fast


def tokens(directory: Path, fast: PreTrainedTokenizerFast, repeats: int = 8) -> None:
    """Write the token arrays of TEXTS as the pipeline does."""
    directory.mkdir(parents=True, exist_ok=True)
    meta: dict[str, Any] = {"dtype": "uint16", "vocab_size": len(fast)}
    for split, times in (("train", repeats), ("valid", 1), ("test", 1)):
        ids: list[int] = []
        for text in TEXTS * times:
            ids += [*fast.encode(text, add_special_tokens=False), 0]
        np.asarray(ids, dtype=np.uint16).tofile(directory / f"{split}.bin")
        size = sum(len(text.encode()) for text in TEXTS * times)
        meta[split] = {"tokens": len(ids), "bytes": size, "documents": len(TEXTS) * times}
    (directory / "meta.json").write_text(json.dumps(meta))


def causal_job(root: Path, **trainer: Any) -> dict[str, Any]:
    """Return a small causal_lm job whose tokenizer and tokens lie under `root`."""
    if not (root / "tokenizer").exists():
        tokens(root / "tokens", tokenizer(root / "tokenizer"))
    return {
        "objective": "causal_lm",
        "seed": 1,
        "model": {"size": "tiny", "layers": 2, "hidden": 32, "heads": 2, "intermediate": 64, "context": 16},
        "trainer": {"steps": 8, "batch_size": 4, "log_every": 1, **trainer},
        "tokens": str(root / "tokens"),
        "tokenizer": str(root / "tokenizer"),
        "out": str(root / "out"),
        "checkpoints": str(root / "checkpoints"),
        "spool": str(root / "spool.jsonl"),
        "threads": 1,
    }


def classification_rows() -> list[dict[str, str]]:
    """Return texts whose label is the trade they name."""
    return [
        {"id": str(i), "text": text, "label": next(t for t in ("baker", "smith", "nurse") if t in text)}
        for i, text in enumerate(TEXTS)
    ]


def instruction_rows() -> list[dict[str, str]]:
    """Return questions about the people of TEXTS, some with an input."""
    return [
        {
            "id": str(i),
            "instruction": f"Where does {text.split()[0]} live?",
            "input": f"Trade: {text.split()[3]}" if i % 2 else "",
            "output": text.split(". ")[0].split()[-1],
        }
        for i, text in enumerate(TEXTS)
    ]


def entity_rows() -> list[dict[str, Any]]:
    """Return the words of TEXTS, persons and places tagged."""
    kinds = {"Ada": "PER", "Ben": "PER", "Cora": "PER", "Dan": "PER", "mill": "LOC", "harbour": "LOC", "square": "LOC"}
    rows = []
    for i, text in enumerate(TEXTS):
        words = text.replace(".", " .").split()[: 6 + i % 11]
        tags = [f"B-{kinds[word]}" if word in kinds else "O" for word in words]
        rows.append({"id": str(i), "tokens": words, "tags": tags})
    return rows


def answer_rows() -> list[dict[str, Any]]:
    """Return questions about the people of TEXTS with the span that answers them."""
    rows = []
    for i, text in enumerate(TEXTS):
        place = text.split(". ")[0].split()[-1]
        context = text if i % 2 else text.split(". ")[0]
        answers = {"text": [place], "answer_start": [context.index(place)]}
        question = f"Where does {text.split()[0]} live?"
        rows.append({"id": str(i), "question": question, "context": context, "answers": answers})
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as JSON lines and return the path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows_job(root: Path, objective: str, rows: Sequence[dict[str, Any]], **trainer: Any) -> dict[str, Any]:
    """Return a small job of an objective that learns from rows; training and validation rows are the same."""
    job = causal_job(root, **trainer)
    del job["tokens"]
    job["model"]["context"] = 64
    path = write_rows(root / f"{objective}.jsonl", rows)
    return {**job, "objective": objective, "train": path, "valid": path}


class StopAfter(StopSignal):
    """A signal that arrives while step `step` is computed."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.asked = 0

    @property
    def received(self) -> bool:
        self.asked += 1
        if self.asked >= self.step:
            self.number = signal.SIGTERM
        return self.number != 0

    def install(self) -> None:
        pass
