"""`kill -9` of the worker between any two steps of a delivery: at least once, the same id, in order; nothing is lost or stuck."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from holdfast import outbox
from holdfast.adapters.webhooks import new_secret
from holdfast.core.callers import SYSTEM
from holdfast.core.ids import new_id
from holdfast.db.database import Database
from support import webhook_worker
from support.crashes import until
from support.sinks import sink
from support.webhook_worker import STEPS

BOOKINGS, CHANGES = 3, 4


@pytest.fixture
async def db(own_database: str) -> AsyncIterator[Database]:
    made = Database(own_database, pool_size=4)
    yield made
    await made.close()


@contextmanager
def worker(url: str, step: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, webhook_worker.__file__, url, step], stdout=output, stderr=output)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(10)


async def _changed(db: Database) -> None:
    """Bookings, changed one after the other."""
    subjects = [new_id() for _ in range(BOOKINGS)]
    for place in range(CHANGES):
        async with db.transaction() as session:
            for subject in subjects:
                shape = {"id": str(subject), "kind": "event", "eventId": str(subject), "seats": [], "title": str(place)}
                type_ = "booking.updated" if place else "booking.created"
                await outbox.enqueue(session, type_, subject, by=SYSTEM, before=shape if place else None, after=shape)


async def _hooked(url: str, target: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO webhooks (id, url, types, secret) VALUES ($1, $2, $3, $4)",
        new_id(),
        target,
        ["booking.created", "booking.updated"],
        new_secret(),
    )
    await connection.close()


@pytest.mark.parametrize("step", STEPS[:-1])
async def test_a_worker_killed_at_a_step_loses_nothing_and_breaks_no_order(
    own_database: str, db: Database, tmp_path: Path, step: str
) -> None:
    log = tmp_path / "worker.log"

    async def all_delivered() -> bool:
        rows = await db.fetch("SELECT status FROM webhook_deliveries")
        return len(rows) == BOOKINGS * CHANGES and all(row["status"] == "delivered" for row in rows)

    async with sink() as here:
        await _hooked(own_database, here.url)
        await _changed(db)
        # What the relay has told once, it has not to tell again.
        for _ in range(1 if step == "after the relay" else 2):
            with worker(own_database, step, log) as dying:
                assert await asyncio.to_thread(dying.wait, 60) == -signal.SIGKILL, log.read_text()[-2000:]
        with worker(own_database, "nowhere", log) as living:
            try:
                await until(all_delivered, 60)
            except TimeoutError:
                raise AssertionError(log.read_text()[-2000:]) from None
            assert living.poll() is None
    first: dict[str, list[str]] = {}
    bodies: dict[str, set[bytes]] = {}
    for one in here.requests:
        bodies.setdefault(one.id, set()).add(one.body)
        if len(bodies[one.id]) == 1:
            booking = one.json["data"]["booking"]
            titles = first.setdefault(booking["id"], [])
            if booking["title"] not in titles:
                titles.append(booking["title"])
    assert len(bodies) == BOOKINGS * CHANGES
    assert all(len(same) == 1 for same in bodies.values())
    assert list(first.values()) == [[str(place) for place in range(CHANGES)]] * BOOKINGS
    if step in {"after the request", "before the result is committed"}:
        # The step is one at which a delivery is made twice: else this kills at no interesting moment.
        assert len(here.requests) > BOOKINGS * CHANGES
