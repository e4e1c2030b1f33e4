"""The service on a real registry, a real server and tiny champions: what it answers, and what it refuses."""

import asyncio
import http.client
import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models_examples import TEXTS
from service_examples import Registry, Server, make, wait_for
from workspaces import environment

from flows.__main__ import main
from models.chat import render
from models.generation import continuations
from models.sampling import Sampling
from tasks import registry
from tasks.console import log
from tasks.loading import load
from tasks.service.app import Service
from tasks.service.openai import ROUTE as CHAT

KEY = "0123456789abcdef"
ASKED = {
    "town-reviews": ("/v1/classify", ["The inn was good.", "Never again."]),
    "town-names": ("/v1/tag", ["Ada Cole, of Elmsford; met Bo-Ann.", ""]),
    "town-finder": ("/v1/answer", [{"question": "Who bakes?", "context": " ".join(TEXTS)[:300]}]),
}
KINDS = {"town-reviews": "classification", "town-names": "token_classification", "town-finder": "question_answering"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    kinds = {**KINDS, "town-assistant": "instruction"}
    return {name: make(root / name, kind) for name, kind in kinds.items()} | {
        "other": make(root / "other", "classification", seed=4),
        "town-talker": make(root / "town-talker", "instruction", context=256, endless=True),
    }


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Iterator[Registry]:
    with pytest.MonkeyPatch.context() as patch:
        found = Registry(tmp_path_factory.mktemp("registry"))
        patch.setenv("MLFLOW_TRACKING_URI", found.uri)
        for name, kind in KINDS.items():
            found.register(name, models[name], kind)
        found.register("town-assistant", models["town-assistant"], "rlhf")
        found.register("town-talker", models["town-talker"], "instruction")
        found.register("town-foundation", models["town-assistant"], "foundation")
        yield found


@pytest.fixture(scope="module")
def server(town: Registry) -> Iterator[Server]:
    with Server() as running:
        yield running


def conversation(text: str, model: str = "town-assistant", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def events(server: Server, asked: dict[str, Any]) -> list[Any]:
    """Return what a stream says, event by event."""
    status, headers, body = server.ask("POST", CHAT, {**asked, "stream": True})
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), body
    lines = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.mark.parametrize("name", ASKED)
def test_a_route_answers_what_mlflow_serves(server: Server, models: dict[str, Path], name: str) -> None:
    route, inputs = ASKED[name]
    counted = f'alma_requests_total{{model="{name}",route="{route}",status="200"}}'
    before = server.metric(counted)
    status, headers, body = server.ask("POST", route, {"model": name, "inputs": inputs})
    assert status == 200, body
    assert (headers["alma-model"], headers["alma-version"]) == (name, "1")
    expected = registry.answering(KINDS[name], models[name]).answers(inputs, None)
    assert json.loads(body) == {"model": name, "version": "1", "outputs": expected}
    wait_for(lambda: server.metric(counted) == before + 1)


def test_a_chat_answers_what_the_model_says(server: Server, models: dict[str, Path]) -> None:
    model = load(models["town-assistant"], "instruction")
    turns = [("user", "Who bakes?"), ("assistant", "Ada."), ("user", "A <|end|> that is text")]
    asked = {"model": "town-assistant", "max_tokens": 20, "user": "me", "n": 1, "presence_penalty": 0.0}
    asked["messages"] = [{"role": role, "content": text} for role, text in turns[:-1]]
    asked["messages"].append({"role": "user", "content": [{"type": "text", "text": turns[-1][1]}]})
    said = server.metric('alma_generated_tokens_total{model="town-assistant",version="1"}')
    status, whole = server.post(CHAT, asked)
    assert status == 200, whole
    prompt = render("Who bakes?", output="Ada.") + "<|user|>"
    ids = model.tokenizer.encode(prompt, add_special_tokens=False)
    ids += model.tokenizer.encode(" A <|end|> that is text", add_special_tokens=False, split_special_tokens=True)
    ids += model.tokenizer.encode("<|assistant|>", add_special_tokens=False)
    made = model.network.generate(
        torch.tensor([ids]), max_new_tokens=20, do_sample=False, pad_token_id=model.tokenizer.pad_token_id
    )[0, len(ids) :]
    tokens = whole["usage"]["completion_tokens"]
    text = model.tokenizer.decode(made[:tokens], clean_up_tokenization_spaces=False).strip()
    (choice,) = whole["choices"]
    assert choice["message"] == {"role": "assistant", "content": text, "refusal": None}
    assert choice["finish_reason"] == ("length" if tokens == 20 else "stop")
    assert (whole["object"], whole["model"], whole["version"]) == ("chat.completion", "town-assistant", "1")
    assert whole["usage"]["prompt_tokens"] == len(ids)
    assert server.metric('alma_generated_tokens_total{model="town-assistant",version="1"}') == said + tokens


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"max_tokens": 3},
        {"temperature": 1.3, "top_p": 0.9, "seed": 7},
        {"stop": ["e"], "stream_options": {"include_usage": True}},
        {"temperature": 0, "max_completion_tokens": 100000},
    ],
)
def test_a_stream_joins_to_the_whole_answer(server: Server, models: dict[str, Path], how: dict[str, Any]) -> None:
    model = load(models["town-assistant"], "instruction")
    prompt = render("Where is the mill?")
    prompt_tokens = len(model.tokenizer.encode(prompt, add_special_tokens=False))
    most = min(how.get("max_tokens", 256), 64 - prompt_tokens)
    sampling = Sampling(temperature=1.3, top_p=0.9, seed=7) if "seed" in how else None
    (made,) = continuations(model.network, model.tokenizer, [prompt], most, sampling=sampling)
    expected = made.text.partition("e")[0] if "stop" in how else made.text
    _, whole = server.post(CHAT, conversation("Where is the mill?", **how))
    assert whole["choices"][0]["message"]["content"] == expected
    said = events(server, conversation("Where is the mill?", **how))
    if "stream_options" in how:
        usage = said.pop()
        assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["id"] == said[0]["id"] for chunk in said)
    choices = [chunk["choices"][0] for chunk in said]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(choice["delta"].get("content", "") for choice in choices) == expected
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert (choices[-1]["delta"], choices[-1]["finish_reason"]) == ({}, whole["choices"][0]["finish_reason"])
    if "stop" not in how:
        assert whole["choices"][0]["finish_reason"] == ("stop" if made.ended else "length")


