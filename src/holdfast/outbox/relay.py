"""The relay: gives committed messages their number, in order, and hands them to those who follow.

One at a time, over all processes: an advisory lock of the transaction, which a killed or stopped relay does not keep. So
numbers become visible in their order, without a gap, and "greater than the last one" misses nothing, which it would by time
or id: a transaction may commit long after a later one (docs/decisions/0009).
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeAlias

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core import metrics, tracing
from holdfast.core.errors import Busy
from holdfast.db.database import Database, fetch_in, retry_aborted
from holdfast.outbox.reading import COLUMNS, StoredMessage, stored_of

#: Told to whoever listens, with the newest number, when messages have got theirs.
CHANNEL = "holdfast_outbox"
#: Messages of one round: its transaction stays short, and a long absence is caught up with in many.
AT_ONCE = 500
#: And of the round after one that took too long.
A_FEW = 10
#: A relay that has its turn for so long was stopped in it.
STUCK_AFTER = timedelta(seconds=15)
#: The advisory lock's key: "outbox" in ASCII.
_LOCK = 0x6F7574626F78

log = structlog.get_logger(__name__)

Follower: TypeAlias = Callable[[AsyncSession, Sequence[StoredMessage]], Awaitable[None]]
"""Called in the relay's transaction with messages that have just got their numbers. Quick, and of the database only."""

#: In order: so the index of those without a number is the one way that makes sense, and not to read all the others.
_WAITING = """
SELECT occurred_at < clock_timestamp() - $1::interval AS late FROM outbox WHERE number IS NULL ORDER BY occurred_at LIMIT 1"""
_TRY = "SELECT pg_try_advisory_xact_lock($1) AS mine"
_READ = f"SELECT {COLUMNS} FROM outbox WHERE number IS NULL ORDER BY occurred_at, id LIMIT $1"  # noqa: S608 - our own columns
_NUMBER = """
UPDATE outbox SET number = n.number
FROM (SELECT m.id, m.position + (SELECT coalesce(max(number), 0) FROM outbox) AS number
      FROM unnest($1::uuid[]) WITH ORDINALITY AS m(id, position)) n
WHERE outbox.id = n.id
RETURNING outbox.id, outbox.number"""
#: A process that was stopped in the midst of a statement's messages is not "idle in transaction" to the server, which then waits
#: for it for ever (seen: between Parse and Bind). Its transaction never lasts so long otherwise; ended, it is rolled back.
_END_STUCK = """
SELECT a.pid, pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database() AND l.database = a.datid
  AND (l.classid::bigint << 32 | l.objid::bigint) = $1 AND a.xact_start < clock_timestamp() - $2::interval"""
_NOTIFY = "SELECT pg_notify($1, $2)"
_LAG = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(occurred_at)), 0)::float8 AS seconds FROM outbox
WHERE number IS NULL"""


async def relay(db: Database, followers: Sequence[Follower]) -> int:
    """One round: number what is there, at most `AT_ONCE`, and hand it on; returns how many. Raises Busy.

    Numbers, and what the followers write, are committed together: each message reaches each follower exactly once.
    """
    waiting = await db.fetch(_WAITING, STUCK_AFTER)
    if not waiting:
        return 0
    try:
        told = await _round(db, followers, AT_ONCE)
    except Busy:
        # Perhaps too much for one transaction's time: asked for as much again, it would stand still for ever.
        told = await _round(db, followers, A_FEW)
    if not told and waiting[0]["late"]:
        for row in await db.fetch(_END_STUCK, _LOCK, STUCK_AFTER):
            log.warning("relay.stuck_one_ended", pid=row["pid"])
    metrics.relayed(told)
    return told


@retry_aborted
async def _round(db: Database, followers: Sequence[Follower], at_once: int) -> int:
    async with db.transaction() as session:
        # A statement of its own: what is read next must be seen after the lock.
        if not (await fetch_in(session, _TRY, _LOCK))[0]["mine"]:
            return 0
        rows = await fetch_in(session, _READ, at_once)
        if not rows:
            return 0
        numbered = await fetch_in(session, _NUMBER, [row["id"] for row in rows])
        numbers = {row["id"]: row["number"] for row in numbered}
        stored = [stored_of(row, number=numbers[row["id"]]) for row in rows]
        for follow in followers:
            await follow(session, stored)
        await fetch_in(session, _NOTIFY, CHANNEL, str(stored[-1].number))
    for one in stored:
        # When it was heard of, in the trace of the request that it came from.
        with tracing.span(f"relay {one.type}", one.trace, number=one.number):
            pass
    return len(stored)


async def lag_seconds(db: Database) -> float:
    """How long the oldest committed message has waited for its number."""
    seconds: float = (await db.fetch(_LAG))[0]["seconds"]
    return seconds
