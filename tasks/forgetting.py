"""What a language model lost of the general text by being tuned: bits per byte before and after, window by window.

Both score the same token ids of the foundation's held-out text, so the same bytes in the same windows: a tokenizer
that grew chat markers gives all other tokens the ids that they had, which is checked. What a tuned model expects of
those markers it does not give to the text; that counts, because it is what the model would say.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.loading import TrainedModel
from tasks.paired import Terms, difference, terms

if TYPE_CHECKING:
    import numpy as np

MOST_WINDOWS = 250
"""Windows that are scored, spread evenly over the held-out text."""
LONGEST_WINDOW = 512
"""Tokens of a window, where the context is longer."""


def choose_windows(tokens: "np.ndarray", length: int) -> "np.ndarray":
    """Return at most `MOST_WINDOWS` windows of length + 1 ids that share no token, [windows, length + 1], in order.

    A text shorter than a window is one window. Raises ValueError for a text of less than two tokens.
    """
    import numpy as np

    if len(tokens) < 2:
        raise ValueError(f"the held-out text has {len(tokens)} tokens, expected at least 2")
    size = min(length + 1, len(tokens))
    count = len(tokens) // size
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_WINDOWS)).round().astype(np.int64))
    return np.stack([np.asarray(tokens[number * size : (number + 1) * size]) for number in chosen])


def same_ids(before: TrainedModel, after: TrainedModel) -> None:
    """Raise ValueError unless every token of the first model has the same id in the second, which may have more."""
    known = after.tokenizer.get_vocab()
    for token, number in before.tokenizer.get_vocab().items():
        if known.get(token) != number:
            raise ValueError(f"token {token!r} has the id {number} before the tuning and {known.get(token)} after it")


def measure(
    models: dict[str, TrainedModel], tuned: TrainedModel, tokens: Path, seed: int
) -> tuple[list[dict[str, Any]], dict[str, tuple[Terms, Terms]]]:
    """Hold a tuned model against each of the models that it was, on `tokens`/test.bin.

    Args:
        models: name -> the model before.

    Returns:
        A line for each: since (its name), n (windows), before and after in bits per byte, forgetting (after minus
        before) with low and high (95 %, windows resampled); and by name the scores before and after, by window.
    """
    import numpy as np

    from models.bases import longest_text
    from models.scoring import window_losses
    from tasks.encoding import token_bytes

    meta = json.loads((tokens / "meta.json").read_text())
    text = np.memmap(tokens / "test.bin", dtype=meta["dtype"], mode="r")
    length = min(LONGEST_WINDOW, *(longest_text(model.network) for model in (tuned, *models.values())))
    windows = choose_windows(text, length)
    first = next(iter(models.values()))
    bits = token_bytes(first.tokenizer)[windows[:, 1:]].sum(1) * np.log(2)
    after = terms(window_losses(tuned.network, windows), bits)
    table: list[dict[str, Any]] = []
    values: dict[str, tuple[Terms, Terms]] = {}
    for name, model in models.items():
        same_ids(model, tuned)
        before = terms(window_losses(model.network, windows), bits)
        found = difference(after, before, seed=seed).interval
        table.append(
            {
                "since": name,
                "n": len(windows),
                "before": before.value,
                "after": after.value,
                "forgetting": found.estimate,
                "low": found.low,
                "high": found.high,
            }
        )
        values[name] = before, after
    return table, values
