"""Write an outbox message with the change that it tells of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core import tracing
from holdfast.core.callers import Caller
from holdfast.core.ids import new_id
from holdfast.db.database import fetch_in

_INSERT = """
INSERT INTO outbox (id, type, subject_id, actor_id, actor_role, actor_key_id, request_id, address, before, after, trace)
SELECT m.id, m.type, m.subject_id, m.actor_id, m.actor_role, m.actor_key_id, m.request_id, m.address,
  m.before::jsonb, m.after::jsonb, m.trace
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[])
  WITH ORDINALITY
  AS m(id, type, subject_id, actor_id, actor_role, actor_key_id, request_id, address, before, after, trace, position)
ORDER BY m.position"""


@dataclass(frozen=True, slots=True)
class Message:
    """What happened to what, by whom.

    `type` is `<object>.<past participle>`; `before` and `after` are the object's JSON shape, without secrets.
    """

    type: str
    subject_id: UUID
    by: Caller
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


async def enqueue_all(session: AsyncSession, messages: Sequence[Message]) -> None:
    """Add messages to the caller's transaction, in this order: heard of exactly when the change is."""
    if not messages:
        return
    present = tracing.current()
    await fetch_in(
        session,
        _INSERT,
        [new_id() for _ in messages],
        [message.type for message in messages],
        [message.subject_id for message in messages],
        [message.by.user_id for message in messages],
        [message.by.role for message in messages],
        [message.by.key_id for message in messages],
        [message.by.request_id for message in messages],
        [message.by.address for message in messages],
        [_text(message.before) for message in messages],
        [_text(message.after) for message in messages],
        [message.by.trace or present for message in messages],
    )


def _text(shape: Mapping[str, Any] | None) -> str | None:
    return None if shape is None else orjson.dumps(shape).decode()


async def enqueue(
    session: AsyncSession,
    message_type: str,
    subject_id: UUID,
    *,
    by: Caller,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """`enqueue_all` of one message."""
    await enqueue_all(session, [Message(message_type, subject_id, by, before, after)])
