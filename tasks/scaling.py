"""Published scaling laws: how large a model a budget is best spent on, and how it is trained.

Loss after D tokens by a model of N weights, where a text has U different ones (Muennighoff et al. 2023, Scaling
Data-Constrained Language Models, section 3 and appendix A; with D <= U it is the law of Hoffmann et al. 2022 with equal
exponents, whose best ratio D / N is 19.6, their "about 20 tokens a parameter"):

    L = E + A / N'^a + B / D'^a
    D' = U + U R (1 - exp(-r / R)),  r = D / U - 1 repetitions of the text, R = 15.39
    N' likewise over the size that is best for U tokens, with R = 5.31

Learning rate and batch (Li et al. 2025, Predictable Scale, Part I: Step Law): 1.79 N^-0.713 D^0.307 and 0.58 D^0.571
tokens. They were fitted on 60 M weights and more; for the small models of a laptop the rate is held to `RATES`.
"""

import math

E, A, B, EXPONENT = 1.8735, 521.0, 1488.0, 0.3527
REPEATED_TOKENS, REPEATED_WEIGHTS = 15.39, 5.31
MOST_EPOCHS = 4.0
"""Passes over a text that are about as good as new text (Muennighoff et al. 2023)."""
RATES = (1e-4, 2e-3)
"""Least and largest learning rate. The starter's 1.0 M weights learn well at 2e-3, where the law says 1e-2."""


def best_ratio() -> float:
    """Return the tokens a weight that lose least for a given number of operations 6 N D.

    >>> round(best_ratio(), 1)
    19.6
    """
    return (B / A) ** (1 / EXPONENT)


def loss(weights: float, tokens: float, unique: float) -> float:
    """Return the loss in nats a token that the law foretells, on the text that it was fitted to.

    Only its order over sizes matters here: another text and tokenizer have another loss.
    """
    different = min(tokens, unique)
    repeated = max(0.0, tokens / different - 1)
    data = different * (1 + REPEATED_TOKENS * (1 - math.exp(-repeated / REPEATED_TOKENS)))
    enough = min(weights, different / best_ratio())
    beyond = max(0.0, weights / enough - 1)
    size = enough * (1 + REPEATED_WEIGHTS * (1 - math.exp(-beyond / REPEATED_WEIGHTS)))
    return E + A / size**EXPONENT + B / data**EXPONENT


def learning_rate(weights: float, tokens: float) -> float:
    """Return the peak learning rate, to two digits that count."""
    rate = 1.79 * weights**-0.713 * tokens**0.307
    return float(f"{min(max(rate, RATES[0]), RATES[1]):.1e}")


def batch_tokens(tokens: float) -> float:
    """Return the tokens of one optimiser step."""
    return float(0.58 * tokens**0.571)
