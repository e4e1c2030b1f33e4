"""Masked language models: golden pairs and masks, the reference's loss and gradients, a tiny run, scores, the audit."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_examples import masked_job, masked_tokenizer, masked_tokens
from test_models_resume import StopAfter, equal, rows_of

from models.architecture import ArchitectureConfig, build, training_flops_per_token
from models.attention import WRITTEN_OUT, set_attention
from models.fit import fit
from models.job import Job
from models.masked_lm import MaskedLM, held_out_batches, masked_batch, pair_batch
from models.masked_scoring import fill_log_probabilities, pseudo_log_likelihoods
from models.masking import Markers, PairBatches, frame, hide, read_markers
from models.module import Batch
from models.signals import StopSignal
from models.trainer import TrainerConfig
from tasks.assessments.masked_lm import assess, assess_again, unigram_scores
from tasks.audit import KINDS, Subject
from tasks.audits.verdict import Verdict
from tasks.encoding import TokenizerConfig, train_tokenizer
from tasks.loading import TrainedModel, load
from tasks.recipe import AuditConfig

CLS, SEP, MASK, PAD, END = 1, 2, 3, 4, 0
STOP = 9
"""The one token that ends a sentence; words are 10 and more."""


def markers(vocab_size: int = 100) -> Markers:
    ids = np.arange(vocab_size)
    return Markers(CLS, SEP, MASK, PAD, END, ids[5:], ids >= 5, ids == STOP)


def small(family: str, context: int = 40, vocab_size: int = 100, **shape: Any) -> Any:
    config = {"layers": 4, "hidden": 32, "heads": 2, "intermediate": 64, "context": context, **shape}
    auto = "AutoModelForPreTraining" if family == "bert" else "AutoModelForMaskedLM"
    return build(ArchitectureConfig(family=family, **config), vocab_size, 0, END, PAD, auto)


def documents(count: int = 30) -> np.ndarray:
    """Return documents of one to five sentences of three to nine words, each followed by END."""
    random = np.random.default_rng(0)
    parts: list[np.ndarray] = []
    for _ in range(count):
        for _ in range(random.integers(1, 6)):
            parts += [random.integers(10, 100, random.integers(3, 10)), np.array([STOP])]
        parts.append(np.array([END]))
    return np.concatenate(parts).astype(np.uint16)


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


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 40), st.floats(0.01, 0.9), st.integers(5, 99))
def test_hidden_tokens_are_the_share_and_never_special(
    seed: int, rows: int, width: int, share: float, highest: int
) -> None:
    random = np.random.default_rng(seed)
    ids = random.integers(0, highest + 1, (rows, width))
    shown, places, targets = hide(ids, markers(), share, random)
    assert (ids.ravel()[places] == targets).all()
    assert (targets >= 5).all()
    chosen = np.zeros(ids.shape, dtype=bool)
    chosen.ravel()[places] = True
    assert (shown[~chosen] == ids[~chosen]).all()
    assert ((shown[chosen] == MASK) | (shown[chosen] >= 5)).all()
    for row, ordinary in zip(chosen, ids >= 5, strict=True):
        assert row.sum() == min(ordinary.sum(), max(1, np.rint(share * ordinary.sum())))


def test_masks_are_80_10_10_and_even_over_places() -> None:
    ids = np.tile(np.arange(10, 50), (20_000, 1))
    shown, places, targets = hide(ids, markers(), 0.15, np.random.default_rng(0))
    assert len(places) == 20_000 * 6
    seen = shown.ravel()[places]
    masked, kept = (seen == MASK).mean(), (seen == targets).mean()
    # Five standard errors of 120,000 draws; a random token is by chance the same in 1 of 95.
    assert masked == pytest.approx(0.8, abs=0.006)
    assert kept == pytest.approx(0.1 + 0.1 / 95, abs=0.0045)
    others = seen[(seen != MASK) & (seen != targets)]
    assert np.bincount(others, minlength=100)[5:].min() > 60
    assert np.bincount(places % 40).std() / 3000 < 0.04


def test_golden_pairs_of_two_documents() -> None:
    # a b . c .   and   d . e f g .
    tokens = np.array([10, 11, STOP, 12, STOP, END, 13, STOP, 14, 15, 16, STOP, END], np.uint16)
    pairs = PairBatches(tokens, markers(), 20, 4, 0)
    assert pairs.borders.tolist() == [3, 8]
    a, b = [10, 11, STOP], [12, STOP]
    c, d = [13, STOP], [14, 15, 16, STOP]
    wanted = {
        (0, (CLS, *a, SEP, *b, SEP)),
        (1, (CLS, *a, SEP, *d, SEP)),
        (0, (CLS, *c, SEP, *d, SEP)),
        (1, (CLS, *c, SEP, *b, SEP)),
    }
    found = set()
    for index in range(20):
        ids, types, real = pairs.batch(index)
        assert (ids[~real] == PAD).all()
        for row, kind, there, label in zip(ids, types, real, pairs.spans(index).not_next, strict=True):
            found.add((int(label), tuple(row[there].tolist())))
            first = row.tolist().index(SEP) + 1
            assert kind.tolist() == [0] * first + [1] * (there.sum() - first) + [0] * (len(row) - there.sum())
    assert found == wanted


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 60), st.integers(1, 9), st.integers(0, 3), st.integers(0, 200))
def test_pairs_are_true_or_of_another_document(context: int, size: int, seed: int, index: int) -> None:
    tokens = documents()
    number = np.searchsorted(np.flatnonzero(tokens == END), np.arange(len(tokens)))
    pairs = PairBatches(tokens, markers(), context, size, seed)
    spans = pairs.spans(index)
    ids, _, real = pairs.batch(index)
    assert ids.shape[1] <= context
    assert (ids[real] != END).all()
    for a, a_length, b, b_length, random, document in zip(*spans, strict=True):
        assert min(a_length, b_length) >= 1
        assert set(number[a : a + a_length]) == {document}
        assert len(set(number[b : b + b_length])) == 1
        assert (number[b] != document) if random else (b == a + a_length)
    again = pair_batch(PairBatches(tokens, markers(), context, size, seed), 0.15, index)
    assert all(torch.equal(value, again[name]) for name, value in pair_batch(pairs, 0.15, index).items())


def test_half_of_the_pairs_are_true_and_every_border_is_met() -> None:
    pairs = PairBatches(documents(200), markers(), 40, 8, 0)
    spans = [pairs.spans(index) for index in range(640)]
    assert np.mean([span.not_next for span in spans]) == pytest.approx(0.5, abs=0.035)
    met = np.concatenate([span.first + span.first_length for span in spans])
    assert set(met) == set(pairs.borders)
    assert pairs.waste_share() < 0.1


def test_a_text_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="1 documents have two sentences, expected at least two"):
        PairBatches(np.array([10, STOP, 11, STOP, END, 12, STOP, END]), markers(), 20, 4, 0)
    with pytest.raises(ValueError, match="0 documents"):
        PairBatches(np.zeros(0, np.uint16), markers(), 20, 4, 0)
    with pytest.raises(ValueError, match="context is 7, expected at least 8"):
        PairBatches(documents(), markers(), 7, 4, 0)


def test_the_tokenizer_frames_texts_and_pairs(tmp_path: Path) -> None:
    fast: Any = masked_tokenizer(tmp_path / "bert")
    special = {name: fast.convert_tokens_to_ids(f"<|{name}|>") for name in ("cls", "sep", "mask", "endoftext")}
    assert special == {"cls": 5, "sep": 6, "mask": 7, "endoftext": 0}
    assert (fast.cls_token_id, fast.sep_token_id, fast.mask_token_id, fast.eos_token_id) == (5, 6, 7, 0)
    ada, ben = (fast.encode(text, add_special_tokens=False) for text in ("Ada", "Ben is"))
    assert fast("Ada")["input_ids"] == [5, *ada, 6]
    both = fast("Ada", "Ben is")
    assert both["input_ids"] == [5, *ada, 6, *ben, 6]
    assert both["token_type_ids"] == [0] * (len(ada) + 2) + [1] * (len(ben) + 1)
    assert fast("Ada <|mask|> is", add_special_tokens=False)["input_ids"] == [
        *ada,
        7,
        *fast.encode(" is", add_special_tokens=False),
    ]
    assert "token_type_ids" not in masked_tokenizer(tmp_path / "modernbert", types=False)("Ada", "Ben")
    found = read_markers(fast, len(fast))
    ending = [fast.decode([number]) for number in np.flatnonzero(found.ends_sentence)]
    assert set(ending) >= {".", "!", "?"}
    assert all(text.strip(" \"')]")[-1] in ".!?" for text in ending)
    assert not found.is_ordinary[:8].any()
    assert found.is_ordinary[8:].all()


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
    scores, baselines = assess(model, root / "tokens")
    flat = scores.flat()
    # Test and validation hold the same text, and both hide 15 %: the same questions in batches of another size.
    assert flat["masked_perplexity"] == pytest.approx(math.exp(summary["valid_mlm_loss"]), rel=0.4)
    assert flat["masked_perplexity"] < 3 < baselines["unigram"]["masked_perplexity"]
    assert flat["masked_accuracy"] > baselines["unigram"]["masked_accuracy"]
    assert 0.5 <= baselines["majority"]["nsp_accuracy"] < 0.8
    for name, score in scores.scores.items():
        assert score.low <= score.value <= score.high, name
    again = assess(load(root / "out" / "model", "masked_lm"), root / "tokens")[0]
    assert again == scores
    from models_examples import TEXTS

    told = assess_again(model, [{"text": text} for text in TEXTS]).flat()
    assert told == pytest.approx(flat)


def test_unigram_scores_by_hand() -> None:
    found = unigram_scores(np.array([2, 2, 2, 3, 0]), np.array([2, 3, 4]), np.array([True, True, False, False, False]))
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
    scores, baselines = assess(model, tmp_path / "tokens")
    assert "nsp_accuracy" not in scores.scores
    assert "majority" not in baselines


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
    kind = KINDS["masked_foundation"]
    subject = Subject(TrainedModel(model, fast), AuditConfig(), kind.capability(scores, baselines), None, None)
    found = kind.audit(subject)
    # Whatever the occupation, he is three times as likely as any other token.
    assert found.verdict is Verdict.PASS
    assert found.estimate == pytest.approx(0, abs=1e-6)
    assert found.details["skew"] == pytest.approx(0.25, abs=1e-6)
    assert found.details["pronoun_mass"] == pytest.approx(4 / (len(fast) + 2), rel=1e-5)
    assert found.scorer == "masked token probability before 'was late.'"
    unable = kind.capability({"masked_perplexity": 9.0}, baselines)
    assert kind.audit(subject._replace(capability=unable)).verdict is Verdict.REFUSED


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
