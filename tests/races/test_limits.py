"""Limits of a user hold however many requests come at once, from the user or from the front desk."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from conftest import make_settings
from holdfast.db import locks
from support.api import Api, Person, tomorrow
from support.races import Arena, arena_on, codes, crowd, hour, statuses


async def _rooms(api: Api, boss: Person, count: int, **policy: Any) -> list[dict[str, Any]]:
    return [await api.room(boss, policy=policy) for _ in range(count)]


async def _all_active(_session: object, ids: Iterable[UUID]) -> set[UUID]:
    """As `locks.users` answers, without the lock."""
    return set(ids)


async def _no_lock(*_arguments: object, **_named: object) -> None:
    return


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
        [partial(api.book, user, slot) for slot in slots],
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
        [partial(api.book, user, slot) for slot in slots],
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


# Every limit, every kind, twenty at once


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: no lock on room or user"])
async def test_twenty_parallel_bookings_of_one_room_stop_at_its_own_limit(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    api, user = arena.api, await arena.api.person()
    room = await api.room(boss, policy={"maxActivePerUserHere": 3})
    slots = [*await api.slots(user, room), *await api.slots(user, room, tomorrow(2))][:20]
    if not guarded:
        monkeypatch.setattr(locks, "users", _all_active)
        monkeypatch.setattr(locks, "resources_by", _no_lock)
        monkeypatch.setattr(locks, "resources", _no_lock)
    answers = await crowd(
        arena, arena.holding_writes_to("bookings"), [partial(api.book, user, slot) for slot in slots], at_least=20
    )
    if guarded:
        assert codes(answers) == {"201": 3, "409 ALREADY_BOOKED_HERE": 17}
        await arena.check()
        assert await arena.deadlocks() == 0
    else:
        assert statuses(answers) == {201: 20}
        assert set(await arena.broken()) == {"somebody is over a limit"}


async def test_twenty_who_would_be_in_twenty_places_at_one_time_are_in_one(arena: Arena, boss: Person) -> None:
    """Rooms, hosts and an event, booked, held, and booked for them at the front desk: one diary."""
    api, user = arena.api, await arena.api.person()
    rooms = await _rooms(api, boss, 12, overlapsAllowed=False)
    slots = [next(slot for slot in await api.slots(user, room) if slot["start"] == hour(10)["start"]) for room in rooms]
    hosts = await arena.people(8)
    slots += [(await arena.host(host, 10, policy={"overlapsAllowed": False}))[1][0] for host in hosts]
    answers = await asyncio.gather(
        *(
            api.post("/holds", user, json={"slotId": slot["id"]})
            if n % 3 == 0
            else api.post(f"/users/{user.id}/bookings", boss, json={"slotId": slot["id"]})
            if n % 3 == 1
            else api.book(user, slot)
            for n, slot in enumerate(slots)
        )
    )
    assert codes(answers) == {"201": 1, "409 OVERLAPS_YOUR_BOOKING": 19}
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_ones_own_diary_takes_one_thing_at_a_time(arena: Arena) -> None:
    """A host who may book their own time, and never twice at once: by twenty ways at once."""
    api, ada = arena.api, await arena.api.person()
    policy = {"ownerMayBook": True, "overlapsAllowed": False, "maxActivePerUser": None, "maxActivePerUserHere": None}
    _host, (slot, later) = await arena.host(ada, 10, 11, policy=policy)
    answers = await asyncio.gather(*(api.book(ada, slot) for _ in range(20)))
    assert codes(answers) == {"201": 1, "409 SLOT_ALREADY_BOOKED": 19}
    assert (await api.book(ada, later)).status_code == 201
    await arena.check()


async def test_the_default_limits_of_hosts_hold_under_twenty_at_once(arena: Arena) -> None:
    """Five over all hosts, one with each."""
    api, user = arena.api, await arena.api.person()
    hosts = await arena.people(10)
    slots = [slot for n, host in enumerate(hosts) for slot in (await arena.host(host, n + 8, n + 9))[1]]
    answers = await asyncio.gather(*(api.book(user, slot) for slot in slots))
    assert statuses(answers) == {201: 5, 409: 15}
    assert set(codes(answers)) <= {"201", "409 TOO_MANY_BOOKINGS", "409 ALREADY_BOOKED_HERE"}
    here = await arena.eye.fetch("SELECT resource_no, count(*) AS bookings FROM booking_units GROUP BY resource_no")
    assert [row["bookings"] for row in here] == [1] * 5
    await arena.check()
    assert await arena.deadlocks() == 0


@pytest.mark.parametrize("rule", ["maxActivePerUser", "maxActivePerUserHere"])
async def test_limits_of_events_hold_under_twenty_at_once(arena: Arena, boss: Person, rule: str) -> None:
    """Whoever travels together is counted one by one; two processes are kept apart by the user's lock."""
    user = await arena.api.person()
    labels = [f"A-{n}" for n in range(1, 41)]
    events = [await arena.event(boss, *labels, policy={rule: 2}) for _ in range(4)]
    async with arena_on(make_settings(arena.url, pool_size=20)) as other:
        answers = await asyncio.gather(
            *(
                (arena, other)[n % 2].api.post(
                    ("/bookings", "/holds")[n // 2 % 2], user, json={"eventId": events[n % 4]["id"], "quantity": 1}
                )
                for n in range(24)
            )
        )
    refusal = "409 TOO_MANY_BOOKINGS" if rule == "maxActivePerUser" else "409 ALREADY_BOOKED_HERE"
    won = 2 if rule == "maxActivePerUser" else 8
    assert codes(answers) == {"201": won, refusal: 24 - won}
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_bookings_holds_series_and_moves_share_one_limit(arena: Arena, boss: Person) -> None:
    """Twenty requests of one user, of every kind that takes something new."""
    api, user = arena.api, await arena.api.person()
    rooms = await _rooms(api, boss, 16, maxActivePerUser=4)
    slots = [(await api.slots(user, room))[3] for room in rooms]

    def series(n: int) -> Any:
        body = {"roomId": rooms[n]["id"], "start": slots[n]["start"], "end": slots[n]["end"], "recurrence": "FREQ=DAILY;COUNT=2"}
        return api.post("/bookings/series", user, json=body)

    answers = await asyncio.gather(
        *(api.book(user, slot) for slot in slots[:6]),
        *(api.post("/holds", user, json={"slotId": slot["id"]}) for slot in slots[6:12]),
        *(api.post(f"/users/{user.id}/bookings", boss, json={"slotId": slot["id"]}) for slot in slots[12:14]),
        *(series(n) for n in (14, 15)),
    )
    assert set(codes(answers)) <= {"201", "409 TOO_MANY_BOOKINGS", "409 SERIES_CONFLICT"}
    ahead = await arena.eye.fetchval("SELECT (SELECT count(*) FROM bookings) + (SELECT count(*) FROM holds)")
    assert ahead in {3, 4}
    await arena.check()
    assert await arena.deadlocks() == 0


# Nobody innocent is refused


async def test_twenty_users_on_twenty_published_slots_of_one_host_are_twenty_successes(arena: Arena) -> None:
    """With the default limits of hosts: each of them has one here."""
    api = arena.api
    ada, *people = await arena.people(21)
    made = await api.post("/hosts", ada, json={"displayName": "Ada"})
    assert made.status_code == 201
    published = await api.post("/slots", ada, json={"slots": [_half(n) for n in range(20)]})
    assert published.status_code == 201, published.text
    slots = published.json()["slots"]
    answers = await asyncio.gather(*(api.book(person, slot) for person, slot in zip(people, slots, strict=True)))
    assert statuses(answers) == {201: 20}
    await arena.check()
    assert await arena.deadlocks() == 0


def _half(n: int) -> dict[str, str]:
    """The n-th half hour of tomorrow after eight."""
    begins, ends = 16 + n, 17 + n
    return {
        "start": f"{tomorrow()}T{begins // 2:02d}:{begins % 2 * 30:02d}:00Z",
        "end": f"{tomorrow()}T{ends // 2:02d}:{ends % 2 * 30:02d}:00Z",
    }


async def test_twenty_users_on_the_slots_of_twenty_hosts_are_twenty_successes(arena: Arena) -> None:
    people = await arena.people(40)
    slots = [(await arena.host(host, n % 10 + 8))[1][0] for n, host in enumerate(people[20:])]
    answers = await asyncio.gather(
        *(
            arena.api.post(("/bookings", "/holds")[n % 2], person, json={"slotId": slot["id"]})
            for n, (person, slot) in enumerate(zip(people, slots, strict=False))
        )
    )
    assert statuses(answers) == {201: 20}
    await arena.check()


async def test_twenty_users_on_twenty_seats_of_an_event_with_limits_are_twenty_successes(arena: Arena, boss: Person) -> None:
    labels = [f"A-{n}" for n in range(1, 21)]
    policy = {"maxActivePerUser": 1, "maxActivePerUserHere": 1, "overlapsAllowed": False}
    event = await arena.event(boss, *labels, policy=policy)
    answers = await asyncio.gather(
        *(
            arena.api.post("/bookings", person, json={"eventId": event["id"], "seats": [label]})
            for person, label in zip(await arena.people(20), labels, strict=True)
        )
    )
    assert statuses(answers) == {201: 20}
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_a_limit_reached_at_one_kind_is_none_at_another(arena: Arena, boss: Person) -> None:
    """`maxActivePerUser` counts over all rooms, or all hosts, or all events: not over everything."""
    api, user = arena.api, await arena.api.person()
    (room,) = await _rooms(api, boss, 1, maxActivePerUser=1)
    event = await arena.event(boss, "A-1", policy={"maxActivePerUser": 1})
    _host, (slot,) = await arena.host(await api.person(), 10, policy={"maxActivePerUser": 1})
    answers = await asyncio.gather(
        api.book(user, (await api.slots(user, room))[0]),
        api.book(user, slot),
        api.post("/bookings", user, json={"eventId": event["id"], "quantity": 1}),
    )
    assert statuses(answers) == {201: 3}
    await arena.check()
