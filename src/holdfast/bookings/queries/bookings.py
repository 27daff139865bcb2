"""Bookings in SQL."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlakeyset import BadBookmark, serialize_bookmark, unserialize_bookmark
from sqlakeyset.asyncio import select_page
from sqlalchemy import delete, exists, func, insert, literal, or_, select, update
from sqlalchemy.dialects.postgresql import Range, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import BookedUnit, Booking, Wanted
from holdfast.core.errors import Invalid
from holdfast.db import models
from holdfast.db.database import AnyRow, AnySelect, fetch_in

#: Bookings, each only while its user is there and active: the key-share lock makes an ending account wait, or us for it.
_INSERT_BOOKINGS = """
WITH wanted AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[],
                       $8::text[], $9::uuid[])
    AS w(id, user_id, kind, start_at, end_at, title, notes, conference_link, series_id)),
who AS (
  SELECT id FROM users WHERE id = ANY($2::uuid[]) AND status = 'active' ORDER BY id FOR KEY SHARE),
made AS (
  INSERT INTO bookings (id, user_id, kind, start_at, end_at, title, notes, conference_link, series_id)
  SELECT w.id, who.id, w.kind, w.start_at, w.end_at, w.title, w.notes, w.conference_link, w.series_id
  FROM wanted w JOIN who ON who.id = w.user_id
  RETURNING id, created_at),
units AS (
  INSERT INTO booking_units (booking_id, position, resource_no, seat_no, during, slot_id)
  SELECT u.booking_id, u.position, u.resource_no, u.seat_no,
         CASE WHEN u.until IS NULL THEN tstzrange(u.since, u.since, '[]') ELSE tstzrange(u.since, u.until) END, u.slot_id
  FROM made, unnest($10::uuid[], $11::smallint[], $12::bigint[], $13::bigint[], $14::timestamptz[], $15::timestamptz[],
                    $16::uuid[]) AS u(booking_id, position, resource_no, seat_no, since, until, slot_id)
  WHERE u.booking_id = made.id)
SELECT id, created_at FROM made"""

_IN_ORDER = models.BookingUnit.position
_UNITS = (
    select(
        func.array_agg(aggregate_order_by(models.BookingUnit.resource_no, _IN_ORDER)).label("nos"),
        func.array_agg(aggregate_order_by(models.Resource.id, _IN_ORDER)).label("resource_ids"),
        func.array_agg(aggregate_order_by(models.BookingUnit.slot_id, _IN_ORDER)).label("slot_ids"),
        func.array_agg(aggregate_order_by(models.Seat.label, _IN_ORDER)).label("labels"),
        func.array_agg(aggregate_order_by(models.Host.user_id, _IN_ORDER)).label("host_user_ids"),
    )
    .join(models.Resource, models.Resource.no == models.BookingUnit.resource_no)
    .outerjoin(models.Seat, models.Seat.no == models.BookingUnit.seat_no)
    .outerjoin(models.Host, models.Host.resource_no == models.BookingUnit.resource_no)
    .where(models.BookingUnit.booking_id == models.Booking.id)
    .correlate(models.Booking)
    .lateral("units")
)


_BOOKINGS: AnySelect = select(
    models.Booking.id,
    models.Booking.user_id,
    models.Booking.kind,
    models.Booking.status,
    models.Booking.start_at,
    models.Booking.end_at,
    models.Booking.title,
    models.Booking.notes,
    models.Booking.conference_link,
    models.Booking.series_id,
    models.Booking.version,
    models.Booking.created_at,
    models.Booking.cancelled_at,
    _UNITS.c.nos,
    _UNITS.c.resource_ids,
    _UNITS.c.slot_ids,
    _UNITS.c.labels,
    _UNITS.c.host_user_ids,
).join(_UNITS, literal(True))


@dataclass(frozen=True, slots=True)
class NewBooking:
    """A booking to be inserted."""

    id: UUID
    user_id: UUID
    wanted: Wanted
    title: str | None = None
    notes: str | None = None
    conference_link: str | None = None
    series_id: UUID | None = None


async def insert_bookings(session: AsyncSession, new: Sequence[NewBooking]) -> dict[UUID, Booking]:
    """Bookings with their units, by id, in one statement; without those whose user is gone or suspended."""
    units = [(one.id, position, unit) for one in new for position, unit in enumerate(one.wanted.units, start=1)]
    rows = await fetch_in(
        session,
        _INSERT_BOOKINGS,
        [one.id for one in new],
        [one.user_id for one in new],
        [one.wanted.kind for one in new],
        [one.wanted.start for one in new],
        [one.wanted.end for one in new],
        [one.title for one in new],
        [one.notes for one in new],
        [one.conference_link for one in new],
        [one.series_id for one in new],
        [booking_id for booking_id, _, _ in units],
        [position for _, position, _ in units],
        [unit.resource_no for _, _, unit in units],
        [unit.seat_no for _, _, unit in units],
        [unit.start for _, _, unit in units],
        [unit.end for _, _, unit in units],
        [unit.slot_id for _, _, unit in units],
    )
    created = {row["id"]: row["created_at"] for row in rows}
    return {
        one.id: Booking(
            id=one.id,
            user_id=one.user_id,
            kind=one.wanted.kind,
            status="active",
            units=one.wanted.booked_units(),
            start=one.wanted.start,
            end=one.wanted.end,
            title=one.title,
            notes=one.notes,
            conference_link=one.conference_link,
            series_id=one.series_id,
            version=1,
            created_at=created[one.id],
            cancelled_at=None,
        )
        for one in new
        if one.id in created
    }


_CONFIRM = """
WITH who AS (SELECT id FROM users WHERE id = $2 AND status = 'active' FOR KEY SHARE),
held AS (
  SELECT c.resource_no, c.seat_no, c.slot_id, r.kind, coalesce(lower(c.during), e.start_at) AS since,
         coalesce(upper(c.during), e.end_at) AS until,
         row_number() OVER (ORDER BY lower(c.during), c.resource_no, c.seat_no) AS position
  FROM claims c JOIN resources r ON r.no = c.resource_no LEFT JOIN events e ON e.resource_no = c.resource_no
  WHERE c.hold_id = $3),
