"""Step 3: byte-level BPE from the pretraining text, or the tokenizer of a base, and that text as token ids."""

from pathlib import Path
from typing import Any

from prefect import task

from tasks.base import find_base
from tasks.encoding import measure_bytes_per_token, sample_texts, train_tokenizer
from tasks.encoding_base import encode_dataset, take_tokenizer
from tasks.receipts import Receipt, run_step
from tasks.recipe import Recipe


@task
def tokenizer(recipe: Recipe, prepared: Receipt) -> Receipt:
    """Train the tokenizer, or take the base's, encode the corpus, and measure bytes per token on held-out text."""
    corpus = prepared.part("corpus")
    masked = recipe.pretrain.family == "masked"
    form = {"masked": masked, "types": masked and recipe.pretrain.model.family == "bert"}

    base = find_base(recipe.pretrain)

    def compute(out: Path, key: str) -> dict[str, Any]:
        trained: dict[str, int] = {}
        if base is None:
            texts = sample_texts(corpus.directory / "train.jsonl", recipe.tokenizer.max_train_bytes)
            trained = train_tokenizer(recipe.tokenizer, texts, out / "hf", **form)
        else:
            take_tokenizer(base.directory, out / "hf")
        meta = encode_dataset(out / "hf", corpus.directory, out / "tokens")
        return {**trained, **meta, "held_out_bytes_per_token": measure_bytes_per_token(meta["test"])}

    config = {} if base else {**recipe.tokenizer.model_dump(mode="json"), **form}
    parents = [corpus, *([base] if base else [])]
    return run_step(recipe.name, "tokenizer", config=config, parents=parents, compute=compute)
