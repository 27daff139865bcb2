"""/ws: the same messages over a WebSocket (RFC 6455)."""

import asyncio
from contextlib import suppress
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from holdfast.core import metrics
from holdfast.core.callers import Caller
from holdfast.core.errors import Invalid, Refusal
from holdfast.streams import rules
from holdfast.streams.router.visitors import check_origin, hub_of, visitor_of
from holdfast.streams.service import Hub, Subscriber, channels_of
from holdfast.web.errors import instance_of, refusal_answer, send, status_answer

router = APIRouter()
log = structlog.get_logger(__name__)

#: Characters of a message from a client: enough for a hundred channels.
MOST_CHARACTERS = 16_384
#: RFC 6455 section 7.4.1, and its registry.
_CODES = {"slow": 1013, "broken": 1013, "closing": 1001, "out": 1008, "expired": 1008, "bytes": 1003}
_LAST_SECONDS = 1.0
#: A server of the kind that we use (uvicorn 0.54) logs an error where we return before a refused connection is closed.
_DENIED_SECONDS = 0.05


@router.websocket("/ws")
async def sockets(websocket: WebSocket) -> None:
    """Authenticated like `/stream`, at the handshake. Then `{"subscribe": [...], "lastEventId"?}`, `{"unsubscribe": [...]}`."""
    hub = hub_of(websocket)
    try:
        check_origin(websocket)
        visitor, caller = await visitor_of(websocket)
        subscriber = await hub.join(visitor)
    except Refusal as refusal:
        await websocket.send_denial_response(send(refusal_answer(refusal, instance="/ws")))
        await asyncio.sleep(_DENIED_SECONDS)
        return
    metrics.stream_opened("websocket")
    try:
        await websocket.accept()
        await _Conversation(websocket, hub, subscriber, caller).run()
    finally:
        metrics.stream_closed("websocket")
        hub.leave(subscriber)


@router.websocket("/{path:path}")
async def elsewhere(websocket: WebSocket) -> None:
    """Any other address: said so, where the framework's own refusal is an empty 403."""
    problem = status_answer(404, instance=instance_of(websocket.scope))
    await websocket.send_denial_response(send(problem))
    await asyncio.sleep(_DENIED_SECONDS)


class _Conversation:
    """One client's requests and what it is told."""

    def __init__(self, websocket: WebSocket, hub: Hub, subscriber: Subscriber, caller: Caller) -> None:
        self._websocket, self._hub, self._subscriber, self._caller = websocket, hub, subscriber, caller
        # Two tasks write. Whoever does has it for all that belongs together: what came last is where a client resumes from.
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Until the client goes, or must go."""
        tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._tell()),
            asyncio.create_task(self._subscriber.until_ended()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for failure in ended:
            # Nobody can send to a client that is gone (Starlette raises either); all else is a defect, and no ordinary end.
            if isinstance(failure, Exception) and not isinstance(failure, WebSocketDisconnect | RuntimeError):
                log.error("socket.broken", exc_info=failure)
                self._subscriber.end("broken")
        reason = self._subscriber.ended
        log.debug("socket.ended", reason=reason)
        with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._websocket.close(_CODES.get(reason or "", 1000), reason)

    async def _listen(self) -> None:
        while (message := await self._websocket.receive())["type"] != "websocket.disconnect":
            text: str | None = message.get("text")
            if text is None:
                self._subscriber.end("bytes")
                return
            try:
                await self._hear(text)
            except Refusal as refusal:
                error = {"code": refusal.code, "message": refusal.text, "details": refusal.details or {}}
                async with self._writing:
                    await self._websocket.send_text(orjson.dumps({"error": error}).decode())

    async def _hear(self, text: str) -> None:
        subscribe, unsubscribe, last_event_id = _read(text)
        if unsubscribe:
            gone = rules.parse_channels(unsubscribe, by=self._caller)
            self._hub.unsubscribe(self._subscriber, [channel.name for channel in gone])
        if subscribe:
            found = await channels_of(self._websocket.app.state.holdfast.db, subscribe, by=self._caller)
            if len({*self._subscriber.channels, *(channel.name for channel in found)}) > rules.MOST_CHANNELS + 1:
                message = f"A stream has at most {rules.MOST_CHANNELS} channels."
                raise Invalid(message, details={"rule": "maxChannels", "value": rules.MOST_CHANNELS})
            point = rules.parse_point(last_event_id) if last_event_id else None
            start = await self._hub.start_of(point)
            place = point.place if point is not None else 0
            async with self._writing:
                async for page in self._hub.subscribe(self._subscriber, found, start=start, place=place):
                    for told in page:
                        await self._websocket.send_text(told.text)
        own = f"user:{self._caller.own_id}"
        names = sorted("me" if name == own else name for name in self._subscriber.channels if ":" in name)
        async with self._writing:
            answer = {"subscribed": names, "lastEventId": self._hub.resume_id(self._subscriber)}
            await self._websocket.send_text(orjson.dumps(answer).decode())

    async def _tell(self) -> None:
        while self._subscriber.ended is None:
            await self._subscriber.wait()
            async with self._writing:
                for told in self._subscriber.take():
                    await self._websocket.send_text(told.text)


def _read(text: str) -> tuple[list[str], list[str], str | None]:
    """What a client asks for: channels to add, channels to leave, and where to resume. Raises Invalid."""
    asked: Any = None
    if len(text) <= MOST_CHARACTERS:
        with suppress(orjson.JSONDecodeError):
            asked = orjson.loads(text)
    if isinstance(asked, dict):
        add, leave, point = asked.get("subscribe", []), asked.get("unsubscribe", []), asked.get("lastEventId")
        named = isinstance(add, list) and isinstance(leave, list) and all(isinstance(one, str) for one in [*add, *leave])
        if named and (add or leave) and isinstance(point, str | None):
            return add, leave, point
    message = 'Send {"subscribe": ["me", "room:{id}"], "lastEventId": "..."} or {"unsubscribe": [...]}.'
    raise Invalid(message)
