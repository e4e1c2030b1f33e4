"""Whether to train again, and how much of it: a pure function of what was measured and of the recipe's thresholds.

    what was found                                              what it calls for
    ----------------------------------------------------------  ---------------------
    there is no champion foundation                             from_scratch
    the tokenizer no longer fits the new text                   from_scratch
    new text costs the foundation more than held-out text did   continue_pretraining
    new text has more words that it never learned from          continue_pretraining
    the foundation is too old, and there is new text            continue_pretraining
    new labelled rows                                           finetune
    the new rows' labels are spread otherwise                   finetune
    a specialist was never tuned from this foundation           finetune
    a specialist's champion is too old                          finetune
    none of these                                               nothing

The greatest of what is called for is done, and includes the smaller ones: whoever trains a foundation tunes the
specialists from it. A drift is called one where its whole 95 % interval lies beyond the threshold, as everywhere
in the gate, and only on `min_new_rows` rows or more. A tokenizer that came with a base is the same after training
from scratch, so it calls for no more than continue_pretraining; and where the recipe takes a base as it is, nothing
of the foundation is trained, and finetune is all there is.
"""

from datetime import UTC, date, datetime
from typing import Literal

from pydantic import Field

from models.config import Config

Action = Literal["nothing", "finetune", "continue_pretraining", "from_scratch"]
ACTIONS: tuple[Action, ...] = ("nothing", "finetune", "continue_pretraining", "from_scratch")
"""From the least to the greatest."""
Verdict = Literal["over", "not shown", "within", "too few", "not known"]
FOUNDATION = "foundation"
NOTHING_NEW = "nothing new"


class RetrainingConfig(Config):
    """When the champions are trained again, and what of them; read by `python -m flows retraining` alone."""

    min_new_rows: int = Field(default=100, ge=10)
    """New documents, or new rows of a specialist, from which they count. Of 100 rows a share is known to ten points
    either way; of fewer than 10 no interval means anything."""

    max_age_days: int = Field(default=180, ge=1)
    """Days after which a champion is trained again on what there is by then, drift or not: half a year, so that what
    drifts below every threshold is taken up twice a year. Without any change every step is found done."""

    bits_per_byte: float = Field(default=0.1, gt=0)
    """The share by which new text may cost more bits per byte (of a masked foundation: nats per hidden token) than
    the held-out text of the time. 0.1: a hundred more documents of the starter's own kind read up to 5 % off, mail
    of the same town 28 %, a town of other people 129 %."""

    new_words: float = Field(default=0.05, gt=0, lt=1)
    """By how much the share of words that never stand in the training text may be larger than it was in held-out
    text. 0.05: one word more in twenty is a new word, about one a sentence."""

    bytes_per_token: float = Field(default=0.25, gt=0, lt=1)
    """The share by which a token may hold fewer bytes than in held-out text. 0.25: the same text then takes a third
    more tokens, time and context, for ever; a new tokenizer means a new foundation, so less is no reason."""

    label_shift: float = Field(default=0.1, gt=0)
    """Population stability index of the labels of new rows against the training rows. 0.1: below it a shift counts as
    small, above .25 as large, by the usual reading; half and half becoming 65 to 35 reads .09."""

    learning_rate_share: float = Field(default=0.3, gt=0, le=1)
    """continue_pretraining: its peak learning rate as a share of the recipe's. The higher it is, the faster new text
    is learned and old text forgotten, of which the corpus of now holds both; 0.3 lies between and was not measured."""


class Reading(Config):
    """A figure of what is new beside the same figure of its time, and how far it moved."""

    now: float
    before: float
    moved: float
    """What is held against the threshold."""
    low: float
    high: float
    """The ends of its 95 % interval."""
    rows: int
    """New rows that it was read from."""
    said: str = ""
    """What moved, in words, where now and before are no single figures."""


class Standing(Config):
    """One specialist: its champion (or, where none was promoted, its newest version) and what is new since."""

    version: str = ""
    """name/version; empty: never made."""
    created: int | None = None
    """When its champion was registered, in milliseconds since 1970; None without one."""
    changed: bool = True
    """Whether its data has another digest."""
    new_rows: int | None = None
    """Rows that it was not made with; None where that is not known."""
    gone_rows: int | None = None
    """Rows that it was made with, and that are no longer there."""
    label_shift: Reading | None = None
    tuned: bool = False
    """Whether a version of it was tuned from the weights of the champion foundation."""


