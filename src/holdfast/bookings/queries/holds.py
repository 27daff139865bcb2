"""Holds in SQL."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.db import models


async def insert_hold(session: AsyncSession, *, hold_id: UUID, user_id: UUID, booking_id: UUID, lasts: timedelta) -> datetime:
    """A hold that ends after `lasts` by the database's clock; returns when."""
    expires_at: datetime | None = await session.scalar(
        insert(models.Hold)
        .values(id=hold_id, user_id=user_id, booking_id=booking_id, expires_at=func.clock_timestamp() + lasts)
        .returning(models.Hold.expires_at)
    )
    assert expires_at is not None  # noqa: S101 - the column is not null
    return expires_at


async def holds_for(session: AsyncSession, booking_id: UUID) -> list[UUID]:
    """Holds of an earlier attempt at the same booking that were not ended."""
    rows = await session.execute(
        select(models.Hold.id).where(models.Hold.booking_id == booking_id, models.Hold.ended_at.is_(None))
    )
    return list(rows.scalars())


async def end_holds(session: AsyncSession, ids: Iterable[UUID]) -> list[UUID]:
    """These holds are over: used, released or lapsed. Returns those that were not over before."""
    rows = await session.execute(
        update(models.Hold)
        .where(models.Hold.id.in_(list(ids)), models.Hold.ended_at.is_(None))
        .values(ended_at=func.clock_timestamp())
        .returning(models.Hold.id)
    )
    return list(rows.scalars())


async def hold_is_live(session: AsyncSession, hold_id: UUID) -> bool:
    """True while the hold was not ended and its end is ahead by the database's clock."""
    return bool(
        await session.scalar(
            select(models.Hold.id).where(
                models.Hold.id == hold_id,
                models.Hold.ended_at.is_(None),
                models.Hold.expires_at > func.clock_timestamp(),
            )
        )
    )


async def own_live_holds(session: AsyncSession, user_id: UUID) -> list[tuple[UUID, int]]:
    """Hold id and resource number of each claim that a user's holds have."""
    rows = await session.execute(
        select(models.Hold.id, models.Claim.resource_no)
        .join(models.Claim, models.Claim.hold_id == models.Hold.id)
        .where(models.Hold.user_id == user_id, models.Hold.ended_at.is_(None))
    )
    return [(hold_id, no) for hold_id, no in rows]
