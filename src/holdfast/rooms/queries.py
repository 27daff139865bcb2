"""Rooms and schedules in SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Text, cast, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.claims.queries import claims_in_period, live_times_in_period
from holdfast.core.policies import policy_of
from holdfast.core.schedules import Schedule, stored_schedule, windows_json
from holdfast.db import models
from holdfast.db.database import AnyRow, AnySelect, Database
from holdfast.rooms.rules import Room, RoomSchedule

_COLUMNS = (
    models.Resource.no,
    models.Resource.id,
    models.Resource.name,
    models.Room.description,
    models.Room.capacity,
    models.Room.kind,
    models.Resource.time_zone,
    models.Room.location,
    models.Room.features,
    models.Resource.policy,
    models.Resource.version,
    models.Resource.created_at,
)
_ROOMS: AnySelect = (
    select(*_COLUMNS)
    .join(models.Room, models.Room.resource_no == models.Resource.no)
    .where(models.Resource.archived_at.is_(None))
)

_SLOTS = """
SELECT r.no, r.time_zone, s.slot_minutes, s.windows::text AS windows, taken.*
FROM resources r
JOIN rooms ON rooms.resource_no = r.no
LEFT JOIN schedules s ON s.resource_no = r.no
LEFT JOIN LATERAL {claims} taken ON true
WHERE r.id = $1 AND r.archived_at IS NULL"""
#: One statement, one indexed read: the room, its schedule, and what is taken in a period.
FREE_SLOTS = _SLOTS.format(claims=live_times_in_period(no="r.no", start="$2::timestamptz", end="$3::timestamptz"))
ALL_SLOTS = _SLOTS.format(claims=claims_in_period(no="r.no", start="$2::timestamptz", end="$3::timestamptz", whose=True))


def _room(row: AnyRow) -> Room:
    no, room_id, name, description, capacity, kind, zone, location, features, policy, version, created_at = row
    return Room(
        no=no,
        id=room_id,
        name=name,
        description=description,
        capacity=capacity,
        kind=kind,
        time_zone=zone,
        location=location,
        features=tuple(features),
        policy=policy_of(policy),
        version=version,
        created_at=created_at,
    )


async def find_room(session: AsyncSession, room_id: UUID) -> Room | None:
    """A room that is not archived."""
    row = (await session.execute(_ROOMS.where(models.Resource.id == room_id))).first()
    return None if row is None else _room(row)


def _matching(
    statement: AnySelect, *, kind: str | None, min_capacity: int | None, features: Sequence[str], q: str | None
) -> AnySelect:
    if kind is not None:
        statement = statement.where(models.Room.kind == kind)
    if min_capacity is not None:
        statement = statement.where(models.Room.capacity >= min_capacity)
    if features:
        statement = statement.where(models.Room.features.contains(list(features)))
    if q:
        pattern = "%" + q.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
        statement = statement.where(
            or_(
                models.Resource.name.ilike(pattern),
                models.Room.description.ilike(pattern),
                models.Room.location.ilike(pattern),
            )
        )
    return statement


async def list_rooms(
    session: AsyncSession,
    *,
    kind: str | None,
    min_capacity: int | None,
    features: Sequence[str],
    q: str | None,
    offset: int = 0,
    limit: int | None = None,
) -> tuple[list[Room], int]:
    """Rooms in the order in which they were made, and how many there are."""
    matching = _matching(_ROOMS, kind=kind, min_capacity=min_capacity, features=features, q=q)
    rows = await session.execute(matching.order_by(models.Resource.no).offset(offset).limit(limit))
    rooms = [_room(row) for row in rows]
    if limit is None:
        return rooms, len(rooms)
    total = await session.scalar(select(func.count()).select_from(matching.subquery()))
    return rooms, total or 0


async def insert_room(session: AsyncSession, *, resource: dict[str, Any], details: dict[str, Any]) -> None:
    """A resource of kind room and its details."""
    no = await session.scalar(insert(models.Resource).values(kind="room", **resource).returning(models.Resource.no))
    await session.execute(insert(models.Room).values(resource_no=no, **details))


async def update_room(session: AsyncSession, no: int, *, resource: dict[str, Any], details: dict[str, Any]) -> None:
    """Change columns of a room, and the version with them."""
    await session.execute(
        update(models.Resource).where(models.Resource.no == no).values(**resource, version=models.Resource.version + 1)
    )
    if details:
        await session.execute(update(models.Room).where(models.Room.resource_no == no).values(**details))


async def archive_room(session: AsyncSession, no: int) -> None:
    """Out of every list from now on."""
    await session.execute(
        update(models.Resource)
        .where(models.Resource.no == no)
        .values(archived_at=func.clock_timestamp(), version=models.Resource.version + 1)
    )


async def find_schedule(session: AsyncSession, room: Room) -> RoomSchedule | None:
    """A room's schedule."""
    row = (
        await session.execute(
            select(
                models.Schedule.id,
                models.Schedule.slot_minutes,
                cast(models.Schedule.windows, Text),
                models.Schedule.version,
            ).where(models.Schedule.resource_no == room.no)
        )
    ).first()
    return None if row is None else RoomSchedule(row[0], room.id, stored_schedule(row[1], row[2]), row[3])


async def insert_schedule(session: AsyncSession, room: Room, schedule_id: UUID, schedule: Schedule) -> RoomSchedule:
    """A room's first schedule; the primary key refuses a second one."""
    await session.execute(
        insert(models.Schedule).values(
            resource_no=room.no,
            id=schedule_id,
            slot_minutes=schedule.slot_minutes,
            windows=windows_json(schedule.windows),
        )
    )
    return RoomSchedule(schedule_id, room.id, schedule, 1)


async def replace_schedule(session: AsyncSession, before: RoomSchedule, schedule: Schedule) -> RoomSchedule:
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
    return RoomSchedule(before.id, before.room_id, schedule, before.version + 1)


async def read_slots(db: Database, statement: str, room_id: UUID, start: datetime, end: datetime) -> asyncpg.Record | None:
    """One row of FREE_SLOTS or ALL_SLOTS, None where there is no such room."""
    rows = await db.fetch(statement, room_id, start, end)
    return rows[0] if rows else None


def schedule_out_of(row: asyncpg.Record) -> Schedule | None:
    """The schedule in such a row."""
    return None if row["windows"] is None else stored_schedule(row["slot_minutes"], row["windows"])
