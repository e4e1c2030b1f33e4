"""Robustness: paired differences with golden values, tags that stay with their words, and negations by oracles."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.paired import terms
from tasks.robustness import (
    Templates,
    change_row,
    choose,
    load_templates,
    lost,
    measure,
    negations,
    score,
)

TAGGED = {
    "id": "0",
    "tokens": ["Dr", "Reed", "left", "Ash", ",", "Inc", ".", "!"],
    "tags": ["B-PER", "I-PER", "O", "B-ORG", "I-ORG", "I-ORG", "I-ORG", "O"],
}
REVIEWS = [{"id": str(i), "text": f"Number {i} was good.", "label": "ab"[i % 2]} for i in range(40)]
POLARITY: Any = {"positive": "a", "negative": "b"}


class Oracle:
    """A classifier that answers by a rule."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule

    def classify(self, texts: list[str]) -> tuple[list[str], None]:
        return [self.rule(text) for text in texts], None


def test_the_difference_is_paired_row_by_row() -> None:
    clean, changed = (terms(values) for values in ([1] * 100, [0] * 20 + [1] * 80))
    found = lost(clean, changed, seed=0)
    assert found.estimate == pytest.approx(0.2)
    # 20 of 100 differ: the standard error is sqrt(.2 * .8 / 100) = .04.
    assert found.standard_error == pytest.approx(0.04, abs=0.004)
    assert (found.low, found.high) == (pytest.approx(0.12, abs=0.02), pytest.approx(0.28, abs=0.02))
    # A clean score that is no better known than the difference of the pairs does not widen it.
    noisy = np.arange(100) % 2
    assert lost(terms(noisy), terms(noisy - 0.1), 0).standard_error < 0.003


def test_without_a_differing_row_the_interval_is_wilsons() -> None:
    found = lost(terms([1] * 50), terms([1] * 50), 0)
    assert (found.estimate, found.high, found.low) == (0.0, pytest.approx(0.0714, abs=1e-3), -found.high)


def test_tags_stay_with_their_words() -> None:
    bare = change_row("token_classification", TAGGED, "punctuation", np.random.default_rng(0))
    assert bare is not None
    # The marks inside of the firm's name are its own.
    assert bare["tokens"] == TAGGED["tokens"][:-1]
    assert bare["tags"] == TAGGED["tags"][:-1]
    slips = change_row("token_classification", TAGGED, "typos", np.random.default_rng(0))
    assert slips is not None
    assert slips["tags"] == TAGGED["tags"]
    assert len(slips["tokens"]) == 8
    assert sum(a != b for a, b in zip(slips["tokens"], TAGGED["tokens"], strict=True)) == 1
    assert change_row("token_classification", TAGGED, "spaces", np.random.default_rng(0)) is None


def test_only_what_is_asked_is_changed() -> None:
    row = {"id": "0", "question": "Who Owns It?", "context": "Ada Does.", "answers": {"text": ["Ada"]}}
    changed = change_row("question_answering", row, "upper", np.random.default_rng(0))
    assert changed == {**row, "question": "WHO OWNS IT?"}
    row = {"id": "0", "instruction": "Say It.", "input": "", "output": "It."}
    assert change_row("instruction", row, "lower", np.random.default_rng(0)) == {**row, "instruction": "say it."}


def test_a_model_that_reads_capitals_alone_loses_all_under_small_letters() -> None:
    def answer(rows: list[dict[str, Any]]) -> list[str]:
        return [REVIEWS[int(row["id"])]["label"] if row["text"].strip().startswith("N") else "?" for row in rows]

    table, items = measure("classification", answer, REVIEWS, answer(REVIEWS), seed=0)
    found = {row["name"]: row for row in table}
    assert list(found) == ["typos", "lower", "upper", "spaces", "punctuation"]
    assert (found["lower"]["lost"], found["lower"]["flips"], found["lower"]["lost_share"]) == (1.0, 1.0, 1.0)
    assert (found["upper"]["lost"], found["upper"]["changed"]) == (0.0, 40)
    assert items["lower"] == (terms([1] * 40), terms([0] * 40))
    assert measure("classification", answer, REVIEWS, answer(REVIEWS), seed=0) == (table, items)


def test_what_no_change_touches_loses_nothing_for_certain() -> None:
    rows = [{**row, "text": "small"} for row in REVIEWS]
    table, _ = measure("classification", lambda asked: ["a"] * len(asked), rows, ["a"] * 40, seed=0)
    small = next(row for row in table if row["name"] == "lower")
    assert (small["changed"], small["lost"], small["low"], small["high"]) == (0, 0.0, 0.0, 0.0)


def test_entities_are_scored_as_the_assessment_scores_them() -> None:
    from tasks.metrics import entity_scores

    answers = [["B-PER", "I-PER", "O", "O", "O", "O", "O", "O"], TAGGED["tags"]]
    rows = [TAGGED, TAGGED]
    whole = entity_scores(answers, [row["tags"] for row in rows], resamples=0).scores["f1"].value  # type: ignore[misc]
    assert score("token_classification", answers, rows).value == pytest.approx(whole) == pytest.approx(6 / 7)


def test_a_negation_must_turn_praise_into_blame() -> None:
    templates = load_templates()

    def hears(text: str) -> str:
        praised = any(word in text for word in templates.positive)
        return "ab"[praised == any(no in text for no in ("not", "n't", "never"))]

    found, items = negations(Oracle(hears), POLARITY, templates, 0)  # type: ignore[arg-type]
    assert (found["clean"], found["perturbed"], found["flips"], found["n"]) == (1.0, 1.0, 1.0, 200)
    deaf = Oracle(lambda text: "ab"[not any(word in text for word in templates.positive)])
    found, items = negations(deaf, POLARITY, templates, 0)  # type: ignore[arg-type]
    assert (found["clean"], found["perturbed"], found["lost"], found["flips"]) == (1.0, 0.0, 1.0, 0.0)
    assert items == (terms([1] * 200), terms([0] * 200))
    # A third label is right for blame that is taken back, wrong for praise that is.
    third = Oracle(lambda text: "c" if "not" in text or "n't" in text or "never" in text else deaf.rule(text))
    found, _ = negations(third, POLARITY, templates, 0)  # type: ignore[arg-type]
    assert found["perturbed"] == pytest.approx(0.5, abs=0.1)


def test_a_file_of_templates_adds_to_the_projects(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text('things: [policy]\ntemplates: [{plain: "A {thing}, {word}.", negated: "No {word} {thing}."}]\n')
    own = load_templates(path)
    assert own.things[-1] == "policy"
    assert len(own.templates) == len(load_templates().templates) + 1
    path.write_text('templates: [{plain: "A {thing}.", negated: "No {word} {thing}."}]\n')
    with pytest.raises(ValueError, match=r"own\.yaml: templates\[0\]\.plain: expected a sentence with \{thing\} and"):
        load_templates(path)
    path.write_text("thing: [policy]\n")
    with pytest.raises(ValueError, match=r"own\.yaml: thing: "):
        load_templates(path)
    with pytest.raises(ValueError, match=r"none\.yaml: no such file"):
        load_templates(tmp_path / "none.yaml")


def test_the_choice_of_rows_is_seeded_and_in_order() -> None:
    rows = [{"id": i} for i in range(1000)]
    chosen = [row["id"] for row in choose(rows, 1)]
    assert len(chosen) == 200
    assert chosen == sorted(chosen)
    assert chosen == [row["id"] for row in choose(rows, 1)] != [row["id"] for row in choose(rows, 2)]
    assert choose(rows[:5], 1) == rows[:5]
    assert Templates().things == []
