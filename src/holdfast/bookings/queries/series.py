"""Series in SQL."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import Series
from holdfast.db import models


async def insert_series(
    session: AsyncSession,
    *,
    series_id: UUID,
    user_id: UUID,
    room_id: UUID,
    resource_no: int,
    recurrence: str,
    start: datetime,
    end: datetime,
) -> Series:
    """A series, ahead of its bookings."""
    created_at: datetime | None = await session.scalar(
        insert(models.Series)
        .values(
            id=series_id,
            user_id=user_id,
            resource_no=resource_no,
            recurrence=recurrence,
            start_at=start,
            end_at=end,
        )
        .returning(models.Series.created_at)
    )
    assert created_at is not None  # noqa: S101 - the column is not null
    return Series(series_id, user_id, resource_no, room_id, recurrence, start, end, created_at)


async def find_series(session: AsyncSession, series_id: UUID) -> Series | None:
    """A series without its bookings."""
    row = (
        await session.execute(
            select(
                models.Series.id,
                models.Series.user_id,
                models.Series.resource_no,
                models.Resource.id,
                models.Series.recurrence,
                models.Series.start_at,
                models.Series.end_at,
                models.Series.created_at,
            )
            .join(models.Resource, models.Resource.no == models.Series.resource_no)
            .where(models.Series.id == series_id)
        )
    ).first()
    return None if row is None else Series(*row)
