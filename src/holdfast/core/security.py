"""Access tokens, refresh tokens, other secrets and password hashes. No database here.

Access tokens are JWTs (RFC 7519), HS256 only. All other secrets are opaque: 256 random bits, stored as a hash.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import bcrypt
import jwt

from holdfast.core.errors import Busy, Unauthenticated

ISSUER = "holdfast"
_ALGORITHM = "HS256"
_ROLES = frozenset({"admin", "user"})
_CACHED_TOKENS = 20_000
#: What every API key begins with: told from a token at a glance, and found by scanners of leaked secrets.
API_KEY_PREFIX = "hf_"

T = TypeVar("T")


def new_secret(prefix: str = "") -> str:
    """256 random bits, after a prefix that tells what they open."""
    return prefix + secrets.token_urlsafe(32)


def stored_secret(secret: str) -> bytes:
    """What the database keeps of a secret. One round is enough where there is nothing to guess."""
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a verified access token says is calling. `expires` is in seconds since 1970."""

    user_id: UUID
    role: str
    session_id: UUID
    expires: float


class AccessTokens:
    """Signs and verifies access tokens with one key."""

    def __init__(self, secret: str, *, minutes: int) -> None:
        self._secret = secret
        self._life = timedelta(minutes=minutes)
        # Verifying costs 74 us, a look-up 1. Keyed by the whole token, so that nothing unsigned can hit.
        self._verified: dict[str, Identity] = {}

    @property
    def life(self) -> timedelta:
        """How long a new token is good."""
        return self._life

    def sign(self, *, user_id: UUID, role: str, session_id: UUID, now: datetime) -> str:
        """A token with the claims user_id, role, sid, exp, iat, iss, jti."""
        claims = {
            "user_id": str(user_id),
            "role": role,
            "sid": str(session_id),
            "iat": int(now.timestamp()),
            "exp": int((now + self._life).timestamp()),
            "iss": ISSUER,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def verify(self, token: str, *, now: datetime) -> Identity:
        """Who it is; Unauthenticated for a forged, malformed or expired token, whatever is wrong with it."""
        known = self._verified.get(token)
        if known is not None:
            if known.expires > now.timestamp():
                return known
            raise Unauthenticated
        identity = self._decode(token)
        if len(self._verified) >= _CACHED_TOKENS:
            self._verified.clear()
        self._verified[token] = identity
        return identity

    def _decode(self, token: str) -> Identity:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                issuer=ISSUER,
                options={"require": ["exp", "iat", "iss", "jti", "user_id", "role", "sid"]},
            )
            # PyJWT takes a text of digits for a number; ours are integers.
            if claims["role"] not in _ROLES or any(type(claims[name]) is not int for name in ("exp", "iat")):
                raise Unauthenticated
            return Identity(UUID(claims["user_id"]), claims["role"], UUID(claims["sid"]), float(claims["exp"]))
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise Unauthenticated from error


class RefreshTokens:
    """Makes refresh tokens; a child is derived from its parent, so that an honest retry is given the same one."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), b"holdfast refresh tokens", "sha256")

    def first(self) -> str:
        """A new family's first token: 256 random bits."""
        return new_secret()

    def child(self, parent: str) -> str:
        """The one token that follows `parent`; nobody without the server's key can tell it."""
        return base64.urlsafe_b64encode(hmac.digest(self._key, parent.encode(), "sha256")).rstrip(b"=").decode()

    def stored(self, token: str) -> bytes:
        """What the database keeps of a token."""
        return stored_secret(token)


class Passwords:
    """bcrypt over base64(SHA-256(password)), so that length and script don't matter (bcrypt stops at 72 bytes).

    Hashing runs in a small pool of its own, which leaves a core to everybody else; a full queue is Busy at once.
    """

    def __init__(self, *, cost: int, queue: int = 64) -> None:
        self._cost = cost
        self._threads = max(1, (os.cpu_count() or 2) - 1)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="bcrypt")
        self._waiting = 0
        self._queue = queue
        # What an unknown account is checked against, so that it takes as long as a known one.
        self._nobody = bcrypt.hashpw(self._prepared(secrets.token_hex()), bcrypt.gensalt(cost)).decode()

    @staticmethod
    def _prepared(password: str) -> bytes:
        return base64.b64encode(hashlib.sha256(password.encode()).digest())

    async def hash(self, password: str) -> str:
        """A hash to store."""
        hashed = await self._run(lambda: bcrypt.hashpw(self._prepared(password), bcrypt.gensalt(self._cost)))
        return hashed.decode()

    async def matches(self, password: str, stored: str | None) -> bool:
        """True where `stored` is this password's hash. None (nobody, or no password) takes the same time."""
        against = (stored or self._nobody).encode()
        right = await self._run(lambda: bcrypt.checkpw(self._prepared(password), against))
        return right and stored is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._queue:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the pool's threads; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
