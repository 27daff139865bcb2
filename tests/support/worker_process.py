"""A worker as a program: relays, makes a job of each message, and runs the jobs, until it is killed.

Apart from the tests that start it: it must be there quickly. The handler's effect is outside of the job's own transaction, as
that of a mail or a webhook is.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import jobs, outbox
from holdfast.core.errors import Busy
from holdfast.db.database import Database
from holdfast.jobs import Job, Kind, Runner
from holdfast.outbox import StoredMessage

LEASE = timedelta(seconds=1)


async def follow(session: AsyncSession, messages: Sequence[StoredMessage]) -> None:
    """A job for each message."""
    await jobs.enqueue_all(session, "tell", [(str(one.id), {"message": str(one.id)}, None) for one in messages])


async def work(url: str) -> None:
    """What a worker does, until it is killed."""
    db = Database(url, pool_size=8)
    outside = await asyncpg.create_pool(url, min_size=1, max_size=4, server_settings={"application_name": "outside"})

    async def tell(job: Job) -> None:
        await outside.execute(
            "INSERT INTO effects (message_id, worker) VALUES ($1, $2)", UUID(job.payload["message"]), os.getpid()
        )

    runner = Runner(db, [Kind("tell", tell, pauses=(timedelta(milliseconds=50),) * 1000, lease=LEASE)])
    running = asyncio.create_task(runner.run())
    while not running.done():
        with suppress(Busy):
            if await outbox.relay(db, [follow]):
                runner.wake()
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
