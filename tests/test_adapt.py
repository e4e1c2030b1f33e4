"""Domain adaptation: the domain's loss falls, and what is forgotten of the general text is measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bases_examples import gpt2
from models_examples import TEXTS, StopAfter, causal_job, tokenizer, tokens, write_rows
from test_models_resume import rows_of

from models.fit import fit
from models.job import Job
from models.signals import StopSignal
from tasks.adapt import adapt
from tasks.pretrain import pretrain
from tasks.receipts import run_step
from tasks.recipe import Recipe
from tasks.tokenizer import tokenizer as tokenizer_step

DOMAIN = [
    f"dose {a} mg of {b}, {c} daily." for a in (5, 10, 20) for b in ("aspirin", "insulin") for c in ("once", "twice")
]


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foundation that knows TEXTS, its tokens, and those of a domain."""
    root = tmp_path_factory.mktemp("foundation")
    fit(Job(**causal_job(root, steps=80, learning_rate=1e-2, batch_size=36, precision="fp32")), StopSignal())
    fast = tokenizer(root / "again")
    tokens(root / "domain", fast)
    ids = [number for text in DOMAIN for number in (*fast.encode(text, add_special_tokens=False), 0)]
    meta = json.loads((root / "domain/meta.json").read_text())
    for split in ("train", "valid", "test"):
        np.asarray(ids * 2, dtype=np.uint16).tofile(root / "domain" / f"{split}.bin")
        meta[split] = {"tokens": len(ids) * 2, "bytes": 2 * len("".join(DOMAIN)), "documents": 2 * len(DOMAIN)}
    (root / "domain/meta.json").write_text(json.dumps(meta))
    return root


def adapt_job(root: Path, foundation: Path, **trainer: Any) -> dict[str, Any]:
    job = causal_job(
        foundation, **{"steps": 12, "learning_rate": 1e-2, "precision": "fp32", "validate_every": 6, **trainer}
    )
    return {
        **job,
        "model": None,
        "base": str(foundation / "out/model"),
        "tokenizer": str(foundation / "out/model"),
        "tokens": str(foundation / "domain"),
        "general": str(foundation / "tokens"),
        "out": str(root / "out"),
        "checkpoints": str(root / "checkpoints"),
        "spool": str(root / "spool.jsonl"),
    }


def curve(rows: list[dict[str, Any]], key: str) -> dict[int, float]:
    return {row["step"]: row["value"] for row in rows if row.get("key") == key}


def test_both_curves_start_at_the_foundation_and_the_difference_is_forgetting(tmp_path: Path, foundation: Path) -> None:
    summary = fit(Job(**adapt_job(tmp_path, foundation)), StopSignal())
    rows = rows_of(str(tmp_path / "out/history.jsonl"))
    domain, general = curve(rows, "valid/loss"), curve(rows, "valid/general_loss")
    assert list(domain) == list(general) == [0, 6, 12]
    before = json.loads((foundation / "out/summary.json").read_text())
    assert general[0] == pytest.approx(before["valid_loss"]["final"], rel=1e-5)
    assert domain[12] < domain[0] - 1
    assert general[12] > general[0] + 0.1, "nothing of the general text was seen"
    assert summary["forgetting"] == general[12] - general[0]
    assert summary["domain_loss_before"] == domain[0]
    assert summary["domain_loss_after"] == domain[12]
    meta = json.loads((foundation / "tokens/meta.json").read_text())["valid"]
    bits = general[12] / np.log(2) * meta["tokens"] / meta["bytes"]
    assert summary["general_bits_per_byte_after"] == pytest.approx(bits)
    assert curve(rows, "valid/general_bits_per_byte")[12] == pytest.approx(bits)
    assert len(TEXTS) == meta["documents"]


def test_the_weights_that_are_kept_are_the_ones_that_are_told(tmp_path: Path, foundation: Path) -> None:
    # A rate at which the domain's loss soon rises again: the best weights are not the last.
    rhythm = {"steps": 30, "learning_rate": 0.5, "validate_every": 3, "patience": 2}
    summary = fit(Job(**adapt_job(tmp_path, foundation, **rhythm)), StopSignal())
    rows = rows_of(str(tmp_path / "out/history.jsonl"))
    best = summary["valid_loss"]["best_step"]
    assert summary["domain_loss_after"] == curve(rows, "valid/loss")[best] == summary["valid_loss"]["best"]
    assert summary["general_loss_after"] == curve(rows, "valid/general_loss")[best]


def test_a_resumed_adaptation_remembers_where_it_began(tmp_path: Path, foundation: Path) -> None:
    job = adapt_job(tmp_path, foundation)
    straight = fit(Job(**{**job, "checkpoints": None, "spool": None, "out": str(tmp_path / "straight")}), StopSignal())
    with pytest.raises(SystemExit):
        fit(Job(**job), StopAfter(4))
    summary = fit(Job(**job), StopSignal())
    assert 0 < summary["resumed_from_step"] < 12
    for name in ("forgetting", "domain_loss_before", "general_loss_before", "general_loss_after"):
        assert summary[name] == straight[name]


def test_the_steps_take_a_base_and_adapt_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody answers: the rows are kept
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    base = gpt2(Path("base"), dropout=0.0)
    text = {"kind": "text", "train": [{"kind": "files", "paths": ["unused.txt"]}]}
    recipe = Recipe.model_validate(
        {
            "name": "steps",
            "data": {"root": ".", "datasets": {"corpus": text, "domain": text}},
            "pretrain": {"base": str(base)},
            "adapt": {"data": "domain", "train": {"steps": 4, "batch_size": 8, "validate_every": 2}},
        }
    )

    def fill(out: Path, key: str) -> dict[str, Any]:
        contents = {
            "corpus": [{"id": "0", "text": text} for text in TEXTS],
            "domain": [{"id": "0", "text": text} for text in DOMAIN * 2],
        }
        for name, content in contents.items():
            (out / name).mkdir()
            for split in ("train", "valid", "test"):
                write_rows(out / name / f"{split}.jsonl", content)
        return {}

    fill.__module__ = "tasks.prepare"
    prepared = run_step("steps", "prepare", config={}, parents=[], compute=fill)
    encoded = tokenizer_step.fn(recipe, prepared)
    foundation = pretrain.fn(recipe, encoded)
    weights = (foundation.directory / "model/model.safetensors").read_bytes()
    assert weights == (base / "model.safetensors").read_bytes()
    assert set(foundation.parents) == {"base"}
    assert foundation.cost["flops"] == foundation.cost["tokens"] == 0
    adapted = adapt.fn(recipe, prepared, encoded, foundation)
    assert adapted.metrics["forgetting"] == pytest.approx(
        adapted.metrics["general_loss_after"] - adapted.metrics["general_loss_before"]
    )
    assert adapted.metrics["domain_bits_per_byte_after"] < adapted.metrics["domain_bits_per_byte_before"]
    assert set(adapted.parents) == {"prepare/domain", "tokenizer/tokens", "pretrain/model"}
    again = [tokenizer_step.fn(recipe, prepared), pretrain.fn(recipe, encoded)]
    assert [receipt.digest for receipt in again] == [encoded.digest, foundation.digest]


def test_a_general_text_of_another_vocabulary_is_refused(tmp_path: Path, foundation: Path) -> None:
    job = adapt_job(tmp_path, foundation)
    other = tmp_path / "other"
    tokens(other, tokenizer(tmp_path / "larger", 330))
    with pytest.raises(ValueError, match=r"other/meta.json: vocab_size is 324, the model has 320"):
        fit(Job(**{**job, "general": str(other)}), StopSignal())
