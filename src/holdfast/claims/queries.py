"""Reading claims inside a bigger statement, and the statements that write them."""

from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import delete, func, literal, update
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
    columns = zip(row["starts"], row["ends"], row["kinds"], row["holders"], users, row["lapsed"], strict=True)
    return tuple(
        sorted(
            (Taken(start, end, HolderKind(kind), holder, user, lapsed) for start, end, kind, holder, user, lapsed in columns),
            key=lambda claim: (claim.start, claim.end),
        )
    )


def _column(kind: HolderKind) -> Any:
    return {
        HolderKind.BOOKING: Claim.booking_id,
        HolderKind.HOLD: Claim.hold_id,
        HolderKind.CLOSURE: Claim.closure_id,
    }[kind]


_INSERT = """
INSERT INTO claims (resource_no, during, booking_id, hold_id, closure_id, expires_at)
SELECT u.resource_no, tstzrange(u.since, u.until), $4, $5, $6, $7
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS u(resource_no, since, until)"""


async def insert_claims(session: AsyncSession, units: list[Unit], holder: Holder) -> None:
    """One claim per unit, in one statement. The constraint refuses what overlaps."""
    await fetch_in(
        session,
        _INSERT,
        [unit.resource_no for unit in units],
        [unit.start for unit in units],
        [unit.end for unit in units],
        *(holder.id if holder.kind is kind else None for kind in HolderKind),
        holder.expires_at,
    )


async def delete_claims(session: AsyncSession, kind: HolderKind, holder_id: UUID) -> None:
    """All claims of one holder."""
    await session.execute(delete(Claim).where(_column(kind) == holder_id))


async def delete_lapsed(session: AsyncSession, hold_ids: list[UUID]) -> list[UUID]:
    """The claims of those of the holds that lapsed by the database's clock; returns whose they were."""
    rows = await session.execute(
        delete(Claim).where(Claim.hold_id.in_(hold_ids), Claim.expires_at <= func.clock_timestamp()).returning(Claim.hold_id)
    )
    return sorted({hold_id for hold_id in rows.scalars() if hold_id is not None})


async def hand_over(session: AsyncSession, *, hold_id: UUID, booking_id: UUID) -> int:
    """Make a hold's claims the booking's; returns how many there were."""
    rows = await session.execute(
        update(Claim)
        .where(Claim.hold_id == hold_id)
        .values(hold_id=None, expires_at=None, booking_id=booking_id)
        .returning(literal(1))
    )
    return len(rows.all())
