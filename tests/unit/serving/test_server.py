"""What the command that serves does itself, without Ray."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from mixnmatch.errors import Stopped
from mixnmatch_platform.services import Service
from mixnmatch_platform.serving import server
from mixnmatch_platform.serving.ending import told_to_end


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"status": "ok"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """Where something answers on this machine."""
    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(server, "READY_SECONDS", 2)
    assert server._waited_for(url, lambda _: True) == {"status": "ok"}
    created = psutil.Process().create_time()
    own = Service(name="mlflow", pid=os.getpid(), created=created, url=url, address=url)
    assert own.answers


def signals(*numbers: int, up: bool = False) -> list[bool]:
    """Raise signals, one after the other; whether the service was told to end after each."""
    told = []
    with told_to_end() as (is_up, over):
        if up:
            is_up.set()
        try:
            for number in numbers:
                signal.raise_signal(number)
                told.append(over.is_set())
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGTERM)  # it is being seen to
            raise
    return told


def test_sigterm_ends_a_service_that_is_not_up() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="before the service was up"):
        signals(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_ends_a_service_that_is_not_up() -> None:
    with pytest.raises(KeyboardInterrupt):
        signals(signal.SIGINT)


def test_one_that_is_up_is_told_and_a_second_ctrl_c_ends_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert signals(signal.SIGTERM, signal.SIGTERM, up=True) == [True, True]
    assert signals(signal.SIGINT, signal.SIGTERM, up=True) == [True, True]
    with pytest.raises(KeyboardInterrupt):
        signals(signal.SIGTERM, signal.SIGINT, up=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "answering what has begun; Ctrl-C again ends at once"


def test_the_summary_has_what_no_replica_has_seen() -> None:
    totals = {"2": 5, "4": 2, "5": 1, "refused": 4, "painted": 9}
    line = "answered 12 requests in 3 s (6 refused, 1 failed), painted 9 pictures"
    assert server._summary(totals, 3.2) == line
