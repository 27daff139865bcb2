"""Hosts and their published slots in SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.ids import new_id
from holdfast.core.policies import policy_of
from holdfast.db import models
from holdfast.db.database import AnyRow, AnySelect, Database
from holdfast.hosts.rules import Host, PublishedSlot

_HOSTS: AnySelect = (
    select(
        models.Resource.no,
        models.Resource.id,
        models.Host.user_id,
        models.Resource.name,
        models.Host.bio,
        models.Resource.time_zone,
        models.Resource.policy,
        models.Resource.version,
        models.Resource.created_at,
    )
    .join(models.Host, models.Host.resource_no == models.Resource.no)
    .where(models.Resource.archived_at.is_(None))
)
#: Published slots with what has them now; a lapsed hold has nothing.
_SLOTS = """
SELECT p.id, r.id AS host_id, lower(p.during) AS start_at, upper(p.during) AS end_at,
       CASE WHEN c.booking_id IS NOT NULL THEN 'booked' WHEN c.hold_id IS NOT NULL THEN 'held'
            WHEN c.closure_id IS NOT NULL THEN 'closed' WHEN lower(p.during) <= clock_timestamp() THEN 'past'
            ELSE 'free' END AS status,
       c.booking_id, u.id AS guest_id, u.name AS guest_name, u.email AS guest_email
FROM host_slots p
JOIN resources r ON r.no = p.resource_no AND r.archived_at IS NULL
LEFT JOIN LATERAL (
  SELECT c.booking_id, c.hold_id, c.closure_id FROM claims c
  WHERE int8range(c.resource_no, c.resource_no, '[]') && int8range(p.resource_no, p.resource_no, '[]')
    AND int8range(c.seat_no, c.seat_no, '[]') && int8range(0, 0, '[]')
    AND c.during && p.during AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())
  ORDER BY (c.booking_id IS NULL), (c.hold_id IS NULL) LIMIT 1) c ON true
LEFT JOIN bookings b ON b.id = c.booking_id
LEFT JOIN users u ON u.id = b.user_id
WHERE p.deleted_at IS NULL"""
_MATCHING = f"""
SELECT * FROM ({_SLOTS}
  AND ($1::uuid IS NULL OR r.id = $1)
  AND ($2::timestamptz IS NULL OR lower(p.during) >= $2) AND ($3::timestamptz IS NULL OR lower(p.during) < $3)) slots
WHERE $4::text IS NULL OR status = $4"""  # noqa: S608 - our own words
_PAGE = _MATCHING + " ORDER BY start_at, id LIMIT $5 OFFSET $6"
_HOW_MANY = f"SELECT count(*) AS total FROM ({_MATCHING}) matching"  # noqa: S608 - our own words


def _host(row: AnyRow) -> Host:
    no, host_id, user_id, name, bio, zone, policy, version, created_at = row
    return Host(no, host_id, user_id, name, bio, zone, policy_of(policy), version, created_at)


async def find_host(session: AsyncSession, host_id: UUID) -> Host | None:
    """A host who is not gone."""
    row = (await session.execute(_HOSTS.where(models.Resource.id == host_id))).first()
    return None if row is None else _host(row)


async def find_host_of(session: AsyncSession, user_id: UUID) -> Host | None:
    """The host that a user is."""
    row = (await session.execute(_HOSTS.where(models.Host.user_id == user_id))).first()
    return None if row is None else _host(row)


async def list_hosts(session: AsyncSession, *, q: str | None, offset: int, limit: int) -> tuple[list[Host], int]:
    """One page of hosts in the order in which they became hosts, and how many there are."""
    matching = _HOSTS
    if q:
        pattern = "%" + q.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
        matching = matching.where(or_(models.Resource.name.ilike(pattern), models.Host.bio.ilike(pattern)))
    rows = await session.execute(matching.order_by(models.Resource.no).offset(offset).limit(limit))
    total = await session.scalar(select(func.count()).select_from(matching.subquery()))
    return [_host(row) for row in rows], total or 0


async def insert_host(session: AsyncSession, *, resource: dict[str, Any], user_id: UUID, bio: str | None) -> None:
    """A resource of kind host and its details; a user is a host once."""
    no = await session.scalar(insert(models.Resource).values(kind="host", **resource).returning(models.Resource.no))
    await session.execute(insert(models.Host).values(resource_no=no, user_id=user_id, bio=bio))


async def update_host(session: AsyncSession, no: int, *, resource: dict[str, Any], details: dict[str, Any]) -> None:
    """Change columns of a host, and the version with them."""
    await session.execute(
        update(models.Resource).where(models.Resource.no == no).values(**resource, version=models.Resource.version + 1)
    )
    if details:
        await session.execute(update(models.Host).where(models.Host.resource_no == no).values(**details))


async def insert_slots(session: AsyncSession, host: Host, slots: Sequence[tuple[datetime, datetime]]) -> list[PublishedSlot]:
    """Published slots; the constraint refuses what overlaps."""
    new = [PublishedSlot(new_id(), host.id, start, end, "free") for start, end in slots]
    await session.execute(
        insert(models.HostSlot),
        [{"id": slot.id, "resource_no": host.no, "during": Range(slot.start, slot.end)} for slot in new],
    )
    return new


async def list_published(
    db: Database,
    *,
    host_id: UUID | None,
    start: datetime | None,
    end: datetime | None,
    status: str | None,
    offset: int,
    limit: int,
) -> tuple[list[PublishedSlot], int]:
    """One page of published slots that begin in `[start, end)`, soonest first, and how many there are."""
    rows = await db.fetch(_PAGE, host_id, start, end, status, limit, offset)
    total = await db.fetch(_HOW_MANY, host_id, start, end, status)
    return [_slot(row) for row in rows], total[0]["total"]


async def mark_slot_deleted(session: AsyncSession, slot_id: UUID) -> None:
    """Nobody can have it any more; what was booked by it keeps it."""
    await session.execute(update(models.HostSlot).where(models.HostSlot.id == slot_id).values(deleted_at=func.clock_timestamp()))


def _slot(row: asyncpg.Record) -> PublishedSlot:
    return PublishedSlot(*row.values())
