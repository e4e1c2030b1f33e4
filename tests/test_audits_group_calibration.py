"""Calibration by group: planted gaps by hand, what must hold of any groups, and what the report shows of it."""

from pathlib import Path

import numpy as np
import pytest
from group_fairness_examples import ABLE, LABELS, QUICK
from hypothesis import given, settings
from hypothesis import strategies as st
from report_contents import audit as made
from report_contents import make_content, write

from tasks.audits.gaps import GapsConfig
from tasks.audits.group_calibration import by_group
from tasks.audits.group_fairness import audit
from tasks.audits.labelled_texts import LabelledText
from tasks.report_calibration import _joined, views

FEW = GapsConfig(resamples=200, min_items=4)


def grouped(*cells: tuple[str, float, int, int]) -> dict:
    """A cell is (group, probability, texts, texts of the label)."""
    rows = [(group, p, float(k < true)) for group, p, n, true in cells for k in range(n)]
    groups = [frozenset([group]) for group, _, _ in rows]
    p, y = zip(*[(p, y) for _, p, y in rows], strict=True)
    return by_group(p, y, groups, sorted({group for group, _, _ in rows}), range(len(rows)), FEW)


def test_by_hand() -> None:
    found = grouped(
        ("he", 0.25, 8, 2), ("he", 0.75, 4, 3), ("she", 0.25, 8, 4), ("she", 0.75, 4, 3), ("they", 0.9, 3, 0)
    )
    he, she = found["groups"]["he"], found["groups"]["she"]
    assert (he["texts"], he["mean_probability"], he["rate"]) == (12, pytest.approx(5 / 12), pytest.approx(5 / 12))
    assert he["gap"]["estimate"] == pytest.approx(0)
    assert he["ece"]["estimate"] == pytest.approx(0)
    # Of her texts at .25 half have the label: 2 of 12 more than expected, in one bin.
    assert she["gap"]["estimate"] == pytest.approx(-1 / 6)
    assert she["ece"]["estimate"] == pytest.approx(1 / 6)
    # Twelve texts show an error by chance alone.
    assert she["ece_by_chance"] == pytest.approx(he["ece_by_chance"])
    assert 0.05 < he["ece_by_chance"] < 0.3
    assert [(row["n"], row["probability"], row["rate"]) for row in found["bins"]["she"]] == [
        (8, 0.25, 0.5),
        (4, 0.75, 0.75),
    ]
    assert found["groups"]["they"] == {"texts": 3}
    assert list(found["bins"]) == ["he", "she"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.sampled_from(["a", "b", "ab", ""])), min_size=1, max_size=40)
)
def test_of_any_texts(rows: list[tuple[float, bool, str]]) -> None:
    p, y, groups = zip(*rows, strict=True)
    found = by_group(p, y, [frozenset(mine) for mine in groups], ["a", "b"], range(len(rows)), FEW)
    for name, row in found["groups"].items():
        at = [number for number, mine in enumerate(groups) if name in mine]
        assert row["texts"] == len(at)
        assert ("ece" in row) == (len(at) >= 4) == (name in found["bins"])
        if "ece" in row:
            gap = np.mean([p[number] - y[number] for number in at])
            assert row["gap"]["estimate"] == pytest.approx(gap)
            assert row["gap"]["low"] <= row["gap"]["high"]
            assert row["ece"]["estimate"] >= abs(gap) - 1e-12
            assert sum(one["n"] for one in found["bins"][name]) == len(at)


def planted(n: int = 400) -> list[LabelledText]:
    """Texts that state P(bad); his are bad as often, hers a fifth more often."""
    random = np.random.default_rng(0)
    chances = random.choice([0.1, 0.3, 0.5, 0.7], 2 * n)
    more = np.repeat([0.0, 0.2], n)
    bad = random.random(2 * n) < chances + more
    return [
        LabelledText(f"{p} {k}", LABELS[int(not is_bad)], groups=frozenset(["she" if k >= n else "he"]))
        for k, (p, is_bad) in enumerate(zip(chances, bad, strict=True))
    ]


def stated(texts: list[str]) -> tuple[list[str], np.ndarray]:
    bad = np.array([float(text.split()[0]) for text in texts])
    return ["bad" if p >= 0.5 else "good" for p in bad], np.stack([bad, 1 - bad], axis=1)


def test_the_audit_finds_whose_risk_is_underestimated() -> None:
    config = QUICK.model_copy(update={"positive": "bad"})
    result = audit(stated, planted(), config, ABLE, label_names=LABELS)
    groups = result.details["calibration"]["bad"]["groups"]
    assert groups["he"]["gap"]["low"] < 0 < groups["he"]["gap"]["high"]
    assert groups["he"]["ece"]["low"] == 0
    assert groups["she"]["gap"]["high"] < -0.1
    assert groups["she"]["gap"]["estimate"] == pytest.approx(-0.2, abs=0.06)
    assert groups["she"]["ece"]["low"] > 0.1
    # An order of texts that is another changes no number.
    again = audit(stated, planted()[::-1], config, ABLE, label_names=LABELS)
    assert again.details["calibration"]["bad"]["groups"]["she"]["ece"]["estimate"] == pytest.approx(
        groups["she"]["ece"]["estimate"]
    )


def test_the_report_draws_a_line_a_group_and_says_who_is_too_few(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"positive": "bad"})
    few = [LabelledText(f"0.5 few {k}", "bad", groups=frozenset(["they"])) for k in range(7)]
    result = audit(stated, [*planted(), *few], config, ABLE, label_names=LABELS)
    (view,) = views("town-reviews", result.details["calibration"])
    assert view.picture is not None
    assert "he, 400 texts" in view.picture.svg
    assert "they" not in view.picture.svg
    assert "Calibration of P(bad) by group, town-reviews: he, 400 texts: mean P" in view.picture.alt
    assert view.left_out == "Fewer than 30 texts, so not compared: they (7)."
    assert [line[:2] for line in view.groups] == [["he", "400"], ["she", "400"], ["they", "7"]]
    assert [edges for edges, _ in view.bins] == ["0.07 to 0.13", "0.27 to 0.33", "0.47 to 0.53", "0.67 to 0.73"]
    content = make_content()
    content["models"]["reviews"]["audits"] = [made("group_fairness", "gap", 0.01, details=result.details)]
    for page in write(content, tmp_path):
        assert "Fewer than 30 texts, so not compared: they (7)." in page
        assert "ECE by chance" in page
        assert view.bins[0][1][0] in page
    only = {"bad": by_group([0.5] * 3, [1, 0, 1], [frozenset("a")] * 3, ["a", "b"], range(3), GapsConfig())}
    (empty,) = views("town-reviews", only)
    assert empty.picture is None
    assert empty.left_out == "Fewer than 30 texts, so not compared: a (3) and b (0)."


def test_bins_of_few_texts_are_drawn_as_one() -> None:
    rows = [
        {"n": n, "probability": p, "rate": r} for n, p, r in ((12, 0.1, 0.0), (6, 0.3, 0.5), (4, 0.4, 1.0), (3, 0.9, 1))
    ]
    # The last three texts are too few to stand alone and join what is before them: (6 * .3 + 4 * .4 + 3 * .9) / 13.
    assert _joined(rows) == [(pytest.approx(0.1), 0.0, 12), (pytest.approx(6.1 / 13), pytest.approx(10 / 13), 13)]
    assert _joined(rows[3:]) == [(pytest.approx(0.9), 1.0, 3)]
