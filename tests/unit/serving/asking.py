"""Asks an application in this process, as a server would."""

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import requests
from PIL import Image

VERSION = 7


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.body))

    @property
    def error(self) -> str:
        """The line of a refusal, which has nothing else."""
        content = self.json()
        assert list(content) == ["error"]
        assert len(content["error"].splitlines()) == 1
        return str(content["error"])


Ask = Callable[..., Answer]


async def ask_app(app: Any, method: str, path: str, pieces: int = 1, **parts: Any) -> Answer:
    """One request; ``parts`` are those of ``requests``, the body comes in so many pieces."""
    sent = requests.Request(method, f"http://test{path}", **parts).prepare()
    body = sent.body or b""
    body = body.encode() if isinstance(body, str) else body
    size = -(-len(body) // pieces) or 1
    chunks = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    messages = [
        {"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)}
        for i, chunk in enumerate(chunks)
    ]
    answer: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        answer.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.lower().encode(), str(v).encode()) for k, v in sent.headers.items()],
        "server": ("test", 80),
        "client": ("test", 1),
        "scheme": "http",
        "http_version": "1.1",
    }
    await app(scope, receive, send)
    start, *rest = answer
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], headers, b"".join(part.get("body", b"") for part in rest))


def files(**pictures: bytes | str) -> dict[str, Any]:
    """Parts of a form: files, and texts."""
    return {
        name: (name, value) if isinstance(value, bytes) else (None, value)
        for name, value in pictures.items()
    }


async def nobody() -> dict[str, Any]:
    """The figures of other replicas, where there are none."""
    return {}


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
