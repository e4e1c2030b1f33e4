"""A causal foundation: perplexity and bits per byte of held-out text, beside the unigram distribution."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.baselines import unigram_bits
from tasks.encoding import token_bytes
from tasks.loading import TrainedModel
from tasks.metrics import Scores, language_scores

if TYPE_CHECKING:
    import numpy as np

SHOWN = "perplexity"
"""The score that stands beside the one that decides."""


def assess(model: TrainedModel, tokens: Path) -> dict[str, Scores]:
    """Return the scores of the model and of the baseline `unigram` on `tokens`/test.bin."""
    import numpy as np

    meta = json.loads((tokens / "meta.json").read_text())
    train = np.memmap(tokens / "train.bin", dtype=meta["dtype"], mode="r")
    scores, windows = score_tokens(model, tokens / "test.bin", meta["dtype"])
    bits = windows.sums(unigram_bits(train, meta["vocab_size"])[windows.ids])
    known = language_scores((bits * np.log(2)).tolist(), windows.counts.tolist(), windows.bytes.tolist())
    return {"model": scores, "unigram": Scores(scores={"bits_per_byte": known.scores["bits_per_byte"]})}


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
        return score_tokens(model, path, "uint32", resamples=0)[0]


class Windows(NamedTuple):
    """The windows of a token file that a model is asked for, in order; its first token is given."""

    ids: "np.ndarray"
    """The tokens that are predicted, [tokens]."""
    counts: "np.ndarray"
    """How many of them are in each window, [windows]."""
    bytes: "np.ndarray"
    """UTF-8 bytes of each window's text, [windows]."""

    def sums(self, values: "np.ndarray") -> "np.ndarray":
        """Sum values of the tokens over each window."""
        import numpy as np

        return np.add.reduceat(values, np.cumsum(self.counts) - self.counts)


def score_tokens(model: TrainedModel, path: Path, dtype: str, resamples: int = 1000) -> tuple[Scores, Windows]:
    """Score a flat token file; the windows that the model sees are what the interval resamples."""
    import numpy as np

    from models.scoring import token_array_losses

    nats, counts = token_array_losses(model.network, path, dtype)
    ids = np.fromfile(path, dtype=dtype)[1:]
    windows = Windows(ids, counts, np.zeros(0))
    windows = windows._replace(bytes=windows.sums(token_bytes(model.tokenizer)[ids]))
    return language_scores(nats.tolist(), counts.tolist(), windows.bytes.tolist(), resamples), windows
