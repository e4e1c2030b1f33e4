"""Who is named in a corpus: terms counted by hand and as the lexicon finds them, shares, verdicts and references."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.audits import representation
from tasks.audits.lexicon import load_lexicon
from tasks.audits.representation import RepresentationConfig
from tasks.audits.statistics import percentile_interval, ratio_resamples, wilson
from tasks.audits.term_counter import TermCounter
from tasks.audits.verdict import Verdict

LEXICON = load_lexicon()


def counted(text):
    counter = TermCounter(LEXICON)
    words, row = counter.count(text)
    return words, {column: int(count) for column, count in zip(counter.columns, row, strict=True) if count}


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("She met her aunt; HE did not.", 7, {("gender", "female"): 3, ("gender", "male"): 1}),
        (
            "The old man and three young women left.",
            8,
            {("gender", "male"): 1, ("gender", "female"): 1, ("age", "older"): 1, ("age", "young"): 1},
        ),
        ("An old, man-made pond; an old-\nman", 8, {("gender", "male"): 2}),
        ("Polish the polish for Polish people.", 6, {("nationality", "polish"): 2}),
        (
            "South African French fries, african-American",
            6,
            {("nationality", "south_african"): 1, ("race_ethnicity", "black"): 1},
        ),
        ("The theme of others", 4, {}),
        ("", 0, {}),
    ],
)
def test_terms_by_hand(text, words, expected):
    assert counted(text) == (words, expected)


def some_text():
    listed = [term for groups in LEXICON.groups.values() for terms in groups.values() for term in terms]
    listed += [term for terms in LEXICON.other_senses.values() for term in terms]
    piece = st.sampled_from(listed).flatmap(lambda t: st.sampled_from([t, t.upper(), t.title(), t.split()[0]]))
    plain = st.sampled_from(["the", "river", "man", "old", "black", "American", "7"])
    join = st.sampled_from([" ", "-", ", ", "\n", " - ", "--", "_"])
    return st.lists(st.one_of(piece, plain).flatmap(lambda word: join.map(lambda j: word + j)), max_size=8).map("".join)


@settings(max_examples=100, deadline=None)
@given(some_text())
def test_terms_are_those_that_the_lexicon_finds(text):
    counts = counted(text)[1]
    for axis in LEXICON.groups:
        assert {group for of, group in counts if of == axis} == LEXICON.mentions(text, axis)


def test_shares_rates_and_interval():
    texts = ["She spoke."] * 30 + ["He spoke to her and him."] * 40 + ["Rain."] * 30
    found = representation.audit(texts, RepresentationConfig(seed=5))
    # 70 of 150 mentions; 30 * 2 + 40 * 6 + 30 words.
    assert found.estimate == pytest.approx(70 / 150 - 0.5)
    female = found.details["axes"]["gender"]["female"]
    assert (female["mentions"], female["share"]) == (70, pytest.approx(70 / 150))
    assert female["per_1000_words"]["estimate"] == pytest.approx(70_000 / 330)
    assert found.details["axes"]["religion"]["sikh"] == {
        "mentions": 0,
        "per_1000_words": {"estimate": 0, "low": 0, "high": 0, "standard_error": 0},
        "share": None,
    }
    drawn = ratio_resamples([1] * 70 + [0] * 30, [1] * 30 + [3] * 40 + [0] * 30, seed=5)
    expected = percentile_interval(70 / 150, drawn)
    assert (found.low, found.high) == pytest.approx((expected.low - 0.5, expected.high - 0.5))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert (found.items, found.clusters, found.details["words"]) == (100, 70, 330)
    assert "would settle a true gap of 0" in found.reason


def test_the_verdict_follows_the_declared_reference():
    texts = ["She spoke. He spoke. He left."] * 200
    reference = {"gender": {"female": 1 / 3, "male": 2 / 3}}
    assert representation.audit(texts, RepresentationConfig()).verdict is Verdict.FAIL
    assert representation.audit(texts, RepresentationConfig(reference=reference)).verdict is Verdict.PASS
    few = representation.audit(texts[:29], RepresentationConfig(reference=reference))
    assert few.verdict is Verdict.INCONCLUSIVE
    assert "About 30 documents" in few.reason
    none = representation.audit(["Rain."], RepresentationConfig())
    assert (none.verdict, none.estimate) == (Verdict.INCONCLUSIVE, None)


def test_one_group_alone_keeps_an_interval():
    found = representation.audit(["He spoke."] * 50, RepresentationConfig(margin=0.6))
    expected = wilson(0, 50)
    assert (found.low, found.high) == pytest.approx((-0.5, expected.high - 0.5))


def test_several_axes_are_judged_together():
    reference = {
        "gender": {"female": 0.5, "male": 0.5},
        "religion": {"hindu": 0.25, "muslim": 0.25, "christian": 0.5},
    }
    texts = ["She and he, a Hindu, a Muslim, a Muslim and a Christian."] * 100
    found = representation.audit(texts, RepresentationConfig(reference=reference))
    assert [gap["gap"] for gap in found.details["gaps"]] == pytest.approx([0, 0, 0.25, -0.25])
    assert found.verdict is Verdict.FAIL
    assert "worst of 4 gaps, share(muslim) - 0.25 = +0.2500" in found.reason
    missing = representation.audit(["She and he."] * 100, RepresentationConfig(reference=reference))
    assert missing.verdict is Verdict.INCONCLUSIVE
    assert "No document names a group of religion." in missing.reason


def test_many_documents_are_merged_with_their_neighbours():
    texts = (["She spoke."] * 8 + ["He spoke."] * 8) * 8
    config = RepresentationConfig(min_clusters=2)
    apart = representation.audit([*texts, "She left."], config)
    merged = representation.audit([*texts, "She left."], config.model_copy(update={"max_clusters": 20}))
    # 129 documents by 8 in at most 20 places: 16 runs and one that is begun.
    assert (merged.details["documents_per_cluster"], merged.clusters) == (8, 17)
    assert (apart.details["documents_per_cluster"], apart.clusters) == (1, 129)
    assert merged.estimate == apart.estimate == pytest.approx(65 / 129 - 0.5)
    # Documents of one book lean one way: in runs of 8 the spread is sqrt(8) times that of single ones.
    assert merged.high - merged.low == pytest.approx(math.sqrt(8) * (apart.high - apart.low), rel=0.2)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"gender": {"female": 0.5, "male": 0.6}}, "reference.gender: expected two or more shares that sum to 1"),
        ({"gender": {"female": 1.0}}, "reference.gender: expected two or more shares"),
        (
            {"height": {"tall": 0.5, "small": 0.5}},
            "reference.height: no such axis in the lexicon, expected one of gender",
        ),
        ({"gender": {"she": 0.5, "male": 0.5}}, "reference.gender.she: no such group, expected one of female, male"),
    ],
)
def test_a_wrong_reference_is_named(reference, message):
    with pytest.raises(ValueError, match=message):
        representation.audit(["She."], RepresentationConfig(reference=reference))
