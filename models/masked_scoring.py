"""How likely a masked language model finds a text, a word in its place, and held-out text as a whole."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import longest_text
from models.data import pad_right
from models.masked_lm import has_pair_head, held_out_batches, predictions
from models.masking import read_markers
from models.module import Batch
from models.rows import encode, plain_batches

MASK_SHARE = 0.15
"""Share of the tokens that is hidden in held-out text, whatever a model was trained with."""


@dataclass(frozen=True)
class MaskedScores:
    """What a model made of held-out text with fixed masks and fixed pairs."""

    nats: np.ndarray
    """Cross-entropy of each hidden token, [targets]."""
    right: np.ndarray
    """Whether the likeliest token was the hidden one, [targets]."""
    targets: np.ndarray
    """The hidden tokens themselves, [targets]."""
    clusters: np.ndarray
    """The document or window of each, [targets]: what an interval resamples."""
    not_next: np.ndarray
    """Whether B is from another document, [pairs]; empty for a model that judges no pairs."""
    pair_right: np.ndarray
    """Whether that was said, [pairs]."""
    pair_clusters: np.ndarray
    """The document of each pair, [pairs]."""


def token_array_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tokens: np.ndarray, batch_size: int = 32
) -> MaskedScores:
    """Return the scores of flat tokens [tokens], as pairs where the model judges them and as windows where not.

    Which tokens are hidden and which segments are paired is the same whenever the tokens and the context are.
    """
    paired = has_pair_head(model)
    markers = read_markers(tokenizer, model.config.vocab_size)
    context = longest_text(model)
    parts: list[tuple[np.ndarray, ...]] = []
    pairs: list[tuple[np.ndarray, ...]] = []
    for batch in held_out_batches(tokens, markers, context, batch_size, MASK_SHARE, paired):
        logits, pair_logits = _evaluate(model, batch)
        truth, clusters = batch["targets"], batch["clusters"].numpy()
        nats = F.cross_entropy(logits, truth, reduction="none").double().numpy()
        row = batch["places"].numpy() // batch["ids"].shape[1]
        parts.append((nats, (logits.argmax(-1) == truth).numpy(), truth.numpy(), clusters[row]))
        if pair_logits is not None:
            not_next = batch["not_next"]
            pairs.append((not_next.numpy() == 1, (pair_logits.argmax(-1) == not_next).numpy(), clusters))
    pairs = pairs or [(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64))]
    columns = [np.concatenate(column) for rows in (parts, pairs) for column in zip(*rows, strict=True)]
    return MaskedScores(*columns)


def fill_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    items: list[tuple[str, str, str]],
    batch_size: int = 64,
) -> list[float]:
    """Return log P(word | before [MASK] after) of each (before, word, after), in nats, float32.

    The word has the space that separates it from `before`. Raises ValueError for a word that is not one token, and
    for a text that is longer than the context.
    """
    words = [ids.tolist() for ids in encode(tokenizer, [word for _, word, _ in items])]
    for (_, word, _), ids in zip(items, words, strict=True):
        if len(ids) != 1:
            raise ValueError(f"{word!r} is {len(ids)} tokens, expected one that a single mask can stand for")
    contexts = list(dict.fromkeys((before, after) for before, _, after in items))
    befores, afters = (encode(tokenizer, [side[n] for side in contexts]) for n in (0, 1))
    mask = np.array([tokenizer.mask_token_id])
    rows = [np.concatenate([before, mask, after]) for before, after in zip(befores, afters, strict=True)]
    logs = torch.log_softmax(_masked_logits(model, tokenizer, rows, [len(ids) for ids in befores], batch_size), -1)
    number = {pair: i for i, pair in enumerate(contexts)}
    return [float(logs[number[before, after], ids[0]]) for (before, _, after), ids in zip(items, words, strict=True)]


def pseudo_log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], batch_size: int = 64
) -> list[float]:
    """Return the pseudo-log-likelihood of each text in nats: each token masked in turn, their log P summed.

    Source: Salazar et al. 2020, equation 1. An empty text has 0. Raises ValueError for a text that is longer than
    the context.
    """
    all_ids = encode(tokenizer, texts)
    rows, places, targets, owners = [], [], [], []
    for owner, ids in enumerate(all_ids):
        for place, target in enumerate(ids):
            masked = ids.copy()
            masked[place] = tokenizer.mask_token_id
            rows.append(masked)
            places.append(place)
            targets.append(int(target))
            owners.append(owner)
    totals = np.zeros(len(texts))
    # So many rows at once that their logits stay small.
    for start in range(0, len(rows), 16 * batch_size):
        part = slice(start, start + 16 * batch_size)
        logits = _masked_logits(model, tokenizer, rows[part], places[part], batch_size)
        nats = F.cross_entropy(logits, torch.tensor(targets[part]), reduction="none").double().numpy()
        np.subtract.at(totals, owners[part], nats)
    return [float(total) for total in totals]


def _masked_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[np.ndarray],
    places: list[int],
    batch_size: int,
) -> Tensor:
    """Return the logits [rows, vocabulary] at one place of each row of ids, framed by [CLS] and [SEP]."""
    lengths = np.array([len(row) + 2 for row in rows])
    longest = longest_text(model)
    if len(rows) and lengths.max() > longest:
        raise ValueError(f"a text has {lengths.max()} tokens with its markers, expected at most {longest}")
    logits = torch.zeros(len(rows), model.config.vocab_size)
    cls, sep = np.array([tokenizer.cls_token_id]), np.array([tokenizer.sep_token_id])
    for chosen in plain_batches(lengths, batch_size):
        ids = pad_right([np.concatenate([cls, rows[i], sep]) for i in chosen], tokenizer.pad_token_id)
        width = ids.shape[1]
        real = torch.arange(width) < torch.from_numpy(lengths[chosen])[:, None]
        at = torch.tensor([number * width + places[i] + 1 for number, i in enumerate(chosen)])
        logits[torch.from_numpy(chosen)] = _evaluate(model, {"ids": ids, "real": real, "places": at})[0]
    return logits


def _evaluate(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Return the float32 logits of `predictions` on the CPU, without dropout and gradient."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        logits, pair_logits = predictions(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
    model.train(was_training)
    return logits.float().cpu(), None if pair_logits is None else pair_logits.float().cpu()
