"""What stands before the replicas, in each of Serve's proxies.

A proxy of Ray Serve takes bodies of any size, answers some failures with nothing or with plain
text, and gives up a request whose replica dies. Nothing that is asked of this service changes
anything, so such a request can be given to another replica; that is done here, once. At the end of
the service Serve ends its proxies with whatever they work on: the board says beforehand when no
more requests are to be let in, and is told when all are answered.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixnmatch_platform.serving.board import BEAT_SECONDS, BOARD, NAMESPACE
from mixnmatch_platform.serving.limits import MIB, Limits
from mixnmatch_platform.serving.metrics import page_of

__all__ = ["MARK", "Guard", "middlewares"]

METRICS = "/metrics"
MARK = b"x-replica"
"""Header of each answer that a replica has made itself."""
PASSED = {b"accept", b"authorization", b"content-length", b"content-type", b"host"}
"""Headers of requests that go on; by others clients could change how long Serve waits, and more."""
TRIES = 2
HELD_BYTES = 1024 * MIB
"""Of the bodies of all requests that a proxy works on."""
RETRY_SECONDS = 2
FIGURES_SECONDS = 5.0
"""For a replica to answer what whoever collects figures asks, and gives up after 10 s."""
ENDING_BEAT_SECONDS = 0.1
PLAIN = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


def middlewares() -> list[Middleware]:
    """What Ray Serve is told to put before its proxies."""
    import ray

    try:
        board = ray.get_actor(BOARD, namespace=NAMESPACE)
    except ValueError:  # the command was killed, and what it began goes on
        board = None
    node = ray.get_runtime_context().get_node_id()
    return [Middleware(Guard, name=f"proxy-{node[:8]}", board=board)]


class Guard:
    """Bounds bodies, tries once more where a replica died, and has every refusal say why in JSON.

    Args:
        app: A proxy, or the application itself.
        limits: Of a request.
        held_bytes: Of the bodies of all requests at once.
        name: Of the proxy, in figures.
        board: Handle of the actor ``Board``; without one no end is heard of.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits | None = None,
        held_bytes: int = HELD_BYTES,
        *,
        name: str = "proxy",
        board: Any = None,
    ) -> None:
        self._app = app
        self._name = name
        self._limits = limits or Limits()
        self._held_bytes = held_bytes
        self._held = 0
        self._registry = CollectorRegistry()
        self._refused = Counter(
            "mixnmatch_refused_requests",
            "Requests that no replica has answered.",
            ["status"],
            registry=self._registry,
        )
        self._working = 0
        self._closed = False
        if board is not None:  # in a proxy, whose event loop runs already
            self._telling = asyncio.create_task(self._tell(board))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self._app(scope, receive, send)
        elif self._closed:
            await self._refuse(send, 503, "the service is being ended: try again later")
        else:
            self._working += 1
            try:
                await self._answer(scope, receive, send)
            finally:
                self._working -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self._limits.body_bytes
        if _length(scope) > most:
            await self._refuse(send, 413, f"the request has more than {most} bytes: send less")
            return
        figures = scope["path"] == METRICS
        if figures:
            receive = _leaving(receive, FIGURES_SECONDS)
        body = _Body(receive, most=most, room=self._room)
        answer: list[Message] = []
        try:
            for _ in range(TRIES):
                answer = []

                async def keep(message: Message, answer: list[Message] = answer) -> None:
                    answer.append(message)

                headers = [(name, value) for name, value in scope["headers"] if name in PASSED]
                await self._app({**scope, "headers": headers}, body.from_its_start(), keep)
                if _is_whole(answer) or body.ended_early:
                    break
        finally:
            self._held -= body.size
        if body.too_large:
            await self._refuse(send, 413, f"the request has more than {most} bytes: send less")
        elif body.no_room:
            await self._refuse(send, 503, "too many large requests at once: try again in a moment")
        elif _is_whole(answer) and _is_marked(answer):
            if figures and answer[0]["status"] == 200:
                answer = _longer(answer, self._page())
            for message in answer:
                await send(message)
        elif figures:
            for message in _whole(200, [PLAIN], self._page()):
                await send(message)
        elif body.disconnected:
            pass  # nobody is there to be refused
        elif _is_whole(answer):
            await self._say_why(answer[0]["status"], send)
        else:
            await self._refuse(send, 503, "the replica that worked on it ended: try again")

    async def _tell(self, board: Any) -> None:
        """Tell the board how it goes here, again and again, and hear whether to let no more in."""
        from ray.exceptions import RayError

        while True:
            busy = not self._closed or self._working > 0
            with suppress(RayError):  # the command is gone: what it began goes on
                self._closed = await board.report_proxy.remote(self._name, self._refusals(), busy)
            await asyncio.sleep(ENDING_BEAT_SECONDS if self._closed else BEAT_SECONDS)

    def _refusals(self) -> int:
        samples = (sample for metric in self._registry.collect() for sample in metric.samples)
        return sum(int(sample.value) for sample in samples if sample.name.endswith("_total"))

    def _page(self) -> bytes:
        return page_of({self._name: self._registry.collect()})

    async def _say_why(self, status: int, send: Send) -> None:
        """Refuse in place of a proxy, whose words are for whoever knows Ray Serve."""
        if status == 408:
            await self._refuse(send, 504, "it took too long: ask for less, or try again later")
        elif status == 404:
            # Before the service is up, when the command itself asks whether it is.
            line = "no model is served yet: try again in a moment"
            await self._refuse(send, 503, line, counts=False)
        else:
            await self._refuse(send, 503, "too many requests wait: try again in a moment")

    async def _refuse(self, send: Send, status: int, line: str, counts: bool = True) -> None:
        if counts:
            self._refused.labels(status).inc()
        headers = [(b"content-type", b"application/json")]
        if status == 503:
            headers.append((b"retry-after", b"%d" % RETRY_SECONDS))
        for message in _whole(status, headers, json.dumps({"error": line}).encode()):
            await send(message)

    def _room(self, size: int) -> bool:
        """Whether there is room for more of a body, which then counts."""
        if self._held + size > self._held_bytes:
            return False
        self._held += size
        return True


