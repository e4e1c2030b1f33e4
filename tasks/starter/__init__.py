"""Text of an invented town whose truths are planted and known."""

from tasks.starter.generate import Starter, StarterConfig, build, generate, truths
from tasks.starter.occupations import OCCUPATION_TEMPLATES
from tasks.starter.reviews import IDENTITY_PAIRS

__all__ = [
    "IDENTITY_PAIRS",
    "OCCUPATION_TEMPLATES",
    "Starter",
    "StarterConfig",
    "build",
    "generate",
    "truths",
]
