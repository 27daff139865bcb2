"""One slot of whatever kind, and deleting one that was published."""

from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast import outbox
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import SlotBooked, SlotNotFound
from holdfast.bookings.rules import BySlotIds
from holdfast.claims import overlapping
from holdfast.claims.queries import taken_out_of
from holdfast.core.callers import SYSTEM, Caller
from holdfast.core.errors import Forbidden
from holdfast.core.schedules import Slot
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.hosts.queries import mark_slot_deleted
from holdfast.idempotency import Once
from holdfast.outbox import Message
from holdfast.resources.queries import read_all_slots
from holdfast.resources.rules import slot_state


async def get_slot(db: Database, *, slot_id: UUID, now: datetime, by: Caller) -> dict[str, Any]:
    """A room's, a host's or a published slot with its status, in the wire's shape. Raises SlotNotFound."""
    world = await queries.look(db, rules.reach([BySlotIds((slot_id,))]))
    (unit,) = rules.find_wanted(world, BySlotIds((slot_id,))).units
    resource = world.resources[unit.resource_no]
    assert unit.end is not None  # noqa: S101 - only events may not say
    slot = Slot(unit.slot_id, unit.resource_no, unit.start, unit.end)
    # Read again with whose the claims are, which taking does not need.
    row = await read_all_slots(db, resource.kind, resource.id, unit.start, unit.end)
    taken = taken_out_of(row) if row is not None else ()
    state = slot_state(slot, taken, resource.policy, resource.time_zone, user_id=by.user_id, now=now)
    return state.as_json(resource.owner)


@retry_aborted
async def delete_slot(db: Database, *, slot_id: UUID, by: Caller, once: Once) -> None:
    """Take back a published slot that nobody has; its past bookings keep it.

    Raises SlotNotFound (no published one), Forbidden, SlotBooked.
    """
    async with once.transaction(db) as session:
        reach = rules.reach([BySlotIds((slot_id,))])
        if slot_id not in reach.published:
            # Computed slots are changed by their schedule.
            raise SlotNotFound
        numbers = await locks.resources_by(session, published=[slot_id])
        await locks.holds_of(session, numbers)
        world = await queries.look(session, reach)
        if not numbers or not world.resources:
            raise SlotNotFound
        resource = world.resources[numbers[0]]
        slot = world.published(slot_id)
        if resource.owner_id != by.user_id:
            raise Forbidden
        if slot is None:
            raise SlotNotFound
        if any(claim.kind != "closure" for claim in overlapping(resource.taken, slot.start, slot.end)):
            raise SlotBooked
        await mark_slot_deleted(session, slot_id)
        left = await queries.end_line(session, slot_id)
        await outbox.enqueue_all(
            session,
            [
                Message("slot.deleted", slot_id, by),
                *(Message("waitlist.lapsed", entry_id, SYSTEM) for entry_id in left),
            ],
        )
        await once.keep(session, None)
