"""Booking: look, lock, look again, take. With a conference link: hold, ask, confirm."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.accounts.errors import UserNotFound
from holdfast.accounts.queries import find_user
from holdfast.adapters.conferencing import DEADLINE_SECONDS, ConferenceFailure, ConferenceProvider, Meeting
from holdfast.adapters.conferencing.protocol import checked_link
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import ConferenceServiceError, SlotTaken
from holdfast.bookings.rules import Booking, Selection, Wanted
from holdfast.claims import Holder, HolderKind
from holdfast.core.callers import Caller
from holdfast.core.errors import Refusal, Unauthenticated
from holdfast.core.ids import new_id
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once

#: The provider's deadline and some slack: until then a repeat with the same key is "in progress".
_BUSY = timedelta(seconds=DEADLINE_SECONDS + 3)
#: Longer than that, so that the hold never lapses under a request that still runs.
_HOLD = timedelta(seconds=DEADLINE_SECONDS + 25)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BookingRequest:
    """What somebody wants to book, for whom."""

    user_id: UUID
    selection: Selection
    title: str | None = None
    notes: str | None = None
    wants_link: bool = False


async def book(
    db: Database, conferencing: ConferenceProvider, *, request: BookingRequest, now: datetime, by: Caller, once: Once
) -> Booking:
    """Book slots for a user, all or none; for somebody else (the front desk) under the same rules.

    Raises UserNotFound, SlotNotFound, RoomNotFound, OutsideSchedule, SlotInPast, TooSoon, TooFarAhead, Closed, SlotTaken,
    TooManyBookings, AlreadyBookedHere, OverlapsYourBooking, ConferenceServiceError.
    """
    if not request.wants_link:
        return await _book_at_once(db, request=request, now=now, by=by, once=once)
    booking_id, hold_id, wanted = await _hold(db, request=request, now=now, by=by, once=once)
    try:
        link = await _ask(conferencing, Meeting(booking_id, request.title, wanted.start, wanted.end))
    except ConferenceServiceError:
        await _give_up(db, hold_id, booking_id, wanted, by=by, once=once)
        raise
    try:
        return await _confirm(
            db,
            request=request,
            booking_id=booking_id,
            hold_id=hold_id,
            held=wanted,
            link=link,
            now=now,
            by=by,
            once=once,
        )
    except Refusal:
        await _give_up(db, hold_id, booking_id, wanted, by=by, once=None)
        raise


@retry_aborted
async def _book_at_once(db: Database, *, request: BookingRequest, now: datetime, by: Caller, once: Once) -> Booking:
    numbers: Iterable[int] | None = None
    if once.key is None and request.user_id == by.user_id:
        # What is plainly taken is refused by one read, ten times cheaper than queueing for a lock.
        seen = await queries.look(db, request.selection)
        rules.check_bookable(rules.find_wanted(request.selection, seen), now=now)
        # Whoever waits in a crowd looks once more without a lock: behind the winner, the losers need not queue for it.
        numbers = None if db.crowded else seen
    async with once.transaction(db) as session:
        wanted = await lock_wanted(session, request, now=now, by=by, numbers=numbers)
        booking = await _insert(session, new_id(), request, wanted, link=None, by=by)
        await claims.take(session, wanted.units, Holder(HolderKind.BOOKING, booking.id), refusal=SlotTaken)
        await outbox.enqueue(session, "booking.created", booking.id, by=by, after=booking.as_json())
        await once.keep(session, booking)
    return booking


async def lock_wanted(
    session: AsyncSession,
    request: BookingRequest,
    *,
    now: datetime,
    by: Caller,
    numbers: Iterable[int] | None = None,
    also: Iterable[int] = (),
    ignoring: UUID | None = None,
    earlier_holds: Iterable[UUID] = (),
) -> Wanted:
    """Lock what is wanted (and `also`), look afresh, and refuse what may not be booked; limits last.

    `numbers` are the resources of a look that was made before; `ignoring` is a booking that is moved, `earlier_holds` are
    holds of the same booking's earlier attempts: both are out of their own way.
    """
    if request.user_id != by.user_id and await find_user(session, request.user_id) is None:
        raise UserNotFound
    if numbers is None:
        seen = await queries.look(session, request.selection)
        if not earlier_holds:
            rules.check_bookable(rules.find_wanted(request.selection, seen), now=now, ignoring=ignoring)
        numbers = seen
    await locks.resources(session, {*numbers, *also})
    for hold_id in earlier_holds:
        await claims.release(session, HolderKind.HOLD, hold_id)
    wanted = rules.find_wanted(request.selection, await queries.look(session, request.selection))
    rules.check_bookable(wanted, now=now, ignoring=ignoring)
    await _release_lapsed(session, wanted, by=by)
    if wanted.counts_per_user:
        await locks.user(session, request.user_id)
        rules.check_limits(wanted, await queries.count_ahead(session, request.user_id, ignoring=ignoring))
        clear = rules.periods_to_keep_clear(wanted)
        if clear:
            rules.check_overlaps(await queries.bookings_during(session, request.user_id, clear, ignoring=ignoring))
    return wanted


async def _release_lapsed(session: AsyncSession, wanted: Wanted, *, by: Caller) -> None:
    """Lapsed holds in the way are released before anything is taken: the constraint does not know the time."""
    in_the_way = [
        claim
        for slot in wanted.slots
        for claim in wanted.resources[slot.resource_no].taken
        if claim.lapsed and claim.start < slot.end and slot.start < claim.end
    ]
    lapsed = await claims.release_lapsed(session, in_the_way)
    if lapsed:
        await queries.end_holds(session, lapsed)
        for hold_id in lapsed:
            await outbox.enqueue(session, "hold.lapsed", hold_id, by=by)


async def _insert(
    session: AsyncSession, booking_id: UUID, request: BookingRequest, wanted: Wanted, *, link: str | None, by: Caller
) -> Booking:
    booking = await queries.insert_booking(
        session,
        booking_id=booking_id,
        user_id=request.user_id,
        wanted=wanted,
        title=request.title,
        notes=request.notes,
        conference_link=link,
    )
    if booking is None:
        raise Unauthenticated if request.user_id == by.user_id else UserNotFound
    return booking


@retry_aborted
async def _hold(db: Database, *, request: BookingRequest, now: datetime, by: Caller, once: Once) -> tuple[UUID, UUID, Wanted]:
    """Hold the units for longer than the provider's deadline: booking id, hold id, what is held."""
    hold_id = new_id()
    async with once.transaction(db) as session:
        # After a crash or a failure the provider is asked with the same id, so that it makes no second link.
        booking_id = once.booking_id or new_id()
        earlier = await queries.holds_for(session, booking_id) if once.booking_id else []
        wanted = await lock_wanted(session, request, now=now, by=by, earlier_holds=earlier)
        if earlier:
            await queries.end_holds(session, earlier)
        expires_at = await queries.insert_hold(
            session, hold_id=hold_id, user_id=request.user_id, booking_id=booking_id, lasts=_HOLD
        )
        await claims.take(session, wanted.units, Holder(HolderKind.HOLD, hold_id, expires_at), refusal=SlotTaken)
        await outbox.enqueue(session, "hold.created", hold_id, by=by)
        await once.keep_booking(session, booking_id, busy_for=_BUSY)
    return booking_id, hold_id, wanted


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
async def _confirm(
    db: Database,
    *,
    request: BookingRequest,
    booking_id: UUID,
    hold_id: UUID,
    held: Wanted,
    link: str,
    now: datetime,
    by: Caller,
    once: Once,
) -> Booking:
    async with once.transaction(db, resuming=True) as session:
        await locks.resources(session, held.resources)
        if not await queries.hold_is_live(session, hold_id):
            # Closed over, or this process slept: say what is in the way now, if anything is.
            seen = await queries.look(session, request.selection)
            rules.check_bookable(rules.find_wanted(request.selection, seen), now=now)
            raise ConferenceServiceError
        booking = await _insert(session, booking_id, request, held, link=link, by=by)
        if await claims.turn_hold_into_booking(session, hold_id=hold_id, booking_id=booking_id) != len(held.slots):
            # The hold is live and this is its resources' lock, so its claims are there: else nothing may be committed.
            raise ConferenceServiceError
        await queries.end_holds(session, [hold_id])
        await outbox.enqueue(session, "booking.created", booking_id, by=by, after=booking.as_json())
        await once.keep(session, booking)
    return booking


@retry_aborted
async def _give_up(db: Database, hold_id: UUID, booking_id: UUID, held: Wanted, *, by: Caller, once: Once | None) -> None:
    """Release the hold; with `once`, a repeat may begin at once, with the same booking id."""
    async with db.transaction() as session:
        await locks.resources(session, held.resources)
        await claims.release(session, HolderKind.HOLD, hold_id)
        if await queries.end_holds(session, [hold_id]):
            # Not where a closure has released it, or a commit of unknown outcome used it.
            await outbox.enqueue(session, "hold.released", hold_id, by=by)
        if once is not None:
            await once.keep_booking(session, booking_id, busy_for=timedelta(0))
