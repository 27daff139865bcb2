"""Rooms in SQL."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.policies import policy_of
from holdfast.db import models
from holdfast.db.database import AnyRow, AnySelect
from holdfast.rooms.rules import Room

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
