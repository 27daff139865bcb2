"""A schedule that changes and a room that is archived, while somebody books: with the lock, and the proof without it."""

import asyncio

import pytest

from holdfast.db import locks
from support.api import Person, code
from support.races import Arena, codes, crowd

HOURS = {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "09:30", "endTime": "17:30", "slotMinutes": 60}


@pytest.fixture(params=[True, False], ids=["guarded", "control: no lock"])
def guarded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:

        async def nothing(*_arguments: object) -> None:
            return

        monkeypatch.setattr(locks, "resources", nothing)
    return bool(request.param)


async def _second_passes(second: asyncio.Future[object], arena: Arena, waiting: int) -> bool:
    """True where the second is done while the first stands still; False where it waits."""
    waits = asyncio.ensure_future(arena.waiting(waiting))
    await asyncio.wait([second, waits], return_when=asyncio.FIRST_COMPLETED)
    passed = second.done()
    waits.cancel()
    return passed


async def test_a_schedule_does_not_change_under_a_booking_that_is_being_written(
    arena: Arena, boss: Person, guarded: bool
) -> None:
    """Without the lock a slot is booked that, by an answer given before, the room does not have."""
    api, user = arena.api, await arena.api.person()
    room = await api.room(boss)
    (slot, *_) = await api.slots(user, room)
    async with arena.holding_writes_to("claims"):
        booking = asyncio.ensure_future(api.book(user, slot))
        await arena.waiting(1)
        change = asyncio.ensure_future(api.send("PUT", f"/rooms/{room['id']}/schedule", boss, json=HOURS))
        passed = await _second_passes(change, arena, 2)
        if passed:
            assert slot["id"] not in {one["id"] for one in await api.slots(user, room)}
    assert codes([await booking, await change]) == {"201": 1, "200": 1}
    assert passed is not guarded


async def test_a_room_is_not_archived_under_a_booking_that_is_being_written(arena: Arena, boss: Person, guarded: bool) -> None:
    api, user = arena.api, await arena.api.person()
    room = await api.room(boss)
    (slot, *_) = await api.slots(user, room)
    async with arena.holding_writes_to("claims"):
        booking = asyncio.ensure_future(api.book(user, slot))
        await arena.waiting(1)
        archive = asyncio.ensure_future(api.send("DELETE", f"/rooms/{room['id']}", boss))
        assert await _second_passes(archive, arena, 2) is not guarded
    assert (await booking).status_code == 201
    if guarded:
        assert (await archive).status_code == 409
        assert code(await archive) == "ROOM_IN_USE"
        await arena.check()
    else:
        assert (await archive).status_code == 204
        assert set(await arena.broken()) == {"an archived room has bookings or holds ahead"}


async def test_nobody_books_a_room_that_is_being_archived(arena: Arena, boss: Person, guarded: bool) -> None:
    api, user = arena.api, await arena.api.person()
    room = await api.room(boss)
    (slot, *_) = await api.slots(user, room)
    async with arena.holding_writes_to("resources"):
        archive = asyncio.ensure_future(api.send("DELETE", f"/rooms/{room['id']}", boss))
        await arena.waiting(1)
        booking = asyncio.ensure_future(api.book(user, slot))
        assert await _second_passes(booking, arena, 2) is not guarded
    assert (await archive).status_code == 204
    if guarded:
        assert codes([await booking]) == {"404 SLOT_NOT_FOUND": 1}
        await arena.check()
    else:
        assert (await booking).status_code == 201
        assert set(await arena.broken()) == {"an archived room has bookings or holds ahead"}


async def test_an_old_slot_is_unknown_to_whoever_waited_for_the_new_schedule(arena: Arena, boss: Person) -> None:
    api = arena.api
    people = await api.people(8)
    room = await api.room(boss)
    slots = await api.slots(people[0], room)
    async with arena.holding_room(room):
        change = asyncio.ensure_future(api.send("PUT", f"/rooms/{room['id']}/schedule", boss, json=HOURS))
        await arena.waiting(1)
        bookings = [asyncio.ensure_future(api.book(person, slot)) for person, slot in zip(people, slots, strict=False)]
        await arena.waiting(9)
    assert (await change).status_code == 200
    assert codes(await asyncio.gather(*bookings)) == {"404 SLOT_NOT_FOUND": 8}
    await arena.check()


async def test_new_slots_never_overlap_bookings_that_stand(arena: Arena, boss: Person) -> None:
    api = arena.api
    people = await api.people(14)
    room = await api.room(boss)
    slots = await api.slots(people[0], room)
    await asyncio.gather(
        api.send("PUT", f"/rooms/{room['id']}/schedule", boss, json=HOURS),
        *(api.book(person, slot) for person, slot in zip(people[:7], slots[::2], strict=False)),
    )
    fresh = await api.slots(people[0], room)
    answers = await asyncio.gather(*(api.book(person, slot) for person, slot in zip(people[7:], fresh, strict=False)))
    assert set(codes(answers)) <= {"201"}
    await arena.check()


