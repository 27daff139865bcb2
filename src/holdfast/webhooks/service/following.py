"""From messages to deliveries, in the relay's transaction."""

from collections.abc import Sequence

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.messages import derive
from holdfast.outbox import StoredMessage
from holdfast.webhooks import queries
from holdfast.webhooks.queries import NewDelivery
from holdfast.webhooks.service.enqueueing import enqueue_deliveries

#: Deliveries of one statement: with many webhooks a round has so many that one alone would meet its time limit.
_AT_ONCE = 2_000


async def follow(session: AsyncSession, stored: Sequence[StoredMessage]) -> None:
    """Make a delivery, and its job, of each message for each enabled webhook that wants its type.

    A disabled webhook gets none: GET /changes tells what it missed. What a message says is written down now, so that it is
    the same at each attempt.
    """
    webhooks = await queries.enabled_webhooks(session)
    if not webhooks:
        return
    deliveries = []
    for message in await derive(session, stored):
        wanting = [webhook_id for webhook_id, types in webhooks if not types or message.type in types]
        body = orjson.dumps(message.as_json()).decode() if wanting else ""
        deliveries += [
            NewDelivery(
                webhook_id=webhook_id,
                message_id=message.id,
                number=message.number,
                subject_id=message.subject_id,
                type=message.type,
                body=body,
                trace=message.trace,
            )
            for webhook_id in wanting
        ]
    for first in range(0, len(deliveries), _AT_ONCE):
        some = deliveries[first : first + _AT_ONCE]
        await queries.add_deliveries(session, some)
        await enqueue_deliveries(session, [(one.id, one.webhook_id, one.trace) for one in some])
