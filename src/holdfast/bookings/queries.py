"""Bookings, holds and closures in SQL."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlakeyset import BadBookmark, serialize_bookmark, unserialize_bookmark
from sqlakeyset.asyncio import select_page
from sqlalchemy import delete, exists, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import Range, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import BookedUnit, Booking, Closure, Resource, Selection, UserCounts, Wanted, reach
from holdfast.claims.queries import claims_in_period, taken_out_of
from holdfast.core.errors import Invalid
from holdfast.core.policies import Policy, policy_of
from holdfast.core.schedules import stored_schedule
from holdfast.db import models
from holdfast.db.database import AnyRow, AnySelect, Database, fetch_in

_LOOK = """
SELECT r.no, r.id, r.kind, r.time_zone, r.policy::text AS policy, s.slot_minutes, s.windows::text AS windows, taken.*
FROM unnest({wanted}) AS w(wanted, since, until)
JOIN resources r ON {match}
LEFT JOIN schedules s ON s.resource_no = r.no
LEFT JOIN LATERAL {claims} taken ON true
WHERE r.archived_at IS NULL AND r.kind <> 'event'"""
_CLAIMS = claims_in_period(no="r.no", start="w.since", end="w.until")
_LOOK_BY_NUMBER = _LOOK.format(
    wanted="$1::bigint[], $2::timestamptz[], $3::timestamptz[]", match="r.no = w.wanted", claims=_CLAIMS
)
_LOOK_BY_ROOM = _LOOK.format(
    wanted="$1::uuid[], $2::timestamptz[], $3::timestamptz[]",
    match="r.id = w.wanted AND r.kind = 'room'",
    claims=_CLAIMS,
)

#: A booking, only while its user is there and active: the key-share lock makes an ending account wait, or us for it.
_INSERT_BOOKING = """
WITH who AS (SELECT id FROM users WHERE id = $2 AND status = 'active' FOR KEY SHARE),
made AS (
  INSERT INTO bookings (id, user_id, kind, start_at, end_at, title, notes, conference_link)
  SELECT $1, who.id, $3, $4, $5, $6, $7, $8 FROM who
  RETURNING id, created_at),
units AS (
  INSERT INTO booking_units (booking_id, position, resource_no, during, slot_id)
  SELECT made.id, u.position, u.resource_no, tstzrange(u.since, u.until), u.slot_id
  FROM made, unnest($9::bigint[], $10::timestamptz[], $11::timestamptz[], $12::uuid[])
    WITH ORDINALITY AS u(resource_no, since, until, slot_id, position))
SELECT created_at FROM made"""

_COUNTS = """
WITH ahead AS (
  SELECT b.id, u.resource_no FROM bookings b JOIN booking_units u ON u.booking_id = b.id
  WHERE b.user_id = $1 AND b.status = 'active' AND b.start_at > clock_timestamp() AND b.id IS DISTINCT FROM $2
  UNION ALL
  SELECT h.id, c.resource_no FROM holds h JOIN claims c ON c.hold_id = h.id
  WHERE h.user_id = $1 AND h.ended_at IS NULL AND c.expires_at > clock_timestamp())
