"""Events and seats in SQL."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.ids import new_id
from holdfast.core.policies import policy_of
from holdfast.db import models
from holdfast.db.database import Database, fetch_from, fetch_in
from holdfast.events.rules import Event, NewSeat, rendered_seats
from holdfast.events.seating import Layout, Seat

_EVENTS = """
SELECT r.no, r.id, r.name, e.description, e.venue, e.start_at, e.end_at, r.time_zone, e.sales_start_at, e.sales_end_at,
       e.metadata::text AS own_fields, r.policy::text AS policy, r.version, r.created_at,
       (SELECT count(*) FROM seats s WHERE s.resource_no = r.no) AS seats,
       taken.*,
       (SELECT count(*) FROM waitlist_entries w WHERE w.resource_no = r.no AND w.status = 'waiting') AS waiting
FROM {source} r
JOIN events e ON e.resource_no = r.no
LEFT JOIN LATERAL (
  SELECT count(c.closure_id) AS blocked, count(c.booking_id) AS booked,
         count(*) FILTER (WHERE c.expires_at > clock_timestamp()) AS held
  FROM claims c WHERE c.resource_no = r.no AND c.seat_no <> 0) taken ON true
WHERE r.archived_at IS NULL {where}"""
_BY_ID = _EVENTS.format(source="resources", where="AND r.id = $1")
_MATCHING = """
  FROM resources r JOIN events e ON e.resource_no = r.no
  WHERE r.archived_at IS NULL
    AND ($1::text IS NULL OR r.name ILIKE $1 OR e.description ILIKE $1 OR e.venue ILIKE $1)
    AND ($2::timestamptz IS NULL OR e.start_at >= $2) AND ($3::timestamptz IS NULL OR e.start_at < $3)"""
#: The page first, then its counts.
_PAGE = _EVENTS.format(
    source="(SELECT r.*" + _MATCHING + " ORDER BY e.start_at, r.no LIMIT $4 OFFSET $5)", where="ORDER BY e.start_at, r.no"
)
_HOW_MANY = "SELECT count(*) AS total" + _MATCHING
_SEATS = "SELECT no, id, label, section, row_name, number FROM seats WHERE resource_no = $1 ORDER BY no"
_MAP = """
SELECT r.no, e.seats_version,
  (SELECT array_agg(c.seat_no) FROM claims c WHERE c.resource_no = r.no AND c.seat_no <> 0 AND c.booking_id IS NOT NULL)
    AS booked,
  (SELECT array_agg(c.seat_no) FROM claims c
   WHERE c.resource_no = r.no AND c.seat_no <> 0 AND c.expires_at > clock_timestamp()) AS held,
  (SELECT array_agg(c.seat_no) FROM claims c WHERE c.resource_no = r.no AND c.seat_no <> 0 AND c.closure_id IS NOT NULL)
    AS blocked,
  (SELECT array_agg(c.seat_no) FROM claims c
   WHERE c.resource_no = r.no AND c.seat_no <> 0
     AND (c.booking_id IN (SELECT b.id FROM bookings b WHERE b.user_id = $2 AND b.status = 'active' AND b.kind = 'event')
       OR (c.expires_at > clock_timestamp()
           AND c.hold_id IN (SELECT h.id FROM holds h WHERE h.user_id = $2 AND h.ended_at IS NULL)))) AS mine
FROM resources r JOIN events e ON e.resource_no = r.no
WHERE r.id = $1 AND r.archived_at IS NULL"""
_INSERT_SEATS = """
INSERT INTO seats (id, resource_no, label, section, row_name, number)
SELECT n.id, $1, n.label, n.section, n.row_name, n.number
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[])
  WITH ORDINALITY AS n(id, label, section, row_name, number, position)
ORDER BY n.position
ON CONFLICT ON CONSTRAINT seats_one_per_label DO NOTHING
RETURNING no, id, label, section, row_name, number"""
_MOVE_BOOKINGS = """
WITH moved AS (
  UPDATE bookings b SET start_at = $2, end_at = $3, version = b.version + 1
  WHERE b.status = 'active' AND b.kind = 'event'
    AND EXISTS (SELECT FROM booking_units u WHERE u.booking_id = b.id AND u.resource_no = $1)
  RETURNING b.id),
units AS (
  UPDATE booking_units u SET during = CASE WHEN $3 IS NULL THEN tstzrange($2, $2, '[]') ELSE tstzrange($2, $3) END
  FROM moved WHERE u.booking_id = moved.id AND u.resource_no = $1)
