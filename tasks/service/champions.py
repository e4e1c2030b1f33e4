"""The champions of the registry: found, loaded and warmed beside those that answer, and put in their place."""

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import registry
from tasks.console import log
from tasks.lineage import PREFIX
from tasks.receipts import part_digest
from tasks.service import openai
from tasks.service.inference import converse, label

ROUTES = {
    "classification": "/v1/classify",
    "token_classification": "/v1/tag",
    "question_answering": "/v1/answer",
    "instruction": openai.ROUTE,
    "preference": openai.ROUTE,
    "rlhf": openai.ROUTE,
}
"""Kind of model -> the route that asks it."""
AGAIN = 60.0  # seconds until a version that could not be loaded is tried once more
LONGEST_REASON = 300  # characters
PASSAGE = 64  # tokens that what a new version is asked about has at most
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@dataclass(frozen=True)
class Champion:
    """A version that answers."""

    name: str
    version: str
    kind: str
    created: int
    """Seconds since 1970."""
    model: Any
    """What `tasks.registry.answering` returns, a `tasks.loading.TrainedModel` where it talks, None where none asks."""


@dataclass(frozen=True)
class Unloaded:
    """A champion that cannot be loaded; the version before it, if any, goes on answering."""

    version: str
    reason: str
    since: float