class _Body:
    """A body as it comes, kept so that it can be read again."""

    def __init__(self, receive: Receive, *, most: int, room: Callable[[int], bool]) -> None:
        self._receive = receive
        self._most = most
        self._room = room
        self._kept: list[Message] = []
        self.size = 0
        self.too_large = self.no_room = self.disconnected = False

    @property
    def ended_early(self) -> bool:
        """Whether it cannot be read to its end."""
        return self.too_large or self.no_room or self.disconnected

    def from_its_start(self) -> Receive:
        """What gives the messages of the request, the first one first."""
        place = 0

        async def receive() -> Message:
            nonlocal place
            if place == len(self._kept):
                await self._next()
            place += 1
            return self._kept[place - 1]

        return receive

    async def _next(self) -> None:
        message = await self._receive()
        if message["type"] == "http.request":
            more = len(message.get("body", b""))
            self.too_large = self.size + more > self._most
            self.no_room = not self.too_large and not self._room(more)
            if self.ended_early:
                message = {"type": "http.disconnect"}
            else:
                self.size += more
        else:
            self.disconnected = True
        self._kept.append(message)


def _leaving(receive: Receive, seconds: float) -> Receive:
    """The messages of a client that leaves after some time."""
    deadline = asyncio.get_running_loop().time() + seconds

    async def next_message() -> Message:
        try:
            async with asyncio.timeout_at(deadline):
                return await receive()
        except TimeoutError:
            return {"type": "http.disconnect"}

    return next_message


def _length(scope: Scope) -> int:
    given = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(given) if given.isdigit() else 0


def _is_whole(answer: list[Message]) -> bool:
    return bool(answer) and not answer[-1].get("more_body", answer[-1]["type"].endswith("start"))


def _is_marked(answer: list[Message]) -> bool:
    return any(name.lower() == MARK for name, _ in answer[0]["headers"])


def _longer(answer: list[Message], more: bytes) -> list[Message]:
    """An answer with something after its end."""
    start, *bodies = answer
    body = b"".join(message.get("body", b"") for message in bodies) + more
    headers = [
        (name, value) for name, value in start["headers"] if name.lower() != b"content-length"
    ]
    return _whole(start["status"], headers, body)


def _whole(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> list[Message]:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    return [
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    ]
