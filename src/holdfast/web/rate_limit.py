"""Requests per user, API key and address (draft-ietf-httpapi-ratelimit-headers), in the memory of this process.

Several processes count each for itself: together they let through as many times the limit as there are of them.
"""

import math

from limits import parse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.core import clock, metrics
from holdfast.core.errors import Unauthenticated
from holdfast.core.security import API_KEY_PREFIX, AccessTokens, stored_secret
from holdfast.web.access import bearer_token
from holdfast.web.errors import instance_of, problem
from holdfast.web.login_limit import network_of
from holdfast.web.middleware import send_answer
from holdfast.web.windows import Windows

#: How many times wider an address is limited than one who is known there: offices share an address.
_WIDER = 10
_EXEMPT = frozenset({"/health", "/livez", "/readyz", "/_info", "/metrics", "/", "/docs", "/redoc"})
_PAGE_FILES = "/static/"

_SENTENCES = {
    "user": "You sent too many requests: wait, then go on more slowly.",
    "key": "Too many requests came with this API key: wait, then go on more slowly.",
    "anyone": "Too many requests came from your address: wait, or log in.",
    "address": "Too many requests came from your address, all its users together: wait, then go on more slowly.",
}


class RateLimit:
    """`limit` like `600/minute`: for each user, each API key, and each address without either; ten times that per address."""

    def __init__(self, app: ASGIApp, *, limit: str, access_tokens: AccessTokens) -> None:
        self.app = app
        self._access_tokens = access_tokens
        item = parse(limit)
        amount, seconds = item.amount, item.get_expiry()
        self._counts = {name: Windows(amount, seconds) for name in ("user", "key", "anyone")}
        self._addresses = Windows(amount * _WIDER, seconds)
        wide = f'"address";q={amount * _WIDER};w={seconds}'
        self._policies = {name: f'"{name}";q={amount};w={seconds}, {wide}'.encode() for name in self._counts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or handshake of a WebSocket, or refuse it; what must always be answered passes."""
        if (
            scope["type"] == "lifespan"
            or scope["path"] in _EXEMPT
            or scope["path"].startswith(_PAGE_FILES)
            or _is_preflight(scope)
        ):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            send = _denying(send)
        address = network_of(scope["client"][0] if scope.get("client") else None)
        name, key = self._who(scope, address)
        counts = self._counts[name]
        if self._addresses.is_full(address):
            await self._refuse("address", self._addresses, address, scope, send, self._headers(name, key, address))
            return
        if not counts.hit(key):
            # The address is not charged: who runs wild there must not use up what is everybody's.
            await self._refuse(name, counts, key, scope, send, self._headers(name, key, address))
            return
        self._addresses.hit(address)
        headers = self._headers(name, key, address)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _who(self, scope: Scope, address: str) -> tuple[str, object]:
        for name, value in scope["headers"]:
            if name == b"authorization":
                token = bearer_token(value.decode("latin-1"))
                if token.startswith(API_KEY_PREFIX):
                    # Whether it is a good one is seen later; until then many bad ones meet the address' own limit.
                    return "key", stored_secret(token)
                if token:
                    try:
                        return "user", self._access_tokens.verify(token, now=clock.now()).user_id
                    except Unauthenticated:
                        break
        return "anyone", address

    def _headers(self, name: str, key: object, address: str) -> list[tuple[bytes, bytes]]:
        own, shared = self._counts[name].left(key), self._addresses.left(address)
        state = f'"{name}";r={own[0]};t={math.ceil(own[1])}, "address";r={shared[0]};t={math.ceil(shared[1])}'
        return [(b"ratelimit-policy", self._policies[name]), (b"ratelimit", state.encode())]

    @staticmethod
    async def _refuse(
        name: str, counts: Windows, key: object, scope: Scope, send: Send, headers: list[tuple[bytes, bytes]]
    ) -> None:
        metrics.refused("TOO_MANY_REQUESTS")
        retry_after = max(1, math.ceil(counts.left(key)[1]))
        refusal = problem(
            429,
            "TOO_MANY_REQUESTS",
            _SENTENCES[name],
            instance=instance_of(scope),
            details={
                "retryAfterSeconds": retry_after,
                "limitedBy": name,
                "limit": counts.amount,
                "windowSeconds": counts.seconds,
            },
            headers={"Retry-After": str(retry_after)},
        )
        await send_answer(refusal, send, headers)


def _denying(send: Send) -> Send:
    """Sends an answer to a handshake in the words that the ASGI extension "websocket.http.response" has for it."""

    async def deny(message: Message) -> None:
        kind = message["type"]
        await send({**message, "type": f"websocket.{kind}"} if kind.startswith("http.") else message)

    return deny


def _is_preflight(scope: Scope) -> bool:
    """True for what a browser sends by itself, without a token, before the request that it is told to send."""
    return scope.get("method") == "OPTIONS" and any(name == b"access-control-request-method" for name, _ in scope["headers"])