async def test_a_closure_that_cancels_outlasts_a_crowd_that_books(arena: Arena, boss: Person) -> None:
    """It wins its turn in the end, everybody is answered cleanly, and nothing stands under it."""
    api = arena.api
    people = await api.people(16)
    room = await api.room(boss)
    slots = await api.slots(people[0], room)
    period = {"start": slots[0]["start"], "end": slots[-1]["end"], "cancelBookings": True}
    close, *bookings = await crowd(
        arena,
        arena.holding_room(room),
        [
            lambda: api.post(f"/rooms/{room['id']}/closures", boss, json=period),
            *(lambda person=person, slot=slot: api.book(person, slot) for person, slot in zip(people, slots, strict=True)),
        ],
        at_least=17,
    )
    assert close.status_code == 201, close.text
    assert set(codes(bookings)) <= {"201", "409 CLOSED"}
    assert await api.slots(people[0], room) == []
    assert await arena.eye.fetchval("SELECT count(*) FROM bookings WHERE status = 'active'") == 0
    await arena.check()


async def test_a_closure_behind_a_crowd_that_books_cancels_all_of_it(arena: Arena, boss: Person) -> None:
    api = arena.api
    people = await api.people(16)
    room = await api.room(boss)
    slots = await api.slots(people[0], room)
    period = {"start": slots[0]["start"], "end": slots[-1]["end"], "cancelBookings": True}
    async with arena.holding_room(room):
        bookings = [asyncio.ensure_future(api.book(person, slot)) for person, slot in zip(people, slots, strict=True)]
        await arena.waiting(16)
        close = asyncio.ensure_future(api.post(f"/rooms/{room['id']}/closures", boss, json=period))
        await arena.waiting(17)
    assert codes(await asyncio.gather(*bookings)) == {"201": 16}
    closed = await close
    assert closed.status_code == 201, closed.text
    assert await arena.eye.fetchval("SELECT count(*) FROM bookings WHERE status = 'cancelled'") == 16
    await arena.check()


async def test_eight_parallel_first_schedules_make_one(arena: Arena, boss: Person) -> None:
    api = arena.api
    made = await api.post("/rooms", boss, json={"name": "Bare"})
    room = made.json()["room"]
    window = {"daysOfWeek": [1], "startTime": "09:00", "endTime": "12:00"}
    answers = await crowd(
        arena,
        arena.holding_room(room),
        [lambda: api.post(f"/rooms/{room['id']}/schedule/create", boss, json=window) for _ in range(8)],
        at_least=8,
    )
    assert codes(answers) == {"201": 1, "409 SCHEDULE_EXISTS": 7}


async def test_eight_parallel_closures_of_one_time_are_one(arena: Arena, boss: Person) -> None:
    api = arena.api
    room = await api.room(boss)
    slots = await api.slots(boss, room)
    answers = await crowd(
        arena,
        arena.holding_room(room),
        [
            lambda n=n: api.post(f"/rooms/{room['id']}/closures", boss, json={"start": slots[n]["start"], "end": slots[8]["end"]})
            for n in range(8)
        ],
        at_least=8,
    )
    assert codes(answers) == {"201": 1, "409 CLOSURE_OVERLAP": 7}
    await arena.check()


async def test_an_account_that_ends_takes_every_booking_with_it_that_was_under_way(arena: Arena, boss: Person) -> None:
    """Ten rooms, ten bookings, and the end of the account in their midst: none is left behind."""
    api, user = arena.api, await arena.api.person()
    rooms = [await api.room(boss) for _ in range(10)]
    slots = [(await api.slots(user, room))[0] for room in rooms]
    async with arena.holding_writes_to("claims"):
        early = [asyncio.ensure_future(api.book(user, slot)) for slot in slots[:5]]
        await arena.waiting(5)
        end = asyncio.ensure_future(api.send("DELETE", "/users/me", user))
        await arena.waiting(6)
        late = [asyncio.ensure_future(api.book(user, slot)) for slot in slots[5:]]
        await arena.waiting(11)
    assert (await end).status_code == 204
    assert codes(await asyncio.gather(*early)) == {"201": 5}
    # In time or too late, each by its luck; what was in time has gone with the account.
    assert set(codes(await asyncio.gather(*late))) <= {"201", "401 UNAUTHORIZED"}
    assert await arena.eye.fetchval("SELECT count(*) FROM bookings WHERE status = 'active'") == 0
    await arena.check()
