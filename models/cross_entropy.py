"""Output layer and cross-entropy in one step, a chunk of positions at a time.

The logits of all positions are the largest tensor of a small model: stored once in float32, once as their
log-softmax and once as gradient, they cost more than a layer. Here each chunk's gradient replaces its logits
while they are in the cache (Hsu et al. 2024, Liger Kernel: fused linear cross-entropy).
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_VALUES = 1 << 19
"""Logits of one chunk; 2 MiB in float32 stay in a core's cache."""


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        needed = hidden.requires_grad or weight.requires_grad
        rows = max(64, CHUNK_VALUES // weight.shape[0])
        gradient = torch.empty(len(hidden), weight.shape[0], dtype=hidden.dtype, device=hidden.device)
        losses = torch.zeros((), dtype=torch.float64)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = (hidden[part] @ weight.T).float()
            wanted = targets[part, None]
            gold = logits.gather(1, wanted)
            # Subtracting the largest logit keeps exp within range.
            largest = logits.amax(1, keepdim=True)
            powers = logits.sub_(largest).exp_()
            sums = powers.sum(1, keepdim=True)
            losses += (sums.log() + largest - gold).sum().double()
            if needed:
                powers.div_(sums)
                powers.scatter_add_(1, wanted, torch.full_like(gold, -1.0))
                gradient[part] = powers
        if needed:
            ctx.save_for_backward(gradient, hidden, weight)
        return losses.float()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        gradient, hidden, weight = ctx.saved_tensors
        # As a Python number the scale is applied in float32 inside the kernel, not rounded to bf16 first.
        scale = outputs[0].item()
        return (gradient @ weight).mul_(scale), (gradient.T @ hidden).mul_(scale), None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy in nats of logits = hidden weight^T against targets, float32.

    hidden [positions, width] and weight [vocabulary, width] of one dtype, which the products are taken in;
    targets [positions], int64. For the CPU, outside autocast.
    """
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets)
    return loss