made AS (
  INSERT INTO bookings (id, user_id, kind, start_at, end_at, title, notes, conference_link)
  SELECT $1, who.id, (SELECT kind FROM held WHERE position = 1), (SELECT min(since) FROM held),
         (SELECT max(until) FROM held), $4, $5, $6
  FROM who WHERE EXISTS (SELECT FROM held)
  RETURNING id),
units AS (
  INSERT INTO booking_units (booking_id, position, resource_no, seat_no, during, slot_id)
  SELECT made.id, h.position, h.resource_no, h.seat_no,
         CASE WHEN h.until IS NULL THEN tstzrange(h.since, h.since, '[]') ELSE tstzrange(h.since, h.until) END, h.slot_id
  FROM made, held h)
SELECT id FROM made"""


async def insert_booking_of_hold(
    session: AsyncSession,
    *,
    booking_id: UUID,
    user_id: UUID,
    hold_id: UUID,
    title: str | None,
    notes: str | None,
    conference_link: str | None,
) -> bool:
    """A booking of what a hold has; False where the user is gone or suspended, or the hold has nothing."""
    rows = await fetch_in(session, _CONFIRM, booking_id, user_id, hold_id, title, notes, conference_link)
    return bool(rows)


def _booking(row: AnyRow) -> Booking:
    return Booking(
        id=row.id,
        user_id=row.user_id,
        kind=row.kind,
        status=row.status,
        units=tuple(map(BookedUnit, row.nos, row.resource_ids, row.slot_ids, row.labels)),
        start=row.start_at,
        end=row.end_at,
        title=row.title,
        notes=row.notes,
        conference_link=row.conference_link,
        series_id=row.series_id,
        version=row.version,
        created_at=row.created_at,
        cancelled_at=row.cancelled_at,
        host_user_ids=tuple(user_id for user_id in row.host_user_ids if user_id is not None),
    )


async def find_booking(session: AsyncSession, booking_id: UUID) -> Booking | None:
    """A booking with its units."""
    row = (await session.execute(_BOOKINGS.where(models.Booking.id == booking_id))).first()
    return None if row is None else _booking(row)


async def find_bookings(session: AsyncSession, ids: Iterable[UUID]) -> list[Booking]:
    """Bookings by id, in the order of their ids."""
    rows = await session.execute(_BOOKINGS.where(models.Booking.id.in_(list(ids))).order_by(models.Booking.id))
    return [_booking(row) for row in rows]


#: What begins within the usual quarter of an hour is read by its start; further ahead, only what belongs to whom asked for
#: more: one room that reminds a year ahead must not have all bookings of that year looked at every second. Another worker's
#: are skipped. What is locked is judged afresh: a booking that was moved or cancelled meanwhile is left out.
_REMIND = """
WITH far AS (
  SELECT no, kind, now() + interval '1 minute' * (policy ->> 'reminderMinutes')::int AS until
  FROM resources WHERE policy ? 'reminderMinutes' AND (policy ->> 'reminderMinutes')::int > 15),
