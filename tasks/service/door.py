"""What every request passes: key, size, the clock, and an end to every error that nobody expected."""

import asyncio
import hmac
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.console import log
from tasks.service.config import KEY, is_loopback
from tasks.service.inference import GONE, where
from tasks.service.metrics import Metrics
from tasks.service.openai import Refusal

OPEN = "/health"
"""The one path that needs no key."""
READ_WITHIN = 30.0  # seconds that a request has to arrive in


class Door:
    """ASGI middleware around the routes."""

    def __init__(self, app: ASGIApp, key: str | None, body_bytes: int, routes: set[str], metrics: Metrics) -> None:
        self.app, self.key, self.body_bytes, self.metrics = app, key, body_bytes, metrics
        self.routes = routes
        """Paths that are named in the metrics; what else is asked for is no label."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever happens; errors go no further than here, since a server would log their words."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        state = scope.setdefault("state", {})
        state["authorised"] = self._authorised(Headers(scope=scope))

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self.app(scope, self._limited(receive), note)
            else:
                await respond(refusal)(scope, receive, note)
        except Exception as error:
            log.error("a request failed: %s", where(error))
            if not status:
                await respond(Refusal(500, "the service failed; its log says where", "failed"))(scope, receive, note)
        finally:
            self._count(scope["path"], state, status or GONE, time.perf_counter() - began)

    def _count(self, path: str, state: MutableMapping[str, Any], status: int, seconds: float) -> None:
        route, model = path if path in self.routes else "other", state.get("model", "")
        self.metrics.requests.labels(route, model, str(status)).inc()
        self.metrics.seconds.labels(route, model).observe(seconds)

    def _authorised(self, headers: Headers) -> bool:
        if self.key is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.key.encode())
        return same and scheme.lower() == "bearer"

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self.key is None and not is_loopback(host if host.endswith("]") else host.rsplit(":", 1)[0]):
            # A page that has its own name point at this machine could otherwise ask, and read the answers.
            return Refusal(403, "the header Host names another machine than this one", "wrong_host")
        if not scope["state"]["authorised"] and scope["path"] != OPEN:
            message = f"expected the header 'Authorization: Bearer' with the key that the service has in {KEY}"
            return Refusal(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        large = length.isdecimal() and (len(length) > 18 or int(length) > self.body_bytes)
        return too_large(self.body_bytes) if large else None

    def _limited(self, receive: Receive) -> Receive:
        read, end = 0, time.monotonic() + READ_WITHIN
        whole = False

        async def next_part() -> Message:
            nonlocal read, whole
            if whole:  # what comes now is that the one who asked goes away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), end - time.monotonic())
            except TimeoutError:
                raise HTTPException(408, f"the request did not arrive within {READ_WITHIN:g} s") from None
            read += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if read > self.body_bytes:
                raise HTTPException(413, too_large(self.body_bytes).message)
            return message

        return next_part


def too_large(body_bytes: int) -> Refusal:
    """Return the refusal of a request with too many bytes."""
    return Refusal(413, f"the request is larger than {body_bytes} bytes", "request_too_large")


def respond(refusal: Refusal) -> JSONResponse:
    """Return a refusal as an answer."""
    return JSONResponse(refusal.body(), refusal.status, refusal.headers)