class Measured(Config):
    """What lies in the sources now, against what the champions were trained on."""

    version: str = ""
    """The champion foundation, name/version; empty: there is none."""
    learnt: str = ""
    """The version whose training made its weights: another one where those were taken as they are."""
    created: int | None = None
    """When that one was registered, in milliseconds since 1970."""
    changed: bool = True
    """Whether the pretraining text has another digest."""
    new_rows: int | None = None
    """Documents that it never saw; None where that is not known."""
    new_bytes: int | None = None
    gone_rows: int | None = None
    score: str = "bits_per_byte"
    """What `cost` reads: bits per byte, or nats per hidden token of a masked foundation."""
    cost: Reading | None = None
    new_words: Reading | None = None
    bytes_per_token: Reading | None = None
    own_tokenizer: bool = True
    """Whether the recipe trains its tokenizer."""
    trained: bool = True
    """Whether the recipe trains its foundation, or takes a base as it is."""
    specialists: dict[str, Standing] = {}
    notes: list[str] = []
    """What could not be measured, and why."""


class Finding(Config):
    """One signal of one model, held against its threshold."""

    model: str
    signal: str
    value: str
    """The figure as it is shown, with what it was before."""
    interval: str = ""
    limit: str = ""
    verdict: Verdict
    action: Action
    """What it calls for where it is over."""


class Decision(Config):
    """What is done, and why."""

    action: Action
    reasons: list[str]
    """One sentence for each finding that is over its threshold, then what is to be known besides."""
    findings: list[Finding]
    """Everything that was looked at."""


def decide(measured: Measured, config: RetrainingConfig, *, today: date) -> Decision:
    """Decide what is trained again; the same arguments always give the same decision.

    More drift, more new rows or more age never lead to less training.
    """
    findings = [*_of_foundation(measured, config, today)]
    for model, standing in measured.specialists.items():
        findings += _of_specialist(model, standing, config, today)
    if not measured.trained:
        findings = [
            found.model_copy(update={"action": "finetune"}) if found.action == "continue_pretraining" else found
            for found in findings
        ]
    over = [found for found in findings if found.verdict == "over"]
    action = max((found.action for found in over), key=ACTIONS.index, default=ACTIONS[0])
    reasons = [_sentence(found) for found in over]
    if not over:
        reasons.append("Nothing was found that calls for training.")
    return Decision(action=action, reasons=[*reasons, *_besides(measured), *measured.notes], findings=findings)


def _of_foundation(measured: Measured, config: RetrainingConfig, today: date) -> list[Finding]:
    if not measured.version:
        none = Finding(model=FOUNDATION, signal="champion", value="none", verdict="over", action="from_scratch")
        return [none]
    least = config.min_new_rows
    fits: Action = "from_scratch" if measured.own_tokenizer else "continue_pretraining"
    more: Action = "continue_pretraining"
    cost, score = (measured.cost, config.bits_per_byte), measured.score.replace("_", " ")
    words, tokens = (measured.new_words, config.new_words), (measured.bytes_per_token, config.bytes_per_token)
    missing = NOTHING_NEW if measured.new_rows == 0 else ""
    found = [
        _rows(FOUNDATION, "new documents", measured.new_rows, measured.changed, least, "nothing"),
        _drift(*cost, score, "{:.3f}", "%", more, least, missing=missing),
        _drift(*words, "share of new words", "{:.1%}", "points", more, least, missing=missing),
        _drift(*tokens, "bytes a token", "{:.2f}", "% less", fits, least, missing=missing),
    ]
    # Old alone is no reason to train on the same text again: the same bytes would come of it.
    enough = (measured.new_rows or 0) >= least
    return [*found, *_age(FOUNDATION, measured.created, config, today, more if enough else "nothing")]


