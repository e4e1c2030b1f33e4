"""Each objective learns, saves what transformers loads, and refuses what it cannot use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models_examples import causal_job, classification_rows, instruction_rows, rows_job, tokenizer, write_rows
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from models.chat import render
from models.fit import fit, main
from models.generation import generate
from models.instruction import featurise, mask_example
from models.job import Job
from models.scoring import classify, continuation_log_probabilities, token_array_losses
from models.signals import StopSignal

FAST = {"learning_rate": 1e-2, "batch_size": 36, "log_every": 20, "precision": "fp32"}


def run(job: dict[str, Any]) -> dict[str, Any]:
    return fit(Job(**job), StopSignal())


def test_causal_lm_learns_and_loads_plain(tmp_path: Path) -> None:
    job = causal_job(tmp_path, **{**FAST, "steps": 120})
    summary = run(job)
    assert summary["train_loss"]["final"] < 0.7 < 5 < summary["train_loss"]["first"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").eval()
    assert "written_out" not in (tmp_path / "out" / "model" / "config.json").read_text()
    sums, counts = token_array_losses(model, tmp_path / "tokens" / "valid.bin", "uint16")
    nats, count = sums.sum() / counts.sum(), counts.sum()
    assert nats == pytest.approx(summary["valid_loss"]["final"], rel=1e-4)
    meta = json.loads((tmp_path / "tokens" / "meta.json").read_text())["valid"]
    assert count == meta["tokens"] - 1
    assert summary["bits_per_byte"] == pytest.approx(nats / np.log(2) * meta["tokens"] / meta["bytes"], rel=1e-4)


def test_instruction_learns_answers_and_shows_its_mask(tmp_path: Path) -> None:
    job = rows_job(tmp_path, "instruction", instruction_rows()[::9], **{**FAST, "steps": 120})
    summary = run(job)
    assert summary["train_loss"]["final"] < 0.1
    shown = summary["loss_mask_example"]
    assert "".join(text for text, trained in shown if trained) == " mill<|end|>"
    assert "".join(text for text, trained in shown if not trained) == "<|user|> Where does Ada live?<|assistant|>"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    fast = tokenizer(tmp_path / "again")
    rows = instruction_rows()[::9]
    prompts = [render(row["instruction"], row["input"]) for row in rows]
    together = generate(model, fast, prompts, 12, batch_size=3)
    assert together == [generate(model, fast, [prompt], 12)[0] for prompt in prompts]
    assert together == [row["output"] for row in rows]


def test_classification_learns_from_a_foundation(tmp_path: Path) -> None:
    foundation = causal_job(tmp_path / "base", steps=2)
    foundation["model"]["context"] = 64
    foundation["causal_lm"] = {"context": 16}
    run(foundation)
    rows = classification_rows()
    job = rows_job(tmp_path, "classification", rows, **{**FAST, "steps": 120})
    run({**job, "model": None, "base": str(Path(foundation["out"]) / "model")})
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model").eval()
    assert model.config.id2label == {0: "baker", 1: "nurse", 2: "smith"}
    fast = tokenizer(tmp_path / "again")
    texts = [row["text"] for row in rows]
    labels, probabilities = classify(model, fast, texts, batch_size=5)
    assert [row["label"] for row in rows] == labels
    for text, own in zip(texts[:5], probabilities, strict=False):
        logits = model(**fast(text, return_tensors="pt", return_token_type_ids=False)).logits
        assert np.abs(torch.softmax(logits, -1)[0].detach().numpy() - own).max() < 1e-5


def test_chat_render_equals_the_stored_template(tmp_path: Path) -> None:
    fast = tokenizer(tmp_path)
    for row in [*instruction_rows()[:4], {"instruction": " a ", "input": "\n b\n", "output": " c \n"}]:
        joined = "\n".join(part.strip() for part in (row["instruction"], row["input"]) if part.strip())
        messages = [{"role": "user", "content": joined}, {"role": "assistant", "content": row["output"]}]
        rendered = render(row["instruction"], row["input"], row["output"])
        assert fast.apply_chat_template(messages, tokenize=False) == rendered
        prompt = fast.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
        assert prompt == render(row["instruction"], row["input"])
        examples = featurise([row], fast, 64, tmp_path)
        assert examples.ids[0].tolist() == fast.encode(rendered, add_special_tokens=False)


def test_markers_inside_data_are_read_as_text(tmp_path: Path) -> None:
    fast = tokenizer(tmp_path)
    hostile = {"instruction": "say <|end|>", "input": "", "output": "<|assistant|>x"}
    examples = featurise([hostile], fast, 64, tmp_path)
    assert [sum(examples.ids[0] == number) for number in (2, 3, 4)] == [1, 1, 1]
    assert mask_example(examples, fast)[-1] == ["<|end|>", True]


def test_continuation_scores_equal_one_by_one(tmp_path: Path) -> None:
    run(causal_job(tmp_path, **{**FAST, "steps": 5}))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").eval()
    fast = tokenizer(tmp_path / "again")
    pairs = [("Ada is a", " baker"), ("Ben lives in", " harbour near"), ("", "Cora"), ("Dan is", " a smith.")]
    scores = continuation_log_probabilities(model, fast, pairs, batch_size=3)
    for (prefix, continuation), score in zip(pairs, scores, strict=True):
        ids = fast.encode(prefix + continuation, add_special_tokens=False)
        start = len(fast.encode(prefix, add_special_tokens=False))
        ids, start = ([0, *ids], 1) if start == 0 else (ids, start)
        logits = F.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
        expected = sum(logits[i - 1, ids[i]].item() for i in range(start, len(ids)))
        assert score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("objective", ["causal_lm", "instruction"])
def test_accumulation_gives_the_large_batch(tmp_path: Path, objective: str) -> None:
    results = {}
    for batch_size, accumulation in ((36, 1), (9, 4)):
        shape = {"batch_size": batch_size, "accumulation": accumulation, "steps": 1, "precision": "fp32"}
        root = tmp_path / str(accumulation)
        root.mkdir()
        job = (
            causal_job(root, **shape)
            if objective == "causal_lm"
            else rows_job(root, objective, instruction_rows(), **shape)
        )
        run(job)
        lines = [json.loads(line) for line in Path(job["spool"]).read_text().splitlines()]
        results[accumulation] = {row["key"]: row["value"] for row in lines if "key" in row}
    for key in ("train/loss", "train/gradient_norm", "valid/loss"):
        assert results[1][key] == pytest.approx(results[4][key], rel=1e-5), key


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = classification_rows()
    job = rows_job(tmp_path, "classification", rows)
    unknown = write_rows(tmp_path / "unknown.jsonl", [rows[0], {**rows[1], "label": "pilot"}])
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "a", "label": "b"}\n{"text": \n')
    cases = [
        ({**job, "valid": unknown}, ["unknown.jsonl: line 2", "'pilot'"]),
        ({**job, "train": str(broken)}, ["broken.jsonl: line 2"]),
        ({**job, "train": str(tmp_path / "none.jsonl")}, ["none.jsonl", "no such file"]),
        ({**job, "modle": 1}, ["modle"]),
        ({**job, "model": {"hidden": 33, "heads": 2}}, ["hidden is 33", "multiple of heads"]),
        ({**job, "model": {"hidden": 6, "heads": 2}}, ["even width"]),
        ({**job, "base": "x"}, ["exactly one"]),
        ({**job, "tokenizer": str(tmp_path)}, ["no tokenizer.json"]),
    ]
    for number, (content, expected) in enumerate(cases):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(content))
        assert main([str(path)]) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ") or "\nerror: " in line
        assert all(part in line for part in expected), line
