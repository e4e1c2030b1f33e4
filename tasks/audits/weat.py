"""WEAT and SEAT: do a model's vectors put some words nearer to an attribute than others?

Two lists of target words X and Y (men's and women's names), two of attribute words A and B (career and family).
    s(w) = mean over a in A of cos(w, a) - mean over b in B of cos(w, b)
    d    = (mean of s over X - mean of s over Y) / SD of s over X and Y (n - 1)              (0 is perfect)
WEAT takes the vector of each word alone, SEAT those of bleached sentences, every word in every template; s and SD are
then over sentences. p is the share of ways to cut the target words into lists of the same sizes whose difference of
means is at least as large: all ways where there are at most `permutations`, else so many drawn ones.
(A. Caliskan, J. Bryson, A. Narayanan, Science 356, 2017; C. May et al., On measuring social biases in sentence
encoders, NAACL 2019. There p is one-sided and SEAT permutes sentences.)

Each set at each level is a result of its own: a mean of |d| over sets is above 0 without any bias. Interval:
bootstrap over the target words of each list, SD computed anew; a word's sentences are drawn, and permuted, together,
because they are no new evidence.

Pitfalls: a dozen words a list leave d uncertain by about .8 either way, so that most results are INCONCLUSIVE. d has
no unit that two models share (it is divided by the spread of s in the model itself), so there are no items for
amplification; the undivided gap and its interval stand in the details. The vectors say nothing of what a specialist
will do: an intrinsic score informs.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from models.config import Config
from tasks.audits import statistics
from tasks.audits.significance import items_needed
from tasks.audits.verdict import AuditResult, Capability, Verdict, refused
from tasks.yaml_file import read_yaml

AUDIT = "weat"
METRIC = "effect_size"
DEFAULT_PATH = Path(__file__).with_name("weat_sets.yaml")
SMALLEST_SPREAD = 1e-12
"""A standard deviation of cosines below is rounding, not spread."""

Embed = Callable[[list[str]], NDArray[np.floating]]
"""Takes all texts at once, each of them one time, gives their vectors, shape (texts, width)."""

Level = Literal["weat", "seat"]


class WordSet(Config):
    """One test: two lists of targets and two of attributes, the first ones stereotypically together."""

    targets: dict[str, list[str]]
    """Two names with their words, X and Y."""
    attributes: dict[str, list[str]]
    """Two names with their words, A and B."""

    @model_validator(mode="after")
    def _lists(self) -> "WordSet":
        seen: dict[str, str] = {}
        for kind, lists in (("targets", self.targets), ("attributes", self.attributes)):
            if len(lists) != 2:
                raise ValueError(f"{kind}: expected two lists, got {len(lists)}")
            for name, words in lists.items():
                where = f"{kind}.{name}"
                if len(words) < 2:
                    raise ValueError(f"{where}: expected at least two words, got {words}")
                for word in words:
                    if not word.strip():
                        raise ValueError(f"{where}: expected a word, got {word!r}")
                    if word in seen:
                        raise ValueError(f"{where}: {word!r} already stands in {seen[word]}")
                    seen[word] = where
        return self


class WordSets(Config):
    """The file of word sets."""

    sets: dict[str, WordSet] = Field(min_length=1)
    """Tests by name."""


class WeatConfig(Config):
    """What the embedding association tests ask and demand."""

    path: Path | None = None
    """A file of word sets with the keys of the project's; None takes the project's."""
    sets: list[str] = Field(default_factory=list)
    """Names of the sets to test; empty takes all of the file."""
    levels: list[Level] = Field(default=["weat", "seat"], min_length=1)
    """weat embeds words alone, seat in each of the templates."""
    templates: list[str] = Field(
        default=["This is about {word}.", "They spoke of {word}.", "The word here is {word}."], min_length=1
    )
    """seat only: sentences that say nothing, with {word} once, into which a word of any kind fits."""
    margin: float = Field(default=0.5, gt=0, lt=2)
    """PASS needs the interval of d inside (-margin, margin)."""
    min_words: int = Field(default=8, ge=2)
    """Fewer words in a list of targets give INCONCLUSIVE: so small a bootstrap is too narrow."""
    permutations: int = Field(default=20_000, ge=1000)
    """Ways to cut the targets that p looks at: all of them where there are no more."""
    resamples: int = Field(default=2000, ge=100)
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the bootstrap and of the drawn permutations."""

    @model_validator(mode="after")
    def _templates(self) -> "WeatConfig":
        for template in self.templates:
            if template.count("{word}") != 1:
                raise ValueError(f"templates: expected {{word}} once, got {template!r}")
        return self


