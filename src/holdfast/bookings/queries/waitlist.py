"""The waitlist in SQL."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import WaitlistEntry
from holdfast.db import models
from holdfast.db.database import Database, fetch_from, fetch_in

#: `position` is the place in the line of those who wait for the same thing. An offer whose end has passed has lapsed,
#: whether or not anybody has tidied up.
_ENTRIES = """
SELECT e.id, e.user_id, e.resource_no, r.id AS resource_id, r.kind, e.slot_id, e.start_at, e.end_at, e.quantity, e.auto_book,
       CASE WHEN e.status = 'offered' AND h.expires_at <= clock_timestamp() THEN 'lapsed' ELSE e.status END AS status,
       e.hold_id, h.expires_at, e.booking_id,
       CASE WHEN e.status = 'waiting' THEN (
         SELECT count(*) FROM waitlist_entries o
         WHERE o.resource_no = e.resource_no AND o.status = 'waiting' AND o.slot_id IS NOT DISTINCT FROM e.slot_id
           AND o.number <= e.number) END AS position,
       e.created_at
FROM waitlist_entries e
JOIN resources r ON r.no = e.resource_no
LEFT JOIN holds h ON h.id = e.hold_id
WHERE {which}"""
_BY_ID = _ENTRIES.format(which="e.id = $1")
_OWN = _ENTRIES.format(which="e.user_id = $1 ORDER BY e.number DESC")
_OF_A_RESOURCE = _ENTRIES.format(which="e.resource_no = $1 AND e.ended_at IS NULL ORDER BY e.number LIMIT $2 OFFSET $3")
_HOW_MANY = "SELECT count(*) AS total FROM waitlist_entries e WHERE e.resource_no = $1 AND e.ended_at IS NULL"
_INSERT = """
INSERT INTO waitlist_entries (id, resource_no, user_id, slot_id, start_at, end_at, quantity, auto_book)
SELECT $1, $2, u.id, $4, $5, $6, $7, $8 FROM users u WHERE u.id = $3 AND u.status = 'active' FOR KEY SHARE
RETURNING id"""
#: Those in lines who could be served now. What has lapsed is taken for free by nobody before it is released.
_WHO_FITS = """
WITH r AS MATERIALIZED (
  SELECT r.no, r.id, CASE WHEN r.kind = 'event' THEN
    (SELECT count(*) FROM seats s WHERE s.resource_no = r.no)
    - (SELECT count(*) FROM claims c WHERE c.resource_no = r.no AND c.seat_no <> 0) END AS seats_free
  FROM resources r WHERE r.no = ANY($1::bigint[]) AND r.archived_at IS NULL)
SELECT {what}
FROM waitlist_entries e
JOIN r ON r.no = e.resource_no
JOIN users u ON u.id = e.user_id
WHERE e.status = 'waiting' AND e.start_at > clock_timestamp() AND u.status = 'active'
  AND CASE WHEN e.slot_id IS NULL THEN e.quantity <= r.seats_free
      ELSE NOT EXISTS (
        SELECT FROM claims c
        WHERE int8range(c.resource_no, c.resource_no, '[]') && int8range(e.resource_no, e.resource_no, '[]')
          AND int8range(c.seat_no, c.seat_no, '[]') && int8range(0, 0, '[]')
          AND c.during && tstzrange(e.start_at, e.end_at)) END"""
_FITTING = (
    _WHO_FITS.format(what="e.id, e.number, e.user_id, e.resource_no, r.id AS resource_id, e.slot_id, e.quantity, e.auto_book")
    + " AND e.number > $2 ORDER BY e.number LIMIT $3"
)
_LINES_THAT_FIT = _WHO_FITS.format(what="DISTINCT e.resource_no")
_LAPSED = "SELECT DISTINCT c.resource_no FROM claims c WHERE c.expires_at <= clock_timestamp()"
_LINES = "SELECT DISTINCT e.resource_no FROM waitlist_entries e WHERE e.status = 'waiting'"
_END_PAST = """
UPDATE waitlist_entries e SET status = 'lapsed', ended_at = clock_timestamp()
FROM resources r
WHERE r.no = e.resource_no AND e.status = 'waiting' AND (e.start_at <= clock_timestamp() OR r.archived_at IS NOT NULL)
RETURNING e.id"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry whose turn it may be."""

    id: UUID
    number: int
    user_id: UUID
    resource_no: int
    resource_id: UUID
    slot_id: UUID | None
    quantity: int
    auto_book: bool


def _entry(row: asyncpg.Record) -> WaitlistEntry:
    return WaitlistEntry(*row.values())


async def insert_entry(
    session: AsyncSession,
    *,
    entry_id: UUID,
    resource_no: int,
    user_id: UUID,
    slot_id: UUID | None,
    start: datetime,
    end: datetime | None,
    quantity: int,
    auto_book: bool,
) -> bool:
    """A place at the end of the line, whose resource is locked; False where the user is gone or suspended."""
    return bool(await fetch_in(session, _INSERT, entry_id, resource_no, user_id, slot_id, start, end, quantity, auto_book))


