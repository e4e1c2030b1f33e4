"""The prompts of the audits of generated answers, and identity words brought to one side."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.audits import refusal_parity, sentiment_gap
from tasks.audits.answer_gaps import GeneratedAnswersConfig
from tasks.audits.generated_answers import audit
from tasks.audits.lexicon import load_lexicon
from tasks.audits.prompts import IdentityPair, OneSide, Prompts, build, load_prompts

LEXICON = load_lexicon()
CONFIG = GeneratedAnswersConfig(samples=4, resamples=100)
PROMPTS = load_prompts()


@pytest.mark.parametrize("axis", ["gender", "age", "religion", "origin"])
def test_the_own_prompts_differ_in_the_person_alone_and_carry_no_sentiment(axis):
    found = build(PROMPTS, [axis], 10_000, LEXICON)
    assert len(found) == 60 * len(PROMPTS.pairs[axis])
    assert len({item.id for item in found}) == len(found)
    for item in found:
        assert item.a != item.b
        assert item.one_side(item.a).lower() == item.one_side(item.b).lower()
        assert sentiment_gap.compound(item.a) == sentiment_gap.compound(item.b) == 0
        assert item.a[0].isupper()
        assert "{" not in item.a + item.b


def test_a_small_budget_still_asks_about_all_domains_and_people():
    prompts = Prompts(
        templates={"home": ["{person} cooks.", "{person} reads."], "work": ["Does {person} dig?"]},
        pairs={"gender": [{"a": "a man", "b": "a woman"}, {"a": "James", "b": "Mary"}]},
    )
    found = build(prompts, ["gender"], 9, LEXICON)
    assert [(item.domain, item.a, item.b) for item in found] == [
        ("home", "A man cooks.", "A woman cooks."),
        ("work", "Does James dig?", "Does Mary dig?"),
        ("home", "A man reads.", "A woman reads."),
        ("home", "James cooks.", "Mary cooks."),
    ]
    assert len(build(prompts, ["gender"], 1000, LEXICON)) == 6
    both = build(PROMPTS, ["gender", "age"], 240, LEXICON)
    assert [item.axis for item in both] == ["gender"] * 60 + ["age"] * 60
    assert len({item.template for item in both}) == 60


@pytest.mark.parametrize(
    ("axes", "most", "message"),
    [
        (["star sign"], 240, "axes: 'star sign' has no identity pairs, expected one of gender, age, religion, origin"),
        (["age", "age"], 240, "axes: expected each axis once, got age, age"),
        (["age", "gender"], 3, "max_prompts: expected at least 2 for each of 2 axes, got 3"),
    ],
)
def test_axes_that_cannot_be_asked_are_named(axes, most, message):
    with pytest.raises(ValueError, match=message):
        build(PROMPTS, axes, most, LEXICON)


def test_prompts_without_a_template_are_named():
    with pytest.raises(ValueError, match="templates: expected at least one, got none"):
        build(Prompts(pairs=PROMPTS.pairs), ["age"], 240, LEXICON)


def test_people_whose_difference_is_not_listed_are_refused_before_anything_is_generated():
    prompts = Prompts(
        templates=PROMPTS.templates, pairs={"gender": [IdentityPair(a="a tall person", b="a short person")]}
    )
    with pytest.raises(ValueError, match=r"pairs\.gender\[0\]: 'a tall person' and 'a short person' still differ"):
        audit(lambda *_: pytest.fail("generated"), CONFIG, None, prompts=prompts)


def test_a_user_extends_the_prompts(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "templates: {music: ['Which song does {person} sing?']}\n"
        "pairs: {height: [{a: a tall person, b: a short person, words: [[tall, short]]}]}\n"
        "refusals: ['\\bnope\\b']\n",
        encoding="utf-8",
    )
    found = load_prompts(path)
    assert len(build(found, ["height"], 1000, LEXICON)) == 61
    assert refusal_parity.Refusals(found.refusals).match("Nope.") == r"\bnope\b"
    asked = []

    def generate(prompts, samples, seed):
        asked.extend(prompts)
        return [samples * [f"The {'short' if n % 2 else 'tall'} one sang {n // 2}."] for n in range(len(prompts))]

    config = CONFIG.model_copy(update={"axes": ["height"], "prompts": path})
    similarity = audit(generate, config, None)[1]
    assert (similarity.audit, similarity.estimate) == ("counterfactual_similarity", 0)
    assert "Which song does a short person sing?" in asked


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("templates: {x: ['What now?']}\n", r"templates\.x\[0\]: expected \{person\} once, got 'What now\?'"),
        ("templates: {x: ['{person} met his son.']}\n", r"templates\.x\[0\]: expected no gendered word"),
        (f"templates: {{x: ['{{person}} {'very ' * 20}']}}\n", "expected at most 16 words"),
        ("templates: {x: ['What is the job of {person}?']}\n", r"already stands in templates\.work\[0\]"),
        ("templates: {x: What}\n", r"templates\.x: .*list, got 'What'"),
        ("pairs: {gender: [{a: a man, b: a woman}]}\n", r"pairs\.gender\[6\]: expected two new names"),
        ("pairs: {age: [{a: x, b: y, words: [[x, y], [x, z]]}]}\n", r"pairs\.age\.0: .*'x' already stands in"),
        ("pairs: {age: [{a: x}]}\n", r"pairs\.age\.0\.b: Field required"),
        ("refusals: ['(no']\n", r"refusals\[0\]: expected a regular expression, got '\(no'"),
        ("refusals: ['(no)?']\n", r"refusals\[0\]: expected a pattern that needs some text"),
        ("refusal: []\n", "refusal: Extra inputs are not permitted"),
        ("- a\n", "expected a mapping of sections, got list"),
        ("pairs: [\n", "is not YAML"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        load_prompts(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.yaml: there is no such file"):
        load_prompts(tmp_path / "gone.yaml")


# Identity words on one side


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("He met his sister.", "She met her brother."),
        ("They saw him leave.", "They saw her leave."),
        ("The house is his.", "The house is hers."),
        ("HIS son, Mr Lee", "HER daughter, Miss Lee"),
        ("James is a hero.", "Mary is a heroine."),
        ("His is better.", "Her is better."),
    ],
)
def test_identity_words_do_not_count(a, b):
    one_side = OneSide(LEXICON)
    assert one_side(a) == one_side(b)
    assert one_side("The weather, again.") == "The weather, again."


def test_an_axis_leaves_the_other_words_alone():
    old = IdentityPair(a="a young person", b="an old person", words=[["young", "old"], ["a", "an"]]).one_side(LEXICON)
    assert old("An old woman and her dog") == "A young woman and her dog"


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.sampled_from(
            [w for pair in [*LEXICON.words, *LEXICON.names] for w in pair]
            + ["her hat", "saw him.", "is hers.", "Mr Poe", "Ms Poe", "the", "river,", "Ben", "7", "HER", "ma'am"]
        ),
        max_size=10,
    ).map(" ".join)
)
def test_both_versions_of_a_text_come_to_the_same_side(text):
    one_side = OneSide(LEXICON)
    assert one_side(one_side(text)) == one_side(text)
    assert one_side(LEXICON.swap(text) or text) == one_side(text)


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=60))
def test_any_answer_is_survived(text):
    OneSide(LEXICON)(text)
    refusal_parity.Refusals(PROMPTS.refusals).match(text)
