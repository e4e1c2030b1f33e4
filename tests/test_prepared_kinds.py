"""Annotated rows through cleaning, duplicates, splits, label checks and contamination, on values by hand."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
from data_examples import ANSWER, ENTITY, PAIR, assert_slices
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contamination import HeldOutIndex
from tasks.corpus import PrepareConfig, clean_text, prepare_dataset
from tasks.kinds import clean_row, digest_row
from tasks.spans import find_nearest, move_answers


def prepare(kind: str, rows: list[dict[str, Any]], **splits: list[dict[str, Any]]) -> tuple[Any, dict[str, int]]:
    """Return prepared rows of declared splits, none cut from train, and the counts."""
    numbered = {
        split: [{"id": f"{split}{number}", **row} for number, row in enumerate(part)]
        for split, part in {"train": rows, **splits}.items()
    }
    return prepare_dataset(PrepareConfig(valid_share=0, test_share=0), "t", kind, numbered)


@pytest.mark.parametrize(
    ("text", "part", "place", "found"),
    [
        ("a b a", "a", 1, 0),
        ("a b a", "a", 2, 0),
        ("a b a", "a", 3, 4),
        ("aXa", "a", 9, 2),
        ("b", "a", 0, -1),
        ("a", "a", -5, 0),
    ],
)
def test_nearest_occurrence(text: str, part: str, place: int, found: int) -> None:
    assert find_nearest(text, part, place) == found


DIRT = ["  \n", "&amp; ", "cafe\u0301 ", "GrÃ¼ÃŸe ", "a@b.org ", "+44 20 7946 0123 ", "\x07", "\n\n\n\n", "b. "]


PIECES = st.lists(st.sampled_from([*DIRT, "Ada ", "Ada "]), max_size=7)


@settings(max_examples=100, deadline=None)
@given(PIECES, PIECES)
def test_answer_is_the_same_occurrence_after_cleaning(before: list[str], after: list[str]) -> None:
    start = len("".join(before))
    old = "".join([*before, "Ada ", *after])
    clean = partial(clean_text, PrepareConfig(), counts=Counter())
    new = clean(old)
    moved = move_answers(old, new, {"text": ["Ada"], "answer_start": [start]}, clean)
    assert moved is not None
    assert new.count("Ada", 0, moved["answer_start"][0]) == before.count("Ada ")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(DIRT), st.text(max_size=6)), min_size=1, max_size=12).map("".join),
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 30)), min_size=1, max_size=3),
)
def test_spans_after_cleaning_are_slices_or_the_row_is_counted(context: str, spans: list[tuple[int, int]]) -> None:
    starts = [start % max(1, len(context)) for start, _ in spans]
    texts = [context[start : start + length] for start, (_, length) in zip(starts, spans, strict=True)]
    row = {
        "id": "1",
        "question": "Who?",
        "context": context,
        "answers": {"text": texts, "answer_start": starts},
    }
    counts: Counter[str] = Counter()
    done = clean_row("question_answering", row, partial(clean_text, PrepareConfig()), counts)
    if done is None:
        assert counts["dropped_span_lost"] + counts["dropped_empty"] == 1
    else:
        assert_slices(done)
        assert len(done["answers"]["text"]) == len(texts)


def test_answers_move_with_the_cleaned_context() -> None:
    context = "Ring  +44 20 7946 0123 &amp; ask \r\nfor Ada, or Ada's  aunt."
    texts = ["+44 20 7946 0123", "Ada", "Ada's"]
    starts = [6, context.index("Ada,"), context.index("Ada's")]
    row = {"question": "Who &amp; how?", "context": context, "answers": {"text": texts, "answer_start": starts}}
    done, counts = prepare("question_answering", [row])
    assert done["train"] == [
        {
            "id": "train0",
            "question": "Who & how?",
            "context": "Ring  <phone> & ask\nfor Ada, or Ada's  aunt.",
            "answers": {"text": ["<phone>", "Ada", "Ada's"], "answer_start": [6, 24, 32]},
        }
    ]
    assert counts["phones"] == 1


def test_question_whose_span_is_lost_is_dropped_and_counted() -> None:
    context = "Ring +44 20 7946 0123."
    row = {"question": "Who?", "context": context, "answers": {"text": ["7946"], "answer_start": [12]}}
    done, counts = prepare("question_answering", [row, ANSWER])
    assert [row["id"] for row in done["train"]] == ["train1"]
    assert counts["dropped_span_lost"] == 1


def test_tokens_are_scrubbed_one_by_one_and_stay_as_many() -> None:
    tokens = ["Mail", "(a@b.org)", "or", "+442079460123", "\x07", "cafe\u0301", "&amp;", "+44", "20", "7946", "0123"]
    tags = ["O"] * 10 + ["B-X"]
    done, counts = prepare("token_classification", [{"tokens": tokens, "tags": tags}])
    (row,) = done["train"]
    assert row["tokens"] == [
        *["Mail", "(<email>)", "or", "<phone>", "\x07", "caf\u00e9", "&", "+44", "20", "7946", "0123"]
    ]
    assert row["tags"] == tags
    assert (counts["emails"], counts["phones"]) == (1, 1)


def test_pair_that_cleaning_makes_equal_is_dropped_and_counted() -> None:
    pair = {"prompt": "Where?", "chosen": "Write to a@b.org.", "rejected": "Write to c@d.org."}
    done, counts = prepare("preference", [pair, PAIR])
    assert [row["id"] for row in done["train"]] == ["train1"]
    assert (counts["dropped_equal_pair"], counts["emails"]) == (1, 2)


def test_duplicates_of_tokens_questions_and_pairs() -> None:
    other = ENTITY | {"tags": ["O", "B-PER"]}
    done, counts = prepare(
        "token_classification", [ENTITY, other, {"tokens": ["No"], "tags": ["B-PER"]}], test=[ENTITY]
    )
    assert [row["id"] for row in done["train"]] == ["train2"]
    assert (counts["cross_split_duplicates"], counts["exact_duplicates"]) == (2, 0)

    done, counts = prepare("token_classification", [ENTITY, other])
    assert (counts["exact_duplicates"], counts["label_conflicts"]) == (1, 1)

    asked = ANSWER | {"question": "Who sells?"}
    moved = ANSWER | {"answers": {"text": ["Ada"], "answer_start": [0]}}
    done, counts = prepare("question_answering", [ANSWER, moved, asked], test=[asked])
    assert [row["id"] for row in done["train"]] == ["train0"]
    assert (counts["exact_duplicates"], counts["label_conflicts"], counts["cross_split_duplicates"]) == (1, 1, 1)

    again = PAIR | {"rejected": "Cat."}
    done, counts = prepare("preference", [PAIR, PAIR, again])
    assert [row["id"] for row in done["train"]] == ["train0", "train2"]
    done, counts = prepare("preference", [PAIR | {"prompt": "What?"}, again], test=[PAIR])
    assert [row["id"] for row in done["train"]] == ["train0"]
    assert counts["cross_split_duplicates"] == 1


def test_no_context_and_no_dialogue_stands_in_two_splits() -> None:
    asked = [
        {
            "id": f"{n}-{q}",
            "question": f"Who {q}?",
            "context": f"Ada {n} bakes.",
            "answers": {"text": ["Ada"], "answer_start": [0]},
        }
        for n in range(60)
        for q in range(3)
    ]
    config = PrepareConfig(valid_share=0.2, test_share=0.2)
    done, _ = prepare_dataset(config, "t", "question_answering", {"train": asked})
    contexts = [{row["context"] for row in done[split]} for split in ("train", "valid", "test")]
    assert all(contexts)
    assert sum(map(len, contexts)) == len(set.union(*contexts)) == 60
    assert sum(map(len, done.values())) == 180

    first = PAIR | {"prompt": "Human: Hi"}
    second = PAIR | {"prompt": "Human: Hi\n\nAssistant: Ada.\n\nHuman: Who?"}
    assert digest_row(first).group == digest_row(second).group
    assert digest_row(first).asked != digest_row(second).asked


def test_tag_type_that_train_does_not_have_is_named() -> None:
    test = {"tokens": ["Oxley"], "tags": ["B-LOC"]}
    with pytest.raises(
        ValueError, match="t: test row test0: tag type 'LOC' does not occur in train; expected one of PER"
    ):
        prepare("token_classification", [ENTITY], test=[test])
    with pytest.raises(ValueError, match="t: tag type: expected at least one type of tag beside O in train, got none"):
        prepare("token_classification", [{"tokens": ["Ada"], "tags": ["O"]}])


def test_contamination_of_every_kind() -> None:
    index = HeldOutIndex(13, 8)
    words = [f"word{n}" for n in range(60)]
    context, asked, prompt, tokens = (" ".join(words[n : n + 15]) for n in (0, 15, 30, 45))
    answers = {"text": ["word0"], "answer_start": [0]}
    index.add("qa/test", {"id": "q", "question": asked, "context": context, "answers": answers})
    chosen, rejected = "yes it is so", "no it is not so at all"
    index.add("pair/test", {"id": "p", "prompt": prompt, "chosen": chosen, "rejected": rejected})
    index.add("ner/test", {"id": "n", "tokens": tokens.split(), "tags": ["O"] * 15})

    def items(text: str) -> list[str]:
        return [overlap.item for overlap in index.find(f"Before that, {text}! And after.")]

    assert items(context) == ["q"]
    assert items(asked) == ["q"]
    assert items(prompt) == ["p"]
    assert items(f"{' '.join(prompt.split()[-9:])} {chosen}") == ["p"]
    assert items(f"{' '.join(prompt.split()[-8:])} {rejected}") == ["p"]
    assert items(tokens) == ["n"]
    assert items(rejected) == []
