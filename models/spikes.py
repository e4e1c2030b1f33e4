"""Steps whose loss or gradient stands out from those before: told, and skipped where the recipe says so."""

import torch
from torch import Tensor

WINDOW = 128
"""Steps that a step is held against."""
LEAST = 32
"""Steps that are needed before one can stand out; the first ones fall too steeply to tell."""
SIGMAS = 6.0


class Spikes:
    """The last losses and gradient norms, on the training device, so that no step waits for the host.

    A step stands out where its loss or its norm lies above the mean of the last 128 steps by more than six standard
    deviations: the rule, and the figures, by which OLMo 2 skips steps (OLMo et al. 2025, section 3.2; their code's
    `SkipStepOptimizer`).
    """

    def __init__(self, device: torch.device | str) -> None:
        self._last = torch.zeros(2, WINDOW, dtype=torch.float64, device=device)
        self._seen = 0
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        """Steps that stood out so far."""

    def stands_out(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Return whether this step does, a boolean scalar on the device, and remember it."""
        now = torch.stack([loss.detach(), norm.detach()]).double().to(self._last.device)
        if self._seen < LEAST:
            found = torch.zeros((), dtype=torch.bool, device=self._last.device)
        else:
            before = self._last[:, : min(self._seen, WINDOW)]
            found = (now > before.mean(1) + SIGMAS * before.std(1)).any()
        # A spike is remembered too: where the losses have really moved, the second one stands out no more.
        self._last[:, self._seen % WINDOW] = now
        self._seen += 1
        self.count += found
        return found

    def state_dict(self) -> dict[str, Tensor | int]:
        """Return what a resumed run needs to find the same spikes."""
        return {"last": self._last.cpu(), "seen": self._seen, "count": int(self.count)}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Take back what `state_dict` returned."""
        last, seen = state["last"], state["seen"]
        assert isinstance(last, Tensor)
        self._last.copy_(last)
        self._seen = int(seen)
        self.count.fill_(int(state["count"]))
