"""Whoever receives webhooks: a real HTTP server on a free loopback port, as good or as bad as a test wants."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson


@dataclass(frozen=True)
class Delivered:
    """One request: its headers in lower case, its body byte for byte. `place` counts from 0."""

    place: int
    headers: dict[str, str]
    body: bytes
    path: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found


Behaviour: TypeAlias = Callable[[Delivered, asyncio.StreamWriter], Awaitable[None]]


def answers(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Always the same answer."""

    async def behave(_delivered: Delivered, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return behave


accepts = answers(204)


async def cuts(_delivered: Delivered, _writer: asyncio.StreamWriter) -> None:
    """No answer: the connection ends."""


async def hangs(_delivered: Delivered, _writer: asyncio.StreamWriter) -> None:
    """No answer, and no end."""
    await asyncio.Event().wait()


async def drips(_delivered: Delivered, writer: asyncio.StreamWriter) -> None:
    """A header a moment, without end: each read succeeds."""
    writer.write(b"HTTP/1.1 200 So\r\n")
    while True:
        writer.write(b"X-More: drops\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drips_a_body(_delivered: Delivered, writer: asyncio.StreamWriter) -> None:
    """A failure at once, and its body byte by byte, without end."""
    writer.write(b"HTTP/1.1 500 So\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


def floods(status: int) -> Behaviour:
    """A body of megabytes, without end."""

    async def behave(_delivered: Delivered, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} So\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        while True:
            writer.write(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
            await writer.drain()

    return behave


async def speaks_nonsense(_delivered: Delivered, writer: asyncio.StreamWriter) -> None:
    """No HTTP."""
    writer.write(b"220 mail.example.com ESMTP\r\n")


@dataclass
class Sink:
    """Remembers each request, then does as `behaviour` says."""

    behaviour: Behaviour = accepts
    requests: list[Delivered] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"
    most_at_once: int = 0
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.most_at_once = max(self.most_at_once, len(self._open))
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            delivered = Delivered(len(self.requests), headers, body, first.split(" ")[1])
            self.requests.append(delivered)
            self._heard.set()
            await self._answer(delivered, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, delivered: Delivered, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As `behaviour` says, until whoever asked has gone away."""
        answering = asyncio.create_task(self._behave(delivered, writer))
        leaving = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _behave(self, delivered: Delivered, writer: asyncio.StreamWriter) -> None:
        await self.behaviour(delivered, writer)
        await writer.drain()

    async def heard(self, count: int, seconds: float = 20.0) -> list[Delivered]:
        """The requests, as soon as there are so many."""
        async with asyncio.timeout(seconds):
            while len(self.requests) < count:
                self._heard.clear()
                await self._heard.wait()
        return self.requests

    def hang_up(self) -> None:
        """End what is open."""
        for task in list(self._open):
            task.cancel()


@asynccontextmanager
async def sink(behaviour: Behaviour = accepts, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Sink]:
    """A running sink."""
    made = Sink(behaviour, scheme="https" if tls else "http")
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.hang_up()
        await server.wait_closed()
        for task in list(made._open):
            with suppress(asyncio.CancelledError):
                await task
