"""Row locks, all of them, in one fixed order: resources by number, bookings by id, users by id.

Always FOR NO KEY UPDATE: FOR UPDATE would also stop every foreign-key check on the row. What was read before a lock was
granted is stale; read again after it. A lock that can't be had in time is Busy (`lock_timeout`).
"""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.db.models import Booking, Resource, User


async def resources(session: AsyncSession, numbers: Iterable[int]) -> None:
    """Wait for these resources' turn: nobody else takes or gives back anything of them until the commit."""
    wanted = sorted(set(numbers))
    await session.execute(
        select(Resource.no).where(Resource.no.in_(wanted)).order_by(Resource.no).with_for_update(key_share=True)
    )


async def bookings(session: AsyncSession, ids: Iterable[UUID]) -> None:
    """Nobody else changes these bookings until the commit."""
    await session.execute(
        select(Booking.id).where(Booking.id.in_(sorted(set(ids)))).order_by(Booking.id).with_for_update(key_share=True)
    )


async def user(session: AsyncSession, user_id: UUID) -> None:
    """Nobody else books for this user, or changes the user, until the commit: limits may be counted."""
    await session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))


async def user_and_references(session: AsyncSession, user_id: UUID) -> None:
    """As `user`, and no row that names the user can be inserted either: the user is going."""
    await session.execute(select(User.id).where(User.id == user_id).with_for_update())