SELECT r.kind, a.resource_no, count(DISTINCT a.id) AS how_many
FROM ahead a JOIN resources r ON r.no = a.resource_no
GROUP BY GROUPING SETS ((r.kind), (a.resource_no))"""

_OVERLAPPING = """
SELECT DISTINCT b.id FROM unnest($3::timestamptz[], $4::timestamptz[]) AS clear(since, until)
JOIN bookings b ON b.user_id = $1 AND b.status = 'active' AND b.start_at < clear.until AND b.end_at > clear.since
JOIN booking_units u ON u.booking_id = b.id AND u.during && tstzrange(clear.since, clear.until)
WHERE b.id IS DISTINCT FROM $2
UNION
SELECT DISTINCT h.id FROM unnest($3::timestamptz[], $4::timestamptz[]) AS clear(since, until)
JOIN holds h ON h.user_id = $1 AND h.ended_at IS NULL
JOIN claims c ON c.hold_id = h.id AND c.expires_at > clock_timestamp() AND c.during && tstzrange(clear.since, clear.until)
"""

_UNITS = (
    select(
        func.array_agg(aggregate_order_by(models.BookingUnit.resource_no, models.BookingUnit.position)).label("nos"),
        func.array_agg(aggregate_order_by(models.Resource.id, models.BookingUnit.position)).label("resource_ids"),
        func.array_agg(aggregate_order_by(models.BookingUnit.slot_id, models.BookingUnit.position)).label("slot_ids"),
    )
    .join(models.Resource, models.Resource.no == models.BookingUnit.resource_no)
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
    models.Booking.version,
    models.Booking.created_at,
    models.Booking.cancelled_at,
    _UNITS.c.nos,
    _UNITS.c.resource_ids,
    _UNITS.c.slot_ids,
).join(_UNITS, literal(True))


def _resource(row: asyncpg.Record) -> Resource:
    return Resource(
        no=row["no"],
        id=row["id"],
        kind=row["kind"],
        time_zone=row["time_zone"],
        policy=policy_of(orjson.loads(row["policy"])),
        schedule=None if row["windows"] is None else stored_schedule(row["slot_minutes"], row["windows"]),
        taken=taken_out_of(row),
    )


async def look(source: Database | AsyncSession, selection: Selection) -> dict[int, Resource]:
    """The resources that a selection is about, by number, with their schedules and claims: one statement.

    Without a lock it tells what is plainly taken; under the lock, in the session, it tells the truth.
    """
    numbers, room_id, since, until = reach(selection)
    statement = _LOOK_BY_NUMBER if room_id is None else _LOOK_BY_ROOM
    wanted = numbers if room_id is None else [room_id]
    if isinstance(source, Database):
        rows = await source.fetch(statement, wanted, since, until)
    else:
        rows = await fetch_in(source, statement, wanted, since, until)
    return {row["no"]: _resource(row) for row in rows}


async def insert_booking(
    session: AsyncSession,
    *,
    booking_id: UUID,
    user_id: UUID,
    wanted: Wanted,
    title: str | None,
    notes: str | None,
    conference_link: str | None,
) -> Booking | None:
    """A booking and its units; None where the user is gone or suspended."""
    rows = await fetch_in(
        session,
        _INSERT_BOOKING,
        booking_id,
        user_id,
        wanted.kind,
        wanted.start,
        wanted.end,
        title,
        notes,
        conference_link,
        [slot.resource_no for slot in wanted.slots],
        [slot.start for slot in wanted.slots],
        [slot.end for slot in wanted.slots],
        [slot.id for slot in wanted.slots],
    )
    if not rows:
        return None
    return Booking(
        id=booking_id,
        user_id=user_id,
        kind=wanted.kind,
        status="active",
        units=wanted.booked_units(),
        start=wanted.start,
        end=wanted.end,
        title=title,
        notes=notes,
        conference_link=conference_link,
        version=1,
        created_at=rows[0]["created_at"],
        cancelled_at=None,
    )


async def count_ahead(session: AsyncSession, user_id: UUID, *, ignoring: UUID | None) -> UserCounts:
    """The user's active bookings and live holds that are still ahead, by the database's clock."""
    by_kind: dict[str, int] = {}
    by_resource: dict[int, int] = {}
    for row in await fetch_in(session, _COUNTS, user_id, ignoring):
        if row["resource_no"] is None:
            by_kind[row["kind"]] = row["how_many"]
        else:
            by_resource[row["resource_no"]] = row["how_many"]
    return UserCounts(by_kind, by_resource)


async def bookings_during(
    session: AsyncSession, user_id: UUID, periods: Sequence[tuple[datetime, datetime]], *, ignoring: UUID | None
) -> list[UUID]:
    """The user's active bookings and live holds that share an instant with one of the periods."""
    since, until = [start for start, _ in periods], [end for _, end in periods]
    rows = await fetch_in(session, _OVERLAPPING, user_id, ignoring, since, until)
    return sorted(row["id"] for row in rows)


def _booking(row: AnyRow) -> Booking:
    return Booking(
        id=row.id,
        user_id=row.user_id,
        kind=row.kind,
        status=row.status,
        units=tuple(map(BookedUnit, row.nos, row.resource_ids, row.slot_ids)),
        start=row.start_at,
        end=row.end_at,
        title=row.title,
        notes=row.notes,
        conference_link=row.conference_link,
        version=row.version,
        created_at=row.created_at,
        cancelled_at=row.cancelled_at,
    )


async def find_booking(session: AsyncSession, booking_id: UUID) -> Booking | None:
    """A booking with its units."""
    row = (await session.execute(_BOOKINGS.where(models.Booking.id == booking_id))).first()
    return None if row is None else _booking(row)


async def find_bookings(session: AsyncSession, ids: Iterable[UUID]) -> list[Booking]:
    """Bookings by id, in the order of their ids."""
    rows = await session.execute(_BOOKINGS.where(models.Booking.id.in_(list(ids))).order_by(models.Booking.id))
    return [_booking(row) for row in rows]


async def policies_of(session: AsyncSession, numbers: Iterable[int]) -> list[Policy]:
    """The policies of resources, archived ones included."""
    rows = await session.execute(select(models.Resource.policy).where(models.Resource.no.in_(list(numbers))))
    return [policy_of(policy) for policy in rows.scalars()]


async def mark_cancelled(session: AsyncSession, booking_id: UUID) -> None:
    """The booking is history from now on."""
    await session.execute(
        update(models.Booking)
        .where(models.Booking.id == booking_id)
        .values(status="cancelled", cancelled_at=func.clock_timestamp(), version=models.Booking.version + 1)
    )


