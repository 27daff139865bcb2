"""The waitlist: joining a line, leaving it, looking at it, and the loop that moves it on."""

from datetime import datetime
from uuid import UUID

import structlog

from holdfast import outbox
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import (
    AlreadyWaiting,
    Closed,
    EntryBooked,
    EntryNotFound,
    SeatsTaken,
    SlotTaken,
    StillAvailable,
)
from holdfast.bookings.rules import ByQuantity, BySlotIds, WaitlistEntry, Wanted, Wish, World
from holdfast.bookings.service.releasing import release_locked
from holdfast.bookings.service.taking import Taker, find_other, lock, promote, settle
from holdfast.core import clock
from holdfast.core.callers import SYSTEM, Caller
from holdfast.core.errors import Forbidden, Refusal
from holdfast.core.ids import new_id
from holdfast.db import constraints, locks
from holdfast.db.database import Database, TransactionAborted, retry_aborted
from holdfast.events.errors import EventNotFound
from holdfast.idempotency import Once
from holdfast.outbox import Message
from holdfast.resources.queries import find_owner

log = structlog.get_logger(__name__)
#: What one waits for to change; any other refusal would stay one.
_WORTH_WAITING = (SlotTaken, SeatsTaken, Closed)


@retry_aborted
async def join_waitlist(
    db: Database, *, wanted: ByQuantity | BySlotIds, auto_book: bool, now: datetime, by: Caller, once: Once
) -> WaitlistEntry:
    """A place at the end of the line, in the order of committed joins.

    Raises AlreadyWaiting, StillAvailable, and what `rules.decide` refuses but for being taken.
    """
    reach = rules.reach([wanted])
    async with once.transaction(db) as session:
        # The lock that whoever gives back must have too: nothing gets free between this look and the commit.
        await lock(session, reach)
        try:
            await find_other(session, Taker(Wish(by.own_id, wanted), by), now=now)
        except _WORTH_WAITING:
            pass
        else:
            raise StillAvailable
        world = await queries.look(session, reach)
        resource_no, start, end = _what(world, wanted)
        entry_id = new_id()
        with constraints.refused_by({"waitlist_entries_once_per_user": AlreadyWaiting}):
            joined = await queries.insert_entry(
                session,
                entry_id=entry_id,
                resource_no=resource_no,
                user_id=by.own_id,
                slot_id=wanted.ids[0] if isinstance(wanted, BySlotIds) else None,
                start=start,
                end=end,
                quantity=wanted.quantity if isinstance(wanted, ByQuantity) else 1,
                auto_book=auto_book,
            )
        if not joined:
            raise Taker(Wish(by.own_id, wanted), by).gone()
        entry = await queries.find_entry(session, entry_id)
        assert entry is not None  # noqa: S101 - just inserted
        await outbox.enqueue(session, "waitlist.joined", entry.id, by=by, after=entry.as_json())
        await once.keep(session, entry)
    return entry


def _what(world: World, wanted: ByQuantity | BySlotIds) -> tuple[int, datetime, datetime | None]:
    """Resource, start and end of what is waited for."""
    if isinstance(wanted, ByQuantity):
        event = world.events[wanted.event_id]
        return event.no, event.start, event.end
    found: Wanted = rules.find_wanted(world, wanted)
    return found.units[0].resource_no, found.start, found.end


def _own(entry: WaitlistEntry | None, *, by: Caller) -> WaitlistEntry:
    if entry is None:
        raise EntryNotFound
    if entry.user_id != by.user_id:
        raise Forbidden
    return entry


async def get_entry(db: Database, *, entry_id: UUID, by: Caller) -> WaitlistEntry:
    """The caller's entry with its place in line. Raises EntryNotFound, Forbidden."""
    return _own(await queries.find_entry(db, entry_id), by=by)


async def list_own_entries(db: Database, *, by: Caller) -> list[WaitlistEntry]:
    """The caller's entries, ended ones too, the latest first."""
    return await queries.own_entries(db, by.own_id)


async def list_entries(db: Database, *, event_id: UUID, offset: int, limit: int) -> tuple[list[WaitlistEntry], int]:
    """One page of an event's line, offers included, first come first, and how many there are. Raises EventNotFound."""
    async with db.transaction() as session:
        found = await find_owner(session, "event", event_id)
    if found is None:
        raise EventNotFound
    return await queries.entries_of(db, found[0].no, offset=offset, limit=limit)


@retry_aborted
async def leave_waitlist(db: Database, *, entry_id: UUID, now: datetime, by: Caller, once: Once) -> None:
    """Give up one's place, or decline an offer: the next in line has it. May be repeated.

    Raises EntryNotFound, Forbidden, EntryBooked.
    """
    async with once.transaction(db) as session:
        entry = _own(await queries.find_entry(session, entry_id), by=by)
        offered = await queries.find_holds(session, [entry.hold_id]) if entry.hold_id else []
        # An offer made meanwhile is of this resource; one of several resources there is not.
        await locks.resources(session, {entry.resource_no, *(no for hold in offered for no in hold.resource_nos)})
        await locks.holds(session, [hold.id for hold in offered])
        entry = _own(await queries.find_entry(session, entry_id), by=by)
        if entry.hold_id is not None and not offered:
            # Offered between the look and the lock: begin again, with that offer's lock.
            raise TransactionAborted
        if entry.status == "booked":
            raise EntryBooked(details={"bookingId": str(entry.booking_id)})
        if entry.status == "offered" and entry.hold_id is not None:
            await release_locked(session, await queries.find_holds(session, [entry.hold_id]), by=by)
        elif entry.status == "waiting":
            await queries.end_entry(session, entry_id, "left")
            await outbox.enqueue(session, "waitlist.left", entry_id, by=by, before=entry.as_json())
        # Who goes may have been in the way of nobody, or have had what the next one wants.
        await promote(session, [entry.resource_no], now=now)
        await once.keep(session, None)


@retry_aborted
async def _settle_one(db: Database, resource_no: int) -> None:
    async with db.transaction() as session:
        await locks.resources(session, [resource_no])
        await settle(session, [resource_no], now=clock.now())


@retry_aborted
async def _end_past(db: Database) -> None:
    async with db.transaction() as session:
        ended = await queries.end_past_entries(session)
        await outbox.enqueue_all(session, [Message("waitlist.lapsed", entry_id, SYSTEM) for entry_id in ended])


async def settle_all(db: Database) -> int:
    """One round of the worker's loop: lapsed holds are released and what is free is offered; returns of how many resources.

    Each resource in a transaction of its own; several workers beside each other only wait for one another's locks.
    """
    await _end_past(db)
    numbers = await queries.resources_to_settle(db)
    for resource_no in numbers:
        try:
            await _settle_one(db, resource_no)
        except Refusal as refusal:
            # Busy: the next round comes in a second.
            log.warning("waitlist.not_settled", resource_no=resource_no, reason=refusal.code)
    return len(numbers)
