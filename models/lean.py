"""The Llama forward and backward in few passes over memory: same weights, same numbers, on a CPU.

On a CPU the matrix products of a small model take half of a step and passes over activations the rest: casts
of one input for each of its layers, norms in several kernels, rotations in float32, masks. This module computes
what transformers' `LlamaModel` computes for right-padded or packed input, and tests hold it to that: norm
weights and the attention scale are folded into the next layer's weights; query, key and value are one product,
gate and up another; hand-written backwards keep only what they need.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel

from models.attention import LONGEST_WRITTEN_OUT, causal_bias, positions_of, segment_bias


class _Norm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) without a weight (Zhang and Sennrich 2019); x [rows, width], float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = (length.square_().div_(x.shape[-1]).add_(eps)).rsqrt_()
        ctx.save_for_backward(x, inverse)
        return (x * inverse).to(dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        x, inverse = ctx.saved_tensors
        gradient = outputs[0].float()
        along = (gradient * x).sum(-1, keepdim=True).mul_(inverse.pow(3)).div_(x.shape[-1])
        return (gradient * inverse).addcmul_(x, along, value=-1), None, None


class _Gate(torch.autograd.Function):
    """silu(gate) * up (Shazeer 2020), both halves of one tensor [rows, 2 * width]."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        gate, up = both.chunk(2, -1)
        active = F.silu(gate)
        ctx.save_for_backward(both, active)
        return active * up

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Tensor:
        both, active = ctx.saved_tensors
        gate, up = both.chunk(2, -1)
        gradient = torch.empty_like(both)
        left, right = gradient.chunk(2, -1)
        torch.mul(outputs[0], active, out=right)
        torch.ops.aten.silu_backward.grad_input(outputs[0] * up, gate, grad_input=left)
        return gradient


class _Attention(torch.autograd.Function):
    """Rotary causal attention of a fused projection [batch, tokens, 3, heads, width], queries already scaled.

    cosine and sine [tokens, width / 2], or for each row [batch, 1, tokens, width / 2]; bias [tokens, tokens], or
    for each row [batch, 1, tokens, tokens].
    """

    @staticmethod
    def forward(ctx: Any, fused: Tensor, cosine: Tensor, sine: Tensor, bias: Tensor) -> Tensor:
        batch, tokens, _, heads, width = fused.shape
        half = width // 2
        turned = fused.new_empty(3, batch, heads, tokens, width)
        source = fused.permute(2, 0, 3, 1, 4)
        for to, a, b, sign in ((slice(half), 0, 1, -1), (slice(half, None), 1, 0, 1)):
            halves = source[:2, ..., :half], source[:2, ..., half:]
            out = turned[:2, ..., to]
            torch.mul(halves[a], cosine, out=out)
            out.addcmul_(halves[b], sine, value=sign)
        turned[2] = source[2]
        query, key, value = turned.view(3, batch * heads, tokens, width)
        scores = torch.bmm(query, key.transpose(1, 2))
        scores.view(batch, heads, tokens, tokens).add_(bias)
        weights = torch.softmax(scores, -1)
        ctx.save_for_backward(turned, weights, cosine, sine)
        mixed = torch.bmm(weights, value).view(batch, heads, tokens, width)
        return mixed.transpose(1, 2).reshape(batch * tokens, heads * width)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None]:
        turned, weights, cosine, sine = ctx.saved_tensors
        _, batch, heads, tokens, width = turned.shape
        half = width // 2
        query, key, value = turned.view(3, batch * heads, tokens, width)
        mixed = outputs[0].view(batch, tokens, heads, width).transpose(1, 2).reshape(batch * heads, tokens, width)
        inner = torch.bmm(mixed, value.transpose(1, 2))
        scores = torch.ops.aten._softmax_backward_data(inner, weights, -1, weights.dtype)
        gradients = torch.empty_like(turned)
        flat = gradients.view(3, batch * heads, tokens, width)
        torch.bmm(scores, key, out=flat[0])
        torch.bmm(scores.transpose(1, 2), query, out=flat[1])
        torch.bmm(weights.transpose(1, 2), mixed, out=flat[2])
        fused = turned.new_empty(batch, tokens, 3, heads, width)
        target = fused.permute(2, 0, 3, 1, 4)
        halves = gradients[:2, ..., :half], gradients[:2, ..., half:]
        # The rotation backwards: the sine changes its sign.
        for to, a, b, sign in ((slice(half), 0, 1, 1), (slice(half, None), 1, 0, -1)):
            out = target[:2, ..., to]
            torch.mul(halves[a], cosine, out=out)
            out.addcmul_(halves[b], sine, value=sign)
        target[2] = gradients[2]
        return fused, None, None, None


@lru_cache(maxsize=4)
def _rotation(width: int, tokens: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        speeds = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float) / width)
        angles = torch.arange(tokens, dtype=torch.float)[:, None] * speeds
        return angles.cos().to(dtype), angles.sin().to(dtype)


def applies(model: PreTrainedModel, device: str, longest: int) -> bool:
    """Return whether `hidden_states` computes this model: a plain Llama on a CPU at short context.

    A frozen base has adapters in its layers, which are no plain ones.
    """
    config: Any = model.config
    return (
        device == "cpu"
        and longest <= LONGEST_WRITTEN_OUT
        and isinstance(config, LlamaConfig)
        and config.num_key_value_heads == config.num_attention_heads
        and config.hidden_act == "silu"
        and not (config.attention_bias or config.mlp_bias or config.attention_dropout)
        and (config.rope_parameters or {})["rope_type"] == "default"
        and all(weight.requires_grad for weight in model.base_model.parameters())
    )


def hidden_states(body: Any, ids: Tensor, dtype: torch.dtype, segments: Tensor | None = None) -> Tensor:
    """Return the last hidden states [batch * tokens, width] of a `LlamaModel` in `dtype`.

    ids [batch, tokens], int64, padded on the right if at all; `segments` as ids numbers the documents of packed
    rows, which do not see each other and each begin at position 0. The residual stream and the weights stay float32;
    products are taken in `dtype`. Call it outside autocast.
    """
    config = body.config
    batch, tokens = ids.shape
    heads, width, eps = config.num_attention_heads, config.head_dim, config.rms_norm_eps
    cosine, sine = _rotation(width, tokens, float(config.rope_parameters["rope_theta"]), dtype)
    bias = causal_bias(tokens, dtype, ids.device)
    if segments is not None:
        positions = positions_of(segments)[:, None]
        cosine, sine, bias = cosine[positions], sine[positions], segment_bias(segments, dtype)
    stream = F.embedding(ids.flatten(), body.embed_tokens.weight, body.padding_idx)
    for layer in body.layers:
        attention, mlp = layer.self_attn, layer.mlp
        fused = torch.cat([attention.q_proj.weight * width**-0.5, attention.k_proj.weight, attention.v_proj.weight])
        fused = (fused * layer.input_layernorm.weight).to(dtype)
        mixed = F.linear(_Norm.apply(stream, eps, dtype), fused).view(batch, tokens, 3, heads, width)
        mixed = _Attention.apply(mixed, cosine, sine, bias)
        stream = stream + F.linear(mixed, attention.o_proj.weight.to(dtype))
        both = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight
        gated = _Gate.apply(F.linear(_Norm.apply(stream, eps, dtype), both.to(dtype)))
        stream = stream + F.linear(gated, mlp.down_proj.weight.to(dtype))
    hidden: Tensor = _Norm.apply(stream, eps, torch.float32) * body.norm.weight
    return hidden.to(dtype)
