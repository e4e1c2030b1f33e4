"""Byte-level BPE: trained with `tokenizers`, stored for Hugging Face, run by tiktoken into flat arrays."""

import json
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from models.config import Config

if TYPE_CHECKING:
    from tiktoken import Encoding
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

PATTERN = (
    r"'(?:[sdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s{0,256}[\r\n]+|\s{1,256}(?!\S)|\s"
)
"""How text falls into words before merging: the pattern of GPT-4 (cl100k_base in tiktoken), written without
possessive repeats, so that both regex engines read it alike, and with bounded runs of white space, since a
million spaces exhaust the stack of one of them."""

CHUNK_BYTES = 1 << 20
CHECKED_DOCUMENTS = 50


class TokenizerConfig(Config):
    """The vocabulary and what it is learnt from."""

    vocab_size: int = Field(default=4096, ge=300, le=1_000_000)
    """Ids in all: 5 special tokens (8 for a masked foundation), 256 bytes, the rest merges (fewer where the text
    gives out)."""

    min_frequency: int = Field(default=2, ge=1)
    """A pair must occur this often to be merged."""

    max_train_bytes: int = Field(default=30_000_000, ge=1000)
    """About how much text the merges are learnt from; a larger corpus is sampled evenly."""

    max_length: int = Field(default=1_000_000, ge=8)
    """The longest input that the stored tokenizer states to hold (Hugging Face `model_max_length`)."""


CLS, SEP, MASK = "<|cls|>", "<|sep|>", "<|mask|>"
"""What a masked foundation reads beside words: the beginning, the end of a segment, a hidden token."""


def special_tokens(masked: bool = False) -> list[str]:
    """Return the special tokens in the order of their ids, from 0; a masked foundation has three more."""
    from models.chat import ASSISTANT, END, END_OF_TEXT, PAD, USER

    return [END_OF_TEXT, PAD, USER, ASSISTANT, END, *([CLS, SEP, MASK] if masked else [])]


def read_texts(path: Path) -> Iterator[str]:
    """Yield the text of every row of a prepared jsonl file."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def sample_texts(path: Path, max_bytes: int) -> Iterator[str]:
    """Yield a file's texts, or about `max_bytes` of them, spread evenly and always the same ones."""
    share = max_bytes / max(1, path.stat().st_size)
    for text in read_texts(path):
        if share >= 1 or zlib.crc32(text.encode()) < share * 2**32:
            yield text