class Champions:
    """Which version of which model answers; every attribute is replaced as a whole, so that a reader needs no lock."""

    def __init__(self, every: float, failed_look: Callable[[], None] = lambda: None) -> None:
        self.every, self.failed_look = every, failed_look
        self.named: Mapping[str, str] | None = None
        """Model -> version that has the alias; None before the first look."""
        self.serving: Mapping[str, Champion] = {}
        self.unloaded: Mapping[str, Unloaded] = {}
        self.unserved: Mapping[str, Champion] = {}
        """Champions of a kind that no route asks; they are not loaded."""
        self.problem: str | None = None
        """Why the registry could not be asked; what was loaded goes on answering."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champions", daemon=True)

    def start(self) -> None:
        """Begin to follow the registry in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End it, at most a second later, even in the middle of a load."""
        self._ended.set()
        self._thread.join(1.0)

    def _follow(self) -> None:
        while not self._ended.is_set():
            self.look()
            self._ended.wait(self.every)

    def look(self) -> None:
        """Ask the registry once, and load what is new; a registry out of reach changes nothing."""
        try:
            named = registry.champions()
        except Exception as error:  # whatever a store out of reach makes MLflow raise
            if self.problem is None:
                log.warning("the registry did not answer (%s); what is loaded goes on answering", _line(error))
            self.problem = _line(error)
            self.failed_look()
            return
        if self.problem is not None:
            log.info("the registry answers again")
        self.problem, self.named = None, named
        for name in {*self.serving, *self.unloaded, *self.unserved} - named.keys():
            self._forget(name)
            log.info("%s has no champion any more", name)
        for name, version in named.items():
            if self._ended.is_set():
                return
            self._take_up(name, version)

    def _take_up(self, name: str, version: str) -> None:
        serving, failed = self.serving.get(name), self.unloaded.get(name)
        known = serving or self.unserved.get(name)
        if known is not None and known.version == version:
            self.unloaded = _without(self.unloaded, name)
            return
        if failed is not None and failed.version == version and time.monotonic() < failed.since + AGAIN:
            return
        try:
            champion = load(name, version)
        except Exception as error:  # whatever a damaged version makes a library raise
            reason = _line(error)
            log.warning("%s/%s cannot be loaded: %s", name, version, reason)
            self.unloaded = {**self.unloaded, name: Unloaded(version, reason, time.monotonic())}
            return
        if champion.model is None:
            self._forget(name)
            self.unserved = {**self.unserved, name: champion}
            return
        self.unloaded, self.unserved = _without(self.unloaded, name), _without(self.unserved, name)
        self.serving = {**self.serving, name: champion}
        before = "" if serving is None else f", after version {serving.version}"
        log.info("%s/%s answers %s%s", name, version, ROUTES[champion.kind], before)

    def _forget(self, name: str) -> None:
        self.serving, self.unloaded = _without(self.serving, name), _without(self.unloaded, name)
        self.unserved = _without(self.unserved, name)

    @property
    def loading(self) -> bool:
        """Return whether there are champions that were not tried yet."""
        tried = self.serving.keys() | self.unloaded.keys() | self.unserved.keys()
        return self.named is None or not self.named.keys() <= tried

    def find(self, name: str, route: str | None = None) -> Champion:
        """Return the champion that answers; Refusal where there is none, or where another route asks it."""
        champion = self.serving.get(name)
        if champion is None:
            raise self._refusal(name)
        own = ROUTES[champion.kind]
        if route not in (None, own):
            raise openai.Refusal(400, f"{name} is a {champion.kind} model, which {own} asks", "wrong_route", "model")
        return champion

    def _refusal(self, name: str) -> openai.Refusal:
        if name in self.unserved:
            return openai.Refusal(
                404, f"{name} is a {self.unserved[name].kind} model, which no route asks", "no_route", "model"
            )
        if self.named is None or name in self.named:
            message = f"{name} is not loaded" if name in self.unloaded else "the champions are being loaded"
            return openai.Refusal(503, message, "not_loaded", "model", {"Retry-After": "5"})
        known = ", ".join(sorted(self.serving)) or "none"
        message = f"no champion of that name; there is {known}, and a request names no version"
        return openai.Refusal(404, message, "model_not_found", "model")


def load(name: str, version: str) -> Champion:
    """Return a version of the registry, loaded and warm; without a model where no route serves its kind.

    Raises ValueError for a version that no gate decided on, whose files are not those that were decided on, or that
    holds anything but safetensors to load.
    """
    found = registry.find_version(f"{name}/{version}")
    if found is None or registry.EVIDENCE not in found.tags:
        raise ValueError("was registered without evidence, by something else")
    kind, created = str(json.loads(found.tags[registry.EVIDENCE])["kind"]), int(found.creation_timestamp or 0) // 1000
    if kind not in ROUTES:
        return Champion(name, version, kind, created, None)
    with registry.borrowed_directory(name, version) as directory:
        require_safetensors(directory)
        if part_digest(directory, "model") != found.tags.get(f"{PREFIX}weights_digest"):
            raise ValueError("its files are not those that were decided on (alma.weights_digest)")
        if ROUTES[kind] == openai.ROUTE:
            from tasks.loading import load as load_trained

            model: Any = load_trained(directory, kind)
            answers: list[Any] = list(converse(model, [("user", "Are you warm?")], 2, None, []))
        else:
            model = registry.answering(kind, directory)
            text = "It is warm."
            warm = {"question": "Is it warm?", "context": text} if kind == "question_answering" else text
            answers = list(label(model, [warm], PASSAGE))
    json.dumps(answers, allow_nan=False)  # weights that are no numbers would answer so
    return Champion(name, version, kind, created, model)


def require_safetensors(directory: Path) -> None:
    """Raise ValueError naming the file of a model directory with which anything but safetensors would be loaded."""
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such directory")
    names = sorted(path.name for path in directory.iterdir())
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights:
        pickled = [name for name in names if name.endswith(PICKLED)]
        what = f"{pickled[0]} is a pickle, which runs code when it is loaded" if pickled else "no weights"
        raise ValueError(f"{directory}: {what}; expected safetensors")
    if "adapter_config.json" in names:
        raise ValueError(f"{directory}: adapter_config.json names weights beside these, expected a merged model")
    for name in names:
        values = json.loads((directory / name).read_text(encoding="utf-8")) if name.endswith(".json") else {}
        if isinstance(values, dict) and "auto_map" in values:
            raise ValueError(f"{directory / name}: auto_map names code of its own, which is never run")
        parts = values.get("weight_map", {}).values() if name.endswith(".index.json") else ()
        for part in parts:
            if part not in weights:
                raise ValueError(f"{directory / name}: names {part!r}, expected safetensors of this directory")


def _without(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _line(error: BaseException) -> str:
    """Return an error in one line, without the password that an address in it may have."""
    said = re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))
    return said[:LONGEST_REASON] or type(error).__name__
