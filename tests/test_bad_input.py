"""What a user can do wrong: one clear line on stderr, exit 2 (or 1 for the machine's fault), nothing lost."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workspaces import TINY, alma, environment, make_workspace

RECIPE = "recipes/tiny.yaml"
FILES = """
name: tiny
data:
  max_bad_share: 0.2
  datasets:
    corpus: {kind: text, train: [{kind: files, paths: [corpus.txt]}]}
    mails:
      kind: classification
      train: [{kind: files, paths: [mails.jsonl]}]
      test: [{kind: files, paths: [test.jsonl]}]
prepare: {min_words: 2}
tokenizer: {vocab_size: 300}
pretrain:
  model: {layers: 1, hidden: 16, heads: 2, intermediate: 32, context: 16}
  train: {steps: 4, batch_size: 4}
specialists:
  mails: {task: classification, data: mails, train: {epochs: 1}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace on local files, all of them good."""
    here = make_workspace(tmp_path / "work", FILES)
    lines = [f"The {n} mills of the town turn when wind number {n} comes over hill {n * n}." for n in range(200)]
    (here / "corpus.txt").write_text("\n".join(lines) + "\n")
    rows = [f'{{"text": "mail {n} about {"bread" if n % 2 else "cake"}", "label": "l{n % 2}"}}' for n in range(60)]
    (here / "mails.jsonl").write_text("\n".join(rows) + "\n")
    (here / "test.jsonl").write_text("\n".join(row.replace("mail", "letter") for row in rows[:20]) + "\n")
    return here


def refused(workspace: Path, *arguments: str, code: int = 2) -> str:
    done = alma(workspace, *arguments)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error:", "failed:"))]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return lines[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: (w / "corpus.txt").unlink(), "corpus.txt: no such file"),
        (lambda w: (w / "corpus.txt").write_text(""), "corpus.txt: "),
        (lambda w: (w / "mails.jsonl").write_text('{"text": "a", "lable": "b"}\n'), "label"),
        (lambda w: (w / "mails.jsonl").write_text('{"text": "a", \n' * 30), "mails.jsonl: "),
        (lambda w: (w / "corpus.txt").write_bytes(b"\xff\xfe\xfa bytes\n" * 30), "corpus.txt: "),
    ],
    ids=["missing file", "empty file", "wrong column", "broken json", "not utf-8"],
)
def test_a_bad_file_is_named(workspace: Path, change: object, message: str) -> None:
    change(workspace)  # type: ignore[operator]
    assert message in refused(workspace, "ingest", RECIPE)


def test_few_bad_rows_are_set_aside_with_line_and_reason(workspace: Path) -> None:
    with (workspace / "mails.jsonl").open("a") as file:
        file.write('{"text": "torn\n')
    done = alma(workspace, "ingest", RECIPE)
    assert done.returncode == 0, done.stderr
    quarantine = (workspace / "data/tiny/quarantine.jsonl").read_text()
    assert '"line": 61' in quarantine
    assert "mails.jsonl" in quarantine
    assert len((workspace / "data/tiny/mails/train.jsonl").read_text().splitlines()) == 60


def test_a_label_that_training_never_saw_is_named(workspace: Path) -> None:
    with (workspace / "test.jsonl").open("a") as file:
        file.write('{"text": "a letter of a new kind", "label": "surprise"}\n')
    line = refused(workspace, "prepare", RECIPE)
    assert "surprise" in line
    assert "mails" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pipeline", "recipes/gone.yaml"), "recipes/gone.yaml: there is no such recipe"),
        (("pipeline", RECIPE, "pretrain.train.stepz=1"), "did you mean steps?"),
        (("pipeline", RECIPE, "pretrain.model.hidden=17"), "pretrain.model"),
        (("pretrain", RECIPE, "pretrain.model.heads=3"), "pretrain.model"),
        (("finetune", RECIPE, "nobody"), "'nobody': no such model"),
        (("finetune", RECIPE), "expected a model"),
        (("finetune", RECIPE, "foundation"), "no such model"),
        (("pipeline", RECIPE, "what"), "'what': expected dotted.key=value"),
        (("prepare",), "expected a recipe"),
        (("up", RECIPE), "takes no recipe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_bad_command_is_refused_before_anything_runs(
    workspace: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(workspace, *arguments)
    assert not (workspace / "artifacts").exists()


def test_an_unknown_command_shows_what_there_is(workspace: Path) -> None:
    done = alma(workspace, "fly")
    assert done.returncode == 2
    assert "invalid choice: 'fly'" in done.stderr


def test_a_bad_policy_is_named_and_keeps_what_is_done(workspace: Path) -> None:
    policy = workspace / "mlflow/promotion.yaml"
    policy.write_text(policy.read_text().replace("superiority_margin: 0.0", "superiority_margin: lots", 1))
    line = refused(workspace, "promote", RECIPE, "foundation")
    assert "mlflow/promotion.yaml" in line
    assert "superiority_margin" in line
    assert (workspace / "artifacts/tiny/pretrain/receipt.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="an own small file system needs root")
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(workspace: Path) -> None:
    small = workspace / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this machine mounts no tmpfs: {mounted.stderr.strip()}")
    try:
        shutil.copytree(workspace / "mlflow", small / "mlflow")
        shutil.copytree(workspace / "recipes", small / "recipes")
        for name in ("corpus.txt", "mails.jsonl", "test.jsonl"):
            (small / name).symlink_to(workspace / name)
        assert alma(small, "ingest", RECIPE).returncode == 0
        before = (small / "artifacts/tiny/ingest/receipt.json").read_bytes()
        filler = small / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"0" * 4096)
        line = refused(small, "prepare", RECIPE, code=1)
        assert "No space left" in line
        assert (small / "artifacts/tiny/ingest/receipt.json").read_bytes() == before
        filler.unlink()
        again = alma(small, "prepare", RECIPE)
        assert again.returncode == 0, again.stderr
        assert "ingest                   found done" in again.stdout
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_no_permission_is_one_line(workspace: Path) -> None:
    assert alma(workspace, "prepare", RECIPE).returncode == 0
    shutil.rmtree(workspace / "artifacts/tiny")
    # A file where a directory is needed stops root too, whom permission bits do not.
    (workspace / "artifacts/tiny").write_text("in the way")
    line = refused(workspace, "prepare", RECIPE, code=1)
    assert "artifacts/tiny" in line
    assert (workspace / "data/tiny/corpus/train.jsonl").exists()


def test_ctrl_c_in_training_leaves_a_checkpoint_and_what_was_finished(tmp_path: Path) -> None:
    here = make_workspace(tmp_path / "work", TINY.replace("steps: 30", "steps: 100000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "pretrain", RECIPE],
        cwd=here,
        env=environment(here),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in a shell's background inherit that Ctrl-C is not for them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 120
    while not list((here / "var").glob("training/*/checkpoints/*[0-9]")) and time.monotonic() < end:
        time.sleep(0.05)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - asked < 15
    assert process.returncode == 130, out + err
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert list((here / "var").glob("training/*/checkpoints/*[0-9]"))
    assert (here / "artifacts/tiny/tokenizer/receipt.json").exists()
