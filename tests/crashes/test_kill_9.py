"""`kill -9` of the service and of PostgreSQL amid traffic: nothing acknowledged is lost, nothing is doubled."""

import asyncio
import random
import signal
import time
from pathlib import Path

import asyncpg
import httpx
import pytest

from support.crashes import (
    KILLS,
    LONGEST_ANSWER,
    Ledger,
    Postgres,
    begin,
    durable_postgres,
    make_ground,
    reckon,
    told,
    until_ready,
)
from support.servers import ServerProcess

pytestmark = pytest.mark.serial

#: Sixteen slots each: a kill may leave a booking per writer whose answer was lost, and that nobody knows to cancel.
DAYS = 6 + KILLS // 2


async def test_killing_the_service_loses_and_doubles_nothing(durable: Postgres, service: ServerProcess) -> None:
    service.start()
    ground = await make_ground(durable.url, service.url, people=8, days=DAYS)
    rng = random.Random(20261120)
    torture = begin(ground, service.url, seed=1)
    for number in range(1, KILLS + 1):
        await torture.acknowledged(rng.randrange(5, 40))
        await asyncio.to_thread(service.kill)
        await asyncio.to_thread(service.start)
        told(f"service killed {number}/{KILLS}: {torture.ledger.acknowledged} acknowledged, {dict(torture.ledger.told)}")
    await torture.acknowledged(10)
    await torture.stop()
    found = await reckon(durable.url, torture.ledger)
    told(str(found))
    assert found.clean, str(found)
    assert torture.ledger.unequal == []
    assert torture.ledger.told["500"] == 0, torture.ledger.told
    assert found.acknowledged >= 5 * KILLS


async def test_killing_postgresql_loses_and_doubles_nothing(durable: Postgres, service: ServerProcess) -> None:
    """Postmaster alone, postmaster and children, immediate shutdown: in turns. The service lives through all of it."""
    service.start()
    ground = await make_ground(durable.url, service.url, people=8, days=DAYS)
    rng = random.Random(20261121)
    torture = begin(ground, service.url, seed=2)
    away: list[int] = []
    slowest_answer = slowest_return = 0.0
    async with httpx.AsyncClient(base_url=service.url, timeout=20, headers=ground.people[0].headers) as client:
        for number in range(1, KILLS + 1):
            await torture.acknowledged(rng.randrange(5, 40))
            how = number % 3
            durable.kill(signal.SIGQUIT if how == 2 else signal.SIGKILL, children_too=how == 1)
            await _gone(durable.port)
            begun = time.monotonic()
            answers = await asyncio.gather(
                client.get("/readyz"),
                client.get(f"/rooms/{ground.room}/slots", params={"date": "2031-01-01"}),
                client.post("/bookings", json={"slotId": ground.slots[0], "title": "away"}),
                client.get("/bookings/my"),
            )
            slowest_answer = max(slowest_answer, time.monotonic() - begun)
            away += [answer.status_code for answer in answers]
            assert (await client.get("/livez")).status_code == 200
            await asyncio.to_thread(durable.start_again)
            slowest_return = max(slowest_return, await until_ready(service, 5.0))
            told(f"PostgreSQL killed {number}/{KILLS}: {torture.ledger.acknowledged} acknowledged, {dict(torture.ledger.told)}")
        await torture.acknowledged(10)
    await torture.stop()
    found = await reckon(durable.url, torture.ledger)
    told(f"{found}; slowest answer {slowest_answer:.2f} s, slowest return {slowest_return:.2f} s")
    assert found.clean, str(found)
    assert torture.ledger.unequal == []
    assert set(away) == {503}, away
    assert torture.ledger.told["500"] == 0, torture.ledger.told
    assert slowest_answer < LONGEST_ANSWER
    assert torture.ledger.longest < LONGEST_ANSWER
    assert found.acknowledged >= 5 * KILLS


async def _gone(port: int) -> None:
    """Return when nobody listens there any more."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)
    raise AssertionError("PostgreSQL did not end")


async def test_control_a_postgresql_that_acknowledges_early_loses_bookings(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """With `synchronous_commit` off the same reckoning finds losses: it would find them above."""
    settings = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "64MB"}
    with durable_postgres(tmp_path_factory.mktemp("early"), **settings) as postgres:
        service = ServerProcess({"HOLDFAST_DATABASE_URL": postgres.url}, log=tmp_path / "service.log")
        service.start()
        try:
            ground = await make_ground(postgres.url, service.url, people=4)
            # What went before is safe: the ground must not be what is lost.
            connection = await asyncpg.connect(postgres.url)
            await connection.execute("CHECKPOINT")
            await connection.close()
            lost = 0
            for attempt in range(5):
                torture = begin(ground, service.url, seed=10 + attempt)
                await torture.acknowledged(25)
                postgres.kill()
                await torture.stop()
                await asyncio.to_thread(postgres.start_again)
                lost = len((await reckon(postgres.url, torture.ledger)).lost)
                if lost:
                    break
                await until_ready(service, 5.0)
        finally:
            service.kill()
    assert lost > 0


async def test_control_the_reckoning_sees_a_loss_and_a_double(durable: Postgres, service: ServerProcess) -> None:
    service.start()
    ground = await make_ground(durable.url, service.url, people=3)
    torture = begin(ground, service.url, seed=3)
    await torture.acknowledged(20)
    await torture.stop()
    assert (await reckon(durable.url, torture.ledger)).clean
    connection = await asyncpg.connect(durable.url)
    try:
        active = await connection.fetch("SELECT id FROM bookings WHERE status = 'active' ORDER BY id LIMIT 2")
        await connection.execute("DELETE FROM claims WHERE booking_id = $1", active[0]["id"])
        await connection.execute(
            "UPDATE bookings SET title = (SELECT title FROM bookings WHERE id = $1) WHERE id = $2",
            active[0]["id"],
            active[1]["id"],
        )
    finally:
        await connection.close()
    found = await reckon(durable.url, torture.ledger)
    assert (len(found.lost), len(found.doubled)) == (1, 1)
    assert set(found.broken) == {
        "a unit of an active booking has not exactly one claim",
        "an active booking has more claims than units, or no unit",
    }
    assert not (await reckon(durable.url, Ledger())).clean
