"""A process that relays and sends, and is killed at the step that it was told: `python webhook_worker.py <url> <step>`.

Leases are short, so that whoever comes after it need not wait for a minute.
"""

import asyncio
import dataclasses
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from holdfast import outbox
from holdfast.adapters.webhooks import HttpSender
from holdfast.db.database import Database
from holdfast.jobs import Runner
from holdfast.webhooks import queries, service
from holdfast.webhooks.rules import Retries
from holdfast.webhooks.service import delivering

#: Where it may die; the last is nowhere.
STEPS = [
    "before the relay commits",
    "after the relay",
    "before the attempt begins",
    "before the request",
    "after the request",
    "before the result is committed",
    "after the result",
    "nowhere",
]
LEASE = timedelta(milliseconds=400)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(work: Callable[..., Awaitable[Any]], *, before: bool) -> Callable[..., Awaitable[Any]]:
    async def done(*arguments: Any, **named: Any) -> Any:
        if before:
            die()
        result = await work(*arguments, **named)
        die()
        return result

    return done


async def main(url: str, step: str) -> None:
    db = Database(url, pool_size=8)
    queries.ATTEMPT_LEASE = LEASE  # type: ignore[misc]
    relay, follow = outbox.relay, service.follow
    if step == "before the relay commits":
        follow = dying(service.follow, before=False)  # type: ignore[assignment]
    elif step == "after the relay":
        relay = dying_after_some(outbox.relay)  # type: ignore[assignment]
    elif step == "before the attempt begins":
        delivering.take = dying(delivering.take, before=True)  # type: ignore[assignment]
    elif step in {"before the request", "after the request"}:
        delivering.send = dying(delivering.send, before=step.startswith("before"))  # type: ignore[assignment]
    elif step == "before the result is committed":
        queries.next_of = dying(queries.next_of, before=True)  # type: ignore[assignment]
    elif step == "after the result":
        delivering.end = dying(delivering.end, before=False)  # type: ignore[assignment]
    retries = Retries((timedelta(milliseconds=20),) * 50, timedelta(hours=1))
    kinds = [
        dataclasses.replace(kind, lease=LEASE, pauses=(timedelta(milliseconds=20),) * 50)
        for kind in service.kinds(db, HttpSender(loopback=True), retries=retries)
    ]
    runner = Runner(db, kinds)
    working = asyncio.create_task(runner.run())
    while not working.done():
        await relay(db, [follow])
        runner.wake()
        await asyncio.sleep(0.01)


def dying_after_some(relay: Callable[..., Awaitable[int]]) -> Callable[..., Awaitable[int]]:
    async def done(*arguments: Any) -> int:
        told = await relay(*arguments)
        if told:
            die()
        return told

    return done


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
