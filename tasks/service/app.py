"""The routes of the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from tasks.service import openai
from tasks.service.champions import ROUTES, Champion, Champions
from tasks.service.config import ServiceConfig
from tasks.service.door import OPEN, Door, respond
from tasks.service.inference import Ticket, Worker, converse, label
from tasks.service.metrics import Metrics
from tasks.service.openai import DONE, Asked, Chat, Completion, Refusal, event
from tasks.service.record import Record


class Texts(Asked):
    """A request for the labels, or the entities, of texts."""

    model: str
    inputs: list[str] = Field(min_length=1)


class Question(Asked):
    """A question about a text."""

    question: str
    context: str


class Questions(Asked):
    """A request for the answers to questions."""

    model: str
    inputs: list[Question] = Field(min_length=1)


class Service:
    """What the routes share."""

    def __init__(self, config: ServiceConfig) -> None:
        self.config, self.metrics = config, Metrics()
        self.record = None if config.record is None else Record(config.record, self.metrics)
        self.worker = Worker(config.queue, self.metrics)
        self.champions = champions = Champions(config.every, self.metrics.unreachable.inc)
        self.metrics.watch(
            "alma_champion",
            "The version that answers.",
            ("model", "version", "kind"),
            lambda: ([name, one.version, one.kind] for name, one in champions.serving.items()),
        )
        self.metrics.watch(
            "alma_champion_not_loaded",
            "A champion that cannot be loaded.",
            ("model", "version"),
            lambda: ([name, one.version] for name, one in champions.unloaded.items()),
        )

    def begin(self, request: Request, name: str, route: str) -> Champion:
        """Return the champion that answers a request."""
        champion = self.champions.find(name, route)
        request.state.model = champion.name
        return champion

    async def label(self, request: Request, route: str, name: str, inputs: list[Any]) -> Response:
        """Answer texts or questions."""
        champion = self.begin(request, name, route)
        if len(inputs) > self.config.inputs:
            message = f"inputs has {len(inputs)} entries, expected at most {self.config.inputs}"
            raise Refusal(400, message, "too_many_inputs", "inputs")
        ticket = self.worker.submit(label(champion.model, inputs, self.config.passage_tokens))
        async with ticket.held(request):
            answers = await ticket.next()
        if self.record is not None:
            self.record.write(champion.name, champion.version, inputs, answers)
        content = {"model": champion.name, "version": champion.version, "outputs": answers}
        return JSONResponse(content, headers=_headers(champion))

    async def chat(self, request: Request, asked: Chat) -> Response:
        """Answer a conversation, whole or in pieces."""
        champion = self.begin(request, asked.model, openai.ROUTE)
        wanted = [most for most in (asked.max_completion_tokens, asked.max_tokens) if most is not None]
        turns = [(message.role, message.text) for message in asked.messages]
        most = min([*wanted, self.config.new_tokens])
        ticket = self.worker.submit(converse(champion.model, turns, most, asked.sampling, asked.stops))
        async with ticket.held(request):
            # What is refused is refused before the first piece.
            completion = Completion(champion.name, champion.version, await ticket.next())
            if not asked.stream:
                while isinstance(made := await ticket.next(), str):
                    pass
                self._spoke(champion, asked, made.text, made.tokens)
                return JSONResponse(completion.whole(made), headers=_headers(champion))
        pieces = self._stream(champion, asked, completion, ticket)
        return StreamingResponse(pieces, media_type="text/event-stream", headers=_headers(champion))

    async def _stream(
        self, champion: Champion, asked: Chat, completion: Completion, ticket: Ticket
    ) -> AsyncIterator[str]:
        said, tokens = "", 0
        try:
            yield completion.chunk({"role": "assistant", "content": ""})
            while isinstance(made := await ticket.next(), str):
                said += made
                yield completion.chunk({"content": made})
            tokens = made.tokens
            yield completion.chunk({}, made)
            if asked.stream_options is not None and asked.stream_options.include_usage:
                yield completion.usage_chunk(made)
            yield DONE
        except Refusal as refusal:
            yield event(refusal.body())
        except HTTPException:
            pass  # gone before the first piece: nobody reads this
        finally:
            ticket.leave()
            self._spoke(champion, asked, said, tokens)

    def _spoke(self, champion: Champion, asked: Chat, said: str, tokens: int) -> None:
        self.metrics.tokens.labels(champion.name, champion.version).inc(tokens)
        if self.record is not None:
            turns = [{"role": message.role, "content": message.text} for message in asked.messages]
            self.record.write(champion.name, champion.version, turns, said)

    def health(self, details: bool) -> JSONResponse:
        """Return whether requests are answered; by which versions, and what is wrong, only to those who may ask."""
        champions = self.champions
        reason = "" if champions.serving else "loading" if champions.loading else "no model is loaded"
        if champions.problem is not None and not champions.serving:
            reason = "the registry does not answer"
        if not self.worker.alive:
            reason = "the thread that answers has ended"
        content: dict[str, Any] = {"status": "unavailable", "reason": reason} if reason else {"status": "ready"}
        if details:
            content["models"] = {
                name: {"version": one.version, "kind": one.kind} for name, one in champions.serving.items()
            }
            content["not_loaded"] = {
                name: {"version": one.version, "reason": one.reason} for name, one in champions.unloaded.items()
            }
            content["not_served"] = {
                name: {"version": one.version, "kind": one.kind} for name, one in champions.unserved.items()
            }
            content["registry"] = champions.problem or "ok"
        return JSONResponse(content, 503 if reason else 200)

    def models(self) -> dict[str, Any]:
        """Return what can be asked, as OpenAI's clients list it."""
        return {"object": "list", "data": [_row(one) for _, one in sorted(self.champions.serving.items())]}


