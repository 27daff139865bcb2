"""Holds: placing, extending, releasing, reading."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from holdfast import claims, outbox
from holdfast.bookings import queries
from holdfast.bookings.errors import HoldExtended
from holdfast.bookings.rules import Booking, Hold, Selection, Wish
from holdfast.bookings.service.confirming import checked_hold, find_own_hold
from holdfast.bookings.service.context import Context
from holdfast.bookings.service.queueing import behind_the_line
from holdfast.bookings.service.releasing import release_locked
from holdfast.bookings.service.taking import Queue, Taker, promote
from holdfast.bookings.service.travelling import take_one
from holdfast.core.callers import Caller
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once


async def place_hold(context: Context, *, selection: Selection, now: datetime, by: Caller, once: Once) -> Hold:
    """Keep slots or seats for the caller, as long as the policy says. Refused for the same reasons as a booking.

    Raises TooManyHolds besides.
    """
    taker = Taker(Wish(by.own_id, selection, as_hold=True), by, origin="request")

    async def take(queue: Queue) -> Booking | Hold:
        return await take_one(context, replace(taker, queue=queue), now=now, once=once)

    hold = await behind_the_line(context.db, take, queue=context.queue)
    assert isinstance(hold, Hold)  # noqa: S101 - asked for with an origin
    return hold


async def list_holds(db: Database, *, by: Caller) -> list[Hold]:
    """The caller's live holds, offers from the waitlist among them, the first to end first."""
    return await queries.own_holds(db, by.own_id)


async def get_hold(db: Database, *, hold_id: UUID, by: Caller) -> Hold:
    """The caller's live hold. Raises HoldNotFound, Forbidden, HoldUsed, HoldExpired."""
    return checked_hold(await queries.find_hold(db, hold_id), user_id=by.own_id)


@retry_aborted
async def extend_hold(db: Database, *, hold_id: UUID, by: Caller, once: Once) -> Hold:
    """Move the hold's end on by its own length, once.

    Raises HoldNotFound, Forbidden, HoldUsed, HoldExpired, HoldExtended.
    """
    async with once.transaction(db) as session:
        hold = await find_own_hold(session, hold_id, user_id=by.own_id)
        if hold.extended_at is not None:
            raise HoldExtended(details={"rule": "extendOnce", "value": 1})
        expires_at = await queries.prolong_hold(session, hold_id, by_user=True)
        await claims.prolong(session, hold_id, expires_at)
        extended = checked_hold(await queries.find_hold(session, hold_id), user_id=by.own_id)
        await outbox.enqueue(session, "hold.extended", hold_id, by=by, before=hold.as_json(), after=extended.as_json())
        await once.keep(session, extended)
    return extended


@retry_aborted
async def release_hold(db: Database, *, hold_id: UUID, now: datetime, by: Caller, once: Once) -> None:
    """Give a hold back; an offer is declined so. Raises HoldNotFound, Forbidden, HoldUsed, HoldExpired."""
    async with once.transaction(db) as session:
        hold = checked_hold(await queries.find_hold(session, hold_id), user_id=by.own_id)
        await locks.resources(session, hold.resource_nos)
        # Who confirms it has the row alone: look again, now that nobody can.
        hold = await find_own_hold(session, hold_id, user_id=by.own_id)
        await release_locked(session, [hold], by=by)
        await promote(session, hold.resource_nos, now=now)
        await once.keep(session, None)
