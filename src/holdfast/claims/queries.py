"""Reading claims inside a bigger statement, and the statements that write them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.claims.rules import Holder, HolderKind, Taken, Unit
from holdfast.db.database import fetch_in
from holdfast.db.models import Claim

#: The claims of a resource's whole (seat 0) that share an instant with a period, as a lateral sub-select. Asked with the
#: constraint's own expressions: any other spelling scans (17 ms instead of 0.16 at a million claims).
_IN_PERIOD = """
  FROM claims c
  WHERE int8range(c.resource_no, c.resource_no, '[]') && int8range({no}, {no}, '[]')
    AND int8range(c.seat_no, c.seat_no, '[]') && int8range(0, 0, '[]')
    AND c.during && tstzrange({start}, {end})"""

#: One row of parallel arrays, in no order: for `taken_out_of`.
_DETAILED = (
    """(
  SELECT array_agg(lower(c.during)) AS starts,
         array_agg(upper(c.during)) AS ends,
         array_agg(CASE WHEN c.booking_id IS NOT NULL THEN 'booking'
                        WHEN c.hold_id IS NOT NULL THEN 'hold' ELSE 'closure' END) AS kinds,
         array_agg(coalesce(c.booking_id, c.hold_id, c.closure_id)) AS holders,
         {users} AS users,
         array_agg(c.expires_at) AS expiries,
         array_agg(coalesce(c.expires_at <= clock_timestamp(), false)) AS lapsed"""
    + _IN_PERIOD
    + ")"
)

#: The same, of live claims only and with nothing but their times: all that a list of free slots needs.
_TIMES = (
    """(
  SELECT array_agg(lower(c.during)) AS starts,
         array_agg(upper(c.during)) AS ends"""
    + _IN_PERIOD
    + """
    AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp()))"""
)


_WHOSE = """array_agg(coalesce((SELECT b.user_id FROM bookings b WHERE b.id = c.booking_id),
                            (SELECT h.user_id FROM holds h WHERE h.id = c.hold_id)))"""


def claims_in_period(*, no: str, start: str, end: str, whose: bool = False) -> str:
    """SQL of a lateral sub-select with every claim in a period, lapsed holds included; the arguments are SQL expressions.

    `whose` looks up each claim's user, which costs as much again as all the rest.
    """
    return _DETAILED.format(no=no, start=start, end=end, users=_WHOSE if whose else "NULL::uuid[]")


def live_times_in_period(*, no: str, start: str, end: str) -> str:
    """SQL of a lateral sub-select with only the times of the live claims in a period."""
    return _TIMES.format(no=no, start=start, end=end)


OCCUPIED = (
    "SELECT taken.* FROM " + claims_in_period(no="$1::bigint", start="$2::timestamptz", end="$3::timestamptz") + " AS taken"
)


def taken_out_of(row: asyncpg.Record) -> tuple[Taken, ...]:
    """The claims out of a row of `claims_in_period`, soonest first."""
    if row["starts"] is None:
        return ()
    users = row["users"] or [None] * len(row["starts"])
    columns = zip(row["starts"], row["ends"], row["kinds"], row["holders"], users, row["lapsed"], row["expiries"], strict=True)
    return tuple(
        sorted(
            (Taken(start, end, HolderKind(kind), *others) for start, end, kind, *others in columns),
            key=lambda claim: (claim.start, claim.end),
        )
    )


_INSERT = """
INSERT INTO claims (resource_no, seat_no, during, slot_id, booking_id, hold_id, closure_id, expires_at)
SELECT u.resource_no, u.seat_no,
       CASE WHEN u.seat_no = 0 THEN tstzrange(u.since, u.until) ELSE tstzrange(NULL, NULL, '()') END,
       u.slot_id, u.booking_id, u.hold_id, u.closure_id, u.expires_at
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::uuid[],
            $6::uuid[], $7::uuid[], $8::uuid[], $9::timestamptz[])
  AS u(resource_no, seat_no, since, until, slot_id, booking_id, hold_id, closure_id, expires_at)"""


async def insert_claims(session: AsyncSession, taken: Sequence[tuple[Unit, Holder]]) -> None:
    """One claim per unit, in one statement. The constraint refuses what overlaps."""
    await fetch_in(
        session,
        _INSERT,
        [unit.resource_no for unit, _ in taken],
        [unit.seat_no for unit, _ in taken],
        [unit.start for unit, _ in taken],
        [unit.end for unit, _ in taken],
        [None if holder.kind is HolderKind.CLOSURE else unit.slot_id for unit, holder in taken],
        *([holder.id if holder.kind is kind else None for _, holder in taken] for kind in HolderKind),
        [holder.expires_at for _, holder in taken],
    )


_DELETE = {kind: f"DELETE FROM claims WHERE {kind.value}_id = ANY($1::uuid[])" for kind in HolderKind}


async def delete_claims(session: AsyncSession, kind: HolderKind, holder_ids: Sequence[UUID]) -> None:
    """All claims of these holders."""
    await fetch_in(session, _DELETE[kind], holder_ids)


#: Holds first, by id, as whoever confirms one locks the hold and then its claims.
_DELETE_LAPSED = """
WITH lapsed AS (
  SELECT h.id FROM holds h
  WHERE h.id IN (SELECT c.hold_id FROM claims c
                 WHERE c.resource_no = ANY($1::bigint[]) AND c.expires_at <= clock_timestamp())
  ORDER BY h.id FOR NO KEY UPDATE),
released AS (
  DELETE FROM claims c USING lapsed WHERE c.hold_id = lapsed.id AND c.expires_at <= clock_timestamp() RETURNING c.hold_id)
SELECT DISTINCT hold_id FROM released ORDER BY hold_id"""
_DELETE_SEAT_CLOSURES = """
DELETE FROM claims WHERE resource_no = $1 AND seat_no = ANY($2::bigint[]) AND closure_id IS NOT NULL RETURNING closure_id"""


async def delete_lapsed(session: AsyncSession, resource_nos: list[int]) -> list[UUID]:
    """The claims of lapsed holds that have units of these resources; returns whose they were."""
    return [row["hold_id"] for row in await fetch_in(session, _DELETE_LAPSED, resource_nos)]


async def delete_seat_closures(session: AsyncSession, resource_no: int, seat_nos: Sequence[int]) -> list[UUID]:
    """What blocks these seats; returns the closures."""
    rows = await fetch_in(session, _DELETE_SEAT_CLOSURES, resource_no, list(seat_nos))
    return sorted({row["closure_id"] for row in rows})


async def prolong(session: AsyncSession, hold_id: UUID, expires_at: datetime) -> None:
    """Another end for a hold's claims."""
    await session.execute(update(Claim).where(Claim.hold_id == hold_id).values(expires_at=expires_at))


_HAND_OVER = "UPDATE claims SET hold_id = NULL, expires_at = NULL, booking_id = $2 WHERE hold_id = $1 RETURNING no"


async def hand_over(session: AsyncSession, *, hold_id: UUID, booking_id: UUID) -> int:
    """Make a hold's claims the booking's; returns how many there were."""
    return len(await fetch_in(session, _HAND_OVER, hold_id, booking_id))