def train_tokenizer(
    config: TokenizerConfig, texts: Iterable[str], out: Path, masked: bool = False, types: bool = False
) -> dict[str, int]:
    """Train a byte-level BPE (Sennrich et al. 2016) and save it as a Hugging Face tokenizer in `out`.

    Special tokens take the first ids (`special_tokens`), then come the 256 bytes, then merges in their order. A
    masked foundation's tokenizer puts `<|cls|>` before a text and `<|sep|>` behind it, and behind the second text
    of a pair; with `types` it says which of the two a token is of, as BERT reads it. Returns vocab_size, merges and
    the bytes learnt from. Raises ValueError when there is no text.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from models.chat import CHAT_TEMPLATE

    size = 0

    def counted() -> Iterator[str]:
        nonlocal size
        for text in texts:
            size += len(text.encode())
            yield text

    special = special_tokens(masked)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(counted(), trainer)
    if not size:
        raise ValueError("corpus: no text to train the tokenizer on; expected at least one document")
    assert [tokenizer.token_to_id(token) for token in special] == list(range(len(special)))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special[0],
        eos_token=special[0],
        pad_token=special[1],
        extra_special_tokens=special[2:5],
        **(_masked_form(tokenizer, types) if masked else {}),
        model_max_length=config.max_length,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
    fast.chat_template = CHAT_TEMPLATE
    out.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(out)
    vocab_size = tokenizer.get_vocab_size()
    return {"vocab_size": vocab_size, "merges": vocab_size - len(special) - 256, "train_bytes": size}


def _masked_form(tokenizer: "Tokenizer", types: bool) -> dict[str, Any]:
    """Make a tokenizer frame its texts as BERT does, and return its further arguments for Hugging Face.

    The mask takes the space before it along, as words do in a byte-level vocabulary.
    """
    from tokenizers import AddedToken, processors

    mask = AddedToken(MASK, lstrip=True, special=True)
    tokenizer.add_special_tokens([mask])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (CLS, SEP)],
    )
    return {
        "cls_token": CLS,
        "sep_token": SEP,
        "mask_token": mask,
        "model_input_names": ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"],
    }


def byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves, the other bytes for the characters from 256 on, in
    order (Radford et al. 2019, `bytes_to_unicode`).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def load_tiktoken(tokenizer: Path) -> "Encoding":
    """Return tiktoken's encoding with the ids of the Hugging Face tokenizer stored in that directory.

    tiktoken merges the pair whose joined bytes have the lowest rank; a token's rank is its id, and ids grow
    in the order of merges. Raises ValueError for a tokenizer that this module did not train.
    """
    from tiktoken import Encoding

    stored = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in stored["added_tokens"]}
    patterns = [
        part.get("pattern", {}).get("Regex") for part in (stored["pre_tokenizer"] or {}).get("pretokenizers", [])
    ]
    if stored["model"]["type"] != "BPE" or PATTERN not in patterns:
        raise ValueError(f"{tokenizer}: expected a byte-level BPE tokenizer of this project")
    alphabet = byte_alphabet()
    ranks = {
        bytes(alphabet[character] for character in token): number
        for token, number in stored["model"]["vocab"].items()
        if token not in special
    }
    return Encoding("alma", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)


def token_bytes(tokenizer: "PreTrainedTokenizerFast") -> np.ndarray:
    """Return how many bytes of text each id of a byte-level tokenizer stands for, 0 for special tokens, [ids]."""
    alphabet, special = byte_alphabet(), set(tokenizer.all_special_ids)
    sizes = np.zeros(len(tokenizer), dtype=np.int64)
    for token, number in tokenizer.get_vocab().items():
        if number not in special:
            sizes[number] = sum(character in alphabet for character in token)
    return sizes


def choose_dtype(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """Return the smallest unsigned integer type that holds every id."""
    return np.uint16 if vocab_size <= 65536 else np.uint32


def _chunks(texts: Iterable[str], counts: dict[str, int]) -> Iterator[list[str]]:
    chunk: list[str] = []
    held = 0
    for text in texts:
        size = len(text.encode())
        counts["bytes"] += size
        counts["documents"] += 1
        chunk.append(text)
        held += size
        if held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _check_agreement(tokenizer: Path, encoding: "Encoding", texts: list[str]) -> None:
    from tokenizers import Tokenizer

    reference = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    reference.encode_special_tokens = True  # text that looks like a special token is text
    for text in texts:
        ids = encoding.encode_ordinary(text)
        assert ids == reference.encode(text, add_special_tokens=False).ids, f"tokenizers disagree on {text[:80]!r}"


def encode_split(tokenizer: Path, source: Path, target: Path) -> dict[str, int]:
    """Write the ids of a prepared split, each document followed by <|endoftext|>, as one flat array of bytes.

    uint16, or uint32 for a vocabulary of more than 65,536; little-endian. Special tokens' names inside the
    text are encoded as plain text. Uses every core: tiktoken works outside of the interpreter's lock. The
    first documents are encoded by the Hugging Face tokenizer too and must give the same ids. Returns tokens,
    bytes (UTF-8, of the text alone) and documents.
    """
    encoding = load_tiktoken(tokenizer)
    dtype = np.dtype(choose_dtype(encoding.n_vocab)).newbyteorder("<")
    end = encoding.encode_single_token(special_tokens()[0])
    counts = {"tokens": 0, "bytes": 0, "documents": 0}

    def encode(chunk: list[str]) -> np.ndarray:
        parts = []
        for text in chunk:
            parts += [encoding.encode_to_numpy(text, disallowed_special=()), np.array([end], np.uint32)]
        return np.concatenate(parts).astype(dtype)

    target.parent.mkdir(parents=True, exist_ok=True)
    workers = os.cpu_count() or 1
    waiting: deque[Future[np.ndarray]] = deque()
    with target.open("wb") as file, ThreadPoolExecutor(workers) as pool:

        def write_first() -> None:
            ids = waiting.popleft().result()
            counts["tokens"] += len(ids)
            file.write(ids.tobytes())

        for number, chunk in enumerate(_chunks(read_texts(source), counts)):
            if number == 0:
                _check_agreement(tokenizer, encoding, chunk[:CHECKED_DOCUMENTS])
            waiting.append(pool.submit(encode, chunk))
            if len(waiting) > 2 * workers:
                write_first()
        while waiting:
            write_first()
    return counts


def measure_bytes_per_token(counts: dict[str, Any]) -> float:
    """Return bytes per token of an encoded split, document ends not counted; 0 for an empty one."""
    return counts["bytes"] / max(1, counts["tokens"] - counts["documents"])
