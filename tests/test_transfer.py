"""What the foundation is worth: the trials, the curve by hand, the report's words, and the whole way."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workspaces import RECIPE, TINY, alma, environment, receipts

from tasks.learning_curve import Point, Seed, curve
from tasks.paired import terms
from tasks.receipts import Receipt
from tasks.recipe import Recipe, load_recipe
from tasks.report_transfer import arrange_worth
from tasks.trials import trials

ASKED = "transfer={seeds: 2, shares: [0.1, 1.0], specialists: [reviews]}"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def made(**metrics: Any) -> Receipt:
    return Receipt.model_construct(metrics=metrics)


def tried(recipe: Recipe) -> list[tuple[str, int, int]]:
    prepared = made(datasets={"reviews": {"rows_out": {"train": 1000}}})
    found = trials(recipe, "reviews", prepared, made(total_steps=60))
    return [(trial.name, trial.labels, trial.steps) for trial in found]


def test_every_share_is_trained_as_long_as_all_labels(tiny: Path) -> None:
    recipe = load_recipe(tiny, ["transfer={seeds: 2, shares: [0.05, 1.0]}", "seed=4"])
    assert tried(recipe) == [("0.05-4", 50, 60), ("0.05-5", 50, 60), ("", 1000, 60), ("1-5", 1000, 60)]
    assert recipe.compared() == ["reviews", "assistant"]
    fewer = load_recipe(tiny, ["transfer={seeds: 1, shares: [0.05, 0.5, 1.0], least_steps: 20}"])
    assert tried(fewer) == [("0.05-0", 50, 20), ("0.5-0", 500, 30), ("", 1000, 60)]
    capped = load_recipe(tiny, ["transfer={seeds: 1, shares: [0.5]}", "specialists.reviews.max_examples=100"])
    assert tried(capped) == [("0.5-0", 50, 60)]


def test_both_starts_of_a_trial_have_the_same_budget(tiny: Path) -> None:
    recipe = load_recipe(tiny, ["transfer={shares: [0.05, 1.0]}"])
    prepared = made(datasets={"reviews": {"rows_out": {"train": 1000}}})
    found = trials(recipe, "reviews", prepared, made(total_steps=60))
    few, whole = found[1].applied(recipe, "reviews"), found[4].applied(recipe, "reviews")
    assert (few.seed, whole.seed) == (1, 1)
    assert few.specialists["reviews"].max_examples == 50
    assert (few.specialists["reviews"].train.steps, few.specialists["reviews"].train.epochs) == (60, None)
    assert whole.specialists == recipe.specialists
    assert few.specialists["assistant"] == recipe.specialists["assistant"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "transfer={specialists: [clerk]}",
            "transfer.specialists: 'clerk' has no twin from scratch; there are reviews",
        ),
        ("transfer={shares: [0.2, 0.1]}", "transfer.shares: "),
        ("transfer={shares: [0.0, 1.0]}", "expected ascending shares above 0 and at most 1"),
        ("transfer={seeds: 0}", "transfer.seeds: "),
    ],
)
def test_a_bad_section_is_one_line(tiny: Path, override: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"tiny\.yaml: ") as error:
        load_recipe(tiny, [override])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def accuracy(right: int) -> dict[str, Any]:
    return {"accuracy": terms(np.arange(200) < right)}


def point(share: float, model: list[int], twin: list[int], majority: int = 100) -> Point:
    pairs = enumerate(zip(model, twin, strict=True))
    seeds = [
        Seed(
            number,
            {"model": accuracy(ours), "from_scratch": accuracy(theirs), "majority": accuracy(majority)},
            {"model": 0.01, "from_scratch": 0.02},
        )
        for number, (ours, theirs) in pairs
    ]
    return Point(share, round(1000 * share), 60, seeds)


def told(*points: Point) -> tuple[dict[str, Any], str]:
    found = curve(points, ["accuracy"], margin=0.01)
    pair = {"seed": 0, "metrics": []}
    view = arrange_worth({"x": {"model": "town-x", "curve": json.loads(json.dumps(found)), "pair": pair}})
    assert view is not None
    shown = view["curves"][0]
    return found, " ".join([*shown["sentences"], shown["saved"], shown["note"]]).replace("\N{NO-BREAK SPACE}", " ")


def test_the_curve_tells_gains_and_saved_labels() -> None:
    found, said = told(
        point(0.1, [150, 152, 151], [104, 101, 97]),
        point(0.5, [184, 186, 185], [150, 148, 152]),
        point(1.0, [196, 196, 197], [180, 179, 181]),
    )
    gain = found["points"][0]["gains"]["from_scratch"]["accuracy"]
    assert gain["value"] == pytest.approx((151 - (104 + 101 + 97) / 3) / 200)
    assert gain["low"] > 0.15
    assert found["saved"]["share"] == 0.5
    assert found["saved"]["gain"]["value"] == pytest.approx(5 / 200)
    assert "With 100 labels (10 %) and 60 steps it reaches 75.5 % [" in said
    assert "it beats training from scratch (+25.2 points [" in said
    assert "majority (+25.5 points [" in said
    assert "with 500 of 1,000 labels (50 %) the foundation is where training from scratch is with all of them" in said
    assert "3 seeds tell their own spread roughly" in said


def test_labels_are_saved_only_where_the_curve_says_so() -> None:
    # Where scratch learns nothing at all, its score at all labels is no mark to reach.
    nothing, said = told(point(0.1, [150, 151], [96, 104]), point(1.0, [190, 191], [96, 105]))
    assert nothing["saved"]["why"] == "not learnt"
    assert "does not get beyond majority even with all labels" in said
    # A larger share that falls back takes the smaller one's figure away.
    back, _ = told(point(0.1, [190, 191], [110, 111]), point(1.0, [150, 151], [180, 181]))
    assert back["saved"] == {"why": "not reached"}
    late, _ = told(point(0.1, [120, 121], [110, 111]), point(1.0, [184, 185], [180, 181]))
    assert late["saved"]["why"] == "not with fewer"
    part, said = told(point(0.1, [120, 121], [110, 111]))
    assert part["saved"] == {"why": "no share is all labels"}
    # Equal starts are no difference, whatever the seeds do.
    equal, said = told(point(1.0, [150, 170], [150, 170]))
    assert equal["points"][0]["gains"]["from_scratch"]["accuracy"]["low"] == 0
    assert "no difference is shown to training from scratch (+0.0 points [+0.0, +0.0])" in said


@pytest.mark.slow
def test_a_specialist_is_compared_over_seeds_and_shares(workspace: Path) -> None:
    """Killed in between, gone on from there, put into the report and, once, into the specialist's MLflow run."""
    before = receipts(workspace)
    base = workspace / "artifacts/tiny"
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "transfer", RECIPE, "reviews", ASKED],
        cwd=workspace,
        env=environment(workspace),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 200
    while not (base / "finetune/reviews+0.1-0/receipt.json").exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = alma(workspace, "pipeline", RECIPE, ASKED)
    assert done.returncode == 0, done.stdout + done.stderr
    started = [line.split()[1] for line in done.stdout.splitlines() if " starts" in line]
    names = [
        f"{step}/reviews+{trial}" for trial in ("0.1-0", "0.1-1", "1-1") for step in ("finetune", "scratch", "assess")
    ]
    assert started == [*names[1:], "transfer/reviews", "report", "cards"], done.stdout
    after = receipts(workspace)
    assert {name: after[name] for name in before if not name.endswith(("/report", "/cards"))} == {
        name: found for name, found in before.items() if not name.endswith(("/report", "/cards"))
    }
    few, whole = after["artifacts/tiny/finetune/reviews+0.1-1"], after["artifacts/tiny/finetune/reviews"]
    assert few["metrics"]["train_examples"] == round(0.1 * whole["metrics"]["train_examples"])
    assert few["metrics"]["total_steps"] == whole["metrics"]["total_steps"]
    assert few["config"]["seed"] == 1

    found = json.loads((base / "transfer/reviews/curve.json").read_text())
    assert [(one["share"], [own["seed"] for own in one["by_seed"]]) for one in found["points"]] == [
        (0.1, [0, 1]),
        (1.0, [0, 1]),
    ]
    own = json.loads((base / "assess/reviews/scores.json").read_text())
    scores = found["points"][1]["by_seed"][0]["scores"]
    assert scores["model"]["macro_f1"] == pytest.approx(own["model"]["scores"]["macro_f1"]["value"])
    assert scores["tfidf_lr"]["accuracy"] == pytest.approx(own["tfidf_lr"]["scores"]["accuracy"]["value"])
    page = (base / "report/report.html").read_text()
    assert "Learning curves of tiny-reviews" in page
    assert "One seed (0)" in page, "the assistant's own pair"
    assert "What the foundation is worth" in (base / "report/report.md").read_text()

    again = alma(workspace, "transfer", RECIPE, ASKED)
    assert again.returncode == 0, again.stderr
    assert " starts" not in again.stdout
    script = (
        "import json\n"
        "from mlflow import MlflowClient\n"
        "client = MlflowClient('sqlite:///var/mlflow/mlflow.db')\n"
        "run = client.get_run(client.get_model_version('tiny-reviews', '1').run_id)\n"
        "names = [name for name in run.data.metrics if name.startswith('transfer/')]\n"
        "trials = client.search_runs([run.info.experiment_id], \"attributes.run_name LIKE '%reviews+%'\")\n"
        "print(json.dumps([{n: len(client.get_metric_history(run.info.run_id, n)) for n in names},\n"
        "                  sorted(t.info.status for t in trials)]))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=workspace, env=environment(workspace), capture_output=True, check=True
    )
    points, states = json.loads(answer.stdout.splitlines()[-1])
    assert points["transfer/0.1/macro_f1/gain_low"] == 1
    assert set(points.values()) == {1}, "neither lost nor doubled"
    assert states == ["FINISHED"] * 6

    unasked = alma(workspace, "transfer", RECIPE)
    assert unasked.returncode == 2
    assert "has no section transfer" in unasked.stderr
