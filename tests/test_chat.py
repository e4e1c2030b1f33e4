"""A conversation in the terminal, as a user has it: through a pipe, in a terminal, and with a wrong name."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import models_examples as examples
import pytest
import torch
from test_generation import tiny
from transformers import PreTrainedTokenizerFast
from workspaces import alma, environment

from flows.chat import CUT, DROPPED, HELP, Conversation, main
from models.chat import render
from models.generation import generate
from models.sampling import Sampling
from tasks.loading import TrainedModel


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny saved model with the chat template, that of a specialist."""
    out = tmp_path_factory.mktemp("chat") / "model"
    tiny(examples.tokenizer(out), context=128).save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def model(directory: Path) -> TrainedModel:
    from tasks.loading import load

    return load(directory, "instruction")


def talk(conversation: Conversation, *texts: str) -> tuple[list[str], list[str]]:
    """Return the answers, and what was told beside them."""
    told: list[str] = []
    return ["".join(conversation.answer(text, told.append)) for text in texts], told


def test_a_pipe_gets_one_line_for_each_turn(directory: Path, model: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("Who bakes?\n\nAnd Ben?\n/reset\nAnd Ben?\n/quit\nWho?\n")
    with (tmp_path / "said.txt").open() as said:
        done = subprocess.run(
            [sys.executable, "-m", "flows", "chat", str(directory), "--max-new-tokens", "9", "--seed", "4"],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdin=said,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    sampling = Sampling(seed=4)
    first, _ = talk(Conversation(model, 9, sampling, False), "Who bakes?", "And Ben?")
    again, _ = talk(Conversation(model, 9, sampling, False), "And Ben?")
    assert done.stdout.splitlines() == [" ".join(text.split()) for text in (*first, *again)]
    assert first[1] != again[0], "the first answer is part of the conversation"


def test_in_a_terminal_ctrl_d_ends_it(directory: Path, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "chat", str(directory), "--max-new-tokens", "5"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(slave)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == HELP
    os.write(master, b"Who bakes?\n")
    os.write(master, b"\x04")
    out, err = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 0, err
    assert err == ""
    answer, asked_again = out.removeprefix("> ").rstrip().split("\n")
    assert answer
    assert asked_again == ">"


def test_ctrl_c_ends_it(directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()  # nobody ever types
    with os.fdopen(read) as stdin, os.fdopen(write, "w"):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as where Python starts
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            assert main([str(directory)]) == 0
        finally:
            timer.cancel()
            signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == ""


def test_a_wrong_model_is_one_line(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = alma(tmp_path, "chat", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: nowhere: no directory with a config.json, and no registered model or alias of that name\n"
    )
    classifier, damaged = tmp_path / "classifier", tmp_path / "damaged"
    classifier.mkdir()
    (classifier / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    damaged.mkdir()
    (damaged / "config.json").write_text((directory / "config.json").read_text())
    (damaged / "model.safetensors").write_bytes(b"no weights")
    cases = {
        (str(classifier),): "holds LlamaForSequenceClassification, expected a language model",
        (str(damaged),): "cannot be loaded",
        (str(directory), "--top-p", "1.5"): "--top-p is 1.5: ",
        (str(directory), "--temperature", "0"): "--temperature is 0.0: ",
        (str(directory), "--max-new-tokens", "128"): "--max-new-tokens is 128, expected 1 to 127",
    }
    for arguments, message in cases.items():
        assert main(list(arguments)) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ")
        assert message in line
        assert line.count("\n") == 1


def test_the_oldest_exchanges_are_dropped_and_that_is_said_once(model: TrainedModel) -> None:
    conversation = Conversation(model, 60, None, False)
    texts = [f"Where does Ada live, near the mill, the harbour or the square {number}?" for number in range(4)]
    _, told = talk(conversation, *texts)
    assert told == [DROPPED]
    assert conversation.turns[0]["role"] == "user"
    assert conversation.turns[-2]["content"] == texts[-1], "the newest turn is there"
    assert len(conversation.turns) < 2 * len(texts)
    _, told = talk(Conversation(model, 60, None, False), "Ada lives near the mill. " * 30)
    assert told == [CUT]


def test_the_prompt_is_the_whole_conversation_in_the_chat_format(model: TrainedModel) -> None:
    conversation = Conversation(model, 6, None, False)
    (first, second), _ = talk(conversation, "Who bakes?", "Where?")
    assert first == generate(model.network, model.tokenizer, [render("Who bakes?")], 6)[0]
    whole = render("Who bakes?", output=first) + render("Where?")
    assert second == generate(model.network, model.tokenizer, [whole], 6)[0]


def test_a_model_without_turns_goes_on_with_the_text(
    directory: Path,
    model: TrainedModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.chat import _is_untuned

    plain = PreTrainedTokenizerFast.from_pretrained(directory)
    plain.chat_template = None
    assert _is_untuned(directory, "any", TrainedModel(model.network, plain))
    assert not _is_untuned(directory, "town-assistant", model)
    assert _is_untuned(directory, "town-foundation@challenger", model)
    torch.manual_seed(0)
    out = tmp_path / "pretrain"
    model.network.save_pretrained(out / "model")
    model.tokenizer.save_pretrained(out / "model")
    (out / "summary.json").write_text('{"objective": "causal_lm"}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Ada is a\xff\n")))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown := io.BytesIO()))
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert main(["pretrain", "--max-new-tokens", "7"]) == 0
    sys.stdout.flush()
    expected = generate(model.network, model.tokenizer, ["Ada is a\N{REPLACEMENT CHARACTER}"], 7)[0]
    assert shown.getvalue().decode() == " ".join(expected.split()) + "\n"
