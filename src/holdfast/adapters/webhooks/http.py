"""The sender that really sends: a connection of its own for each attempt, to an address that was checked just before."""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore

from holdfast import __version__
from holdfast.adapters.webhooks.addresses import Addresses, AddressForbidden, Target, split_url
from holdfast.adapters.webhooks.protocol import (
    CONNECT_SECONDS,
    DEADLINE_SECONDS,
    MAX_ANSWER,
    Parcel,
    Reply,
    WebhookRefused,
    WebhookUnavailable,
)
from holdfast.adapters.webhooks.signing import signed_headers
from holdfast.core import tracing

#: Addresses of one name that are tried.
_MAX_ADDRESSES = 4
#: Seconds for the part of the body that is read once the status is known: it may drip, and nothing depends on it.
_EXCERPT_SECONDS = 1.0
_MAX_EXCERPT = 200
_MAX_RETRY_AFTER = timedelta(days=30)
#: Look-ups under way at once. Threads of their own: a resolver that hangs must not keep the database's look-ups waiting.
_RESOLVERS = 16


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks every address that it has, and connects to one of these very addresses.

    The name stays the connection's in all else: TLS is asked for it, and the certificate must be its own. A name whose
    addresses change between the check and the connection (DNS rebinding) gains nothing: there is no second look-up.
    One backend serves one attempt, and closes what it opened: httpcore leaves a connection open whose handshake is cancelled.
    """

    def __init__(self, addresses: Addresses, resolvers: ThreadPoolExecutor) -> None:
        self._addresses = addresses
        self._resolvers = resolvers
        self._network = httpcore.AnyIOBackend()
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection. Raises AddressForbidden where any of the name's addresses is forbidden, httpcore.ConnectError."""
        try:
            async with asyncio.timeout(timeout):
                found = await self._resolve(host, port)
                for address in found:
                    self._addresses.check(address)
                chosen = found[:_MAX_ADDRESSES]
                # One that swallows packets must not take the time of those behind it.
                share = None if timeout is None else timeout / len(chosen)
                for address in chosen[:-1]:
                    with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                        return await self._connect(address, port, share, local_address, socket_options)
                return await self._connect(chosen[-1], port, timeout, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("could not connect in time") from error

    async def _connect(self, address: str, *how: Any) -> httpcore.AsyncNetworkStream:
        stream = await self._network.connect_tcp(address, *how)
        self._opened.append(stream)
        return stream

    async def close(self) -> None:
        """Close what is still open."""
        for stream in self._opened:
            await stream.aclose()

    async def _resolve(self, host: str, port: int) -> list[str]:
        def look_up() -> list[str]:
            return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]

        try:
            found = await asyncio.get_running_loop().run_in_executor(self._resolvers, look_up)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the host name is unknown") from error
        if not found:
            raise httpcore.ConnectError("the host name has no address")
        return list(dict.fromkeys(found))

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class HttpSender:
    """One POST per parcel: no redirects, no proxies, no cookies, no connection kept, the answer bounded in size and time."""

    def __init__(
        self,
        *,
        loopback: bool = False,
        deadline_seconds: float = DEADLINE_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._addresses = Addresses(loopback=loopback)
        self._deadline = deadline_seconds
        self._timeouts = {"connect": connect_seconds, "read": deadline_seconds, "write": deadline_seconds, "pool": None}
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="webhook-names")
        self._tls = tls if tls is not None else httpcore.default_ssl_context()

    async def send(self, parcel: Parcel) -> Reply:
        """The answer, whatever its status. Raises WebhookRefused, WebhookUnavailable."""
        backend = CheckedBackend(self._addresses, self._resolvers)
        try:
            # No address in the span: a path may be the receiver's own secret.
            async with asyncio.timeout(self._deadline):
                target = split_url(parcel.url)
                self._addresses.check_url(target)
                with tracing.span("webhook", kind="client"):
                    return await self._post(target, parcel, backend)
        except AddressForbidden as error:
            raise WebhookRefused(str(error)) from error
        except httpcore.ConnectTimeout as error:
            raise WebhookUnavailable("could not connect in time") from error
        except (TimeoutError, httpcore.TimeoutException) as error:
            raise WebhookUnavailable(f"no answer within {self._deadline:g} seconds") from error
        except ssl.SSLError as error:
            raise WebhookUnavailable(f"TLS failed ({error.reason or 'no handshake'})") from error
        except (httpcore.ConnectError, OSError) as error:
            raise WebhookUnavailable(_why_no_connection(error)) from error
        except httpcore.ProtocolError as error:
            raise WebhookUnavailable("the answer is no HTTP") from error
        except httpcore.NetworkError as error:
            raise WebhookUnavailable("the connection was cut") from error
        finally:
            await backend.close()

    async def _post(self, target: Target, parcel: Parcel, backend: httpcore.AsyncNetworkBackend) -> Reply:
        body = parcel.body.encode()
        headers = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": f"Holdfast/{__version__}",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **tracing.headers(),
            **signed_headers(parcel.message_id, parcel.body, parcel.at, parcel.secrets),
        }
        url = httpcore.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
        )
        # A connection that is kept would have been checked for an earlier attempt: each attempt has its own.
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self._tls, max_keepalive_connections=0, network_backend=backend) as pool,
            pool.stream(
                "POST", url, headers=list(headers.items()), content=body, extensions={"timeout": self._timeouts}
            ) as response,
        ):
            given = {name.lower(): value for name, value in response.headers}
            return Reply(response.status, await _excerpt(response), _retry_after(given.get(b"retry-after")))

    async def close(self) -> None:
        """Nothing is open between attempts; look-ups under way end by themselves."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)


def _why_no_connection(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS failed ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or 'no handshake'})"
        if isinstance(cause, socket.gaierror):
            return "the host name is unknown"
        cause = cause.__cause__ or cause.__context__
    return "could not connect"


async def _excerpt(response: httpcore.Response) -> str:
    """Readable characters out of the first KiB of a body; empty where it does not come in time, or breaks off."""
    read = bytearray()
    try:
        async with asyncio.timeout(_EXCERPT_SECONDS):
            async for part in response.aiter_stream():
                read += part[:MAX_ANSWER]
                if len(read) >= MAX_ANSWER:
                    break
    except (TimeoutError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
        pass
    text = bytes(read[:MAX_ANSWER]).decode(errors="replace")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_MAX_EXCERPT]


def _retry_after(header: bytes | None) -> timedelta | None:
    """`Retry-After` (RFC 9110 section 10.2.3), seconds or a date; None for what is neither."""
    if header is None:
        return None
    text = header.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), _MAX_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max(at - datetime.now(UTC), timedelta()), _MAX_RETRY_AFTER)