candidates AS (
  SELECT b.id FROM bookings b
  WHERE b.status = 'active' AND b.reminded_of IS DISTINCT FROM b.start_at
    AND b.start_at > now() AND b.start_at <= now() + interval '15 minutes'
  UNION
  SELECT c.booking_id FROM far JOIN claims c ON int8range(c.resource_no, c.resource_no, '[]') && int8range(far.no, far.no, '[]')
    AND int8range(c.seat_no, c.seat_no, '[]') && int8range(0, 0, '[]') AND c.during && tstzrange(now(), far.until, '[]')
  WHERE far.kind <> 'event' AND c.booking_id IS NOT NULL
  UNION
  SELECT c.booking_id FROM far JOIN events e ON e.resource_no = far.no AND e.start_at > now() AND e.start_at <= far.until
    JOIN claims c ON c.resource_no = far.no AND c.seat_no <> 0
  WHERE far.kind = 'event' AND c.booking_id IS NOT NULL),
due AS MATERIALIZED (
  SELECT b.id FROM candidates JOIN bookings b ON b.id = candidates.id JOIN users u ON u.id = b.user_id AND u.status = 'active'
  WHERE b.status = 'active' AND b.reminded_of IS DISTINCT FROM b.start_at AND b.start_at > now()
    AND b.start_at <= now() + interval '1 minute' * (
      SELECT max(coalesce((r.policy ->> 'reminderMinutes')::int, 15))
      FROM booking_units x JOIN resources r ON r.no = x.resource_no WHERE x.booking_id = b.id)
  ORDER BY b.start_at, b.id LIMIT $1 FOR NO KEY UPDATE OF b SKIP LOCKED)
