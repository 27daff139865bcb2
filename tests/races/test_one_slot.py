"""Many on one slot: one gets it, everybody else is told so, at once and cleanly."""

import asyncio
import time

import pytest

from holdfast.bookings.rules import deciding
from holdfast.db import locks
from support.api import Api, Person
from support.races import Arena, codes, crowd, one_winner, statuses


async def _people_and_slots(api: Api, boss: Person, count: int) -> tuple[list[Person], list[dict[str, str]]]:
    room = await api.room(boss)
    people = await api.people(count)
    return people, await api.slots(people[0], room)


async def test_fifty_users_on_one_slot_get_one_booking_and_49_clean_refusals(arena: Arena, boss: Person) -> None:
    people, (slot, *_) = await _people_and_slots(arena.api, boss, 50)
    answers = await crowd(
        arena,
        arena.holding_writes_to("claims"),
        [lambda person=person: arena.api.book(person, slot) for person in people],
        at_least=20,
    )
    won = one_winner(answers)
    assert won.json()["booking"]["slotId"] == slot["id"]
    assert await arena.eye.fetchval("SELECT count(*) FROM bookings") == 1
    assert await arena.eye.fetchval("SELECT count(*) FROM claims") == 1
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_fifty_with_idempotency_keys_of_their_own_get_one_booking(arena: Arena, boss: Person) -> None:
    people, (slot, *_) = await _people_and_slots(arena.api, boss, 50)
    answers = await crowd(
        arena,
        arena.holding_writes_to("claims"),
        [lambda p=person: arena.api.book(p, slot, headers={"Idempotency-Key": f"key-{p.id}"}) for person in people],
        at_least=20,
    )
    one_winner(answers)
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_a_crowd_larger_than_the_pool_is_answered_too(arena: Arena, boss: Person) -> None:
    people, (slot, *_) = await _people_and_slots(arena.api, boss, 100)
    begun = time.monotonic()
    answers = await asyncio.gather(*(arena.api.book(person, slot) for person in people))
    one_winner(answers)
    assert time.monotonic() - begun < 5
    await arena.check()


async def test_twenty_users_on_twenty_slots_are_twenty_successes(arena: Arena, boss: Person) -> None:
    rooms = [await arena.api.room(boss) for _ in range(4)]
    people = await arena.api.people(20)
    free = [slot for room in rooms for slot in (await arena.api.slots(people[0], room))[:5]]
    answers = await asyncio.gather(*(arena.api.book(person, slot) for person, slot in zip(people, free, strict=True)))
    assert statuses(answers) == {201: 20}
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_neighbours_in_one_room_never_refuse_each_other(arena: Arena, boss: Person) -> None:
    people, free = await _people_and_slots(arena.api, boss, 16)
    answers = await asyncio.gather(*(arena.api.book(person, slot) for person, slot in zip(people, free, strict=True)))
    assert statuses(answers) == {201: 16}
    await arena.check()


async def test_two_rooms_never_wait_for_each_other(arena: Arena, boss: Person) -> None:
    here, there = await arena.api.room(boss), await arena.api.room(boss)
    first, second = await arena.api.people(2)
    (slot, *_), (other, *_) = await arena.api.slots(first, here), await arena.api.slots(first, there)
    async with arena.holding_room(here):
        waits = asyncio.ensure_future(arena.api.book(first, slot))
        await arena.waiting(1)
        assert (await arena.api.book(second, other)).status_code == 201
        assert not waits.done()
    assert (await waits).status_code == 201


async def test_a_lock_that_cannot_be_had_is_busy_and_no_hang(arena: Arena, boss: Person) -> None:
    people, (slot, *_) = await _people_and_slots(arena.api, boss, 1)
    begun = time.monotonic()
    async with arena.parked("LOCK TABLE claims IN SHARE MODE"):
        answer = await arena.api.book(people[0], slot)
    assert codes([answer]) == {"503 BUSY": 1}
    assert answer.headers["retry-after"].isdigit()
    assert 1 < time.monotonic() - begun < 4
    assert (await arena.api.book(people[0], slot)).status_code == 201
    await arena.check()


@pytest.mark.parametrize("constraint", [True, False], ids=["constraint", "no constraint"])
@pytest.mark.parametrize("look", [True, False], ids=["look", "no look"])
@pytest.mark.parametrize("lock", [True, False], ids=["lock", "no lock"])
async def test_control_without_its_guards_the_same_crowd_books_twice(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, lock: bool, look: bool, constraint: bool
) -> None:
    """Lock and look together keep the promise, and so does the constraint alone; with neither, everybody is booked."""
    people, (slot, *_) = await _people_and_slots(arena.api, boss, 12)

    async def nothing(*_arguments: object, **_named: object) -> None:
        return

    if not lock:
        for way in ("resources", "resources_by"):
            monkeypatch.setattr(locks, way, nothing)
    if not look:
        monkeypatch.setattr(deciding, "check_bookable", lambda *_arguments, **_named: None)
    if not constraint:
        await arena.eye.execute("ALTER TABLE claims DROP CONSTRAINT claims_never_overlap")
    answers = await crowd(
        arena,
        arena.holding_writes_to("claims"),
        [lambda person=person: arena.api.book(person, slot) for person in people],
        at_least=12,
    )
    if constraint or (lock and look):
        one_winner(answers)
        await arena.check()
    else:
        assert statuses(answers) == {201: 12}
        assert {"two claims of one unit overlap", "two active bookings have overlapping units"} <= set(await arena.broken())


async def test_control_the_counter_of_deadlocks_counts(arena: Arena, boss: Person) -> None:
    here, there = await arena.api.room(boss), await arena.api.room(boss)
    async with arena.holding_room(here) as one, arena.holding_room(there) as other:
        lock = "SELECT FROM resources WHERE id = $1 FOR NO KEY UPDATE"
        results = await asyncio.gather(one.fetch(lock, there["id"]), other.fetch(lock, here["id"]), return_exceptions=True)
    assert [type(result).__name__ for result in results if isinstance(result, Exception)] == ["DeadlockDetectedError"]
    assert await arena.deadlocks() == 1
