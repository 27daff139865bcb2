"""Tickets, and what there is to watch."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.db.database import Database, fetch_in

_EXISTING = "SELECT id, kind FROM resources WHERE id = ANY($1::uuid[]) AND archived_at IS NULL"
_INSERT_TICKET = """
INSERT INTO stream_tickets (hash, user_id, role, session_id, token_expires_at, expires_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::interval)"""
_USE_TICKET = """
DELETE FROM stream_tickets WHERE hash = $1
RETURNING user_id, role, session_id, token_expires_at, expires_at > clock_timestamp() AS good"""
TIDY = """
DELETE FROM stream_tickets WHERE hash IN (
  SELECT hash FROM stream_tickets WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING 1"""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Whom a used ticket lets in, and until when the token is good that it was made with."""

    user_id: UUID
    role: str
    session_id: UUID | None
    token_expires_at: datetime | None


async def existing(db: Database, ids: Collection[UUID]) -> set[str]:
    """Which of these things there are, as channels."""
    if not ids:
        return set()
    return {f"{row['kind']}:{row['id']}" for row in await db.fetch(_EXISTING, list(ids))}


async def insert_ticket(session: AsyncSession, hash_: bytes, ticket: Ticket, *, life: timedelta) -> None:
    """Keep a ticket's hash."""
    await fetch_in(session, _INSERT_TICKET, hash_, ticket.user_id, ticket.role, ticket.session_id, ticket.token_expires_at, life)


async def use_ticket(session: AsyncSession, hash_: bytes) -> Ticket | None:
    """The ticket, which is gone from then on; None where there is none that is good."""
    rows = await fetch_in(session, _USE_TICKET, hash_)
    if not rows or not rows[0]["good"]:
        return None
    return Ticket(rows[0]["user_id"], rows[0]["role"], rows[0]["session_id"], rows[0]["token_expires_at"])
