"""Deleting what is over, in steps: a single DELETE of a million rows would hold its locks, and the vacuum, for minutes."""

from holdfast.db.database import Database, fetch_in, retry_aborted

#: Rows of one step, which is a transaction of its own.
STEP = 1_000


async def delete_in_steps(db: Database, statement: str, *arguments: object) -> int:
    """Run a DELETE that ends in `LIMIT $1 ... RETURNING` something until it finds nothing; returns how many rows went.

    `arguments` are $2 and so on. Raises Busy; what is deleted by then stays deleted.
    """
    gone = 0
    while True:
        step = await _step(db, statement, *arguments)
        gone += step
        if step < STEP:
            return gone


@retry_aborted
async def _step(db: Database, statement: str, *arguments: object) -> int:
    async with db.transaction() as session:
        return len(await fetch_in(session, statement, STEP, *arguments))
