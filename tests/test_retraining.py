"""Whether to train again: every row of the table by hand, and that more drift never leads to less training."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.recipe import Recipe
from tasks.retrain import as_markdown
from tasks.retraining import ACTIONS, Measured, Reading, RetrainingConfig, Standing, decide

TODAY = date(2030, 7, 1)
CONFIG = RetrainingConfig()


def days_ago(days: int) -> int:
    moment = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC) - timedelta(days=days)
    return int(moment.timestamp() * 1000)


def reading(low: float, rows: int = 500, width: float = 0.02, **more: Any) -> Reading:
    return Reading(now=1.0, before=0.8, moved=low + width / 2, low=low, high=low + width, rows=rows, **more)


def standing(**more: Any) -> Standing:
    known = {"version": "t-mail/1", "created": days_ago(10), "changed": False, "new_rows": 0, "gone_rows": 0}
    return Standing(**{**known, "tuned": True, **more})


def measured(mail: Standing | None = None, **more: Any) -> Measured:
    known = {"version": "t-foundation/1", "learnt": "t-foundation/1", "created": days_ago(10), "new_rows": 0}
    return Measured(**{**known, "specialists": {"mail": mail or standing()}, **more})


def judge(found: Measured) -> tuple[str, list[str]]:
    decision = decide(found, CONFIG, today=TODAY)
    return decision.action, decision.reasons


MANY = {"new_rows": 500, "changed": True}


@pytest.mark.parametrize(
    ("found", "action", "said"),
    [
        (measured(), "nothing", "Nothing was found that calls for training."),
        (Measured(), "from_scratch", "from_scratch: the registry holds no champion foundation of this recipe."),
        (
            measured(bytes_per_token=reading(0.26), **MANY),
            "from_scratch",
            "foundation, bytes a token: 1.00, before 0.80: -27.0 % [-28.0 % to -26.0 %], threshold -25.0 %.",
        ),
        # Its tokenizer came with a base, and would be the same again.
        (measured(bytes_per_token=reading(0.26), own_tokenizer=False, **MANY), "continue_pretraining", "bytes a token"),
        (
            measured(cost=reading(0.11), **MANY),
            "continue_pretraining",
            "continue_pretraining: foundation, bits per byte: 1.000, before 0.800: +12.0 % [+11.0 % to +13.0 %], "
            "threshold +10.0 %.",
        ),
        (measured(new_words=reading(0.06), **MANY), "continue_pretraining", "share of new words: 100.0%, before 80.0%"),
        # What moved is over the threshold, its interval is not: nothing is shown.
        (measured(cost=reading(0.095), **MANY), "nothing", "Nothing"),
        (measured(cost=reading(0.5, rows=99), **MANY), "nothing", "Nothing"),
        # New text that is like the old one is no reason by itself, until the foundation is old.
        (measured(**MANY), "nothing", "Nothing"),
        (measured(created=days_ago(181), **MANY), "continue_pretraining", "age in days: 181, threshold 180."),
        (measured(created=days_ago(180), **MANY), "nothing", "Nothing"),
        (measured(created=days_ago(181)), "nothing", "There is too little new text to train it on."),
        # A base that is taken as it is: nothing of the foundation is trained.
        (measured(cost=reading(0.11), trained=False, **MANY), "finetune", "finetune: foundation, bits per byte"),
        (measured(standing(new_rows=100, changed=True)), "finetune", "mail, new rows: 100, threshold 100."),
        (measured(standing(new_rows=99, changed=True)), "nothing", "Nothing"),
        (
            measured(standing(label_shift=reading(0.11, said="good 50.0 % to 80.0 %"), changed=True)),
            "finetune",
            "finetune: mail, label shift: 0.120; good 50.0 % to 80.0 % [0.110 to 0.130], threshold 0.100.",
        ),
        (measured(standing(label_shift=reading(0.11, rows=99))), "nothing", "Nothing"),
        (measured(standing(tuned=False)), "finetune", "tuned from the champion foundation: t-mail/1 is of another."),
        (measured(Standing()), "finetune", "tuned from the champion foundation: it has no version."),
        (measured(standing(created=days_ago(181))), "finetune", "finetune: mail, age in days: 181, threshold 180."),
        # Of several the greatest.
        (measured(standing(new_rows=100), cost=reading(0.2), **MANY), "continue_pretraining", "mail, new rows: 100"),
        # What is not known calls for nothing, and is told.
        (
            measured(standing(new_rows=None, changed=True), new_rows=None, notes=["no digests are kept"]),
            "nothing",
            "no digests are kept",
        ),
        (measured(standing(gone_rows=3), gone_rows=12), "nothing", "Gone from the prepared data: 12 of foundation, 3"),
    ],
)
def test_the_table(found: Measured, action: str, said: str) -> None:
    decided, reasons = judge(found)
    assert decided == action
    assert any(said in reason for reason in reasons), reasons


def test_what_is_not_known_is_a_verdict_of_its_own() -> None:
    found = measured(standing(new_rows=None, changed=True), new_rows=None, cost=reading(0.01))
    verdicts = {(one.model, one.signal): one.verdict for one in decide(found, CONFIG, today=TODAY).findings}
    assert verdicts["mail", "new rows"] == verdicts["foundation", "new documents"] == "not known"
    assert verdicts["foundation", "bits per byte"] == "within"
    assert verdicts["foundation", "share of new words"] == "not known"
    unchanged = {one.signal: one for one in decide(measured(), CONFIG, today=TODAY).findings}
    assert unchanged["share of new words"].value == "nothing new"
    assert unchanged["share of new words"].verdict == "within"


amounts = st.floats(-0.5, 1, allow_nan=False)
optional_readings = st.none() | st.builds(reading, amounts, st.integers(2, 300), st.floats(0, 0.3))
standings = st.builds(
    standing,
    new_rows=st.none() | st.integers(0, 300),
    label_shift=optional_readings,
    tuned=st.booleans(),
    created=st.none() | st.integers(0, 400).map(days_ago),
)
anything = st.builds(
    measured,
    mail=standings,
    version=st.sampled_from(["", "t-foundation/1"]),
    created=st.integers(0, 400).map(days_ago),
    new_rows=st.none() | st.integers(0, 300),
    cost=optional_readings,
    new_words=optional_readings,
    bytes_per_token=optional_readings,
    own_tokenizer=st.booleans(),
    trained=st.booleans(),
)


def further(found: Reading | None, more: float, rows: int) -> Reading | None:
    if found is None:
        return None
    moved = {name: getattr(found, name) + more for name in ("moved", "low", "high")}
    return found.model_copy(update={**moved, "rows": found.rows + rows})


@given(anything, st.floats(0, 1), st.integers(0, 200), st.integers(0, 400))
def test_more_drift_rows_or_age_never_lead_to_less_training(found: Measured, more: float, rows: int, days: int) -> None:
    mail = found.specialists["mail"]

    def grown(count: int | None) -> int | None:
        return None if count is None else count + rows

    def older(created: int | None) -> int | None:
        return None if created is None else created - days * 86_400_000

    drifted = found.model_copy(
        update={
            **{name: further(getattr(found, name), more, rows) for name in ("cost", "new_words", "bytes_per_token")},
            "new_rows": grown(found.new_rows),
            "created": older(found.created),
            "specialists": {
                "mail": mail.model_copy(
                    update={
                        "new_rows": grown(mail.new_rows),
                        "label_shift": further(mail.label_shift, more, rows),
                        "created": older(mail.created),
                    }
                )
            },
        }
    )
    before, after = (decide(each, CONFIG, today=TODAY) for each in (found, drifted))
    assert ACTIONS.index(after.action) >= ACTIONS.index(before.action)
    assert (after.action == "nothing") == (not [one for one in after.findings if one.verdict == "over"]) or all(
        one.action == "nothing" for one in after.findings if one.verdict == "over"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_new_rows", 9),
        ("max_age_days", 0),
        ("bits_per_byte", 0),
        ("new_words", 1),
        ("bytes_per_token", -0.1),
        ("label_shift", 0),
        ("learning_rate_share", 1.5),
        ("every", "day"),
    ],
)
def test_a_threshold_out_of_range_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        RetrainingConfig.model_validate({field: value})


def test_the_section_is_no_part_of_what_a_version_is() -> None:
    from tasks.promote import NO_PART

    text = {"kind": "text", "train": [{"kind": "files", "paths": ["a.txt"]}]}
    values = {"name": "t", "data": {"datasets": {"corpus": text}}, "pretrain": {"train": {"steps": 1}}}
    plain = Recipe.model_validate(values)
    other = Recipe.model_validate(values | {"retraining": {"max_age_days": 7}})
    assert plain.model_dump_json(exclude=NO_PART) == other.model_dump_json(exclude=NO_PART)


def test_the_page_shows_labels_as_they_are() -> None:
    found = measured(standing(label_shift=reading(0.3, said="<b>|*x* 50 % to 80 %"), changed=True), **MANY)
    page = as_markdown("t", decide(found, CONFIG, today=TODAY), found)
    assert page.startswith("# t: finetune\n")
    assert r"0.310; \<b\>\|\*x\* 50 % to 80 %" in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {8}
