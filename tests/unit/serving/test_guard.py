"""The guard before stand-ins of Serve's proxy."""

import asyncio
import json
from typing import Any

import pytest
from asking import Answer, ask_app

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
