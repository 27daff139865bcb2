"""Giving back what is locked: bookings and holds; what gets free goes first to those who wait."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.bookings import queries
from holdfast.bookings.rules import Booking, Hold
from holdfast.bookings.service.taking import end_lapsed, promote
from holdfast.claims import HolderKind
from holdfast.core.callers import Caller
from holdfast.db import locks
from holdfast.db.database import TransactionAborted
from holdfast.outbox import Message


async def lock_bookings(session: AsyncSession, bookings: Iterable[Booking], *, also: Iterable[int] = ()) -> list[Booking]:
    """Lock the bookings' resources (and `also`), then the bookings, and read them afresh."""
    seen = list(bookings)
    numbers = {no for booking in seen for no in booking.resource_nos} | set(also)
    await locks.resources(session, numbers)
    ids = [booking.id for booking in seen]
    await locks.bookings(session, ids)
    fresh = await queries.find_bookings(session, ids)
    if any(not booking.resource_nos <= numbers for booking in fresh):
        # Moved to another room meanwhile: begin again, with that room's lock.
        raise TransactionAborted
    return fresh


async def cancel_locked(session: AsyncSession, bookings: Iterable[Booking], *, by: Caller) -> list[Booking]:
    """Cancel active bookings whose resources and rows are locked. The caller promotes at the end of its transaction."""
    before = {booking.id: booking for booking in bookings}
    if not before:
        return []
    await claims.release(session, HolderKind.BOOKING, before)
    await queries.mark_cancelled(session, before)
    cancelled = {one.id: one for one in await queries.find_bookings(session, list(before))}
    await outbox.enqueue_all(
        session,
        [
            Message("booking.cancelled", one.id, by, before=one.as_json(), after=cancelled[one.id].as_json())
            for one in before.values()
        ],
    )
    return [cancelled[booking_id] for booking_id in before]


async def release_locked(session: AsyncSession, holds: Sequence[Hold], *, by: Caller) -> None:
    """Release holds whose resources are locked; those that have lapsed say so. The caller promotes."""
    ids = [hold.id for hold in holds]
    await locks.holds(session, ids)
    fresh = await queries.find_holds(session, ids)
    # Not those that a closure has released meanwhile, or that a commit of unknown outcome made a booking of.
    unended = [hold for hold in fresh if hold.outcome is None]
    await claims.release(session, HolderKind.HOLD, [hold.id for hold in unended])
    lapsed = [hold.id for hold in unended if not hold.live]
    if lapsed:
        await end_lapsed(session, lapsed)
    live = [hold.id for hold in unended if hold.live]
    if not live:
        return
    await queries.end_holds(session, live, "released")
    left = await queries.end_offers(session, live, "left")
    await outbox.enqueue_all(
        session,
        [
            *(Message("hold.released", hold_id, by) for hold_id in live),
            *(Message("waitlist.left", entry_id, by) for entry_id, _ in left),
        ],
    )


async def release_holds(session: AsyncSession, holds: Sequence[Hold], *, by: Caller, now: datetime) -> None:
    """Lock the holds' resources, release the holds, and offer what they had."""
    numbers = {no for hold in holds for no in hold.resource_nos}
    await locks.resources(session, numbers)
    await release_locked(session, holds, by=by)
    await promote(session, numbers, now=now)
