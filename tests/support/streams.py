"""Subscribers of live streams: over HTTP, straight into the application, and by WebSocket; what they heard, in order."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import Message
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from support.api import Person

#: How long a test waits for what must happen; reached only where it does not.
PATIENCE = 10.0


class Heard:
    """What a subscriber has heard so far. `last_id` is where a browser would resume from."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        #: Answers of a WebSocket, signs of life of an event stream.
        self.answers: list[dict[str, Any]] = []
        self.comments = 0
        self.text = ""
        self.last_id: str | None = None
        self.ended: str | int | None = None
        self._news = asyncio.Event()
        self._rest = ""
        self._returned: set[str] = set()

    def of(self, *types: str) -> list[dict[str, Any]]:
        """The messages of these types."""
        return [message for message in self.messages if message["type"] in types]

    def ids(self) -> list[str]:
        return [message["id"] for message in self.messages]

    async def until(self, enough: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Return when it is so; AssertionError when it does not become so, or the stream ends before."""
        try:
            async with asyncio.timeout(seconds):
                while not enough():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"never so; heard: {[m['type'] for m in self.messages]}, ended: {self.ended}") from None

    async def next(self, type_: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The first message of this type that was not returned before."""

        def fresh() -> list[dict[str, Any]]:
            return [message for message in self.of(type_) if message["id"] not in self._returned]

        await self.until(lambda: bool(fresh()), seconds)
        found = fresh()[0]
        self._returned.add(found["id"])
        return found

    def end(self, how: str | int) -> None:
        self.ended = how
        self._news.set()

    def feed(self, text: str) -> None:
        """A piece of an event stream (WHATWG HTML, section 9.2)."""
        self.text += text
        *blocks, self._rest = (self._rest + text).split("\n\n")
        for block in blocks:
            fields: dict[str, str] = {}
            for line in block.split("\n"):
                name, _, value = line.partition(":")
                self.comments += name == ""
                fields[name] = value.removeprefix(" ")
            self.last_id = fields.get("id", self.last_id)
            if "data" in fields:
                message = json.loads(fields["data"])
                assert (message["id"], message["type"]) == (fields["id"], fields["event"])
                self.hear(message)
        self._news.set()

    def hear(self, message: dict[str, Any]) -> None:
        if "type" in message:
            assert set(message) == {"id", "type", "occurredAt", "data"}
            self.messages.append(message)
        else:
            self.answers.append(message)
        self._news.set()


def _asked(who: Person | None, last: str | None, headers: dict[str, str] | None) -> dict[str, str]:
    found = {**(who.headers if who is not None else {}), **(headers or {})}
    return {**found, "Last-Event-ID": last} if last is not None else found


@asynccontextmanager
async def events(
    url: str, who: Person | None, *channels: str, last: str | None = None, headers: dict[str, str] | None = None, **params: str
) -> AsyncIterator[Heard]:
    """An event stream of a server."""
    asked = {**({"channels": ",".join(channels)} if channels else {}), **params}
    async with (
        httpx.AsyncClient(timeout=httpx.Timeout(PATIENCE, read=None)) as client,
        client.stream("GET", f"{url}/stream", params=asked, headers=_asked(who, last, headers)) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in response.headers
        heard = Heard()

        async def read() -> None:
            try:
                async for text in response.aiter_text():
                    heard.feed(text)
                heard.end("in order")
            except httpx.HTTPError as error:
                heard.end(type(error).__name__)

        reading = asyncio.create_task(read())
        try:
            await heard.until(lambda: "retry: " in heard.text)
            yield heard
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


class Socket(Heard):
    """A WebSocket of a server."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self.connection = connection

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request; its answer."""
        before = len(self.answers)
        await self.connection.send(json.dumps(request))
        await self.until(lambda: len(self.answers) > before)
        return self.answers[before]

    async def read(self) -> None:
        try:
            async for text in self.connection:
                message = json.loads(text)
                self.last_id = message.get("id") or message.get("lastEventId") or self.last_id
                self.hear(message)
        except ConnectionClosed:
            pass
        assert self.connection.close_code is not None
        self.end(self.connection.close_code)


@asynccontextmanager
async def socket(
    url: str, who: Person | None, *channels: str, last: str | None = None, query: str = "", **options: Any
) -> AsyncIterator[Socket]:
    """A WebSocket that has subscribed to these channels."""
    headers = who.headers if who is not None else {}
    address = url.replace("http", "ws", 1) + "/ws" + query
    async with connect(address, additional_headers=headers, proxy=None, **options) as connection:
        heard = Socket(connection)
        reading = asyncio.create_task(heard.read())
        try:
            if channels:
                more = {} if last is None else {"lastEventId": last}
                answer = await heard.ask(subscribe=list(channels), **more)
                assert "subscribed" in answer, answer
            yield heard
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


class Inside(Heard):
    """An event stream straight out of the application, whose reader can stop reading."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 0
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.is_over = False
        self._asked = False

    def over(self, _task: asyncio.Task[None]) -> None:
        """The application is done with it."""
        self.is_over = True
        self._news.set()

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        # As a server does: once its buffer is full, and until somebody reads or is gone.
        reads, gone = asyncio.create_task(self.reads.wait()), asyncio.create_task(self.gone.wait())
        try:
            await asyncio.wait([reads, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            reads.cancel()
            gone.cancel()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.feed(message.get("body", b"").decode())
            if not message.get("more_body", False):
                self.end("in order")


@asynccontextmanager
async def inside(
    app: FastAPI, who: Person, *channels: str, last: str | None = None, heard: Inside | None = None
) -> AsyncIterator[Inside]:
    """An event stream of an application in this process."""
    heard = heard or Inside()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/stream",
        "raw_path": b"/stream",
        "query_string": f"channels={','.join(channels)}".encode() if channels else b"",
        "root_path": "",
        "headers": _raw({"Host": "holdfast.test", **_asked(who, last, None)}),
        "client": ("127.0.0.1", 1),
        "server": ("holdfast.test", 80),
    }
    running = asyncio.create_task(app(scope, heard.receive, heard.send))
    running.add_done_callback(heard.over)
    try:
        await heard.until(lambda: "retry: " in heard.text or heard.is_over)
        yield heard
    finally:
        heard.gone.set()
        async with asyncio.timeout(PATIENCE):
            await running


def _raw(headers: dict[str, str]) -> Sequence[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
