"""The jobs of deliveries, and their keys."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import jobs

#: One delivery's next attempt.
KIND = "webhook"
#: Cancelling or removing the deliveries of a disabled or deleted webhook.
CLEARING = "webhook.clearing"


async def enqueue_deliveries(
    session: AsyncSession, deliveries: Sequence[tuple[UUID, UUID, str | None]], *, because: str | None = None
) -> None:
    """A job for each delivery (id, webhook, trace).

    `because` makes the key another one. The job that a delivery was made with may be just about to find that an earlier
    one is pending, and to end; while it is under way its key is taken, and who is asked for by the end of the earlier one
    would never be called.
    """
    suffix = "" if because is None else f":{because}"
    await jobs.enqueue_all(
        session,
        KIND,
        [
            (f"{delivery_id}{suffix}", {"deliveryId": str(delivery_id), "webhookId": str(webhook_id)}, trace)
            for delivery_id, webhook_id, trace in deliveries
        ],
    )


async def enqueue_clearing(session: AsyncSession, webhook_id: UUID) -> None:
    """A job that goes through the deliveries of a webhook, of which there may be very many."""
    await jobs.enqueue(session, CLEARING, {"webhookId": str(webhook_id)}, key=str(webhook_id))
