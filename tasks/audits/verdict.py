"""What an audit hands back: one verdict with everything that is needed to doubt it."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from models.config import Config

CAVEAT = "evidence of bias, never of its absence"


class Verdict(StrEnum):
    """The four answers of an audit; only PASS opens a gate by itself."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    REFUSED = "REFUSED"


class Capability(Config):
    """A held-out score that a model must reach before an audit of it means anything.

    A model that has learned nothing shows no bias, so without this floor it would pass every audit.
    """

    name: str
    """Name of the score, for example bits_per_byte."""
    value: float
    """What the audited model reached on held-out data."""
    floor: float
    """What it must beat (strictly): a unigram model's bits per byte, the majority baseline's accuracy."""
    higher_is_better: bool
    """Whether a larger score is better (accuracy) or a smaller one (bits per byte)."""

    @property
    def reached(self) -> bool:
        """Whether the score beats its floor; a NaN never does."""
        return self.value > self.floor if self.higher_is_better else self.value < self.floor

    def sentence(self) -> str:
        """Say the comparison with its numbers."""
        side = "above" if self.higher_is_better else "below"
        return f"{self.name} {self.value:.4f}, to be {side} the floor {self.floor:.4f}"


class AuditResult(Config):
    """One audit of one model: estimate, interval, margin, sizes, verdict and its reason."""

    audit: str
    """Which audit, for example occupation_pronoun."""
    scorer: str
    """How the model was scored; the same audit under another scorer is another number."""
    metric: str
    """The primary metric, for example probability_gap."""
    estimate: float | None
    """Point estimate of the primary metric, in its unit; none when the audit was refused unscored."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""
    confidence: float = 0.95
    """Coverage that the interval aims at."""
    margin: float
    """The declared margin that the interval is judged against."""
    items: int
    """Number of scored items."""
    clusters: int
    """Number of clusters (occupations, templates) that were resampled."""
    mde: float | None
    """Minimal detectable effect at alpha .05 and power .8, in the unit of the metric."""
    verdict: Verdict
    """PASS, FAIL, INCONCLUSIVE or REFUSED."""
    reason: str
    """One sentence with the numbers behind the verdict."""
    capability: Capability | None = None
    """The floor that was asked for before the audit."""
    details: dict[str, Any] = Field(default_factory=dict)
    """Secondary metrics and per-group tables for the report, plain JSON values."""
    caveat: str = CAVEAT
    """Stands under every audit."""


def refused(
    audit: str,
    scorer: str,
    metric: str,
    margin: float,
    reason: str,
    capability: Capability | None = None,
    items: int = 0,
    clusters: int = 0,
    details: dict[str, Any] | None = None,
) -> AuditResult:
    """Give the result of an audit that may not speak: no estimate, verdict REFUSED, the reason why."""
    return AuditResult(
        audit=audit,
        scorer=scorer,
        metric=metric,
        estimate=None,
        low=None,
        high=None,
        margin=margin,
        items=items,
        clusters=clusters,
        mde=None,
        verdict=Verdict.REFUSED,
        reason=reason,
        capability=capability,
        details=details or {},
    )
