"""Answers with gzip (RFC 9110 section 8.4) for clients that ask, where it is worth it.

Not Starlette's middleware: that one keeps the strong `ETag` of the plain bytes on the compressed ones, and costs every
answer, also those that are too small.
"""

import asyncio
import zlib
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Bytes from which on it is worth it. Up to here an answer is three packets, which arrive together: a day's slots (2.8 kB) come
#: no sooner for being smaller, and they are what is asked for most.
LEAST = 4096
#: The lowest level and a window of 8 KiB: 25 us for 11 kB, which shrink to 2. zlib's own choice (level 6, 32 KiB) takes most of
#: its time to clear its memory (50 us before the first byte), and five times as long for 40 kB that shrink by a tenth more.
_LEVEL = 1
_WINDOW = 13
_MEMORY = 6
#: Bytes from which on the event loop would feel it: a thread does it, which does not hold the interpreter's lock meanwhile.
_IN_THREAD = 64 << 10
#: What zlib adds to the window's size for the gzip format (zlib.h).
_GZIP = 16
#: Never an event stream: its messages must go out one by one, as they come.
_TYPES = (
    b"application/json",
    b"application/problem+json",
    b"application/javascript",
    b"text/html",
    b"text/css",
    b"text/csv",
    b"text/calendar",
    b"text/javascript",
    b"text/plain",
    b"image/svg+xml",
)
_VARY = (b"vary", b"Accept-Encoding")
#: How the tag of the compressed bytes is made out of that of the plain ones: a strong tag names bytes, not meaning.
_MARK = b"-gzip"
_WITH_TAGS = frozenset({b"if-match", b"if-none-match"})


@lru_cache(1024)
def wants_gzip(accept_encoding: bytes) -> bool:
    """True where the header accepts gzip, by name or by `*`, with a weight above nought."""
    weights: dict[bytes, bool] = {}
    for part in accept_encoding.lower().split(b","):
        coding, *parameters = (piece.strip() for piece in part.split(b";"))
        weights[coding] = True
        for parameter in parameters:
            if parameter.startswith(b"q="):
                weights[coding] = bool(parameter[2:].strip(b"0. "))
    return weights.get(b"gzip", weights.get(b"x-gzip", weights.get(b"*", False)))


def _unmarked(tags: bytes) -> bytes:
    return tags.replace(_MARK + b'"', b'"')


class Compressed:
    """Compresses what is large, text and asked for. Streamed answers are compressed piece by piece, in constant memory."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; other protocols pass."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked, marked = False, b""
        for name, value in scope["headers"]:
            if name == b"accept-encoding":
                # HEAD tells of the plain form, which it need not make.
                asked = scope["method"] != "HEAD" and wants_gzip(value)
            elif name in _WITH_TAGS and _MARK in value:
                marked += value
        if marked:
            # The application knows one tag per version, whatever its bytes were packed in.
            # In the scope itself: in a copy, whoever measures further out would not see which route was taken.
            scope["headers"] = [(name, _unmarked(value) if name in _WITH_TAGS else value) for name, value in scope["headers"]]
        await self.app(scope, receive, _Packing(send, asked=asked, marked=marked))


class _Packing:
    """One answer on its way out: its head waits for the first piece of the body, whose length decides."""

    __slots__ = ("_asked", "_head", "_marked", "_packer", "_send")

    def __init__(self, send: Send, *, asked: bool, marked: bytes) -> None:
        self._send = send
        self._asked = asked
        self._marked = marked
        self._head: Message | None = None
        self._packer: zlib._Compress | None = None

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if _may_be_packed(message):
                self._head = message
                return
            if message["status"] == 304:  # noqa: PLR2004 - Not Modified: what its 200 says of caching (RFC 9110, section 15.4.5)
                message["headers"] = [*(self._tag_as_sent(*header) for header in message["headers"]), _VARY]
        elif kind == "http.response.body":
            if self._head is not None:
                message = await self._first(self._head, message)
            elif self._packer is not None:
                message = {**message, "body": await _packed(self._packer, message)}
        elif self._head is not None:
            head, self._head = self._head, None
            await self._send(head)
        await self._send(message)

    async def _first(self, head: Message, message: Message) -> Message:
        """Send the head, and return the first piece of the body as it goes out."""
        self._head = None
        # Both variants say so, or a cache would hand out the one for the other.
        headers = [*head["headers"], _VARY]
        if self._asked and (message.get("more_body", False) or len(message.get("body", b"")) >= LEAST):
            self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP + _WINDOW, _MEMORY)
            message = {**message, "body": await _packed(self._packer, message)}
            headers = [_packed_header(*header) for header in headers if header[0] != b"content-length"]
            headers.append((b"content-encoding", b"gzip"))
            if not message.get("more_body", False):
                headers.append((b"content-length", str(len(message["body"])).encode()))
        await self._send({**head, "headers": headers})
        return message

    def _tag_as_sent(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        packed = _packed_header(name, value)
        return packed if packed[1] in self._marked else (name, value)


def _may_be_packed(head: Message) -> bool:
    """True for a whole text that nobody has packed yet."""
    if head["status"] in {204, 206, 304}:
        return False
    is_text = False
    for name, value in head["headers"]:
        if name == b"content-type":
            is_text = value.startswith(_TYPES)
        elif name == b"content-encoding":
            return False
    return is_text


def _packed_header(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A header as it belongs to the compressed bytes."""
    if name == b"etag" and value.endswith(b'"') and not value.startswith(b"W/"):
        return name, value[:-1] + _MARK + b'"'
    return name, value


async def _packed(packer: "zlib._Compress", message: Message) -> bytes:
    body: bytes = message.get("body", b"")
    last = not message.get("more_body", False)

    def pack() -> bytes:
        # What is streamed goes out as it comes: a reader must not wait for what the packer holds back.
        return packer.compress(body) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)

    return pack() if len(body) < _IN_THREAD else await asyncio.to_thread(pack)
