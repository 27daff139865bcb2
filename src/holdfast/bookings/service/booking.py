"""Booking slots, seats and what is held; with a conference link: hold, ask, confirm."""

import asyncio
from collections.abc import Sequence
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
from holdfast.bookings.errors import ConferenceServiceError, HoldExpired, HoldNotFound, HoldUsed
from holdfast.bookings.rules import Booking, ByQuantity, BySeats, Hold, Selection, Wish, World
from holdfast.bookings.service.releasing import release_holds
from holdfast.bookings.service.taking import Given, Queue, Taker, check_line, lock, take_all
from holdfast.core import clock
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden, Refusal, Unauthenticated
from holdfast.core.ids import new_id
from holdfast.core.together import Together
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import InProgress, Once, Replay

#: The provider's deadline and some slack: until then a repeat with the same key is "in progress".
_BUSY = timedelta(seconds=DEADLINE_SECONDS + 3)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewBooking:
    """What somebody wants to book, for whom: a selection, or what a hold has (`hold_id`)."""

    user_id: UUID
    selection: Selection | None
    hold_id: UUID | None = None
    title: str | None = None
    notes: str | None = None
    wants_link: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """What the use cases of booking work with: the database, the provider of links, who travels together, and lines.

    `queue_for_all`: every resource has a fair queue, whatever its policy says (HOLDFAST_FAIR_QUEUE).
    """

    db: Database
    conferencing: ConferenceProvider
    together: Together
    queue_for_all: bool = False

    @property
    def queue(self) -> Queue:
        """How a taker who has not waited stands to the lines."""
        return Queue.OF_ALL if self.queue_for_all else Queue.BY_POLICY


async def book(door: Door, *, wanted: NewBooking, now: datetime, by: Caller, once: Once) -> Booking:
    """Book slots or seats for a user, all or none; for somebody else (the front desk) under the same rules.

    Raises UserNotFound, ConferenceServiceError, what `rules.decide` refuses, for a hold what `confirm` refuses, and InLine
    where the resource has a fair queue (`queueing.book_in_turn` waits in it).
    """
    if wanted.hold_id is not None:
        if wanted.wants_link:
            return await _book_held_with_link(door, wanted=wanted, hold_id=wanted.hold_id, by=by, once=once)
        return await _confirm(door.db, wanted=wanted, hold_id=wanted.hold_id, link=None, by=by, once=once)
    assert wanted.selection is not None  # noqa: S101 - a request names one or the other
    if wanted.wants_link:
        hold = await _hold_for_link(door, wanted=wanted, now=now, by=by, once=once)
        return await finish_with_link(door, wanted=wanted, hold=hold, by=by, once=once)
    wish = Wish(wanted.user_id, wanted.selection)
    taker = Taker(wish, by, queue=door.queue, title=wanted.title, notes=wanted.notes)
    booking = await take_one(door, taker, now=now, once=once)
    assert isinstance(booking, Booking)  # noqa: S101 - asked for without an origin
    return booking


async def take_one(door: Door, taker: Taker, *, now: datetime, once: Once) -> Booking | Hold:
    """A booking, or a hold, together with whoever wants the same slots, or seats of the same event, at this moment.

    Each in a transaction of their own would queue for the one lock of what they want; all who wait in one transaction take
    it once (docs/decisions/0005).
    """

    async def run(members: list[Member]) -> list[Booking | Hold | Exception]:
        return await _take_together(door.db, members)

    wanted = rules.reach([taker.wish.selection])
    return await door.together.run((wanted.key, taker.queue), Member(taker, once, now), run)


@dataclass(frozen=True, slots=True)
class Member:
    """One of those who travel together; `now` is when the request came."""

    taker: Taker
    once: Once
    now: datetime

    @property
    def needs_transaction(self) -> bool:
        """There is a key to look up, or a user who may not be there."""
        return self.once.key is not None or self.taker.wish.user_id != self.taker.by.user_id


