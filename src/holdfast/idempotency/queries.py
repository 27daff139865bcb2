"""The table of keys."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.answers import Answer
from holdfast.db.models import IdempotencyKey

#: How long an answer can be had again.
KEPT_FOR = timedelta(hours=24)


async def try_lock(session: AsyncSession, number: int) -> bool:
    """An advisory lock until the end of the transaction, or False where another transaction has it.

    A lock of the transaction, not a row: a crash leaves nothing that says "in progress" for ever.
    """
    return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(number))))


async def lock(session: AsyncSession, number: int) -> None:
    """The same lock, waited for (`lock_timeout` ends the wait)."""
    await session.execute(select(func.pg_advisory_xact_lock(number)))


async def find(session: AsyncSession, user_id: UUID, key: str) -> IdempotencyKey | None:
    """The row of a key that is not older than a day; an older one is removed."""
    await session.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.user_id == user_id,
            IdempotencyKey.key == key,
            IdempotencyKey.created_at < func.clock_timestamp() - KEPT_FOR,
        )
    )
    found: IdempotencyKey | None = await session.scalar(
        select(IdempotencyKey)
        .where(IdempotencyKey.user_id == user_id, IdempotencyKey.key == key)
        .execution_options(populate_existing=True)
    )
    return found


async def is_ahead(session: AsyncSession, instant: datetime) -> bool:
    """True while the database's clock has not reached the instant."""
    return bool(await session.scalar(select(instant > func.clock_timestamp())))


async def end_busy(session: AsyncSession, user_id: UUID, key: str) -> None:
    """Nothing is under way with this key any more; the booking's id stays."""
    await session.execute(
        update(IdempotencyKey).where(IdempotencyKey.user_id == user_id, IdempotencyKey.key == key).values(busy_until=None)
    )


async def store(
    session: AsyncSession,
    user_id: UUID,
    key: str,
    *,
    fingerprint: bytes,
    answer: Answer | None,
    booking_id: UUID | None = None,
    busy_for: timedelta | None = None,
) -> None:
    """Write the key's row, with the answer or with the booking that is under way; an earlier row is replaced."""
    values = {
        "fingerprint": fingerprint,
        "status": None if answer is None else answer.status,
        "content_type": None if answer is None else answer.content_type,
        "headers": None if answer is None else dict(answer.headers),
        "body": None if answer is None else answer.body,
        "booking_id": booking_id,
        "busy_until": None if busy_for is None else func.clock_timestamp() + busy_for,
    }
    await session.execute(
        insert(IdempotencyKey)
        .values(user_id=user_id, key=key, **values)
        .on_conflict_do_update(index_elements=["user_id", "key"], set_=values)
    )
