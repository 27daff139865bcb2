"""Tickets of the fair queue in SQL."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import Ticket
from holdfast.db.database import Database, fetch_from, fetch_in

#: Tickets of one line are written one transaction after the other, so that their numbers are the order of their commits.
_LOCK_LINE = "SELECT pg_advisory_xact_lock(hashtextextended('booking requests', $1))"
_INSERT = """
INSERT INTO booking_requests (id, resource_no, user_id, request, answer_by)
SELECT n.id, $1, n.user_id, n.request::jsonb, clock_timestamp() + n.wait
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::interval[]) WITH ORDINALITY AS n(id, user_id, request, wait, position)
ORDER BY n.position"""
_TICKETS = """
SELECT t.id, t.user_id, t.resource_no, t.status, t.booking_id, t.hold_id, t.error::text AS error,
       CASE WHEN t.status = 'waiting' THEN (
         SELECT count(*) FROM booking_requests o
         WHERE o.resource_no = t.resource_no AND o.status = 'waiting' AND o.hold_id IS NULL AND o.number <= t.number)
       END AS position, t.created_at
FROM booking_requests t WHERE {which}"""
_BY_ID = _TICKETS.format(which="t.id = ANY($1::uuid[])")
_OWN = _TICKETS.format(which="t.user_id = $1 ORDER BY t.number DESC LIMIT 100")
#: The first of the line, of a resource that is locked. Whose client cannot hear the answer any more is told apart.
_NEXT = """
SELECT id, user_id, request::text AS request, coalesce(answer_by <= clock_timestamp(), false) AS unheard
FROM booking_requests WHERE resource_no = $1 AND status = 'waiting' AND hold_id IS NULL
ORDER BY number LIMIT $2"""
_ANSWER = """
UPDATE booking_requests t SET status = a.status, booking_id = a.booking_id, error = a.error::jsonb, hold_id = a.hold_id,
  ended_at = CASE WHEN a.status = 'waiting' THEN NULL ELSE clock_timestamp() END
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[]) AS a(id, status, booking_id, hold_id, error)
WHERE t.id = a.id AND t.status = 'waiting'
RETURNING t.id"""
_UNHURRIED = "UPDATE booking_requests SET answer_by = NULL WHERE id = $1 AND status = 'waiting'"
_CANCEL = """
UPDATE booking_requests SET status = 'cancelled', ended_at = clock_timestamp()
WHERE id = $1 AND status = 'waiting' RETURNING id"""
_CANCEL_ALL = """
UPDATE booking_requests SET status = 'cancelled', ended_at = clock_timestamp() WHERE user_id = $1 AND status = 'waiting'"""
_LINES = """
SELECT DISTINCT resource_no FROM booking_requests
WHERE status = 'waiting' AND hold_id IS NULL AND created_at < clock_timestamp() - interval '1 second'"""
#: The hold that waited for a conference link has ended otherwise than in a booking: its process is gone.
_ORPHANS = """
UPDATE booking_requests t SET status = 'refused', ended_at = clock_timestamp(), error = $1::jsonb
FROM holds h
WHERE t.hold_id = h.id AND t.status = 'waiting'
  AND (h.outcome IN ('released', 'lapsed') OR h.expires_at < clock_timestamp() - interval '5 seconds')"""


@dataclass(frozen=True, slots=True)
class NextInLine:
    """A ticket whose turn has come."""

    id: UUID
    user_id: UUID
    request: dict[str, Any]
    unheard: bool


@dataclass(frozen=True, slots=True)
class TicketAnswer:
    """What became of a ticket; `waiting` with a hold while it waits for a conference link."""

    id: UUID
    status: str
    booking_id: UUID | None = None
    hold_id: UUID | None = None
    error: dict[str, Any] | None = None


async def insert_tickets(
    session: AsyncSession, resource_no: int, new: Sequence[tuple[UUID, UUID, dict[str, Any], timedelta | None]]
) -> None:
    """Tickets at the end of the line, in this order: (id, user, request, how long its client waits)."""
    await fetch_in(session, _LOCK_LINE, resource_no)
    await fetch_in(
        session,
        _INSERT,
        resource_no,
        [ticket_id for ticket_id, *_ in new],
        [user_id for _, user_id, *_ in new],
        [orjson.dumps(request).decode() for _, _, request, _ in new],
        [wait for *_, wait in new],
    )


def _ticket(row: asyncpg.Record) -> Ticket:
    values = dict(row)
    values["error"] = orjson.loads(row["error"]) if row["error"] else None
    return Ticket(**values)


async def find_tickets(source: Database | AsyncSession, ids: Iterable[UUID]) -> dict[UUID, Ticket]:
    """Tickets by id, with their places in line."""
    return {row["id"]: _ticket(row) for row in await fetch_from(source, _BY_ID, list(ids))}


async def own_tickets(db: Database, user_id: UUID) -> list[Ticket]:
    """A user's last hundred tickets, the latest first."""
    return [_ticket(row) for row in await db.fetch(_OWN, user_id)]


async def next_in_line(session: AsyncSession, resource_no: int, *, limit: int) -> list[NextInLine]:
    """The first tickets of the line of a locked resource."""
    rows = await fetch_in(session, _NEXT, resource_no, limit)
    return [NextInLine(row["id"], row["user_id"], orjson.loads(row["request"]), row["unheard"]) for row in rows]


async def answer_tickets(session: AsyncSession, answers: Sequence[TicketAnswer]) -> None:
    """Write what became of tickets that waited."""
    await fetch_in(
        session,
        _ANSWER,
        [one.id for one in answers],
        [one.status for one in answers],
        [one.booking_id for one in answers],
        [one.hold_id for one in answers],
        [None if one.error is None else orjson.dumps(one.error).decode() for one in answers],
    )


async def make_unhurried(session: AsyncSession, ticket_id: UUID) -> None:
    """Its client was told where to look: it waits as long as it takes."""
    await fetch_in(session, _UNHURRIED, ticket_id)


async def cancel_ticket(session: AsyncSession, ticket_id: UUID) -> bool:
    """Take a waiting ticket out of the line; False where it waits no more."""
    return bool(await fetch_in(session, _CANCEL, ticket_id))


async def cancel_tickets_of(session: AsyncSession, user_id: UUID) -> None:
    """A user who goes leaves every line."""
    await fetch_in(session, _CANCEL_ALL, user_id)


async def lines_to_serve(db: Database) -> list[int]:
    """The resources whose lines somebody has left standing."""
    return sorted(row["resource_no"] for row in await db.fetch(_LINES))


async def end_orphans(session: AsyncSession, error: dict[str, Any]) -> None:
    """Answer the tickets whose process went away while it asked for a conference link."""
    await fetch_in(session, _ORPHANS, orjson.dumps(error).decode())
