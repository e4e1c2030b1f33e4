"""A masked foundation: how well it fills gaps in held-out text and tells true pairs of segments from random ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.audits.statistics import percentile_interval, ratio_resamples
from tasks.loading import TrainedModel
from tasks.metrics import Score, Scores
from tasks.paired import terms

if TYPE_CHECKING:
    from models.masked_scoring import MaskedScores

SHOWN = "masked_perplexity"
"""The score that stands beside the one that decides."""


def assess(model: TrainedModel, tokens: Path) -> dict[str, Scores]:
    """Return the scores of the model and of the baselines on `tokens`/test.bin.

    unigram: the training text's distribution of tokens, on the same gaps. majority: always the commoner answer
    on the same pairs, where the model judges pairs.
    """
    from models.masked_scoring import token_array_scores

    meta = json.loads((tokens / "meta.json").read_text())
    train, test = (np.memmap(tokens / f"{split}.bin", dtype=meta["dtype"], mode="r") for split in ("train", "test"))
    found = token_array_scores(model.network, model.tokenizer, test)
    special = np.isin(np.arange(meta["vocab_size"]), model.tokenizer.all_special_ids)
    scores = {"model": summarise(found), "unigram": unigram_scores(train, found, special)}
    if len(found.not_next):
        commoner = found.not_next == (found.not_next.mean() >= 0.5)
        scores["majority"] = Scores(
            scores={"nsp_accuracy": _score(commoner, found.pair_clusters, "the commoner answer for each pair")}
        )
    return scores


def assess_again(model: TrainedModel, test: list[dict[str, Any]]) -> Scores:
    """Score a registered foundation, with its own tokenizer, on another test split than it was assessed on."""
    from models.masked_scoring import token_array_scores
    from models.rows import encode

    tokenizer = model.tokenizer
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    texts = encode(tokenizer, [row["text"] for row in test])
    tokens = np.concatenate([part for ids in texts for part in (ids, [end])])
    return summarise(token_array_scores(model.network, tokenizer, tokens), resamples=0)


def summarise(found: "MaskedScores", resamples: int = 1000, seed: int = 0) -> Scores:
    """Return masked_nats (per hidden token), masked_perplexity, masked_accuracy and, with pairs, nsp_accuracy.

    The intervals resample whole documents, or whole windows for a model that judges no pairs: gaps of one text and
    pairs of one document are no independent evidence. `resamples`: 0 for no intervals.
    """
    values = {
        "masked_nats": (found.nats, found.clusters, "cross-entropy of hidden tokens"),
        "masked_accuracy": (found.right, found.clusters, "likeliest token for each hidden one"),
    }
    if len(found.not_next):
        values["nsp_accuracy"] = (found.pair_right, found.pair_clusters, "likelier answer for each pair")
    scores = {name: _score(*given, resamples=resamples, seed=seed) for name, given in values.items()}
    nats = scores["masked_nats"]
    ends = {name: None if end is None else float(np.exp(end)) for name, end in (("low", nats.low), ("high", nats.high))}
    perplexity = {"value": float(np.exp(nats.value)), **ends, "terms": None}
    scores["masked_perplexity"] = nats.model_copy(update=perplexity)
    return Scores(scores=scores)


def _score(items: np.ndarray, clusters: np.ndarray, scorer: str, resamples: int = 1000, seed: int = 0) -> Score:
    """Return the mean of items, [items], whose clusters, [items], are resampled."""
    # Items are summed within their clusters first: only these are drawn.
    own = terms(items, clusters=clusters)
    low = high = None
    if resamples and len(own.units()[0]) > 1:
        sums, sizes = (side[:, 0] for side in own.units())
        _, low, high, _ = percentile_interval(own.value, ratio_resamples(sums, sizes, None, resamples, seed))
    return Score(value=own.value, low=low, high=high, items=len(items), scorer=scorer, terms=own)


def unigram_scores(train: np.ndarray, asked: "MaskedScores", special: np.ndarray) -> Scores:
    """Return masked_nats, masked_perplexity and masked_accuracy of the training tokens' own distribution.

    p(t) = (count(t) + 1) / (N + V) over the V ids that can be hidden. Args: train [tokens], ids; asked: the hidden
    tokens; special: whether an id is never hidden, [ids].
    """
    counts = np.zeros(len(special))
    for start in range(0, len(train), 1 << 24):
        counts += np.bincount(train[start : start + (1 << 24)], minlength=len(special))
    counts = np.where(special, 0.0, counts + 1.0)
    nats, right = np.log(counts.sum()) - np.log(counts[asked.targets]), asked.targets == counts.argmax()
    return summarise(replace(asked, nats=nats, right=right, not_next=np.zeros(0)))
