"""Plain ASGI middleware (a decorated one costs 200 us a request): the last net, the body limit, shedding load."""

import re
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.core.answers import Answer
from holdfast.web.errors import instance_of, status_answer

#: Bytes that a request's body may have.
MAX_BODY = 1 << 20
#: Requests that one process works on at a time; what comes beyond waits nowhere: it is told to come back.
MAX_IN_FLIGHT = 1_000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_ALWAYS_ANSWERED = frozenset({"/health", "/livez", "/readyz", "/_info"})

log = structlog.get_logger(__name__)


async def _send(answer: Answer, send: Send, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", answer.content_type.encode()), (b"content-length", str(len(answer.body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers + (extra or [])})
    await send({"type": "http.response.body", "body": answer.body})


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:19])
    return 0


class Edge:
    """Around the whole application: no fault leaves it unanswered, no body is too large, no crowd slows everybody."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; other protocols pass."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._in_flight >= MAX_IN_FLIGHT and scope["path"] not in _ALWAYS_ANSWERED:
            await _send(status_answer(503, instance=instance_of(scope), headers={"Retry-After": "1"}), send)
            return
        if _content_length(scope) > MAX_BODY:
            # The body is never read: the connection cannot be used again.
            await _send(status_answer(413, instance=instance_of(scope)), send, [(b"connection", b"close")])
            return
        self._in_flight += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self._in_flight -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        received = 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(413)
            return message

        async def noting_send(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, counting_receive, noting_send)
        except Exception:
            log.exception("request.failed", method=scope["method"], path=instance_of(scope))
            if started:
                raise
            await _send(status_answer(500, instance=instance_of(scope)), send)


def sane_request_id(value: str) -> bool:
    """True for a caller's X-Request-ID that may go into logs and answers: 1 to 128 letters, digits, `-_.:`."""
    return _REQUEST_ID.fullmatch(value) is not None
