"""Cancelling, moving and changing bookings."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import BookingCancelled, BookingNotFound, SlotTaken
from holdfast.bookings.rules import Booking, Selection
from holdfast.bookings.service.taking import BookingRequest, lock_wanted
from holdfast.claims import Holder, HolderKind
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden
from holdfast.core.preconditions import check_if_match
from holdfast.db import locks
from holdfast.db.database import Database, TransactionAborted, commit_durably, retry_aborted
from holdfast.idempotency import Once


async def _own(session: AsyncSession, booking_id: UUID, *, by: Caller, admin_too: bool = False) -> Booking:
    booking = await queries.find_booking(session, booking_id)
    if booking is None:
        raise BookingNotFound
    if booking.user_id != by.user_id and not (admin_too and by.is_admin):
        raise Forbidden
    return booking


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


async def cancel_locked(session: AsyncSession, booking: Booking, *, by: Caller) -> Booking:
    """Cancel an active booking whose resources and row are locked."""
    await claims.release(session, HolderKind.BOOKING, booking.id)
    await queries.mark_cancelled(session, booking.id)
    (cancelled,) = await queries.find_bookings(session, [booking.id])
    await outbox.enqueue(session, "booking.cancelled", booking.id, by=by, before=booking.as_json(), after=cancelled.as_json())
    return cancelled


@retry_aborted
async def cancel_booking(
    db: Database,
    *,
    booking_id: UUID,
    now: datetime,
    by: Caller,
    once: Once,
    admin_too: bool = False,
    if_match: str | None = None,
) -> Booking:
    """Give a booking back; a cancelled one stays as it is. The notice of the policy binds the owner only.

    Raises BookingNotFound, Forbidden, TooLateToCancel, Stale.
    """
    async with once.transaction(db) as session:
        booking = await _own(session, booking_id, by=by, admin_too=admin_too)
        if booking.status == "active":
            (booking,) = await lock_bookings(session, [booking])
        check_if_match(if_match, booking.etag, booking.as_json())
        if booking.status == "active":
            if booking.user_id == by.user_id:
                policies = await queries.policies_of(session, booking.resource_nos)
                rules.check_cancel_notice(booking, policies, now=now)
            booking = await cancel_locked(session, booking, by=by)
        else:
            await commit_durably(session)
        await once.keep(session, booking)
    return booking


@retry_aborted
async def reschedule_booking(
    db: Database,
    *,
    booking_id: UUID,
    selection: Selection,
    now: datetime,
    by: Caller,
    once: Once,
    if_match: str | None = None,
) -> Booking:
    """Move a booking to other slots, all or nothing; it keeps its id and link, and may overlap its own old time.

    Raises what cancelling and booking raise, and BookingCancelled.
    """
    async with once.transaction(db) as session:
        before = await _own(session, booking_id, by=by)
        if before.status != "active":
            raise BookingCancelled
        request = BookingRequest(before.user_id, selection)
        seen = await queries.look(session, selection)
        rules.check_bookable(rules.find_wanted(selection, seen), now=now, ignoring=booking_id)
        (before,) = await lock_bookings(session, [before], also=seen)
        if before.status != "active":
            raise BookingCancelled
        check_if_match(if_match, before.etag, before.as_json())
        policies = await queries.policies_of(session, before.resource_nos)
        rules.check_cancel_notice(before, policies, now=now)
        wanted = await lock_wanted(session, request, now=now, by=by, numbers=seen, ignoring=booking_id)
        await claims.release(session, HolderKind.BOOKING, booking_id)
        await queries.move_booking(session, booking_id, wanted)
        await claims.take(session, wanted.units, Holder(HolderKind.BOOKING, booking_id), refusal=SlotTaken)
        (moved,) = await queries.find_bookings(session, [booking_id])
        await outbox.enqueue(session, "booking.rescheduled", booking_id, by=by, before=before.as_json(), after=moved.as_json())
        await once.keep(session, moved)
    return moved


@retry_aborted
async def change_booking(
    db: Database, *, booking_id: UUID, changes: dict[str, Any], if_match: str | None, by: Caller, once: Once
) -> Booking:
    """Change title or notes. Raises BookingNotFound, Forbidden, Stale."""
    async with once.transaction(db) as session:
        await _own(session, booking_id, by=by)
        await locks.bookings(session, [booking_id])
        before = await _own(session, booking_id, by=by)
        check_if_match(if_match, before.etag, before.as_json())
        booking = before
        if changes:
            await queries.change_booking(session, booking_id, changes)
            (booking,) = await queries.find_bookings(session, [booking_id])
            await outbox.enqueue(session, "booking.updated", booking_id, by=by, before=before.as_json(), after=booking.as_json())
        await once.keep(session, booking)
    return booking
