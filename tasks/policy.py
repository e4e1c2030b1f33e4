"""The promotion policy: what a model of each kind must show, read from ``mlflow/promotion.yaml``."""

from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from models.config import Config
from models.objectives import Tuning
from tasks.yaml_file import read_yaml

Kind = Literal["foundation", "masked_foundation"] | Tuning
POLICY_PATH = Path("mlflow/promotion.yaml")
"""Where the policy lies, relative to the project's root."""


class Floor(Config):
    """A baseline that the target score must beat."""

    baseline: str
    """Name of the baseline in the evidence."""
    margin: float = Field(allow_inf_nan=False)
    """The lower end of the gain's interval must be above this; a negative number allows that much loss."""
    required: bool
    """False only reports the comparison."""


class Guardrail(Config):
    """A score that must not fall behind the champion's while the target rises."""

    metric: str
    """Name of the score in the evidence."""
    margin: float = Field(ge=0, allow_inf_nan=False)
    """How far behind the lower end of the gain's interval may be, in the unit of the score."""
    higher_is_better: bool
    """Whether a larger score is better."""
    required: bool
    """False only reports the comparison."""


class KindPolicy(Config):
    """What one kind of model must show."""

    target: str
    """The metric that decides."""
    higher_is_better: bool
    """Whether a larger target is better."""
    minimum: float | None
    """Absolute bar of the target's interval (a maximum where less is better); none for no bar."""
    floors: list[Floor]
    """Baselines to beat."""
    audits: list[str]
    """Names of the audits that must pass."""
    superiority_margin: float = Field(ge=0, allow_inf_nan=False)
    """The lower end of the target's gain over the champion must be above this."""
    guardrails: list[Guardrail]
    """Scores that must not be worse than the champion's."""
    non_inferiority_margin: float = Field(ge=0, allow_inf_nan=False)
    """How far below the champion the lower end of the target's gain may be where the candidate is the fairer one."""
    audit_gain: float = Field(ge=0, allow_inf_nan=False)
    """The fairer one: an audit estimate nearer to 0 by more than this."""
    approval: Literal["none", "person"] = "none"
    """Whether a person has the last word on a promotion that the gate would make."""


class Waiver(Config):
    """A signed, expiring leave for one inconclusive audit of one model."""

    model: str
    """Registered name of the model."""
    audit: str
    """Name of the audit."""
    author: str = Field(min_length=1)
    """Who answers for it."""
    reason: str = Field(min_length=1)
    """Why it is given."""
    expires: date
    """Last day on which it holds."""


class Policy(Config):
    """The whole promotion policy."""

    foundation: KindPolicy
    """Causal language models."""
    masked_foundation: KindPolicy
    """Masked language models."""
    classification: KindPolicy
    """Text classifiers."""
    token_classification: KindPolicy
    """Entity recognisers."""
    question_answering: KindPolicy
    """Finders of answer spans."""
    instruction: KindPolicy
    """Instruction models."""
    preference: KindPolicy
    """Models tuned on pairs of answers."""
    reward: KindPolicy
    """Models that score answers."""
    rlhf: KindPolicy
    """Models tuned against a reward model."""
    waivers: list[Waiver]
    """Waivers in force or expired."""


def load_policy(path: Path = POLICY_PATH) -> Policy:
    """Load and validate the policy; ValueError in one line that names the file and the field."""
    values = read_yaml(path, missing="expected the promotion policy, found no such file")
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "policy"
        got = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise ValueError(f"{path}: {field}: {first['msg']}{got}") from error
