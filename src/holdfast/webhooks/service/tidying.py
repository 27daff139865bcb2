"""What is done every so often: old deliveries go, and deliveries that nobody sends any more are found."""

from datetime import timedelta
from uuid import UUID

import structlog

from holdfast.db.database import Database
from holdfast.db.tidying import delete_in_steps
from holdfast.jobs import Periodic
from holdfast.webhooks import queries
from holdfast.webhooks.rules import KEPT_FOR
from holdfast.webhooks.service.enqueueing import enqueue_deliveries

_AT_ONCE = 1_000
#: So long after its time a delivery's job must be lost: dead after failures of the database, or of ours.
_PATIENCE = timedelta(minutes=5)
_FIRST = UUID(int=0)

log = structlog.get_logger(__name__)


def periodic(db: Database) -> tuple[Periodic, ...]:
    """The periodic work of webhooks."""

    async def tidying() -> None:
        await tidy(db)

    async def finding() -> None:
        await find_lost(db)

    return (
        Periodic("webhooks.tidy", timedelta(hours=1), tidying),
        Periodic("webhooks.find_lost", timedelta(minutes=5), finding),
    )


async def tidy(db: Database, *, older_than: timedelta = KEPT_FOR) -> int:
    """Delete deliveries that ended long ago; returns how many."""
    return await delete_in_steps(db, queries.TIDY, older_than)


async def find_lost(db: Database, *, patience: timedelta = _PATIENCE) -> int:
    """Give a job to each delivery that is the first of its subject and long overdue; returns how many there were."""
    after = (_FIRST, _FIRST)
    lost = 0
    while True:
        heads = await queries.heads(db, after, limit=_AT_ONCE, patience=patience)
        overdue = [(head.id, head.webhook_id, head.trace) for head in heads if head.overdue]
        if overdue:
            async with db.transaction() as session:
                await enqueue_deliveries(session, overdue)
        lost += len(overdue)
        if len(heads) < _AT_ONCE:
            break
        after = (heads[-1].webhook_id, heads[-1].subject_id)
    if lost:
        log.warning("webhooks.lost_deliveries_found", count=lost)
    return lost
