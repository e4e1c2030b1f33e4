"""Calibration: golden tables, torchmetrics, what must hold of any model, and whether the interval covers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from report_contents import make_content, score
from torchmetrics.functional.classification import binary_calibration_error

from tasks import report_words as words
from tasks.assessments.classification import assess, assess_again
from tasks.calibration import calibration_error, expected_calibration_error, reliability
from tasks.readers import write_rows
from tasks.recipe import SpecialistConfig

CERTAIN = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def test_the_table_by_hand() -> None:
    # Edges belong to the bin below: .2 to (.0, .2], .4 to (.2, .4]; 0 lies in the first and 1 in the last.
    table = reliability([0.0, 0.2, 0.4, 0.9, 1.0], [0, 1, 0, 1, 0], bins=5)
    assert [(row.low, row.high, row.n) for row in table] == [(0, 0.2, 2), (0.2, 0.4, 1), (0.8, 1.0, 2)]
    assert [row.probability for row in table] == pytest.approx([0.1, 0.4, 0.95])
    assert [row.rate for row in table] == [0.5, 0, 0.5]
    # 2/5 * .4 + 1/5 * .4 + 2/5 * .45
    assert expected_calibration_error([0.0, 0.2, 0.4, 0.9, 1.0], [0, 1, 0, 1, 0], bins=5) == pytest.approx(0.42)


def test_of_guo_s_bins_every_edge_lies_in_the_bin_below() -> None:
    edges = np.arange(1, 16) / 15
    assert [row.high for row in reliability(edges, np.ones(15))] == edges.tolist()


@settings(max_examples=60, deadline=None)
@given(CERTAIN)
def test_the_error_of_any_model(rows: list[tuple[float, bool]]) -> None:
    p, y = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    found = calibration_error(p, y, resamples=100)
    assert found.estimate == expected_calibration_error(p, y)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    # At least the whole gap, since bins can only cancel within themselves; one bin has nothing else.
    gap = abs(float(p.mean() - y.mean()))
    assert found.estimate >= gap - 1e-12
    assert expected_calibration_error(p, y, bins=1) == pytest.approx(gap)
    assert sum(row.n for row in reliability(p, y)) == len(rows)
    # The order of the items means nothing, nor does having each of them twice, as clusters of two.
    order = np.random.default_rng(0).permutation(len(p))
    assert expected_calibration_error(p[order], y[order]) == pytest.approx(found.estimate)
    twice = calibration_error(np.tile(p, 2), np.tile(y, 2), [*range(len(p)), *range(len(p))], resamples=100)
    assert twice.estimate == pytest.approx(found.estimate)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 400))
def test_it_is_torchmetrics_error(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    p, y = random.random(n), random.integers(0, 2, n)
    theirs = binary_calibration_error(torch.tensor(p), torch.tensor(y), n_bins=15, norm="l1")
    assert expected_calibration_error(p, y) == pytest.approx(theirs.item(), abs=1e-6)


def test_the_interval_covers_where_percentiles_do_not() -> None:
    random = np.random.default_rng(0)
    held = {0.0: 0, -0.1: 0}
    for shift in held:
        for seed in range(60):
            p = 0.5 + 0.5 * random.beta(4, 1.5, 300)
            found = calibration_error(p, random.random(300) < np.clip(p + shift, 0, 1), resamples=300, seed=seed)
            held[shift] += found.low <= abs(shift) + 0.002 and abs(shift) <= found.high + 0.002
            # A perfectly calibrated model shows about .04 on so few texts.
            assert 0.02 < found.by_chance < 0.06
    assert min(held.values()) >= 50


def test_whole_clusters_widen_the_interval() -> None:
    random = np.random.default_rng(0)
    right = np.repeat(random.random(40) < 0.7, 10)
    p = np.full(400, 0.9)
    alone, together = calibration_error(p, right), calibration_error(p, right, np.repeat(np.arange(40), 10).tolist())
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="equally long non-empty"):
        reliability([], [])
    with pytest.raises(ValueError, match=r"got \(1,\) and \(2,\)"):
        expected_calibration_error([0.5], [0, 1])
    for p, y in ((1.2, 1), (float("nan"), 1), (0.5, 2)):
        with pytest.raises(ValueError, match="probabilities from 0 to 1 and outcomes of 0 or 1"):
            reliability([p], [y])
    with pytest.raises(ValueError, match="2 items but 1 clusters"):
        calibration_error([0.5, 0.5], [0, 1], ["a"])


class Oracle:
    """Says `good` of every text with the probability that the text states."""

    label_names = ("bad", "good")

    def classify(self, texts: list[str]) -> tuple[list[str], np.ndarray]:
        good = np.array([float(text.split()[-1]) for text in texts])
        return ["good" if p >= 0.5 else "bad" for p in good], np.stack([1 - good, good], axis=1)


def test_a_classifier_is_asked_for_its_calibration(tmp_path) -> None:
    rows = [{"id": f"r{n}", "text": f"a text {p}", "label": label} for n, (p, label) in enumerate(STATED)]
    for split in ("train", "test"):
        write_rows(tmp_path / f"{split}.jsonl", rows)
    specialist = SpecialistConfig.model_validate({"task": "classification", "data": "r", "train": {"epochs": 1}})
    predictions, scores = assess({"model": Oracle(), "from_scratch": Oracle()}, specialist, tmp_path, 0)
    assert predictions[0]["confidence"] == {"model": 0.8123, "from_scratch": 0.8123}
    assert predictions[4]["confidence"]["model"] == 0.9
    # Two bins: 4 texts at .8123, 3 right; 4 at .9 (for `bad`), 2 right.
    ece = scores["model"].scores["ece"]
    assert ece.value == pytest.approx(0.5 * (0.81234 - 0.75) + 0.5 * (0.9 - 0.5))
    assert ece.low <= ece.value <= ece.high
    assert [name for name, found in scores.items() if "ece" in found.scores] == ["model", "from_scratch"]
    again = assess_again({"model": Oracle()}, specialist, rows)
    assert again.scores["ece"].value == ece.value
    assert again.scores["ece"].low is None


STATED = [(0.81234, "good")] * 3 + [(0.81234, "bad")] + [(0.1, "bad")] * 2 + [(0.1, "good")] * 2


def test_the_report_says_which_way_is_good() -> None:
    found = make_content()["models"]["reviews"]["scores"]
    assert words.calibration(found) == ""
    found["model"]["scores"]["ece"] = score(0.0312, 0.0187, 0.0481)
    found["from_scratch"]["scores"]["ece"] = score(0.1, 0.08, 0.12)
    said = words.calibration(found)
    assert "differ by 0.031 [0.019, 0.048] on average" in said
    assert "0 is perfect, less is better); from scratch: 0.100 [0.080, 0.120]." in said
    found["model"]["scores"]["ece"] |= {"low": 0.0}
    assert words.calibration(found).endswith("may show as much on so few texts.")
    assert words.named("ece") == "calibration error (0 is perfect)"
