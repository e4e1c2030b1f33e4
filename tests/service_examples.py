"""A registry with tiny random champions, and the service on them on a port of loopback."""

import hashlib
import http.client
import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from models_examples import TEXTS

from models.architecture import ArchitectureConfig, build
from models.generation import stop_ids
from models.objectives import OBJECTIVES
from tasks import registry, tracking
from tasks.encoding import TokenizerConfig, train_tokenizer
from tasks.lineage import PREFIX
from tasks.receipts import part_digest
from tasks.service import app as service
from tasks.service.config import ServiceConfig, listen

CHANGES: dict[str, dict[str, Any]] = {
    "classification": {"id2label": {0: "bad", 1: "fine", 2: "good"}},
    "token_classification": {"id2label": {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}},
}


def make(directory: Path, kind: str, seed: int = 3, context: int = 64, endless: bool = False) -> Path:
    """Write a tiny random model of a kind, with its tokenizer, and return its directory; an endless one never ends."""
    from transformers import AutoTokenizer

    train_tokenizer(TokenizerConfig(vocab_size=320), TEXTS, directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    size = {"family": "llama", "layers": 1, "hidden": 32, "heads": 2, "intermediate": 64, "context": context}
    auto, changes = OBJECTIVES[kind].auto, CHANGES.get(kind, {})
    shape = ArchitectureConfig.model_validate(size)
    model = build(shape, len(tokenizer), seed, tokenizer.eos_token_id, tokenizer.pad_token_id, auto=auto, **changes)
    for weight in model.parameters():
        weight.data.mul_(8)  # initial weights are small: larger ones tell answers apart
    if endless:
        head: Any = model.get_output_embeddings()
        head.weight.data[stop_ids(model, tokenizer)] = 0  # there is always a likelier token
    model.save_pretrained(directory)
    return directory


class Registry:
    """An MLflow registry below a directory, whose versions are copies of model directories."""

    def __init__(self, root: Path) -> None:
        self.root, self.uri = root, f"sqlite:///{root}/mlflow.db"

    def register(self, name: str, model: Path, kind: str, champion: bool = True) -> str:
        """Register a version that a gate let through, and return it."""
        from mlflow.exceptions import MlflowException

        client = tracking.client()
        place = self.root / "store" / hashlib.sha256(os.urandom(8)).hexdigest()[:12]
        shutil.copytree(model, place / "artifacts" / "model")
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            assert error.error_code == "RESOURCE_ALREADY_EXISTS"
        digest = part_digest(model, "model")
        tags = {registry.EVIDENCE: json.dumps({"kind": kind}), f"{PREFIX}weights_digest": digest}
        version = str(client.create_model_version(name, place.as_uri(), tags=tags).version)
        if champion:
            self.promote(name, version)
        return version

    def promote(self, name: str, version: str) -> None:
        """Move the alias."""
        tracking.client().set_registered_model_alias(name, "champion", version)


class Server:
    """The service, in a thread of this process, on a socket of its own."""

    def __init__(self, key: str | None = None, **config: Any) -> None:
        self.key = key
        self.config = ServiceConfig.model_validate({"port": 0, "every": 0.1, **config})
        self.socket = listen(self.config.host, self.config.port, key)
        self.port = int(self.socket.getsockname()[1])
        self.app = service.build(self.config, key)
        self.service: service.Service = self.app.state.service
        settings = uvicorn.Config(self.app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=8)
        self.server = uvicorn.Server(settings)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def __enter__(self) -> "Server":
        self.thread.start()
        wait_for(lambda: self.server.started and not self.service.champions.loading)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (lower case) and body of one request; a body that is no bytes is sent as JSON."""
        given = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, data, given | (headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Return status and content of a request in JSON."""
        status, _, content = self.ask("POST", path, body)
        return status, json.loads(content)

    def metric(self, line: str) -> float:
        """Return the value of one line of the metrics; 0 where it is not there."""
        for found in self.ask("GET", "/metrics")[2].decode().splitlines():
            if found.startswith(f"{line} "):
                return float(found.split()[-1])
        return 0.0


def wait_for(happened: Any, seconds: float = 240) -> None:
    """Return once it happened; fail where it does not."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
