"""Closing a room for a time, and opening it again."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.bookings import queries
from holdfast.bookings.errors import BookingsInTheWay, ClosureNotFound, ClosureOverlap
from holdfast.bookings.rules import Closure
from holdfast.bookings.service.giving_back import cancel_locked, lock_bookings
from holdfast.claims import Holder, HolderKind, Taken, Unit
from holdfast.core.callers import Caller
from holdfast.core.errors import Invalid
from holdfast.core.ids import new_id
from holdfast.db.database import Database, TransactionAborted, retry_aborted
from holdfast.idempotency import Once
from holdfast.rooms.errors import RoomNotFound
from holdfast.rooms.queries import find_room
from holdfast.rooms.rules import Room
from holdfast.rooms.service import get_room, lock_room


@retry_aborted
async def close_room(
    db: Database,
    *,
    room_id: UUID,
    start: datetime,
    end: datetime,
    reason: str | None,
    cancel_bookings: bool,
    now: datetime,
    by: Caller,
    once: Once,
) -> Closure:
    """Close a room during `[start, end)`; with `cancel_bookings`, what stands there is cancelled with it.

    Raises RoomNotFound, Invalid, ClosureOverlap, BookingsInTheWay with the ids of bookings and holds.
    """
    if start >= end:
        message = "A closure must end after it begins."
        raise Invalid(message)
    if end <= now:
        message = "A closure must end in the future."
        raise Invalid(message)
    async with once.transaction(db) as session:
        room, taken = await _lock_with_bookings(session, room_id, start, end)
        live = [claim for claim in taken if not claim.lapsed]
        closed = [str(claim.holder_id) for claim in live if claim.kind is HolderKind.CLOSURE]
        if closed:
            raise ClosureOverlap(details={"closureIds": closed})
        bookings = sorted({claim.holder_id for claim in live if claim.kind is HolderKind.BOOKING})
        holds = sorted({claim.holder_id for claim in live if claim.kind is HolderKind.HOLD})
        if (bookings or holds) and not cancel_bookings:
            raise BookingsInTheWay(details={"bookingIds": [str(one) for one in bookings], "holdIds": [str(one) for one in holds]})
        for booking in await queries.find_bookings(session, bookings):
            await cancel_locked(session, booking, by=by)
        lapsed = await claims.release_lapsed(session, taken)
        for hold_id in holds:
            await claims.release(session, HolderKind.HOLD, hold_id)
        await queries.end_holds(session, [*holds, *lapsed])
        for hold_id in holds:
            await outbox.enqueue(session, "hold.released", hold_id, by=by)
        for hold_id in lapsed:
            await outbox.enqueue(session, "hold.lapsed", hold_id, by=by)
        closure = await queries.insert_closure(
            session,
            closure_id=new_id(),
            resource_no=room.no,
            start=start,
            end=end,
            reason=reason,
            created_by=by.user_id,
        )
        unit = Unit(room.no, start, end, closure.id)
        await claims.take(session, [unit], Holder(HolderKind.CLOSURE, closure.id), refusal=ClosureOverlap)
        await outbox.enqueue(session, "closure.created", closure.id, by=by, after=closure.as_json())
        await once.keep(session, closure)
    return closure


async def _lock_with_bookings(
    session: AsyncSession, room_id: UUID, start: datetime, end: datetime
) -> tuple[Room, tuple[Taken, ...]]:
    """The room and what is taken there, with the locks of every resource that the bookings in the way have units of."""
    room = await find_room(session, room_id)
    if room is None:
        raise RoomNotFound
    seen = _booking_ids(await claims.occupied(session, room.no, start, end))
    await lock_bookings(session, await queries.find_bookings(session, seen), also=[room.no])
    room = await find_room(session, room_id)
    if room is None:
        raise RoomNotFound
    taken = await claims.occupied(session, room.no, start, end)
    if not _booking_ids(taken) <= seen:
        # Somebody booked between the look and the lock: begin again, with that booking's locks.
        raise TransactionAborted
    return room, taken


def _booking_ids(taken: tuple[Taken, ...]) -> set[UUID]:
    return {claim.holder_id for claim in taken if claim.kind is HolderKind.BOOKING}


async def list_closures(db: Database, *, room_id: UUID, offset: int, limit: int) -> tuple[list[Closure], int]:
    """One page of a room's closures, soonest first, and how many there are. Raises RoomNotFound."""
    room = await get_room(db, room_id)
    async with db.transaction() as session:
        return await queries.list_closures(session, room.no, offset=offset, limit=limit)


@retry_aborted
async def reopen_room(db: Database, *, room_id: UUID, closure_id: UUID, by: Caller, once: Once) -> None:
    """Delete a closure. Raises RoomNotFound, ClosureNotFound."""
    async with once.transaction(db) as session:
        room = await lock_room(session, room_id)
        closure = await queries.find_closure(session, room.no, closure_id)
        if closure is None:
            raise ClosureNotFound
        await claims.release(session, HolderKind.CLOSURE, closure_id)
        await queries.delete_closure(session, closure_id)
        await outbox.enqueue(session, "closure.deleted", closure_id, by=by, before=closure.as_json())
        await once.keep(session, None)
