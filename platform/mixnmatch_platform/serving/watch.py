"""What happens to each request of a replica: its token is checked, and it is counted."""

import hashlib
import hmac
import time

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixnmatch_platform.serving.board import UNANSWERED
from mixnmatch_platform.serving.guard import MARK
from mixnmatch_platform.serving.service import Service

__all__ = ["Watch", "digest"]

OPEN = ("/", "/healthz")
"""Paths that need no token; nor do the files of the page."""


def digest(token: str) -> bytes:
    """What replicas know of a token."""
    return hashlib.sha256(token.encode()).digest()


class Watch:
    """Asks for the token, marks and counts answers.

    Args:
        app: The routes.
        service: Whose token and metrics.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, begun, status = self._service.metrics, time.perf_counter(), UNANSWERED

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                mark = (MARK, self._service.replica.encode())
                message = {**message, "headers": [*message["headers"], mark]}
            await send(message)

        with metrics.in_progress.track_inprogress():
            try:
                if self._knows_token(scope):
                    await self._app(scope, receive, marked)
                else:
                    refusal = JSONResponse(
                        {"error": "the token is missing or wrong: send Authorization: Bearer …"},
                        401,
                        {"WWW-Authenticate": "Bearer"},
                    )
                    await refusal(scope, receive, marked)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                metrics.requests.labels(route, str(status)).inc()
                metrics.seconds.labels(route).observe(time.perf_counter() - begun)

    def _knows_token(self, scope: Scope) -> bool:
        wanted, path = self._service.token, scope["path"]
        if wanted is None or path in OPEN or path.startswith("/studio/"):
            return True
        sent = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, token = sent.partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(
            hashlib.sha256(token.strip()).digest(), wanted
        )
