"""What is known of a model when it is decided on: plain numbers, each comparison with its interval."""

from collections.abc import Iterable, Mapping

from pydantic import Field

from models.config import Config
from tasks.audits.verdict import AuditResult
from tasks.paired import Terms, difference
from tasks.policy import Kind


class Gap(Config):
    """A score of the model minus that of another on the same test set, with its 95 % interval."""

    difference: float
    """The model's minus the other's, in the unit of the score."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    paired: bool
    """Whether both were asked the same items; else they were drawn apart, and the interval is wider."""


class Evidence(Config):
    """What is known of one model, measured on one test set."""

    model: str
    """Registered name of the model."""
    kind: Kind
    """Which part of the policy applies."""
    test_digest: str
    """Content digest of the test set; scores of different digests are never compared."""
    metrics: dict[str, float]
    """The model's own scores."""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Score -> its 95 % interval, where it has one."""
    baselines: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Baseline -> its scores on the same test set."""
    to_baselines: dict[str, dict[str, Gap]] = Field(default_factory=dict)
    """Baseline -> score -> the gap to it, for the scores that are made of items."""
    to_champion: dict[str, Gap] = Field(default_factory=dict)
    """Score -> the gap to the champion, for the scores that are made of items."""
    audits: list[AuditResult] = Field(default_factory=list)
    """Its audits."""
    seen_rows: int = 0
    """Rows of the test set that it is known to have learned from: of a champion that is asked a later one."""
    mitigation: str = ""
    """What was done in its training about what identity words have to do with the answer; empty: nothing."""


def gaps(ours: Mapping[str, Terms], theirs: Mapping[str, Terms], scores: Iterable[str]) -> dict[str, Gap]:
    """Return score -> the gap between two models, for those of ``scores`` of which both sides kept the items."""
    found: dict[str, Gap] = {}
    for score in scores:
        if score in ours and score in theirs:
            interval, paired = difference(ours[score], theirs[score])
            found[score] = Gap(difference=interval.estimate, low=interval.low, high=interval.high, paired=paired)
    return found
