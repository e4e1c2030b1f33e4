"""Steps and their receipts: computed once, verified always, replaced whole."""

import json
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.receipts import Part, Receipt, run_step, verify
from tasks.workspace import text_digest


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Maker:
    """A step that writes its text and counts how often it was asked."""

    __module__ = "tasks.console"  # a step's code is a module of the project

    def __init__(self, text: str = "one") -> None:
        self.text, self.calls = text, 0

    def __call__(self, out: Path, key: str) -> dict[str, Any]:
        self.calls += 1
        (out / "sub").mkdir()
        (out / "sub" / "a.txt").write_text(self.text)
        (out / "b.txt").write_text("same")
        return {"letters": len(self.text), "cost": {"flops": 7.0}}


def of_the_project(compute: Any) -> Any:
    compute.__module__ = "tasks.console"
    return compute


def step(maker: Maker, config: Any = 1, parents: tuple[Part, ...] = (), **more: Any) -> Receipt:
    return run_step("r", "s", config=config, parents=list(parents), compute=maker, **more)


def test_a_step_is_computed_once_and_then_found_done() -> None:
    maker = Maker()
    first, second = step(maker), step(maker)
    assert maker.calls == 1
    assert first == second
    assert first.metrics == {"letters": 3}
    assert first.cost["flops"] == 7.0
    assert set(first.files) == {"sub/a.txt", "b.txt"}
    assert first.files["b.txt"] == text_digest("same")
    assert Path("artifacts/r/s/sub/a.txt").read_text() == "one"


def test_config_and_parents_decide_whether_it_is_done() -> None:
    maker = Maker()
    parent = Part(name="p", directory=Path("p"), digest="1")
    step(maker, 1, (parent,))
    step(maker, 2, (parent,))
    assert maker.calls == 2
    step(maker, 2, (parent.model_copy(update={"digest": "2"}),))
    assert maker.calls == 3
    step(maker, 2, (parent.model_copy(update={"digest": "2"}),))
    assert maker.calls == 3


def test_a_changed_file_is_named_and_the_step_computed_again(caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()
    step(maker)
    Path("artifacts/r/s/sub/a.txt").write_text("two")
    step(maker)
    assert maker.calls == 2
    assert "artifacts/r/s/sub/a.txt is not what step s wrote" in caplog.text
    Path("artifacts/r/s/b.txt").unlink()
    step(maker)
    assert maker.calls == 3
    assert "artifacts/r/s/b.txt is missing" in caplog.text


@pytest.mark.parametrize("text", ["", "{", '{"recipe": 1}', "[]", "\x00\xff", "null"])
def test_a_damaged_receipt_is_named_and_the_step_computed_again(text: str, caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()
    step(maker)
    Path("artifacts/r/s/receipt.json").write_text(text)
    assert step(maker).metrics == {"letters": 3}
    assert maker.calls == 2
    assert "artifacts/r/s/receipt.json is damaged" in caplog.text


def test_an_edited_receipt_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()
    step(maker)
    path = Path("artifacts/r/s/receipt.json")
    values = json.loads(path.read_text())
    del values["files"]["b.txt"]
    path.write_text(json.dumps(values))
    assert verify(Path("artifacts/r/s")) is None
    assert "was edited" in caplog.text


def test_a_failed_step_leaves_the_old_result_and_is_tried_again() -> None:
    step(Maker())

    @of_the_project
    def broken(out: Path, key: str) -> dict[str, Any]:
        (out / "half").write_text("half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        run_step("r", "s", config=2, parents=[], compute=broken)
    old = verify(Path("artifacts/r/s"))
    assert old is not None
    assert old.config == 1
    assert not Path("artifacts/r/s/half").exists()
    maker = Maker("three")
    assert step(maker, 2).metrics == {"letters": 5}
    assert [path.name for path in Path("artifacts/r").iterdir()] == ["s"]


def test_content_may_lie_elsewhere() -> None:
    maker = Maker()
    receipt = step(maker, content=Path("data/r"))
    assert Path("data/r/b.txt").read_text() == "same"
    assert receipt.directory == Path("data/r")
    assert [path.name for path in Path("artifacts/r/s").iterdir()] == ["receipt.json"]
    step(maker, content=Path("data/r"))
    assert maker.calls == 1
    Path("data/r/b.txt").write_text("other")
    step(maker, content=Path("data/r"))
    assert maker.calls == 2


def test_what_the_files_cannot_show_is_asked() -> None:
    maker = Maker()
    step(maker)
    step(maker, still_true=lambda receipt: receipt.metrics["letters"] == 4)
    assert maker.calls == 2


@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}/[a-z]{1,3}", fullmatch=True), st.text(max_size=3), min_size=1))
def test_a_part_depends_on_its_own_files_alone(files: dict[str, str]) -> None:
    digests = {name: text_digest(text) for name, text in files.items()}

    def receipt(names: dict[str, str]) -> Receipt:
        values: dict[str, Any] = {"recipe": "r", "step": "s", "key": "", "digest": "", "parents": {}, "config": None}
        return Receipt(**values, code="", files=names, metrics={}, cost={}, content="x")

    top = sorted(files)[0].split("/")[0]
    others = {"zzzz/new": text_digest("new"), **digests}
    assert receipt(digests).part(top).digest == receipt(others).part(top).digest
    changed = {name: text_digest("changed" + name) for name in digests}
    assert receipt(changed).part(top).digest != receipt(digests).part(top).digest


def _slow(directory: str, started: Any) -> None:
    import os

    os.chdir(directory)

    @of_the_project
    def compute(out: Path, key: str) -> dict[str, Any]:
        started.set()
        time.sleep(1.5)
        (out / "a").write_text("a")
        return {}

    run_step("r", "slow", config=1, parents=[], compute=compute)


def test_a_second_run_is_told_who_holds_the_step_and_then_finds_it_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    holder = context.Process(target=_slow, args=(str(tmp_path), started))
    holder.start()
    assert started.wait(60)

    @of_the_project
    def compute(out: Path, key: str) -> dict[str, Any]:
        raise AssertionError("the first run made it")

    receipt = run_step("r", "slow", config=1, parents=[], compute=compute)
    holder.join()
    assert receipt.files.keys() == {"a"}
    assert f"is held by process {holder.pid}" in caplog.text
    assert "found done" in caplog.text


def test_two_threads_at_one_step_compute_it_once() -> None:
    calls: list[int] = []

    @of_the_project
    def slow(out: Path, key: str) -> dict[str, Any]:
        calls.append(1)
        time.sleep(0.2)
        (out / "a.txt").write_text("a")
        return {}

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: run_step("r", "s", config=1, parents=[], compute=slow), range(4)))
    assert len(calls) == 1
    assert all(receipt == found[0] for receipt in found)


def test_steps_whose_names_end_alike_do_not_take_each_other_away() -> None:
    started, go_on = threading.Event(), threading.Event()

    @of_the_project
    def slow(out: Path, key: str) -> dict[str, Any]:
        started.set()
        assert go_on.wait(10)
        (out / "a.txt").write_text("slow")
        return {}

    @of_the_project
    def quick(out: Path, key: str) -> dict[str, Any]:
        (out / "a.txt").write_text("quick")
        return {}

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(run_step, "r", "finetune/good-reviews", config=1, parents=[], compute=slow)
        assert started.wait(10)
        run_step("r", "finetune/reviews", config=1, parents=[], compute=quick)
        go_on.set()
        assert (other.result().directory / "a.txt").read_text() == "slow"
