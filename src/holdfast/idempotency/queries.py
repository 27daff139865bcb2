"""The table of keys. Every request with a key passes here twice, so the statements are prebuilt."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.answers import Answer
from holdfast.db.database import fetch_in

#: How long an answer can be had again.
KEPT_FOR = timedelta(hours=24)

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock($1) AS locked"
_LOCK = "SELECT pg_advisory_xact_lock($1)"
_FIND = """
SELECT fingerprint, status, content_type, headers::text AS headers, body, booking_id,
       coalesce(busy_until > clock_timestamp(), false) AS busy, created_at < clock_timestamp() - $3::interval AS is_old
FROM idempotency_keys WHERE user_id = $1 AND key = $2"""
#: SKIP LOCKED: who is at a key right now judges its age by itself. Nobody's work is under way beyond an hour.
TIDY = """
DELETE FROM idempotency_keys WHERE (user_id, key) IN (
  SELECT user_id, key FROM idempotency_keys WHERE created_at < now() - $2::interval - interval '1 hour'
  LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING 1"""
_FORGET = "DELETE FROM idempotency_keys WHERE user_id = $1 AND key = $2"
_END_BUSY = "UPDATE idempotency_keys SET busy_until = NULL WHERE user_id = $1 AND key = $2"
_STORE = """
INSERT INTO idempotency_keys (user_id, key, fingerprint, status, content_type, headers, body, booking_id, busy_until)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, clock_timestamp() + $9::interval)
ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, status = excluded.status,
  content_type = excluded.content_type, headers = excluded.headers, body = excluded.body, booking_id = excluded.booking_id,
  busy_until = excluded.busy_until"""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a key: the first answer, or the booking that is under way (`busy`: it still runs)."""

    fingerprint: bytes
    answer: Answer | None
    booking_id: UUID | None
    busy: bool


async def try_lock(session: AsyncSession, number: int) -> bool:
    """An advisory lock until the end of the transaction, or False where another transaction has it.

    A lock of the transaction, not a row: a crash leaves nothing that says "in progress" for ever.
    """
    (row,) = await fetch_in(session, _TRY_LOCK, number)
    return bool(row["locked"])


async def lock(session: AsyncSession, number: int) -> None:
    """The same lock, waited for (`lock_timeout` ends the wait)."""
    await fetch_in(session, _LOCK, number)


async def find(session: AsyncSession, user_id: UUID, key: str) -> Known | None:
    """What is known of a locked key; a row that is older than a day is removed. By the database's clock."""
    rows = await fetch_in(session, _FIND, user_id, key, KEPT_FOR)
    if not rows:
        return None
    (row,) = rows
    if row["is_old"]:
        await fetch_in(session, _FORGET, user_id, key)
        return None
    answer = None
    if row["status"] is not None:
        headers: dict[str, Any] = orjson.loads(row["headers"]) if row["headers"] else {}
        answer = Answer(row["status"], row["body"] or b"", headers, row["content_type"] or "")
    return Known(row["fingerprint"], answer, row["booking_id"], row["busy"])


async def end_busy(session: AsyncSession, user_id: UUID, key: str) -> None:
    """Nothing is under way with this key any more; the booking's id stays."""
    await fetch_in(session, _END_BUSY, user_id, key)


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
    await fetch_in(
        session,
        _STORE,
        user_id,
        key,
        fingerprint,
        None if answer is None else answer.status,
        None if answer is None else answer.content_type,
        None if answer is None else orjson.dumps(dict(answer.headers)).decode(),
        None if answer is None else answer.body,
        booking_id,
        busy_for,
    )
