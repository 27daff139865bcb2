"""GET /stream: server-sent events (WHATWG HTML, section 9.2)."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.types import Receive, Scope, Send

from holdfast.core import metrics
from holdfast.core.errors import Refusal
from holdfast.streams import rules, schemas
from holdfast.streams.router.visitors import check_origin, hub_of, visitor_of
from holdfast.streams.service import Hub, Subscriber, Told, channels_of
from holdfast.web.openapi import refusals

router = APIRouter(tags=["streams"])
log = structlog.get_logger(__name__)

#: Seconds that a client which is told to go has for taking its last bytes.
_LAST_SECONDS = 1.0
#: And one that reads slowly, or not at all: longer than its connection lives (cli/serving.py), so it ends in order or is lost.
_SLOW_SECONDS = 150.0


class EventStream(Response):
    """A stream of events until the client goes, or must go. Unlike Starlette's own, it can part with who does not read."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, subscriber: Subscriber, missed: AsyncIterator[list[Told]] | None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._hub, self._subscriber, self._missed = hub, subscriber, missed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what there is to send."""
        del scope
        tasks = [
            asyncio.create_task(self._write(send)),
            asyncio.create_task(_until_gone(receive)),
            asyncio.create_task(self._subscriber.until_ended()),
        ]
        writing = tasks[0]
        metrics.stream_opened("sse")
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._subscriber.ended is not None:
                # Who is told to go, and reads, ends in order.
                await asyncio.wait([writing], timeout=0.05 if self._subscriber.ended == "slow" else _LAST_SECONDS)
        finally:
            metrics.stream_closed("sse")
            self._hub.leave(self._subscriber)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        log.debug("stream.ended", reason=self._subscriber.ended)
        failure = None if writing.cancelled() else writing.exception()
        if failure is not None and not isinstance(failure, Refusal):
            log.error("stream.broken", exc_info=failure)
        await self._finish(send)

    async def _finish(self, send: Send) -> None:
        """The last bytes, once there is room for them; who takes none is cut off when the process stops."""
        last = asyncio.create_task(_end(send))
        stopping = asyncio.create_task(self._hub.closing.wait())
        try:
            await asyncio.wait([last, stopping], timeout=_SLOW_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([last], timeout=_LAST_SECONDS)
        finally:
            last.cancel()
            stopping.cancel()
            await asyncio.gather(last, stopping, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for chunk in self._chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _chunks(self) -> AsyncIterator[bytes]:
        # Clients whose server stops do not all come back in the same moment.
        retry = f"retry: {random.randint(1_000, 4_000)}\n"  # noqa: S311 - jitter, not a secret
        yield f"{retry}{self._here() if self._missed is None else ''}\n".encode()
        if self._missed is not None:
            async for page in self._missed:
                yield b"".join(told.event for told in page)
        while self._subscriber.ended is None:
            await self._subscriber.wait()
            if page := self._subscriber.take():
                yield b"".join(told.event for told in page)
            elif self._subscriber.ended is None:
                yield f":\n{self._here()}\n".encode()

    def _here(self) -> str:
        """A block without data only says where to resume from: who reconnects need not begin at their own last message."""
        here = self._hub.resume_id(self._subscriber)
        return "" if here is None else f"id: {here}\n"


async def _end(send: Send) -> None:
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/stream",
    operation_id="stream",
    summary="What happens, as server-sent events",
    response_class=Response,
    responses={
        200: {
            "description": "Events until one side ends it: `id`, `event` (the type), `data` (the message, as a webhook gets it).",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": schemas.EXAMPLE}},
        },
        **refusals(400, 401, 403, 404, 410),
    },
    openapi_extra={"security": [{"BearerAuth": []}]},
)
async def stream(
    request: Request,
    channels: Annotated[
        list[str] | None,
        Query(description="`me`, `room:{id}`, `host:{id}`, `event:{id}`, separated by commas; `me` where left out."),
    ] = None,
    ticket: Annotated[str | None, Query(description="For browsers: from POST /auth/ticket, good once.", max_length=200)] = None,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="The id of the last event that arrived; what followed comes first.")
    ] = None,
) -> Response:
    """`me` is what concerns the caller; the other channels are public, and tell nothing of persons.

    Every 15 s without an event there is a comment. The stream ends with the token, within 5 s of a suspension, for who reads
    too slowly, and when the service stops: connect again with `Last-Event-ID`, and nothing is missed.
    """
    del ticket  # read by visitor_of, as the handshake of a WebSocket has no such parameters
    check_origin(request)
    visitor, caller = await visitor_of(request)
    asked = [part for text in channels or ["me"] for part in text.split(",")]
    found = await channels_of(request.app.state.holdfast.db, asked, by=caller)
    hub = hub_of(request)
    point = rules.parse_point(last_event_id) if last_event_id else None
    subscriber = await hub.join(visitor)
    try:
        missed = hub.subscribe(subscriber, found, start=await hub.start_of(point), place=point.place if point is not None else 0)
        if point is None:
            # Live before the client sees the answer begin: nothing that it does then is missed.
            _ = [page async for page in missed]
    except BaseException:
        hub.leave(subscriber)
        raise
    return EventStream(hub, subscriber, missed if point is not None else None)
