"""Tokenising speed, MB/s: this project's encoder against `datasets.map(batched)` with the Hugging Face
tokenizer.

python benchmarks/tokenizing.py [--text FILE] [--vocab-size 50257] [--repeats 5]

Both sides read the same jsonl file, use every core and take turns; the table shows the median of each.
Without a file the starter corpus is taken, its words varied until 20 MB are reached.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

MEGABYTE = 1_000_000
DOCUMENT_BYTES = 2000


def read_documents(path: Path, limit: int) -> Iterator[str]:
    """Yield documents of about 2,000 bytes of a text or gzip file, up to `limit` bytes."""
    from tasks.formats import read_lines

    held, size, total = [], 0, 0
    for _, line, _ in read_lines(path, str(path)):
        held.append(line.decode("utf-8", "replace"))
        size += len(line) + 1
        if size >= DOCUMENT_BYTES:
            yield "\n".join(held)
            total += size
            held, size = [], 0
        if total >= limit:
            return


def vary_starter(limit: int) -> Iterator[str]:
    """Yield starter documents with names and numbers strewn in, so that no side profits from equal texts."""
    from tasks.starter.generate import StarterConfig, generate

    texts = [row["text"] for row in generate(StarterConfig())["corpus"]["train"]]
    dice, total = random.Random(0), 0
    while total < limit:
        words = " ".join(dice.sample(texts, 8)).split()
        for _ in range(len(words) // 20):
            place = dice.randrange(len(words))
            words[place] = words[place][::-1] + str(dice.randrange(10_000))
        text = " ".join(words)
        total += len(text.encode())
        yield text


def encode_with_datasets(tokenizer: Path, source: Path, cache: Path) -> "Dataset":
    """Encode with `datasets.map` in batches on every core; return the encoded data set."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    fast = AutoTokenizer.from_pretrained(tokenizer)
    rows = datasets.load_dataset("json", data_files=str(source), split="train", cache_dir=str(cache))

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids = fast(batch["text"], add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return {"input_ids": [[*each, fast.eos_token_id] for each in ids]}

    return rows.map(
        encode,
        batched=True,
        remove_columns=rows.column_names,
        num_proc=os.cpu_count(),
        load_from_cache_file=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="a text file, plain or .gz; else the starter corpus, varied")
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--vocab-size", type=int, default=50257)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # processes already use every core

    from tasks.encoding import TokenizerConfig, encode_split, sample_texts, train_tokenizer
    from tasks.readers import write_rows

    limit = arguments.megabytes * MEGABYTE
    documents = read_documents(arguments.text, limit) if arguments.text else vary_starter(limit)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source, tokenizer = place / "text.jsonl", place / "hf"
        write_rows(source, [{"id": str(number), "text": text} for number, text in enumerate(documents)])
        config = TokenizerConfig(vocab_size=arguments.vocab_size)
        trained = train_tokenizer(config, sample_texts(source, config.max_train_bytes), tokenizer)
        times: dict[str, list[float]] = {"ours": [], "datasets.map": []}
        tokens: dict[str, int] = {}
        size = 0
        for turn in range(arguments.repeats):
            start = time.perf_counter()
            counts = encode_split(tokenizer, source, place / "tokens.bin")
            times["ours"].append(time.perf_counter() - start)
            tokens["ours"], size = counts["tokens"], counts["bytes"]
            start = time.perf_counter()
            encoded = encode_with_datasets(tokenizer, source, place / f"cache-{turn}")
            times["datasets.map"].append(time.perf_counter() - start)
            tokens["datasets.map"] = sum(map(len, encoded["input_ids"]))
        assert tokens["ours"] == tokens["datasets.map"], tokens
    rates = {side: size / MEGABYTE / statistics.median(seconds) for side, seconds in times.items()}
    print(f"{size / MEGABYTE:.1f} MB, vocabulary {trained['vocab_size']}, {os.cpu_count()} cores\n")
    print("| side | median s | MB/s | ratio |\n|---|---|---|---|")
    for side, rate in rates.items():
        seconds, ratio = statistics.median(times[side]), rate / rates["datasets.map"]
        print(f"| {side} | {seconds:.2f} | {rate:.1f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
