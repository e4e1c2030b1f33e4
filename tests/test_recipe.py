"""Recipes: every one that is shipped parses, and a fault is one line that names it."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from workspaces import TINY

from tasks.code import PROJECT
from tasks.recipe import Recipe, load_recipe

RECIPES = sorted((PROJECT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_parse_and_are_named_after_their_file(path: Path) -> None:
    assert load_recipe(path).name == path.stem


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain.train.stepz=3", "pretrain.train.stepz: there is no such field; did you mean steps?"),
        ("pretrian.train.steps=3", "pretrian: there is no such field; did you mean pretrain?"),
        ("data.datasets.reviews.trian=[]", "data.datasets.reviews.trian: there is no such field; did you mean train?"),
        ("pretrain.train.steps=many", "pretrain.train.steps: "),
        ("pretrain.train.steps=0", "pretrain.train.steps: "),
        ("pretrain.model.size=huge", "pretrain.model.size: "),
        ("pretrain.model.hidden=33", "hidden is 33"),
        (
            "specialists.reviews.data=nowhere",
            "no data set 'nowhere'; there are corpus, preferences, questions, reviews",
        ),
        ("specialists.reviews.data=questions", "is of kind instruction, expected classification"),
        ("name=A B", "'A B' is no slug"),
        ("name=../x", "is no slug"),
        ("seed=-1", "seed: "),
        ("pretrain.train.steps", "expected dotted.key=value"),
        ("name.x=1", "name has no fields of its own"),
        ("name=[", "is not a YAML value"),
        ("pretrain=null", "pretrain: "),
        ("data.datasets.corpus=null", "data.datasets.corpus: "),
        ("pretrain.train=null", "pretrain: train is missing: without a base there is nothing to take as it is"),
        ("pretrain.objective=masked_lm", "model.family is llama, which learns causal_lm, not masked_lm"),
        ("pretrain.model.family=bert", "model.family is bert, which learns masked_lm, not causal_lm"),
        ("specialists.assistant.task=token_classification", "is of kind instruction, expected token_classification"),
        ("specialists.clerk.start=reviews", "specialists.clerk.start: 'reviews' is a classification model, expected a"),
        ("specialists.clerk.start=clerk", "'clerk' is not listed before it; there are foundation, reviews, assistant"),
        ("specialists.reviews.start=assistant", "'assistant' is not listed before it; there are foundation"),
        (
            "specialists.clerk.task=rlhf",
            "specialists.clerk.reward: '' is no specialist of task reward before it; there",
        ),
        ("specialists.clerk.reward=reviews", "specialists.clerk.reward: is for task rlhf, but this one is preference"),
        (
            "specialists.clerk.adapter={rnak: 4}",
            "specialists.clerk.adapter.rnak: there is no such field; did you mean ra",
        ),
        ("specialists.clerk.preference.beta=0", "specialists.clerk.preference.beta: "),
        (
            "adapt={data: nowhere, train: {steps: 1}}",
            "adapt.data: 'nowhere' is no data set of kind text; there are corpus",
        ),
        ("adapt={data: corpus}", "adapt.train: is missing"),
        ("robustness.polarity={assistant: {positive: a, negative: b}}", "'assistant' is no classifier of the recipe"),
        ("robustness.polarity={reviews: {positive: a}}", "polarity.reviews: expected a label for positive and"),
        ("in_context={tasks: {}}", "in_context.tasks: "),
        ("in_context={taks: {}}", "in_context.tasks: is missing"),
        ("schedule={cron: 0 3 * * 8}", "schedule.cron: '0 3 * * 8' is no cron expression, expected five fields"),
        ("schedule={cron: 0 3 * * 1, timezone: Mars}", "schedule.timezone: 'Mars' is no time zone, expected a name"),
        ("schedule={timezone: UTC}", "schedule.cron: is missing"),
        ("schedule={cron: 0 3 * * 1, flow: pretraining}", "schedule.flow: "),
    ],
)
def test_a_bad_override_is_one_line_that_names_the_field(tiny: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        load_recipe(tiny, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected named fields"),
        ("- a", "expected named fields"),
        ("a: [", "line 1, column 5 is not YAML"),
        ("a: \x01", "is not YAML"),
        ("name: a\nseed: 1\nseed: 2", "line 3, column 1: 'seed' stands twice"),
        ("seed: !!float x", "is not YAML (could not convert string to float: 'x')"),
        ("name: x", "data: is missing"),
        ("extends: 3", "extends: expected a file name"),
        ("extends: gone.yaml", "there is no such recipe"),
        ("extends: tiny.yaml", "extends itself"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"\S") as error:
        load_recipe(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recipe_states_only_what_differs_from_another(tiny: Path) -> None:
    child = tiny.with_name("child.yaml")
    child.write_text("extends: tiny.yaml\nname: child\npretrain: {train: {learning_rate: 1e-4}}\n")
    base, derived = load_recipe(tiny), load_recipe(child, ["seed=3"])
    assert derived.pretrain.train.learning_rate == 1e-4
    assert derived.pretrain.train.steps == base.pretrain.train.steps
    assert (derived.name, derived.seed) == ("child", 3)
    assert derived.data == base.data


def test_null_takes_away_what_the_other_recipe_has(tiny: Path) -> None:
    child = tiny.with_name("child.yaml")
    child.write_text(
        "extends: tiny.yaml\nname: child\ndata: {datasets: {preferences: null}}\n"
        "specialists: {assistant: null, clerk: null}\naudit: null\n"
    )
    derived = load_recipe(child)
    assert list(derived.specialists) == ["reviews"]
    assert "preferences" not in derived.data.datasets
    assert derived.audit.occupation_pronoun.halves != "starter"
    child.write_text("extends: tiny.yaml\nname: child\nspecialists: {assistant: null}\n")
    with pytest.raises(ValueError, match="'assistant' is not listed before it"):
        load_recipe(child)


def test_a_masked_foundation_takes_what_reads_and_refuses_what_writes(tiny: Path) -> None:
    masked = ["pretrain.objective=masked_lm", "pretrain.model.family=bert"]
    with pytest.raises(ValueError, match=r"specialists\.assistant\.task: instruction starts from a causal foundation"):
        load_recipe(tiny, masked)
    with pytest.raises(ValueError, match="modernbert has no head for pairs"):
        load_recipe(tiny, ["pretrain.objective=masked_lm", "pretrain.model.family=modernbert"])
    encoder = load_recipe(PROJECT / "recipes" / "encoder.yaml")
    assert [encoder.kind(name) for name in encoder.models()] == [
        "masked_foundation",
        "classification",
        "token_classification",
        "question_answering",
    ]


def test_a_recipe_knows_what_stands_beside_a_specialist(tiny: Path) -> None:
    recipe = load_recipe(tiny)
    assert [recipe.beside(name) for name in recipe.specialists] == ["from_scratch", "from_scratch", "before"]
    assert [recipe.has_control(name) for name in recipe.specialists] == [True, True, False]
    assert recipe.needs("clerk") == ["assistant"]
    assert recipe.needs("reviews") == ["foundation"]
    assert recipe.needs("foundation") == []


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_change_of_a_recipe_makes_more_than_one_line(data: st.DataObject) -> None:
    values = yaml.safe_load(TINY)
    place, path = values, []
    while isinstance(place, dict) and place and (not path or data.draw(st.booleans())):
        path.append(data.draw(st.sampled_from(sorted(place))))
        parent, place = place, place[path[-1]]
    parent[path[-1]] = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=5,
        )
    )
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        changed = Path(directory) / "changed.yaml"
        changed.write_text(yaml.safe_dump(values))
        try:
            assert isinstance(load_recipe(changed), Recipe)
        except ValueError as error:
            assert str(error).startswith(str(changed))
            assert "\n" not in str(error)


def test_a_schedule_is_no_part_of_what_is_kept_or_depended_on(tiny: Path) -> None:
    scheduled = load_recipe(tiny, ["schedule={cron: 0 3 * * 1, timezone: Europe/Berlin}"])
    assert scheduled.schedule is not None
    assert scheduled.model_dump() == load_recipe(tiny).model_dump()