def build(config: ServiceConfig, key: str | None) -> FastAPI:
    """Return the service; it follows the registry that MLFLOW_TRACKING_URI names from its start to its end."""
    service = Service(config)

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        service.champions.start()
        yield
        # On threads of their own: a load, or a turn, that is under way holds up nobody.
        await asyncio.gather(asyncio.to_thread(service.champions.stop), asyncio.to_thread(service.worker.stop))

    app = FastAPI(title="Alma", lifespan=run, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)

    @app.post("/v1/classify")
    async def classify(asked: Texts, request: Request) -> Response:
        return await service.label(request, "/v1/classify", asked.model, asked.inputs)

    @app.post("/v1/tag")
    async def tag(asked: Texts, request: Request) -> Response:
        return await service.label(request, "/v1/tag", asked.model, asked.inputs)

    @app.post("/v1/answer")
    async def answer(asked: Questions, request: Request) -> Response:
        inputs = [item.model_dump() for item in asked.inputs]
        return await service.label(request, "/v1/answer", asked.model, inputs)

    @app.post(openai.ROUTE)
    async def chat(asked: Chat, request: Request) -> Response:
        return await service.chat(request, asked)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return service.models()

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        return _row(service.champions.find(name))

    @app.get(OPEN)
    async def health(request: Request) -> Response:
        return service.health(details=request.state.authorised)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    routes = {*ROUTES.values(), "/v1/models", OPEN, "/metrics"}
    app.add_middleware(Door, key=key, body_bytes=config.body_bytes, routes=routes, metrics=service.metrics)
    return app


def _row(champion: Champion) -> dict[str, Any]:
    return {
        "id": champion.name,
        "object": "model",
        "created": champion.created,
        "owned_by": "alma",
        "version": champion.version,
        "kind": champion.kind,
        "route": ROUTES[champion.kind],
    }


def _headers(champion: Champion) -> dict[str, str]:
    return {"Alma-Model": champion.name, "Alma-Version": champion.version}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return respond(error)


async def _invalid(request: Request, error: Exception) -> Response:
    """Say the first thing that is wrong with a request, by the name of the field."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return respond(Refusal(400, f"the body is no JSON: {first['ctx']['error']}", "invalid_request"))
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "extra_forbidden":
        return respond(Refusal(400, f"{place}: is not supported", "unknown_parameter", place))
    said = first["msg"].removeprefix("Value error, ")
    return respond(Refusal(400, f"{place or 'the body'}: {said}", "invalid_request", place or None))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "wrong_method", 408: "timeout", 413: "request_too_large"}
    code = codes.get(error.status_code, "invalid_request")
    return respond(Refusal(error.status_code, str(error.detail), code, headers=dict(error.headers or {})))
