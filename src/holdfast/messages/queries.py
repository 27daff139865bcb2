"""What the outbox's rows do not say themselves, for many of them at once."""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core import slot_ids
from holdfast.db.database import Database, fetch_from
from holdfast.messages.rules import PublicSlot

_FIRST_SHAPES = """
SELECT subject_id, after::text AS after FROM outbox
WHERE subject_id = ANY($1::uuid[]) AND type = 'hold.created' AND after IS NOT NULL"""
_OWNERS = """
SELECT id, user_id FROM waitlist_entries WHERE id = ANY($1::uuid[])
UNION ALL SELECT id, user_id FROM holds WHERE id = ANY($1::uuid[])"""
_PUBLISHED = "SELECT id, resource_no, lower(during) AS start, upper(during) AS end FROM host_slots WHERE id = ANY($1::uuid[])"
_RESOURCES = """
SELECT r.no, r.id, r.kind, h.user_id FROM resources r LEFT JOIN hosts h ON h.resource_no = r.no
WHERE r.no = ANY($1::bigint[])"""


async def first_shapes(source: Database | AsyncSession, hold_ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    """What was told of holds when they were placed."""
    if not hold_ids:
        return {}
    rows = await fetch_from(source, _FIRST_SHAPES, list(hold_ids))
    return {row["subject_id"]: orjson.loads(row["after"]) for row in rows}


async def owners(source: Database | AsyncSession, ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Whose waitlist entries and holds these are."""
    if not ids:
        return {}
    return {row["id"]: row["user_id"] for row in await fetch_from(source, _OWNERS, list(ids))}


async def public_slots(source: Database | AsyncSession, wanted: Iterable[str]) -> dict[str, PublicSlot]:
    """Slots by id, as everybody may know them."""
    found: dict[UUID, tuple[int, Any, Any]] = {}
    published = []
    for slot_id in {UUID(one) for one in wanted}:
        key = slot_ids.decode(slot_id)
        if key is None:
            published.append(slot_id)
        else:
            found[slot_id] = (key.resource_no, key.start, key.end)
    if published:
        for row in await fetch_from(source, _PUBLISHED, published):
            found[row["id"]] = (row["resource_no"], row["start"], row["end"])
    if not found:
        return {}
    rows = await fetch_from(source, _RESOURCES, sorted({no for no, _, _ in found.values()}))
    resources = {row["no"]: row for row in rows}
    return {
        str(slot_id): PublicSlot(slot_id, resources[no]["id"], resources[no]["kind"], start, end, resources[no]["user_id"])
        for slot_id, (no, start, end) in found.items()
        if no in resources
    }
