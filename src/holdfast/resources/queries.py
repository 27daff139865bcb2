"""Schedules and slots in SQL, whatever the resource's kind."""

from datetime import datetime
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import Text, cast, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.claims.queries import claims_in_period, live_times_in_period
from holdfast.core.policies import Policy, policy_of
from holdfast.core.schedules import Schedule, Slot, stored_schedule, windows_json
from holdfast.db import models
from holdfast.db.database import Database
from holdfast.resources.rules import Owner, ResourceSchedule

_SLOTS = """
SELECT r.no, r.time_zone, s.slot_minutes, s.windows::text AS windows, {columns} taken.*
FROM resources r
LEFT JOIN schedules s ON s.resource_no = r.no
LEFT JOIN LATERAL {claims} taken ON true
WHERE r.id = $1 AND r.archived_at IS NULL AND r.kind = {kind}"""
_PERIOD = {"no": "r.no", "start": "$2::timestamptz", "end": "$3::timestamptz"}
#: One statement, one indexed read: a room, its schedule, and when it is taken in a period.
FREE_SLOTS_OF_A_ROOM = _SLOTS.format(columns="", claims=live_times_in_period(**_PERIOD), kind="'room'")


def published_in_period(*, no: str, start: str, end: str) -> str:
    """SQL of a lateral sub-select with the slots that a host published in a period; the arguments are SQL expressions."""
    return f"""(
  SELECT array_agg(p.id) AS slot_ids, array_agg(lower(p.during)) AS slot_starts, array_agg(upper(p.during)) AS slot_ends
  FROM host_slots p
  WHERE int8range(p.resource_no, p.resource_no, '[]') && int8range({no}, {no}, '[]')
    AND p.during && tstzrange({start}, {end}) AND p.deleted_at IS NULL)"""  # noqa: S608 - our own expressions


#: All that is known of a resource's slots in a period: with the policy, whose the claims are, and what a host published.
_ALL_SLOTS = _SLOTS.replace("LEFT JOIN LATERAL", "LEFT JOIN LATERAL {published} published ON true\nLEFT JOIN LATERAL", 1).format(
    columns="r.policy::text AS policy, published.*,",
    claims=claims_in_period(**_PERIOD, whose=True),
    published=published_in_period(**_PERIOD),
    kind="$4",
)


def published_out_of(row: asyncpg.Record, resource_no: int) -> tuple[Slot, ...]:
    """The published slots out of a row of `published_in_period`, soonest first."""
    if row["slot_ids"] is None:
        return ()
    slots = zip(row["slot_ids"], row["slot_starts"], row["slot_ends"], strict=True)
    return tuple(sorted((Slot(id_, resource_no, start, end) for id_, start, end in slots), key=lambda slot: slot.start))


async def read_free_slots(db: Database, room_id: UUID, start: datetime, end: datetime) -> asyncpg.Record | None:
    """The one row of FREE_SLOTS_OF_A_ROOM, None where there is no such room."""
    rows = await db.fetch(FREE_SLOTS_OF_A_ROOM, room_id, start, end)
    return rows[0] if rows else None


async def read_all_slots(db: Database, kind: str, resource_id: UUID, start: datetime, end: datetime) -> asyncpg.Record | None:
    """Everything about a resource's slots in a period, None where there is no such resource."""
    rows = await db.fetch(_ALL_SLOTS, resource_id, start, end, kind)
    return rows[0] if rows else None


def schedule_out_of(row: asyncpg.Record) -> Schedule | None:
    """The schedule in a row with `slot_minutes` and `windows`."""
    return None if row["windows"] is None else stored_schedule(row["slot_minutes"], row["windows"])


def policy_out_of(row: asyncpg.Record) -> Policy:
    """The policy in a row with `policy` as text."""
    return policy_of(orjson.loads(row["policy"]))


async def find_schedule(session: AsyncSession, owner: Owner) -> ResourceSchedule | None:
    """A resource's schedule."""
    row = (
        await session.execute(
            select(
                models.Schedule.id,
                models.Schedule.slot_minutes,
                cast(models.Schedule.windows, Text),
                models.Schedule.version,
            ).where(models.Schedule.resource_no == owner.no)
        )
    ).first()
    return None if row is None else ResourceSchedule(row[0], owner, stored_schedule(row[1], row[2]), row[3])


async def insert_schedule(session: AsyncSession, owner: Owner, schedule_id: UUID, schedule: Schedule) -> ResourceSchedule:
    """A resource's first schedule; the primary key refuses a second one."""
    await session.execute(
        insert(models.Schedule).values(
            resource_no=owner.no,
            id=schedule_id,
            slot_minutes=schedule.slot_minutes,
            windows=windows_json(schedule.windows),
        )
    )
    return ResourceSchedule(schedule_id, owner, schedule, 1)


async def replace_schedule(session: AsyncSession, before: ResourceSchedule, schedule: Schedule) -> ResourceSchedule:
    """Another rule under the same id."""
    await session.execute(
        update(models.Schedule)
        .where(models.Schedule.id == before.id)
        .values(
            slot_minutes=schedule.slot_minutes,
            windows=windows_json(schedule.windows),
            version=models.Schedule.version + 1,
        )
    )
    return ResourceSchedule(before.id, before.owner, schedule, before.version + 1)


async def archive_resource(session: AsyncSession, no: int) -> None:
    """Out of every list from now on."""
    await session.execute(
        update(models.Resource)
        .where(models.Resource.no == no)
        .values(archived_at=func.clock_timestamp(), version=models.Resource.version + 1)
    )


async def stored_policy(session: AsyncSession, no: int) -> dict[str, object]:
    """The rules that a resource's owner named, by their wire names."""
    return await session.scalar(select(models.Resource.policy).where(models.Resource.no == no)) or {}


async def find_owner(session: AsyncSession, kind: str, resource_id: UUID) -> tuple[Owner, UUID | None] | None:
    """A resource of a kind that is not archived, and the user whose it is (hosts)."""
    row = (
        await session.execute(
            select(models.Resource.no, models.Resource.id, models.Resource.kind, models.Host.user_id)
            .outerjoin(models.Host, models.Host.resource_no == models.Resource.no)
            .where(models.Resource.id == resource_id, models.Resource.kind == kind, models.Resource.archived_at.is_(None))
        )
    ).first()
    return None if row is None else (Owner(*row[:3]), row[3])


async def find_zone(session: AsyncSession, kind: str, resource_id: UUID) -> str | None:
    """The time zone of a resource of a kind that is not archived."""
    found: str | None = await session.scalar(
        select(models.Resource.time_zone).where(
            models.Resource.id == resource_id, models.Resource.kind == kind, models.Resource.archived_at.is_(None)
        )
    )
    return found
