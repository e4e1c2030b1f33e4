"""Tokenizer: special ids, the chat template, and tiktoken's ids equal to the Hugging Face tokenizer's."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from models.chat import render
from tasks.encoding import (
    TokenizerConfig,
    byte_alphabet,
    encode_split,
    load_tiktoken,
    measure_bytes_per_token,
    sample_texts,
    special_tokens,
    train_tokenizer,
)
from tasks.readers import write_rows

SYLLABLES = [
    "ba",
    "bab",
    "abba",
    "la",
    "lal",
    "ing",
    "the",
    "'s",
    "'LL",
    "12",
    "2024",
    "é",
    "ß",
    "☃",
    "的",
    "  ",
    "\n",
]
HARD = [
    *(f"{token} and {token}text" for token in ("<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")),
    "I'LL we've O'Ryan's 12345 3.14 １２ ²³ Ⅻ",  # noqa: RUF001
    "tabs\t\tand\r\n\r\n  lines \u00a0\u2003\u3000 wide\u200bspaces\x85\x1c",
    "👩‍👩‍👧 flags 🇫🇷 e\u0301 ｆｕｌｌ नमस्ते العربية",  # noqa: RUF001
    "\x00\x01\x7f\U000e0001\U0010ffff",
    "a" * 5000,
    " " * 5000 + "x",
    "\n \n" * 2000,
]


def corpus() -> list[str]:
    random.seed(0)
    return ["".join(random.choices(SYLLABLES, k=60)) for _ in range(400)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer") / "hf"
    metrics = train_tokenizer(TokenizerConfig(vocab_size=900), corpus(), out)
    assert metrics["vocab_size"] == 900
    assert metrics["merges"] == 900 - 256 - 5
    return out


@pytest.fixture(scope="module")
def pair(trained: Path) -> tuple:
    reference = Tokenizer.from_file(str(trained / "tokenizer.json"))
    reference.encode_special_tokens = True
    return load_tiktoken(trained), reference


def agree(pair: tuple, text: str) -> None:
    fast, reference = pair
    ids = fast.encode_ordinary(text)
    assert ids == reference.encode(text, add_special_tokens=False).ids
    assert fast.decode_bytes(ids) == text.encode()
    assert not set(ids) & set(range(5))


@pytest.mark.parametrize("text", HARD)
def test_hard_texts_agree(pair: tuple, text: str) -> None:
    agree(pair, text)


@settings(max_examples=500, deadline=None)
@given(text=st.text() | st.text(alphabet="abl12 '\n\r\té☃的ing") | st.lists(st.sampled_from(SYLLABLES)).map("".join))
def test_any_text_agrees(pair: tuple, text: str) -> None:
    agree(pair, text)


def test_every_character_agrees(pair: tuple) -> None:
    fast, reference = pair
    for start in range(0, 0x110000, 256):
        if not 0xD800 <= start < 0xE000:
            text = "".join(f"a{chr(code)}{chr(code)}b 1{chr(code)} {chr(code)}." for code in range(start, start + 256))
            if start < 0x30000 or start % 0x4000 == 0:  # beyond, planes are unassigned or private
                assert fast.encode_ordinary(text) == reference.encode(text, add_special_tokens=False).ids


def test_million_spaces_are_encoded(pair: tuple) -> None:
    agree(pair, " " * 1_000_000 + "a")


def test_byte_alphabet_is_the_one_of_the_library() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = byte_alphabet()
    assert set(alphabet) == set(ByteLevel.alphabet())
    assert sorted(alphabet.values()) == list(range(256))
    assert (alphabet["Ġ"], alphabet["Ċ"], alphabet["a"]) == (0x20, 0x0A, 0x61)


def test_hugging_face_loads_it_with_special_ids_and_chat_template(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert tokenizer.convert_tokens_to_ids(special_tokens()) == [0, 1, 2, 3, 4]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 0, 1)
    messages = [{"role": "user", "content": " Who? \n"}, {"role": "assistant", "content": "Ada. "}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == render("Who?", output="Ada.") == "<|user|> Who?<|assistant|> Ada.<|end|>"
    ids = tokenizer(text)["input_ids"]
    assert (ids[0], ids[-1]) == (2, 4)
    assert tokenizer.decode(ids) == text


def test_encoded_split_is_every_document_and_its_end(trained: Path, tmp_path: Path) -> None:
    texts = ["abba the 12", "", "<|endoftext|>", *HARD]
    write_rows(tmp_path / "train.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(texts)])
    counts = encode_split(trained, tmp_path / "train.jsonl", tmp_path / "tokens/train.bin")
    ids = np.fromfile(tmp_path / "tokens/train.bin", "<u2")
    encoding = load_tiktoken(trained)
    assert ids.tolist() == [number for text in texts for number in [*encoding.encode_ordinary(text), 0]]
    assert counts == {
        "tokens": len(ids),
        "bytes": sum(len(text.encode()) for text in texts),
        "documents": len(texts),
    }
    assert measure_bytes_per_token(counts) == counts["bytes"] / (len(ids) - len(texts))


def test_empty_split_gives_an_empty_file(trained: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "valid.jsonl", [])
    counts = encode_split(trained, tmp_path / "valid.jsonl", tmp_path / "valid.bin")
    assert counts == {"tokens": 0, "bytes": 0, "documents": 0}
    assert measure_bytes_per_token(counts) == 0.0
    assert (tmp_path / "valid.bin").stat().st_size == 0


def test_training_twice_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    train_tokenizer(TokenizerConfig(vocab_size=900), corpus(), tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()


def test_no_text_and_a_foreign_tokenizer_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no text to train the tokenizer on"):
        train_tokenizer(TokenizerConfig(), [], tmp_path)
    stored = json.loads((trained / "tokenizer.json").read_text())
    stored["pre_tokenizer"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="expected a byte-level BPE tokenizer of this project"):
        load_tiktoken(tmp_path)


def test_sample_is_even_and_stable(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    write_rows(path, [{"id": str(n), "text": f"document {n} " * 10} for n in range(2000)])
    texts = list(sample_texts(path, path.stat().st_size // 4))
    assert 400 < len(texts) < 600
    assert texts == list(sample_texts(path, path.stat().st_size // 4))
    assert len(list(sample_texts(path, 1 << 30))) == 2000
