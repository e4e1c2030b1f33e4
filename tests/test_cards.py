"""The cards of the real pipeline's models: they parse back, agree with the receipts, and lie in the registry."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, ModelCard
from workspaces import RECIPE

from tasks.data_card import data_card
from tasks.model_card import model_card, roles
from tasks.receipts import Receipt
from tasks.recipe import load_recipe

MODELS = ("foundation", "reviews", "assistant", "clerk")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_card_parses_back_to_the_scores(workspace: Path) -> None:
    for model in MODELS:
        card = ModelCard.load(workspace / f"artifacts/tiny/cards/{model}/README.md")
        scores = read(workspace / f"artifacts/tiny/assess/{model}/scores.json")["model"]["scores"]
        found = {result.metric_type: result.metric_value for result in card.data.eval_results}
        assert found == {name: score["value"] for name, score in scores.items()}
        decision = read(workspace / f"artifacts/tiny/promote/{model}/decision.json")
        digest = decision["lineage"]["own_data_digest"]
        assert {result.dataset_args["digest"] for result in card.data.eval_results} == {digest}
        assert card.data.model_name == f"tiny-{model}"
        assert (card.data.license, card.data.language) == (None, None), "not known, so left out"
        assert ("> **Warning.** The gate refused" in card.text) == (decision["alias"] is None)
        assert decision["lineage"]["weights_digest"] in card.text
        audits = read(workspace / f"artifacts/tiny/audit/{model}/audits.json")
        assert all(f"**{audit['verdict']}**" in card.text and audit["caveat"] in card.text for audit in audits)
        assert not re.search(r"\b(None|nan|Undefined)\b", card.text)
        assert read(workspace / f"artifacts/tiny/cards/{model}/alma.json")["lineage"] == decision["lineage"]


def test_a_card_tells_what_the_score_may_have_cost_and_what_is_clean(workspace: Path) -> None:
    content = read(workspace / "artifacts/tiny/report/report.json")
    for model, data in {"foundation": "corpus", "reviews": "reviews", "assistant": "questions"}.items():
        text = ModelCard.load(workspace / f"artifacts/tiny/cards/{model}/README.md").text
        entry = content["contamination"]["sets"][data]
        assert f"| {data} | {entry['items']:,} | {entry['ingested']:,} | {entry['removed']:,} |" in text
        guard = read(workspace / f"artifacts/tiny/cards/{model}/alma.json")["guardrails"]
        assert guard == content["models"][model]["guard"]
        for row in guard["robustness"]:
            assert f"| {row['n']:,} |" in text
        for row in guard["forgetting"]:
            assert f"{row['before']:.4f} to {row['after']:.4f} bits per byte" in text
        assert ("on the same budget" in text) == (model != "foundation")
    gain = content["worth"]["reviews"]["pair"]["gain"]["macro_f1"]
    reviews = (workspace / "artifacts/tiny/cards/reviews/README.md").read_text()
    assert f"difference {100 * gain['value'] + 0.0:+.1f} points" in reviews


def test_a_data_card_counts_what_prepare_counted(workspace: Path) -> None:
    prepared = read(workspace / "artifacts/tiny/prepare/receipt.json")["metrics"]["datasets"]
    for model, sets in {"clerk": ("corpus", "questions", "preferences"), "reviews": ("corpus", "reviews")}.items():
        home = workspace / "artifacts/tiny/cards" / model / "data"
        assert {path.name for path in home.iterdir()} == set(sets)
        for name in sets:
            card = DatasetCard.load(home / name / "README.md")
            for split, rows in prepared[name]["rows_out"].items():
                assert f"| {split} | {rows:,} |" in card.text
            assert (card.data.license, card.data.language) == (None, None)
    corpus, reviews = ((home / name / "README.md").read_text() for name in ("corpus", "reviews"))
    assert f"| e-mail addresses replaced | {prepared['corpus']['emails']} |" in corpus
    assert "| gender | female |" in corpus
    assert "buddhist (religion)" in corpus, "nobody of the invented town is"
    assert "| rows that name | rows | negative | positive |" in reviews


def test_the_registry_keeps_them_beside_the_weights(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import registry, tracking

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/var/mlflow/mlflow.db")
    for model in MODELS:
        root, home = registry.version_directory(f"tiny-{model}", "1"), workspace / "artifacts/tiny/cards" / model
        cards = [path for path in home.rglob("*") if path.is_file()]
        assert len(cards) >= 3
        # Not byte by byte: every copy of the workspace writes its cards into the store of the first.
        assert all((root / path.relative_to(home)).is_file() for path in cards)
        assert ModelCard.load(root / "README.md").data.model_name == ModelCard.load(home / "README.md").data.model_name
        trained = workspace / f"artifacts/tiny/{'pretrain' if model == 'foundation' else f'finetune/{model}'}/model"
        names = {path.name for path in (root / "artifacts" / "model").iterdir()}
        assert names == {path.name for path in trained.iterdir()}, "the weights' directory holds nothing more"
        version = tracking.client().get_model_version(f"tiny-{model}", "1")
        assert version.description.endswith("(evidence of bias, never of its absence).")
        assert tracking.client().get_registered_model(f"tiny-{model}").description


def test_what_the_recipe_says_of_a_data_set_stands_in_its_card(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    where = "data.datasets.reviews"
    said = [f"{where}.description='Reviews | by *hand*.'", f"{where}.licence=cc-by-4.0", f"{where}.languages=[en, de]"]
    recipe = load_recipe(RECIPE, said)
    content = read(workspace / "artifacts/tiny/report/report.json")
    card = DatasetCard(str(data_card(recipe, "reviews", "d" * 64, content)))
    assert (card.data.license, card.data.language) == ("cc-by-4.0", ["en", "de"])
    assert r"Reviews \| by \*hand\*." in card.text
    receipt = Receipt.model_validate(read(workspace / "artifacts/tiny/finetune/reviews/receipt.json"))
    # A failed audit, told at the top; a score that is no number; a base of somebody else's.
    facts = content["models"]["reviews"]
    facts["audits"][0]["verdict"] = "FAIL"
    facts["scores"]["model"]["scores"]["accuracy"]["value"] = float("nan")
    pretrain = recipe.pretrain.model_copy(update={"base": "other", "revision": "e" * 40})
    recipe = recipe.model_copy(update={"pretrain": pretrain})
    found = ModelCard(str(model_card(recipe, "reviews", receipt, content)))
    assert found.data.language == ["de", "en"]
    assert found.data.base_model == "other"
    assert "It failed an audit of bias: counterfactual." in found.text
    assert "What that one was trained on" in found.text
    assert "accuracy" not in {result.metric_type for result in found.data.eval_results}
    assert roles(recipe, "clerk") == [
        ("pretraining", "corpus"),
        ("tuning of assistant", "questions"),
        ("tuning of clerk", "preferences"),
    ]
    with pytest.raises(ValueError, match=r"data\.datasets\.reviews\.languages"):
        load_recipe(RECIPE, [f"{where}.languages=[english]"])


def test_a_word_about_a_data_set_reads_no_source_again(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.ingest import ingest

    monkeypatch.chdir(workspace)
    before = read(workspace / "artifacts/tiny/ingest/receipt.json")
    monkeypatch.setattr("tasks.ingest.add_data", lambda: None)
    assert ingest.fn(load_recipe(RECIPE, ["data.datasets.reviews.licence=mit"])).key == before["key"]
