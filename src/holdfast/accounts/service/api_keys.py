"""Making, listing and deleting API keys. Who comes with one is looked up at the edge, in `web/api_keys.py`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from holdfast import outbox
from holdfast.accounts import queries, rules
from holdfast.accounts.errors import ApiKeyNotFound
from holdfast.accounts.rules import ApiKey
from holdfast.core.callers import Caller
from holdfast.core.errors import Unauthenticated
from holdfast.core.ids import new_id
from holdfast.core.security import API_KEY_PREFIX, new_secret, stored_secret
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once


@retry_aborted
async def make_api_key(
    db: Database, *, name: str, scopes: Sequence[str], expires_at: datetime | None, by: Caller, now: datetime
) -> tuple[ApiKey, str]:
    """A new key and its secret, which nobody can be shown again. Raises ExpiryInPast, TooManyApiKeys."""
    secret = new_secret(API_KEY_PREFIX)
    async with db.transaction() as session:
        # Two at once must not both be the fiftieth.
        if not await locks.users(session, [by.own_id]):
            raise Unauthenticated
        rules.check_new_api_key(keys=await queries.count_api_keys(session, by.own_id), expires_at=expires_at, now=now)
        key = await queries.insert_api_key(
            session,
            id=new_id(),
            user_id=by.own_id,
            name=name,
            hash=stored_secret(secret),
            scopes=sorted(set(scopes)),
            expires_at=expires_at,
        )
        await outbox.enqueue(session, "api_key.created", key.id, by=by, after=key.as_json())
    return key, secret


async def list_api_keys(db: Database, *, by: Caller) -> list[ApiKey]:
    """All keys of the caller's own, newest first, expired ones included."""
    async with db.transaction() as session:
        return await queries.list_api_keys(session, by.own_id)


async def get_api_key(db: Database, *, key_id: UUID, by: Caller) -> ApiKey:
    """A key of the caller's own. Raises ApiKeyNotFound."""
    async with db.transaction() as session:
        key = await queries.find_api_key(session, by.own_id, key_id)
    if key is None:
        raise ApiKeyNotFound
    return key


@retry_aborted
async def delete_api_key(db: Database, *, key_id: UUID, by: Caller, once: Once) -> None:
    """Delete a key of the caller's own: the next request with it is refused, in every process. Raises ApiKeyNotFound."""
    async with once.transaction(db) as session:
        key = await queries.delete_api_key(session, by.own_id, key_id)
        if key is None:
            raise ApiKeyNotFound
        await outbox.enqueue(session, "api_key.deleted", key.id, by=by, before=key.as_json())
        await once.keep(session, None)
