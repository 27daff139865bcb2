"""Starting before the database, stopping under load."""

import asyncio
import time
from collections import Counter

import asyncpg
import httpx
import pytest

from holdfast.core.ids import new_id
from support.crashes import LONGEST_ANSWER, Postgres, make_ground, until, until_ready
from support.servers import ServerProcess

pytestmark = pytest.mark.serial


async def test_a_service_that_starts_before_its_database_answers_503_and_lives_when_it_comes(
    durable: Postgres, service: ServerProcess
) -> None:
    durable.kill()
    await asyncio.to_thread(service.start, wait=0)
    await asyncio.to_thread(service.wait_until_ready, 20.0, "/livez")
    async with httpx.AsyncClient(base_url=service.url, timeout=20) as client:
        begun = time.monotonic()
        ready, made, login = await asyncio.gather(
            client.get("/readyz"),
            client.post("/dummyLogin", json={"role": "user"}),
            client.post("/login", json={"email": "a@example.com", "password": "p"}),
        )
        assert [answer.status_code for answer in (ready, made, login)] == [503, 503, 503]
        assert all(answer.headers["content-type"] == "application/problem+json" for answer in (ready, made, login))
        assert all(answer.headers["retry-after"].isdigit() for answer in (ready, made, login))
        assert time.monotonic() - begun < LONGEST_ANSWER
        await asyncio.to_thread(durable.start_again)
        assert await until_ready(service, 5.0) < 5.0
        assert (await client.post("/dummyLogin", json={"role": "user"})).status_code == 200
    assert service.process is not None
    assert service.process.poll() is None


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "a connection each"])
async def test_sigterm_under_load_cuts_nothing_that_was_accepted(
    durable: Postgres, service: ServerProcess, keep_alive: bool
) -> None:
    """Who gets no answer has had no effect; everybody else gets a whole one; the process ends quickly, with 0."""
    service.start()
    ground = await make_ground(durable.url, service.url, people=12, days=10)
    headers = {} if keep_alive else {"Connection": "close"}
    told: Counter[str] = Counter()
    acknowledged: dict[str, str] = {}
    unanswered: set[str] = set()
    ended = asyncio.Event()

    async def load(number: int) -> None:
        user = ground.people[number]
        slots = iter(ground.slots[number :: len(ground.people)])
        async with httpx.AsyncClient(base_url=service.url, timeout=20, headers={**user.headers, **headers}) as client:
            while not ended.is_set():
                title = str(new_id())
                try:
                    answer = await client.post("/bookings", json={"slotId": next(slots, ground.slots[0]), "title": title})
                except httpx.TransportError as error:
                    told[type(error).__name__] += 1
                    unanswered.add(title)
                    return
                told[str(answer.status_code)] += 1
                if answer.status_code == 201:
                    # Whole: its length is what was announced, its body is the booking.
                    assert int(answer.headers["content-length"]) == len(answer.content)
                    acknowledged[title] = answer.json()["booking"]["id"]

    tasks = [asyncio.create_task(load(number)) for number in range(len(ground.people))]

    async def busy() -> bool:
        return told["201"] >= 30

    await until(busy)
    begun = time.monotonic()
    try:
        code = await asyncio.to_thread(service.stop, 15.0)
    finally:
        ended.set()
    took = time.monotonic() - begun
    await asyncio.gather(*tasks)
    connection = await asyncpg.connect(durable.url)
    try:
        stored = {row["title"]: str(row["id"]) for row in await connection.fetch("SELECT title, id FROM bookings")}
    finally:
        await connection.close()
    cut = {title for title in unanswered if title in stored}
    assert cut == set(), f"{len(cut)} of {len(stored)} bookings were made and not answered: {told}"
    assert stored == acknowledged
    assert set(told) <= {"201", "409", "503", "ConnectError", "ReadError", "RemoteProtocolError"}, told
    assert code == 0
    assert took < 5
