"""The worst minute of a sale: five hundred people, each on a connection of their own, ask a real server for one slot at once."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from support.api import WINDOW, Person, tomorrow
from support.crashes import make_person
from support.races import broken_invariants
from support.servers import ServerProcess, served

CROWD = 500
#: What a lock is waited for at the most (`db/database.py`); nobody's whole answer may take longer.
LOCK_SECONDS = 2.0


@dataclass(frozen=True)
class Told:
    """One person's answer: what, and after how many seconds since everybody asked."""

    status: int
    body: dict[str, Any]
    seconds: float

    @property
    def code(self) -> str:
        return f"{self.status} {self.body['error']['code']}" if "error" in self.body else str(self.status)


async def _everybody_asks(server: ServerProcess, people: list[Person], slot: str) -> list[Told]:
    """All connections are open and all requests written but for their last byte; then everybody sends that."""
    ready, go = asyncio.Semaphore(0), asyncio.Event()
    asked = 0.0

    async def one(person: Person) -> Told:
        content = json.dumps({"slotId": slot}).encode()
        head = (
            "POST /bookings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {person.token}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(head.encode() + content[:-1])
            await writer.drain()
            ready.release()
            await go.wait()
            writer.write(content[-1:])
            answer = await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()
            await writer.wait_closed()
        _, _, body = answer.partition(b"\r\n\r\n")
        return Told(int(answer[9:12]), json.loads(body), time.monotonic() - asked)

    tasks = [asyncio.ensure_future(one(person)) for person in people]
    for _ in people:
        await asyncio.wait_for(ready.acquire(), 30)
    asked = time.monotonic()
    go.set()
    return list(await asyncio.gather(*tasks))


async def _slots(server: ServerProcess, boss: Person, room: str) -> list[str]:
    async with httpx.AsyncClient(base_url=server.url, headers=boss.headers) as client:
        listed = await client.get(f"/rooms/{room}/slots", params={"date": tomorrow()})
        return [slot["id"] for slot in listed.json()["slots"]]


async def _room(server: ServerProcess, boss: Person) -> str:
    async with httpx.AsyncClient(base_url=server.url, headers=boss.headers) as client:
        room: str = (await client.post("/rooms", json={"name": "Hall"})).json()["room"]["id"]
        assert (await client.put(f"/rooms/{room}/schedule", json=WINDOW)).status_code == 200
        return room


@pytest.fixture
async def eye(own_database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(own_database)
    yield connection
    await connection.close()


@pytest.fixture
def server(own_database: str, tmp_path: Path) -> Iterator[ServerProcess]:
    with served({"HOLDFAST_DATABASE_URL": own_database}, log=tmp_path / "service.log") as running:
        yield running


async def test_five_hundred_on_one_slot_over_http_are_one_booking_and_499_clean_refusals(
    server: ServerProcess, eye: asyncpg.Connection
) -> None:
    boss, *people = [await make_person(eye, "user" if number else "admin") for number in range(CROWD + 1)]
    room = await _room(server, boss)
    slot, *others = await _slots(server, boss, room)
    answers = await _everybody_asks(server, people, slot)
    assert Counter(answer.code for answer in answers) == {"201": 1, "409 SLOT_ALREADY_BOOKED": CROWD - 1}
    (won,) = [answer.body["booking"] for answer in answers if answer.status == 201]
    assert won["slotId"] == slot
    assert max(answer.seconds for answer in answers) < LOCK_SECONDS
    assert await _slots(server, boss, room) == others
    assert await eye.fetchval("SELECT count(*) FROM bookings") == 1
    assert await eye.fetchval("SELECT count(*) FROM claims") == 1
    assert await eye.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert not await broken_invariants(eye)


async def test_control_without_claims_the_same_crowd_is_booked_many_times(server: ServerProcess, eye: asyncpg.Connection) -> None:
    """The claims are the guard: where each is swallowed as it is written, neither the look nor the constraint sees one."""
    await eye.execute("CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    await eye.execute("CREATE TRIGGER swallow BEFORE INSERT ON claims FOR EACH ROW EXECUTE FUNCTION swallow()")
    boss, *people = [await make_person(eye, "user" if number else "admin") for number in range(51)]
    slot, *_ = await _slots(server, boss, await _room(server, boss))
    # Twice: all of a crowd may travel together, and one transaction knows what it gives.
    answers = [*await _everybody_asks(server, people[:25], slot), *await _everybody_asks(server, people[25:], slot)]
    assert Counter(answer.status for answer in answers)[201] > 1
    assert "two active bookings have overlapping units" in await broken_invariants(eye)
