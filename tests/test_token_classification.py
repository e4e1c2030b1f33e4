"""Entities: words and their first pieces, tags, losses as transformers', and tags back from a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heads_examples import assert_same, model, wordpiece
from hypothesis import given, settings
from hypothesis import strategies as st
from models_examples import rows_job
from models_examples import tokenizer as byte_level
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedTokenizerFast

from models.data import BucketedBatches
from models.fit import fit
from models.job import Job
from models.signals import StopSignal
from models.token_classification import (
    TokenClassification,
    collate,
    prepare,
    read_sentences,
    sentences,
    tag,
    tag_names,
    targets,
)
from models.trainer import TrainerConfig

ROWS: list[dict[str, Any]] = [
    {"id": "0", "tokens": ["Ada", "lives", "in", "Mill", "Square"], "tags": ["B-PER", "O", "O", "B-LOC", "I-LOC"]},
    {"id": "1", "tokens": ["Ben", "lives", "in", "Harbour"], "tags": ["B-PER", "O", "O", "B-LOC"]},
    {"id": "2", "tokens": ["Dan", "the", "smith"], "tags": ["B-PER", "O", "O"]},
    {"id": "3", "tokens": ["Cora", "is", "a", "nurse"], "tags": ["B-PER", "O", "O", "O"]},
]


def test_alignment_to_first_pieces_by_hand(tmp_path: Path) -> None:
    fast = wordpiece(tmp_path)
    words = [["Ada", "nurses", "Ben"], ["Ben"]]
    ids = fast.convert_tokens_to_ids(["[CLS]", "ada", "nurse", "##s", "ben", "[SEP]"])
    assert fast.unk_token_id not in ids
    found = sentences(words, fast, 64, True)
    assert found.ids[0].tolist() == ids
    assert [places.tolist() for places in found.places] == [[1, 2, 4], [1]]
    assert (found.truncated, found.lost) == (0, 0)
    names = ["O", "B-PER"]
    rows = [{"tags": ["B-PER", "O", "B-PER"]}, {"tags": ["B-PER"]}]
    tags = targets(rows, found, names)
    assert [own.tolist() for own in tags] == [[1, 0, 1], [1]]
    batch = collate(found.ids, found.places, tags, fast.pad_token_id)
    # The second sentence begins at place 6 of the flattened batch.
    assert batch["places"].tolist() == [1, 2, 4, 7]
    assert batch["tags"].tolist() == [1, 0, 1, 1]
    assert batch["ids"][1].tolist() == [ids[0], ids[4], ids[5], 0, 0, 0]
    # With room for three tokens the third word is cut off; with room for two, so is the second word's other piece.
    for context, kept in ((5, [0, 1]), (4, [0, 1]), (3, [0])):
        cut = sentences(words, fast, context, True)
        assert len(cut.ids[0]) == context
        assert (cut.words[0].tolist(), cut.truncated, cut.lost) == (kept, 1, 3 - len(kept))


def test_words_have_the_tokens_of_running_text(tmp_path: Path) -> None:
    fast = byte_level(tmp_path)
    words = ["Ada", "is", "a", "baker", "near", "(the", "mill)", "naïve"]
    found = sentences([words], fast, 64, False)
    running = fast.encode(" " + " ".join(words), add_special_tokens=False)
    assert found.ids[0].tolist() == running
    pieces = [fast.decode([int(found.ids[0][place])]) for place in found.places[0]]
    assert all(piece.startswith(" ") for piece in pieces)
    # What transformers would do with ready words: without the space, other tokens.
    assert fast(words, is_split_into_words=True, add_special_tokens=False).input_ids != running
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -3.0), ("▁Ada", -1.0), ("▁is", -1.0)], unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    meta = PreTrainedTokenizerFast(tokenizer_object=unigram, eos_token="<unk>")
    assert sentences([["Ada", "is"]], meta, 64, False).ids[0].tolist() == [2, 3]


def test_words_that_the_tokenizer_drops_are_counted_and_outside(tmp_path: Path) -> None:
    piece = Tokenizer(models.WordLevel({"<unk>": 0, "Ada": 1}, unk_token="<unk>"))
    piece.normalizer = normalizers.BertNormalizer(lowercase=False)
    piece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast = PreTrainedTokenizerFast(tokenizer_object=piece, eos_token="<unk>", pad_token="<unk>")
    found = sentences([["\u200d", "Ada"], ["\u200d"], []], fast, 8, False)
    assert [places.tolist() for places in found.places] == [[0], [], []]
    assert [words.tolist() for words in found.words] == [[1], [], []]
    assert [ids.tolist() for ids in found.ids] == [[1], [0], [0]]
    assert found.lost == 2
    network = model("llama", "TokenClassification", num_labels=2, id2label={0: "O", 1: "B-PER"})
    torch.nn.init.zeros_(network.score.weight)
    network.score.bias.data = torch.tensor([0.0, 1.0])
    tagged = tag(network, fast, [["\u200d", "Ada"], ["\u200d"], []])
    assert tagged == [["O", "B-PER"], ["O"], []]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["Ada", "bakes", "nurses", "é", "in"]), max_size=12), min_size=1, max_size=5))
def test_every_word_is_kept_or_counted(tmp_path_factory: pytest.TempPathFactory, words: list[list[str]]) -> None:
    fast = byte_level(tmp_path_factory.mktemp("tokenizer"))
    context = 9
    found = sentences(words, fast, context, False)
    assert sum(map(len, found.words)) + found.lost == sum(map(len, words))
    for own, ids, places, kept in zip(words, found.ids, found.places, found.words, strict=True):
        assert 0 < len(ids) <= context
        assert kept.tolist() == list(range(len(kept)))
        for word, place, following in zip(own, places, [*places[1:], len(ids)], strict=False):
            assert f" {word}".startswith(fast.decode(ids[place:following]).rstrip("\ufffd"))


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_loss_and_gradients_equal_transformers(family: str) -> None:
    network = model(family, "TokenClassification", num_labels=5).eval()
    ids = [np.array([2, 9, 8, 7, 6, 3]), np.array([2, 9, 3])]
    places, tags = [np.array([1, 2, 4]), np.array([1])], [np.array([4, 0, 2]), np.array([1])]
    batch = collate(ids, places, tags, 1)
    objective = TokenClassification(network, TrainerConfig(steps=1, precision="fp32"), 1, "cpu").eval()
    assert objective.count(batch) == (4, 9, 12)
    labels = torch.full((2, 6), -100)
    labels.view(-1)[batch["places"]] = batch["tags"]
    mask = torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
    reference = network(input_ids=batch["ids"], attention_mask=mask, labels=labels)
    assert_same(network, objective.loss_sum(batch) / 4, reference.loss)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_learns_a_handful_of_sentences(tmp_path: Path, family: str) -> None:
    base = tmp_path / "base"
    fast = (wordpiece if family == "bert" else byte_level)(base)
    network = model(family, vocab_size=len(fast), pad_token_id=fast.pad_token_id)
    network.save_pretrained(base)
    job = rows_job(tmp_path, "token_classification", ROWS, learning_rate=3e-3, batch_size=4, steps=60, precision="fp32")
    job |= {"model": None, "base": str(base), "tokenizer": str(base)}
    work = prepare(Job(**job), fast, "cpu")
    bodies = [part.base_model.state_dict() for part in (network, work.model)]
    assert all(torch.equal(bodies[0][name], own) for name, own in bodies[1].items())
    summary = fit(Job(**job), StopSignal())
    assert summary["train_loss"]["final"] < 0.1 < 1 < summary["train_loss"]["first"]
    assert summary["labels"] == ["O", "B-LOC", "B-PER", "I-LOC"]
    assert (summary["lost_words"], summary["truncated_examples"], summary["dropped_examples"]) == (0, 0, 0)
    trained = AutoModelForTokenClassification.from_pretrained(tmp_path / "out" / "model").eval()
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    words = [row["tokens"] for row in ROWS]
    assert tag(trained, loaded, words, batch_size=3) == [row["tags"] for row in ROWS]
    long = [[*words[0], *["in"] * 80, "Ada"]]
    assert tag(trained, loaded, long)[0][-1] == "O"


def test_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for row, expected in (
        ({"tokens": ["a", "b"], "tags": ["O"]}, "line 2: 2 tokens but 1 tags"),
        ({"tokens": "a b", "tags": ["O"]}, "line 2: tokens is 'a b', expected a list"),
        ({"tokens": ["a", 1], "tags": ["O", "O"]}, "line 2: tokens has 1"),
        ({"tokens": ["a"], "tags": ["PER"]}, "line 2: tag 'PER', expected O"),
        ({"tokens": ["a"], "tags": ["B-"]}, "line 2: tag 'B-'"),
    ):
        path.write_text(json.dumps({"tokens": ["a"], "tags": ["O"]}) + "\n" + json.dumps(row))
        with pytest.raises(ValueError, match=f"rows.jsonl: {expected}"):
            read_sentences(path)
    with pytest.raises(ValueError, match="no tag but O"):
        tag_names([{"tags": ["O"]}])
    job = rows_job(tmp_path, "token_classification", ROWS)
    strange = tmp_path / "valid.jsonl"
    strange.write_text(json.dumps({"tokens": ["a"], "tags": ["B-ORG"]}))
    with pytest.raises(ValueError, match=r"valid.jsonl: line 1: tag 'B-ORG' is not among the training tags \(O, "):
        prepare(Job(**{**job, "valid": str(strange)}), byte_level(tmp_path / "t"), "cpu")


def test_little_padding_on_the_starters_sentences(tmp_path: Path) -> None:
    from tasks.starter.dice import Dice
    from tasks.starter.entities import entity_row

    dice = Dice(0, "entities")
    rows = [entity_row(dice) for _ in range(400)]
    lengths = sentences([row["tokens"] for row in rows], byte_level(tmp_path), 256, False).lengths
    assert BucketedBatches(lengths, 32, 0).waste_share() <= 0.10
