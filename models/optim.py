"""The optimiser: fused AdamW, which weights decay, the learning rate of a step, clipping without a pass."""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn


def learning_rate_factor(
    schedule: Literal["cosine", "wsd"],
    step: int,
    steps: int,
    warmup_share: float,
    decay_share: float,
    final_share: float,
) -> float:
    """Return the factor on the peak learning rate for update `step` (0 ... steps - 1), in (0, 1].

    Linear warm-up over the first `warmup_share` of the steps, then "cosine" down to `final_share`
    (Loshchilov and Hutter 2017), or "wsd": constant, then linear to `final_share` over the last `decay_share`
    (Hu et al. 2024, MiniCPM; Haegele et al. 2024).
    """
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "cosine":
        progress = (step - warmup) / max(1, steps - warmup)
        return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * progress))
    decay = max(1, math.ceil(decay_share * steps))
    progress = max(0.0, (step - (steps - decay)) / decay)
    return 1 - (1 - final_share) * progress


def build_optimizer(model: nn.Module, learning_rate: float, weight_decay: float, beta2: float) -> torch.optim.AdamW:
    """Return fused AdamW (Loshchilov and Hutter 2019) of what is trained; norms, biases and embeddings do not decay.

    Nor does a weight of which some rows alone are trained (`models.adapters`), so that the others stay as they are.
    """
    spared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in spared and not hasattr(p, "trained_rows")]
    chosen = {id(p) for p in decayed}
    kept = [p for p in trained if id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, beta2), fused=True)


def clip_inside_step(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], clip: float) -> Tensor:
    """Make the next fused step scale gradients to at most norm `clip`, and skip itself if that is no number.

    The fused kernel divides by `grad_scale` while it reads the gradients anyway, so that clipping costs no pass,
    and does nothing where `found_inf` is set. Returns the L2 norm before clipping, a scalar.
    """
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    optimizer.grad_scale = (norm / clip).clamp(min=1.0)  # type: ignore[attr-defined]
    optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
    return norm
