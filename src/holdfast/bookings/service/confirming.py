"""Booking what is held: the hold's row is the one lock (docs/decisions/0008)."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.accounts.errors import UserNotFound
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import ConferenceServiceError, HoldExpired, HoldNotFound, HoldUsed
from holdfast.bookings.rules import Booking, Hold, Wish
from holdfast.bookings.service.context import NewBooking, check_user
from holdfast.bookings.service.travelling import check_at_a_look
from holdfast.core import clock
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden, Unauthenticated
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once


async def find_own_hold(session: AsyncSession, hold_id: UUID, *, user_id: UUID) -> Hold:
    """A user's hold, locked, that lives. Raises HoldNotFound, Forbidden, HoldUsed, HoldExpired."""
    await locks.holds(session, [hold_id])
    return checked_hold(await queries.find_hold(session, hold_id), user_id=user_id)


def checked_hold(hold: Hold | None, *, user_id: UUID) -> Hold:
    """The hold, if it is the user's and lives. Raises HoldNotFound, Forbidden, HoldUsed, HoldExpired."""
    if hold is None or hold.origin == "conference":
        raise HoldNotFound
    if hold.user_id != user_id:
        raise Forbidden
    if hold.outcome == "booked":
        raise HoldUsed(details={"bookingId": str(hold.booking_id)})
    if not hold.live:
        raise HoldExpired
    return hold


@retry_aborted
async def confirm(
    db: Database,
    *,
    wanted: NewBooking,
    hold_id: UUID,
    link: str | None,
    by: Caller,
    once: Once,
    resuming: bool = False,
) -> Booking:
    """Make a booking of what a hold has. It asks only whether the hold lives: its row is the one lock.

    Raises HoldNotFound, Forbidden, HoldUsed, HoldExpired, UserNotFound.
    """
    async with once.transaction(db, resuming=resuming) as session:
        await check_user(session, wanted.user_id, by=by)
        if resuming:
            await locks.holds(session, [hold_id])
            hold = await queries.find_hold(session, hold_id)
            if hold is None or not hold.live:
                if wanted.selection is None:
                    raise HoldExpired
                # Closed over, or this process slept: say what is in the way now, if anything is.
                wish = Wish(wanted.user_id, wanted.selection)
                check_at_a_look(await queries.look(session, rules.reach([wanted.selection])), wish, now=clock.now())
                raise ConferenceServiceError
        else:
            hold = await find_own_hold(session, hold_id, user_id=wanted.user_id)
        made = await queries.insert_booking_of_hold(
            session,
            booking_id=hold.booking_id,
            user_id=wanted.user_id,
            hold_id=hold_id,
            title=wanted.title,
            notes=wanted.notes,
            conference_link=link,
        )
        if not made:
            raise Unauthenticated if wanted.user_id == by.user_id else UserNotFound
        moved = await claims.turn_hold_into_booking(session, hold_id=hold_id, booking_id=hold.booking_id)
        if moved != len(hold.units):
            # The hold is live and its row is locked, so its claims are there: else nothing may be committed.
            raise HoldExpired
        await queries.end_holds(session, [hold_id], "booked")
        if hold.origin == "waitlist":
            entry_id = await queries.entry_of_hold(session, hold_id)
            if entry_id is not None:
                await queries.mark_booked(session, entry_id, hold.booking_id)
                await outbox.enqueue(session, "waitlist.booked", entry_id, by=by)
        if resuming:
            # Where it waited in line for it: the ticket has the id of the booking.
            await queries.answer_tickets(session, [queries.TicketAnswer(hold.booking_id, "booked", hold.booking_id)])
        (booking,) = await queries.find_bookings(session, [hold.booking_id])
        await outbox.enqueue(session, "booking.created", booking.id, by=by, after=booking.as_json())
        await once.keep(session, booking)
    return booking
