"""How far text and labels moved, on values by hand; and what is kept of what a version learned from."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.corpus import PrepareConfig, prepare_dataset
from tasks.drift import by_document
from tasks.drift_measures import cost_moved, fit_lost, labels_moved, stability_index, words_moved
from tasks.kinds import Row
from tasks.lineage import Lineage, Version
from tasks.paired import terms
from tasks.readers import write_rows
from tasks.splits import choose_split
from tasks.training_profile import (
    asked_hash,
    is_among,
    make_profile,
    read_profile,
    row_hash,
    together,
    unknown_words,
    write_profile,
)


def test_the_stability_index_by_hand() -> None:
    # 49.5 and 49.5 of 99, half a row added to each: half and half. 79.5 and 19.5 with it: 80 and 20 of 100.
    # (.8 - .5) ln(.8 / .5) + (.2 - .5) ln(.2 / .5) = .3 * .470004 + .3 * .916291 = .415888
    assert stability_index(np.array([79.5, 19.5]), np.array([49.5, 49.5])) == pytest.approx(0.415888, abs=1e-6)
    assert stability_index(np.array([7.0, 3.0]), np.array([7.0, 3.0])) == 0
    new_label = stability_index(np.array([5.0, 5.0]), np.array([10.0, 0.0]))
    assert np.isfinite(new_label)
    assert new_label > 1


def labelled(good: int, bad: int) -> list[Row]:
    return [{"id": str(i), "text": f"t {i}", "label": "good" if i < good else "bad"} for i in range(good + bad)]


def test_a_shift_of_labels_is_read_with_its_interval_and_none_where_there_is_none() -> None:
    shifted = labels_moved(labelled(160, 40), {"good": 500, "bad": 500})
    assert shifted is not None
    assert 0.15 < shifted.low < shifted.moved < shifted.now < shifted.high
    assert shifted.now == pytest.approx(0.4110, abs=1e-4)
    # Jensen-Shannon by hand: the mean is .65 and .35; its entropy .9341 less the mean of 1 and .7219 is .0731.
    assert shifted.said == "good 50.0 % to 80.0 %, bad 50.0 % to 20.0 %; Jensen-Shannon distance 0.270"
    assert labels_moved([{"id": "1", "text": "a b"}], {}) is None
    tagged = [{"id": "1", "tokens": ["Ada", "in", "Rome"], "tags": ["B-PER", "O", "B-LOC"]}] * 20
    moved = labels_moved(tagged, {"PER": 100, "LOC": 100})
    assert moved is not None
    assert moved.low == 0


def test_many_labels_and_few_rows_are_no_shift() -> None:
    """The bare index of 100 rows over 40 labels is well over .1 by chance alone; its interval is not."""
    random = np.random.default_rng(1)
    alarms = 0
    for seed in range(12):
        names = [str(label) for label in random.integers(0, 40, 100)]
        rows = [{"id": "", "text": "", "label": name} for name in names]
        found = labels_moved(rows, {str(label): 100 for label in range(40)}, seed)
        assert found is not None
        assert found.now > 0.1
        alarms += found.low > 0.1
    assert alarms == 0


def test_costs_words_and_tokens_are_held_against_their_own_time() -> None:
    before = terms([10.0, 20.0, 30.0], [10, 20, 30])
    cost = cost_moved(terms([15.0, 30.0], [10, 20]), before, rows=7)
    assert (cost.now, cost.before, cost.rows) == (1.5, 1.0, 7)
    assert cost.moved == pytest.approx(0.5)
    assert cost.low == cost.high == pytest.approx(0.5)
    known = make_words("the cat sat")
    counts = unknown_words(["The cat, the dog.", "a mat"], known)
    assert counts.tolist() == [[1, 4], [2, 2]]
    words = words_moved(terms(*counts.T), terms([0, 0], [5, 5]))
    assert (words.now, words.before) == (0.5, 0)
    assert words.low < words.moved == 0.5 < words.high
    fit = fit_lost([20, 40], [10, 20], before=4.0)
    assert (fit.now, fit.moved, fit.low, fit.high) == (2.0, 0.5, 0.5, 0.5)


def make_words(text: str) -> np.ndarray:
    from tasks.duplicates import WordHasher, list_words

    return np.unique(WordHasher().hash_words(list_words(text)))


def test_windows_of_one_document_are_drawn_together() -> None:
    # Documents of 5, 2 and 9 tokens; windows of 4 predicted tokens begin at tokens 0, 4, 8 and 12.
    assert by_document(np.array([4, 4, 4, 3]), [5, 2, 9]).tolist() == [0, 0, 1, 1]


def texts(*contents: str) -> list[Row]:
    return [{"id": str(number), "text": content} for number, content in enumerate(contents)]


def test_a_profile_keeps_what_is_asked_of_it_and_no_text(tmp_path: Path) -> None:
    rows = {"train": texts("the cat sat", "the dog ran"), "valid": texts("a cow"), "test": texts("the cat ran off")}
    for split, own in rows.items():
        write_rows(tmp_path / "corpus" / f"{split}.jsonl", own)
    kept = write_profile(make_profile([tmp_path / "corpus"], 3.5), tmp_path / "kept")
    profile = read_profile(kept)
    assert profile.bytes_per_token == 3.5
    assert profile.held_out.tolist() == [[1, 4]]  # "off"
    assert len(profile.rows) == 4
    moved = {"id": "another", "text": "the dog ran"}
    assert is_among([row_hash(moved), row_hash({"id": "0", "text": "new"})], profile.rows).tolist() == [True, False]
    assert is_among([asked_hash(row) for row in (rows["train"][0], rows["test"][0])], profile.learnt).tolist() == [
        True,
        False,
    ]
    assert b"cat" not in b"".join(path.read_bytes() for path in kept.iterdir())
    again = write_profile(profile, tmp_path / "again")
    assert [path.read_bytes() for path in sorted(kept.iterdir())] == [p.read_bytes() for p in sorted(again.iterdir())]
    write_rows(tmp_path / "mail" / "train.jsonl", labelled(2, 1))
    for split in ("valid", "test"):
        write_rows(tmp_path / "mail" / f"{split}.jsonl", [])
    mail = make_profile([tmp_path / "mail"])
    assert mail.labels == {"bad": 1, "good": 2}
    assert mail.new_words() is None
    corrected = {"id": "0", "text": "t 0", "label": "bad"}
    assert not is_among([row_hash(corrected)], mail.rows).any(), "a row with another label is a new row"
    assert len(together([mail, profile]).rows) == 7


def test_a_foundation_that_was_taken_as_it_is_was_trained_under_another_name() -> None:
    def version(number: str, **carried: str) -> Version:
        return Version(name="t-foundation", version=number, carried={"weights_digest": number, **carried})

    versions = [
        version("1", base=""),
        version("2", base="models:/t-foundation/1", base_weights_digest="1", base_trained="True"),
        version("3", base="models:/t-foundation/2", base_weights_digest="2", base_trained="False"),
        version("4", base="town/base", base_trained="False"),
    ]
    lineage = Lineage(versions)
    trained = [[each.version for each in lineage.trainings(one)] for one in versions]
    assert trained == [["1"], ["2", "1"], ["2", "1"], ["4"]]


WORDS = (
    *("river", "stone", "market", "morning", "baker", "letter", "window"),
    *("garden", "winter", "bridge", "candle", "orchard", "harbour"),
)


def test_a_later_row_never_moves_an_old_one_out_of_train() -> None:
    """A near duplicate that comes first in the sources, and would be cut for test, gives way."""
    config = PrepareConfig(valid_share=0.2, test_share=0.4)
    sentence = " ".join(WORDS)
    variants = {split: variant(sentence, split, config) for split in ("train", "test")}
    rest = [" ".join(np.random.default_rng(seed).permutation(WORDS)) for seed in range(30)]
    before, _ = prepare_dataset(config, "corpus", "text", {"train": texts(variants["train"], *rest)})
    after, counts = prepare_dataset(
        config, "corpus", "text", {"train": texts(variants["test"], variants["train"], *rest)}
    )
    assert counts["near_duplicates"] == 1
    assert variants["train"] in [row["text"] for row in after["train"]]
    for split in ("train", "valid", "test"):
        assert [row["text"] for row in before[split]] == [row["text"] for row in after[split]]


def variant(sentence: str, split: str, config: PrepareConfig) -> str:
    from tasks.duplicates import digest_content

    candidates = (f"{sentence} {number}" for number in range(100))
    return next(
        text
        for text in candidates
        if choose_split(digest_content(text), config.valid_share, config.test_share, config.seed) == split
    )


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(16)), st.integers(1, 12), st.booleans())
def test_whatever_comes_later_no_training_row_is_tested_on(order: list[int], cut: int, first: bool) -> None:
    """Rows of four families of near duplicates, some later than others, before or after these in the sources."""
    config = PrepareConfig(valid_share=0.2, test_share=0.4, permutations=16)
    families = [" ".join(np.random.default_rng(family).permutation(WORDS * 2)) for family in range(4)]
    contents = [f"{families[number % 4]} {number}" for number in order]
    old, new = contents[:cut], contents[cut:]
    try:
        before, _ = prepare_dataset(config, "corpus", "text", {"train": texts(*old)})
        after, _ = prepare_dataset(config, "corpus", "text", {"train": texts(*(new + old if first else old + new))})
    except ValueError as error:
        assert "no row of train is left" in str(error)
        return
    family = {content: number % 4 for content, number in zip(contents, order, strict=True)}
    learnt = {family[row["text"]] for row in before["train"]}
    tested = {family[row["text"]] for row in after["test"]}
    assert not learnt & tested, json.dumps([old, new])
