"""The identity swap: golden sentences, the way back, and lexicon files with mistakes in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.audits.lexicon import DEFAULT_PATH, load_lexicon, swap

GOLDEN = [
    ("He said that she left.", "She said that he left."),
    ("I saw her.", "I saw him."),
    ("I saw her", "I saw him"),
    ("I told her that it rains.", "I told him that it rains."),
    ("We gave her a book.", "We gave him a book."),
    ("They met her in town.", "They met him in town."),
    ("She turned her back on her home.", "He turned his back on his home."),
    ("He made his will against her will.", "She made her will against his will."),
    ("her up-turned face", "his up-turned face"),
    ("Her hat is red.", "His hat is red."),
    ("It was her own idea.", "It was his own idea."),
    ("She read her “favourite” book.", "He read his “favourite” book."),
    ("The book is hers.", "The book is his."),
    ("The book is his.", "The book is hers."),
    ("His is better.", "Hers is better."),
    ("His house is old.", "Her house is old."),
    ("a friend of his and a cat", "a friend of hers and a cat"),
    ("his or her house", "her or his house"),
    ("They thanked him, then her.", "They thanked her, then him."),
    ('"I saw her," Ben said.', '"I saw him," Ben said.'),
    ('"I saw her" Ben said.', '"I saw him" Ben said.'),
    ("I saw her\n\nBen left.", "I saw him\n\nBen left."),
    ("He hurt himself; SHE DID TOO.", "She hurt herself; HE DID TOO."),
    ("Mr. Smith met Mrs Jones.", "Mrs. Smith met Mr Jones."),
    ("Ms Lee came.", "Mr Lee came."),
    ("The man's wife, a waitress", "The woman's husband, a waiter"),
    ("James thanked Mary's mother-in-law.", "Mary thanked James's father-in-law."),
    ("he's sure she'll come", "she's sure he'll come"),
    ("JAMES AND HIS SON", "MARY AND HER DAUGHTER"),
]


@pytest.mark.parametrize(("text", "expected"), GOLDEN)
def test_golden(text, expected):
    assert swap(text) == expected


@pytest.mark.parametrize(
    "text", ["", "The weather is fine.", "There the others gather.", "You will miss it.", "mary, paul"]
)
def test_nothing_to_swap(text):
    assert swap(text) is None
    assert load_lexicon().group(text) is None


def test_group():
    lexicon = load_lexicon()
    assert lexicon.group("His son came.") == "he"
    assert lexicon.group("Ms Lee and her aunt") == "she"
    assert lexicon.group("He met Alice.") == "both"


def unambiguous():
    lexicon = load_lexicon()
    words = [word for pair in [*lexicon.words, *lexicon.names] for word in pair]
    phrases = ["her hat", "his hat", "saw her.", "saw him.", "is hers.", "is his.", "Mr Poe", "Mrs Poe"]
    plain = ["the", "river", "and", "Ben", "7", "—", "is", "blue,", "\n", "It's"]
    piece = st.sampled_from(words).flatmap(lambda word: st.sampled_from([word, word.upper()]))
    return st.lists(st.one_of(piece, st.sampled_from(phrases + plain)), max_size=12).map(" ".join)


@given(unambiguous())
def test_swapping_twice_gives_the_text_back(text):
    once = swap(text)
    assert swap(once if once is not None else text) == (text if once is not None else None)


@given(unambiguous())
def test_swap_changes_sides_and_nothing_else(text):
    lexicon = load_lexicon()
    once = lexicon.swap(text)
    if once is not None:
        assert len(once.split()) == len(text.split())
        other = {"he": "she", "she": "he", "both": "both"}
        assert lexicon.group(once) == other[lexicon.group(text)]


@given(st.text(max_size=60))
def test_any_text_is_survived(text):
    swap(text)


def test_occupations_are_balanced_and_plain():
    jobs = load_lexicon().occupations
    assert len(jobs.he) == len(jobs.she) >= 20
    assert all(swap(job) is None for job in [*jobs.he, *jobs.she])


def test_a_user_extends_the_lexicon(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "words:\n  - [squire, dame]\nnames:\n  - [Otto, Ida]\noccupations: {he: [roofer]}\n"
        "one_way: {governess: tutor}\n",
        encoding="utf-8",
    )
    lexicon = load_lexicon(path)
    assert lexicon.swap("Otto, a squire; she; the governess") == "Ida, a dame; he; the tutor"
    assert "roofer" in lexicon.occupations.he
    assert "carpenter" in lexicon.occupations.he
    assert swap("Otto, a squire") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("words:\n  - [he, hen]\n", r"words\[\d+\] \['he', 'hen'\]: 'he' already stands in words\[0\]"),
        ("words:\n  - [one]\n", r"words\.0: .*at least 2.*got \['one'\]"),
        ("words:\n  - [his, hers]\n", "'his' is decided by the word after it"),
        ("names:\n  - [Anna Maria, Otto]\n", "expected one word of letters or digits, got 'Anna Maria'"),
        ("function_words: [on]\n", r"function_words\.0: .*string, got True"),
        ("wrods: []\n", "wrods: Extra inputs are not permitted"),
        ("occupations: {he: [nurse]}\n", r"occupations\.she\[0\]: 'nurse' already stands in occupations\.he"),
        ("- a\n", "expected a mapping of sections, got list"),
        ("words: [\n", "expected YAML"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        load_lexicon(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_lexicon_travels_with_the_package():
    assert DEFAULT_PATH.is_file()
