"""A causal foundation: perplexity and bits per byte of held-out text, beside the unigram distribution."""

import json
from pathlib import Path
from typing import Any

from tasks.baselines import unigram_bits_per_byte
from tasks.encoding import token_bytes
from tasks.loading import TrainedModel
from tasks.metrics import Scores, language_scores

SHOWN = "perplexity"
"""The score that stands beside the one that decides."""


def assess(model: TrainedModel, tokens: Path) -> tuple[Scores, dict[str, dict[str, float]]]:
    """Return the scores on `tokens`/test.bin and those of the baselines by name."""
    import numpy as np

    meta = json.loads((tokens / "meta.json").read_text())
    train, test = (np.memmap(tokens / f"{split}.bin", dtype=meta["dtype"], mode="r") for split in ("train", "test"))
    unigram = unigram_bits_per_byte(train, test, meta["test"]["bytes"], meta["vocab_size"])
    return score_tokens(model, tokens / "test.bin", meta["dtype"]), {"unigram": {"bits_per_byte": unigram}}


def assess_again(model: TrainedModel, test: list[dict[str, Any]]) -> Scores:
    """Score a registered foundation, with its own tokenizer, on another test split than it was assessed on."""
    import tempfile

    import numpy as np

    end = model.tokenizer.eos_token_id
    texts = [row["text"] for row in test]
    ids = [token for text in texts for token in (*model.tokenizer(text, add_special_tokens=False).input_ids, end)]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "test.bin"
        np.asarray(ids, dtype=np.uint32).tofile(path)
        return score_tokens(model, path, "uint32", resamples=0)


def score_tokens(model: TrainedModel, path: Path, dtype: str, resamples: int = 1000) -> Scores:
    """Score a flat token file; the windows that the model sees are what the interval resamples."""
    import numpy as np

    from models.scoring import token_array_losses

    nats, counts = token_array_losses(model.network, path, dtype)
    sizes = token_bytes(model.tokenizer)
    ids = np.fromfile(path, dtype=dtype)[1:]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return language_scores(nats.tolist(), counts.tolist(), np.add.reduceat(sizes[ids], starts).tolist(), resamples)
