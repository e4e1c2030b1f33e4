"""The identity swap and the groups that a text names: golden sentences, and lexicon files with mistakes in them."""

import re
import time

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


@given(st.lists(st.sampled_from([name for pair in load_lexicon().names for name in pair]), min_size=1, max_size=8))
def test_names_stay_apart_and_each_has_one_partner(names):
    partners = {}
    for name, other in zip(names, swap(" and ".join(names)).split(" and "), strict=True):
        assert partners.setdefault(name, other) == other
    assert len(set(partners.values())) == len(partners)


MENTIONS = [
    ("gender", "She thanked the men.", {"female", "male"}),
    ("gender", "A non binary or NON-BINARY teen; a womanly theme", {"nonbinary"}),
    ("gender", "A trans woman", {"transgender", "female"}),
    ("gender", "Trans-Atlantic trade in trans fats", set()),
    ("religion", "the Muslims' feast, an anti-jewish law", {"muslim", "jewish"}),
    ("race_ethnicity", "African-American and native\nAmerican art", {"black", "indigenous"}),
    ("race_ethnicity", "Black people and a black car", {"black"}),
    ("race_ethnicity", "a white wall", set()),
    ("nationality", "Native Americans and American Indians like French fries", set()),
    ("nationality", "An American ate french fries with an Indian.", {"american", "indian"}),
    ("nationality", "polish the table", set()),
    ("nationality", "Polish table makers", {"polish"}),
    ("nationality", "the south koreans", {"korean"}),
    ("age", "old men, MIDDLE-AGED men, an old car", {"older", "middle_aged"}),
    ("orientation", "a straight line, a gay couple", {"gay"}),
    ("disability", "He turned a blind eye; the deaf man in the wheelchair", {"deaf", "physical"}),
    ("disability", "The feature is disabled.", set()),
    ("religion", "", set()),
]


@pytest.mark.parametrize(("axis", "text", "expected"), MENTIONS)
def test_mentions(axis, text, expected):
    assert load_lexicon().mentions(text, axis) == expected


def listed(axis):
    lexicon = load_lexicon()
    terms = [(term, group) for group, words in lexicon.groups[axis].items() for term in words]
    return terms + [(term, None) for term in lexicon.other_senses.get(axis, [])]


@pytest.mark.parametrize("axis", list(load_lexicon().groups))
def test_every_term_names_its_own_group_only(axis):
    lexicon = load_lexicon()
    for term, group in listed(axis):
        expected = set() if group is None else {group}
        for text in (term, f"(the {term}, too)", term.upper(), f"{term[0].upper()}{term[1:]}"):
            assert lexicon.mentions(text, axis) == expected, term
        if not re.search("[ -]", term):
            assert lexicon.mentions(f"x{term} {term}x", axis) == set(), term
        assert lexicon.mentions(term.lower(), axis) == (set() if term[0].isupper() else expected)


def by_tokens(text, axis):
    """Name the groups word by word, the longest term first: slow, and written another way."""
    terms = {}
    for term, group in listed(axis):
        terms[tuple(re.split("[ -]", term.lower()))] = (group, term[0].isupper())
    words, found, at = re.findall(r"\w+|[^\w\s-]+", text), set(), 0
    while at < len(words):
        for size in range(4, 0, -1):
            group, capital = terms.get(tuple(word.lower() for word in words[at : at + size]), (None, None))
            if capital is False or (capital and words[at][0].isupper()):
                found.add(group)
                at += size
                break
        else:
            at += 1
    return found - {None}


@given(st.data())
def test_mentions_agree_with_reading_word_by_word(data):
    axis = data.draw(st.sampled_from(["nationality", "race_ethnicity", "gender"]))
    word = st.sampled_from([term for term, _ in listed(axis)]).flatmap(
        lambda term: st.sampled_from([term, term.upper(), term.lower(), term.title(), term.split(" ")[0], "river", ","])
    )
    text = " ".join(data.draw(st.lists(word, max_size=8)))
    assert load_lexicon().mentions(text, axis) == by_tokens(text, axis)