async def find_entry(source: Database | AsyncSession, entry_id: UUID) -> WaitlistEntry | None:
    """An entry with its place in line."""
    rows = await fetch_from(source, _BY_ID, entry_id)
    return _entry(rows[0]) if rows else None


async def own_entries(db: Database, user_id: UUID) -> list[WaitlistEntry]:
    """A user's entries, the latest first."""
    return [_entry(row) for row in await db.fetch(_OWN, user_id)]


async def entries_of(db: Database, resource_no: int, *, offset: int, limit: int) -> tuple[list[WaitlistEntry], int]:
    """One page of those who wait for a resource or were offered it, first come first, and how many there are."""
    rows = await db.fetch(_OF_A_RESOURCE, resource_no, limit, offset)
    total = await db.fetch(_HOW_MANY, resource_no)
    return [_entry(row) for row in rows], total[0]["total"]


async def fitting_entries(session: AsyncSession, resource_nos: Iterable[int], *, after: int, limit: int) -> list[Waiting]:
    """Those in the lines of locked resources for whom there is room now, first come first, from the number `after` on."""
    return [Waiting(*row.values()) for row in await fetch_in(session, _FITTING, sorted(set(resource_nos)), after, limit)]


async def users_in_line(session: AsyncSession, resource_nos: Iterable[int]) -> set[UUID]:
    """Who waits in the lines of these resources: whoever may be offered something must be locked in one order."""
    rows = await session.execute(
        select(models.WaitlistEntry.user_id)
        .where(models.WaitlistEntry.resource_no.in_(sorted(set(resource_nos))), models.WaitlistEntry.status == "waiting")
        .order_by(models.WaitlistEntry.number)
        .limit(1000)
    )
    return set(rows.scalars())


async def mark_offered(session: AsyncSession, entry_id: UUID, hold_id: UUID) -> None:
    """A hold is kept for this entry."""
    await session.execute(
        update(models.WaitlistEntry).where(models.WaitlistEntry.id == entry_id).values(status="offered", hold_id=hold_id)
    )


async def mark_booked(session: AsyncSession, entry_id: UUID, booking_id: UUID) -> None:
    """The wait has ended in a booking."""
    await session.execute(
        update(models.WaitlistEntry)
        .where(models.WaitlistEntry.id == entry_id)
        .values(status="booked", booking_id=booking_id, ended_at=func.clock_timestamp())
    )


async def end_entry(session: AsyncSession, entry_id: UUID, status: str) -> None:
    """The wait is over: `lapsed` or `left`."""
    await session.execute(
        update(models.WaitlistEntry)
        .where(models.WaitlistEntry.id == entry_id, models.WaitlistEntry.ended_at.is_(None))
        .values(status=status, ended_at=func.clock_timestamp())
    )


async def end_offers(session: AsyncSession, hold_ids: Sequence[UUID], status: str) -> list[tuple[UUID, UUID]]:
    """The offers that these holds were are over: `lapsed` or `left`; returns the entries, each with its hold."""
    rows = await session.execute(
        update(models.WaitlistEntry)
        .where(models.WaitlistEntry.hold_id.in_(list(hold_ids)), models.WaitlistEntry.status == "offered")
        .values(status=status, ended_at=func.clock_timestamp())
        .returning(models.WaitlistEntry.id, models.WaitlistEntry.hold_id)
    )
    return [(entry_id, hold_id) for entry_id, hold_id in rows if hold_id is not None]


async def entry_of_hold(session: AsyncSession, hold_id: UUID) -> UUID | None:
    """The entry that was offered this hold."""
    found: UUID | None = await session.scalar(
        select(models.WaitlistEntry.id).where(models.WaitlistEntry.hold_id == hold_id, models.WaitlistEntry.status == "offered")
    )
    return found


async def end_line(session: AsyncSession, slot_id: UUID) -> list[UUID]:
    """A slot that is no more is waited for in vain; returns whose waits are over."""
    rows = await session.execute(
        update(models.WaitlistEntry)
        .where(models.WaitlistEntry.slot_id == slot_id, models.WaitlistEntry.status == "waiting")
        .values(status="lapsed", ended_at=func.clock_timestamp())
        .returning(models.WaitlistEntry.id)
    )
    return sorted(rows.scalars())


async def leave_all(session: AsyncSession, user_id: UUID) -> None:
    """A user who goes leaves every line."""
    await session.execute(
        update(models.WaitlistEntry)
        .where(models.WaitlistEntry.user_id == user_id, models.WaitlistEntry.ended_at.is_(None))
        .values(status="left", ended_at=func.clock_timestamp())
    )


async def resources_to_settle(db: Database) -> list[int]:
    """The resources with lapsed holds, or with a line that could be served (after a change of schedule, say)."""
    found = {row["resource_no"] for row in await db.fetch(_LAPSED)}
    lines = [row["resource_no"] for row in await db.fetch(_LINES)]
    if lines:
        found |= {row["resource_no"] for row in await db.fetch(_LINES_THAT_FIT, lines)}
    return sorted(found)


async def end_past_entries(session: AsyncSession) -> list[UUID]:
    """Waits for what has begun, or is archived, are over; returns which."""
    return [row["id"] for row in await fetch_in(session, _END_PAST)]