async def move_booking(session: AsyncSession, booking_id: UUID, wanted: Wanted) -> None:
    """Other units for a booking."""
    await session.execute(delete(models.BookingUnit).where(models.BookingUnit.booking_id == booking_id))
    await session.execute(
        insert(models.BookingUnit),
        [
            {
                "booking_id": booking_id,
                "position": position,
                "resource_no": slot.resource_no,
                "during": Range(slot.start, slot.end),
                "slot_id": slot.id,
            }
            for position, slot in enumerate(wanted.slots, start=1)
        ],
    )
    await session.execute(
        update(models.Booking)
        .where(models.Booking.id == booking_id)
        .values(kind=wanted.kind, start_at=wanted.start, end_at=wanted.end, version=models.Booking.version + 1)
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
    resource_id: UUID | None = None,
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
    if resource_id is not None:
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


async def ids_ahead(session: AsyncSession, user_id: UUID, *, now: datetime) -> list[UUID]:
    """The user's active bookings that have not begun."""
    rows = await session.execute(
        select(models.Booking.id).where(
            models.Booking.user_id == user_id, models.Booking.status == "active", models.Booking.start_at > now
        )
    )
    return list(rows.scalars())


async def insert_hold(session: AsyncSession, *, hold_id: UUID, user_id: UUID, booking_id: UUID, lasts: timedelta) -> datetime:
    """A hold that ends after `lasts` by the database's clock; returns when."""
    expires_at: datetime | None = await session.scalar(
        insert(models.Hold)
        .values(id=hold_id, user_id=user_id, booking_id=booking_id, expires_at=func.clock_timestamp() + lasts)
        .returning(models.Hold.expires_at)
    )
    assert expires_at is not None  # noqa: S101 - the column is not null
    return expires_at


async def holds_for(session: AsyncSession, booking_id: UUID) -> list[UUID]:
    """Holds of an earlier attempt at the same booking that were not ended."""
    rows = await session.execute(
        select(models.Hold.id).where(models.Hold.booking_id == booking_id, models.Hold.ended_at.is_(None))
    )
    return list(rows.scalars())


async def end_holds(session: AsyncSession, ids: Iterable[UUID]) -> None:
    """These holds are over: used, released or lapsed."""
    await session.execute(
        update(models.Hold)
        .where(models.Hold.id.in_(list(ids)), models.Hold.ended_at.is_(None))
        .values(ended_at=func.clock_timestamp())
    )


async def hold_is_live(session: AsyncSession, hold_id: UUID) -> bool:
    """True while the hold was not ended and its end is ahead by the database's clock."""
    return bool(
        await session.scalar(
            select(models.Hold.id).where(
                models.Hold.id == hold_id,
                models.Hold.ended_at.is_(None),
                models.Hold.expires_at > func.clock_timestamp(),
            )
        )
    )


async def own_live_holds(session: AsyncSession, user_id: UUID) -> list[tuple[UUID, int]]:
    """Hold id and resource number of each claim that a user's holds have."""
    rows = await session.execute(
        select(models.Hold.id, models.Claim.resource_no)
        .join(models.Claim, models.Claim.hold_id == models.Hold.id)
        .where(models.Hold.user_id == user_id, models.Hold.ended_at.is_(None))
    )
    return [(hold_id, no) for hold_id, no in rows]


_CLOSURES: AnySelect = select(
    models.Closure.id,
    models.Closure.resource_no,
    models.Closure.start_at,
    models.Closure.end_at,
    models.Closure.reason,
    models.Closure.created_at,
)


async def insert_closure(
    session: AsyncSession,
    *,
    closure_id: UUID,
    resource_no: int,
    start: datetime,
    end: datetime,
    reason: str | None,
    created_by: UUID | None,
) -> Closure:
    """A closure; its claim is taken apart."""
    created_at: datetime | None = await session.scalar(
        insert(models.Closure)
        .values(
            id=closure_id,
            resource_no=resource_no,
            start_at=start,
            end_at=end,
            reason=reason,
            created_by=created_by,
        )
        .returning(models.Closure.created_at)
    )
    assert created_at is not None  # noqa: S101 - the column is not null
    return Closure(closure_id, resource_no, start, end, reason, created_at)


async def list_closures(session: AsyncSession, resource_no: int, *, offset: int, limit: int) -> tuple[list[Closure], int]:
    """One page of a resource's closures, soonest first, and how many there are."""
    total = await session.scalar(
        select(func.count()).select_from(models.Closure).where(models.Closure.resource_no == resource_no)
    )
    rows = await session.execute(
        _CLOSURES.where(models.Closure.resource_no == resource_no)
        .order_by(models.Closure.start_at, models.Closure.id)
        .offset(offset)
        .limit(limit)
    )
    return [Closure(*row) for row in rows], total or 0


async def find_closure(session: AsyncSession, resource_no: int, closure_id: UUID) -> Closure | None:
    """A closure of this resource."""
    row = (
        await session.execute(_CLOSURES.where(models.Closure.resource_no == resource_no, models.Closure.id == closure_id))
    ).first()
    return None if row is None else Closure(*row)


async def delete_closure(session: AsyncSession, closure_id: UUID) -> None:
    """It is open again; the outbox remembers."""
    await session.execute(delete(models.Closure).where(models.Closure.id == closure_id))
