"""Booking with a conference link: hold, ask the provider with nothing held open, confirm."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims
from holdfast.adapters.conferencing import DEADLINE_SECONDS, ConferenceFailure, ConferenceProvider, Meeting
from holdfast.adapters.conferencing.protocol import checked_link
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import ConferenceServiceError
from holdfast.bookings.rules import Booking, Hold, Wish
from holdfast.bookings.service.confirming import confirm, find_own_hold
from holdfast.bookings.service.context import Context, NewBooking, check_user
from holdfast.bookings.service.releasing import release_holds
from holdfast.bookings.service.taking import Taker, lock, take_all
from holdfast.bookings.service.travelling import refused_early
from holdfast.core import clock
from holdfast.core.callers import Caller
from holdfast.core.errors import Refusal
from holdfast.core.ids import new_id
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once

#: The provider's deadline and some slack: until then a repeat with the same key is "in progress".
_BUSY = timedelta(seconds=DEADLINE_SECONDS + 3)
#: Longer than the provider's deadline, so that the hold never lapses under a request that still runs.
LINK_HOLD = timedelta(seconds=DEADLINE_SECONDS + 25)

log = structlog.get_logger(__name__)


async def finish_with_link(context: Context, *, wanted: NewBooking, hold: Hold, by: Caller, once: Once) -> Booking:
    """Ask the provider with nothing held open, then make a booking of the hold: no orphan state, whatever dies when."""
    return await _ask_and_confirm(context, wanted=wanted, hold=hold, lapse_at=None, by=by, once=once)


async def book_held_with_link(context: Context, *, wanted: NewBooking, hold_id: UUID, by: Caller, once: Once) -> Booking:
    """As `finish_with_link` for what the user holds already, which the user keeps where there is no link.

    Raises ConferenceServiceError and what `confirming.confirm` raises.
    """
    hold = await _keep_for_link(context.db, wanted=wanted, hold_id=hold_id, by=by, once=once)
    return await _ask_and_confirm(context, wanted=wanted, hold=hold, lapse_at=hold.expires_at, by=by, once=once)


async def _ask_and_confirm(
    context: Context, *, wanted: NewBooking, hold: Hold, lapse_at: datetime | None, by: Caller, once: Once
) -> Booking:
    """`lapse_at`: when a user's own hold lapses where there is no link; one made for the link alone is released."""
    assert hold.start is not None  # noqa: S101 - a live hold has units
    try:
        link = await _ask(context.conferencing, Meeting(hold.booking_id, wanted.title, hold.start, hold.end or hold.start))
    except ConferenceServiceError:
        await _give_up(context.db, hold, lapse_at=lapse_at, by=by, once=once)
        raise
    try:
        return await confirm(context.db, wanted=wanted, hold_id=hold.id, link=link, by=by, once=once, resuming=True)
    except Refusal:
        await _give_up(context.db, hold, lapse_at=lapse_at, by=by, once=None)
        raise


@retry_aborted
async def hold_for_link(context: Context, *, wanted: NewBooking, now: datetime, by: Caller, once: Once) -> Hold:
    """Hold the units for longer than the provider's deadline."""
    assert wanted.selection is not None  # noqa: S101 - a request names a selection or a hold
    wish = Wish(wanted.user_id, wanted.selection)
    async with once.transaction(context.db) as session:
        await check_user(session, wanted.user_id, by=by)
        # After a crash or a failure the provider is asked with the same id, so that it makes no second link, and for the same
        # units where they are held still.
        booking_id = once.booking_id or new_id()
        for hold_id in await queries.holds_for(session, booking_id) if once.booking_id else ():
            await locks.holds(session, [hold_id])
            earlier = await queries.find_hold(session, hold_id)
            if earlier is not None and earlier.live:
                await _prolong(session, hold_id, until=await queries.clock_in(session) + LINK_HOLD)
                await once.keep_booking(session, booking_id, busy_for=_BUSY)
                return earlier
        taker = Taker(wish, by, queue=context.queue, origin="conference", lasts=LINK_HOLD, booking_id=booking_id)
        refused = await refused_early(session, [taker], now=now)
        if refused:
            raise refused[taker.holder_id]
        await lock(session, rules.reach([wanted.selection]))
        (hold,) = await take_all(session, [taker], now=now)
        if isinstance(hold, Refusal):
            raise hold
        assert isinstance(hold, Hold)  # noqa: S101 - asked for with an origin
        await once.keep_booking(session, hold.booking_id, busy_for=_BUSY)
    return hold


@retry_aborted
async def _keep_for_link(db: Database, *, wanted: NewBooking, hold_id: UUID, by: Caller, once: Once) -> Hold:
    """Keep a user's hold for longer than the provider's deadline; returns it as it was."""
    async with once.transaction(db) as session:
        await check_user(session, wanted.user_id, by=by)
        hold = await find_own_hold(session, hold_id, user_id=wanted.user_id)
        await _prolong(session, hold_id, until=max(hold.expires_at, await queries.clock_in(session) + LINK_HOLD))
        await once.keep_booking(session, hold.booking_id, busy_for=_BUSY)
    return hold


async def _prolong(session: AsyncSession, hold_id: UUID, *, until: datetime) -> None:
    await queries.prolong_hold(session, hold_id, until=until)
    await claims.prolong(session, hold_id, until)


async def _ask(conferencing: ConferenceProvider, meeting: Meeting) -> str:
    """A link, with nothing held open meanwhile. Raises ConferenceServiceError, whatever the provider does."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS + 1):
            return checked_link(await conferencing.create_link(meeting))
    except (ConferenceFailure, TimeoutError) as failure:
        log.warning("conference.failed", booking_id=str(meeting.booking_id), reason=str(failure) or "too slow")
        raise ConferenceServiceError from failure
    except Exception as failure:
        # A provider may be anybody's plug-in: whatever it raises is a failed provider, not a failed service.
        log.exception("conference.broken", booking_id=str(meeting.booking_id))
        raise ConferenceServiceError from failure


@retry_aborted
async def _give_up(db: Database, hold: Hold, *, lapse_at: datetime | None, by: Caller, once: Once | None) -> None:
    """Release the hold, or give a user's own hold its end back; with `once`, a repeat may begin at once."""
    async with db.transaction() as session:
        if lapse_at is None:
            await release_holds(session, [hold], by=by, now=clock.now())
            error = rules.refusal_json(ConferenceServiceError())
            await queries.answer_tickets(session, [queries.TicketAnswer(hold.booking_id, "refused", error=error)])
        else:
            await locks.holds(session, [hold.id])
            present = await queries.find_hold(session, hold.id)
            if present is not None and present.outcome is None:
                await _prolong(session, hold.id, until=lapse_at)
        if once is not None:
            await once.keep_booking(session, hold.booking_id, busy_for=timedelta(0))
