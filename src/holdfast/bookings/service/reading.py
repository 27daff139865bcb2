"""Reading bookings."""

from typing import Any
from uuid import UUID

from holdfast.bookings import queries
from holdfast.bookings.errors import BookingNotFound
from holdfast.bookings.rules import Booking
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden
from holdfast.db.database import Database


async def get_booking(db: Database, *, booking_id: UUID, by: Caller) -> Booking:
    """A booking, for its owner, its hosts and admins. Raises BookingNotFound, Forbidden."""
    async with db.transaction() as session:
        booking = await queries.find_booking(session, booking_id)
    if booking is None:
        raise BookingNotFound
    if booking.user_id != by.user_id and not by.is_admin and by.user_id not in booking.host_user_ids:
        raise Forbidden
    return booking


async def list_bookings(db: Database, *, offset: int, limit: int, **filters: Any) -> tuple[list[Booking], int]:
    """One page of bookings, newest first, and how many match. Filters: see `queries`."""
    async with db.transaction() as session:
        return await queries.list_bookings(session, offset=offset, limit=limit, **filters)


async def walk_bookings(db: Database, *, cursor: str, limit: int, **filters: Any) -> tuple[list[Booking], str | None]:
    """The bookings after a cursor, newest first, and the next cursor. Raises Invalid for a cursor not of ours."""
    async with db.transaction() as session:
        return await queries.walk_bookings(session, cursor=cursor, limit=limit, **filters)


async def list_own_bookings(db: Database, *, offset: int, limit: int | None, **filters: Any) -> tuple[list[Booking], int]:
    """A user's bookings, soonest first (all without `limit`), and how many match."""
    async with db.transaction() as session:
        return await queries.list_own(session, offset=offset, limit=limit, **filters)
