"""Reading messages by the number that the relay gave them: in order, without a gap."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.db.database import Database, fetch_from

# The shapes as text: what a driver makes of jsonb depends on who set up its connection.
COLUMNS = (
    "id, number, type, subject_id, actor_id, actor_role, actor_key_id, request_id, address, "
    "before::text AS before, after::text AS after, trace, occurred_at"
)
_AFTER = f"SELECT {COLUMNS} FROM outbox WHERE number > $1 ORDER BY number LIMIT $2"  # noqa: S608 - our own columns
_NEWEST = "SELECT number, id FROM outbox WHERE number IS NOT NULL ORDER BY number DESC LIMIT 1"
_NUMBER = "SELECT number FROM outbox WHERE id = $1 AND number IS NOT NULL"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message that has its number."""

    number: int
    id: UUID
    type: str
    subject_id: UUID
    actor_id: UUID | None
    actor_role: str
    actor_key_id: UUID | None
    request_id: str | None
    address: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    trace: str | None
    occurred_at: datetime


def stored_of(row: Mapping[str, Any], *, number: int) -> StoredMessage:
    """A message out of a row with `COLUMNS`."""
    return StoredMessage(
        number=number,
        id=row["id"],
        type=row["type"],
        subject_id=row["subject_id"],
        actor_id=row["actor_id"],
        actor_role=row["actor_role"],
        actor_key_id=row["actor_key_id"],
        request_id=row["request_id"],
        address=row["address"],
        before=_shape(row["before"]),
        after=_shape(row["after"]),
        trace=row["trace"],
        occurred_at=row["occurred_at"],
    )


def _shape(stored: str | None) -> dict[str, Any] | None:
    return None if stored is None else orjson.loads(stored)


async def read_after(source: Database | AsyncSession, number: int, *, limit: int) -> list[StoredMessage]:
    """The messages after a number, oldest first."""
    return [stored_of(row, number=row["number"]) for row in await fetch_from(source, _AFTER, number, limit)]


async def newest(source: Database | AsyncSession) -> tuple[int, UUID | None]:
    """Number and id of the newest message; 0 and None where there is none."""
    rows = await fetch_from(source, _NEWEST)
    return (rows[0]["number"], rows[0]["id"]) if rows else (0, None)


async def number_of(source: Database | AsyncSession, message_id: UUID) -> int | None:
    """The number of a message, None where there is no such message, or it has none yet."""
    rows = await fetch_from(source, _NUMBER, message_id)
    return rows[0]["number"] if rows else None