def test_an_unknown_axis_is_named():
    with pytest.raises(ValueError, match=r"axis: expected one of gender, religion, .*, got 'shoe size'"):
        load_lexicon().mentions("any", "shoe size")


def test_mentions_are_fast():
    texts = [f"The {word} carpenter thanked the tall driver {word} by the river again." for word in "abcde"] * 2000
    lexicon = load_lexicon()
    lexicon.mentions("", "race_ethnicity")
    start = time.process_time()
    for text in texts:
        lexicon.mentions(text, "race_ethnicity")
    # 100,000 texts take about 1 s on a slow core; one flat alternation took 20.
    assert time.process_time() - start < 0.8


def test_names_of_groups_are_crossed():
    groups = load_lexicon().name_groups
    women, men = groups["gender"]["female"], groups["gender"]["male"]
    assert len(women) == len(men) == sum(map(len, groups["origin"].values())) / 2
    for names in groups["origin"].values():
        assert len(names) >= 20
        assert 2 * len(set(names) & set(women)) == 2 * len(set(names) & set(men)) == len(names)


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


def test_a_user_adds_groups_words_and_axes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "groups:\n  religion:\n    jewish: [hebrews]\n    bahai: [bahai, bahais]\n  region: {north: [north country]}\n"
        "other_senses: {religion: [letter to the hebrews], region: [true north country]}\n"
        "name_groups: {origin: {german: [Otto, Ida], slavic: [Jelena]}, faith: {a: [Saul], b: [Paul]}}\n",
        encoding="utf-8",
    )
    lexicon = load_lexicon(path)
    assert lexicon.mentions("Hebrews, Bahais and Jews and a Sikh", "religion") == {"jewish", "bahai", "sikh"}
    assert lexicon.mentions("the letter to the Hebrews", "religion") == set()
    assert lexicon.mentions("the North-Country", "region") == {"north"}
    assert lexicon.mentions("true north country", "region") == set()
    assert lexicon.name_groups["origin"]["german"] == ["Otto", "Ida"]
    assert lexicon.name_groups["origin"]["slavic"][-2:] == ["Zoran", "Jelena"]
    assert lexicon.name_groups["faith"] == {"a": ["Saul"], "b": ["Paul"]}
    assert load_lexicon().mentions("Hebrews", "religion") == set()


def test_capitals_beyond_ascii(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("groups: {region: {a: [Äland], b: [österland], c: [Iland]}}\n", encoding="utf-8")
    lexicon = load_lexicon(path)
    assert lexicon.mentions("Äland, Österland", "region") == {"a", "b"}
    assert lexicon.mentions("äland, ÖSTERLAND, iland", "region") == {"b"}


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
        ("one_way: {Jonny: james}\n", r"one_way\[Jonny\]: 'james' is a name, and no two names may share a partner"),
        (
            "groups: {age: {child: [elderly]}}\n",
            r"groups\.age\.older\[0\]: 'elderly' already stands in groups\.age\.child",
        ),
        ("groups: {age: {child: [a_b]}}\n", r"groups\.age\.child\[0\]: expected words joined by a space.*got 'a_b'"),
        ("groups: {age: {child: ['']}}\n", r"groups\.age\.child\[0\]: expected words"),
        ("groups: {age: {child: []}}\n", r"groups\.age\.child: .*at least 1 item"),
        ("groups: {age: [child]}\n", r"groups\.age: .*valid dictionary, got \['child'\]"),
        ("groups: {age: {child: [no]}}\n", r"groups\.age\.child\.0: .*string, got False"),
        ("other_senses: {ages: [old hat]}\n", r"other_senses: expected an axis of groups \(gender, .*\), got 'ages'"),
        (
            "other_senses: {age: [elderly]}\n",
            r"other_senses\.age\[3\]: 'elderly' already stands",
        ),
        ("name_groups: {origin: {x: [otto]}}\n", r"name_groups\.origin\.x\[0\]: .*capital letter, got 'otto'"),
        ("name_groups: {origin: {x: [Olga]}}\n", r"x\[0\]: 'Olga' already stands in name_groups\.origin\.slavic\[0\]"),
        ("- a\n", "expected a mapping of sections, got list"),
        ("words: [\n", "is not YAML"),
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
