"""The report's sentences, numbers and pictures."""

import copy
from typing import Any

import pytest
from markdown_it import MarkdownIt
from report_contents import audit, gap, make_content, model, score

from tasks import report_words as words
from tasks.report_audits import arrange_audits, mitigation_view
from tasks.report_examples import entities, example
from tasks.report_pages import escape_markdown, markdown_code
from tasks.report_plots import loss_curves
from tasks.report_plots_audits import forest, occupations, slopes


@pytest.mark.parametrize(
    ("ours", "gained", "says"),
    [
        (0.94, (0.82, 0.77, 0.86), "pretraining holds the knowledge, fine-tuning the skill"),
        (0.30, (0.18, 0.13, 0.23), "most is missed"),
        (0.14, (0.02, -0.01, 0.05), "does not show that pretraining holds the knowledge"),
        (0.12, (0.0, 0.0, 0.0), "does not show that pretraining holds the knowledge"),
        (0.05, (-0.07, -0.11, -0.03), "speaks against the thesis"),
    ],
)
def test_the_thesis_says_no_more_than_the_numbers(ours: float, gained: Any, says: str) -> None:
    found = copy.deepcopy(make_content()["models"]["assistant"])
    found["scores"]["model"]["scores"]["exact_match"] = score(ours)
    found["gaps"] = {"exact_match": gap(*gained), "rouge_l": gap(0.01, -0.02, 0.04)}
    assert says in str(words.thesis(found))
    assert "only in the pretraining text" in str(words.thesis(found))
    for contender in found["scores"].values():
        contender["scores"]["rouge_l"] = score(0.4, 0.3, 0.5)
    elsewhere = str(words.thesis(found | {"sources": ["files"]}))
    assert "only in the pretraining text" not in elsewhere
    assert "holds the knowledge, fine-tuning" not in elsewhere
    assert "reaches a ROUGE-L of 0.400 [0.300, 0.500] when it starts from the foundation" in elsewhere
    assert "a paired difference of +0.010 [-0.020, +0.040]: its interval holds 0" in elsewhere
    assert words.thesis(found | {"gaps": {}}) is None


@pytest.mark.parametrize(
    ("gained", "says"),
    [
        ((1.05, 0.4, 1.7), "+1.050 [+0.400, +1.700]: the tuning took hold."),
        ((-1.05, -1.7, -0.4), "the tuning made it worse."),
        ((0.3, -0.1, 0.7), "its interval holds 0, so no difference is shown."),
    ],
)
def test_a_reward_is_compared_prompt_by_prompt(gained: Any, says: str) -> None:
    scores = {
        "model": {"scores": {"mean_reward": score(0.35, -0.2, 0.9)}},
        "before": {"scores": {"mean_reward": score(-0.7, -1.2, -0.17)}},
    }
    gaps = {"mean_reward": gap(*gained)}
    found = {**model("praised", "rlhf", registered_name="t-praised"), "scores": scores, "gaps": gaps}
    told = str(words.thesis(found))
    assert "earns a mean reward of 0.350 [-0.200, 0.900], -0.700 [-1.200, -0.170] before the tuning, a paired" in told
    assert says in told


def test_numbers_in_words() -> None:
    assert words.score("exact_match", 0.9125) == "91.2\N{NO-BREAK SPACE}%"
    assert words.score("bits_per_byte", 1.92918) == "1.929"
    assert [words.figures(value) for value in (6.9661, 61.9769, 0.6897, 12345.6, None, 0.7)] == [
        "6.97",
        "62.0",
        "0.690",
        "12,346",
        "–",  # noqa: RUF001
        "0.700",
    ]
    assert words.figures(123.4) == "123"
    assert words.flops(1.547886919680e12) == "1.55 TFLOP"
    assert words.flops(267e9) == "267 GFLOP"
    assert (words.size(163078), words.size(12), words.size(2_835_142)) == ("163 kB", "12 bytes", "2.84 MB")
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"


def test_escapes() -> None:
    assert escape_markdown("a|b\n<i> [x](y) _z_ macro_f1") == "a\\|b &lt;i&gt; [x]\\(y) \\_z\\_ macro_f1"
    assert markdown_code("a `b` |c|") == "`` a `b` |c| ``".replace(" a", "a").replace("| `", "|`")
    assert MarkdownIt().renderInline(markdown_code("`x`")) == "<code>`x`</code>"


def test_a_picture_names_its_units_and_keeps_dollar_signs() -> None:
    found = model("reviews", "classification", registered_name="$x_1$ cost $")
    picture = loss_curves(found)
    assert picture is not None
    assert "optimizer steps" in picture.svg
    assert "(nats per example)" in picture.svg
    assert "var(--model)" in picture.svg
    assert "ends at 1.35" in picture.alt
    assert picture.png.startswith(b"\x89PNG")
    assert loss_curves(found | {"curve": {}}) is None
    assert forest("x", [audit("counterfactual", "flip_rate", None)]) is None
    assert occupations("x", audit("counterfactual", "flip_rate", None)) is None


def test_only_the_farthest_occupations_are_drawn() -> None:
    rows = [{"occupation": f"job{number:03d}", "half": "he", "p_he": 0.5 + number / 200} for number in range(60)]
    picture = occupations("m", audit("a", "probability_gap", 0.1, details={"by_occupation": rows}))
    assert picture is not None
    assert "job059" in picture.svg
    assert "job019" not in picture.svg
    assert "40 farthest" in picture.title
    assert "he half mean 0.647" in picture.alt


