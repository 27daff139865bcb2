"""The end of a webhook's sending, by whomever: what is pending is cancelled, the first of it at once, the rest by a job."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import outbox
from holdfast.core.callers import SYSTEM
from holdfast.db.database import Database, retry_aborted
from holdfast.jobs import Job, Later
from holdfast.webhooks import queries
from holdfast.webhooks.service.enqueueing import enqueue_clearing

#: Deliveries of one transaction.
_AT_ONCE = 500
#: Transactions of one run of the job.
_BATCHES = 20


async def cancel_pending(session: AsyncSession, webhook_id: UUID) -> None:
    """Cancel what is pending. The webhook is locked and disabled in the same transaction."""
    if await queries.cancel_pending(session, webhook_id, _AT_ONCE) == _AT_ONCE:
        await enqueue_clearing(session, webhook_id)


async def disable(session: AsyncSession, webhook_id: UUID, reason: str) -> None:
    """Disable a webhook that is locked, and say so: the outbox's message is the notice to its owner."""
    webhook = await queries.disable(session, webhook_id, reason)
    if webhook is None:
        return
    await cancel_pending(session, webhook_id)
    notice = {"id": str(webhook.id), "url": webhook.url, "reason": reason}
    await outbox.enqueue(session, "webhook.disabled", webhook.id, by=SYSTEM, after=notice)


async def clear(db: Database, job: Job) -> None:
    """Cancel, or of a deleted webhook remove, its deliveries; at last the deleted webhook itself."""
    webhook_id = UUID(job.payload["webhookId"])
    for _ in range(_BATCHES):
        if not await _clear_some(db, webhook_id):
            return
    raise Later(timedelta())


@retry_aborted
async def _clear_some(db: Database, webhook_id: UUID) -> bool:
    """One transaction's worth; True where there may be more."""
    async with db.transaction() as session:
        state = await queries.state_of(session, webhook_id)
        if state is None:
            return False
        enabled, deleted = state
        if deleted:
            removed = await queries.remove_deliveries(session, webhook_id, _AT_ONCE)
            if removed < _AT_ONCE:
                await queries.remove_webhook(session, webhook_id)
            return removed == _AT_ONCE
        return not enabled and await queries.cancel_pending(session, webhook_id, _AT_ONCE) == _AT_ONCE
