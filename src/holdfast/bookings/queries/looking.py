"""Looking before taking: resources with their claims, and what a user has ahead."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import Resource, Selection, UserCounts, reach
from holdfast.claims.queries import claims_in_period, taken_out_of
from holdfast.core.policies import Policy, policy_of
from holdfast.core.schedules import stored_schedule
from holdfast.db import models
from holdfast.db.database import Database, fetch_in

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


async def policies_of(session: AsyncSession, numbers: Iterable[int]) -> list[Policy]:
    """The policies of resources, archived ones included."""
    rows = await session.execute(select(models.Resource.policy).where(models.Resource.no.in_(list(numbers))))
    return [policy_of(policy) for policy in rows.scalars()]
