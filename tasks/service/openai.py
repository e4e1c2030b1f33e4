"""The OpenAI protocol as far as it is spoken here: errors, chat completions whole and in pieces, models."""

import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.sampling import Sampling

if TYPE_CHECKING:
    from models.generation import Continuation

ROUTE = "/v1/chat/completions"
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "store": (False,),
}
"""Parameters that are not followed: None and these values, which change nothing, are let through."""
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """An answer that is an error: said to the one who asked, and nowhere else."""

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.headers = status, message, code, param, headers or {}

    def body(self) -> dict[str, Any]:
        """Return the error in the form that OpenAI's clients read."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        # A lone surrogate, which JSON can carry and UTF-8 cannot, may have come with the request.
        message, param = (text and text.encode("utf-8", "replace").decode() for text in (self.message, self.param))
        return {"error": {"message": message, "type": kind, "param": param, "code": self.code}}


class Asked(BaseModel):
    """A part of a request; a field that is not known is refused by its name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(Asked):
    """A piece of a message; pictures and sound are refused by their type."""

    type: Literal["text"]
    text: str


class Message(Asked):
    """A turn of the conversation."""

    role: Literal["user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """Return the turn's text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(Asked):
    """What comes with a stream."""

    include_usage: bool = False


class Chat(Asked):
    """A request for an answer to a conversation.

    Greedy unless it asks for a `temperature`, or draws by a `top_p`: that is how the model was assessed. `user` is
    ignored. What is not followed must be left out, or have the value that changes nothing (`NEUTRAL`).
    """

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    user: str | None = None
    n: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    logit_bias: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    response_format: Any = None
    tools: Any = None
    tool_choice: Any = None
    store: Any = None

    @field_validator(*NEUTRAL, mode="after")
    @classmethod
    def _changes_nothing(cls, value: Any, info: Any) -> Any:
        allowed = NEUTRAL[info.field_name]
        if value is not None and not any(type(value) in (type(one), float) and value == one for one in allowed):
            raise ValueError(f"is not supported; leave it out, or give {json.dumps(allowed[0])}")
        return value

    @field_validator("stop")
    @classmethod
    def _some_text(cls, value: str | list[str] | None) -> str | list[str] | None:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > 4 or not all(0 < len(stop) <= 100 for stop in stops):
            raise ValueError("expected at most 4 texts, each of 1 to 100 characters")
        return value

    @property
    def stops(self) -> list[str]:
        """Return the texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def sampling(self) -> Sampling | None:
        """Return how tokens are drawn; None: the likeliest each time."""
        if self.temperature == 0 or (self.temperature is None and self.top_p is None):
            return None
        seed = uuid.uuid4().int if self.seed is None else self.seed
        # A temperature next to 0 would overflow the logits; below a thousandth nothing is left to chance.
        return Sampling(temperature=max(self.temperature or 1.0, 1e-3), top_p=self.top_p or 1.0, seed=seed % 2**32)


class Completion:
    """The answer to one request for a chat, as it is sent."""

    def __init__(self, model: str, version: str, prompt_tokens: int) -> None:
        self.common = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"{model}/{version}",
            "version": version,
        }
        self.prompt_tokens = prompt_tokens

    def whole(self, made: "Continuation") -> dict[str, Any]:
        """Return the answer as one object."""
        message = {"role": "assistant", "content": made.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(made)}
        return {**self.common, "object": "chat.completion", "choices": [choice], "usage": self.usage(made)}

    def chunk(self, delta: dict[str, str], made: "Continuation | None" = None) -> str:
        """Return an event of a stream: a piece, or with what was made the end."""
        reason = None if made is None else finish_reason(made)
        return self._event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}])

    def usage_chunk(self, made: "Continuation") -> str:
        """Return the event of a stream that says how many tokens it took."""
        return self._event([], usage=self.usage(made))

    def usage(self, made: "Continuation") -> dict[str, int]:
        """Return the tokens of prompt and answer, the markers of the prompt included."""
        total = self.prompt_tokens + made.tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": made.tokens, "total_tokens": total}

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> str:
        return event({**self.common, "object": "chat.completion.chunk", "choices": choices, **more})


def event(data: dict[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(data)}\n\n"


DONE = "data: [DONE]\n\n"


def finish_reason(made: "Continuation") -> str:
    """Return why an answer ended: by itself or at a stop, or for want of room."""
    return "stop" if made.ended else "length"
