"""The plan: what is counted before a run against what a run counts, and how it is said."""

import json
from pathlib import Path

import pytest
from report_contents import make_content, write
from workspaces import RECIPE, alma, make_workspace, receipts

from flows.plan import print_plan
from models.measure import USED, quiet
from models.trainer import TrainerConfig
from tasks.plan import make_plan
from tasks.plan_data import _rows_in, survey
from tasks.plan_trainings import devices, memory
from tasks.planned import beside_plan, digest, read_plan
from tasks.readers import write_rows
from tasks.recipe import Recipe, load_recipe
from tasks.sources import Source


def test_memory_by_hand() -> None:
    found = {
        "parameters": 1000,
        "trainable_parameters": 100,
        "layers": 2,
        "hidden": 8,
        "heads": 2,
        "vocabulary": 50,
        "context": 16,
        "length": 16.0,
        "head_share": 1.0,
        "step_positions": 4 * 16,
        "objective": "causal_lm",
        "precision": "bf16",
    }
    parts = memory(found, TrainerConfig(steps=1, accumulation=2))
    assert parts["weights"] == 6000
    assert parts["gradients"] == 400
    assert parts["optimiser"] == 800
    # Half of the step's 64 positions at once, two layers of 8: 32 * 8 * 2 * (34 + 5 * 2 * 16 / 8).
    assert parts["activations"] == 32 * 16 * 54
    assert parts["logits"] == 4 * 32 * 50
    assert parts["total"] == sum(value for name, value in parts.items() if name != "total")
    whole = memory(found | {"precision": "fp32", "objective": "classification"}, TrainerConfig(steps=1))
    assert whole["weights"] == 4000
    assert whole["activations"] == 2 * 64 * 16 * 54
    assert whole["logits"] == 0


def test_time_of_others_is_not_counted() -> None:
    assert quiet((0.0, 0.0), (10.0, 2.0)) == 2.0
    assert quiet((0.0, 0.0), (10.0, 2.0), threads=2) == pytest.approx(1 / USED)
    assert quiet((0.0, 0.0), (10.0, 40.0), threads=2) == 10.0, "never more than the wall's"


@pytest.mark.parametrize(
    ("launcher", "count"),
    [("python", 1), ("torchrun --nproc-per-node 4", 4), ("torchrun --nproc_per_node=2 --x", 2), ("srun python", 1)],
)
def test_a_launcher_says_how_many_devices(launcher: str, count: int) -> None:
    assert devices(launcher) == count


def test_the_rows_of_a_large_file_are_estimated_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"text": f"line {number:05d} of a text that goes on"} for number in range(5000)])
    source = Source(kind="files", paths=["rows.jsonl"])
    rows, whole = _rows_in(path, "rows.jsonl", "jsonl", "text", source)
    assert len(rows) == whole == 5000
    monkeypatch.setattr("tasks.plan_data.READ_BYTES", 50_000)
    rows, whole = _rows_in(path, "rows.jsonl", "jsonl", "text", source)
    assert len(rows) < 2000
    assert whole == pytest.approx(5000, rel=0.2)


def test_splits_of_different_sizes_keep_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is sampled for itself: a test split of a tenth of the rows must not take from the training rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tasks.plan_data.SAMPLE_ROWS", 200)
    sizes = {"train": 2000, "valid": 300, "test": 100}
    for split, count in sizes.items():
        names = (f"{number:04d}".translate(str.maketrans("0123456789", "abcdefghij")) for number in range(count))
        rows = [{"text": f"In the {split} story of {name} the geese went down to the river."} for name in names]
        write_rows(tmp_path / f"{split}.jsonl", rows)
    given = {split: [{"kind": "files", "paths": [f"{split}.jsonl"]}] for split in sizes}
    carved = {"train": [{"kind": "files", "paths": ["train.jsonl"]}]}
    values = {
        "name": "sizes",
        "data": {"root": str(tmp_path), "datasets": {"corpus": {"kind": "text", **given}}},
        "prepare": {"near_duplicate_threshold": 1.0},
        "pretrain": {"train": {"steps": 1}},
    }
    for sources, expected in ((given, sizes), (carved, None)):
        values["data"]["datasets"]["corpus"] = {"kind": "text", **sources}
        found = survey(Recipe.model_validate(values), tmp_path / f"out{len(sources)}").datasets["corpus"]
        assert sum(found.sample.values()) <= 600
        if expected:
            assert found.rows == expected
        else:
            assert sum(found.rows.values()) == pytest.approx(2000, rel=0.01)
            assert found.rows["train"] > 1500


