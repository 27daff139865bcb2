"""Cancelling, moving and changing bookings."""

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import BookingCancelled, BookingNotFound, SlotTaken
from holdfast.bookings.rules import Booking, Selection, Wish
from holdfast.bookings.service.context import Context
from holdfast.bookings.service.queueing import behind_the_line
from holdfast.bookings.service.releasing import cancel_locked, lock_bookings
from holdfast.bookings.service.taking import Queue, Taker, find_other, lock_line, promote
from holdfast.bookings.service.travelling import check_at_a_look
from holdfast.claims import Holder, HolderKind
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden
from holdfast.core.preconditions import check_if_match
from holdfast.db import locks
from holdfast.db.database import Database, commit_durably, retry_aborted
from holdfast.idempotency import Once


async def _own(session: AsyncSession, booking_id: UUID, *, by: Caller, others_too: bool = False) -> Booking:
    """The caller's booking; with `others_too`, also one of which the caller is the host, or any for an admin."""
    booking = await queries.find_booking(session, booking_id)
    if booking is None:
        raise BookingNotFound
    if booking.user_id != by.user_id and not (others_too and (by.is_admin or by.user_id in booking.host_user_ids)):
        raise Forbidden
    return booking


@retry_aborted
async def cancel_booking(
    db: Database,
    *,
    booking_id: UUID,
    now: datetime,
    by: Caller,
    once: Once,
    others_too: bool = False,
    if_match: str | None = None,
) -> Booking:
    """Give a booking back; a cancelled one stays as it is. The notice of the policy binds the owner only.

    Raises BookingNotFound, Forbidden, TooLateToCancel, Stale.
    """
    async with once.transaction(db) as session:
        booking = await _own(session, booking_id, by=by, others_too=others_too)
        if booking.status == "active":
            (booking,) = await lock_bookings(session, [booking])
        check_if_match(if_match, booking.etag, booking.as_json())
        if booking.status == "active":
            if booking.user_id == by.user_id:
                policies = await queries.policies_of(session, booking.resource_nos)
                rules.check_cancel_notice(booking, policies, now=now)
            (booking,) = await cancel_locked(session, [booking], by=by)
            await promote(session, booking.resource_nos, now=now)
        else:
            await commit_durably(session)
        await once.keep(session, booking)
    return booking


async def reschedule_booking(
    context: Context,
    *,
    booking_id: UUID,
    selection: Selection,
    now: datetime,
    by: Caller,
    once: Once,
    if_match: str | None = None,
) -> Booking:
    """Move a booking to other slots or seats, all or nothing; it keeps its id and link, and may overlap its own old time.

    Raises what cancelling and booking raise, and BookingCancelled.
    """
    move = partial(
        _reschedule, context.db, booking_id=booking_id, selection=selection, now=now, by=by, once=once, if_match=if_match
    )
    return await behind_the_line(context.db, move, queue=context.queue)


@retry_aborted
async def _reschedule(
    db: Database,
    queue: Queue,
    *,
    booking_id: UUID,
    selection: Selection,
    now: datetime,
    by: Caller,
    once: Once,
    if_match: str | None,
) -> Booking:
    async with once.transaction(db) as session:
        before = await _own(session, booking_id, by=by)
        if before.status != "active":
            raise BookingCancelled
        wish = Wish(before.user_id, selection, ignoring=booking_id)
        reach = rules.reach([selection])
        seen = await queries.look(session, reach, ignoring=booking_id)
        check_at_a_look(seen, wish, now=now)
        (before,) = await lock_bookings(session, [before], also=seen.numbers)
        if before.status != "active":
            raise BookingCancelled
        check_if_match(if_match, before.etag, before.as_json())
        policies = await queries.policies_of(session, before.resource_nos)
        rules.check_cancel_notice(before, policies, now=now)
        await lock_line(session, {*before.resource_nos, *seen.numbers}, also=[before.user_id])
        wanted = await find_other(session, Taker(wish, by, queue=queue), now=now)
        await claims.release(session, HolderKind.BOOKING, [booking_id])
        await queries.move_bookings(session, {booking_id: wanted})
        holder = Holder(HolderKind.BOOKING, booking_id)
        await claims.take(session, [(unit, holder) for unit in wanted.units], refusal=SlotTaken)
        (moved,) = await queries.find_bookings(session, [booking_id])
        await outbox.enqueue(session, "booking.rescheduled", booking_id, by=by, before=before.as_json(), after=moved.as_json())
        # What it gives up is offered only now: its own old time is its own to take again, and it is heard of as free first.
        await promote(session, {*before.resource_nos, *wanted.resources}, now=now)
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
        if any(getattr(before, name) != value for name, value in changes.items()):
            await queries.change_booking(session, booking_id, changes)
            (booking,) = await queries.find_bookings(session, [booking_id])
            await outbox.enqueue(session, "booking.updated", booking_id, by=by, before=before.as_json(), after=booking.as_json())
        await once.keep(session, booking)
    return booking
