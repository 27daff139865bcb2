"""Booking slots, seats and what is held."""

from datetime import datetime

from holdfast.bookings.rules import Booking, Wish
from holdfast.bookings.service.confirming import confirm
from holdfast.bookings.service.context import Context, NewBooking
from holdfast.bookings.service.linking import book_held_with_link, finish_with_link, hold_for_link
from holdfast.bookings.service.taking import Taker
from holdfast.bookings.service.travelling import take_one
from holdfast.core.callers import Caller
from holdfast.idempotency import Once


async def book(context: Context, *, wanted: NewBooking, now: datetime, by: Caller, once: Once) -> Booking:
    """Book slots or seats for a user, all or none; for somebody else (the front desk) under the same rules.

    Raises UserNotFound, ConferenceServiceError, what `rules.decide` refuses, for a hold what `confirm` refuses, and InLine
    where the resource has a fair queue (`queueing.book_in_turn` waits in it).
    """
    if wanted.hold_id is not None:
        if wanted.wants_link:
            return await book_held_with_link(context, wanted=wanted, hold_id=wanted.hold_id, by=by, once=once)
        return await confirm(context.db, wanted=wanted, hold_id=wanted.hold_id, link=None, by=by, once=once)
    assert wanted.selection is not None  # noqa: S101 - a request names one or the other
    if wanted.wants_link:
        hold = await hold_for_link(context, wanted=wanted, now=now, by=by, once=once)
        return await finish_with_link(context, wanted=wanted, hold=hold, by=by, once=once)
    wish = Wish(wanted.user_id, wanted.selection)
    taker = Taker(wish, by, queue=context.queue, title=wanted.title, notes=wanted.notes)
    booking = await take_one(context, taker, now=now, once=once)
    assert isinstance(booking, Booking)  # noqa: S101 - asked for without an origin
    return booking
