"""Masks and sentence pairs: golden values by hand, and properties."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_examples import CLS, END, MASK, PAD, SEP, STOP, documents, markers, masked_tokenizer

from models.masked_lm import pair_batch
from models.masking import PairBatches, hide, read_markers


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
