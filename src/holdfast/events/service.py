"""The use cases of events. Adding and blocking seats gives and takes, so it is in `bookings`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import outbox
from holdfast.core.callers import Caller
from holdfast.core.ids import new_id
from holdfast.core.policies import merged_policy
from holdfast.core.preconditions import check_if_match
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.events import queries, rules
from holdfast.events.errors import EventInUse, EventNotFound
from holdfast.events.rules import Event
from holdfast.idempotency import Once
from holdfast.resources.queries import archive_resource, stored_policy

_RESOURCE_COLUMNS = ("name", "time_zone")
_DETAIL_COLUMNS = ("description", "venue", "start_at", "end_at", "sales_start_at", "sales_end_at", "own_fields")


@retry_aborted
async def create_event(db: Database, *, values: dict[str, Any], by: Caller, once: Once) -> Event:
    """A new event, without seats; `values` by column name, `policy` by wire name. Raises Invalid."""
    rules.check_times(values["start_at"], values.get("end_at"), values.get("sales_start_at"), values.get("sales_end_at"))
    event_id = new_id()
    async with once.transaction(db) as session:
        await queries.insert_event(
            session,
            resource={
                "id": event_id,
                "policy": merged_policy({}, values.get("policy")),
                **{name: values[name] for name in _RESOURCE_COLUMNS if name in values},
            },
            details={name: values[name] for name in _DETAIL_COLUMNS if name in values},
        )
        event = await find_event(session, event_id)
        await outbox.enqueue(session, "event.created", event.id, by=by, after=event.as_json())
        await once.keep(session, event)
    return event


async def find_event(source: Database | AsyncSession, event_id: UUID) -> Event:
    """An event that is not archived. Raises EventNotFound."""
    event = await queries.find_event(source, event_id)
    if event is None:
        raise EventNotFound
    return event


async def lock_event(session: AsyncSession, event_id: UUID) -> Event:
    """The event, read under its lock. Raises EventNotFound."""
    await locks.resources_by(session, ids=[event_id])
    return await find_event(session, event_id)


async def list_events(
    db: Database, *, q: str | None, start: datetime | None, end: datetime | None, offset: int, limit: int
) -> tuple[list[Event], int]:
    """One page of events that begin in `[start, end)`, soonest first, and how many there are."""
    return await queries.list_events(db, q=q, start=start, end=end, offset=offset, limit=limit)


@retry_aborted
async def change_event(
    db: Database, *, event_id: UUID, changes: dict[str, Any], if_match: str | None, by: Caller, once: Once
) -> Event:
    """Change what is named; rules of the policy one by one. Bookings move with the event's time and place.

    Raises EventNotFound, Stale, Invalid.
    """
    async with once.transaction(db) as session:
        before = await lock_event(session, event_id)
        check_if_match(rules.definition_tags(if_match), before.definition_tag, before.as_json())
        start, end = changes.get("start_at", before.start), changes.get("end_at", before.end)
        rules.check_times(
            start,
            end,
            changes.get("sales_start_at", before.sales_start),
            changes.get("sales_end_at", before.sales_end),
        )
        event = before
        if changes:
            resource = {name: changes[name] for name in _RESOURCE_COLUMNS if name in changes}
            if "policy" in changes:
                resource["policy"] = merged_policy(await stored_policy(session, before.no), changes["policy"])
            details = {name: changes[name] for name in _DETAIL_COLUMNS if name in changes}
            await queries.update_event(session, before.no, resource=resource, details=details)
            if (start, end, changes.get("venue", before.venue)) != (before.start, before.end, before.venue):
                # A hold that is just being confirmed becomes a booking first.
                await locks.holds_of(session, [before.no])
                await queries.move_bookings(session, before.no, start, end)
            event = await find_event(session, event_id)
            await outbox.enqueue(session, "event.updated", event.id, by=by, before=before.as_json(), after=event.as_json())
        await once.keep(session, event)
    return event


@retry_aborted
async def archive_event(db: Database, *, event_id: UUID, if_match: str | None, by: Caller, once: Once) -> None:
    """Take an event out of every list. Raises EventNotFound, Stale, EventInUse while bookings or live holds stand."""
    async with once.transaction(db) as session:
        event = await lock_event(session, event_id)
        check_if_match(rules.definition_tags(if_match), event.definition_tag, event.as_json())
        await locks.holds_of(session, [event.no])
        event = await find_event(session, event_id)
        if event.booked or event.held:
            raise EventInUse(details={"booked": event.booked, "held": event.held})
        await archive_resource(session, event.no)
        await outbox.enqueue(session, "event.archived", event.id, by=by, before=event.as_json())
        await once.keep(session, None)


async def seat_map(db: Database, *, event_id: UUID, user_id: UUID | None) -> tuple[bytes, str]:
    """The body and ETag of an event's seat map, in one statement. Raises EventNotFound.

    Bytes, as ten thousand seats are put together from parts that were rendered once.
    """
    found = await queries.read_map(db, event_id, user_id)
    if found is None:
        raise EventNotFound
    seats, row = found
    return rules.rendered_map(
        seats.rendered,
        booked=row["booked"] or (),
        held=row["held"] or (),
        blocked=row["blocked"] or (),
        mine=row["mine"] or (),
    )
