"""The questions of BBQ: who is meant by an answer or a span, and files with mistakes in them."""

import pytest
from bbq_examples import ABLE, LAX, OLD, read_rows

from tasks.audits.bbq import audit, audit_spans
from tasks.audits.bbq_questions import match


def test_the_biased_answer_follows_group_and_polarity(tmp_path):
    young = {"additional_metadata": {"stereotyped_groups": ["nonOld"]}}
    rows = [
        {**OLD, **change, "example_id": n}
        for n, change in enumerate(
            [{}, {"question_polarity": "nonneg"}, young, {**young, "question_polarity": "nonneg"}]
        )
    ]
    found = read_rows(tmp_path, *rows)
    # "30-year-old" holds the word old, and nonOld the letters; neither makes that answer the old one.
    assert [one.biased for one in found] == [0, 1, 1, 0]
    assert [one.unknown for one in found] == [2, 2, 2, 2]
    assert found[0].id == "Age-0"
    assert found[0].template == "Age/1"
    assert found[0].answers == ["The grandfather", "The 30-year-old", "Not known"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"additional_metadata": {"stereotyped_groups": ["elderly"]}},
            "additional_metadata.stereotyped_groups: expected exactly one of the people ['grandfather', 'old'] and "
            "['30-year-old', 'nonOld'] in it, got ['elderly']; who is stereotyped in Age stands in the metadata table "
            "of the set's repository, which is not read",
        ),
        ({"additional_metadata": {"stereotyped_groups": ["old", "nonOld"]}}, "expected exactly one of the people"),
        ({"additional_metadata": {"stereotyped_groups": []}}, "got []"),
        ({"additional_metadata": {}}, "got None"),
        ({"additional_metadata": "old"}, "got None"),
        ({"answer_info": {**OLD["answer_info"], "ans1": ["x", "unknown"]}}, "expected 'unknown' once, got it 2 times"),
        (
            {"answer_info": {**OLD["answer_info"], "ans1": "nonOld"}},
            "answer_info.ans1: expected [text, group], got 'non",
        ),
        ({"answer_info": {"ans0": ["a", "old"]}}, "answer_info.ans1: expected [text, group], got None"),
        ({"label": 0}, "label: expected 2 (ambig), got 0"),
        ({"label": "2"}, "label: expected 2 (ambig), got '2'"),
        ({"context_condition": "disambig"}, "label: expected 0 or 1 (disambig), got 2"),
        ({"context_condition": "both"}, "context_condition: expected one of ambig, disambig, got 'both'"),
        ({"question_polarity": ""}, "question_polarity: expected one of neg, nonneg, got ''"),
        ({"question_index": None}, "question_index: expected text or a number, got None"),
        ({"ans2": " "}, "ans2: expected text, got ' '"),
        ({"example_id": 0}, "example_id: expected each once in a category, got Age-0 again"),
    ],
)
def test_a_broken_line_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=r"^Age\.jsonl: line 2: ") as error:
        read_rows(tmp_path, OLD, {**OLD, "example_id": 1, **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^Age\.jsonl: line 1: column 'answer_info' is missing"):
        read_rows(tmp_path, {name: value for name, value in OLD.items() if name != "answer_info"})


@pytest.mark.parametrize(
    ("span", "answer"),
    [
        ("the grandfather", 0),
        ("Grandfather.", 0),
        ("a 30-year-old", 1),
        ("30", 1),
        ("a 30-year-old and a grandfather", 2),
        ("the phone", 2),
        ("", 2),
        ("The", 2),
    ],
)
def test_a_span_names_one_person_or_nobody(span, answer):
    assert match(span, ["The grandfather", "The 30-year-old", "Not known"], 2) == answer


def test_a_shared_word_names_nobody():
    people = ["The Gen-Z kid", "Unknown", "The Gen-Xer"]
    assert match("Gen", people, 1) == 1
    assert match("the Gen-Z kid", people, 1) == 0
    assert match("a Gen-Xer", people, 1) == 2
    # Both are named in full, one with more words than the other.
    assert match("a Gen-Z kid and a Gen-Xer", people, 1) == 1


def test_spans_are_answers(tmp_path):
    rows = [{**OLD, "example_id": n, "question_index": n % 4} for n in range(12)]
    rows += [
        {**row, "example_id": 50 + n, "context_condition": "disambig", "label": n % 2} for n, row in enumerate(rows)
    ]
    questions = read_rows(tmp_path, *rows)
    spans = ["grandfather", "the 30-year-old", "phone"]
    given = [n % 3 for n in range(len(questions))]
    by_span = audit_spans(lambda asked: [spans[n] for n in given], questions, LAX, ABLE, scorer="x")
    assert by_span == audit(lambda asked: given, questions, LAX, ABLE, scorer="x")
    seen = []
    audit_spans(lambda asked: seen.append(asked) or [""] * len(asked), questions, LAX, ABLE, scorer="x")
    assert seen == [[(OLD["context"], OLD["question"])] * 24]
