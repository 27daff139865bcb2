"""The relay: gives committed messages their number, in order, and hands them to those who follow.

One at a time, over all processes: an advisory lock of the transaction, which a killed or stopped relay does not keep. So
numbers become visible in their order, without a gap, and "greater than the last one" misses nothing, which it would by time
or id: a transaction may commit long after a later one (docs/decisions/0009).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.db.database import Database, fetch_in, retry_aborted
from holdfast.outbox.reading import COLUMNS, StoredMessage, stored_of

#: Told to whoever listens, with the newest number, when messages have got theirs.
CHANNEL = "holdfast_outbox"
#: Messages of one round: its transaction stays short, and a long absence is caught up with in many.
AT_ONCE = 500
#: The advisory lock's key: "outbox" in ASCII.
_LOCK = 0x6F7574626F78

Follower: TypeAlias = Callable[[AsyncSession, Sequence[StoredMessage]], Awaitable[None]]
"""Called in the relay's transaction with messages that have just got their numbers. Quick, and of the database only."""

_WAITING = "SELECT 1 FROM outbox WHERE number IS NULL LIMIT 1"
_TRY = "SELECT pg_try_advisory_xact_lock($1) AS mine"
_READ = f"SELECT {COLUMNS} FROM outbox WHERE number IS NULL ORDER BY occurred_at, id LIMIT $1"  # noqa: S608 - our own columns
_NUMBER = """
UPDATE outbox SET number = n.number
FROM (SELECT m.id, m.position + (SELECT coalesce(max(number), 0) FROM outbox) AS number
      FROM unnest($1::uuid[]) WITH ORDINALITY AS m(id, position)) n
WHERE outbox.id = n.id
RETURNING outbox.id, outbox.number"""
_NOTIFY = "SELECT pg_notify($1, $2)"
_LAG = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(occurred_at)), 0)::float8 AS seconds FROM outbox
WHERE number IS NULL"""


async def relay(db: Database, followers: Sequence[Follower]) -> int:
    """One round: number what is there, at most `AT_ONCE`, and hand it on; returns how many. Raises Busy.

    Numbers, and what the followers write, are committed together: each message reaches each follower exactly once.
    """
    if not await db.fetch(_WAITING):
        return 0
    return await _round(db, followers)


@retry_aborted
async def _round(db: Database, followers: Sequence[Follower]) -> int:
    async with db.transaction() as session:
        # A statement of its own: what is read next must be seen after the lock.
        if not (await fetch_in(session, _TRY, _LOCK))[0]["mine"]:
            return 0
        rows = await fetch_in(session, _READ, AT_ONCE)
        if not rows:
            return 0
        numbered = await fetch_in(session, _NUMBER, [row["id"] for row in rows])
        numbers = {row["id"]: row["number"] for row in numbered}
        stored = [stored_of(row, number=numbers[row["id"]]) for row in rows]
        for follow in followers:
            await follow(session, stored)
        await fetch_in(session, _NOTIFY, CHANNEL, str(stored[-1].number))
    return len(stored)


async def lag_seconds(db: Database) -> float:
    """How long the oldest committed message has waited for its number."""
    seconds: float = (await db.fetch(_LAG))[0]["seconds"]
    return seconds