UPDATE waitlist_entries SET start_at = $2, end_at = $3 WHERE resource_no = $1 AND ended_at IS NULL"""


@dataclass(frozen=True, slots=True)
class CachedLayout:
    """An event's seats as they were at a version of them, and each one's JSON."""

    version: int
    layout: Layout
    rendered: list[tuple[int, bytes]]


class _Layouts:
    """The layouts used last. Seats never change but by being added, which raises the version: nothing here is ever stale."""

    def __init__(self, *, most_seats: int) -> None:
        self._most_seats = most_seats
        self._known: OrderedDict[int, CachedLayout] = OrderedDict()

    def find(self, event_id: UUID, version: int) -> CachedLayout | None:
        """The layout of this version."""
        known = self._known.get(event_id.int)
        if known is None or known.version != version:
            return None
        self._known.move_to_end(event_id.int)
        return known

    def keep(self, event_id: UUID, cached: CachedLayout) -> None:
        """Keep it, and as many others as there is room for."""
        self._known[event_id.int] = cached
        self._known.move_to_end(event_id.int)
        while len(self._known) > 1 and sum(len(one.rendered) for one in self._known.values()) > self._most_seats:
            self._known.popitem(last=False)


_LAYOUTS = _Layouts(most_seats=500_000)


async def layout_of(source: Database | AsyncSession, no: int, event_id: UUID, version: int) -> CachedLayout:
    """An event's seats, read where they are not known yet."""
    known = _LAYOUTS.find(event_id, version)
    if known is None:
        layout = Layout(Seat(*row) for row in await fetch_from(source, _SEATS, no))
        known = CachedLayout(version, layout, rendered_seats(layout))
        _LAYOUTS.keep(event_id, known)
    return known


def _event(row: asyncpg.Record) -> Event:
    return Event(
        no=row["no"],
        id=row["id"],
        name=row["name"],
        description=row["description"],
        venue=row["venue"],
        start=row["start_at"],
        end=row["end_at"],
        time_zone=row["time_zone"],
        sales_start=row["sales_start_at"],
        sales_end=row["sales_end_at"],
        own_fields=orjson.loads(row["own_fields"]),
        policy=policy_of(orjson.loads(row["policy"])),
        version=row["version"],
        created_at=row["created_at"],
        seats=row["seats"],
        blocked=row["blocked"],
        booked=row["booked"],
        held=row["held"],
        waiting=row["waiting"],
    )


async def find_event(source: Database | AsyncSession, event_id: UUID) -> Event | None:
    """An event that is not archived, with its counts of this moment."""
    rows = await fetch_from(source, _BY_ID, event_id)
    return _event(rows[0]) if rows else None


async def list_events(
    db: Database, *, q: str | None, start: datetime | None, end: datetime | None, offset: int, limit: int
) -> tuple[list[Event], int]:
    """One page of events, soonest first, and how many match."""
    pattern = "%" + q.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%" if q else None
    rows = await db.fetch(_PAGE, pattern, start, end, limit, offset)
    total = await db.fetch(_HOW_MANY, pattern, start, end)
    return [_event(row) for row in rows], total[0]["total"]


async def insert_event(session: AsyncSession, *, resource: dict[str, Any], details: dict[str, Any]) -> None:
    """A resource of kind event and its details."""
    no = await session.scalar(insert(models.Resource).values(kind="event", **resource).returning(models.Resource.no))
    await session.execute(insert(models.Event).values(resource_no=no, **details))


async def update_event(session: AsyncSession, no: int, *, resource: dict[str, Any], details: dict[str, Any]) -> None:
    """Change columns of an event, and the version with them."""
    await session.execute(
        update(models.Resource).where(models.Resource.no == no).values(**resource, version=models.Resource.version + 1)
    )
    if details:
        await session.execute(update(models.Event).where(models.Event.resource_no == no).values(**details))


async def move_bookings(session: AsyncSession, no: int, start: datetime, end: datetime | None) -> None:
    """What was booked, and waited for, takes place at the event's new time."""
    await fetch_in(session, _MOVE_BOOKINGS, no, start, end)


async def insert_seats(session: AsyncSession, no: int, seats: Sequence[NewSeat]) -> list[Seat]:
    """New seats, in this order; labels that exist are skipped. The event's row is locked."""
    rows = await fetch_in(
        session,
        _INSERT_SEATS,
        no,
        [new_id() for _ in seats],
        [seat.label for seat in seats],
        [seat.section for seat in seats],
        [seat.row for seat in seats],
        [seat.number for seat in seats],
    )
    await session.execute(
        update(models.Event).where(models.Event.resource_no == no).values(seats_version=models.Event.seats_version + 1)
    )
    return [Seat(*row) for row in rows]


async def read_map(db: Database, event_id: UUID, user_id: UUID | None) -> tuple[CachedLayout, Mapping[str, Any]] | None:
    """An event's seats, and the numbers of those `booked`, `held`, `blocked` and `mine`; None where there is no event."""
    rows = await db.fetch(_MAP, event_id, user_id)
    if not rows:
        return None
    row = rows[0]
    return await layout_of(db, row["no"], event_id, row["seats_version"]), row