def _of_specialist(model: str, standing: Standing, config: RetrainingConfig, today: date) -> list[Finding]:
    found = []
    if not standing.tuned:
        value = f"{standing.version} is of another" if standing.version else "it has no version"
        signal = "tuned from the champion foundation"
        found.append(Finding(model=model, signal=signal, value=value, verdict="over", action="finetune"))
    if standing.version:
        least = config.min_new_rows
        found.append(_rows(model, "new rows", standing.new_rows, standing.changed, least, "finetune"))
        if standing.label_shift is not None:
            shift, limit = standing.label_shift, config.label_shift
            found.append(_drift(shift, limit, "label shift", "{:.3f}", "", "finetune", least, model))
    return [*found, *_age(model, standing.created, config, today, "finetune")]


def _rows(model: str, signal: str, rows: int | None, changed: bool, least: int, action: Action) -> Finding:
    if rows is None:
        value = "the data is another" if changed else "0"
        verdict: Verdict = "not known" if changed else "within"
    else:
        value = f"{rows:,}"
        verdict = "within" if rows < least or action == "nothing" else "over"
    limit = "" if action == "nothing" else f"{least:,}"
    return Finding(model=model, signal=signal, value=value, limit=limit, verdict=verdict, action=action)


def _drift(
    reading: Reading | None,
    limit: float,
    signal: str,
    form: str,
    unit: str,
    action: Action,
    least: int,
    model: str = FOUNDATION,
    missing: str = "",
) -> Finding:
    """Hold a reading against its threshold; `unit` says how both are shown: points and per cent, or as they are.

    `missing` says why there is no reading: nothing is new, or it is not known.
    """
    verdict: Verdict
    if reading is None:
        verdicts: dict[str, Verdict] = {"": "not known", NOTHING_NEW: "within"}
        shown, verdict = _amount(limit, unit), verdicts[missing]
        return Finding(model=model, signal=signal, value=missing, limit=shown, verdict=verdict, action=action)
    verdict = "over" if reading.low > limit else "not shown" if reading.moved > limit else "within"
    if reading.rows < least:
        verdict = "too few"
    ends = (reading.high, reading.low) if unit == "% less" else (reading.low, reading.high)
    value = f"{form.format(reading.now)}, before {form.format(reading.before)}: {_amount(reading.moved, unit)}"
    return Finding(
        model=model,
        signal=signal,
        value=f"{_amount(reading.moved, unit)}; {reading.said}" if reading.said else value,
        interval=" to ".join(_amount(end, unit) for end in ends),
        limit=_amount(limit, unit),
        verdict=verdict,
        action=action,
    )


def _age(model: str, created: int | None, config: RetrainingConfig, today: date, action: Action) -> list[Finding]:
    if created is None:
        return []
    days = (today - datetime.fromtimestamp(created / 1000, UTC).date()).days
    verdict: Verdict = "over" if days > config.max_age_days else "within"
    limit = f"{config.max_age_days:,}"
    return [Finding(model=model, signal="age in days", value=str(days), limit=limit, verdict=verdict, action=action)]


def _amount(value: float, unit: str) -> str:
    """Write how far something moved; what is measured as a loss is shown as the change that it is.

    >>> _amount(0.123, "%"), _amount(0.05, "points"), _amount(0.1, ""), _amount(0.25, "% less")
    ('+12.3 %', '+5.0 points', '0.100', '-25.0 %')
    """
    if not unit:
        return f"{value:.3f}"
    change = round(-100 * value if unit == "% less" else 100 * value, 1) + 0.0  # never -0.0
    return f"{change:+.1f} {unit.removesuffix(' less')}"


def _sentence(found: Finding) -> str:
    """Say why a finding calls for what it does."""
    if found.signal == "champion":
        return "from_scratch: the registry holds no champion foundation of this recipe."
    more = f" [{found.interval}]" if found.interval else ""
    limit = f", threshold {found.limit}" if found.limit else ""
    said = f"{found.action}: {found.model}, {found.signal}: {found.value}{more}{limit}."
    if found.signal == "age in days" and found.action == "nothing":
        return f"{said} There is too little new text to train it on."
    return said


def _besides(measured: Measured) -> list[str]:
    """Say what weights cannot undo: rows that are gone stay learned."""
    gone = {FOUNDATION: measured.gone_rows, **{model: own.gone_rows for model, own in measured.specialists.items()}}
    told = ", ".join(f"{rows:,} of {model}" for model, rows in gone.items() if rows)
    return [f"Gone from the prepared data: {told}. What learned from these rows still holds them."] if told else []
