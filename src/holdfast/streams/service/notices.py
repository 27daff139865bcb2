"""A word from the admin to everybody who is connected."""

from typing import Any

from holdfast import outbox
from holdfast.core import clock
from holdfast.core.callers import Caller
from holdfast.core.ids import new_id
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once


@retry_aborted
async def send_notice(db: Database, *, message: str, by: Caller, once: Once) -> dict[str, Any]:
    """Tell every connected client (`system.notice`). It is kept nowhere but in the outbox."""
    notice_id = new_id()
    notice = {"id": str(notice_id), "message": message, "createdAt": clock.instant_text(clock.now())}
    async with once.transaction(db) as session:
        await outbox.enqueue(session, "system.notice", notice_id, by=by, after=notice)
        await once.keep(session, notice)
    return notice
