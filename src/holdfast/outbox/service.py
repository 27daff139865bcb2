"""Write an outbox message with the change that it tells of."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.callers import Caller
from holdfast.core.ids import new_id
from holdfast.db.database import fetch_in

_INSERT = """
INSERT INTO outbox (id, type, subject_id, actor_id, actor_role, request_id, address, before, after)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9::text::jsonb)"""


async def enqueue(
    session: AsyncSession,
    message_type: str,
    subject_id: UUID,
    *,
    by: Caller,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Add a message to the caller's transaction: heard of exactly when the change is.

    `message_type` is `<object>.<past participle>`; `before` and `after` are the object's JSON shape, without secrets.
    """
    await fetch_in(
        session,
        _INSERT,
        new_id(),
        message_type,
        subject_id,
        by.user_id,
        by.role,
        by.request_id,
        by.address,
        None if before is None else orjson.dumps(before).decode(),
        None if after is None else orjson.dumps(after).decode(),
    )
