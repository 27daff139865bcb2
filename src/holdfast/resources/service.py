"""Schedules and lists of slots: what the use cases of rooms and hosts share."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import outbox
from holdfast.claims.queries import taken_out_of
from holdfast.core.callers import Caller
from holdfast.core.errors import NotFound
from holdfast.core.ids import new_id
from holdfast.core.preconditions import check_if_match
from holdfast.core.schedules import Schedule
from holdfast.db import constraints
from holdfast.db.database import Database
from holdfast.resources import queries, rules
from holdfast.resources.errors import ScheduleExists, ScheduleNotFound
from holdfast.resources.rules import Owner, ResourceSchedule, SlotRange, SlotState


async def create_schedule(session: AsyncSession, owner: Owner, schedule: Schedule, *, by: Caller) -> ResourceSchedule:
    """A locked resource's first schedule. Raises ScheduleExists."""
    if await queries.find_schedule(session, owner) is not None:
        raise ScheduleExists
    with constraints.refused_by({"schedules_pkey": ScheduleExists}):
        made = await queries.insert_schedule(session, owner, new_id(), schedule)
    await outbox.enqueue(session, "schedule.created", owner.id, by=by, after=made.as_json())
    return made


async def put_schedule(
    session: AsyncSession, owner: Owner, schedule: Schedule, *, if_match: str | None, by: Caller
) -> ResourceSchedule:
    """Make or replace a locked resource's schedule. Raises Stale, ScheduleNotFound where `If-Match` names one."""
    before = await queries.find_schedule(session, owner)
    if before is None:
        if if_match is not None:
            raise ScheduleNotFound
        return await create_schedule(session, owner, schedule, by=by)
    check_if_match(if_match, before.etag, before.as_json())
    made = await queries.replace_schedule(session, before, schedule)
    await outbox.enqueue(session, "schedule.replaced", owner.id, by=by, before=before.as_json(), after=made.as_json())
    return made


async def find_schedule(session: AsyncSession, owner: Owner) -> ResourceSchedule:
    """A resource's schedule. Raises ScheduleNotFound."""
    found = await queries.find_schedule(session, owner)
    if found is None:
        raise ScheduleNotFound
    return found


async def list_slots(
    db: Database,
    *,
    kind: str,
    resource_id: UUID,
    wanted: SlotRange,
    user_id: UUID | None,
    now: datetime,
    refusal: type[NotFound],
) -> list[SlotState]:
    """Every slot of a range, computed and published, with its status, soonest first, in one statement.

    Raises `refusal` where there is no such resource of the kind.
    """
    row = await queries.read_all_slots(db, kind, resource_id, *wanted.reach())
    if row is None:
        raise refusal
    schedule, zone = queries.schedule_out_of(row), row["time_zone"]
    computed = wanted.slots(schedule, zone, row["no"]) if schedule else ()
    published = (slot for slot in queries.published_out_of(row, row["no"]) if wanted.begins_here(slot, zone))
    slots = sorted((*computed, *published), key=lambda slot: (slot.start, slot.end))
    taken, policy = taken_out_of(row), queries.policy_out_of(row)
    return [rules.slot_state(slot, taken, policy, zone, user_id=user_id, now=now) for slot in slots]
