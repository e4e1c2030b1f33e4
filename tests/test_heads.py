"""Heads on every base: how inputs are laid out, and that no weight of the body is lost on the way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from heads_examples import CLASSES, assert_same, model, wordpiece
from models_examples import classification_rows, rows_job
from models_examples import tokenizer as byte_level
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.classification import Classification, collate, text_ids
from models.fit import fit
from models.heads import enclose, run_head, sees_both_sides
from models.job import Job
from models.scoring import classify
from models.signals import StopSignal
from models.trainer import TrainerConfig


def test_a_base_tells_whether_it_sees_both_sides() -> None:
    found = {family: sees_both_sides(model(family)) for family in CLASSES}
    assert found == {"bert": True, "roberta": True, "modernbert": True, "llama": False, "gpt2": False}


@pytest.mark.parametrize("family", CLASSES)
def test_what_it_says_is_what_its_attention_does(family: str) -> None:
    network = model(family).eval()
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]])
    first, second = network.base_model(input_ids=ids).last_hidden_state[:, 0]
    assert torch.equal(first, second) != sees_both_sides(network)


def test_frames_by_hand(tmp_path: Path) -> None:
    fast = wordpiece(tmp_path)
    cls, sep = fast.cls_token_id, fast.sep_token_id
    long = np.array([9, 8, 7])
    assert [ids.tolist() for ids in enclose([long, long[:0]], fast, True, 4)] == [[cls, 9, 8, sep], [cls, sep]]
    plain = byte_level(tmp_path / "plain")
    assert [ids.tolist() for ids in enclose([long, long[:0]], plain, False, 2)] == [[9, 8], [plain.eos_token_id]]
    # Five pieces and the frame are seven: with six, one text of the two is cut.
    texts = ["ada lives near the mill", "ada"]
    assert [len(ids) for ids in text_ids(texts, fast, 7, True)[0]] == [7, 3]
    assert text_ids(texts, fast, 7, True)[1] == 0
    assert text_ids(texts, fast, 6, True)[1] == 1
    with pytest.raises(ValueError, match="has no cls_token"):
        enclose([long], plain, True, 4)


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_classification_equals_transformers(family: str) -> None:
    network = model(family, "SequenceClassification", num_labels=3).eval()
    ids = [np.array([2, 9, 8, 7, 3]), np.array([2, 9, 3])]
    batch = collate(ids, np.array([2, 0]), 1)
    objective = Classification(network, TrainerConfig(steps=1, precision="fp32"), 1, "cpu").eval()
    reference = network(
        input_ids=batch["ids"], attention_mask=torch.tensor([[1] * 5, [1, 1, 1, 0, 0]]), labels=batch["labels"]
    )
    assert_same(network, objective.loss_sum(batch) / 2, reference.loss)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_classification_learns_on_both_kinds_of_base(tmp_path: Path, family: str) -> None:
    rows = classification_rows()[:18]
    fast = (wordpiece if family == "bert" else byte_level)(tmp_path / "tokenizer")
    network = model(family, vocab_size=len(fast), pad_token_id=fast.pad_token_id)
    network.save_pretrained(tmp_path / "base")
    fast.save_pretrained(tmp_path / "base")
    job = rows_job(tmp_path, "classification", rows, learning_rate=3e-3, batch_size=18, steps=120, precision="fp32")
    job |= {"model": None, "base": str(tmp_path / "base"), "tokenizer": str(tmp_path / "base")}
    summary = fit(Job(**job), StopSignal())
    assert summary["train_loss"]["final"] < 0.1 < 1 < summary["train_loss"]["first"]
    trained = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model").eval()
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    texts = [row["text"] for row in rows]
    labels, probabilities = classify(trained, loaded, texts, batch_size=5)
    assert labels == [row["label"] for row in rows]
    for text, own in zip(texts[:3], probabilities, strict=False):
        alone = loaded(text, return_tensors="pt")
        logits = trained(input_ids=alone.input_ids).logits
        assert np.abs(F.softmax(logits, -1)[0].detach().numpy() - own).max() < 1e-5


def test_segments_go_to_the_models_that_know_two() -> None:
    batch = {"ids": torch.tensor([[2, 9, 3, 8, 3], [2, 3, 8, 3, 1]]), "lengths": torch.tensor([5, 4])}
    seconds = {**batch, "seconds": torch.tensor([3, 2])}
    network = model("bert", "TokenClassification").eval()
    types = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 1, 0]])
    mask = torch.tensor([[1] * 5, [1, 1, 1, 1, 0]])
    expected = network(input_ids=batch["ids"], attention_mask=mask, token_type_ids=types).logits
    assert torch.equal(run_head(network, seconds, True).logits, expected)
    assert not torch.allclose(run_head(network, batch, True).logits, expected)
    for family in ("modernbert", "roberta"):
        run_head(model(family, "TokenClassification", type_vocab_size=1), seconds, True)
