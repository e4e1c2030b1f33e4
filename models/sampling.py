"""How a token is drawn from a model's distribution; light to import, since the command line reads it."""

from pydantic import Field

from models.config import Config


class Sampling(Config):
    """Draw each token at random, from what temperature, top-k and top-p leave, in that order."""

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Logits are divided by it: below 1 sharper, above 1 flatter."""
    top_k: int = Field(default=0, ge=0)
    """Draw from so many of the likeliest tokens (Fan et al. 2018); 0: from all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the fewest tokens that together have this probability (Holtzman et al. 2020); 1: from all."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Equal calls with equal seeds give equal texts."""
