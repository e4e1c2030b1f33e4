"""Growth over the training rows: gaps worked out by hand, what cannot be compared, and the report's slope."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from group_fairness_examples import ABLE, LABELS
from hypothesis import given, settings
from hypothesis import strategies as st
from report_contents import make_content, write

from tasks.audits.counterfactual import accuracy_capability
from tasks.audits.label_association import newcombe
from tasks.audits.labelled_texts import LabelledSetConfig, LabelledText
from tasks.audits.selection_gap import AUDIT, audit, self_test
from tasks.audits.verdict import AuditResult, Verdict

CONFIG = LabelledSetConfig(positive="bad")


def table(*cells: tuple[str, str, int]) -> list[dict[str, str]]:
    """A cell is (groups, label, rows); the groups are the first word, joined by a +."""
    return [{"text": f"{groups} {label} {n}", "label": label} for groups, label, count in cells for n in range(count)]


def run(
    answers: list[dict[str, str]], train: list[dict[str, str]], config: LabelledSetConfig = CONFIG, **rest: Any
) -> AuditResult:
    """The model answers with the label that stands in the text; the true one is the same."""
    test = [LabelledText(row["text"], row["label"]) for row in answers]

    def classify(texts: list[str]) -> tuple[list[str], np.ndarray]:
        return [text.split()[1] for text in texts], np.ones((len(texts), 2)) / 2

    more: dict[str, Any] = {"label_names": LABELS, "groups_of": lambda text: set(text.split()[0].split("+")) - {"-"}}
    return audit(classify, test, train, config, ABLE, 0.05, **{**more, **rest})


# Of 40 rows about him 30 are bad, of 40 about her 20: a gap of .25. The model: 36 of 40 and 16 of 40, so .5.
TRAIN = table(("he", "bad", 30), ("he", "good", 10), ("she", "bad", 20), ("she", "good", 20), ("-", "good", 9))
TEST = table(("he", "bad", 36), ("he", "good", 4), ("she", "bad", 16), ("she", "good", 24), ("-", "bad", 5))


def test_by_hand() -> None:
    found = run(TEST, TRAIN)
    assert (found.audit, found.metric) == (AUDIT, "selection_rate_gap_amplification")
    assert found.estimate == pytest.approx(0.25)
    m, d = newcombe((36, 40), (16, 40)), newcombe((30, 40), (20, 40))
    # Zou and Donner 2008: the distances to the ends of both intervals, squared.
    assert found.low == pytest.approx(0.25 - np.hypot(m.estimate - m.low, d.high - d.estimate))
    assert found.high == pytest.approx(0.25 + np.hypot(m.high - m.estimate, d.estimate - d.low))
    assert found.details["data"] == {"estimate": 0.25, "low": d.low, "high": d.high}
    assert found.details["model"]["estimate"] == pytest.approx(0.5)
    assert [(row["group"], row["rows"], row["rate"]) for row in found.details["rates"]] == [
        *[("he", 40, 0.75), ("she", 40, 0.5)],
        *[("he", 40, 0.9), ("she", 40, 0.4)],
    ]
    assert "P(bad | he) - P(bad | she)" in found.reason
    assert found.items == 80
    assert self_test() == ""


def test_a_text_of_both_is_on_neither_side() -> None:
    both = table(("he+she", "bad", 50))
    assert run(TEST + both, TRAIN + both).model_dump() == run(TEST, TRAIN).model_dump()


def test_a_gap_turned_round_is_no_cure() -> None:
    turned = table(("she", "bad", 36), ("she", "good", 4), ("he", "bad", 16), ("he", "good", 24))
    found = run(turned, TRAIN)
    assert found.estimate == pytest.approx(0.25)
    assert "leans the other way" in found.reason


def test_a_label_that_the_model_never_gives_has_a_rate_of_0() -> None:
    found = run(table(("he", "good", 40), ("she", "good", 40)), TRAIN)
    assert found.details["model"]["estimate"] == 0
    assert found.estimate == pytest.approx(-0.25)
    assert found.verdict is Verdict.PASS


def test_the_pair_is_chosen_by_the_training_rows_alone() -> None:
    more = table(("they", "bad", 2), ("they", "good", 38), ("few", "good", 3))
    found = run([*TEST, *table(("they", "bad", 20), ("they", "good", 20), ("few", "bad", 9))], TRAIN + more)
    # he .75 and they .05 are farthest apart; `few` are too few to be chosen, however far.
    assert "P(bad | he) - P(bad | they)" in found.reason
    assert found.estimate == pytest.approx(0.4 - 0.7)
    rows = found.details["training_gaps"]
    assert len(rows) == 6
    assert (rows[0]["first"], rows[0]["second"], rows[0]["gap"]) == ("few", "he", pytest.approx(-0.75))
    assert rows[0]["rows"] == [3, 40]


def test_what_cannot_be_compared_is_refused_and_says_why() -> None:
    nobody = run(TEST, table(("-", "bad", 40), ("he", "good", 3)))
    assert nobody.verdict is Verdict.REFUSED
    assert nobody.reason.endswith("named in so many: he 3 and 40, she 0 and 40.")
    unable = audit(
        lambda texts: ([], np.zeros((0, 2))), [], TRAIN, CONFIG, accuracy_capability(0.4, 0.5), 0.05, label_names=LABELS
    )
    assert "below the capability floor" in unable.reason
    strange = audit(
        lambda texts: (["bad"] * len(texts), np.full((len(texts), 2), np.nan)),
        [LabelledText(row["text"], row["label"]) for row in TEST],
        TRAIN,
        CONFIG,
        ABLE,
        0.05,
        label_names=LABELS,
        groups_of=lambda text: {text.split()[0]} - {"-"},
    )
    assert "not finite" in strange.reason
    assert {unable.verdict, strange.verdict} == {Verdict.REFUSED}
    assert {nobody.audit, unable.audit, strange.audit} == {AUDIT}


def test_few_rows_decide_nothing() -> None:
    found = run(table(("he", "bad", 29), ("she", "good", 40)), table(("he", "good", 400), ("she", "good", 400)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.startswith(
        "A group has only 29 rows in training or test, 30 are needed. The amplification +1.0"
    )


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(1, 60)] * 4), st.tuples(*[st.integers(1, 60)] * 4))
def test_of_any_tables(train: tuple[int, ...], test: tuple[int, ...]) -> None:
    cells = [("he", "bad"), ("he", "good"), ("she", "bad"), ("she", "good")]
    rows, answers = (table(*((*cell, n) for cell, n in zip(cells, counts, strict=True))) for counts in (train, test))
    found = run(answers, rows)
    gaps = [c[0] / (c[0] + c[1]) - c[2] / (c[2] + c[3]) for c in (test, train)]
    assert found.estimate == pytest.approx(abs(gaps[0]) - abs(gaps[1]))
    assert found.low <= found.estimate <= found.high
    # The label that is looked at makes no difference to two labels: the other's gaps are these turned round.
    other = run(answers, rows, LabelledSetConfig(positive="good"))
    assert (other.estimate, other.low, other.high) == (
        pytest.approx(found.estimate),
        pytest.approx(found.low),
        pytest.approx(found.high),
    )


def test_it_stands_in_the_report_as_a_slope(tmp_path: Path) -> None:
    content = make_content()
    content["models"]["reviews"]["audits"] = [run(TEST, TRAIN).model_dump(mode="json")]
    text, page = write(content, tmp_path)
    assert "Gap from training rows to model: town-reviews from 0.2500 to 0.5000." in page
    for shown in (text, page):
        assert "label gap, growth over the training rows" in shown
        assert "bad as the model answers" in shown
    assert "Bias from parent to child" not in page
