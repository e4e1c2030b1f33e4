"""What a recipe says of the comparison with training from scratch, over seeds and shares of the labels."""

from pydantic import Field, field_validator

from models.config import Config


class TransferConfig(Config):
    """Specialists from the foundation beside their twins from scratch, over seeds and shares of their labels."""

    seeds: int = Field(3, ge=1, le=20)
    """Pairs of trainings at each share, with the recipe's seed and those after it; one alone tells no spread."""

    shares: list[float] = [0.05, 0.2, 1.0]
    """Shares of the labels that are learnt from, ascending; only with 1 among them can saved labels be told."""

    specialists: list[str] = []
    """The specialists that are compared; empty: all that have a twin from scratch."""

    least_steps: int | None = Field(None, ge=1)
    """Optimiser steps of a training on a small share where its part of the steps on all labels is less; empty: as
    many steps at every share as on all labels."""

    @field_validator("shares")
    @classmethod
    def _ascending(cls, shares: list[float]) -> list[float]:
        if not shares or shares != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] <= 1:
            raise ValueError(f"expected ascending shares above 0 and at most 1, got {shares}")
        return shares
