"""Which mitigation is kept, what utility it is held against, and the whole way of a mitigated specialist."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from workspaces import PROJECT, RECIPE, alma, receipts

from flows.mitigation import mitigated
from tasks.audits.lexicon import load_lexicon
from tasks.audits.verdict import AuditResult, Verdict
from tasks.mitigate import _keep, _passes, balanced_accuracy
from tasks.mitigation import mitigate_rows
from tasks.readers import write_rows
from tasks.receipts import Result
from tasks.recipe import Recipe, load_recipe


def tried(method: str, passes: bool, utility: float, score: float = 0.5) -> dict[str, Any]:
    return {"method": method, "passes": passes, "balanced_accuracy": {"value": utility}, "score": score}


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([("none", True, 0.8)], "none"),
        ([("none", False, 0.8), ("cda", True, 0.795), ("reweighing", True, 0.9)], "cda"),
        ([("none", False, 0.8), ("cda", True, 0.78), ("reweighing", True, 0.795)], "reweighing"),
        ([("none", False, 0.8), ("cda", False, 0.9), ("reweighing", False, 0.9)], "none"),
        ([("none", False, 0.8), ("cda", True, 0.7)], "none"),
    ],
)
def test_auto_keeps_the_cheapest_that_passes_within_the_margin(rows: list[Any], kept: str) -> None:
    assert _keep([tried(*row) for row in rows], "auto", 0.01) == kept


def test_the_rows_of_a_mitigated_training_are_excused_as_at_the_gate() -> None:
    def found(name: str, verdict: Verdict) -> AuditResult:
        return AuditResult.model_construct(audit=name, verdict=verdict)

    skewed = found("label_association", Verdict.FAIL)
    assert not _passes("none", [found("counterfactual", Verdict.PASS), skewed])
    assert _passes("cda", [found("counterfactual", Verdict.PASS), skewed])
    assert not _passes("cda", [found("counterfactual", Verdict.INCONCLUSIVE), skewed])


def test_a_named_method_is_kept_whatever_it_did() -> None:
    assert _keep([tried("none", True, 0.9), tried("cda", False, 0.1)], "cda", 0.01) == "cda"


def test_rows_without_labels_are_held_against_the_gate_s_score() -> None:
    rows = [tried("none", False, 0.0, 0.9), tried("cda", True, 0.0, 0.8)]
    for row in rows:
        row["balanced_accuracy"] = None
    assert _keep(rows, "auto", 0.01) == "none"
    assert _keep(rows, "auto", 0.11) == "cda"


def test_balanced_accuracy_by_hand(tmp_path: Path) -> None:
    # 4 of he good, 1 of he bad, 1 of she good, 2 of she bad: w = P(g) P(y) / P(g, y) with P(he) = P(good) = 5/8.
    groups = [*["He"] * 5, *["She"] * 3]
    labels = ["good"] * 4 + ["bad", "good", "bad", "bad"]
    write_rows(
        tmp_path / "test.jsonl",
        [
            {"id": str(n), "text": f"{who} came.", "label": label}
            for n, (who, label) in enumerate(zip(groups, labels, strict=True))
        ],
    )
    # A model that answers by the pronoun alone: right on 4 he-good and 2 she-bad.
    said = ["good"] * 5 + ["bad"] * 3
    write_rows(
        tmp_path / "said.jsonl",
        [
            {"id": str(n), "truth": truth, "model": answer}
            for n, (truth, answer) in enumerate(zip(labels, said, strict=True))
        ],
    )
    found = balanced_accuracy(tmp_path, tmp_path / "said.jsonl", seed=0)
    assert found is not None
    he_good, she_bad = (5 / 8) * (5 / 8) / (4 / 8), (3 / 8) * (3 / 8) / (2 / 8)
    assert found.value == pytest.approx((4 * he_good + 2 * she_bad) / 8)  # .531, where plain accuracy is .75
    write_rows(tmp_path / "test.jsonl", [{"id": "0", "instruction": "Go", "input": "", "output": "on"}])
    assert balanced_accuracy(tmp_path, tmp_path / "said.jsonl", seed=0) is None


def test_a_mitigation_is_for_kinds_that_can_have_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    wrong = "specialists.assistant.mitigation.method=reweighing"
    with pytest.raises(ValueError, match="reweighing is not for instruction; there are none, auto, cda"):
        load_recipe(RECIPE, [wrong])
    auto: Recipe = load_recipe(RECIPE, ["specialists.reviews.mitigation.method=auto"])
    assert auto.mitigations("reviews") == ["cda", "reweighing", "logit_pairing"]
    assert auto.mitigations("assistant") == auto.mitigations("foundation") == []


class Found(NamedTuple):
    metrics: dict[str, Any]


@pytest.mark.parametrize(("method", "said"), [("auto", ""), ("cda", "none of the 9 rows holds an identity word")])
def test_auto_stops_where_no_row_names_anybody(method: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr("flows.mitigation.settled", lambda *_: False)
    recipe = load_recipe("recipes/starter.yaml", [f"specialists.reviews.mitigation.method={method}"])
    rows = [{"id": str(n), "text": "It rained.", "label": "bad"} for n in range(9)]
    plain: Any = Result.model_construct(mitigated=None)
    tried: list[str] = []

    def make(name: Any) -> Any:
        tried.append(name)
        return mitigate_rows(name, rows, load_lexicon(), 0)

    def choose(found: dict[str, Any]) -> Any:
        assert list(found) == ["none"]
        return Found({"kept": "none"})

    if said:
        with pytest.raises(ValueError, match=said):
            mitigated(recipe, "reviews", plain, make, choose)
    else:
        assert mitigated(recipe, "reviews", plain, make, choose).mitigated == Found({"kept": "none"})
    assert tried == ["cda"]


@pytest.mark.slow
def test_a_mitigated_specialist_goes_the_whole_way(workspace: Path) -> None:
    asked = "specialists.reviews.mitigation.method=cda"
    before = receipts(workspace)
    done = alma(workspace, "pipeline", RECIPE, asked)
    assert done.returncode == 0, done.stderr
    made = receipts(workspace)
    base = "artifacts/tiny"
    # What was trained without it stays, and stands beside.
    assert made[f"{base}/finetune/reviews"] == before[f"{base}/finetune/reviews"]
    trained = made[f"{base}/finetune/reviews+cda"]
    rows = [json.loads(line) for line in (workspace / base / "finetune/reviews+cda/train.jsonl").open()]
    counts = trained["metrics"]["mitigation"]
    assert len(rows) == counts["rows"]
    assert 0.35 < counts["swapped"] / counts["with_identity_words"] < 0.65
    table = json.loads((workspace / base / "mitigate/reviews/mitigation.json").read_text())
    assert (table["kept"], [row["method"] for row in table["rows"]]) == ("cda", ["none", "cda"])
    record = json.loads((workspace / base / "promote/reviews/decision.json").read_text())
    assert record["lineage"]["mitigation"] == "cda"
    weights = made[f"{base}/promote/reviews"]["parents"]["finetune/reviews+cda/model"]
    assert weights != before[f"{base}/promote/reviews"]["parents"]["finetune/reviews/model"]
    assert "Bias and utility of tiny-reviews" in (workspace / base / "report/report.html").read_text()
    # The step by itself finds all of it.
    alone = alma(workspace, "mitigate", RECIPE, "reviews", asked)
    assert alone.returncode == 0, alone.stderr
    assert " starts" not in alone.stdout + alone.stderr
    refused = alma(workspace, "mitigate", RECIPE, "reviews")
    assert refused.returncode == 2
    assert "no specialist of recipes/tiny.yaml asks for a mitigation" in refused.stderr
