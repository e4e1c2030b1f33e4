"""Bases that this project did not train: taken with their own tokenizers, or refused in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bases_examples import bert, gpt2, qwen, roberta
from models_examples import TEXTS, classification_rows, instruction_rows, rows_job, tokenizer, tokens
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from models.bases import extend, fresh_ids, load_model, load_tokenizer, longest_text
from models.chat import render
from models.fit import fit, main
from models.job import Job
from models.signals import StopSignal
from tasks.base import find_base, take_base
from tasks.encoding_base import encode_dataset
from tasks.recipe import PretrainConfig

FAST = {"learning_rate": 1e-2, "batch_size": 36, "log_every": 20, "precision": "fp32", "steps": 20}


def from_base(root: Path, base: Path, objective: str, rows: list[dict[str, str]], **trainer: Any) -> dict[str, Any]:
    """Return a job that starts from a base with its own tokenizer."""
    root.mkdir(exist_ok=True)
    job = rows_job(root, objective, rows, **{**FAST, **trainer})
    return {**job, "model": None, "base": str(base), "tokenizer": str(base)}


def run(job: dict[str, Any]) -> dict[str, Any]:
    return fit(Job(**job), StopSignal())


@pytest.mark.parametrize("make", [gpt2, qwen, bert, roberta])
def test_a_classifier_from_any_base_learns_and_keeps_its_vocabulary(tmp_path: Path, make: Any) -> None:
    base = make(tmp_path / "base")
    summary = run(from_base(tmp_path, base, "classification", classification_rows(), steps=40))
    assert summary["train_loss"]["final"] < 0.8 < summary["train_loss"]["first"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out/model")
    own, kept = (Tokenizer.from_file(str(place / "tokenizer.json")) for place in (base, tmp_path / "out/model"))
    assert kept.get_vocab() == own.get_vocab()
    assert model.get_input_embeddings().num_embeddings == json.loads((base / "config.json").read_text())["vocab_size"]


@pytest.mark.parametrize("make", [gpt2, qwen])
def test_an_assistant_from_a_base_gets_the_chat_format(tmp_path: Path, make: Any) -> None:
    base = make(tmp_path / "base")
    job = from_base(tmp_path, base, "instruction", instruction_rows()[::9], steps=80)
    summary = run(job)
    assert summary["train_loss"]["final"] < 0.5
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out/model")
    kept, own = (load_tokenizer(str(place)) for place in (tmp_path / "out/model", base))
    assert len(kept) == len(own) + 3 <= model.get_input_embeddings().num_embeddings
    ids = kept("<|user|> Who?<|assistant|> Ada.<|end|>", add_special_tokens=False).input_ids
    assert ids[0] == len(own)
    assert ids[-1] == len(own) + 2
    chat = kept.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False, add_generation_prompt=True)
    assert chat == render("Who?")
    # The result is itself a base, and lacks nothing.
    again = Job(**{**job, "base": str(tmp_path / "out/model"), "tokenizer": str(tmp_path / "out/model")})
    assert fresh_ids(again, load_tokenizer(again.tokenizer, "instruction")) == []


@pytest.mark.parametrize("make", [gpt2, qwen])
def test_new_tokens_get_the_mean_row_and_the_others_stay(tmp_path: Path, make: Any) -> None:
    base = make(tmp_path / "base")
    job = Job(**from_base(tmp_path, base, "instruction", instruction_rows()))
    fast = load_tokenizer(job.tokenizer, job.objective)
    before, after = AutoModelForCausalLM.from_pretrained(base), load_model(job, fast)
    old = len(fast) - 3
    for layer in ("get_input_embeddings", "get_output_embeddings"):
        was, now = getattr(before, layer)().weight, getattr(after, layer)().weight
        assert torch.equal(now[:old], was[:old])
        for number in fresh_ids(job, fast):
            assert torch.allclose(now[number], was[:old].mean(0), atol=1e-6)
    ids = torch.tensor([[5, 6, 7, 8]])
    before.eval(), after.eval()
    assert torch.allclose(before(ids).logits[..., :old], after(ids).logits[..., :old], atol=1e-5)


def test_a_base_goes_on_with_its_own_objective(tmp_path: Path) -> None:
    base = gpt2(tmp_path / "base", dropout=0.0)
    fast = load_tokenizer(str(base))
    assert fast.pad_token_id == fast.eos_token_id
    tokens(tmp_path / "text", fast)
    job = from_base(tmp_path, base, "classification", classification_rows(), validate_every=20)
    for name in ("train", "valid"):
        del job[name]
    summary = run({**job, "objective": "causal_lm", "tokens": str(tmp_path / "text")})
    assert summary["valid_loss"]["best"] < 4 < 5 < summary["train_loss"]["first"]
    assert summary["forward"] == "transformers"
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "out/model")
    assert kept.config.model_type == "gpt2"


def test_stored_limits_do_not_cut_texts_and_unused_positions_do_not_count(tmp_path: Path) -> None:
    fast = load_tokenizer(str(bert(tmp_path / "bert")))
    assert len(fast.backend_tokenizer.encode(" ".join(TEXTS)).ids) > 100
    for make, rows, expected in ((roberta, classification_rows(), 64), (bert, classification_rows(), 64)):
        base = make(tmp_path / make.__name__)
        job = Job(**from_base(tmp_path / f"job-{make.__name__}", base, "classification", rows))
        model = load_model(job, load_tokenizer(job.tokenizer), num_labels=3)
        assert longest_text(model) == expected


def test_special_tokens_that_only_the_class_of_an_older_directory_names(tmp_path: Path) -> None:
    base = bert(tmp_path)
    (base / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    fast = load_tokenizer(str(base))
    assert (fast.cls_token, fast.sep_token, fast.pad_token, fast.mask_token) == ("[CLS]", "[SEP]", "[PAD]", "[MASK]")


def test_any_base_encodes_the_corpus_with_its_own_tokenizer(tmp_path: Path) -> None:
    import numpy as np

    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.jsonl").write_text(
            "".join(json.dumps({"id": str(n), "text": f"{text} [SEP] <end>"}) + "\n" for n, text in enumerate(TEXTS))
        )
    for make, end in ((gpt2, "<end>"), (bert, "[SEP]")):
        base = make(tmp_path / make.__name__)
        out = tmp_path / f"tokens-{make.__name__}"
        meta = encode_dataset(base, tmp_path, out)
        ids = np.fromfile(out / "train.bin", meta["dtype"])
        fast = load_tokenizer(str(base))
        # A marker inside the text is text: only the ends of documents are ends.
        assert (ids == fast.convert_tokens_to_ids(end)).sum() == len(TEXTS) == meta["train"]["documents"]
        assert meta["train"]["tokens"] == len(ids)
        assert meta["train"]["bytes"] == sum(len(f"{text} [SEP] <end>".encode()) for text in TEXTS)
        first = fast(TEXTS[0], add_special_tokens=False).input_ids
        assert ids[: len(first)].tolist() == first


def test_what_would_run_code_or_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, masked = gpt2(tmp_path / "gpt2"), bert(tmp_path / "bert")

    def changed(name: str, file: str, **values: Any) -> Path:
        copy = shutil.copytree(base, tmp_path / name)
        (copy / file).write_text(json.dumps({**json.loads((copy / file).read_text()), **values}))
        return copy

    remote = changed("remote", "config.json", auto_map={"AutoModelForCausalLM": "model.Mine"})
    remote_tokenizer = changed("remote-tokenizer", "tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]})
    strange = changed("strange", "config.json", model_type="t5", is_encoder_decoder=True)
    endless = changed("endless", "tokenizer_config.json", eos_token=None)
    pickled = shutil.copytree(base, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    slow = shutil.copytree(base, tmp_path / "slow")
    (slow / "tokenizer.json").unlink()
    deeper = changed("deeper", "config.json", n_layer=3)
    cases = [
        (remote, remote, ["auto_map", "never run"]),
        (base, remote_tokenizer, ["tokenizer_config.json", "auto_map"]),
        (strange, strange, ["'t5'", "causal or a masked"]),
        (endless, endless, ["no eos_token"]),
        (pickled, pickled, ["pickled weights", "pytorch_model.bin", "model.safetensors"]),
        (slow, slow, ["no tokenizer.json"]),
        (deeper, deeper, ["lacks the weight transformer.h.2"]),
        (masked, base, ["is a masked model", "instruction starts from a causal one"]),
        (base, tmp_path / "other", ["has 300 tokens, its tokenizer 320"]),
        (tmp_path / "none", base, ["no config.json"]),
    ]
    tokenizer(tmp_path / "other")
    for number, (model, words, expected) in enumerate(cases):
        job = from_base(tmp_path / f"job-{number}", model, "instruction", instruction_rows())
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({**job, "tokenizer": str(words)}))
        assert main([str(path)]) == 2, expected
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("error: ")
        assert all(part in line for part in expected), line


def test_a_base_as_it_is_keeps_its_bytes_and_gets_padding(tmp_path: Path) -> None:
    base = gpt2(tmp_path / "base")
    part = find_base(PretrainConfig(base=str(base)))
    assert part is not None
    (tmp_path / "out").mkdir()
    facts = take_base(part, tmp_path / "out")
    assert (tmp_path / "out/model/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out/model")
    assert facts["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert AutoTokenizer.from_pretrained(tmp_path / "out/model").pad_token == "<end>"
    with (base / "config.json").open("a") as file:
        file.write("\n")
    again = find_base(PretrainConfig(base=str(base)))
    assert again is not None
    assert again.digest != part.digest


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"base": "no/such/place"}, "no such directory"),
        ({"base": "owner/name"}, "revision: is missing"),
        ({"base": "owner/name", "revision": "0" * 40}, "owner/name at 000000000000 cannot be fetched"),
    ],
)
def test_a_base_that_is_not_there_is_one_line(
    values: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=expected) as found:
        find_base(PretrainConfig(**values))
    assert "\n" not in str(found.value)


def test_a_directory_with_a_revision_and_a_base_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    base = bert(tmp_path / "base")
    with pytest.raises(ValueError, match="is a directory"):
        find_base(PretrainConfig(base=str(base), revision="0" * 40))
    with pytest.raises(ValueError, match="is a masked language model"):
        find_base(PretrainConfig(base=str(base)))
    assert find_base(PretrainConfig(base=str(base), objective="masked_lm")) is not None


def test_extending_twice_changes_nothing(tmp_path: Path) -> None:
    fast = load_tokenizer(str(gpt2(tmp_path)), "instruction")
    before = fast.get_vocab()
    extend(fast)
    assert fast.get_vocab() == before
