"""Closures in SQL."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.rules import Closure
from holdfast.db import models
from holdfast.db.database import AnySelect

_CLOSURES: AnySelect = select(
    models.Closure.id,
    models.Closure.resource_no,
    models.Closure.start_at,
    models.Closure.end_at,
    models.Closure.reason,
    models.Closure.created_at,
)


async def insert_closure(
    session: AsyncSession,
    *,
    closure_id: UUID,
    resource_no: int,
    start: datetime,
    end: datetime,
    reason: str | None,
    created_by: UUID | None,
) -> Closure:
    """A closure; its claim is taken apart."""
    created_at: datetime | None = await session.scalar(
        insert(models.Closure)
        .values(
            id=closure_id,
            resource_no=resource_no,
            start_at=start,
            end_at=end,
            reason=reason,
            created_by=created_by,
        )
        .returning(models.Closure.created_at)
    )
    assert created_at is not None  # noqa: S101 - the column is not null
    return Closure(closure_id, resource_no, start, end, reason, created_at)


async def list_closures(session: AsyncSession, resource_no: int, *, offset: int, limit: int) -> tuple[list[Closure], int]:
    """One page of a resource's closures, soonest first, and how many there are."""
    total = await session.scalar(
        select(func.count()).select_from(models.Closure).where(models.Closure.resource_no == resource_no)
    )
    rows = await session.execute(
        _CLOSURES.where(models.Closure.resource_no == resource_no)
        .order_by(models.Closure.start_at, models.Closure.id)
        .offset(offset)
        .limit(limit)
    )
    return [Closure(*row) for row in rows], total or 0


async def find_closure(session: AsyncSession, resource_no: int, closure_id: UUID) -> Closure | None:
    """A closure of this resource."""
    row = (
        await session.execute(_CLOSURES.where(models.Closure.resource_no == resource_no, models.Closure.id == closure_id))
    ).first()
    return None if row is None else Closure(*row)


async def delete_closure(session: AsyncSession, closure_id: UUID) -> None:
    """It is open again; the outbox remembers."""
    await session.execute(delete(models.Closure).where(models.Closure.id == closure_id))


async def insert_seat_closure(session: AsyncSession, *, closure_id: UUID, resource_no: int, created_by: UUID | None) -> None:
    """What blocks seats, until they are opened again; its claims are taken apart."""
    await session.execute(insert(models.Closure).values(id=closure_id, resource_no=resource_no, created_by=created_by))


async def delete_empty_closures(session: AsyncSession, ids: Sequence[UUID]) -> None:
    """Those of these closures that have no claim left."""
    claimed = select(models.Claim.no).where(models.Claim.closure_id == models.Closure.id).exists()
    await session.execute(delete(models.Closure).where(models.Closure.id.in_(list(ids)), ~claimed))
