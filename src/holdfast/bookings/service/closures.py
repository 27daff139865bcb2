"""Closing a room, or a host's time, for a while, and opening it again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.bookings import queries
from holdfast.bookings.errors import BookingsInTheWay, ClosureNotFound, ClosureOverlap
from holdfast.bookings.rules import Closure
from holdfast.bookings.service.releasing import cancel_locked, lock_bookings, release_locked
from holdfast.bookings.service.taking import end_lapsed, promote
from holdfast.claims import Holder, HolderKind, Taken, Unit
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden, Invalid, NotFound
from holdfast.core.ids import new_id
from holdfast.db import locks
from holdfast.db.database import Database, TransactionAborted, retry_aborted
from holdfast.hosts.errors import HostNotFound
from holdfast.idempotency import Once
from holdfast.resources.queries import find_owner
from holdfast.resources.rules import Owner
from holdfast.rooms.errors import RoomNotFound

_NOT_FOUND: dict[str, type[NotFound]] = {"room": RoomNotFound, "host": HostNotFound}


@dataclass(frozen=True, slots=True)
class Place:
    """What is to be closed: a resource's kind and id."""

    kind: str
    id: UUID


async def _owner(session: AsyncSession, place: Place, *, by: Caller) -> Owner:
    """The resource. Raises RoomNotFound, HostNotFound, Forbidden for who is neither the host nor an admin."""
    found = await find_owner(session, place.kind, place.id)
    if found is None:
        raise _NOT_FOUND[place.kind]
    owner, user_id = found
    if not by.is_admin and user_id != by.own_id:
        raise Forbidden
    return owner


@retry_aborted
async def close(
    db: Database,
    *,
    place: Place,
    start: datetime,
    end: datetime,
    reason: str | None,
    cancel_bookings: bool,
    now: datetime,
    by: Caller,
    once: Once,
) -> Closure:
    """Close a room, or a host's time, during `[start, end)`; with `cancel_bookings`, what stands there is cancelled with it.

    Raises RoomNotFound, HostNotFound, Forbidden, Invalid, ClosureOverlap, BookingsInTheWay with the ids of bookings and holds.
    """
    if start >= end:
        message = "A closure must end after it begins."
        raise Invalid(message)
    if end <= now:
        message = "A closure must end in the future."
        raise Invalid(message)
    async with once.transaction(db) as session:
        resource, taken = await _lock_with_bookings(session, place, start, end, by=by)
        live = [claim for claim in taken if not claim.lapsed]
        closed = [str(claim.holder_id) for claim in live if claim.kind is HolderKind.CLOSURE]
        if closed:
            raise ClosureOverlap(details={"closureIds": closed})
        bookings = sorted({claim.holder_id for claim in live if claim.kind is HolderKind.BOOKING})
        holds = sorted({claim.holder_id for claim in live if claim.kind is HolderKind.HOLD})
        if (bookings or holds) and not cancel_bookings:
            raise BookingsInTheWay(details={"bookingIds": [str(one) for one in bookings], "holdIds": [str(one) for one in holds]})
        freed = {resource.no}
        for booking in await cancel_locked(session, await queries.find_bookings(session, bookings), by=by):
            freed |= booking.resource_nos
        released = await queries.find_holds(session, holds)
        await release_locked(session, released, by=by)
        freed |= {no for hold in released for no in hold.resource_nos}
        lapsed = await claims.release_lapsed(session, [resource.no])
        await end_lapsed(session, lapsed)
        closure = await queries.insert_closure(
            session,
            closure_id=new_id(),
            resource_no=resource.no,
            start=start,
            end=end,
            reason=reason,
            created_by=by.user_id,
        )
        unit = Unit(resource.no, start, end, closure.id)
        await claims.take(session, [(unit, Holder(HolderKind.CLOSURE, closure.id))], refusal=ClosureOverlap)
        await outbox.enqueue(session, "closure.created", closure.id, by=by, after=_told(closure, resource))
        # What reached beyond the closure is free now.
        await promote(session, freed, now=now)
        await once.keep(session, closure)
    return closure


def _told(closure: Closure, owner: Owner) -> dict[str, Any]:
    """What the outbox says of it: the path, which names the resource, is not there."""
    return {**closure.as_json(), f"{owner.kind}Id": str(owner.id)}


async def _lock_with_bookings(
    session: AsyncSession, place: Place, start: datetime, end: datetime, *, by: Caller
) -> tuple[Owner, tuple[Taken, ...]]:
    """The resource and what is taken there, with the locks of every resource that what is in the way has units of."""
    owner = await _owner(session, place, by=by)
    seen = await claims.occupied(session, owner.no, start, end)
    held = await queries.find_holds(session, _ids(seen, HolderKind.HOLD))
    others = {no for hold in held for no in hold.resource_nos}
    await lock_bookings(session, await queries.find_bookings(session, _ids(seen, HolderKind.BOOKING)), also={owner.no, *others})
    owner = await _owner(session, place, by=by)
    await locks.holds_of(session, [owner.no])
    taken = await claims.occupied(session, owner.no, start, end)
    if not {claim.holder_id for claim in taken} <= {claim.holder_id for claim in seen}:
        # Somebody took a slot between the look and the lock: begin again, with that one's locks.
        raise TransactionAborted
    return owner, taken


def _ids(taken: tuple[Taken, ...], kind: HolderKind) -> set[UUID]:
    return {claim.holder_id for claim in taken if claim.kind is kind}


async def list_closures(db: Database, *, place: Place, offset: int, limit: int, by: Caller) -> tuple[list[Closure], int]:
    """One page of a resource's closures, soonest first, and how many there are.

    Raises RoomNotFound, HostNotFound, Forbidden.
    """
    async with db.transaction() as session:
        owner = await _owner(session, place, by=by)
        return await queries.list_closures(session, owner.no, offset=offset, limit=limit)


@retry_aborted
async def reopen(db: Database, *, place: Place, closure_id: UUID, now: datetime, by: Caller, once: Once) -> None:
    """Delete a closure; what gets free is offered to those who wait.

    Raises RoomNotFound, HostNotFound, Forbidden, ClosureNotFound.
    """
    async with once.transaction(db) as session:
        owner = await _owner(session, place, by=by)
        await locks.resources(session, [owner.no])
        closure = await queries.find_closure(session, owner.no, closure_id)
        if closure is None:
            raise ClosureNotFound
        await claims.release(session, HolderKind.CLOSURE, [closure_id])
        await queries.delete_closure(session, closure_id)
        await outbox.enqueue(session, "closure.deleted", closure_id, by=by, before=_told(closure, owner))
        await promote(session, [owner.no], now=now)
        await once.keep(session, None)
