"""Bookings in SQL."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlakeyset import BadBookmark, serialize_bookmark, unserialize_bookmark
from sqlakeyset.asyncio import select_page
from sqlalchemy import delete, exists, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import Range, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import BookedUnit, Booking, Wanted
from holdfast.core.errors import Invalid
from holdfast.db import models
from holdfast.db.database import AnyRow, AnySelect, fetch_in

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