def test_entities_are_read_from_their_tags() -> None:
    tokens = ["Ada", "Cole", "met", "Bo", "Day", "in", "Elm", "Ford"]
    tags = ["B-PER", "I-PER", "O", "B-PER", "B-PER", "O", "I-LOC", "I-LOC"]
    assert entities(tokens, tags) == [
        ["Ada Cole", "PER"],
        ["met", None],
        ["Bo", "PER"],
        ["Day", "PER"],
        ["in", None],
        ["Elm Ford", "LOC"],
    ]


def test_an_example_says_who_is_right() -> None:
    question = {"id": "q", "question": "Who?", "context": "Ada or Bo."}
    found = example("question_answering", question, {"id": "q", "truth": ["Ada", "Bo"], "model": "Bo", "tfidf": "or"})
    assert found == {
        "id": "q",
        "asked": "Who?\nAda or Bo.",
        "answers": {"truth": "Ada / Bo", "model": "Bo", "tfidf": "or"},
        "agree": ["model"],
    }
    pair = {"id": "p", "prompt": "Help!", "chosen": "Gladly.", "rejected": "No."}
    found = example("preference", pair, {"id": "p", "model": 1.25, "before": -0.5})
    assert found["asked"] == "Help!\nchosen: Gladly.\nrejected: No."
    assert found["answers"] == {"model": "1.250", "before": "-0.500"}
    assert found["agree"] == []


def test_only_an_adapter_has_a_trained_share() -> None:
    assert words.trained_share({"parameters": 100}) == ""
    assert words.trained_share({"parameters": 100, "trainable_parameters": 100}) == ""
    assert "8 of 100 weights" in words.trained_share({"parameters": 100, "trainable_parameters": 8})


def test_a_forest_is_in_units_of_the_margins() -> None:
    wild = audit("weat", "effect_size", 2.0, margin=0.5, low=-9.0, high=9.0, verdict="INCONCLUSIVE")
    near = audit("counterfactual", "flip_rate", 0.025)
    found = forest("m", [near, wild, audit("bbq", "s_amb", None)])
    assert found is not None
    assert found.alt == (
        "Audits of m: counterfactual 0.0250 [0.0150, 0.0350], margin 0.05, PASS; "
        "weat 2.0000 [-9.0000, 9.0000], margin 0.5, INCONCLUSIVE."
    )
    assert "weat" in found.svg
    assert "bbq" not in found.svg


def test_audits_that_gate_stand_first_and_records_become_tables() -> None:
    measured = {"estimate": 0.01, "low": -0.02, "high": 0.04, "standard_error": 0.01}
    details = {
        "items": {"ids": ["a"]},
        "gaps": [{"first": "he", "second": "she", "gap": measured, "rates": [0.5, 0.25], "clear": True}],
        "labels": {"good": {"groups": {"he": {"texts": 1200, "rate": 0.125}, "she": {"texts": 7, "rate": None}}}},
        "p": 0.2,
    }
    found = model("reviews", "classification", gates=["counterfactual"])
    found["audits"] = [audit("group_fairness", "gap", 0.01, details=details), audit("counterfactual", "flip_rate", 0.0)]
    first, second = arrange_audits(found)
    assert (first["audit"], first["gates"], second["gates"]) == ("counterfactual", True, False)
    gaps, groups = second["tables"]
    assert gaps.columns == ["first", "second", "gap", "rates", "clear"]
    assert gaps.rows == [["he", "she", "0.0100 [-0.0200, 0.0400]", "0.5000, 0.2500", "yes"]]
    assert (groups.caption, groups.columns) == ("labels: good: groups", ["", "texts", "rate"])
    assert groups.rows == [["he", "1,200", "0.1250"], ["she", "7", "–"]]  # noqa: RUF001


def test_a_mitigation_is_shown_with_what_it_cost() -> None:
    def tried(method: str, estimate: float, verdict: str, value: float) -> dict[str, Any]:
        found = audit("counterfactual", "flip_rate", estimate, verdict=verdict)
        keys = ("audit", "metric", "estimate", "low", "high", "margin", "verdict")
        shown = {key: found[key] for key in keys}
        return {"method": method, "cost": "", "score": 0.9, "balanced_accuracy": score(value), "audits": [shown]}

    rows = [tried("none", 0.2, "FAIL", 0.8), tried("cda", 0.0, "PASS", 0.85)]
    view = mitigation_view(model("m", "classification", mitigation={"kept": "cda", "target": "macro_f1", "rows": rows}))
    assert view is not None
    assert [(row["method"], row["kept"]) for row in view["rows"]] == [("none", False), ("cda", True)]
    assert view["rows"][1]["balanced"].startswith("85.0")
    assert view["picture"].alt == "Bias and utility of town-m: none 0.2000 and 0.8000; cda 0.0000 and 0.8500."
    assert mitigation_view(model("m", "classification")) is None


def test_slopes_go_from_parent_to_child() -> None:
    ends = {"parent": {"estimate": 0.1, "low": 0.0, "high": 0.2}, "child": {"estimate": 0.3, "low": 0.2, "high": 0.4}}
    found = audit("occupation_pronoun_amplification", "probability_gap_amplification", 0.2, details=ends)
    picture = slopes([("town-clerk", found), ("town-x", audit("y_amplification", "y", None))])
    assert picture is not None
    assert picture.alt == "Bias from parent to child: town-clerk from 0.1000 to 0.3000."
    assert slopes([]) is None
