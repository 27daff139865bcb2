"""Limits of a user hold however many requests come at once, from the user or from the front desk."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from holdfast.db import locks
from support.api import Api, Person
from support.races import Arena, codes, crowd, statuses


async def _rooms(api: Api, boss: Person, count: int, **policy: Any) -> list[dict[str, Any]]:
    return [await api.room(boss, policy=policy) for _ in range(count)]


async def _all_active(_session: object, ids: Iterable[UUID]) -> set[UUID]:
    """As `locks.users` answers, without the lock."""
    return set(ids)


async def _first_slots(api: Api, user: Person, rooms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [(await api.slots(user, room))[n] for n, room in enumerate(rooms)]


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: no lock on the user"])
async def test_twenty_parallel_bookings_of_one_user_stop_at_the_limit_of_five(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    api, user = arena.api, await arena.api.person()
    rooms = await _rooms(api, boss, 20, maxActivePerUser=5)
    slots = [(await api.slots(user, room))[n % 16] for n, room in enumerate(rooms)]
    if not guarded:
        monkeypatch.setattr(locks, "users", _all_active)
    # Twenty rooms: the rooms' locks keep nobody apart. All have counted, or wait to count, when writing begins.
    answers = await crowd(
        arena,
        arena.holding_writes_to("bookings"),
        [lambda slot=slot: api.book(user, slot) for slot in slots],
        at_least=20,
    )
    if guarded:
        assert codes(answers) == {"201": 5, "409 TOO_MANY_BOOKINGS": 15}
        await arena.check()
        assert await arena.deadlocks() == 0
    else:
        assert statuses(answers) == {201: 20}
        assert set(await arena.broken()) == {"somebody is over a limit"}


async def test_the_front_desk_and_the_user_share_one_limit(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    rooms = await _rooms(api, boss, 16, maxActivePerUser=5)
    slots = await _first_slots(api, user, rooms)
    answers = await asyncio.gather(
        *(
            api.book(user, slot) if n % 2 else api.post(f"/users/{user.id}/bookings", boss, json={"slotId": slot["id"]})
            for n, slot in enumerate(slots)
        )
    )
    assert codes(answers) == {"201": 5, "409 TOO_MANY_BOOKINGS": 11}
    await arena.check()


async def test_a_limit_of_one_room_holds_and_is_that_rooms_own(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    here, there = await _rooms(api, boss, 2, maxActivePerUserHere=2)
    wanted = [*(await api.slots(user, here))[:8], *(await api.slots(user, there))[8:]]
    answers = await asyncio.gather(*(api.book(user, slot) for slot in wanted))
    assert codes(answers) == {"201": 4, "409 ALREADY_BOOKED_HERE": 12}
    await arena.check()


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: no lock on the user"])
async def test_a_user_cannot_be_in_ten_rooms_at_the_same_time(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    api, user = arena.api, await arena.api.person()
    rooms = await _rooms(api, boss, 10, overlapsAllowed=False)
    slots = [(await api.slots(user, room))[3] for room in rooms]
    if not guarded:
        monkeypatch.setattr(locks, "users", _all_active)
    answers = await crowd(
        arena,
        arena.holding_writes_to("bookings"),
        [lambda slot=slot: api.book(user, slot) for slot in slots],
        at_least=10,
    )
    assert codes(answers) == ({"201": 1, "409 OVERLAPS_YOUR_BOOKING": 9} if guarded else {"201": 10})
    await arena.check()


async def test_neighbouring_times_are_no_overlap(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    rooms = await _rooms(api, boss, 10, overlapsAllowed=False)
    answers = await asyncio.gather(*(api.book(user, slot) for slot in await _first_slots(api, user, rooms)))
    assert statuses(answers) == {201: 10}


async def test_one_users_limit_is_nobody_elses(arena: Arena, boss: Person) -> None:
    api = arena.api
    people = await api.people(10)
    rooms = await _rooms(api, boss, 10, maxActivePerUser=1)
    slots = await _first_slots(api, people[0], rooms)
    answers = await asyncio.gather(
        *(api.book(person, slot) for person, slot in zip(people, slots, strict=True)),
    )
    assert statuses(answers) == {201: 10}


async def test_moving_at_the_limit_counts_the_moved_one_once(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    room, *others = await _rooms(api, boss, 6, maxActivePerUser=2)
    slots = await api.slots(user, room)
    first, second = await api.booked(user, slots[0]), await api.booked(user, slots[1])
    wanted = [(await api.slots(user, other))[9] for other in others]
    answers = await asyncio.gather(
        *(
            api.post(f"/bookings/{booking['id']}/reschedule", user, json={"slotId": slot["id"]})
            for booking, slot in ((first, slots[4]), (second, slots[5]))
        ),
        *(api.book(user, slot) for slot in wanted),
    )
    assert codes(answers) == {"200": 2, "409 TOO_MANY_BOOKINGS": 5}
    await arena.check()


async def test_a_cancel_in_a_crowd_at_the_limit_lets_at_most_one_in(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    rooms = await _rooms(api, boss, 8, maxActivePerUser=2)
    slots = await _first_slots(api, user, rooms)
    first = await api.booked(user, slots[0])
    await api.booked(user, slots[1])
    cancelled, *answers = await asyncio.gather(
        api.post(f"/bookings/{first['id']}/cancel", user), *(api.book(user, slot) for slot in slots[2:])
    )
    assert cancelled.status_code == 200
    assert set(codes(answers)) <= {"201", "409 TOO_MANY_BOOKINGS"}
    assert statuses(answers)[201] <= 1
    await arena.check()


async def test_live_holds_count_and_lapsed_ones_do_not(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    rooms = await _rooms(api, boss, 4, maxActivePerUser=2)
    slots = await _first_slots(api, user, rooms)
    await arena.hold(user, slots[0], lasts=timedelta(hours=1))
    await arena.hold(user, slots[1], lasts=-timedelta(seconds=1))
    answers = [await api.book(user, slot) for slot in slots[2:]]
    assert codes(answers) == {"201": 1, "409 TOO_MANY_BOOKINGS": 1}