@retry_aborted
async def _take_together(db: Database, members: Sequence[Member]) -> list[Booking | Hold | Exception]:
    """What each of those who want the same gets, in their order of arrival, in one transaction."""
    now = max(member.now for member in members)
    results: dict[UUID, Booking | Hold | Exception] = {}
    taker = members[0].taker
    if not _of_an_event(taker):
        # What is plainly taken is refused by one read, ten times cheaper than queueing for a lock. Of an event it is not.
        plain = [member.taker for member in members if not member.needs_transaction]
        if plain:
            world = await queries.look(db, rules.reach([taker.wish.selection]))
            results.update(_refused_at_a_look(world, plain, now=now))
    left = [member for member in members if member.taker.holder_id not in results]
    if left:
        async with db.transaction() as session:
            results.update(await _take_in(session, left, now=now))
    return [results[member.taker.holder_id] for member in members]


def _of_an_event(taker: Taker) -> bool:
    return isinstance(taker.wish.selection, BySeats | ByQuantity)


async def _take_in(session: AsyncSession, members: Sequence[Member], *, now: datetime) -> dict[UUID, Booking | Hold | Exception]:
    results = await _answered_before(session, members)
    takers = {member.taker.holder_id: member for member in members if member.taker.holder_id not in results}
    if not takers:
        return results
    # The others have looked already.
    first = [member.taker for member in takers.values() if member.needs_transaction or _of_an_event(member.taker)]
    given: dict[UUID, Given] = dict(await _refused_early(session, first, now=now))
    wanting = [member.taker for key, member in takers.items() if key not in given]
    if wanting:
        await lock(session, rules.reach([wanting[0].wish.selection]))
        given |= {taker.holder_id: one for taker, one in zip(wanting, await take_all(session, wanting, now=now), strict=True)}
    for key, one in given.items():
        # A refusal is committed as well: what lapsed meanwhile may have gone to those who wait, and that explains it.
        once = takers[key].once
        await (once.keep_refusal(session, one) if isinstance(one, Refusal) else once.keep(session, one))
    return results | given


async def _answered_before(session: AsyncSession, members: Sequence[Member]) -> dict[UUID, Booking | Hold | Exception]:
    """Claim the keys; the answers of those that have one already, and of requests for users who are not there."""
    results: dict[UUID, Booking | Hold | Exception] = {}
    keys: set[int] = set()
    for taker, once in ((member.taker, member.once) for member in members):
        if once.key is not None and once.key.lock_number in keys:
            # A transaction may lock a key twice: two requests in one would not keep each other out.
            results[taker.holder_id] = InProgress()
            continue
        try:
            kept = await once.claim(session)
            keys.update(() if once.key is None else [once.key.lock_number])
            if kept is None:
                await check_user(session, taker.wish.user_id, by=taker.by)
        except InProgress as refusal:
            results[taker.holder_id] = refusal
        except Refusal as refusal:
            results[taker.holder_id] = refusal
            await once.keep_refusal(session, refusal)
        else:
            if kept is not None:
                results[taker.holder_id] = Replay(kept)
    return results


async def _refused_early(session: AsyncSession, takers: Sequence[Taker], *, now: datetime) -> dict[UUID, Refusal]:
    """What can be said without the lock, before anybody queues for it: of slots, and where there is a fair queue.

    They all want the same, and stand to the queue as the first does.
    """
    if not takers:
        return {}
    selection, queue = takers[0].wish.selection, takers[0].queue
    if isinstance(selection, BySeats | ByQuantity):
        if queue is Queue.PASSED:
            return {}
        if queue is Queue.BY_POLICY and not await queries.has_fair_queue(session, selection.event_id):
            return {}
    world = await queries.look(session, rules.reach(taker.wish.selection for taker in takers))
    return _refused_at_a_look(world, takers, now=now)


def check_at_a_look(world: World, wish: Wish, *, now: datetime) -> None:
    """Raise what `rules.decide` refuses, as far as nothing that has lapsed meanwhile may be the reason."""
    if not world.has_lapsed_seats:
        rules.decide(world, wish, now=now)


def _refused_at_a_look(world: World, takers: Sequence[Taker], *, now: datetime) -> dict[UUID, Refusal]:
    """Those who need not try: refused by what was read, or sent into the line (InLine)."""
    refused: dict[UUID, Refusal] = {}
    for taker in takers:
        try:
            check_at_a_look(world, taker.wish, now=now)
            check_line(world, taker)
        except Refusal as refusal:
            refused[taker.holder_id] = refusal
    return refused


