"""Size by budget: what is refused, the laws by hand, the choice, and a real run that keeps to its time."""

import json
from pathlib import Path
from typing import Any

import pytest
from workspaces import TINY, alma, make_workspace

from tasks import scaling
from tasks.budget import LADDER, _shape, between, choose, settle
from tasks.budget_amount import Budget, parse_budget
from tasks.recipe import Recipe, load_recipe


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_workspace(tmp_path, TINY.replace("specialists:", "none:").partition("none:")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_budget(budget: str, *more: str) -> Recipe:
    size = ["pretrain.train=null", "pretrain.model={context: 64}", f"pretrain.budget={budget}"]
    return load_recipe("recipes/tiny.yaml", [*size, *more])


def test_budgets_are_read() -> None:
    assert parse_budget("15 minutes") == Budget(900.0, "seconds")
    assert parse_budget("1.5 hour").amount == 5400
    assert parse_budget("1e15 FLOPs") == Budget(1e15, "flops")
    assert parse_budget("2 EUR") == Budget(2.0, "money", "EUR")


@pytest.mark.parametrize("text", ["", "15", "minutes", "-3 minutes", "0 minutes", "3 parsecs", "1e15 GFLOPs", "2 €"])
def test_what_is_no_budget_is_told_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="expected 15 minutes, 1e15 FLOPs or 2 EUR"):
        parse_budget(text)


def test_a_budget_stands_alone(tiny: Path) -> None:
    for overrides, said in (
        (["pretrain.budget=20 seconds"], "expected no train beside it"),
        (["pretrain.budget=20 seconds", "pretrain.train=null"], "expected no model.heads beside it"),
        (["pretrain.budget=20 parsecs"], "expected 15 minutes"),
        (["pretrain.budget=20 seconds", "pretrain.base=some/where", "pretrain.train=null"], "but there is base"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            load_recipe("recipes/tiny.yaml", overrides)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"is in EUR, but the price \(cost.device_hour\) is missing"):
        with_budget("2 EUR")
    with pytest.raises(ValueError, match="is in USD"):
        with_budget("2 EUR", "cost={device_hour: 1, currency: USD}")


def test_the_laws_by_hand() -> None:
    # Equal exponents: the best ratio is (B / A)^(1 / a), and with new text alone the law is Hoffmann's.
    assert scaling.best_ratio() == pytest.approx((1488 / 521) ** (1 / 0.3527))
    fresh = scaling.loss(1e8, 2e9, unique=1e12)
    assert fresh == pytest.approx(1.8735 + 521 / 1e8**0.3527 + 1488 / 2e9**0.3527)
    # Four passes are nearly as good as new text (Muennighoff et al. 2023), a hundred are not.
    four, hundred = (scaling.loss(1e8, passes * 2e9, unique=2e9) for passes in (4, 100))
    assert scaling.loss(1e8, 8e9, 1e12) < four < scaling.loss(1e8, 8e9, 1e12) + 0.02
    assert hundred > scaling.loss(1e8, 2e11, 1e12) + 0.1
    assert scaling.batch_tokens(1e9) == pytest.approx(0.58 * 1e9**0.571)
    assert scaling.learning_rate(1e9, 1e11) == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307, rel=0.05)
    assert scaling.learning_rate(1e6, 1e7) == 2e-3, "held"


def chosen(budget: str, unique: float, *more: str) -> dict[str, Any]:
    """Return the choice on a machine of 100 GFLOP/s at every size, a token costing 6 operations a weight."""
    recipe = with_budget(budget, *more)
    shapes = [_shape(recipe, *rung) for rung in LADDER]
    weights = [12.0 * layers * hidden**2 for layers, hidden, _ in LADDER]
    return choose(recipe, shapes, [(size, 6 * size) for size in weights], [(1e5, 1e11), (1e7, 1e11)], unique)


def test_more_is_spent_on_more_weights_and_more_tokens(tiny: Path) -> None:
    small, large = chosen("1 minute", 1e12), chosen("10 hours", 1e12)
    assert small["expected"]["weights"] < large["expected"]["weights"]
    assert small["expected"]["tokens"] < large["expected"]["tokens"]
    for found, seconds in ((small, 60), (large, 36_000)):
        assert found["expected"]["seconds"] == pytest.approx(seconds, rel=0.06)
        assert 8 < found["expected"]["tokens"] / found["expected"]["weights"] < 50, "about 20 tokens a weight"
        assert found["expected"]["loss"] == min(rung["loss"] for rung in found["ladder"])


def test_a_small_text_is_read_four_times_at_most(tiny: Path) -> None:
    found = chosen("10 hours", 1e7)
    assert found["expected"]["epochs"] <= 4
    assert found["expected"]["seconds"] < 36_000


def test_work_and_money_are_budgets_too(tiny: Path) -> None:
    assert chosen("1e14 FLOPs", 1e12)["expected"]["flops"] == pytest.approx(1e14, rel=0.05)
    price = "cost={device_hour: 3.6, currency: EUR}"
    assert chosen("1 EUR", 1e12, price)["expected"] == chosen("1000 seconds", 1e12)["expected"]
    with pytest.raises(ValueError, match="less than 20 steps of the smallest model"):
        chosen("0.001 seconds", 1e12)


def test_speeds_lie_between_the_measured_ones() -> None:
    speeds = [(1e6, 1e11), (1e8, 4e11)]
    assert [between(speeds, weights) for weights in (1e5, 1e7, 1e9)] == [1e11, 2e11, 4e11]


@pytest.mark.slow
def test_a_real_budget_is_chosen_once_and_is_what_the_training_counts(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["pretrain.train=null", "pretrain.model={context: 64}", "pretrain.budget=3 seconds"]
    monkeypatch.setattr("tasks.plan_trainings.MEASURED", 1.5)
    settled = settle(load_recipe("recipes/tiny.yaml", overrides))
    record = json.loads((tiny / "artifacts/tiny/budget.json").read_text())
    done = alma(tiny, "pretrain", "recipes/tiny.yaml", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "measures" not in done.stdout, "read, not chosen again"
    summary = json.loads((tiny / "artifacts/tiny/pretrain/summary.json").read_text())
    expected = record["expected"]
    assert settled.pretrain.train is not None
    assert settled.pretrain.train.steps == summary["steps"] == expected["steps"]
    assert summary["tokens"] == expected["tokens"]
    assert summary["parameters"] == expected["weights"]
    assert summary["flops"] == pytest.approx(expected["flops"]), "one formula"
    kept = json.loads((tiny / "artifacts/tiny/pretrain/receipt.json").read_text())["config"]
    assert "budget" not in kept, "the key of a step is that of a recipe that names the numbers"
