"""A second leg: PostgreSQL 15 where it is found, else 16. It migrates, books, and fifty race there too."""

import asyncio
from collections.abc import Iterator

import pytest

from conftest import make_settings
from support.databases import cloned_database, migrated_template
from support.races import arena_on, codes, crowd, one_winner


@pytest.fixture(scope="session")
def older_template(older_postgres: str) -> Iterator[str]:
    with migrated_template(older_postgres) as name:
        yield name


@pytest.fixture
def older_database(older_postgres: str, older_template: str) -> Iterator[str]:
    with cloned_database(older_postgres, older_template) as url:
        yield url


async def test_the_older_version_is_15_or_16(older_database: str) -> None:
    async with arena_on(make_settings(older_database)) as arena:
        assert int(await arena.eye.fetchval("SHOW server_version_num")) // 10_000 in (15, 16)


async def test_fifty_on_one_slot_of_the_older_version(older_database: str) -> None:
    async with arena_on(make_settings(older_database, pool_size=40)) as arena:
        api = arena.api
        boss, people = await api.admin(), await api.people(50)
        room = await api.room(boss)
        slots = await api.slots(people[0], room)
        answers = await crowd(
            arena,
            arena.holding_writes_to("claims"),
            [lambda person=person: api.book(person, slots[0]) for person in people],
            at_least=20,
        )
        winner = one_winner(answers).json()["booking"]
        owner = next(person for person in people if str(person.id) == winner["userId"])
        moved = await api.post(f"/bookings/{winner['id']}/reschedule", owner, json={"slotId": slots[1]["id"]})
        assert moved.status_code == 200
        period = {"start": slots[0]["start"], "end": slots[3]["end"], "cancelBookings": True}
        closed = await api.post(f"/rooms/{room['id']}/closures", boss, json=period)
        assert closed.status_code == 201, closed.text
        refused = await asyncio.gather(*(api.book(person, slots[1]) for person in people[:5]))
        assert codes(refused) == {"409 CLOSED": 5}
        await arena.check()
        assert await arena.deadlocks() == 0
