"""Who comes with an API key: looked up at each request, so a deleted key, a suspended owner, a new role count at once."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from holdfast.core.errors import Forbidden, Refusal, Unauthenticated
from holdfast.core.security import stored_secret
from holdfast.db.database import Database, fetch_in

#: How exact `lastUsedAt` is.
NOTED_EVERY = timedelta(minutes=1)
#: What a key with the scope `read` may do. Whoever may write may read as well.
_LOOKING = frozenset({"GET", "HEAD"})

_FIND = """
SELECT k.id, k.user_id, u.role, 'write' = ANY(k.scopes) AS may_write,
       k.last_used_at IS NULL OR k.last_used_at < clock_timestamp() - $2::interval AS to_note
FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.hash = $1 AND u.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())"""
_GOOD = """
SELECT k.id FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.id = ANY($1::uuid[]) AND u.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())"""
# Several who note at once: the first writes, the others find it written.
_NOTE = """
UPDATE api_keys SET last_used_at = clock_timestamp()
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - $2::interval)"""

log = structlog.get_logger(__name__)
#: The loop itself keeps only weak references to tasks.
_noting: dict[UUID, asyncio.Task[None]] = {}


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A good key. `role` is its owner's present one."""

    id: UUID
    user_id: UUID
    role: str
    may_write: bool


async def find_key(db: Database, secret: str) -> FoundKey:
    """The key with this secret. Raises Unauthenticated where there is none, it is over, or its owner is out."""
    rows = await db.fetch(_FIND, stored_secret(secret), NOTED_EVERY)
    if not rows:
        message = "This API key is unknown, deleted or expired, or its owner is suspended."
        raise Unauthenticated(message)
    (row,) = rows
    if row["to_note"] and row["id"] not in _noting:
        # Beside the request: it must be neither slower for it, nor fail with it.
        _noting[row["id"]] = asyncio.create_task(_note(db, row["id"]))
    return FoundKey(row["id"], row["user_id"], row["role"], row["may_write"])


async def good_keys(db: Database, ids: Collection[UUID]) -> set[UUID]:
    """Which of these keys still are good: for what lives longer than a request."""
    return {row["id"] for row in await db.fetch(_GOOD, list(ids))}


async def _note(db: Database, key_id: UUID) -> None:
    try:
        async with db.transaction() as session:
            await fetch_in(session, _NOTE, key_id, NOTED_EVERY)
    except Refusal as refusal:
        log.warning("api_key.use_not_noted", key_id=str(key_id), reason=refusal.code)
    except Exception:
        log.exception("api_key.use_not_noted", key_id=str(key_id))
    finally:
        _noting.pop(key_id, None)


def check_scope(key: FoundKey, method: str) -> None:
    """Raise Forbidden where the key's scopes do not allow the method."""
    if not key.may_write and method not in _LOOKING:
        message = "This API key has the scope read: it may only look (GET, HEAD). Use one with the scope write."
        raise Forbidden(message, details={"scopeNeeded": "write"})
