"""Plain ASGI middleware (a decorated one costs 200 us a request): the last net, the body's limits, shedding load, HEAD."""

import asyncio
import re
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.core.answers import Answer
from holdfast.web.errors import instance_of, status_answer
from holdfast.web.metrics import route_of

#: Bytes that a request's body may have.
MAX_BODY = 1 << 20
#: Seconds within which a request's body must have arrived as a whole: who dribbles must not keep a place for ever.
BODY_SECONDS = 30.0
#: Requests that one process works on at a time; what comes beyond waits nowhere: it is told to come back.
MAX_IN_FLIGHT = 1_000
#: Bytes of bodies that one process keeps at a time, of all requests together.
MAX_HELD = 256 << 20
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_ALWAYS_ANSWERED = frozenset({"/health", "/livez", "/readyz", "/_info"})
#: Open for hours and bounded where they are served: they are no load, and must not look like a crowd.
_LONG_LIVED = frozenset({"/stream"})

log = structlog.get_logger(__name__)


async def send_answer(answer: Answer, send: Send, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    """Send an answer where there is no framework yet."""
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
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; other protocols pass."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._in_flight >= MAX_IN_FLIGHT and scope["path"] not in _ALWAYS_ANSWERED:
            await send_answer(status_answer(503, instance=instance_of(scope), headers={"Retry-After": "1"}), send)
            return
        if _content_length(scope) > MAX_BODY:
            # The body is never read: the connection cannot be used again.
            await send_answer(status_answer(413, instance=instance_of(scope)), send, [(b"connection", b"close")])
            return
        places = 0 if scope["path"] in _LONG_LIVED else 1
        self._in_flight += places
        try:
            await self._answer(scope, receive, send, places=places)
        finally:
            self._in_flight -= places

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *, places: int) -> None:
        started = False
        received = 0
        arrived = False
        deadline = 0.0

        async def counting_receive() -> Message:
            nonlocal received, arrived, deadline
            if arrived:
                # Nothing is left but the news that the client has gone, which may take as long as it likes.
                return await receive()
            deadline = deadline or asyncio.get_running_loop().time() + BODY_SECONDS
            # What waits for its body is no work: a thousand who dribble must not keep everybody else out.
            self._in_flight -= places
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, headers={"Connection": "close"}) from None
            finally:
                self._in_flight += places
            if self._in_flight > MAX_IN_FLIGHT:
                raise HTTPException(503, headers={"Retry-After": "1"})
            self._held += len(message.get("body", b""))
            received += len(message.get("body", b""))
            if self._held > MAX_HELD:
                raise HTTPException(503, headers={"Retry-After": "1", "Connection": "close"})
            if received > MAX_BODY:
                # What is still on its way is never read.
                raise HTTPException(413, headers={"Connection": "close"})
            arrived = not message.get("more_body", False)
            return message

        async def noting_send(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, counting_receive, noting_send)
        except Exception:
            # Not the path: a calendar's address is a secret.
            log.exception("request.failed", method=scope["method"], route=route_of(scope))
            if started:
                raise
            await send_answer(status_answer(500, instance=instance_of(scope)), send)
        finally:
            self._held -= received


class Heads:
    """HEAD is GET without the content (RFC 9110, section 9.3.2), wherever GET is: for probes, caches and link checkers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; other protocols pass, and so does what would never end."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"] in _LONG_LIVED:
            await self.app(scope, receive, send)
            return
        # A copy: the server must go on knowing that no content belongs to this answer, whatever length its head tells.
        asked = {**scope, "method": "GET"}
        told = False

        async def send_head(message: Message) -> None:
            nonlocal told
            if message["type"] == "http.response.start":
                # Whoever measures further out looks for it there.
                scope["route"] = asked.get("route")
                await send(message)
            elif not told:
                told = True
                await send({"type": "http.response.body", "body": b""})

        await self.app(asked, receive, send_head)


def sane_request_id(value: str) -> bool:
    """True for a caller's X-Request-ID that may go into logs and answers: 1 to 128 letters, digits, `-_.:`."""
    return _REQUEST_ID.fullmatch(value) is not None