UPDATE bookings b SET reminded_of = b.start_at FROM due WHERE b.id = due.id RETURNING b.id"""


async def mark_reminded(session: AsyncSession, *, limit: int) -> list[UUID]:
    """Write down of bookings that begin soon which start was reminded of; each start of each booking is returned once."""
    return [row["id"] for row in await fetch_in(session, _REMIND, limit)]


_CANCEL = """
UPDATE bookings SET status = 'cancelled', cancelled_at = clock_timestamp(), version = version + 1 WHERE id = ANY($1::uuid[])"""


async def mark_cancelled(session: AsyncSession, booking_ids: Iterable[UUID]) -> None:
    """These bookings are history from now on."""
    await fetch_in(session, _CANCEL, list(booking_ids))


_MOVE_BOOKINGS = """
UPDATE bookings b SET kind = m.kind, start_at = m.start_at, end_at = m.end_at, version = b.version + 1
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[]) AS m(id, kind, start_at, end_at)
WHERE b.id = m.id"""


async def move_bookings(session: AsyncSession, moves: Mapping[UUID, Wanted]) -> None:
    """Other units for bookings, by their ids."""
    await session.execute(delete(models.BookingUnit).where(models.BookingUnit.booking_id.in_(list(moves))))
    await session.execute(
        insert(models.BookingUnit),
        [
            {
                "booking_id": booking_id,
                "position": position,
                "resource_no": unit.resource_no,
                "seat_no": unit.seat_no,
                "during": Range(unit.start, unit.end or unit.start, bounds="[)" if unit.end else "[]"),
                "slot_id": unit.slot_id,
            }
            for booking_id, wanted in moves.items()
            for position, unit in enumerate(wanted.units, start=1)
        ],
    )
    await fetch_in(
        session,
        _MOVE_BOOKINGS,
        list(moves),
        [wanted.kind for wanted in moves.values()],
        [wanted.start for wanted in moves.values()],
        [wanted.end for wanted in moves.values()],
    )


async def change_booking(session: AsyncSession, booking_id: UUID, values: dict[str, Any]) -> None:
    """Change columns of a booking, and the version with them."""
    await session.execute(
        update(models.Booking).where(models.Booking.id == booking_id).values(**values, version=models.Booking.version + 1)
    )


def _filtered(
    statement: AnySelect,
    *,
    user_id: UUID | None = None,
    status: str | None = None,
    resource_ids: Sequence[UUID] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    before: datetime | None = None,
) -> AnySelect:
    if user_id is not None:
        statement = statement.where(models.Booking.user_id == user_id)
    if status is not None:
        statement = statement.where(models.Booking.status == status)
    if start is not None:
        statement = statement.where(models.Booking.start_at >= start)
    for bound in (end, before):
        if bound is not None:
            statement = statement.where(models.Booking.start_at < bound)
    for resource_id in resource_ids:
        statement = statement.where(
            exists(
                select(models.BookingUnit.booking_id)
                .join(models.Resource, models.Resource.no == models.BookingUnit.resource_no)
                .where(models.BookingUnit.booking_id == models.Booking.id, models.Resource.id == resource_id)
            )
        )
    return statement


async def list_bookings(session: AsyncSession, *, offset: int, limit: int, **filters: Any) -> tuple[list[Booking], int]:
    """One page of bookings, newest first, and how many match."""
    total = await session.scalar(_filtered(select(func.count()).select_from(models.Booking), **filters))
    rows = await session.execute(
        _filtered(_BOOKINGS, **filters)
        .order_by(models.Booking.created_at.desc(), models.Booking.id.desc())
        .offset(offset)
        .limit(limit)
    )
    return [_booking(row) for row in rows], total or 0


async def walk_bookings(session: AsyncSession, *, cursor: str, limit: int, **filters: Any) -> tuple[list[Booking], str | None]:
    """The bookings after a cursor (empty: from the newest), and the next cursor. Raises Invalid for one not of ours."""
    place = None
    if cursor:
        try:
            marker = unserialize_bookmark(cursor)
        except (BadBookmark, ValueError, TypeError, AttributeError, IndexError, OverflowError):
            marker = None
        keys = marker.place if marker is not None else None
        if marker is None or marker.backwards or not keys or len(keys) != 2:  # noqa: PLR2004 - as ordered below
            message = "The cursor is not one of this list: begin again without it."
            raise Invalid(message)
        if not isinstance(keys[0], datetime) or keys[0].tzinfo is None or not isinstance(keys[1], UUID):
            message = "The cursor is not one of this list: begin again without it."
            raise Invalid(message)
        place = marker
    page = await select_page(
        session,
        _filtered(_BOOKINGS, **filters).order_by(models.Booking.created_at.desc(), models.Booking.id.desc()),
        per_page=limit,
        page=place,
    )
    following = serialize_bookmark(page.paging.next) if page.paging.has_next else None
    return [_booking(row) for row in page], following


async def list_own(
    session: AsyncSession, *, offset: int = 0, limit: int | None = None, **filters: Any
) -> tuple[list[Booking], int]:
    """A user's bookings, soonest first, and how many match."""
    rows = await session.execute(
        _filtered(_BOOKINGS, **filters).order_by(models.Booking.start_at, models.Booking.id).offset(offset).limit(limit)
    )
    bookings = [_booking(row) for row in rows]
    if limit is None:
        return bookings, len(bookings)
    total = await session.scalar(_filtered(select(func.count()).select_from(models.Booking), **filters))
    return bookings, total or 0


async def ids_ahead(session: AsyncSession, user_id: UUID, *, host_no: int | None = None, now: datetime) -> list[UUID]:
    """Active bookings that have not begun: the user's, and those of the host's time."""
    units = select(models.BookingUnit.booking_id).where(models.BookingUnit.resource_no == host_no)
    whose = models.Booking.user_id == user_id
    if host_no is not None:
        whose = or_(whose, models.Booking.id.in_(units))
    rows = await session.execute(
        select(models.Booking.id).where(whose, models.Booking.status == "active", models.Booking.start_at > now)
    )
    return list(rows.scalars())


async def bookings_of_series(session: AsyncSession, series_id: UUID, *, since: datetime) -> list[Booking]:
    """The active bookings of a series that begin at `since` or later, soonest first."""
    rows = await session.execute(
        _BOOKINGS.where(
            models.Booking.series_id == series_id, models.Booking.status == "active", models.Booking.start_at >= since
        ).order_by(models.Booking.start_at, models.Booking.id)
    )
    return [_booking(row) for row in rows]
