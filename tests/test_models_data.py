"""Batches: every example once per epoch, a pure function of (seed, step), golden tensors."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.classification import choose
from models.classification import collate as collate_texts
from models.data import BucketedBatches, PackedBatches, Steps
from models.instruction import Examples
from models.instruction import collate as collate_exchanges
from tasks.starter.labelled import labelled, row_text
from tasks.starter.people import townspeople
from tasks.starter.questions import questions


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=200),
    st.integers(1, 17),
    st.integers(0, 5),
    st.integers(1, 4),
)
def test_bucketed_batches_cover_each_example_once_per_epoch(
    lengths: list[int], batch_size: int, seed: int, pool: int
) -> None:
    buckets = BucketedBatches(np.array(lengths), batch_size, seed, pool)
    for epoch in range(3):
        first = epoch * buckets.batches_per_epoch
        seen = np.concatenate([buckets.batch(first + i) for i in range(buckets.batches_per_epoch)])
        assert sorted(seen) == list(range(len(lengths)))
    again = BucketedBatches(np.array(lengths), batch_size, seed, pool)
    last = 3 * buckets.batches_per_epoch - 1
    assert np.array_equal(again.batch(last), buckets.batch(last))


def test_bucketed_waste_is_small_on_long_tailed_lengths() -> None:
    lengths = np.random.default_rng(0).lognormal(4, 0.8, 5000).astype(int).clip(4, 512)
    buckets = BucketedBatches(lengths, 32, 0)
    assert buckets.waste_share() <= 0.10
    assert not np.array_equal(buckets.batch(0), BucketedBatches(lengths, 32, 1).batch(0))


def test_bucketed_waste_of_the_starter_is_at_most_a_tenth() -> None:
    tables = {**labelled(0), "questions": questions(0, townspeople(0, 80))}
    for name, splits in tables.items():
        lengths = np.array([len(row_text(row).split()) for row in splits["train"]])
        for batch_size in (8, 32):
            assert BucketedBatches(lengths, batch_size, 0).waste_share() <= 0.10, name


@pytest.mark.parametrize("data", ["sst2", "trec", "wnut17"])
def test_bucketed_waste_of_real_data_is_at_most_a_tenth(data: str) -> None:
    if not os.environ.get("ALMA_DATA"):
        pytest.skip("ALMA_DATA names no folder of real data")
    root = Path(os.environ["ALMA_DATA"])
    if data == "sst2":
        texts = [line.split("\t")[0] for line in (root / "sst2" / "train.tsv").read_text("utf-8").splitlines()]
    elif data == "trec":
        texts = (root / "trec" / "train.txt").read_text("latin-1").splitlines()
    else:
        texts = re.split(r"\n\s*\n", (root / "wnut17" / "wnut17train.conll").read_text("utf-8"))
    lengths = np.array([len(text.split()) for text in texts if text.strip()])
    for batch_size in (8, 32, 64):
        assert BucketedBatches(lengths, batch_size, 0).waste_share() <= 0.10


def test_packed_batches_visit_each_window_once_and_anywhere() -> None:
    tokens = np.arange(1000, dtype=np.uint16)
    packed = PackedBatches(tokens, context=10, batch_size=7, seed=3)
    rows = torch.cat([packed.batch(i) for i in range(packed.windows)])
    assert rows.shape == (7 * packed.windows, 11)
    assert (rows[:, 1:] == rows[:, :-1] + 1).all()
    for epoch in range(7):
        starts = rows[epoch * packed.windows : (epoch + 1) * packed.windows, 0]
        assert len(set(starts.tolist())) == packed.windows
        assert len(set((starts % 10).tolist())) == 1
    assert torch.equal(PackedBatches(tokens, 10, 7, 3).batch(41), packed.batch(41))


@pytest.mark.parametrize("length", [11, 12, 19, 20, 21, 30])
def test_packed_batches_of_short_text_stay_inside(length: int) -> None:
    packed = PackedBatches(np.arange(length, dtype=np.uint16), 10, 3, 0)
    assert all(packed.batch(i).max() < length for i in range(20))


def test_packed_batches_refuse_text_shorter_than_a_window() -> None:
    with pytest.raises(ValueError, match="10 tokens, expected at least context \\+ 1 = 11"):
        PackedBatches(np.zeros(10, np.uint16), 10, 1, 0)


def test_steps_start_anywhere_and_share_out_over_processes() -> None:
    straight = list(Steps(lambda i: i, 0, 4, accumulation=2))
    assert straight == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert list(Steps(lambda i: i, 2, 4, accumulation=2)) == straight[2:]
    assert [list(Steps(lambda i: i, 0, 2, 1, rank=r, world=2)) for r in (0, 1)] == [[[0], [2]], [[1], [3]]]


def test_collate_exchanges_golden() -> None:
    # user 2, question 7 8, assistant 3, response 9, end 4; and user, assistant, response 5 6, end.
    two = Examples([np.array([2, 7, 8, 3, 9, 4]), np.array([2, 3, 5, 6, 4])], np.array([4, 2]), 0)
    batch = collate_exchanges(two, np.array([0, 1]), pad_id=1)
    assert batch["ids"].tolist() == [[2, 7, 8, 3, 9, 4], [2, 3, 5, 6, 4, 1]]
    assert batch["places"].tolist() == [3, 4, 7, 8, 9]
    assert batch["targets"].tolist() == [9, 4, 5, 6, 4]


def test_collate_texts_golden() -> None:
    batch = collate_texts([np.array([5, 6]), np.array([7])], np.array([1, 0]), pad_id=1)
    assert batch["ids"].tolist() == [[5, 6], [7, 1]]
    assert batch["lengths"].tolist() == [2, 1]
    assert batch["labels"].tolist() == [1, 0]


def test_few_labelled_examples_are_stratified_and_nested() -> None:
    rows = [{"text": str(i), "label": "a" if i % 10 else "b"} for i in range(100)]
    four, eight = choose(rows, 4, 0), choose(rows, 8, 0)
    assert eight[:4] == four
    assert [row["label"] for row in eight].count("b") == 4
    assert choose(rows, 8, 1) != eight
