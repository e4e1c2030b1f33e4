"""The cards of the real pipeline's models: they parse back, agree with the receipts, and lie in the registry."""

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from report_contents import model as written
from test_served_model import LONG, TAGS, make
from workspaces import RECIPE, environment

from models.chat import render
from models.job import QuestionAnsweringOptions
from models.objectives import OBJECTIVES
from tasks.card_words import KINDS, snippet
from tasks.loading import load
from tasks.model_card import roles, short
from tasks.recipe import Recipe, load_recipe

MODELS = ("foundation", "reviews", "assistant", "clerk")


def test_a_card_parses_back_to_the_scores(workspace: Path) -> None:
    from huggingface_hub import ModelCard

    for model in MODELS:
        card = ModelCard.load(workspace / f"artifacts/tiny/cards/{model}/README.md")
        scores = json.loads((workspace / f"artifacts/tiny/assess/{model}/scores.json").read_text())["model"]["scores"]
        found = {result.metric_type: result.metric_value for result in card.data.eval_results}
        assert found == {name: score["value"] for name, score in scores.items()}
        decision = json.loads((workspace / f"artifacts/tiny/promote/{model}/decision.json").read_text())
        digest = decision["lineage"]["own_data_digest"]
        assert {result.dataset_args["digest"] for result in card.data.eval_results} == {digest}
        assert card.data.model_name == f"tiny-{model}"
        assert card.data.license is None
        assert card.data.language is None
        assert ("> **Warning.** The gate refused" in card.text) == (decision["alias"] is None)
        assert decision["lineage"]["weights_digest"] in card.text
        audits = json.loads((workspace / f"artifacts/tiny/audit/{model}/audits.json").read_text())
        assert all(audit["reason"].split()[-1] in card.text and audit["caveat"] in card.text for audit in audits)
        assert not re.search(r"\b(None|nan|undefined)\b", card.text)


def test_a_data_card_counts_what_prepare_counted(workspace: Path) -> None:
    from huggingface_hub import DatasetCard

    prepared = json.loads((workspace / "artifacts/tiny/prepare/receipt.json").read_text())["metrics"]["datasets"]
    for model, sets in {"clerk": ("corpus", "questions", "preferences"), "reviews": ("corpus", "reviews")}.items():
        home = workspace / "artifacts/tiny/cards" / model / "data"
        assert {path.name for path in home.iterdir()} == set(sets)
        for name in sets:
            card = DatasetCard.load(home / name / "README.md")
            for split, rows in prepared[name]["rows_out"].items():
                assert f"| {split} | {rows:,} |" in card.text
            assert card.data.license is None
            assert "languages are not known" in card.text
    corpus = (home.parent.parent / "foundation/data/corpus/README.md").read_text()
    assert f"| e-mail addresses replaced | {prepared['corpus']['emails']} |" in corpus
    assert "Representation: " in corpus
    assert "Never named" in corpus
    assert "rows that name" in (home / "reviews" / "README.md").read_text()


def test_the_registry_keeps_them_beside_the_weights(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import registry, tracking

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/var/mlflow/mlflow.db")
    for model in MODELS:
        root = registry.version_directory(f"tiny-{model}", "1")
        for path in (workspace / "artifacts/tiny/cards" / model).rglob("*.*"):
            kept = root / path.relative_to(workspace / "artifacts/tiny/cards" / model)
            assert kept.is_dir() or kept.read_bytes() == path.read_bytes()
        assert not list((root / "artifacts" / "model").glob("README*"))
        version = tracking.client().get_model_version(f"tiny-{model}", "1")
        assert version.description.endswith("(evidence of bias, never of its absence).")
        assert tracking.client().get_registered_model(f"tiny-{model}").description


def test_what_the_recipe_says_of_a_data_set_stands_in_its_card(workspace: Path) -> None:
    from huggingface_hub import DatasetCard, ModelCard

    from tasks.data_card import data_card
    from tasks.model_card import model_card
    from tasks.receipts import verify

    said = "{description: 'Reviews | by *hand*.', licence: cc-by-4.0, languages: [en, de]}"
    recipe = load_recipe(workspace / RECIPE, [f"data.datasets.reviews.{pair}" for pair in _pairs(said)])
    content = json.loads((workspace / "artifacts/tiny/report/report.json").read_text())
    card = DatasetCard(str(data_card(recipe, "reviews", "d" * 64, content)))
    assert (card.data.license, card.data.language) == ("cc-by-4.0", ["en", "de"])
    assert r"Reviews \| by \*hand\*." in card.text
    receipt = verify(workspace / "artifacts/tiny/finetune/reviews")
    assert receipt is None or receipt.content.startswith("artifacts")
    text = (workspace / "artifacts/tiny/finetune/reviews/receipt.json").read_text()
    trained = type(receipt).model_validate_json(text) if receipt else None
    if trained is not None:
        found = ModelCard(str(model_card(recipe, "reviews", trained, content)))
        assert found.data.language == ["de", "en"]
    with pytest.raises(ValueError, match=r"data\.datasets\.reviews\.languages"):
        load_recipe(workspace / RECIPE, ["data.datasets.reviews.languages=[english]"])


def _pairs(mapping: str) -> list[str]:
    import yaml

    return [f"{name}={json.dumps(value)}" for name, value in yaml.safe_load(mapping).items()]