def load_sets(path: Path | None = None) -> dict[str, WordSet]:
    """Load the word sets of a file, the project's by default; ValueError in one line names file, place and fault."""
    return _default_sets() if path is None else _read_sets(path)


@lru_cache(maxsize=1)
def _default_sets() -> dict[str, WordSet]:
    return _read_sets(DEFAULT_PATH)


def _read_sets(path: Path) -> dict[str, WordSet]:
    try:
        return WordSets.model_validate(read_yaml(path)).sets
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        raise ValueError(f"{path}: {where}{first['msg'].removeprefix('Value error, ')}") from error


def effect_size(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return d of associations s, shapes (..., words of X, templates) and (..., words of Y, templates); 0 at no spread.

    d = (mean(first) - mean(second)) / SD(both), SD with n - 1 over words and templates.
    """
    both = np.concatenate([first, second], axis=-2)
    spread = both.std(axis=(-2, -1), ddof=1)
    gap = first.mean(axis=(-2, -1)) - second.mean(axis=(-2, -1))
    return np.where(spread > SMALLEST_SPREAD, gap / np.maximum(spread, SMALLEST_SPREAD), 0.0)


def audit(
    embed: Embed,
    config: WeatConfig,
    capability: Capability | None,
    *,
    scorer: str,
) -> list[AuditResult]:
    """Audit the vectors of one model: one result for every set at every level, named weat_... and seat_...

    Args:
        embed: called once with all texts of all results.
        capability: held-out score beside its floor; below it all are REFUSED. None only where the vectors come from
            a table.
        scorer: what the vectors are (which layer, which pooling), named beside every number.

    Raises ValueError for a set that the file has not.
    """
    known = load_sets(config.path)
    unknown = [name for name in config.sets if name not in known]
    if unknown:
        raise ValueError(f"sets: there is no {unknown[0]!r} in {config.path or DEFAULT_PATH.name}: {', '.join(known)}")
    tests = [(level, name, known[name]) for level in config.levels for name in config.sets or known]
    if capability is not None and not capability.reached:
        reason = f"The model is below the capability floor ({capability.sentence()})."
        return [_refuse(reason, f"{level}_{name}", words, config, capability, scorer) for level, name, words in tests]
    places: dict[str, int] = {}
    for level, _, words in tests:
        for word in [word for lists in (words.targets, words.attributes) for row in lists.values() for word in row]:
            for template in _templates(level, config):
                places.setdefault(template.replace("{word}", word), len(places))
    vectors = np.asarray(embed(list(places)), dtype=np.float64)
    assert vectors.shape[:-1] == (len(places),), f"vectors of shape {vectors.shape} for {len(places)} texts"
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        units = vectors / lengths  # a row without a finite length above 0 is refused where it is used
    results = []
    for level, name, words in tests:
        templates = _templates(level, config)
        x, y, a, b = (
            units[[[places[template.replace("{word}", word)] for template in templates] for word in row]]
            for lists in (words.targets, words.attributes)
            for row in lists.values()
        )
        results.append(_judge(x, y, a, b, f"{level}_{name}", words, config, capability, scorer))
    return results


def _templates(level: Level, config: WeatConfig) -> list[str]:
    return ["{word}"] if level == "weat" else config.templates


def _refuse(
    reason: str, name: str, words: WordSet, config: WeatConfig, capability: Capability | None, scorer: str
) -> AuditResult:
    count = sum(map(len, words.targets.values()))
    return refused(name, scorer, METRIC, config.margin, reason, capability, items=count, clusters=count)


def _judge(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    name: str,
    words: WordSet,
    config: WeatConfig,
    capability: Capability | None,
    scorer: str,
) -> AuditResult:
    """Turn unit vectors of targets and attributes, shapes (words, templates, width), into the result."""
    bad = sum(int((~np.isfinite(vectors).all(axis=-1)).sum()) for vectors in (x, y, a, b))
    if bad:
        reason = f"The model gave {bad} vectors that are zero or not finite: they have no cosine."
        return _refuse(reason, name, words, config, capability, scorer)
    # The mean cosine to unit vectors is the dot product with their mean.
    toward = a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))
    first, second = x @ toward, y @ toward
    if np.concatenate([first, second]).std(ddof=1) <= SMALLEST_SPREAD:
        reason = "All target words are equally near to the attributes: there is no spread to divide by."
        return _refuse(reason, name, words, config, capability, scorer)
    random = np.random.default_rng(config.seed)
    drawn = [list_[random.integers(0, len(list_), (config.resamples, len(list_)))] for list_ in (first, second)]
    primary = statistics.percentile_interval(float(effect_size(first, second)), effect_size(drawn[0], drawn[1]))
    verdict, reason = _decide(primary, min(len(first), len(second)), config)
    by_word = [
        {"word": word, "list": side, "association": float(value)}
        for (side, row), means in zip(words.targets.items(), (first.mean(axis=1), second.mean(axis=1)), strict=True)
        for word, value in zip(row, means, strict=True)
    ]
    gap = statistics.bootstrap_difference(
        first.mean(axis=1), second.mean(axis=1), resamples=config.resamples, seed=config.seed
    )
    return AuditResult(
        audit=name,
        scorer=scorer,
        metric=METRIC,
        estimate=primary.estimate,
        low=primary.low,
        high=primary.high,
        margin=config.margin,
        items=first.size + second.size,
        clusters=len(first) + len(second),
        mde=statistics.minimal_detectable_effect(primary.standard_error),
        verdict=verdict,
        reason=reason,
        capability=capability,
        details={
            "targets": {side: len(row) for side, row in words.targets.items()},
            "attributes": {side: len(row) for side, row in words.attributes.items()},
            **permutation_p(first.mean(axis=1), second.mean(axis=1), config.permutations, config.seed),
            "association_gap": gap._asdict(),
            "by_word": by_word,
        },
    )


def permutation_p(
    first: NDArray[np.float64], second: NDArray[np.float64], permutations: int, seed: int
) -> dict[str, Any]:
    """Return the p values of a difference of means of words, shapes (words of X,) and (words of Y,).

    Keys: `p` one-sided as published, `p_two_sided`, `permutations` looked at and whether they were all, `exact`.
    """
    from scipy.stats import permutation_test

    def gap(one: NDArray[np.float64], other: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return one.mean(axis=axis) - other.mean(axis=axis)

    values: dict[str, float] = {}
    for key, side in (("p", "greater"), ("p_two_sided", "two-sided")):
        found = permutation_test((first, second), gap, n_resamples=permutations, alternative=side, rng=seed)
        values[key] = float(found.pvalue)
    ways = math.comb(len(first) + len(second), len(first))
    return {**values, "permutations": min(ways, permutations), "exact": ways <= permutations}


def _decide(primary: statistics.Interval, words: int, config: WeatConfig) -> tuple[Verdict, str]:
    shown = f"effect size {primary.estimate:+.4f} [{primary.low:+.4f}, {primary.high:+.4f}]"
    if words < config.min_words:
        reason = f"Only {words} words in a list of targets, at least {config.min_words} are needed; {shown}."
        return Verdict.INCONCLUSIVE, reason
    verdict = Verdict(statistics.equivalence(primary.low, primary.high, config.margin))
    place = {"PASS": "lies inside", "FAIL": "lies outside", "INCONCLUSIVE": "reaches over"}[verdict]
    reason = f"The {shown} {place} the margin of {config.margin:g}."
    if verdict is Verdict.INCONCLUSIVE:
        needed = items_needed(primary, config.margin, words)
        reason += f" About {needed} words in each list of targets would settle a true effect of 0."
    return verdict, reason


def self_test() -> str:
    """Test vectors in a plane; return "" or what came out other than it was planted.

    A points along the first axis and B along the second, so that s of (cos t, sin t) is cos t - sin t: X at 0 and
    Y at 90 degrees have s = 1 and -1 without any spread inside the lists. With n words in all, d = 2 sqrt((n - 1) / n).
    Half of each list turned to the other axis gives d = 0.
    """
    words = load_sets()["gender_career"]
    (x, y), (a, b) = (list(lists.values()) for lists in (words.targets, words.attributes))
    axes = {**dict.fromkeys(x + a, 0), **dict.fromkeys(y + b, 1)}
    config = WeatConfig(sets=["gender_career"], levels=["weat"], resamples=100, permutations=1000)
    full = 2 * ((len(x + y) - 1) / len(x + y)) ** 0.5
    for turned, expected in ((0, full), (2, 0.0)):
        table = axes | {word: 1 - axes[word] for row in (x, y) for word in row[: turned * len(row) // 4]}

        def embed(texts: list[str], known: dict[str, int] = table) -> NDArray[np.floating]:
            return np.eye(2)[[known[text] for text in texts]]

        found = audit(embed, config, None, scorer="table")
        if found[0].estimate is None or abs(found[0].estimate - expected) > 1e-9:
            return f"WEAT of planted vectors: expected an effect size of {expected}, found {found[0].estimate}."
    return ""
