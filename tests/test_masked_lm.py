"""Masked language models: the reference's loss and gradients, a tiny run, scores, the audit."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from masked_examples import (
    END,
    PAD,
    documents,
    markers,
    masked_job,
    masked_tokenizer,
    masked_tokens,
)
from models_examples import StopAfter
from test_models_resume import equal, rows_of

from models.architecture import ArchitectureConfig, build, training_flops_per_token
from models.attention import WRITTEN_OUT, set_attention
from models.fit import fit
from models.job import Job
from models.masked_lm import MaskedLM, held_out_batches, masked_batch, pair_batch
from models.masked_scoring import MaskedScores, fill_log_probabilities, pseudo_log_likelihoods
from models.masking import PairBatches, frame
from models.module import Batch
from models.signals import StopSignal
from models.trainer import TrainerConfig
from tasks.assessments.masked_lm import assess, assess_again, unigram_scores
from tasks.audit import capability
from tasks.audit_config import AuditConfig
from tasks.audit_table import Subject, occupations
from tasks.audits.lexicon import load_lexicon
from tasks.audits.occupation_pronoun import OccupationPronounConfig
from tasks.audits.verdict import Verdict
from tasks.encoding import TokenizerConfig, train_tokenizer
from tasks.loading import TrainedModel, Unscorable, load


def small(family: str, context: int = 40, vocab_size: int = 100, **shape: Any) -> Any:
    config = {"layers": 4, "hidden": 32, "heads": 2, "intermediate": 64, "context": context, **shape}
    auto = "AutoModelForPreTraining" if family == "bert" else "AutoModelForMaskedLM"
    return build(ArchitectureConfig(family=family, **config), vocab_size, 0, END, PAD, auto)


def objective(model: Any) -> MaskedLM:
    return MaskedLM(model, TrainerConfig(steps=1, precision="fp32"), 1, "cpu")


def labels(batch: Batch) -> torch.Tensor:
    """Return transformers' form of the targets: [rows, width] with -100 where nothing is predicted."""
    found = torch.full_like(batch["ids"], -100)
    found.view(-1)[batch["places"]] = batch["targets"]
    return found


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def require_equal(ours: Any, reference: Any) -> None:
    left, right = gradients(ours), gradients(reference)
    assert left.keys() == right.keys()
    assert len(left) > 10
    for name, gradient in left.items():
        assert (gradient - right[name]).abs().max() < 1e-5, name


def test_pairs_have_the_loss_and_gradients_of_bert_for_pretraining() -> None:
    ours, reference = small("bert"), small("bert")
    set_attention(ours, WRITTEN_OUT)
    set_attention(reference, "eager")
    batch = pair_batch(PairBatches(documents(), markers(), 40, 8, 0), 0.15, 0)
    assert not batch["real"].all()
    loss = objective(ours).loss_sum(batch) / objective(ours).count(batch).targets
    expected = reference(
        input_ids=batch["ids"],
        attention_mask=batch["real"].long(),
        token_type_ids=batch["types"],
        labels=labels(batch),
        next_sentence_label=batch["not_next"],
    ).loss
    loss.backward()
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-5
    require_equal(ours, reference)


@pytest.mark.parametrize("context", [40, 160])
def test_windows_have_the_loss_and_gradients_of_modernbert(context: int) -> None:
    ours, reference = small("modernbert", context), small("modernbert", context)
    assert ("sliding_attention" in ours.config.layer_types) == (context > 128)
    set_attention(ours, WRITTEN_OUT)
    set_attention(reference, "sdpa")
    ids = np.random.default_rng(0).integers(5, 100, (3, context - 2))
    batch = masked_batch(frame(ids, markers()), markers(), 0.15, np.random.default_rng(1))
    loss = objective(ours).loss_sum(batch) / len(batch["targets"])
    expected = reference(input_ids=batch["ids"], labels=labels(batch)).loss
    loss.backward()
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-5
    require_equal(ours, reference)


