"""Answers: windows and spans by hand, losses as transformers', and the best span back from a model."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from heads_examples import assert_same, model, wordpiece
from hypothesis import given, settings
from hypothesis import strategies as st
from models_examples import rows_job
from models_examples import tokenizer as byte_level
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from models.data import BucketedBatches
from models.fit import fit
from models.job import Job, QuestionAnsweringOptions
from models.question_answering import (
    QuestionAnswering,
    best_span,
    collate,
    find_answers,
    prepare,
    read_questions,
    spans,
    windows,
)
from models.signals import StopSignal
from models.trainer import TrainerConfig


def row(question: str, context: str, answer: str) -> dict[str, Any]:
    return {
        "id": question,
        "question": question,
        "context": context,
        "answers": {"text": [answer], "answer_start": [context.index(answer)]},
    }


ROWS = [
    row(f"Where does {name} live?", f"{name} is a {trade} and lives in {place}. The {trade} works.", place)
    for name, trade, place in (("Ada", "baker", "mill"), ("Ben", "smith", "harbour"), ("Cora", "nurse", "square"))
]


def test_windows_and_spans_of_an_encoder_by_hand(tmp_path: Path) -> None:
    fast = wordpiece(tmp_path)
    example = row("Ada lives?", "Ada lives near the mill", "near the")

    def of(*pieces: str) -> list[int]:
        return fast.convert_tokens_to_ids(list(pieces))

    whole = windows([example], fast, 64, True, 4)
    question = ["[CLS]", "ada", "lives", "?", "[SEP]"]
    if fast.unk_token_id in of(*question):
        question[3] = "[UNK]"
    assert whole.ids[0].tolist() == of(*question, "ada", "lives", "near", "the", "mill", "[SEP]")
    assert whole.offsets[0].tolist() == [[0, 3], [4, 9], [10, 14], [15, 18], [19, 23]]
    assert (whole.starts, whole.nowhere, whole.rows, whole.truncated) == ([5], [0], [0], 0)
    assert spans(whole, [example]).tolist() == [[7, 8]]
    # Nine tokens leave three for the context: the windows hold words 0-2, 2-4, and the answer is in the second
    # alone; the first, which has its beginning only, points to [CLS].
    cut = windows([example], fast, 9, True, 1)
    parts = [of("ada", "lives", "near", "[SEP]"), of("near", "the", "mill", "[SEP]")]
    assert [ids.tolist()[5:] for ids in cut.ids] == parts
    assert spans(cut, [example]).tolist() == [[0, 0], [5, 6]]
    # A stride of a whole window would stand still: at most half of it is shared.
    assert [len(ids) for ids in windows([example], fast, 9, True, 50).ids] == [9, 9]
    # Seven tokens leave four for question and context, of which the question has at most half.
    short = windows([example], fast, 7, True, 0)
    assert short.truncated == 1
    assert [ids.tolist()[:4] for ids in short.ids] == [of("[CLS]", "ada", "lives", "[SEP]")] * 3
    assert [offsets.tolist() for offsets in short.offsets] == [[[0, 3], [4, 9]], [[10, 14], [15, 18]], [[19, 23]]]


def test_a_decoder_reads_the_question_first_and_ends_with_eos(tmp_path: Path) -> None:
    fast = byte_level(tmp_path)
    example = row("Ada?", "The baker lives", "baker")
    found = windows([example], fast, 64, False, 4)
    assert fast.decode(found.ids[0]) == "Ada?\nThe baker lives<|endoftext|>"
    assert found.nowhere == [len(found.ids[0]) - 1]
    first, last = spans(found, [example])[0]
    assert fast.decode(found.ids[0][first : last + 1]) == " baker"
    hostile = windows([row("<|endoftext|>?", "a <|endoftext|> b", "b")], fast, 64, False, 4).ids[0]
    assert sum(hostile == fast.eos_token_id) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(12, 40), st.integers(1, 30), st.integers(0, 39))
def test_windows_cover_a_context_and_share_the_stride(length: int, context: int, stride: int, place: int) -> None:
    fast = _cached()
    text = " ".join(["mill"] * length)
    example = row("Ada lives", f"{text}", "mill") if length else {"question": "Ada lives", "context": "", "answers": {}}
    found = windows([example], fast, context, True, stride)
    parts = [[tuple(pair) for pair in offsets] for offsets in found.offsets]
    assert sorted({pair for part in parts for pair in part}) == [(5 * i, 5 * i + 4) for i in range(length)]
    room = context - 5
    assert all(len(ids) <= context for ids in found.ids)
    for left, right in pairwise(parts):
        assert len(left) == room
        assert left[-min(stride, room // 2) :][: len(right)] == right[: min(stride, room // 2)]
    if length:
        start = 5 * (place % length)
        example["answers"]["answer_start"] = [start]
        for target, part in zip(spans(found, [example]), parts, strict=True):
            inside = [i for i, pair in enumerate(part) if pair[0] == start]
            assert target.tolist() == ([4 + inside[0]] * 2 if inside else [0, 0])


def _cached(made: list[Any] = []) -> Any:  # noqa: B006
    if not made:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            made.append(wordpiece(Path(folder)))
    return made[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 10), st.integers(0, 10**6))
def test_the_best_span_is_the_best_of_all(tokens: int, most: int, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(2, tokens))
    pairs = [(i, j) for i in range(tokens) for j in range(i, min(tokens, i + most))]
    expected = max(pairs, key=lambda pair: logits[0, pair[0]] + logits[1, pair[1]])
    score, first, last = best_span(logits, most)
    assert (first, last) == expected
    assert score == pytest.approx(logits[0, first] + logits[1, last])


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_loss_and_gradients_equal_transformers(family: str) -> None:
    network = model(family, "QuestionAnswering").eval()
    ids = [np.array([2, 9, 3, 8, 7, 3]), np.array([2, 9, 3, 6, 3])]
    batch = collate(ids, np.array([3, 3]), np.array([[3, 4], [0, 0]]), 1)
    objective = QuestionAnswering(network, TrainerConfig(steps=1, precision="fp32"), 1, "cpu").eval()
    assert objective.count(batch) == (2, 11, 12)
    # One by one, so that transformers' softmax has no padding in it.
    losses = []
    for own, (first, last) in zip(ids, [(3, 4), (0, 0)], strict=True):
        types = {"token_type_ids": (torch.arange(len(own)) >= 3).long()[None]} if family == "bert" else {}
        reference = network(
            input_ids=torch.from_numpy(own)[None],
            start_positions=torch.tensor([first]),
            end_positions=torch.tensor([last]),
            **types,
        )
        losses.append(reference.loss)
    assert_same(network, objective.loss_sum(batch) / 2, (losses[0] + losses[1]) / 2)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_learns_a_handful_of_questions(tmp_path: Path, family: str) -> None:
    base = tmp_path / "base"
    fast = (wordpiece if family == "bert" else byte_level)(base)
    network = model(family, vocab_size=len(fast), pad_token_id=fast.pad_token_id)
    network.save_pretrained(base)
    job = rows_job(tmp_path, "question_answering", ROWS, learning_rate=3e-3, batch_size=3, steps=80, precision="fp32")
    job |= {"model": None, "base": str(base), "tokenizer": str(base)}
    work = prepare(Job(**job), fast, "cpu")
    bodies = [part.base_model.state_dict() for part in (network, work.model)]
    assert all(torch.equal(bodies[0][name], own) for name, own in bodies[1].items())
    summary = fit(Job(**job), StopSignal())
    assert summary["train_loss"]["final"] < 0.1 < 1 < summary["train_loss"]["first"]
    assert (summary["train_questions"], summary["train_examples"], summary["windows_without_answer"]) == (3, 3, 0)
    trained = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out" / "model").eval()
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    options = QuestionAnsweringOptions()
    truth = [example["answers"]["text"][0] for example in ROWS]
    assert find_answers(trained, loaded, ROWS, options, batch_size=2) == truth
    assert find_answers(trained, loaded, [{**ROWS[0], "context": ""}], options) == [""]
    weights = trained.base_model.state_dict()
    assert not torch.equal(weights[name := next(iter(weights))], bodies[0][name])
    # A long context is read in windows; what is said of one of them is a span of its text.
    long = {**ROWS[0], "context": " ".join(["The nurse works near the square."] * 20)}
    (said,) = find_answers(trained, loaded, [long], QuestionAnsweringOptions(stride=8, max_answer_tokens=3))
    assert said in long["context"]


def test_windows_are_compared_by_probabilities_that_know_of_nowhere(tmp_path: Path) -> None:
    fast = wordpiece(tmp_path)
    network = model("bert", "QuestionAnswering").eval()
    example = row("Ada lives?", "Ada lives near the mill and works near the square", "the mill")
    options = QuestionAnsweringOptions(stride=2, max_answer_tokens=2)
    network.config.max_position_embeddings = 12
    found = windows([example], fast, 12, True, 2)
    best = (-np.inf, "")
    for ids, start, offsets in zip(found.ids, found.starts, found.offsets, strict=True):
        types = (torch.arange(len(ids)) >= start).long()[None]
        output = network(input_ids=torch.from_numpy(ids)[None], token_type_ids=types)
        first, last = (F.log_softmax(x[0], -1) for x in (output.start_logits, output.end_logits))
        for i in range(len(offsets)):
            for j in range(i, min(len(offsets), i + 2)):
                score = (first[start + i] + last[start + j]).item()
                best = max(best, (score, example["context"][offsets[i, 0] : offsets[j, 1]]))
    assert len(found.ids) > 1
    assert find_answers(network, fast, [example], options) == [best[1]]


def test_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = ROWS[0]
    for answers, expected in (
        ({"text": ["mill"], "answer_start": [3]}, "line 2: answer 'mill' is not at character 3"),
        ({"text": ["mill"], "answer_start": []}, "line 2: answers is"),
        ({"text": [], "answer_start": []}, "line 2: answers is"),
        (None, "line 2: answers is None"),
        ({"text": ["mill"], "answer_start": ["3"]}, "line 2: answer 'mill' at '3'"),
        ({"text": [" "], "answer_start": [3]}, "line 2: answer ' ' at 3"),
        ({"text": ["."], "answer_start": [-1]}, "line 2: answer '.' at -1"),
    ):
        path.write_text(json.dumps(good) + "\n" + json.dumps({**good, "answers": answers}))
        with pytest.raises(ValueError, match=f"rows.jsonl: {expected}"):
            read_questions(path)
    with pytest.raises(ValueError, match="context is 4 tokens, expected room"):
        windows([good], wordpiece(tmp_path), 4, True, 1)


def test_little_padding_on_the_starters_questions(tmp_path: Path) -> None:
    from tasks.starter.answers import answer_row
    from tasks.starter.dice import Dice

    dice = Dice(0, "answers")
    rows = [answer_row(dice) for _ in range(400)]
    assert BucketedBatches(windows(rows, byte_level(tmp_path), 512, False, 64).lengths, 32, 0).waste_share() <= 0.10
