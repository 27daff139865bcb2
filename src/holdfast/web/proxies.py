"""Whom a proxy speaks for: X-Forwarded-For and X-Forwarded-Proto, believed of listed proxies only."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(4096)
def _address(text: str) -> _Address | None:
    """An address as proxies write them: bare, `address:port` for IPv4, `[address]:port` for IPv6; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        # A socket that listens for both kinds shows IPv4 peers like this.
        return parsed.ipv4_mapped or parsed
    return parsed


class TrustedProxies:
    """Puts the address and scheme of the party in front of the listed proxies into the scope.

    From anybody else the headers mean nothing: whoever connects may write what they like into them. Each proxy appends whom
    it heard, so the right-most address that is no proxy of ours is the one that nobody could make up.
    """

    def __init__(self, app: ASGIApp, *, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
        self.app = app
        self._networks = tuple(networks)
        self._is_trusted = lru_cache(4096)(self._look)

    def _look(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the client that it came from."""
        if scope["type"] != "lifespan" and scope.get("client"):
            peer = _address(scope["client"][0])
            if peer is not None and self._is_trusted(peer):
                self._believe(scope)
        await self.app(scope, receive, send)

    def _believe(self, scope: Scope) -> None:
        heard: list[str] = []
        scheme = ""
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                heard += value.decode("latin-1").split(",")
            elif name == b"x-forwarded-proto":
                scheme = value.decode("latin-1").rpartition(",")[2].strip().lower()
        if scheme in {"http", "https"}:
            secure = scheme == "https"
            scope["scheme"] = ("wss" if secure else "ws") if scope["type"] == "websocket" else scheme
        for text in reversed(heard):
            address = _address(text)
            if address is None:
                # "unknown", or what a client made up: what stands left of it is worth no more.
                break
            scope["client"] = (str(address), 0)
            if not self._is_trusted(address):
                break