def refusal_json(refusal: Refusal) -> dict[str, object]:
    """A refusal as it is kept with a ticket: what is told of it, and its family, which decides the status."""
    return {
        "code": refusal.code,
        "message": refusal.text,
        "details": dict(refusal.details) if refusal.details else None,
        "family": next(family.__name__ for family in type(refusal).__mro__ if family.__module__ == Refusal.__module__),
    }


def _one(given: Sequence[Given]) -> Booking | Hold:
    (one,) = given
    if isinstance(one, Refusal):
        raise one
    return one


async def check_user(session: AsyncSession, user_id: UUID, *, by: Caller) -> None:
    """Raise UserNotFound where somebody acts for a user who is not there."""
    if user_id != by.user_id and await find_user(session, user_id) is None:
        raise UserNotFound


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
async def _confirm(
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
                rules.decide(await queries.look(session, rules.reach([wanted.selection])), wish, now=clock.now())
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


async def finish_with_link(door: Door, *, wanted: NewBooking, hold: Hold, by: Caller, once: Once) -> Booking:
    """Ask the provider with nothing held open, then make a booking of the hold: no orphan state, whatever dies when."""
    return await _ask_and_confirm(door, wanted=wanted, hold=hold, lapse_at=None, by=by, once=once)


async def _book_held_with_link(door: Door, *, wanted: NewBooking, hold_id: UUID, by: Caller, once: Once) -> Booking:
    hold = await _keep_for_link(door.db, wanted=wanted, hold_id=hold_id, by=by, once=once)
    return await _ask_and_confirm(door, wanted=wanted, hold=hold, lapse_at=hold.expires_at, by=by, once=once)


async def _ask_and_confirm(
    door: Door, *, wanted: NewBooking, hold: Hold, lapse_at: datetime | None, by: Caller, once: Once
) -> Booking:
    """`lapse_at`: when a user's own hold lapses where there is no link; one made for the link alone is released."""
    assert hold.start is not None  # noqa: S101 - a live hold has units
    try:
        link = await _ask(door.conferencing, Meeting(hold.booking_id, wanted.title, hold.start, hold.end or hold.start))
    except ConferenceServiceError:
        await _give_up(door.db, hold, lapse_at=lapse_at, by=by, once=once)
        raise
    try:
        return await _confirm(door.db, wanted=wanted, hold_id=hold.id, link=link, by=by, once=once, resuming=True)
    except Refusal:
        await _give_up(door.db, hold, lapse_at=lapse_at, by=by, once=None)
        raise


#: Longer than the provider's deadline, so that the hold never lapses under a request that still runs.
LINK_HOLD = timedelta(seconds=DEADLINE_SECONDS + 25)


@retry_aborted
async def _hold_for_link(door: Door, *, wanted: NewBooking, now: datetime, by: Caller, once: Once) -> Hold:
    """Hold the units for longer than the provider's deadline."""
    assert wanted.selection is not None  # noqa: S101 - a request names a selection or a hold
    wish = Wish(wanted.user_id, wanted.selection)
    async with once.transaction(door.db) as session:
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
        taker = Taker(wish, by, queue=door.queue, origin="conference", lasts=LINK_HOLD, booking_id=booking_id)
        refused = await _refused_early(session, [taker], now=now)
        if refused:
            raise refused[taker.holder_id]
        await lock(session, rules.reach([wanted.selection]))
        hold = _one(await take_all(session, [taker], now=now))
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
            error = refusal_json(ConferenceServiceError())
            await queries.answer_tickets(session, [queries.TicketAnswer(hold.booking_id, "refused", error=error)])
        else:
            await locks.holds(session, [hold.id])
            present = await queries.find_hold(session, hold.id)
            if present is not None and present.outcome is None:
                await _prolong(session, hold.id, until=lapse_at)
        if once is not None:
            await once.keep_booking(session, hold.booking_id, busy_for=timedelta(0))
