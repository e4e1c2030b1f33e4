"""Step 3: byte-level BPE from the pretraining text, and that text as arrays of token ids."""

import json
from pathlib import Path
from typing import Any

from prefect import task

from tasks.encoding import (
    choose_dtype,
    encode_split,
    measure_bytes_per_token,
    sample_texts,
    train_tokenizer,
)
from tasks.receipts import Receipt, run_step
from tasks.recipe import Recipe
from tasks.sources import SPLITS


@task
def tokenizer(recipe: Recipe, prepared: Receipt) -> Receipt:
    """Train the tokenizer, encode the corpus, and measure bytes per token on held-out text."""
    corpus = prepared.part("corpus")

    def compute(out: Path, key: str) -> dict[str, Any]:
        texts = sample_texts(corpus.directory / "train.jsonl", recipe.tokenizer.max_train_bytes)
        trained = train_tokenizer(recipe.tokenizer, texts, out / "hf")
        counts = {
            split: encode_split(out / "hf", corpus.directory / f"{split}.jsonl", out / "tokens" / f"{split}.bin")
            for split in SPLITS
        }
        vocab_size = trained["vocab_size"]
        meta = {"dtype": choose_dtype(vocab_size).__name__, "vocab_size": vocab_size, **counts}
        (out / "tokens" / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        return {**trained, **counts, "held_out_bytes_per_token": measure_bytes_per_token(counts["test"])}

    return run_step(recipe.name, "tokenizer", config=recipe.tokenizer, parents=[corpus], compute=compute)