def test_a_client_that_others_wrote_is_answered(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of huggingface_hub, which speaks OpenAI's protocol and reads answers into types of its own."""
    from huggingface_hub import InferenceClient

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    client = InferenceClient(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none")
    asked: dict[str, Any] = {
        **conversation("Where is the mill?", stop=["e"]),
        "max_tokens": 12,
        "seed": 1,
        "top_p": 0.9,
    }
    whole = client.chat.completions.create(**asked)
    pieces = list(client.chat.completions.create(**asked, stream=True))
    said = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert said == whole.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert whole.usage.prompt_tokens + whole.usage.completion_tokens == whole.usage.total_tokens
    assert whole.system_fingerprint == "town-assistant/1"


def test_the_models_are_listed_with_their_routes(server: Server) -> None:
    found = json.loads(server.ask("GET", "/v1/models")[2])
    routes = {row["id"]: (row["version"], row["route"]) for row in found["data"]}
    expected = {name: ("1", route) for name, (route, _) in ASKED.items()}
    assert routes == expected | {"town-assistant": ("1", CHAT), "town-talker": ("1", CHAT)}
    assert json.loads(server.ask("GET", "/v1/models/town-names")[2]) in found["data"]
    assert server.ask("GET", "/v1/models/nowhere")[0] == 404
    assert server.metric('alma_champion{kind="rlhf",model="town-assistant",version="1"}') == 1


def test_what_cannot_be_asked_is_refused_by_name(server: Server) -> None:
    def refused(path: str, body: Any) -> tuple[int, str, str, str]:
        status, content = server.post(path, body)
        error = content["error"]
        return status, error["code"], error["param"], error["message"]

    for name, status, code in (
        ("town-names", 400, "wrong_route"),
        ("town-foundation", 404, "no_route"),
        ("nowhere", 404, "model_not_found"),
        ("town-reviews/1", 404, "model_not_found"),
        ("town-reviews@champion", 404, "model_not_found"),
    ):
        assert refused("/v1/classify", {"model": name, "inputs": ["x"]})[:3] == (status, code, "model")
    asked = {"model": "town-reviews", "inputs": ["x"] * 65}
    assert refused("/v1/classify", asked)[3] == "inputs has 65 entries, expected at most 64"
    long = {"model": "town-reviews", "inputs": ["fine", "Ada bakes. " * 40]}
    status, code, param, message = refused("/v1/classify", long)
    assert (status, code, param) == (400, "context_length_exceeded", "inputs")
    assert message.startswith("inputs[1]: ")
    assert message.endswith(" tokens, expected at most 64")
    assert "inputs[0]: 9000 characters" in refused("/v1/classify", {"model": "town-reviews", "inputs": ["a" * 9000]})[3]
    question = {"question": "Ada bakes. " * 40, "context": "She does."}
    assert "inputs[0].question: " in refused("/v1/answer", {"model": "town-finder", "inputs": [question]})[3]
    status, code, param, message = refused(CHAT, conversation("Ada bakes. " * 40))
    assert (status, code, param) == (400, "context_length_exceeded", "messages")
    assert message.endswith("expected at most 63, which leaves one for the answer")
    for field, value in {
        "n": 2,
        "tools": [{"type": "function"}],
        "logprobs": True,
        "response_format": {"type": "json_object"},
        "temperature": 3,
        "stop": [""],
        "max_tokens": 0,
        "audio": {},
    }.items():
        status, _, param, message = refused(CHAT, conversation("Who?", **{field: value}))
        assert (status, param) == (400, field)
        assert message.startswith(f"{field}: ")
    assert refused(CHAT, {**conversation("x"), "messages": [{"role": "system", "content": "x"}]})[0] == 400
    assert refused("/v1/nothing", {})[:2] == (404, "not_found")
    assert server.ask("GET", "/v1/classify")[0] == 405
    # A page in a browser may send text to another machine without asking it first, but no JSON.
    assert server.ask("POST", "/v1/classify", {"model": "a", "inputs": ["x"]}, {"Content-Type": "text/plain"})[0] == 400
    assert server.ask("GET", "/health", headers={"Host": "rebound.example:80"})[0] == 403


def test_a_body_is_bounded_while_it_is_read(town: Registry) -> None:
    with Server(body_bytes=1000) as small:
        fits = {"model": "town-reviews", "inputs": ["x"], "fill": " " * 900}
        assert small.post("/v1/classify", fits)[0] == 400
        status, content = small.post("/v1/classify", {**fits, "fill": " " * 1000})
        assert (status, content["error"]["code"]) == (413, "request_too_large")
        connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=30)
        parts = (b" " * 500 for _ in range(8))
        connection.request("POST", "/v1/classify", parts, {"Content-Type": "application/json"}, encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()


def test_every_route_but_health_wants_the_key(town: Registry) -> None:
    with Server(key=KEY) as locked:
        paths = [("POST", route) for route in (*(route for route, _ in ASKED.values()), CHAT)]
        for method, path in [*paths, ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/openapi.json")]:
            for wrong in ("", "Bearer", f"Bearer {KEY}x", f"Basic {KEY}", f"Bearer {KEY[:-1]}\xe9"):
                status, headers, body = locked.ask(method, path, headers={"Authorization": wrong})
                assert (status, headers["www-authenticate"]) == (401, "Bearer"), (path, wrong, body)
        assert json.loads(locked.ask("GET", "/health", headers={"Authorization": ""})[2]) == {"status": "ready"}
        assert "models" in json.loads(locked.ask("GET", "/health")[2])
        assert locked.post("/v1/classify", {"model": "town-reviews", "inputs": ["x"]})[0] == 200


def test_the_alias_moves_under_load(server: Server, town: Registry, models: dict[str, Path]) -> None:
    """Two versions answer one after the other, every request is answered, and by the version that it names."""
    texts = ["The inn was good.", "Never again.", "Ada bakes."]
    answers = {
        version: registry.answering("classification", models[name]).answers(texts, None)
        for version, name in (("1", "town-reviews"), ("2", "other"))
    }
    assert answers["1"] != answers["2"]
    assert town.register("town-reviews", models["other"], "classification", champion=False) == "2"
    found: list[tuple[int, Any]] = []
    moved = threading.Event()

    def load() -> None:
        while not moved.is_set():
            found.append(server.post("/v1/classify", {"model": "town-reviews", "inputs": texts}))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(load)
        for version in ("2", "1"):
            town.promote("town-reviews", version)
            wait_for(lambda version=version: server.service.champions.serving["town-reviews"].version == version)
        count = len(found)
        wait_for(lambda: len(found) >= count + 8)
        moved.set()
    assert {status for status, _ in found} == {200}
    assert {content["version"] for _, content in found} == {"1", "2"}
    for _, content in found:
        for one, expected in zip(content["outputs"], answers[content["version"]], strict=True):
            assert one["label"] == expected["label"]
            assert one["score"] == pytest.approx(expected["score"], abs=1e-5)


class Canary:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_version_that_cannot_be_loaded_leaves_the_old_one(
    server: Server, town: Registry, models: dict[str, Path], tmp_path: Path
) -> None:
    def refused(what: str, change: Any) -> None:
        bad = Path(shutil.copytree(models["town-names"], tmp_path / what))
        change(bad)
        version = town.register("town-names", bad, "token_classification")
        wait_for(lambda: getattr(server.service.champions.unloaded.get("town-names"), "version", "") == version)
        health = json.loads(server.ask("GET", "/health")[2])
        assert what in health["not_loaded"]["town-names"]["reason"]
        assert health["not_loaded"]["town-names"]["version"] == version
        assert health["models"]["town-names"]["version"] == "1"
        assert server.metric(f'alma_champion_not_loaded{{model="town-names",version="{version}"}}') == 1
        assert server.post("/v1/tag", {"model": "town-names", "inputs": ["Ada"]})[1]["version"] == "1"

    def pickled(bad: Path) -> None:
        (bad / "model.safetensors").unlink()
        torch.save({"weights": Canary(tmp_path / "sang")}, bad / "pytorch_model.bin")

    def elsewhere(bad: Path) -> None:
        torch.save({"weights": Canary(tmp_path / "sang")}, bad / "shard.bin")
        (bad / "model.safetensors.index.json").write_text('{"weight_map": {"a": "shard.bin"}}')

    refused("pytorch_model.bin is a pickle", pickled)
    refused("'shard.bin', expected safetensors", elsewhere)
    refused("auto_map", lambda bad: (bad / "config.json").write_text('{"auto_map": {}}'))
    refused("adapter_config.json", lambda bad: (bad / "adapter_config.json").write_text("{}"))
    assert not (tmp_path / "sang").exists()
    changed = town.register("town-names", models["town-names"], "token_classification", champion=False)
    (stored,) = (path for path in town.root.glob("store/*/artifacts/model") if _is(path, "town-names", changed))
    (stored / "model.safetensors").write_bytes((models["town-names"] / "model.safetensors").read_bytes() + b" ")
    town.promote("town-names", changed)
    wait_for(lambda: "decided on" in server.service.champions.unloaded["town-names"].reason)
    town.promote("town-names", "1")
    wait_for(lambda: not server.service.champions.unloaded)


def _is(path: Path, name: str, version: str) -> bool:
    return registry.model_directory(name, version) == path


def test_a_full_queue_sends_the_next_one_away(town: Registry) -> None:
    with Server(queue=2) as busy:
        hold = threading.Event()

        def slow() -> Iterator[None]:
            hold.wait(60)
            yield None

        async def submit() -> None:
            busy.service.worker.submit(slow())

        asyncio.run(submit())
        wait_for(lambda: busy.metric("alma_running_requests") == 1)
        asked = {"model": "town-reviews", "inputs": ["x"]}
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(busy.post, "/v1/classify", asked) for _ in range(2)]
            wait_for(lambda: busy.metric("alma_waiting_requests") == 2)
            for body in (asked, conversation("Who?"), conversation("Who?", stream=True)):
                status, headers, content = busy.ask("POST", "/v1/classify" if body is asked else CHAT, body)
                assert (status, headers["retry-after"]) == (429, "1")
                assert json.loads(content)["error"]["type"] == "rate_limit_error"
            hold.set()
            assert [done.result()[0] for done in waiting] == [200, 200]


def test_one_who_leaves_is_not_worked_for(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    asked = conversation("Where is the mill?", "town-talker", stream=True)
    connection.request("POST", CHAT, json.dumps(asked), {"Content-Type": "application/json"})
    connection.getresponse().read(20)
    connection.close()
    wait_for(lambda: server.metric("alma_running_requests") == 0)


class Unready(Server):
    """Waits for the registry to be out of reach."""

    def __enter__(self) -> Server:
        self.thread.start()
        wait_for(lambda: self.server.started and self.service.champions.problem is not None)
        return self


def test_without_a_champion_nothing_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    with Unready() as empty:
        status, _, body = empty.ask("GET", "/health")
        assert (status, json.loads(body)["reason"]) == (503, "the registry does not answer")
        assert empty.post("/v1/classify", {"model": "town-reviews", "inputs": ["x"]})[0] == 503
        assert empty.metric("alma_registry_errors_total") >= 1
    assert not (tmp_path / "none.db").exists()


def test_nothing_of_an_input_is_kept_unless_it_is_asked_for(
    town: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "Zanzibar-7491"
    caplog.set_level(logging.DEBUG)

    def use(server: Server) -> None:
        for name, (route, _) in ASKED.items():
            item = {"question": secret, "context": secret} if name == "town-finder" else secret
            assert server.post(route, {"model": name, "inputs": [item]})[0] == 200
        assert server.post(CHAT, conversation(secret, max_tokens=4))[0] == 200
        events(server, conversation(secret, max_tokens=4))
        server.ask("POST", f"/v1/classify?text={secret}", f'{{"{secret}": '.encode())
        server.post("/v1/classify", {"model": secret, "inputs": [secret]})

        async def fail() -> Service:
            def job() -> Iterator[None]:
                yield None
                raise RuntimeError(secret)

            ticket = server.service.worker.submit(job())
            with pytest.raises(Exception, match="the model failed"):
                await ticket.next()
            return server.service

        asyncio.run(fail())
        assert secret not in server.ask("GET", "/metrics")[2].decode()

    with Server() as quiet:
        use(quiet)
    said = "".join(capfd.readouterr()) + "".join(f"{line.getMessage()}{line.exc_text}" for line in caplog.records)
    assert "a request failed: RuntimeError in job (test_service.py" in said
    assert secret not in said
    with Server(record=tmp_path / "asked.jsonl") as recording:
        use(recording)
    rows = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    assert [(row["model"], row["version"]) for row in rows] == [
        *((name, "1") for name in ASKED),
        *[("town-assistant", "1")] * 2,
    ]
    assert rows[0]["input"] == [secret]
    assert rows[-1]["input"] == [{"role": "user", "content": secret}]
    assert rows[-1]["output"] == rows[-2]["output"]
    assert (tmp_path / "asked.jsonl").stat().st_mode & 0o777 == 0o600


FIELDS = ["model", "inputs", "messages", "role", "content", "stream", "temperature", "stop", "n", "question", "seed"]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["town-reviews", "town-assistant", "town-finder", "user", "\ud800"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    route=st.sampled_from([CHAT, *(route for route, _ in ASKED.values())]),
    body=st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()),
)
def test_no_body_is_too_strange(server: Server, route: str, body: bytes) -> None:
    status, _, content = server.ask("POST", route, body)
    assert status < 500, content
    if status != 200:
        assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"model": ' + b"1" * 5000 + b"}", b'{"model": NaN}', b"\xff", b'"\\ud800"', b""]
)
def test_no_json_is_too_strange(server: Server, body: bytes) -> None:
    assert server.ask("POST", CHAT, body)[0] == 400


@pytest.fixture
def kept_process() -> Iterator[None]:
    """What a command sets for its own process is put back."""
    before, handlers, propagates = dict(os.environ), list(log.handlers), log.propagate
    yield
    os.environ.clear()
    os.environ.update(before)
    log.handlers[:], log.propagate = handlers, propagates


@pytest.mark.usefixtures("kept_process")
def test_what_keeps_it_from_starting_is_one_line(
    town: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(*arguments: str, key: str | None = None, uri: str = town.uri) -> str:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.delenv("ALMA_API_KEY", raising=False)
        if key is not None:
            monkeypatch.setenv("ALMA_API_KEY", key)
        assert main(["serve", "--port", "0", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        return said

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port is {port}: cannot listen on 127.0.0.1 (Address already in use)" in refused("--port", str(port))
    assert "there is no registry yet; `make run` makes one" in refused(uri=f"sqlite:///{tmp_path}/none.db")
    shutil.copy(town.root / "mlflow.db", tmp_path / "bare.db")
    with sqlite3.connect(tmp_path / "bare.db") as bare:
        bare.execute("delete from registered_model_aliases")
    bare.close()
    assert "no registered model has a champion" in refused(uri=f"sqlite:///{tmp_path}/bare.db")
    assert "ALMA_API_KEY has 5 characters, expected at least 16" in refused(key="short")
    assert "ALMA_API_KEY has 0 characters" in refused(key="")
    assert "printable ASCII characters without a space" in refused(key=f"{KEY} {KEY}")
    for host in ("0.0.0.0", "::"):
        assert "without a key in ALMA_API_KEY the service listens on loopback alone" in refused("--host", host)
    assert "--host is 'no host'" in refused("--host", "no host")
    assert "--every is '0': input should be greater than 0" in refused("--every", "0")
    assert "--record is nowhere/x: cannot be written" in refused("--record", "nowhere/x")


def test_told_to_end_it_finishes_what_it_began(town: Registry, tmp_path: Path) -> None:
    """In a process of its own, in which Prefect cannot be imported."""
    command = "import sys; sys.modules['prefect'] = None; from flows.__main__ import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "serve", "--port", "0"],
        cwd=tmp_path,
        env=environment(tmp_path, MLFLOW_TRACKING_URI=town.uri, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    said = ""
    while "town-talker/1 answers" not in said:
        said = process.stdout.readline()
        assert said, "the service ended"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    asked = conversation("Who?", "town-talker", stream=True, max_tokens=150)
    connection.request("POST", CHAT, json.dumps(asked), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    begun = answer.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = (begun + answer.read()).decode()
    assert '"finish_reason": "length"' in said
    assert said.endswith("data: [DONE]\n\n")
    assert process.wait(30) == 0
    assert time.monotonic() - began < 12
    assert "Traceback" not in process.stdout.read()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
