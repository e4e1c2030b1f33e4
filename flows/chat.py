"""A conversation with a language model in the terminal: `python -m flows chat <model>`."""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bases import longest_text
from models.sampling import Sampling

if TYPE_CHECKING:
    from tasks.loading import TrainedModel

DROPPED = "(the oldest exchanges no longer fit into the model's context and are left out)"
CUT = "(this does not fit into the model's context: only its end is read)"
HELP = "/reset forgets the conversation, /quit ends it"


def main(arguments: list[str]) -> int:
    """Talk with a model until the input ends; return 0, or 2 for a model or a value that cannot be used.

    In a terminal the answer appears as it is written. Where the input is a pipe each line is one turn, and each
    answer one line of the output; all else that is said goes to stderr.
    """
    options = _parser().parse_args(arguments)
    from flows.environment import set_environment

    set_environment()
    try:
        sampling = _sampling(options)
        directory = _find(options.model)
        model = _load(directory)
        complete = options.complete or _is_untuned(directory, options.model, model)
        Conversation(model, options.max_new_tokens, sampling, complete).run()
    except (KeyboardInterrupt, EOFError):
        print()
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader went away; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows chat",
        description="Talk with a language model. An instruction model answers; a foundation goes on with the text.",
        epilog=HELP,
    )
    parser.add_argument(
        "model",
        help="a model's directory, artifacts/starter/finetune/assistant for example, or a registered model: "
        "starter-assistant (its champion), starter-assistant@challenger, starter-assistant/3",
    )
    parser.add_argument("--temperature", type=float, help="draw tokens, from logits divided by this (default: greedy)")
    parser.add_argument("--top-k", type=int, help="draw from so many of the likeliest tokens")
    parser.add_argument("--top-p", type=float, help="draw from the fewest tokens that together have this probability")
    parser.add_argument("--seed", type=int, help="draw with this seed (default: another one each time)")
    parser.add_argument("--max-new-tokens", type=int, help="longest answer (default: half of the context, at most 256)")
    parser.add_argument("--complete", action="store_true", help="go on with the text, without the chat format")
    return parser


def _sampling(options: argparse.Namespace) -> Sampling | None:
    """Return how tokens are drawn, None for greedy; ValueError names the option that cannot be used."""
    from pydantic import ValidationError

    names = ("temperature", "top_k", "top_p", "seed")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if not given:
        return None
    try:
        return Sampling(**{"seed": int.from_bytes(os.urandom(4), "big"), **given})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise ValueError(f"{option} is {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def _find(name: str) -> Path:
    """Return the directory of a model; ValueError in one line where there is none of that name."""
    from tasks.registry import directory_of

    directory = next((path for path in (Path(name), Path(name, "model")) if (path / "config.json").is_file()), None)
    directory = directory or directory_of(name)
    if directory is None:
        raise ValueError(f"{name}: no directory with a config.json, and no registered model or alias of that name")
    return directory


def _load(directory: Path) -> "TrainedModel":
    """Return the causal model of a directory; ValueError where it holds another kind, or is damaged."""
    from transformers.utils.logging import set_verbosity_error

    from tasks.loading import load

    _check_head(directory)
    set_verbosity_error()
    try:
        return load(directory, "causal_lm")
    except Exception as error:  # whatever a damaged directory makes a library raise
        raise ValueError(f"{directory}: cannot be loaded ({error})") from error


def _check_head(directory: Path) -> None:
    """Refuse a model that predicts no next token: loaded as one, it would answer from a random head."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known: set[Any] = set()
    for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        known |= {names} if isinstance(names, str) else set(names)
    found = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    if not known & set(found):
        raise ValueError(f"{directory}: holds {', '.join(found) or 'no named architecture'}, expected a language model")


def _is_untuned(directory: Path, name: str, model: "TrainedModel") -> bool:
    """Return whether this is a foundation of the project, which never saw a turn: it goes on with the text.

    Its tokenizer carries the project's template all the same, for the specialists to come; a base of someone
    else's has a template of its own where it was tuned on turns.
    """
    from models.chat import CHAT_TEMPLATE
    from tasks.recipe import FOUNDATION

    if model.tokenizer.chat_template != CHAT_TEMPLATE:
        return not model.tokenizer.chat_template
    summary = directory.parent / "summary.json"
    if summary.is_file():
        return json.loads(summary.read_text(encoding="utf-8")).get("objective") == "causal_lm"
    return re.split("[@/]", name)[0].endswith(f"-{FOUNDATION}")


class Conversation:
    """Turns in their order, of which the model reads as many of the newest as its context holds."""

    def __init__(
        self, model: "TrainedModel", max_new_tokens: int | None, sampling: Sampling | None, complete: bool
    ) -> None:
        self.model, self.sampling = model, sampling
        context = longest_text(model.network)
        self.max_new_tokens = min(256, context // 2) if max_new_tokens is None else max_new_tokens
        self.room = context - self.max_new_tokens
        if self.max_new_tokens < 1 or self.room < 1:
            raise ValueError(
                f"--max-new-tokens is {max_new_tokens}, expected 1 to {context - 1} (the context less one)"
            )
        self.complete = complete
        self.turns: list[dict[str, str]] = []
        self.told = False

    def answer(self, text: str, tell: Callable[[str], None]) -> Iterator[str]:
        """Yield the pieces of the answer to `text`; `tell` hears, once, that old exchanges were left out."""
        from models.generation import stream

        self.turns.append({"role": "user", "content": text})
        while len(self.turns) > 1 and self._length(self._prompt()) > self.room:
            del self.turns[:2]
            if not self.told:
                tell(DROPPED)
                self.told = True
        prompt = self._prompt()
        if self._length(prompt) > self.room:
            tell(CUT)
        said = ""
        try:
            for piece in stream(self.model.network, self.model.tokenizer, prompt, self.max_new_tokens, self.sampling):
                said += piece
                yield piece
        finally:
            # An answer that was stopped stays as far as it came, so that the turns keep their order.
            self.turns.append({"role": "assistant", "content": said})

    def _prompt(self) -> str:
        if self.complete:
            return self.turns[-1]["content"]
        template: Any = self.model.tokenizer.apply_chat_template
        return str(template(self.turns, tokenize=False, add_generation_prompt=True))

    def _length(self, prompt: str) -> int:
        return len(self.model.tokenizer.backend_tokenizer.encode(prompt, add_special_tokens=False).ids)

    def run(self) -> None:
        """Read turns until the input ends; `/reset` forgets them, `/quit` ends."""
        terminal = sys.stdin.isatty()
        for stream in (sys.stdin, sys.stdout):
            stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
        for line in _typed() if terminal else sys.stdin:
            text = line.strip()
            if text == "/quit":
                return
            if text == "/reset":
                self.turns, self.told = [], False
            elif text:
                self._say(text, terminal)

    def _say(self, text: str, terminal: bool) -> None:
        def tell(words: str) -> None:
            print(words, file=sys.stderr, flush=True)

        pieces = self.answer(text, tell)
        if not terminal:
            print(" ".join("".join(pieces).split()), flush=True)
            return
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
        finally:
            print()


def _typed() -> Iterator[str]:
    """Yield what is typed, with the line editing and the history of the terminal."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    print(HELP)
    while True:
        yield input("> ")
