"""Adding, blocking and opening seats of an event."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import SeatsNotFound, SeatsTaken
from holdfast.bookings.service.taking import lock_line, promote, settle
from holdfast.claims import Holder, HolderKind, Unit
from holdfast.core.callers import Caller
from holdfast.core.errors import Invalid
from holdfast.core.ids import new_id
from holdfast.db.database import Database, retry_aborted
from holdfast.events.queries import insert_seats, layout_of
from holdfast.events.rules import MAX_SEATS, NewSeat, seat_json
from holdfast.events.service import find_event, lock_event
from holdfast.idempotency import Once


@retry_aborted
async def add_seats(
    db: Database, *, event_id: UUID, seats: Sequence[NewSeat], now: datetime, by: Caller, once: Once
) -> list[dict[str, Any]]:
    """Add seats in this order; those whose label exists are skipped. Returns the new ones; those who wait come first.

    Raises EventNotFound, Invalid where the event would have more than MAX_SEATS.
    """
    async with once.transaction(db) as session:
        event = await lock_event(session, event_id)
        if event.seats + len(seats) > MAX_SEATS:
            layout = (await layout_of(session, event.no, event.id, await queries.seats_version(session, event.no))).layout
            if event.seats + sum(seat.label not in layout.by_label for seat in seats) > MAX_SEATS:
                message = f"An event has at most {MAX_SEATS} seats."
                raise Invalid(message, details={"rule": "maxSeats", "value": MAX_SEATS})
        added = await insert_seats(session, event.no, seats)
        if added:
            after = {"added": len(added), "labels": [seat.label for seat in added[:100]]}
            await outbox.enqueue(session, "seat.changed", event.id, by=by, after=after)
        await promote(session, [event.no], now=now)
        result = await _seat_states(session, event_id, [seat.no for seat in added])
        await once.keep(session, result)
    return result


@retry_aborted
async def block_seats(
    db: Database, *, event_id: UUID, labels: Sequence[str], blocked: bool, now: datetime, by: Caller, once: Once
) -> list[dict[str, Any]]:
    """Take seats out of sale, or put them back; those that are so already stay as they are. Returns all that were named.

    Raises EventNotFound, SeatsNotFound, SeatsTaken.
    """
    async with once.transaction(db) as session:
        event = await lock_event(session, event_id)
        # Lapsed holds in the way are released first, and who waits has them: blocking is a taker like any other.
        await lock_line(session, [event.no], also=())
        await settle(session, [event.no], now=now)
        layout = (await layout_of(session, event.no, event.id, await queries.seats_version(session, event.no))).layout
        missing = rules.seats_missing(labels, layout.by_label)
        if missing:
            raise SeatsNotFound(details={"seats": missing})
        seats = [layout.by_label[label] for label in dict.fromkeys(labels)]
        taken = await queries.seat_claims(session, event.no, [seat.no for seat in seats])
        if blocked:
            others = [seat.label for seat in seats if taken.get(seat.no) in {"booked", "held"}]
            if others:
                raise SeatsTaken(details={"seats": others[:100], "available": event.capacity - event.booked - event.held})
            new = [seat for seat in seats if seat.no not in taken]
            if new:
                closure_id = new_id()
                await queries.insert_seat_closure(session, closure_id=closure_id, resource_no=event.no, created_by=by.user_id)
                holder = Holder(HolderKind.CLOSURE, closure_id)
                units = [(Unit(event.no, event.start, event.end, seat.id, seat.no, seat.label), holder) for seat in new]
                await claims.take(session, units, refusal=SeatsTaken)
            changed = new
        else:
            changed = [seat for seat in seats if taken.get(seat.no) == "blocked"]
            closures = await claims.release_seats(session, event.no, [seat.no for seat in changed])
            await queries.delete_empty_closures(session, closures)
        if changed:
            after = {"blocked": blocked, "seats": len(changed), "labels": [seat.label for seat in changed[:100]]}
            await outbox.enqueue(session, "seat.changed", event.id, by=by, after=after)
        await promote(session, [event.no], now=now)
        result = await _seat_states(session, event_id, [seat.no for seat in seats])
        await once.keep(session, result)
    return result


async def _seat_states(session: AsyncSession, event_id: UUID, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The wire's shape of these seats, as they are now."""
    event = await find_event(session, event_id)
    layout = (await layout_of(session, event.no, event.id, await queries.seats_version(session, event.no))).layout
    taken = await queries.seat_claims(session, event.no, numbers)
    return [seat_json(layout.by_no[no], taken.get(no, "free"), mine=False) for no in numbers]
