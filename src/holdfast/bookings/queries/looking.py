"""Looking before taking: resources and events with what is taken of them, and what users have ahead."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import Ahead, Event, Reach, Resource, World
from holdfast.claims.queries import claims_in_period, taken_out_of
from holdfast.core.policies import Policy, policy_of
from holdfast.db import models
from holdfast.db.database import Database, fetch_from, fetch_in
from holdfast.events.queries import layout_of
from holdfast.events.seating import Hall
from holdfast.resources.queries import policy_out_of, published_in_period, published_out_of, schedule_out_of

K = TypeVar("K")
_AWAITED = "EXISTS (SELECT FROM waitlist_entries e WHERE e.resource_no = r.no AND e.status = 'waiting') AS awaited"
_LOOK = (
    """
SELECT r.no, r.id, r.kind, r.time_zone, r.policy::text AS policy, s.slot_minutes, s.windows::text AS windows,
       h.user_id AS owner_id, """
    + _AWAITED
    + """, {published_columns} taken.*
FROM {wanted} AS w(wanted, since, until)
JOIN resources r ON {match}
LEFT JOIN schedules s ON s.resource_no = r.no
LEFT JOIN hosts h ON h.resource_no = r.no
LEFT JOIN LATERAL {claims} taken ON true
{published}
WHERE r.archived_at IS NULL AND r.kind <> 'event'"""
)
_PLAIN = {"published_columns": "", "published": "", "claims": claims_in_period(no="r.no", start="w.since", end="w.until")}


_LOOK_BY_NUMBER = _LOOK.format(
    wanted="unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[])", match="r.no = w.wanted", **_PLAIN
)


_LOOK_BY_ROOM = _LOOK.format(
    wanted="unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[])",
    match="r.id = w.wanted AND r.kind = 'room'",
    **_PLAIN,
)


#: Slots that hosts published are found by their ids first; a day around them, so that alternatives are seen.
_LOOK_BY_PUBLISHED = _LOOK.format(
    wanted="""(
  SELECT p.resource_no, min(lower(p.during)) - interval '26 hours', max(upper(p.during)) + interval '26 hours'
  FROM host_slots p WHERE p.id = ANY($1::uuid[]) AND p.deleted_at IS NULL GROUP BY p.resource_no)""",
    match="r.no = w.wanted",
    claims=_PLAIN["claims"],
    published_columns="published.*,",
    published=f"LEFT JOIN LATERAL {published_in_period(no='r.no', start='w.since', end='w.until')} published ON true",
)


_LOOK_AT_EVENTS = f"""
SELECT r.no, r.id, r.time_zone, r.policy::text AS policy, e.start_at, e.end_at, e.sales_start_at, e.sales_end_at,
       e.seats_version, {_AWAITED}, taken.*
FROM resources r
JOIN events e ON e.resource_no = r.no
LEFT JOIN LATERAL (
  SELECT array_agg(c.seat_no) AS seat_nos, bool_or(c.expires_at <= clock_timestamp()) AS has_lapsed
  FROM claims c
  WHERE c.resource_no = r.no AND c.seat_no <> 0
    AND (c.booking_id IS NULL OR $2::uuid IS NULL OR c.booking_id <> $2)) taken ON true
WHERE r.id = ANY($1::uuid[]) AND r.archived_at IS NULL"""  # noqa: S608 - our own words


_AHEAD = """
WITH ahead AS (
  SELECT b.user_id, b.id, u.resource_no, b.start_at
  FROM unnest($1::uuid[], $2::uuid[]) AS who(user_id, ignoring)
  JOIN bookings b ON b.user_id = who.user_id AND b.id IS DISTINCT FROM who.ignoring
  JOIN booking_units u ON u.booking_id = b.id
  WHERE b.status = 'active' AND b.start_at > clock_timestamp()
  UNION ALL
  SELECT h.user_id, h.id, c.resource_no, coalesce(lower(c.during), e.start_at)
  FROM holds h JOIN claims c ON c.hold_id = h.id LEFT JOIN events e ON e.resource_no = c.resource_no
  WHERE h.user_id = ANY($1::uuid[]) AND h.ended_at IS NULL AND c.expires_at > clock_timestamp())
