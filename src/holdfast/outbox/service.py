"""Write an outbox message with the change that it tells of."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.callers import Caller
from holdfast.core.ids import new_id
from holdfast.db.models import OutboxMessage

_INSERT = insert(OutboxMessage)


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
    await session.execute(
        _INSERT,
        {
            "id": new_id(),
            "type": message_type,
            "subject_id": subject_id,
            "actor_id": by.user_id,
            "actor_role": by.role,
            "request_id": by.request_id,
            "address": by.address,
            "before": before,
            "after": after,
        },
    )
