"""The use cases of rooms. What takes or gives back time (closures, bookings) is in `bookings`."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.core.callers import Caller
from holdfast.core.ids import new_id
from holdfast.core.policies import merged_policy
from holdfast.core.preconditions import check_if_match
from holdfast.core.schedules import Schedule
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once
from holdfast.resources import service as resources
from holdfast.resources.queries import archive_resource, read_free_slots, schedule_out_of, stored_policy
from holdfast.resources.rules import ResourceSchedule, day_reach, free_of
from holdfast.rooms import queries, rules
from holdfast.rooms.errors import RoomInUse, RoomNotFound
from holdfast.rooms.rules import Room

_RESOURCE_COLUMNS = ("name", "time_zone")
_DETAIL_COLUMNS = ("description", "capacity", "kind", "location", "features")


@retry_aborted
async def create_room(db: Database, *, values: dict[str, Any], by: Caller, once: Once) -> Room:
    """A new room; `values` by column name, `policy` by wire name."""
    room_id = new_id()
    async with once.transaction(db) as session:
        await queries.insert_room(
            session,
            resource={
                "id": room_id,
                "policy": merged_policy({}, values.get("policy")),
                **{name: values[name] for name in _RESOURCE_COLUMNS if name in values},
            },
            details={name: values[name] for name in _DETAIL_COLUMNS if name in values},
        )
        room = await _room(session, room_id)
        await outbox.enqueue(session, "room.created", room.id, by=by, after=room.as_json())
        await once.keep(session, room)
    return room


async def _room(session: AsyncSession, room_id: UUID) -> Room:
    room = await queries.find_room(session, room_id)
    if room is None:
        raise RoomNotFound
    return room


async def lock_room(session: AsyncSession, room_id: UUID) -> Room:
    """The room, read again under its lock. Raises RoomNotFound."""
    room = await _room(session, room_id)
    await locks.resources(session, [room.no])
    return await _room(session, room_id)


async def get_room(db: Database, room_id: UUID) -> Room:
    """A room that is not archived. Raises RoomNotFound."""
    async with db.transaction() as session:
        return await _room(session, room_id)


async def list_rooms(
    db: Database,
    *,
    kind: str | None = None,
    min_capacity: int | None = None,
    features: Sequence[str] = (),
    q: str | None = None,
    offset: int = 0,
    limit: int | None = None,
) -> tuple[list[Room], int]:
    """Rooms in the order in which they were made (all of them without `limit`), and how many there are."""
    async with db.transaction() as session:
        return await queries.list_rooms(
            session, kind=kind, min_capacity=min_capacity, features=features, q=q, offset=offset, limit=limit
        )


@retry_aborted
async def change_room(
    db: Database, *, room_id: UUID, changes: dict[str, Any], if_match: str | None, by: Caller, once: Once
) -> Room:
    """Change what is named; rules of the policy one by one. Raises RoomNotFound, Stale."""
    async with once.transaction(db) as session:
        before = await lock_room(session, room_id)
        check_if_match(if_match, before.etag, before.as_json())
        if not changes:
            await once.keep(session, before)
            return before
        resource = {name: changes[name] for name in _RESOURCE_COLUMNS if name in changes}
        if "policy" in changes:
            resource["policy"] = merged_policy(await stored_policy(session, before.no), changes["policy"])
        details = {name: changes[name] for name in _DETAIL_COLUMNS if name in changes}
        await queries.update_room(session, before.no, resource=resource, details=details)
        room = await _room(session, room_id)
        await outbox.enqueue(session, "room.updated", room.id, by=by, before=before.as_json(), after=room.as_json())
        await once.keep(session, room)
    return room


@retry_aborted
async def archive_room(db: Database, *, room_id: UUID, if_match: str | None, now: datetime, by: Caller, once: Once) -> None:
    """Take a room out of service. Raises RoomNotFound, Stale, RoomInUse with what stands in the way."""
    async with once.transaction(db) as session:
        room = await lock_room(session, room_id)
        check_if_match(if_match, room.etag, room.as_json())
        await locks.holds_of(session, [room.no])
        ahead = await claims.occupied(session, room.no, now, None)
        bookings = sorted({str(c.holder_id) for c in ahead if c.kind is claims.HolderKind.BOOKING})
        holds = sorted({str(c.holder_id) for c in ahead if c.kind is claims.HolderKind.HOLD and not c.lapsed})
        if bookings or holds:
            raise RoomInUse(details={"bookingIds": bookings, "holdIds": holds})
        await archive_resource(session, room.no)
        await outbox.enqueue(session, "room.archived", room.id, by=by, before=room.as_json())
        await once.keep(session, None)


@retry_aborted
async def create_schedule(db: Database, *, room_id: UUID, schedule: Schedule, by: Caller, once: Once) -> ResourceSchedule:
    """A room's first schedule. Raises RoomNotFound, ScheduleExists."""
    async with once.transaction(db) as session:
        room = await lock_room(session, room_id)
        made = await resources.create_schedule(session, room.owner, schedule, by=by)
        await once.keep(session, made)
    return made


@retry_aborted
async def put_schedule(
    db: Database, *, room_id: UUID, schedule: Schedule, if_match: str | None, by: Caller, once: Once
) -> ResourceSchedule:
    """Make or replace a room's schedule. Bookings that stand keep their time. Raises RoomNotFound, Stale."""
    async with once.transaction(db) as session:
        room = await lock_room(session, room_id)
        made = await resources.put_schedule(session, room.owner, schedule, if_match=if_match, by=by)
        await once.keep(session, made)
    return made


async def get_schedule(db: Database, room_id: UUID) -> ResourceSchedule:
    """A room's schedule. Raises RoomNotFound, ScheduleNotFound."""
    async with db.transaction() as session:
        room = await _room(session, room_id)
        return await resources.find_schedule(session, room.owner)


async def free_day(db: Database, room_id: UUID, day: date) -> tuple[bytes, str]:
    """The body and ETag of a date's free slots, past ones included, in one statement. Raises RoomNotFound.

    The hottest read of the service: it returns bytes, put together from cached parts, where other use cases return values.
    """
    row = await read_free_slots(db, room_id, *day_reach(day))
    if row is None:
        raise RoomNotFound
    schedule = schedule_out_of(row)
    if schedule is None:
        return rules.rendered_day((), ())
    slots, parts = rules.rendered_slots(schedule, day, row["time_zone"], row["no"], room_id)
    return rules.rendered_day(parts, free_of(slots, row["starts"], row["ends"]))