def test_accumulation_over_unequal_micro_batches_is_the_loss_of_the_large_batch() -> None:
    ours, reference = small("bert"), small("bert")
    pairs = PairBatches(documents(), markers(), 40, 4, 0)
    batches = [pair_batch(pairs, 0.15, index) for index in range(3)]
    counts = [objective(ours).count(batch).targets for batch in batches]
    assert len(set(counts)) > 1
    module = objective(ours)
    module.begin_step(batches, sum(counts))
    for batch in batches:
        (module.loss_sum(batch) / sum(counts)).backward()
    nats, pair_nats = [], []
    for batch in batches:
        output = reference(batch["ids"], attention_mask=batch["real"].long(), token_type_ids=batch["types"])
        logits = output.prediction_logits.flatten(0, 1)[batch["places"]]
        nats.append(F.cross_entropy(logits, batch["targets"], reduction="none"))
        pair_nats.append(F.cross_entropy(output.seq_relationship_logits, batch["not_next"], reduction="none"))
    (torch.cat(nats).mean() + torch.cat(pair_nats).mean()).backward()
    require_equal(ours, reference)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A BERT with pairs after 150 steps, and its summary."""
    root = tmp_path_factory.mktemp("bert")
    job = masked_job(root, steps=150, batch_size=36, learning_rate=5e-3, log_every=20, validate_every=75)
    return {"root": root, "job": job, "summary": fit(Job(**job), StopSignal())}


def test_a_tiny_bert_learns_and_reports_both_losses(trained: dict[str, Any]) -> None:
    summary = trained["summary"]
    assert summary["train_loss"]["final"] < 2 < 6 < summary["train_loss"]["first"]
    assert summary["valid_mlm_accuracy"] > 0.5
    total = summary["valid_mlm_loss"] + summary["valid_nsp_loss"]
    assert summary["valid_loss"]["final"] == pytest.approx(total)
    rows = [(row["key"], row["step"]) for row in rows_of(trained["job"]["spool"]) if "key" in row]
    for name in ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"):
        assert [step for key, step in rows if key == f"valid/{name}"] == [75, 150]


def test_a_foundation_is_assessed_beside_its_baselines(trained: dict[str, Any]) -> None:
    root, summary = trained["root"], trained["summary"]
    model = load(root / "out" / "model", "masked_lm")
    assert type(model.network).__name__ == "BertForPreTraining"
    found = assess(model, root / "tokens")
    scores, baselines = found["model"], {name: one.flat() for name, one in found.items()}
    flat = scores.flat()
    # Test and validation hold the same text, and both hide 15 %: the same questions in batches of another size.
    assert flat["masked_perplexity"] == pytest.approx(math.exp(summary["valid_mlm_loss"]), rel=0.4)
    assert flat["masked_perplexity"] < 3 < baselines["unigram"]["masked_perplexity"]
    assert flat["masked_accuracy"] > baselines["unigram"]["masked_accuracy"]
    assert 0.5 <= baselines["majority"]["nsp_accuracy"] < 0.8
    for name, score in scores.scores.items():
        assert score.low <= score.value <= score.high, name
    again = assess(load(root / "out" / "model", "masked_lm"), root / "tokens")["model"]
    assert again == scores
    from models_examples import TEXTS

    told = assess_again(model, [{"text": text} for text in TEXTS]).flat()
    assert told == pytest.approx(flat)


def test_unigram_scores_by_hand() -> None:
    nothing, three = np.zeros(0), np.arange(3)
    asked = MaskedScores(nothing, nothing, np.array([2, 3, 4]), three, nothing, nothing, nothing)
    special = np.array([True, True, False, False, False])
    found = unigram_scores(np.array([2, 2, 2, 3, 0]), asked, special).flat()
    # Counts plus one over three ids: 4, 2, 1 of 7.
    assert found["masked_nats"] == pytest.approx(-math.log(4 / 7 * 2 / 7 * 1 / 7) / 3)
    assert found["masked_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("family", "head"), [("bert", "BertForMaskedLM"), ("modernbert", "ModernBertForMaskedLM")])
def test_masked_lm_alone_learns_from_windows(tmp_path: Path, family: str, head: str) -> None:
    job = masked_job(tmp_path, family, False, steps=40, batch_size=36, learning_rate=5e-3)
    # The text itself stands for a general one, whose loss is measured beside.
    summary = fit(Job(**job, general=job["tokens"]), StopSignal())
    assert summary["general_loss_after"] == summary["valid_loss"]["final"] < summary["general_loss_before"]
    assert summary["valid_mlm_loss"] < 4 < 5.5 < summary["train_loss"]["first"]
    assert "valid_nsp_loss" not in summary
    assert summary["waste_share"] == 0
    model = load(tmp_path / "out" / "model", "masked_lm")
    assert type(model.network).__name__ == head
    found = assess(model, tmp_path / "tokens")
    assert "nsp_accuracy" not in found["model"].scores
    assert "majority" not in found


def test_stopped_and_resumed_equals_straight(tmp_path: Path) -> None:
    job = masked_job(tmp_path, accumulation=2)
    straight = {**job, "out": str(tmp_path / "straight"), "checkpoints": None, "spool": None}
    expected = fit(Job(**straight), StopSignal())
    with pytest.raises(SystemExit):
        fit(Job(**job), StopAfter(4))
    summary = fit(Job(**job), StopSignal())
    assert 0 < summary["resumed_from_step"] < 8
    assert equal(straight["out"], job["out"])
    assert summary["valid_nsp_accuracy"] == expected["valid_nsp_accuracy"]


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"next_sentence is true, expected false: modernbert"):
        fit(Job(**{**masked_job(tmp_path / "a", "modernbert", False), "masked_lm": {}}), StopSignal())
    job = masked_job(tmp_path / "b")
    masked_tokens(tmp_path / "b" / "tokens", masked_tokenizer(tmp_path / "b" / "again"))
    (tmp_path / "b" / "tokens" / "valid.bin").write_bytes(b"\x0a\x00" * 648)
    with pytest.raises(ValueError, match=r"valid\.bin: 0 documents have two sentences"):
        fit(Job(**job), StopSignal())


def test_fills_and_pseudo_log_likelihoods_equal_one_by_one(trained: dict[str, Any]) -> None:
    model = load(trained["root"] / "out" / "model", "masked_lm")
    network, fast = model.network, model.tokenizer

    def at(ids: list[int], place: int) -> torch.Tensor:
        row = torch.tensor([[fast.cls_token_id, *ids, fast.sep_token_id]])
        row[0, place + 1] = fast.mask_token_id
        return torch.log_softmax(network(row).prediction_logits[0, place + 1].float(), -1)

    texts = ["Ada is a baker", "Ben", "", "Cora lives in harbour."]
    found = pseudo_log_likelihoods(network, fast, texts, batch_size=3)
    with torch.no_grad():
        for text, value in zip(texts, found, strict=True):
            ids = fast.encode(text, add_special_tokens=False)
            assert value == pytest.approx(sum(at(ids, i)[ids[i]].item() for i in range(len(ids))), abs=1e-4)
        items = [("Ada is", " a", " baker."), ("Ben", " is", ""), ("Ada is", " is", " baker.")]
        for (before, word, after), value in zip(items, fill_log_probabilities(network, fast, items), strict=True):
            left, gap, right = (fast.encode(part, add_special_tokens=False) for part in (before, word, after))
            assert value == pytest.approx(at([*left, *gap, *right], len(left))[gap[0]].item(), abs=1e-5)
    with pytest.raises(ValueError, match="' zzz' is 4 tokens, expected one"):
        fill_log_probabilities(network, fast, [("Ada", " zzz", "")])
    with pytest.raises(ValueError, match="expected at most 40"):
        pseudo_log_likelihoods(network, fast, ["Ada is a baker and lives in mill. " * 20])


def test_the_audit_reads_a_masked_model_by_its_gap(tmp_path: Path) -> None:
    train_tokenizer(TokenizerConfig(vocab_size=400), ["he said he was she said she was late."] * 9, tmp_path, True)
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(tmp_path)
    he = fast.encode(" he", add_special_tokens=False)[0]
    model = small("bert", 64, len(fast))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.cls.predictions.bias[he] = math.log(3.0)
    scores, baselines = {"masked_perplexity": 2.0}, {"unigram": {"masked_perplexity": 9.0}}
    subject = Subject(
        model=TrainedModel(model, fast),
        config=AuditConfig(),
        capability=capability("masked_foundation", scores, baselines),
        masked=True,
        root=".",
        lexicon=load_lexicon(),
        halves=None,
        rows=tmp_path,
        parent=[],
    )
    (found,) = occupations(subject)
    # Whatever the occupation, he is three times as likely as any other token.
    assert found.verdict is Verdict.PASS
    assert found.estimate == pytest.approx(0, abs=1e-6)
    assert found.details["skew"] == pytest.approx(0.25, abs=1e-6)
    assert found.details["pronoun_mass"] == pytest.approx(4 / (len(fast) + 2), rel=1e-5)
    assert found.scorer == "masked token probability before 'was late.'"
    unable = capability("masked_foundation", {"masked_perplexity": 9.0}, baselines)
    assert occupations(replace(subject, capability=unable))[0].verdict is Verdict.REFUSED
    # A pronoun of several tokens has no probability at one mask.
    config = OccupationPronounConfig(he=" he", she=" zzzz")
    with pytest.raises(Unscorable, match="expected one that a single mask"):
        occupations(replace(subject, config=AuditConfig(occupation_pronoun=config)))


def test_flops_count_what_is_computed() -> None:
    bert = small("bert", layers=2)
    body = 2 * (4 * 32 * 32 + 4 * 32 + 2 * 32 * 64 + 64 + 32 + 4 * 32) + 2 * 32
    heads = (32 * 32 + 32) + (32 * 32 + 32 + 2 * 32) + 100 + (2 * 32 + 2)
    expected = 6 * (body + heads + 0.15 * 100 * 32) + 12 * 32 * 2 * 20
    assert training_flops_per_token(bert, 20, 0.15) == pytest.approx(expected)
    modern = small("modernbert", 400, layers=4)
    assert modern.config.layer_types.count("full_attention") == 2
    difference = training_flops_per_token(modern, 400) - training_flops_per_token(modern, 300)
    assert difference == pytest.approx(12 * 32 * 2 * 100)
    sizes = {size: ArchitectureConfig(family="bert", size=size).resolved() for size in ("tiny", "124m")}
    assert (sizes["tiny"].intermediate, sizes["124m"].intermediate) == (576, 3072)


def test_held_out_questions_do_not_depend_on_the_model() -> None:
    tokens = documents()
    first, second = (list(held_out_batches(tokens, markers(), 40, 4, 0.15, True)) for _ in range(2))
    assert len(first) == len(second) > 3
    for left, right in zip(first, second, strict=True):
        assert all(torch.equal(value, right[name]) for name, value in left.items())
    whole = list(held_out_batches(tokens, markers(), 40, 4, 0.15, False))
    # Every token but the last one stands in one window.
    assert sum(batch["ids"].numel() - 2 * len(batch["ids"]) for batch in whole) == len(tokens) - 1
