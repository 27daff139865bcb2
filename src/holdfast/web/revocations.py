"""Who is out although their access token still verifies: suspended and deleted users, ended sessions.

A snapshot per process, at most `MAX_AGE` seconds old: asking the database for each request would double the cost of the
hottest route. What this very process ends is known to it at once.
"""

import asyncio
import time
from datetime import timedelta
from uuid import UUID

import structlog

from holdfast.core.errors import Busy, Unauthenticated
from holdfast.core.security import Identity
from holdfast.db.database import Database

#: Seconds between two looks, and the age beyond which a snapshot is not believed.
EVERY = 1.5
MAX_AGE = 4.0

_BLOCKED_USERS = "SELECT id FROM users WHERE status <> 'active'"
_ENDED_SESSIONS = "SELECT id FROM sessions WHERE ended_at > now() - $1::interval"

log = structlog.get_logger(__name__)


class Revocations:
    """The snapshot and the loop that renews it."""

    def __init__(self, db: Database, *, token_life: timedelta) -> None:
        self._db = db
        # Longer than a token lives, so that clocks may differ a little.
        self._token_life = token_life + timedelta(minutes=5)
        self._users: frozenset[UUID] = frozenset()
        self._sessions: frozenset[UUID] = frozenset()
        self._own_users: dict[UUID, float] = {}
        self._own_sessions: dict[UUID, float] = {}
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def look(self) -> None:
        """Renew the snapshot. Raises Busy where the database is out of reach."""
        async with self._looking:
            begun = time.monotonic()
            users = await self._db.fetch(_BLOCKED_USERS)
            sessions = await self._db.fetch(_ENDED_SESSIONS, self._token_life)
            self._users = frozenset(row["id"] for row in users)
            self._sessions = frozenset(row["id"] for row in sessions)
            # What was ended here before this look began is in it by now.
            self._own_users = {k: at for k, at in self._own_users.items() if at >= begun}
            self._own_sessions = {k: at for k, at in self._own_sessions.items() if at >= begun}
            self._looked_at = begun

    async def run(self) -> None:
        """Look again and again until cancelled; a failure is logged and tried again."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.look()
            except Busy:
                log.warning("revocations.not_read", hint="the database is out of reach")
            except Exception:
                log.exception("revocations.failed")

    def user_out(self, user_id: UUID) -> None:
        """This process has just suspended or deleted the user (after the commit)."""
        self._own_users[user_id] = time.monotonic()

    def user_in(self, user_id: UUID) -> None:
        """This process has just activated the user again."""
        self._own_users.pop(user_id, None)
        self._users -= {user_id}

    def session_out(self, session_id: UUID) -> None:
        """This process has just ended the session."""
        self._own_sessions[session_id] = time.monotonic()

    def is_out(self, user_id: UUID, session_id: UUID | None) -> bool:
        """True where the user or the session was out at the last look."""
        return (
            session_id in self._sessions
            or user_id in self._users
            or session_id in self._own_sessions
            or user_id in self._own_users
        )

    async def check(self, identity: Identity) -> None:
        """`check_user` of an access token's."""
        await self.check_user(identity.user_id, identity.session_id)

    async def check_user(self, user_id: UUID, session_id: UUID | None) -> None:
        """Raise Unauthenticated where the caller is out, Busy where that cannot be told in time."""
        if time.monotonic() - self._looked_at > MAX_AGE:
            await self.look()
        if self.is_out(user_id, session_id):
            message = "This log-in was ended, or the account suspended: log in again."
            raise Unauthenticated(message)
