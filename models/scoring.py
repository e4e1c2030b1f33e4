"""How likely a model finds a text: continuations, whole token arrays, labels; in batches sorted by length."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import longest_text
from models.causal_lm import windows
from models.classification import decode, label_logits, text_ids
from models.data import pad_right
from models.heads import padded, sees_both_sides
from models.rows import plain_batches


def continuation_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: list[tuple[str, str]],
    batch_size: int = 64,
) -> list[float]:
    """Return log P(continuation | prefix) of each pair, in nats, float32.

    Prefix and continuation are tokenised as one text, as in training. The continuation's tokens are those
    that hold any character at or after the border, so that a token across it counts to the continuation. An empty
    prefix is conditioned on `<|endoftext|>`. A text longer than the context keeps its end. Raises ValueError
    for an empty continuation, or one that leaves no room for any prefix.
    """
    context = longest_text(model)
    encodings = tokenizer.backend_tokenizer.encode_batch([a + b for a, b in pairs], add_special_tokens=False)
    ids: list[np.ndarray] = []
    starts: list[int] = []
    for number, ((prefix, continuation), encoding) in enumerate(zip(pairs, encodings, strict=True)):
        start = next((i for i, (_, end) in enumerate(encoding.offsets) if end > len(prefix)), len(encoding.ids))
        row = np.array([tokenizer.eos_token_id, *encoding.ids]) if start == 0 else np.array(encoding.ids)
        start = max(start, 1)
        if not continuation or start >= len(row):
            raise ValueError(f"pair {number}: the continuation {continuation!r:.40} has no token of its own")
        cut = max(0, len(row) - context)
        if start - cut < 1:
            raise ValueError(f"pair {number}: the continuation has {len(row) - start} tokens, the context {context}")
        ids.append(row[cut:])
        starts.append(start - cut)
    results = [0.0] * len(pairs)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for chosen in plain_batches(np.array([len(row) for row in ids]), batch_size):
            padded = pad_right([ids[i] for i in chosen], tokenizer.pad_token_id).to(model.device)
            hidden = model.base_model(input_ids=padded, use_cache=False).last_hidden_state
            rows = np.repeat(np.arange(len(chosen)), [len(ids[i]) - starts[i] for i in chosen])
            places = np.concatenate([np.arange(starts[i], len(ids[i])) for i in chosen])
            logits = model.lm_head(hidden[rows, places - 1]).float()
            losses = F.cross_entropy(logits, padded[rows, places], reduction="none").double().cpu().numpy()
            sums = np.bincount(rows, weights=-losses, minlength=len(chosen))
            for i, value in zip(chosen, sums, strict=True):
                results[i] = float(value)
    model.train(was_training)
    return results


def token_array_losses(
    model: PreTrainedModel, path: Path, dtype: str, context: int | None = None, batch_size: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Return (nats, tokens), both [windows], of a flat token file scored window by window, float32.

    Windows of `context` tokens do not overlap; each token but the very first is scored once, in order.
    Bits per byte = sum(nats) / ln 2 / bytes; perplexity = exp(sum(nats) / sum(tokens)).
    """
    tokens = np.memmap(path, dtype=np.dtype(dtype), mode="r") if path.stat().st_size else np.zeros(0, dtype)
    if len(tokens) < 2:
        raise ValueError(f"{path}: {len(tokens)} tokens, expected at least 2")
    nats: list[float] = []
    counts: list[int] = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in windows(tokens, context or longest_text(model), batch_size):
            ids = batch["ids"]
            # As plain numbers: a small tensor kept of every batch pins the heap above its logits, gigabytes in the end.
            nats += _next_token_nats(model, ids).tolist()
            counts += [ids.shape[1] - 1] * ids.shape[0]
    model.train(was_training)
    return np.array(nats), np.array(counts)


def window_losses(model: PreTrainedModel, windows: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Return the nats of all tokens but the first of each window of ids, [windows, tokens], float32: [windows]."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        parts = torch.from_numpy(windows.astype(np.int64)).split(batch_size)
        nats = torch.cat([_next_token_nats(model, part) for part in parts]).double().numpy()
    model.train(was_training)
    return nats


def _next_token_nats(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Return the summed cross-entropy of each row's tokens but the first, [rows], of ids [rows, tokens]."""
    ids = ids.to(model.device)
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    logits = model.lm_head(hidden).float().flatten(0, 1)
    losses = F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
    return losses.view(ids.shape[0], -1).sum(1).cpu()


def classify(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], batch_size: int = 64
) -> tuple[list[str], np.ndarray]:
    """Return the likeliest label of each text and probabilities [n, labels] in the order of config.id2label."""
    both_sides = sees_both_sides(model)
    ids, _ = text_ids(texts, tokenizer, longest_text(model), both_sides)
    logits = torch.zeros(len(texts), len(model.config.id2label or {}))
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for chosen in plain_batches(np.array([len(row) for row in ids]), batch_size):
            batch = padded([ids[i] for i in chosen], tokenizer.pad_token_id)
            moved = {name: tensor.to(model.device) for name, tensor in batch.items()}
            logits[torch.from_numpy(chosen)] = label_logits(model, moved, both_sides).float().cpu()
    model.train(was_training)
    names = {int(number): name for number, name in (model.config.id2label or {}).items()}
    return decode(logits, names)


def mean_hidden_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], batch_size: int = 64
) -> np.ndarray:
    """Return the mean of the last hidden states over each text's own tokens, [texts, width], float32.

    An encoder reads the text in its frame (`[CLS] text [SEP]`), whose states are left out of the mean. A text beyond
    the context is cut. Raises ValueError for a text without a token.
    """
    both_sides = sees_both_sides(model)
    ids, _ = text_ids(texts, tokenizer, longest_text(model), both_sides)
    around = 1 if both_sides else 0
    if any(len(row) <= 2 * around for row in ids):
        raise ValueError("a text has no token of its own")
    found = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for chosen in plain_batches(np.array([len(row) for row in ids]), batch_size):
            batch = padded([ids[i] for i in chosen], tokenizer.pad_token_id)
            lengths = batch["lengths"].to(model.device)
            places = torch.arange(batch["ids"].shape[1], device=model.device)
            real = places < lengths[:, None]
            own = real & (places >= around) & (places < (lengths - around)[:, None])
            hidden = model.base_model(input_ids=batch["ids"].to(model.device), attention_mask=real.long())
            states = hidden.last_hidden_state.float()
            sums = (states * own[..., None]).sum(1) / own.sum(1, keepdim=True)
            found[chosen] = sums.cpu().numpy()
    model.train(was_training)
    return found
