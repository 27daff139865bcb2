"""Reminders: said once for each booking and start, by whichever worker is first."""

from holdfast import outbox
from holdfast.bookings import queries
from holdfast.core.callers import SYSTEM
from holdfast.db.database import Database, retry_aborted
from holdfast.outbox import Message

_AT_ONCE = 500


async def remind_all(db: Database) -> int:
    """Say of every booking whose time has come that it begins soon (`booking.reminder`); returns of how many.

    `reminderMinutes` before the start, the longest of its resources' policies; 0: never. Whoever books later than that is
    reminded at once. Nothing is planned ahead, so nothing has to be moved, cancelled or found again after a restart: a booking
    that was moved has another start than the one that was reminded of, and one that is cancelled is not looked at.
    """
    reminded = 0
    while True:
        found = await _remind(db)
        reminded += found
        if found < _AT_ONCE:
            return reminded


@retry_aborted
async def _remind(db: Database) -> int:
    async with db.transaction() as session:
        ids = await queries.mark_reminded(session, limit=_AT_ONCE)
        if ids:
            bookings = await queries.find_bookings(session, ids)
            await outbox.enqueue_all(
                session, [Message("booking.reminder", booking.id, SYSTEM, after=booking.as_json()) for booking in bookings]
            )
    return len(ids)
