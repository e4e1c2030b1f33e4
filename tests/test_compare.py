"""Two versions of a model side by side: counts worked out by hand, and a registry with two of everything."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_contents import make_content, write
from workspaces import RECIPE, alma

from flows.compare import main
from tasks.audits.lexicon import load_lexicon
from tasks.compare import compare
from tasks.compare_items import (
    by_class,
    by_identity,
    by_length,
    confusions,
    farthest,
    item_values,
    outcomes,
    slices,
)
from tasks.paired import terms
from tasks.registered import Registered, find
from tasks.report_compare import headline, signed


def test_wins_losses_and_ties_by_hand():
    # Right on 1, 2, 3, 4, 7 against right on 1, 5: four wins, one loss, one tie right and one wrong.
    found = outcomes([1, 1, 1, 1, 0, 0, 1], [1, 0, 0, 0, 1, 0, 0])
    assert (found["wins"], found["losses"], found["ties"], found["test"]) == (4, 1, 2, "mcnemar")
    # Two-sided binomial of 4 and 1: 2 (1 + 5) / 2^5.
    assert found["p_value"] == pytest.approx(12 / 32)
    graded = outcomes([0.5, 0.9, 0.3, 0.2], [0.4, 0.1, 0.3, 0.1])
    assert (graded["wins"], graded["losses"], graded["ties"], graded["test"]) == (3, 0, 1, "sign")
    assert graded["p_value"] == pytest.approx(2 / 2**3)


def test_the_most_different_rows_come_first():
    gaps = np.array([0.1, -0.5, 0.0, 0.9, 0.1, -0.2])
    assert farthest(gaps, 1, 10) == [3, 0, 4]
    assert farthest(gaps, -1, 1) == [1]


def test_a_cluster_counts_once():
    own = terms([1, 0, 1, 1], clusters=["x", "x", "y", "y"])
    values = item_values(own)
    assert values is not None
    assert values.tolist() == [0.5, 1.0]
    assert item_values(terms([[1, 0], [0, 1]])) is None


def test_rows_are_parted_by_class_length_and_identity():
    texts = ["a", "bb", "ccc", "dddd", "Her mother bakes.", "The mill turns."]
    name, parts = by_length(texts)
    assert name == "length"
    # Quartiles of 1, 2, 3, 4, 15, 17 are 2.25, 3.5 and 12.25.
    assert [part for part, _ in parts] == [
        "1 to 2 characters",
        "3 to 3 characters",
        "4 to 4 characters",
        "15 to 17 characters",
    ]
    assert [mask.sum() for _, mask in parts] == [2, 1, 1, 2]
    assert len(by_length(["same", "size"])[1]) == 1
    assert by_identity(texts, load_lexicon())[1][0][1].tolist() == [False] * 4 + [True, False]
    assert [(label, mask.sum()) for label, mask in by_class(["x", "y", "x"])[1]] == [("x", 2), ("y", 1)]


def test_slices_hold_their_own_rows_and_a_part_of_one_says_nothing():
    first, second = terms([1, 1, 1, 1, 0, 0]), terms([0, 0, 0, 1, 0, 1])
    found = slices(first, second, 1, [by_class(["x", "x", "x", "y", "y", "y"]), by_length(["same"] * 6)])
    assert [(row["slice"], row["items"], row["wins"], row["losses"], row["ties"]) for row in found] == [
        ("x", 3, 3, 0, 0),
        ("y", 3, 0, 1, 2),
    ]
    assert [row["difference"] for row in found] == pytest.approx([1.0, -1 / 3])
    # p values of 1/4 and 1; by Benjamini and Hochberg 2/1 of the first, and 1 of the second.
    assert [row["q_value"] for row in found] == pytest.approx([0.5, 1.0])
    assert slices(first, second, 1, [by_length(["same"] * 6)]) == []


def test_confusions_count_true_rows_and_answered_columns():
    found = confusions(["x", "x", "y"], ["x", "y", "y"], ["x", "z", "x"])
    assert found["labels"] == ["x", "y", "z"]
    assert found["a"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found["b"] == [[1, 0, 1], [1, 0, 0], [0, 0, 0]]


VALUES = st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 1.0])] * 2), min_size=2, max_size=30)


@given(VALUES)
def test_the_other_way_round_wins_are_losses(pairs: list[tuple[float, float]]):
    one, other = zip(*pairs, strict=True)
    found, mirror = outcomes(one, other), outcomes(other, one)
    assert (found["wins"], found["losses"], found["ties"]) == (mirror["losses"], mirror["wins"], mirror["ties"])
    assert found["p_value"] == pytest.approx(mirror["p_value"])
    assert sum(found[key] for key in ("wins", "losses", "ties")) == len(pairs)


def test_who_is_better_follows_from_the_interval_and_the_direction():
    gap = {"value": -0.2, "low": -0.3, "high": -0.1}
    row = {"metric": "bits_per_byte", "better": -1, "difference": gap}
    assert headline([row]) == "A is better in bits per byte."
    assert headline([row | {"metric": "accuracy", "better": 1}]) == "B is better in accuracy."
    assert "No difference is shown" in headline([row | {"difference": gap | {"high": 0.1}}])
    assert headline([row | {"difference": None}]) == "No difference can be given."
    assert signed("bits_per_byte", gap) == "-0.2000 [-0.3000, -0.1000]"
    assert signed("accuracy", gap) == "-20.0 points [-30.0, -10.0]"


@pytest.fixture(scope="module")
def two(_ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a second version of the classifier, of another seed, and so with a second foundation."""
    here = Path(shutil.copytree(_ran, tmp_path_factory.mktemp("compare") / "ran"))
    done = alma(here, "promote", RECIPE, "reviews", "seed=1")
    assert done.returncode == 0, done.stdout + done.stderr
    return here


