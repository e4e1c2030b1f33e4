"""The one thread in which models answer: requests wait in a bounded queue, and those that run take turns.

A job is a generator. It gives way wherever it yields: a conversation after each piece of its answer, labels after a few
texts. So a short request is not held up by a long answer, and no model and no tokenizer is ever used by two at once.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from models.sampling import Sampling
from tasks.console import log
from tasks.service.metrics import Metrics
from tasks.service.openai import Refusal

if TYPE_CHECKING:
    from models.generation import Continuation
    from tasks.loading import TrainedModel

GONE = 499  # the one who asked went away (nginx's number; nobody reads it but the metrics)
TURNS = 8  # requests that run at once, turn by turn
STEP = 16  # texts that are labelled in one turn
CHARACTERS = 32  # of a token: a text with more than that for each token that fits is not even cut into tokens


class Ticket:
    """A request on its way through the worker: what its job yields reaches the event loop that it came from."""

    def __init__(self, job: Iterator[Any]) -> None:
        self.job, self.left = job, False
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Any] = asyncio.Queue()

    def tell(self, event: Any) -> None:
        """Hand an event, or the error that ended the job, to the one who waits."""
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self) -> Any:
        """Return the next event; raise the error that ended the job."""
        event = await self._events.get()
        if isinstance(event, BaseException):
            raise event
        return event

    @asynccontextmanager
    async def held(self, request: Request) -> AsyncIterator[None]:
        """Inside, the one who asked is watched: once gone, `next` raises HTTPException after what came before."""

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self._events.put_nowait(HTTPException(GONE))

        watching = asyncio.create_task(watch())
        try:
            yield
        except BaseException:
            self.leave()
            raise
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    def leave(self) -> None:
        """Wait no longer: the job ends at its next turn."""
        self.left = True


class Worker:
    """Runs the jobs, in the order in which they came and then by turns."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._waiting: queue.Queue[Ticket] = queue.Queue(most)
        self._running: deque[Ticket] = deque()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        metrics.waiting.set_function(self._waiting.qsize)
        metrics.running.set_function(lambda: len(self._running))

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End within a second or after the turn at hand; what still waits is left."""
        self._ended.set()
        self._thread.join(1.0)

    @property
    def alive(self) -> bool:
        """Return whether there is somebody to do the work."""
        return self._thread.is_alive()

    def submit(self, job: Iterator[Any]) -> Ticket:
        """Take a request; Refusal (429) where too many wait already."""
        ticket = Ticket(job)
        try:
            self._waiting.put_nowait(ticket)
        except queue.Full:
            message = f"{self._waiting.maxsize} requests wait already; come again"
            raise Refusal(429, message, "queue_full", headers={"Retry-After": "1"}) from None
        return ticket

    def _work(self) -> None:
        while not self._ended.is_set():
            self._take_up()
            if self._running and self._turn(self._running[0]):
                self._running.rotate(-1)
            elif self._running:
                self._running.popleft()

    def _take_up(self) -> None:
        """Let waiting requests run while there is room; wait for one where none runs."""
        with suppress(queue.Empty):
            while len(self._running) < TURNS:
                idle = not self._running
                self._running.append(self._waiting.get(block=idle, timeout=0.5 if idle else None))

    def _turn(self, ticket: Ticket) -> bool:
        """Go on with a job until it yields; return whether it has more to do."""
        try:
            if ticket.left:
                if isinstance(ticket.job, Generator):
                    ticket.job.close()
                return False
            event = next(ticket.job)
        except StopIteration:
            return False
        except Refusal as refusal:
            ticket.tell(refusal)
            return False
        except Exception as error:  # of a library, and with words of the input in it: where it happened is all we tell
            log.error("a request failed: %s", where(error))
            ticket.tell(Refusal(500, "the model failed at this request; the service's log says where", "failed"))
            return False
        if event is not None:
            ticket.tell(event)
        return True


def label(model: Any, inputs: list[Any], passage_tokens: int) -> Iterator[list[Any] | None]:
    """Yield None after each turn and at last the answers to texts or questions, as `mlflow models serve` gives them.

    Raises Refusal for the first input that the model cannot read whole.

    Args:
        model: `tasks.registry.answering`.
        passage_tokens: the longest text that a question is asked about.
    """
    for number, item in enumerate(inputs):
        if isinstance(item, dict):
            _require_size(model, item["question"], model.limit, f"inputs[{number}].question")
            _require_size(model, item["context"], passage_tokens, f"inputs[{number}].context")
        else:
            _require_size(model, item, model.limit, f"inputs[{number}]")
        yield None
    answers: list[Any] = []
    for start in range(0, len(inputs), STEP):
        answers += model.answers(inputs[start : start + STEP], None)
        yield None
    yield answers


def converse(
    model: "TrainedModel", turns: Sequence[tuple[str, str]], most: int, sampling: Sampling | None, stops: Sequence[str]
) -> "Iterator[int | str | Continuation]":
    """Yield the number of the prompt's tokens, the pieces of the answer, and at last the whole (`models.generation`).

    Raises Refusal for a conversation that leaves no room for an answer.

    Args:
        turns: (role, text), role `user` or `assistant`.
        most: tokens of the answer, as far as the context has room for them.
    """
    from models.bases import longest_text
    from models.generation import conversation_ids, stream

    context = longest_text(model.network)
    _require_characters(sum(len(text) for _, text in turns), context, "messages")
    ids = conversation_ids(model.tokenizer, turns)
    if len(ids) >= context:
        raise _too_long(f"{len(ids)} tokens", f"{context - 1}, which leaves one for the answer", "messages")
    yield len(ids)
    made = yield from stream(model.network, model.tokenizer, ids, min(most, context - len(ids)), sampling, stops)
    yield made


def _require_size(model: Any, text: str, most: int, what: str) -> None:
    _require_characters(len(text), most, what)
    tokens = model.count(text)
    if tokens > most:
        raise _too_long(f"{tokens} tokens", str(most), what)


def _require_characters(characters: int, tokens: int, what: str) -> None:
    if characters > CHARACTERS * tokens:
        raise _too_long(f"{characters} characters", f"{CHARACTERS * tokens} and {tokens} tokens", what)


def _too_long(found: str, most: str, what: str) -> Refusal:
    return Refusal(400, f"{what}: {found}, expected at most {most}", "context_length_exceeded", what.partition("[")[0])


def where(error: BaseException) -> str:
    """Return the kind of an error and the line that raised it, and none of its words."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name} ({Path(code.co_filename).name}, line {trace.tb_lineno})"
