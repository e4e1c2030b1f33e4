"""Contamination by set: planted overlaps are found, removed ones are clean, and the scores without the others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.audits.item_values import ItemValues
from tasks.clean_part import _audited, _part
from tasks.corpus import PrepareConfig
from tasks.duplicates import hash_all_runs, hash_runs
from tasks.evaluation_sets import EvaluationSet, prompted
from tasks.in_context_tasks import InContextTask
from tasks.overlap import documents, look, near_duplicates
from tasks.paired import interval, terms
from tasks.readers import read_rows, write_rows
from tasks.sources import DataConfig, Dataset, Source

CONFIG = PrepareConfig(contamination_ngram=6, contamination_min_words=4)
CORPUS = Dataset(kind="text", train=[Source(kind="starter", table="corpus")])
LEAK = "the old miller sold his seven grey geese at the fair"
KEPT = "nobody in the village had ever seen a comet before"


@pytest.fixture
def text(tmp_path: Path) -> tuple[Path, Path]:
    """A corpus as it was ingested and as it was prepared: one leak removed, one kept, one document held out."""
    raw = {
        "a": f"One day {LEAK}, and went home.",
        "b": f"They say {KEPT}; so it was.",
        "c": "A held-out document that quotes itself, which is no wonder at all.",
        "d": f"Write to miller@example.org: {LEAK[:30]}",
        "e": f"{KEPT} once more, in a document of which a piece was dropped",
    }
    rows = [{"id": name, "text": words} for name, words in raw.items()]
    write_rows(tmp_path / "raw" / "train.jsonl", rows)
    write_rows(tmp_path / "done" / "train.jsonl", [rows[1], {"id": "e/1", "text": "in a document of which"}])
    write_rows(tmp_path / "done" / "valid.jsonl", [])
    write_rows(tmp_path / "done" / "test.jsonl", [rows[2]])
    return tmp_path / "raw", tmp_path / "done"


def test_documents_are_those_that_were_ingested_to_train_on(text: tuple[Path, Path]) -> None:
    found = [(name, trained) for name, _, trained in documents(CONFIG, *text)]
    assert found == [("b", True), ("e/1", True), ("a", False), ("d", False), ("e", False)]
    scrubbed = next(words for name, words, _ in documents(CONFIG, *text) if name == "d")
    assert scrubbed.startswith("Write to <email>:")


def test_an_item_that_was_removed_counts_as_clean(text: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    text[0].rename(tmp_path / "in" / "corpus")
    (tmp_path / "out").mkdir()
    text[1].rename(tmp_path / "out" / "corpus")
    sets = [
        EvaluationSet("one", "test split", {"1": [LEAK], "2": [f"Again: {KEPT}!"], "3": ["too short"]}),
        EvaluationSet("two", "audit", {"x": ["words that stand in no document at all"], "y": ["unrelated", LEAK]}),
    ]
    found = look(CONFIG, sets, ["corpus"], tmp_path / "in", tmp_path / "out")
    numbers = ("items", "unchecked", "ingested", "removed", "pretraining")
    assert [[entry[name] for name in numbers] for entry in found.values()] == [[3, 1, 2, 1, 1], [2, 0, 1, 1, 0]]
    assert found["one"]["in_training"] == ["2"]
    assert found["one"]["found"][1] == {
        "item": "2",
        "trained_on": True,
        "dataset": "corpus",
        "document": "b",
        "ngram": "nobody in the village had ever",
    }


def test_near_duplicates_are_found_by_the_true_similarity() -> None:
    words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]
    train = [{"id": "t1", "text": " ".join(words)}, {"id": "t2", "text": "Quite another text."}]
    test = [
        {"id": "same", "text": "A, b c d e f g h i j k L!"},
        {"id": "near", "text": " ".join(words[:-1])},
        {"id": "far", "text": " ".join([*words[:6], *"mnopqr"])},
        {"id": "short", "text": "quite another text"},
    ]
    found = near_duplicates(CONFIG, train, test)
    # 12 words have 10 runs of 3, 11 words 9 of these: 9 / 10.
    assert found == {
        "same": {"train": "t1", "similarity": 1.0},
        "near": {"train": "t1", "similarity": 0.9},
        "short": {"train": "t2", "similarity": 1.0},
    }


def test_what_is_asked_by_prompt_is_looked_up_with_its_answer(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": f"Who sold {n} geese?", "choices": ["Ada", "Ben"], "label": 1} for n in range(3)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    task = InContextTask(kind="choice", paths=["rows.jsonl"], shots=[0])
    data = DataConfig(root=str(tmp_path), datasets={"corpus": CORPUS})
    items = prompted(task, data)
    assert sorted(items) == ["0", "1", "2"]
    assert sorted(map(tuple, items.values()))[0] == ("Who sold 0 geese?", "Who sold 0 geese? Ben")


def test_the_clean_part_has_its_own_score_and_interval() -> None:
    own = terms([1.0] * 30 + [0.0] * 30)
    left = _part(own, np.arange(60) >= 20)
    assert left is not None
    found = interval(left)
    assert (found.estimate, len(left)) == (0.25, 40)
    assert found.standard_error == pytest.approx((0.25 * 0.75 / 40) ** 0.5, rel=0.1)
    assert _part(own, np.arange(60) < 1) is None


def test_an_audit_on_its_clean_items_keeps_its_definition() -> None:
    values = ItemValues(
        ids=list("abcdef"),
        values=[1.0, 0.0, 1.0, 0.0, 0.0, 1.0],
        clusters=list("uvwxyz"),
        groups=[1, 1, 1, -1, -1, -1],
        weights=[1, 1, 2, 1, 1, 0],
    )
    found = _audited(values, {"b"}, seed=0)
    # (1 * 1 + 2 * 1) / 3 for the one group, 0 for the other.
    assert (found["clean_n"], found["clean_value"]) == (5, 1.0)
    assert _audited(values, {"d", "e"}, seed=0)["clean_value"] is None


def test_a_run_says_where_its_sets_stand_in_its_text(workspace: Path) -> None:
    written = json.loads((workspace / "artifacts/tiny/overlap/contamination.json").read_text())
    assert sorted(written["sets"]) == ["corpus", "preferences", "questions", "reviews"]
    leaks = written["sets"]["reviews"]
    prepared = json.loads((workspace / "artifacts/tiny/prepare/contamination.json").read_text())["reviews/test"]
    assert leaks["removed"] == leaks["ingested"] >= prepared["overlapping"] > 0
    assert leaks["pretraining"] == 0
    like = written["sets"]["preferences"]["duplicate_of"]
    train = {row["id"] for row in read_rows(workspace / "artifacts/tiny/prepare/preferences/train.jsonl")}
    assert {entry["train"] for entry in like.values()} <= train
    report = json.loads((workspace / "artifacts/tiny/report/report.json").read_text())["contamination"]
    clerk = [row for row in report["scores"] if row["set"] == "preferences"]
    assert bool(clerk) == bool(like)
    for row in clerk:
        assert row["clean_n"] == row["n"] - len(like)
    assert "Contamination by evaluation set" in (workspace / "artifacts/tiny/report/report.html").read_text()


def test_runs_of_all_lengths_are_those_of_each() -> None:
    words = np.arange(1, 12, dtype=np.uint64)
    found = hash_all_runs(words, [3, 8, 13])
    assert [len(found[length]) for length in (3, 8, 13)] == [9, 4, 0]
    assert all(np.array_equal(found[length], hash_runs(words, length)) for length in found)
    assert len(set(found[3].tolist()) | set(found[8].tolist())) == 13
    assert np.array_equal(hash_all_runs(words[2:5], [3])[3], found[3][2:3])
