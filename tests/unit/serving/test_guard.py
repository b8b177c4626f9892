"""The guard before stand-ins of Serve's proxy."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asking import Answer, ask_app

from mixnmatch_platform.serving import guard as guard_module
from mixnmatch_platform.serving.guard import MARK, Guard
from mixnmatch_platform.serving.limits import Limits

LIMITS = Limits(body_bytes=1000)


class Proxy:
    """Reads the body and answers as the next of its answers says: a status, or how it fails."""

    def __init__(self, *answers: int | str) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.headers: set[bytes] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = {name for name, _ in scope["headers"]}
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        answer = self.answers.pop(0)
        if answer == "dies":
            return
        if answer == "waits":
            while (await receive())["type"] != "http.disconnect":
                pass
            answer = 499
        marked = [(MARK, b"r1")] if answer in (200, 422, 500, "dies late") else []
        status = answer if isinstance(answer, int) else 200
        await send({"type": "http.response.start", "status": status, "headers": marked})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        if answer != "dies late":
            await send({"type": "http.response.body", "body": b" more"})


def ask(proxy: Proxy, body: bytes = b"x" * 500, held: int = 10**6, **parts: Any) -> Answer:
    guard = Guard(proxy, LIMITS, held)
    answer = asyncio.run(ask_app(guard, "POST", "/mix", data=body, **parts))
    assert guard._held == 0
    return answer


@pytest.mark.parametrize("status", [200, 422, 500])
def test_what_a_replica_says_is_passed_on(status: int) -> None:
    answer = ask(Proxy(status))
    assert (answer.status, answer.body) == (status, b"some more")


@pytest.mark.parametrize("death", ["dies", "dies late"])
def test_a_request_whose_replica_dies_is_given_to_another(death: str) -> None:
    proxy = Proxy(death, 200)
    answer = ask(proxy, pieces=3)
    assert (answer.status, answer.body) == (200, b"some more")
    assert proxy.bodies == [b"x" * 500] * 2


def test_one_that_kills_replicas_is_not_given_to_more() -> None:
    proxy = Proxy("dies", "dies", 200)
    answer = ask(proxy)
    assert answer.status == 503
    assert "ended" in answer.error
    assert len(proxy.bodies) == 2


@pytest.mark.parametrize(("said", "status"), [(408, 504), (503, 503), (404, 503)])
def test_words_of_the_proxy_become_a_line(said: int, status: int) -> None:
    answer = ask(Proxy(said))
    assert answer.status == status
    assert "again" in answer.error
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    proxy = Proxy(200)
    answer = ask(proxy, b"x" * 1001)
    assert answer.status == 413
    assert "1000" in answer.error
    assert proxy.bodies == []


def test_a_body_that_does_not_say_so_is_read_up_to_the_limit() -> None:
    parts = {"headers": {"content-length": "7"}, "pieces": 4}
    assert ask(Proxy(200), b"x" * 1000, **parts).status == 200
    proxy = Proxy(200)
    assert ask(proxy, b"x" * 1001, **parts).status == 413
    assert proxy.bodies == []


def test_no_header_changes_how_serve_treats_a_request() -> None:
    proxy = Proxy(200)
    theirs = {"x-request-timeout-seconds": "0", "x-request-disconnect-disabled": "?1"}
    ask(proxy, headers={**theirs, "authorization": "Bearer x", "content-type": "a/b"})
    assert proxy.headers == {b"authorization", b"content-length", b"content-type"}


def test_all_bodies_together_have_a_limit() -> None:
    answer = ask(Proxy(200), held=499)
    assert answer.status == 503
    assert json.loads(answer.body)["error"].startswith("too many large requests")


def test_refusals_are_counted_beside_the_figures_of_the_replicas() -> None:
    guard = Guard(Proxy(408, 503, 503, 200, 422), LIMITS)

    async def ask_all() -> list[Answer]:
        asked = [await ask_app(guard, "POST", "/mix") for _ in range(3)]
        asked.append(await ask_app(guard, "POST", "/mix", data=b"x" * 1001))
        return [*asked, *[await ask_app(guard, "GET", "/metrics") for _ in range(2)]]

    *refused, page, failed = asyncio.run(ask_all())
    assert [answer.status for answer in refused] == [504, 503, 503, 413]
    assert page.body.startswith(b"some more# HELP mixnmatch_refused_requests_total")
    assert page.headers["content-length"] == str(len(page.body))
    for status, count in (("504", 1), ("503", 2), ("413", 1)):
        line = f'mixnmatch_refused_requests_total{{replica="proxy",status="{status}"}} {count}.0'
        assert line in page.body.decode().splitlines()
    assert (failed.status, failed.body) == (422, b"some more")


@pytest.mark.parametrize("answer", [408, 503, 404, "dies", "waits"])
def test_the_figures_of_a_proxy_are_there_when_no_replica_answers(
    answer: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "FIGURES_SECONDS", 0.1)
    guard = Guard(Proxy(503, *[answer] * guard_module.TRIES), LIMITS, name="proxy-1")

    async def go() -> Answer:
        await ask_app(guard, "POST", "/mix")
        return await asyncio.wait_for(ask_app(guard, "GET", "/metrics"), 10)

    page = asyncio.run(go())
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/plain")
    lines = page.body.decode().splitlines()
    assert 'mixnmatch_refused_requests_total{replica="proxy-1",status="503"} 1.0' in lines


def test_what_is_asked_before_there_is_a_model_counts_for_nothing() -> None:
    guard = Guard(Proxy(404), LIMITS)
    assert asyncio.run(ask_app(guard, "GET", "/healthz")).status == 503
    assert guard._refusals() == 0


def test_who_has_left_is_not_refused() -> None:
    guard = Guard(Proxy("waits"), LIMITS)
    sent: list[Any] = []

    async def go() -> None:
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await guard({"type": "http", "path": "/mix", "headers": []}, receive, send)

    asyncio.run(go())
    assert sent == []
    assert guard._refusals() == 0


class Board:
    """Hears what proxies report, and says whether the service ends."""

    def __init__(self) -> None:
        self.ending = False
        self.heard: list[tuple[str, int, bool]] = []
        self.report_proxy = SimpleNamespace(remote=self._report)

    async def _report(self, proxy: str, refused: int, busy: bool) -> bool:
        self.heard.append((proxy, refused, busy))
        return self.ending


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def test_at_the_end_what_has_begun_is_answered_and_nothing_more_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard_module, "BEAT_SECONDS", 0.02)
    board, proxy = Board(), Proxy(200)

    async def go() -> None:
        may_go_on = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await may_go_on.wait()
            await proxy(scope, receive, send)

        guard = Guard(slow, LIMITS, name="proxy-1", board=board)
        begun = asyncio.create_task(ask_app(guard, "POST", "/mix"))
        await until(lambda: guard._working == 1 and bool(board.heard))
        board.ending = True
        await until(lambda: guard._closed)
        late = await ask_app(guard, "POST", "/mix")
        assert late.status == 503
        assert "being ended" in late.error
        count = len(board.heard)
        await until(lambda: len(board.heard) > count)
        assert board.heard[-1] == ("proxy-1", 1, True), "it still works on one"
        may_go_on.set()
        assert (await begun).status == 200
        await until(lambda: board.heard[-1] == ("proxy-1", 1, False))
        guard._telling.cancel()

    asyncio.run(go())
