"""The use cases of hosts. Deleting a published slot and closures give and take, so they are in `bookings`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import outbox
from holdfast.accounts.queries import update_user
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden, Unauthenticated
from holdfast.core.ids import new_id
from holdfast.core.policies import merged_policy
from holdfast.core.preconditions import check_if_match
from holdfast.core.schedules import Schedule
from holdfast.db import constraints, locks
from holdfast.db.database import Database, retry_aborted
from holdfast.hosts import queries, rules
from holdfast.hosts.errors import AlreadyHost, HostNotFound, NotHost, SlotOverlap
from holdfast.hosts.rules import Host, PublishedSlot
from holdfast.idempotency import Once
from holdfast.resources import service as resources
from holdfast.resources.queries import stored_policy
from holdfast.resources.rules import ResourceSchedule

_RESOURCE_COLUMNS = ("name", "time_zone")


@retry_aborted
async def become_host(db: Database, *, values: dict[str, Any], by: Caller, once: Once) -> Host:
    """Make the caller a host; `values` by column name, `policy` by wire name. Raises AlreadyHost."""
    async with once.transaction(db) as session:
        if not await locks.users(session, [by.own_id]):
            raise Unauthenticated
        host_id = new_id()
        with constraints.refused_by({"hosts_user_id_key": AlreadyHost}):
            await queries.insert_host(
                session,
                resource={
                    "id": host_id,
                    "policy": merged_policy(rules.DEFAULT_POLICY, values.get("policy") or {}),
                    **{name: values[name] for name in _RESOURCE_COLUMNS},
                },
                user_id=by.own_id,
                bio=values.get("bio"),
            )
        # The user's shape says `isHost`.
        await update_user(session, by.own_id)
        host = await _host(session, host_id)
        await outbox.enqueue(session, "host.created", host.id, by=by, after=host.as_json())
        await once.keep(session, host)
    return host


async def _host(session: AsyncSession, host_id: UUID) -> Host:
    host = await queries.find_host(session, host_id)
    if host is None:
        raise HostNotFound
    return host


async def lock_own_host(session: AsyncSession, host_id: UUID, *, by: Caller, admin_too: bool = False) -> Host:
    """The host, read under its lock. Raises HostNotFound, Forbidden where it is somebody else."""
    host = await _host(session, host_id)
    if host.user_id != by.user_id and not (admin_too and by.is_admin):
        raise Forbidden
    await locks.resources(session, [host.no])
    return await _host(session, host_id)


async def get_host(db: Database, host_id: UUID) -> Host:
    """A host. Raises HostNotFound."""
    async with db.transaction() as session:
        return await _host(session, host_id)


async def list_hosts(db: Database, *, q: str | None, offset: int, limit: int) -> tuple[list[Host], int]:
    """One page of hosts in the order in which they became hosts, and how many there are."""
    async with db.transaction() as session:
        return await queries.list_hosts(session, q=q, offset=offset, limit=limit)


@retry_aborted
async def change_host(
    db: Database, *, host_id: UUID, changes: dict[str, Any], if_match: str | None, by: Caller, once: Once
) -> Host:
    """Change one's own profile; rules of the policy one by one. Raises HostNotFound, Forbidden, Stale."""
    async with once.transaction(db) as session:
        before = await lock_own_host(session, host_id, by=by)
        check_if_match(if_match, before.etag, before.as_json())
        host = before
        if changes:
            resource = {name: changes[name] for name in _RESOURCE_COLUMNS if name in changes}
            if "policy" in changes:
                resource["policy"] = merged_policy(await stored_policy(session, before.no), changes["policy"])
            details = {"bio": changes["bio"]} if "bio" in changes else {}
            await queries.update_host(session, before.no, resource=resource, details=details)
            host = await _host(session, host_id)
            await outbox.enqueue(session, "host.updated", host.id, by=by, before=before.as_json(), after=host.as_json())
        await once.keep(session, host)
    return host


@retry_aborted
async def put_schedule(
    db: Database, *, host_id: UUID, schedule: Schedule, if_match: str | None, by: Caller, once: Once
) -> ResourceSchedule:
    """Make or replace a host's schedule, as the host or an admin. Raises HostNotFound, Forbidden, Stale."""
    async with once.transaction(db) as session:
        host = await lock_own_host(session, host_id, by=by, admin_too=True)
        made = await resources.put_schedule(session, host.owner, schedule, if_match=if_match, by=by)
        await once.keep(session, made)
    return made


async def get_schedule(db: Database, host_id: UUID) -> ResourceSchedule:
    """A host's schedule. Raises HostNotFound, ScheduleNotFound."""
    async with db.transaction() as session:
        host = await _host(session, host_id)
        return await resources.find_schedule(session, host.owner)


@retry_aborted
async def publish_slots(
    db: Database, *, slots: Sequence[tuple[datetime, datetime]], now: datetime, by: Caller, once: Once
) -> list[PublishedSlot]:
    """Publish slots of the caller's time, all or none. Raises NotHost, Invalid, SlotOverlap."""
    async with once.transaction(db) as session:
        host = await queries.find_host_of(session, by.own_id)
        if host is None:
            raise NotHost
        rules.check_slots(slots, now=now)
        await locks.resources(session, [host.no])
        with constraints.refused_by({"host_slots_never_overlap": SlotOverlap}):
            published = await queries.insert_slots(session, host, slots)
        await outbox.enqueue_all(
            session, [outbox.Message("slot.published", slot.id, by, after=slot.as_json()) for slot in published]
        )
        await once.keep(session, published)
    return published


async def list_published(db: Database, **filters: Any) -> tuple[list[PublishedSlot], int]:
    """One page of published slots, soonest first, and how many there are. Filters: see `queries`."""
    return await queries.list_published(db, **filters)


async def list_own_slots(db: Database, *, by: Caller, **filters: Any) -> tuple[list[PublishedSlot], int]:
    """One page of the caller's published slots, with who has them. Raises NotHost."""
    async with db.transaction() as session:
        host = await queries.find_host_of(session, by.own_id)
    if host is None:
        raise NotHost
    return await queries.list_published(db, host_id=host.id, **filters)
