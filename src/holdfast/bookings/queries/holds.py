"""Holds in SQL."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import BookedUnit, Hold
from holdfast.db import models
from holdfast.db.database import Database, fetch_from, fetch_in

#: Holds that end after so long by the database's clock.
_INSERT = """
INSERT INTO holds (id, user_id, booking_id, origin, lasts_for, expires_at)
SELECT n.id, n.user_id, n.booking_id, n.origin, n.lasts_for, clock_timestamp() + n.lasts_for
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::interval[])
  AS n(id, user_id, booking_id, origin, lasts_for)
RETURNING id, expires_at"""
_HOLDS = """
SELECT h.id, h.user_id, h.booking_id, h.origin, h.expires_at, h.extended_at, h.outcome,
       h.ended_at IS NULL AND h.expires_at > clock_timestamp() AS live, units.*
FROM holds h
LEFT JOIN LATERAL (
  SELECT array_agg(r.kind ORDER BY lower(c.during), c.resource_no, c.seat_no) AS kinds,
         array_agg(c.resource_no ORDER BY lower(c.during), c.resource_no, c.seat_no) AS nos,
         array_agg(r.id ORDER BY lower(c.during), c.resource_no, c.seat_no) AS resource_ids,
         array_agg(c.slot_id ORDER BY lower(c.during), c.resource_no, c.seat_no) AS slot_ids,
         array_agg(s.label ORDER BY lower(c.during), c.resource_no, c.seat_no) AS labels,
         min(coalesce(lower(c.during), e.start_at)) AS since,
         max(coalesce(upper(c.during), e.end_at)) AS until
  FROM claims c
  JOIN resources r ON r.no = c.resource_no
  LEFT JOIN seats s ON s.no = c.seat_no
  LEFT JOIN events e ON e.resource_no = c.resource_no
  WHERE c.hold_id = h.id) units ON true
WHERE {which}"""
_BY_ID = _HOLDS.format(which="h.id = ANY($1::uuid[]) ORDER BY h.id")
_OWN = _HOLDS.format(
    which="""h.user_id = $1 AND h.ended_at IS NULL AND h.expires_at > clock_timestamp() AND h.origin <> 'conference'
ORDER BY h.expires_at, h.id"""
)


async def insert_holds(session: AsyncSession, holds: Sequence[tuple[UUID, UUID, UUID, str, timedelta]]) -> dict[UUID, datetime]:
    """Holds by (id, user, booking to be, origin, how long); returns when each ends, by the database's clock."""
    rows = await fetch_in(session, _INSERT, *map(list, zip(*holds, strict=True)))
    return {row["id"]: row["expires_at"] for row in rows}


def _hold(row: asyncpg.Record) -> Hold:
    units: tuple[BookedUnit, ...] = ()
    if row["nos"] is not None:
        units = tuple(map(BookedUnit, row["nos"], row["resource_ids"], row["slot_ids"], row["labels"]))
    return Hold(
        id=row["id"],
        user_id=row["user_id"],
        booking_id=row["booking_id"],
        origin=row["origin"],
        kind=row["kinds"][0] if units else "room",
        units=units,
        start=row["since"],
        end=row["until"],
        expires_at=row["expires_at"],
        extended_at=row["extended_at"],
        outcome=row["outcome"],
        live=row["live"],
    )


async def find_hold(source: Database | AsyncSession, hold_id: UUID) -> Hold | None:
    """A hold with its units; whether it lives is the database's word of this moment."""
    found = await find_holds(source, [hold_id])
    return found[0] if found else None


async def find_holds(source: Database | AsyncSession, ids: Iterable[UUID]) -> list[Hold]:
    """Holds by id, in the order of their ids."""
    return [_hold(row) for row in await fetch_from(source, _BY_ID, list(ids))]


async def own_holds(db: Database, user_id: UUID) -> list[Hold]:
    """A user's live holds, the first to end first, without those that only wait for a conference link."""
    return [_hold(row) for row in await db.fetch(_OWN, user_id)]


async def holds_for(session: AsyncSession, booking_id: UUID) -> list[UUID]:
    """Holds of an earlier attempt at the same booking that were not ended."""
    rows = await session.execute(
        select(models.Hold.id).where(models.Hold.booking_id == booking_id, models.Hold.ended_at.is_(None))
    )
    return list(rows.scalars())


_END = """
UPDATE holds SET ended_at = clock_timestamp(), outcome = $2 WHERE id = ANY($1::uuid[]) AND ended_at IS NULL RETURNING id"""


async def end_holds(session: AsyncSession, ids: Iterable[UUID], outcome: str) -> list[UUID]:
    """These holds are `booked`, `released` or `lapsed`. Returns those that were not over before, by id."""
    return sorted(row["id"] for row in await fetch_in(session, _END, list(ids), outcome))


async def prolong_hold(session: AsyncSession, hold_id: UUID, *, until: datetime | None = None, by_user: bool = False) -> datetime:
    """Another end for a hold: `until`, or by its own length; returns which. Once `by_user`, it is extended."""
    values: dict[str, Any] = {"expires_at": until or models.Hold.expires_at + models.Hold.lasts_for}
    if by_user:
        values["extended_at"] = func.clock_timestamp()
    expires_at: datetime | None = await session.scalar(
        update(models.Hold).where(models.Hold.id == hold_id).values(**values).returning(models.Hold.expires_at)
    )
    assert expires_at is not None  # noqa: S101 - the row is locked
    return expires_at


async def clock_in(session: AsyncSession) -> datetime:
    """What the database's clock says."""
    rows = await fetch_in(session, "SELECT clock_timestamp() AS now")
    now: datetime = rows[0]["now"]
    return now


async def unended_holds(session: AsyncSession, user_id: UUID) -> list[Hold]:
    """All holds of a user that were not ended, whatever they are for."""
    ids = await session.execute(select(models.Hold.id).where(models.Hold.user_id == user_id, models.Hold.ended_at.is_(None)))
    return await find_holds(session, ids.scalars().all())


async def live_holds_of(session: AsyncSession, resource_no: int) -> list[Hold]:
    """The holds that have units of a resource."""
    ids = await session.execute(
        select(models.Claim.hold_id).where(models.Claim.resource_no == resource_no, models.Claim.hold_id.is_not(None)).distinct()
    )
    return await find_holds(session, [hold_id for hold_id in ids.scalars() if hold_id is not None])
