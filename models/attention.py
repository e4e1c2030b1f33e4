"""Attention written out as matrix products: the fast form on a CPU in bf16 at short context."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

WRITTEN_OUT = "written_out"
LONGEST_WRITTEN_OUT = 1024
"""Tokens up to which the written-out form beats the fused CPU kernel (3.1x at 128, 1.2x at 1024)."""


@lru_cache(maxsize=8)
def causal_bias(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return [length, length] with 0 where a query may look and -inf where the key lies after it."""
    # Made outside inference mode, so that one cached copy serves training and evaluation alike.
    with torch.inference_mode(False):
        return torch.full((length, length), float("-inf"), dtype=dtype, device=device).triu(1)


def positions_of(segments: Tensor) -> Tensor:
    """Return the position of each token in its own document, int64, as `segments` [batch, tokens].

    `segments` numbers the documents of each row: neighbours of one number are of one document.

    >>> positions_of(torch.tensor([[0, 0, 0, 1, 1, -1]])).tolist()
    [[0, 1, 2, 0, 1, 0]]
    """
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return places - torch.where(begins, places, 0).cummax(1).values


def segment_bias(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Return [batch, 1, tokens, tokens] with 0 where a query may look, and -inf after it or in another document."""
    other = segments[:, None, :, None] != segments[:, None, None, :]
    return causal_bias(segments.shape[1], dtype, segments.device).masked_fill(other, float("-inf"))


def written_out_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return softmax(query key^T * scaling + mask) value and no weights.

    query [batch, heads, queries, width]; key and value [batch, key_value_heads, keys, width];
    attention_mask boolean or additive [batch, 1, queries, keys], or None: then a decoder's attention
    (`module.is_causal`) is causal, an encoder's sees every key.
    Returns [batch, queries, heads, width]. Queries are the last positions of the keys, as with a cache.
    Source: Vaswani et al. 2017, equation 1.
    """
    _, heads, queries, width = query.shape
    groups = heads // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    keys = key.shape[2]
    scores = (query * (width**-0.5 if scaling is None else scaling)) @ key.transpose(2, 3)
    if attention_mask is None:
        if queries > 1 and getattr(module, "is_causal", True):
            scores = scores + causal_bias(keys, scores.dtype, scores.device)[keys - queries :]
    elif attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask[..., :keys], torch.finfo(scores.dtype).min)
    else:
        scores = scores + attention_mask[..., :keys].to(scores.dtype)
    # softmax of a bf16 tensor sums in float32 inside the kernel and stores bf16: half the memory traffic.
    weights = torch.softmax(scores, dim=-1, dtype=scores.dtype)
    if dropout:
        weights = torch.nn.functional.dropout(weights, dropout)
    return (weights @ value).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(WRITTEN_OUT, written_out_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(WRITTEN_OUT, sdpa_mask)


def choose_attention(device: str, context: int) -> str:
    """Return the name of the fastest attention for training: written out on short CPU work, else "sdpa"."""
    return WRITTEN_OUT if device == "cpu" and context <= LONGEST_WRITTEN_OUT else "sdpa"


def set_attention(model: PreTrainedModel, name: str) -> str:
    """Switch the attention of a model in place and return its name: "eager" for an architecture without `name`.

    "sdpa" is what a saved model carries and generates with.
    """
    try:
        model.set_attn_implementation(name)
    except ValueError:
        model.set_attn_implementation(name := "eager")
    return name