SELECT a.user_id, r.kind, a.resource_no, count(DISTINCT a.id) AS how_many, min(a.start_at) AS soonest
FROM ahead a JOIN resources r ON r.no = a.resource_no
GROUP BY GROUPING SETS ((a.user_id, r.kind), (a.user_id, a.resource_no))"""


_HELD = """
SELECT h.user_id, CASE WHEN c.seat_no = 0 THEN NULL ELSE c.resource_no END AS event_no, count(*) AS how_many
FROM holds h JOIN claims c ON c.hold_id = h.id
WHERE h.user_id = ANY($1::uuid[]) AND h.ended_at IS NULL AND h.origin <> 'conference' AND c.expires_at > clock_timestamp()
GROUP BY 1, 2"""


_PERIODS = """
SELECT b.user_id, b.id, lower(u.during) AS since, nullif(upper(u.during), lower(u.during)) AS until
FROM bookings b JOIN booking_units u ON u.booking_id = b.id
WHERE b.user_id = ANY($1::uuid[]) AND b.status = 'active' AND coalesce(b.end_at, b.start_at) > clock_timestamp()
UNION
SELECT h.user_id, h.id, coalesce(lower(c.during), e.start_at), coalesce(upper(c.during), e.end_at)
FROM holds h JOIN claims c ON c.hold_id = h.id LEFT JOIN events e ON e.resource_no = c.resource_no
WHERE h.user_id = ANY($1::uuid[]) AND h.ended_at IS NULL AND c.expires_at > clock_timestamp()"""


def _columns(periods: Mapping[K, tuple[datetime, datetime]]) -> tuple[list[K], list[datetime], list[datetime]]:
    return list(periods), [start for start, _ in periods.values()], [end for _, end in periods.values()]


def _add(world: World, row: asyncpg.Record, *, published: bool = False) -> None:
    taken = taken_out_of(row)
    known = world.resources.get(row["no"])
    if known is not None:
        # Read for two reasons, each with its own period: what is in both counts once.
        known.taken = sorted({*known.taken, *taken}, key=lambda claim: (claim.start, claim.end))
        if published:
            known.published = published_out_of(row, row["no"])
        return
    world.resources[row["no"]] = Resource(
        no=row["no"],
        id=row["id"],
        kind=row["kind"],
        time_zone=row["time_zone"],
        policy=policy_out_of(row),
        schedule=schedule_out_of(row),
        published=published_out_of(row, row["no"]) if published else (),
        owner_id=row["owner_id"],
        awaited=row["awaited"],
        taken=list(taken),
    )


async def look(source: Database | AsyncSession, wanted: Reach, *, ignoring: UUID | None = None) -> World:
    """What selections are about, with what is taken: one statement for slots of one kind, two for an event's seats.

    Without a lock it tells what is plainly taken; under the lock, in the session, it tells the truth. `ignoring` is a
    booking whose seats count as free.
    """
    world = World()
    if wanted.numbers:
        for row in await fetch_from(source, _LOOK_BY_NUMBER, *_columns(wanted.numbers)):
            _add(world, row)
    if wanted.rooms:
        for row in await fetch_from(source, _LOOK_BY_ROOM, *_columns(wanted.rooms)):
            _add(world, row)
    if wanted.published:
        for row in await fetch_from(source, _LOOK_BY_PUBLISHED, list(wanted.published)):
            _add(world, row, published=True)
    if wanted.events:
        for row in await fetch_from(source, _LOOK_AT_EVENTS, list(wanted.events), ignoring):
            world.events[row["id"]] = await _event(source, row)
    return world


async def _event(source: Database | AsyncSession, row: asyncpg.Record) -> Event:
    layout = (await layout_of(source, row["no"], row["id"], row["seats_version"])).layout
    return Event(
        no=row["no"],
        id=row["id"],
        time_zone=row["time_zone"],
        policy=policy_out_of(row),
        start=row["start_at"],
        end=row["end_at"],
        sales_start=row["sales_start_at"],
        sales_end=row["sales_end_at"],
        layout=layout,
        hall=Hall(layout, row["seat_nos"] or ()),
        has_lapsed=bool(row["has_lapsed"]),
        awaited=row["awaited"],
    )


async def look_ahead(
    session: AsyncSession, ignoring: Mapping[UUID, UUID | None], *, with_held: bool, with_periods: bool
) -> dict[UUID, Ahead]:
    """What users (each with a booking to leave out) have ahead, by the database's clock; their rows are locked."""
    found = {user_id: Ahead() for user_id in ignoring}
    users = list(ignoring)
    for row in await fetch_in(session, _AHEAD, users, list(ignoring.values())):
        ahead = found[row["user_id"]]
        if row["resource_no"] is None:
            ahead.by_kind[row["kind"]] = row["how_many"]
            ahead.soonest[row["kind"]] = row["soonest"]
        else:
            ahead.by_resource[row["resource_no"]] = row["how_many"]
            ahead.soonest[row["resource_no"]] = row["soonest"]
    if with_held:
        for row in await fetch_in(session, _HELD, users):
            if row["event_no"] is None:
                found[row["user_id"]].held_slots = row["how_many"]
            else:
                found[row["user_id"]].held_seats[row["event_no"]] = row["how_many"]
    if with_periods:
        for row in await fetch_in(session, _PERIODS, users):
            found[row["user_id"]].periods.append((row["since"], row["until"], row["id"]))
    return found


async def has_fair_queue(session: AsyncSession, resource_id: UUID) -> bool:
    """Whether a resource's own policy wants one."""
    found = await session.scalar(select(models.Resource.policy).where(models.Resource.id == resource_id))
    return found is not None and policy_of(found).fair_queue


async def policies_of(session: AsyncSession, numbers: Iterable[int]) -> list[Policy]:
    """The policies of resources, archived ones included."""
    rows = await session.execute(select(models.Resource.policy).where(models.Resource.no.in_(list(numbers))))
    return [policy_of(policy) for policy in rows.scalars()]