@pytest.mark.slow
def test_a_plan_before_a_run_counts_what_the_run_does(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = make_workspace(tmp_path / "fresh")
    monkeypatch.chdir(fresh)
    monkeypatch.setattr("tasks.plan_trainings.MEASURED", 1.0)
    plan = make_plan(load_recipe(RECIPE, ["cost={device_hour: 3.6, currency: EUR}"]))
    print_plan(plan)
    assert "In all" in capsys.readouterr().out
    assert sorted(path.name for path in fresh.iterdir()) == [".git", "artifacts", "mlflow", "recipes", "var"]
    assert [path.name for path in (fresh / "artifacts/tiny").iterdir()] == ["plan.json"]
    assert json.loads((fresh / "artifacts/tiny/plan.json").read_text()) == plan
    rows = {row["step"]: row for row in plan["rows"]}
    true = {found["step"]: found for found in receipts(workspace).values()}
    assert rows.keys() == true.keys() | {"flow"}
    for step, found in true.items():
        row = rows[step]
        assert row["seconds"] > 0
        if row["training"]:
            assert row["parameters"] == pytest.approx(found["metrics"]["parameters"], rel=0.01), step
            assert row["steps"] == pytest.approx(found["metrics"]["steps"], abs=1), step
            assert row["tokens"] == pytest.approx(found["cost"]["tokens"], rel=0.25), step
            assert row["flops"] == pytest.approx(found["cost"]["flops"], rel=0.25), step
    assert rows["pretrain"]["flops"] == pytest.approx(true["pretrain"]["cost"]["flops"], rel=0.01)
    assert plan["total"]["money"] == pytest.approx(plan["total"]["seconds"] / 1000)


def test_a_plan_is_of_one_recipe_and_is_held_against_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(RECIPE)
    assert read_plan(recipe) is None
    plan = {"digest": digest(recipe), "busy": 2.0, "rows": [{"step": "pretrain", "seconds": 4.0}, {"step": "flow"}]}
    (tmp_path / "artifacts/tiny").mkdir(parents=True)
    (tmp_path / "artifacts/tiny/plan.json").write_text(json.dumps(plan))
    assert read_plan(load_recipe(RECIPE, ["cost.country=DEU", "data.root=/elsewhere"])) == plan
    assert read_plan(load_recipe(RECIPE, ["pretrain.train.steps=31"])) is None
    from test_cost import receipt

    found = beside_plan(plan, [receipt(step="pretrain")])
    assert found is not None
    assert found["rows"] == [{"step": "pretrain", "expected": 4.0, "took": 100.0}]
    assert found["total"] == {"expected": 4.0, "took": 100.0}


def test_a_source_that_is_missing_is_one_line(tmp_path: Path) -> None:
    fresh = make_workspace(tmp_path)
    source = "data.datasets.corpus.train=[{kind: files, paths: [nowhere.txt]}]"
    done = alma(fresh, "plan", RECIPE, source)
    assert done.returncode == 2
    assert "nowhere.txt: no such file" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_report_holds_the_plan_against_the_truth(tmp_path: Path) -> None:
    content = make_content()
    rows = [
        {"step": "pretrain", "expected": 100.0, "took": 125.0},
        {"step": "ingest", "expected": 4.0, "took": 2.0},
    ]
    content["cost"]["planned"] = {"rows": rows, "total": {"expected": 104.0, "took": 127.0}, "busy": 1.5}
    markdown, html = write(content, tmp_path / "planned")
    assert "| pretrain | 1 min 40 s | 2 min 05 s | 1.25 |" in markdown
    assert "| **total** | 1 min 44 s | 2 min 07 s | 1.22 |" in markdown
    assert "1.5 times as long" in html
    content["cost"]["planned"] = None
    markdown, html = write(content, tmp_path / "free")
    assert "planned" not in (markdown + html).lower()
