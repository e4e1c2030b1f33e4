"""Forgetting, length and latency: the same bytes before and after, golden values, and a receipt without times."""

import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from models_examples import tokenizer, tokens
from test_generation import rigged, tiny
from transformers import PreTrainedTokenizerFast

from models.chat import END, render
from models.generation import Continuation, continuations
from models.scoring import token_array_losses, window_losses
from tasks import forgetting
from tasks.latency import CALLS, WARM_UP, answer_lengths, time_batch, time_single
from tasks.loading import TrainedModel


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, fast: PreTrainedTokenizerFast) -> Path:
    directory = tmp_path_factory.mktemp("tokens")
    tokens(directory, fast)
    return directory


def test_windows_share_no_token_and_lie_all_over_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "MOST_WINDOWS", 3)
    assert forgetting.choose_windows(np.arange(100), 9).tolist() == [
        [*range(start, start + 10)] for start in (0, 40, 90)
    ]
    assert forgetting.choose_windows(np.arange(25), 9).tolist() == [[*range(10)], [*range(10, 20)]]
    assert forgetting.choose_windows(np.arange(4), 9).tolist() == [[0, 1, 2, 3]]
    with pytest.raises(ValueError, match="has 1 tokens, expected at least 2"):
        forgetting.choose_windows(np.arange(1), 9)


def test_a_window_is_scored_as_the_assessment_scores_it(fast: PreTrainedTokenizerFast, text: Path) -> None:
    model = tiny(fast, context=16)
    first = np.fromfile(text / "test.bin", dtype=np.uint16)[:17]
    whole, _ = token_array_losses(model, text / "test.bin", "uint16")
    assert window_losses(model, first[None])[0] == pytest.approx(whole[0], rel=1e-5)


def test_forgetting_is_the_same_bytes_before_and_after(fast: PreTrainedTokenizerFast, text: Path) -> None:
    before = TrainedModel(tiny(fast), fast)
    table, _ = forgetting.measure({"foundation": before}, before, text, 0)
    assert (table[0]["forgetting"], table[0]["low"], table[0]["high"]) == (0.0, 0.0, 0.0)
    assert table[0]["since"] == "foundation"

    grown = copy.deepcopy(fast)
    grown.add_special_tokens({"extra_special_tokens": ["<|new|>"]}, replace_extra_special_tokens=False)
    network = copy.deepcopy(before.network)
    network.resize_token_embeddings(len(grown), mean_resizing=False)
    with torch.no_grad():  # a marker that is exactly as likely as all the rest together: each token costs ln 2 more
        network.lm_head.weight[-1] = 0
        hooked = network.lm_head.register_forward_hook(
            lambda _, __, logits: torch.cat([logits[..., :-1], logits[..., :-1].logsumexp(-1, keepdim=True)], -1)
        )
    table, values = forgetting.measure({"foundation": before}, TrainedModel(network, grown), text, 0)
    hooked.remove()
    windows = forgetting.choose_windows(np.fromfile(text / "test.bin", dtype=np.uint16), 64)
    predicted = windows[:, 1:].size
    before_terms, after_terms = values["foundation"]
    size = after_terms.bottom.sum() / math.log(2)
    assert size == pytest.approx(
        len("".join(fast.decode([i for i in window[1:] if i]) for window in windows.tolist()).encode())
    )
    assert table[0]["forgetting"] == pytest.approx(predicted / size, rel=1e-3)  # one bit a token
    assert table[0]["low"] < table[0]["forgetting"] < table[0]["high"]
    assert table[0]["after"] - table[0]["before"] == pytest.approx(table[0]["forgetting"])
    assert after_terms.top.sum() / math.log(2) / size == pytest.approx(table[0]["after"])
    assert np.array_equal(before_terms.bottom, after_terms.bottom)


def test_a_tokenizer_with_other_ids_is_refused(fast: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    other = tokenizer(tmp_path, vocab_size=300)
    model = tiny(fast)
    with pytest.raises(ValueError, match="has the id"):
        forgetting.same_ids(TrainedModel(model, fast), TrainedModel(model, other))


def test_lengths_are_without_the_end_and_cut_answers_are_counted(fast: PreTrainedTokenizerFast) -> None:
    prompt = render("Who bakes?")
    ids = [*fast.encode(" Ada", add_special_tokens=False), fast.get_vocab()[END]]
    made = continuations(rigged(fast, prompt, ids), fast, [prompt], 8)[0]
    assert made == Continuation("Ada", len(ids) - 1, True)
    cut = continuations(rigged(fast, prompt, ids[:1]), fast, [prompt], 8)[0]
    assert (cut.tokens, cut.ended) == (8, False)
    found = answer_lengths([made, cut], [3, 5], 8)
    assert (found["mean"], found["reference_mean"], found["cut_share"], found["limit"]) == (
        (len(ids) + 7) / 2,
        4.0,
        0.5,
        8,
    )


def test_single_calls_are_timed_one_by_one_after_the_warm_up() -> None:
    asked = []

    def call(value: int) -> None:
        asked.append(value)
        time.sleep(0.02 if len(asked) <= WARM_UP else 0.001)

    found = time_single(call, [1, 2])
    assert asked == [1 + n % 2 for n in range(WARM_UP + CALLS)]
    assert 1 <= found["latency_ms"] <= found["latency_p95_ms"]
    assert found["latency_noise_ms"] >= 0
    answers, speed = time_batch(lambda rows: rows[::-1], [1, 2, 3])
    assert answers == [3, 2, 1]
    assert speed > 0


def test_times_are_no_part_of_what_a_step_found(workspace: Path) -> None:
    for model in ("foundation", "reviews", "assistant", "clerk"):
        directory = workspace / "artifacts/tiny/guard" / model
        receipt = json.loads((directory / "receipt.json").read_text())
        assert receipt["cost"]["latency_ms"] > 0
        assert receipt["cost"]["inputs_per_second"] > 0
        assert not any("latency" in name or "inputs" in name for name in receipt["metrics"]["guardrails"])
        assert sorted(receipt["files"]) == ["guard.json", "items.safetensors"]
        assert "latency" not in (directory / "guard.json").read_text()
    found = json.loads((workspace / "artifacts/tiny/guard/clerk/guard.json").read_text())
    assert [row["since"] for row in found["forgetting"]] == ["foundation", "assistant"]
    numbers = json.loads((workspace / "artifacts/tiny/guard/assistant/receipt.json").read_text())["metrics"]
    assert {"forgetting", "robustness_typos", "answer_tokens", "answer_cut_share"} <= set(numbers["guardrails"])
    reasons = json.loads((workspace / "artifacts/tiny/guard/reviews/guard.json").read_text())["not_asked"]
    assert sorted(reasons) == ["forgetting", "negation"]
    assert "Guardrails" in (workspace / "artifacts/tiny/report/report.html").read_text()
