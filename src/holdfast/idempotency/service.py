"""Do a thing once per key: the key and its answer are written in the transaction of the effect.

Kept are 2xx and the refusals 404, 409 and 410; everything else is judged afresh at a repeat.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.answers import Answer
from holdfast.core.errors import Conflict, Gone, KeyReused, NotFound, Refusal
from holdfast.db.database import Database, commit_durably
from holdfast.db.tidying import delete_in_steps
from holdfast.idempotency import queries
from holdfast.idempotency.errors import InProgress

_KEPT = (NotFound, Conflict, Gone)


class Replay(Exception):
    """This key has an answer already: send it again."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__("replayed")


@dataclass(frozen=True, slots=True)
class Key:
    """A caller's key and what it was sent with. `fingerprint` tells one request from another."""

    user_id: UUID
    text: str
    fingerprint: bytes

    @property
    def lock_number(self) -> int:
        """The 64-bit number under which the key is locked; a collision only makes two keys take turns."""
        digest = hashlib.blake2b(self.user_id.bytes + self.text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, signed=True)


class Once:
    """How a use case opens its transaction so that a repeat is answered instead of done again.

    `shape` makes the answer to the use case's result, `shape_refusal` that to a refusal; both are the ones that the
    router sends with, so that what is kept and what was sent are the same bytes. Without a key it is a plain transaction.
    """

    def __init__(
        self,
        key: Key | None,
        *,
        shape_refusal: Callable[[Refusal], Answer],
        shape: Callable[[Any], Answer] | None = None,
    ) -> None:
        self.key = key
        self._shape = shape
        self._shape_refusal = shape_refusal
        #: The booking that an earlier attempt with this key asked the conference provider for.
        self.booking_id: UUID | None = None

    def answering(self, shape: Callable[[Any], Answer]) -> "Once":
        """The same, knowing how the route answers."""
        return Once(self.key, shape_refusal=self._shape_refusal, shape=shape)

    @asynccontextmanager
    async def transaction(self, db: Database, *, resuming: bool = False) -> AsyncIterator[AsyncSession]:
        """`db.transaction()`; with a key, raises Replay, InProgress or KeyReused, and keeps refusals that are kept.

        `resuming` is for the second transaction of a booking that is under way with this key: it waits for a repeat that
        is just being told "in progress", instead of being told so itself.
        """
        if self.key is None:
            async with db.transaction() as session:
                yield session
            return
        refusal: Refusal | None = None
        async with db.transaction() as session:
            kept = await self.claim(session, resuming=resuming)
            if kept is None:
                try:
                    async with session.begin_nested():
                        yield session
                except _KEPT as error:
                    # The effect is undone (the savepoint), the key's lock is still ours: the refusal is the first answer.
                    await self.keep_refusal(session, error)
                    refusal = error
                except Refusal as error:
                    if not resuming:
                        raise
                    # It is over: a repeat is judged afresh, and not told that this one still runs.
                    await queries.end_busy(session, self.key.user_id, self.key.text)
                    refusal = error
        if kept is not None:
            raise Replay(kept)
        if refusal is not None:
            raise refusal

    async def claim(self, session: AsyncSession, *, resuming: bool = False) -> Answer | None:
        """Lock the key; the answer that is kept under it, if there is one. Raises InProgress, KeyReused.

        For transactions that serve several callers; `transaction` does it for one.
        """
        if self.key is None:
            return None
        kept = await self._claim(session, self.key, resuming=resuming)
        if kept is not None:
            await commit_durably(session)
        return kept

    async def keep_refusal(self, session: AsyncSession, refusal: Refusal) -> None:
        """Store a refusal as the first answer, where it is one of those that are kept."""
        if self.key is not None and isinstance(refusal, _KEPT):
            await queries.store(
                session,
                self.key.user_id,
                self.key.text,
                fingerprint=self.key.fingerprint,
                answer=self._shape_refusal(refusal),
            )

    async def _claim(self, session: AsyncSession, key: Key, *, resuming: bool) -> Answer | None:
        """Lock the key; the answer that is kept under it, if there is one."""
        if resuming:
            await queries.lock(session, key.lock_number)
        elif not await queries.try_lock(session, key.lock_number):
            raise InProgress
        known = await queries.find(session, key.user_id, key.text)
        if known is None:
            return None
        if known.fingerprint != key.fingerprint:
            raise KeyReused
        if known.answer is None:
            if known.busy and not resuming:
                raise InProgress
            self.booking_id = known.booking_id
        return known.answer

    async def keep(self, session: AsyncSession, result: Any) -> None:
        """Store the answer to `result` with the effect; the last thing in the transaction."""
        if self.key is None or self._shape is None:
            return
        await queries.store(
            session,
            self.key.user_id,
            self.key.text,
            fingerprint=self.key.fingerprint,
            answer=self._shape(result),
        )

    async def keep_booking(self, session: AsyncSession, booking_id: UUID, *, busy_for: timedelta) -> None:
        """Store which booking is under way: a repeat within `busy_for` is in progress, a later one goes on with its id."""
        if self.key is None:
            return
        await queries.store(
            session,
            self.key.user_id,
            self.key.text,
            fingerprint=self.key.fingerprint,
            answer=None,
            booking_id=booking_id,
            busy_for=busy_for,
        )


async def tidy(db: Database) -> None:
    """Delete keys whose answer cannot be had again."""
    await delete_in_steps(db, queries.TIDY, queries.KEPT_FOR)