@pytest.fixture
def inside(two: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, as the current directory; what the command sets in the environment is taken back."""
    monkeypatch.chdir(two)
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=f"sqlite:///{two}/var/mlflow/mlflow.db"):
        yield two


def compared(*arguments: str) -> dict[str, Any]:
    assert main([*arguments]) == 0
    names = "--".join(find(one).slug for one in arguments)
    found: dict[str, Any] = json.loads(Path("artifacts/compare", names, "compare.json").read_text())
    return found


def test_two_seeds_side_by_side_and_the_other_way_round(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared("tiny-reviews/1", "recipes/tiny.yaml:reviews")
    said = capsys.readouterr().out
    mirror = compared("tiny-reviews/2", "tiny-reviews/1")
    kept = [find(f"tiny-reviews/{version}").assessed().answers for version in (1, 2)]
    right = [tuple(own[name]["model"] == row["truth"] for own in kept) for name, row in kept[0].items()]
    counts = {"wins": right.count((True, False)), "losses": right.count((False, True))}
    counts["ties"] = len(right) - sum(counts.values())
    assert counts["wins"] + counts["losses"] > 0, "two seeds that answer alike show nothing"
    assert {key: found["outcomes"][key] for key in counts} == counts
    assert {key: mirror["outcomes"][key] for key in counts} == counts | {
        "wins": counts["losses"],
        "losses": counts["wins"],
    }
    accuracy = next(row for row in found["scores"] if row["metric"] == "accuracy")
    assert accuracy["difference"]["paired"]
    gap = (counts["wins"] - counts["losses"]) / len(right)
    assert accuracy["difference"]["value"] == pytest.approx(gap)
    assert accuracy["difference"]["low"] <= gap <= accuracy["difference"]["high"]
    for one, other in zip(found["scores"], mirror["scores"], strict=True):
        assert (one["a"], one["b"]) == (other["b"], other["a"])
        if one["difference"]:
            gaps = [
                (row["difference"][key]) for row, key in ((one, "low"), (one, "high"), (other, "high"), (other, "low"))
            ]
            assert gaps[:2] == pytest.approx([-gaps[2], -gaps[3]])
    for one, other in zip(found["slices"], mirror["slices"], strict=True):
        assert (one["slice"], one["wins"], one["q_value"]) == (other["slice"], other["losses"], other["q_value"])
    assert {row["by"] for row in found["slices"]} >= {"class", "length"}
    assert sum(row["items"] for row in found["slices"] if row["by"] == "length") == len(right)
    assert found["examples"]["wins"] == [
        {**row, "answers": {**row["answers"], "a": row["answers"]["b"], "b": row["answers"]["a"]}, "gap": -row["gap"]}
        | {"agree": ["a" if name == "b" else "b" for name in row["agree"]]}
        for row in mirror["examples"]["losses"]
    ]
    assert all(row["asked"] for row in found["examples"]["wins"])
    assert found["configuration"]["settings"] == {"seed": [0, 1]}
    facts = found["configuration"]["lineage"]
    assert facts["foundation_version"] == ["1", "2"]
    assert facts["own_data_digest"][0] == facts["own_data_digest"][1]
    assert {row["audit"] for row in found["audits"]} >= {"counterfactual", "group_fairness"}
    assert "tiny-reviews version 1" in said
    assert f"A better on {counts['wins']}, B on {counts['losses']}" in said
    page = (inside / "artifacts/compare/tiny-reviews.1--tiny-reviews.2/compare.html").read_text()
    assert "Exploratory" in page
    assert found["slices"][0]["slice"] in page


def test_two_foundations_by_window(inside: Path) -> None:
    found = compared("tiny-foundation/1", "tiny-foundation/2")
    bits = next(row for row in found["scores"] if row["metric"] == "bits_per_byte")
    assert bits["difference"]["paired"]
    assert bits["difference"]["value"] == pytest.approx(bits["a"]["value"] - bits["b"]["value"])
    assert sum(found["outcomes"][key] for key in ("wins", "losses", "ties")) > 1
    decided = json.loads((inside / "artifacts/tiny/promote/foundation/decision.json").read_text())
    assert decided["champion_before"] == found["a"]["version"] == "1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny-reviews/1", "tiny-foundation/1"), "of kind classification and tiny-foundation/1 of kind foundation"),
        (("tiny-reviews/1", "tiny-reviews/1"), "expected two versions, got one twice"),
        (("tiny-reviews/1", "tiny-reviews/9"), "tiny-reviews/9: no such registered version; there is tiny-"),
        (("tiny-reviews/1", "recipes/tiny.yaml:nobody"), "'nobody': no such model in recipes/tiny.yaml; there are "),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(
    inside: Path, arguments: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments]) == 2
    assert [message in line for line in capsys.readouterr().err.splitlines()] == [True]


def versions() -> tuple[Registered, Registered]:
    return find("tiny-reviews/1"), find("tiny-reviews/2")


@pytest.mark.usefixtures("inside")
def test_on_another_test_set_the_second_is_assessed_again_by_the_real_code() -> None:
    first, second = versions()
    plain = compare(first, second)
    elsewhere = replace(second, evidence=second.evidence.model_copy(update={"test_digest": "another"}))
    found = compare(first, elsewhere)
    assert "B was assessed again on the test set of A, since it was asked another test set." in found["notes"]
    assert (found["a"]["assessed_again"], found["b"]["assessed_again"]) == (False, True)
    # The test set is in truth the same, so what is assessed again has to give what was registered.
    assert found["outcomes"] == plain["outcomes"]
    assert found["confusions"] == plain["confusions"]
    for one, other in zip(plain["scores"], found["scores"], strict=True):
        assert one["b"]["value"] == pytest.approx(other["b"]["value"])
        assert one["difference"] == other["difference"]
    left = compare(first, elsewhere, again=False)
    assert "The scores were measured on different test sets" in left["notes"][0]
    assert [row["difference"] for row in left["scores"]] == [None] * len(left["scores"])
    assert (left["outcomes"], left["slices"], left["examples"]["wins"]) == (None, [], [])


@pytest.mark.usefixtures("inside")
def test_without_the_data_rows_are_ids_and_nothing_is_assessed_again(tmp_path: Path) -> None:
    first, second = versions()
    away = tmp_path / "prepare"
    shutil.move("artifacts/tiny/prepare", away)
    try:
        found = compare(first, second)
        assert {row["by"] for row in found["slices"]} == {"class"}
        assert all(row["asked"] == "" and row["id"] for row in found["examples"]["wins"])
        assert "not at hand" in found["notes"][-1]
        elsewhere = replace(second, evidence=second.evidence.model_copy(update={"test_digest": "another"}))
        assert "is not at hand: no difference is given" in compare(first, elsewhere)["notes"][0]
    finally:
        shutil.move(away, "artifacts/tiny/prepare")


@pytest.mark.usefixtures("inside")
def test_the_report_says_how_a_candidate_stands_against_the_champion(tmp_path: Path) -> None:
    content = make_content()
    name = next(iter(content["models"]))
    content["models"][name]["against"] = {
        "champion": "town-x/1",
        "found": compare(*versions(), examples=0, again=False),
    }
    shown = write(content, tmp_path)
    for page in shown:
        assert "Against the champion" in page
        assert "python -m flows compare tiny-reviews/1 tiny-reviews/2" in page
    content["models"][name]["against"] = {"champion": "town-x/1", "found": None, "reason": "it is <gone>"}
    assert all("is not compared: it is &lt;gone&gt;" in page for page in write(content, tmp_path))
