"""Every write path against every other on the same room, in both orders; afterwards everything that must be true is.

The room's lock is parked, the two queue for it one after the other, then it is let go: the order is the test's, not luck's.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from support.api import WINDOW, Api, Person, code
from support.crashes import TORTURE
from support.races import Arena, instant

HOURS = {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "09:00", "endTime": "17:00", "slotMinutes": 60}


@dataclass
class Scene:
    """A room with a booking of Anna's (slot 0), one of Ben's (slot 4) and a closure (slots 8, 9); others who want in."""

    api: Api
    boss: Person
    room: dict[str, Any]
    slots: list[dict[str, Any]]
    elsewhere: list[dict[str, Any]]
    anna: Person
    ben: Person
    guests: list[Person]
    annas: str
    bens: str
    closure: str

    def close(self, first: int, last: int, *, cancel: bool) -> Awaitable[httpx.Response]:
        period = {"start": self.slots[first]["start"], "end": self.slots[last]["end"]}
        return self.api.post(f"/rooms/{self.room['id']}/closures", self.boss, json={**period, "cancelBookings": cancel})

    def several(self, who: Person, *slots: dict[str, Any]) -> Awaitable[httpx.Response]:
        return self.api.post("/bookings", who, json={"slotIds": [slot["id"] for slot in slots]})

    def stretch(self, who: Person, first: int, last: int) -> Awaitable[httpx.Response]:
        period = {"roomId": self.room["id"], "start": self.slots[first]["start"], "end": self.slots[last]["end"]}
        return self.api.post("/bookings", who, json=period)

    def move(self, who: Person, booking: str, slot: dict[str, Any]) -> Awaitable[httpx.Response]:
        return self.api.post(f"/bookings/{booking}/reschedule", who, json={"slotId": slot["id"]})


async def make_scene(arena: Arena, boss: Person, people: list[Person], elsewhere: list[dict[str, Any]]) -> Scene:
    api = arena.api
    room, (anna, ben, *guests) = await api.room(boss), people
    slots = await api.slots(boss, room)
    annas, bens = await api.booked(anna, slots[0]), await api.booked(ben, slots[4])
    closed = await api.post(f"/rooms/{room['id']}/closures", boss, json={"start": slots[8]["start"], "end": slots[9]["end"]})
    return Scene(api, boss, room, slots, elsewhere, anna, ben, guests, annas["id"], bens["id"], closed.json()["closure"]["id"])


Action = Callable[[Scene], Awaitable[httpx.Response]]

#: Every way to take, give back or change; what wants the same wants slots 2 and 3.
ACTIONS: dict[str, Action] = {
    "book a slot": lambda s: s.api.book(s.guests[0], s.slots[2]),
    "book with a key": lambda s: s.api.book(s.guests[1], s.slots[2], headers={"Idempotency-Key": s.room["id"]}),
    "book with a link": lambda s: s.api.book(s.guests[2], s.slots[2], json={"createConferenceLink": True}),
    "book a stretch": lambda s: s.stretch(s.guests[3], 1, 3),
    "book two rooms": lambda s: s.several(s.guests[0], s.elsewhere[0], s.slots[2]),
    "book at the front desk": lambda s: s.api.post(f"/users/{s.anna.id}/bookings", s.boss, json={"slotId": s.slots[2]["id"]}),
    "cancel": lambda s: s.api.post(f"/bookings/{s.annas}/cancel", s.anna),
    "cancel as admin": lambda s: s.api.send("DELETE", f"/bookings/{s.annas}", s.boss),
    "move into the room's middle": lambda s: s.move(s.anna, s.annas, s.slots[2]),
    "move to another room": lambda s: s.move(s.anna, s.annas, s.elsewhere[0]),
    "move to where Anna is": lambda s: s.move(s.ben, s.bens, s.slots[0]),
    "move to where Ben is": lambda s: s.move(s.anna, s.annas, s.slots[4]),
    "change the title": lambda s: s.api.send("PATCH", f"/bookings/{s.annas}", s.anna, json={"title": "New"}),
    "close": lambda s: s.close(0, 5, cancel=False),
    "close what is free": lambda s: s.close(2, 3, cancel=False),
    "close and cancel": lambda s: s.close(0, 5, cancel=True),
    "open again": lambda s: s.api.send("DELETE", f"/rooms/{s.room['id']}/closures/{s.closure}", s.boss),
    "book what is closed": lambda s: s.api.book(s.guests[1], s.slots[8]),
    "change the schedule": lambda s: s.api.send("PUT", f"/rooms/{s.room['id']}/schedule", s.boss, json=HOURS),
    "change the policy": lambda s: s.api.send(
        "PATCH", f"/rooms/{s.room['id']}", s.boss, json={"policy": {"maxActivePerUserHere": 1}}
    ),
    "archive": lambda s: s.api.send("DELETE", f"/rooms/{s.room['id']}", s.boss),
    "delete the account": lambda s: s.api.send("DELETE", "/users/me", s.anna),
    "suspend": lambda s: s.api.send("PATCH", f"/users/{s.anna.id}", s.boss, json={"status": "suspended"}),
}
_ENDS_ANNA = {"delete the account", "suspend"}
#: These need not wait for the room's lock.
_FREE = {"change the title", "suspend"}
#: A limit that comes after the bookings makes nobody cancel; it is no breach.
_LATE_LIMIT = ("somebody is over a limit",)


async def _race(arena: Arena, scene: Scene, first: str, second: str) -> tuple[httpx.Response, httpx.Response]:
    tasks: list[asyncio.Future[httpx.Response]] = []
    async with arena.holding_room(scene.room):
        waiting = 0
        for name in (first, second):
            task = asyncio.ensure_future(ACTIONS[name](scene))
            tasks.append(task)
            if name in _FREE:
                await asyncio.sleep(0)
                continue
            # It waits for the lock, or has been refused by a look without one.
            seen = asyncio.ensure_future(arena.waiting(waiting + 1))
            await asyncio.wait([task, seen], return_when=asyncio.FIRST_COMPLETED)
            waiting += not task.done()
            seen.cancel()
    one, other = await asyncio.gather(*tasks)
    return one, other


#: Where the order of two decides, who is refused and how: first, second, what the second must answer.
EXPECTED = {
    ("book a slot", "book a slot"): None,
    ("book a slot", "book a stretch"): "409 SLOT_ALREADY_BOOKED",
    ("book a stretch", "book a slot"): "409 SLOT_ALREADY_BOOKED",
    ("book a slot", "close what is free"): "409 BOOKINGS_IN_THE_WAY",
    ("close what is free", "book a slot"): "409 CLOSED",
    ("close and cancel", "book a slot"): "409 CLOSED",
    ("book a slot", "close and cancel"): "201",
    ("change the schedule", "book a slot"): "404 SLOT_NOT_FOUND",
    ("book a slot", "change the schedule"): "200",
    ("open again", "book what is closed"): "409 CLOSED",  # refused by the look: it was closed when it asked
    ("cancel", "move into the room's middle"): "409 BOOKING_CANCELLED",
    ("close and cancel", "cancel"): "200",
    ("cancel", "cancel as admin"): "200",
    ("move to another room", "cancel"): "200",
    ("move into the room's middle", "book a slot"): "409 SLOT_ALREADY_BOOKED",
    ("book a slot", "move into the room's middle"): "409 SLOT_ALREADY_BOOKED",
    ("delete the account", "cancel"): "200",
}


def _told(answer: httpx.Response) -> str:
    return str(answer.status_code) if answer.is_success else f"{answer.status_code} {code(answer)}"


def _rivals(first: str) -> list[str]:
    """In `make torture` every pair in both orders; else every pair in one order, and in both where the order decides."""
    names = list(ACTIONS)
    number = names.index(first)
    return [
        second
        for other, second in enumerate(names)
        if TORTURE is not None or (number <= other if (number + other) % 2 else number >= other) or (first, second) in EXPECTED
    ]


@pytest.mark.parametrize("first", ACTIONS)
async def test_a_write_path_raced_against_every_other_leaves_everything_true(arena: Arena, boss: Person, first: str) -> None:
    people = await arena.api.people(6)
    far = iter([slot for _ in range(2) for slot in await arena.api.slots(boss, await arena.api.room(boss))])
    for second in _rivals(first):
        scene = await make_scene(arena, boss, people, [next(far)])
        if {first, second} & _ENDS_ANNA:
            people[0] = await arena.api.person()
        answers = await _race(arena, scene, first, second)
        told = tuple(_told(answer) for answer in answers)
        assert all(answer.status_code < 500 for answer in answers), (first, second, told)
        expected = EXPECTED.get((first, second))
        if expected is not None:
            assert told[1] == expected, (first, second, told)
        broken = await arena.broken(ignoring=_LATE_LIMIT)
        assert not broken, (first, second, told, broken)
    assert await arena.deadlocks() == 0


async def test_two_bookings_that_swap_in_parallel_are_both_refused_or_neither_is_lost(arena: Arena, boss: Person) -> None:
    """Each wants the other's slot: both stand in the other's way, whoever asks first."""
    api = arena.api
    here, there = await api.room(boss), await api.room(boss)
    for rooms in ((here, here), (here, there)):
        anna, ben = await api.people(2)
        mine = (await api.slots(anna, rooms[0]))[0]
        his = (await api.slots(ben, rooms[1]))[-1]
        annas, bens = await api.booked(anna, mine), await api.booked(ben, his)
        answers = await asyncio.gather(
            *(
                api.post(f"/bookings/{booking['id']}/reschedule", who, json={"slotId": slot["id"]})
                for _ in range(4)
                for booking, who, slot in ((annas, anna, his), (bens, ben, mine))
            )
        )
        assert Counter(_told(answer) for answer in answers) == {"409 SLOT_ALREADY_BOOKED": 8}
        await arena.check()
    assert await arena.deadlocks() == 0


async def test_the_last_free_slot_lets_a_ring_of_bookings_move_one_by_one(arena: Arena, boss: Person) -> None:
    """Sixteen slots, fifteen bookings, all of which try to move one further: every answer is a move or a clean refusal."""
    api = arena.api
    room = await api.room(boss)
    people = await api.people(15)
    slots = await api.slots(people[0], room)
    bookings = [await api.booked(person, slot) for person, slot in zip(people, slots[:15], strict=True)]
    answers = await asyncio.gather(
        *(
            api.post(f"/bookings/{booking['id']}/reschedule", person, json={"slotId": slot["id"]})
            for booking, person, slot in zip(bookings, people, slots[1:], strict=True)
        )
    )
    told = Counter(_told(answer) for answer in answers)
    assert set(told) <= {"200", "409 SLOT_ALREADY_BOOKED"}
    assert told["200"] >= 1
    assert len(await api.slots(people[0], room)) == 1
    await arena.check()


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_of_everything_at_once_leaves_everything_true(arena: Arena, boss: Person, seed: int) -> None:
    """Some hundred random writes in parallel on three rooms: no fault, no deadlock, no invariant broken."""
    rng = random.Random(seed)
    api = arena.api
    rooms = [await api.room(boss, policy={"maxActivePerUser": 4, "maxActivePerUserHere": 2}) for _ in range(3)]
    people = await api.people(12)
    days = [await api.slots(people[0], room) for room in rooms]
    known: list[tuple[Person, str]] = []
    answers: list[httpx.Response] = []

    async def act(who: Person) -> None:
        for _ in range(12):
            slots = rng.choice(days)
            first = rng.randrange(len(slots) - 2)
            what = rng.random()
            if what < 0.35:
                answer = await api.book(who, slots[first])
            elif what < 0.45:
                chosen = [rng.choice(day)["id"] for day in rng.sample(days, 2)]
                answer = await api.post("/bookings", who, json={"slotIds": chosen})
            elif what < 0.55:
                period = {"roomId": slots[0]["roomId"], "start": slots[first]["start"], "end": slots[first + 1]["end"]}
                answer = await api.post("/bookings", who, json=period)
            elif what < 0.65 and known:
                owner, booking = rng.choice(known)
                answer = await api.post(f"/bookings/{booking}/reschedule", owner, json={"slotId": slots[first]["id"]})
            elif what < 0.85 and known:
                owner, booking = rng.choice(known)
                answer = await api.post(f"/bookings/{booking}/cancel", owner)
            elif what < 0.95:
                period = {"start": slots[first]["start"], "end": slots[first + 1]["end"], "cancelBookings": what < 0.9}
                answer = await api.post(f"/rooms/{slots[0]['roomId']}/closures", boss, json=period)
                if answer.status_code == 201:
                    closure = answer.json()["closure"]["id"]
                    answers.append(answer)
                    answer = await api.send("DELETE", f"/rooms/{slots[0]['roomId']}/closures/{closure}", boss)
            else:
                minutes = rng.choice((30, 60))
                answer = await api.send(
                    "PUT", f"/rooms/{slots[0]['roomId']}/schedule", boss, json={**WINDOW, "slotMinutes": minutes}
                )
            answers.append(answer)
            if answer.status_code == 201 and "booking" in answer.json():
                known.append((who, answer.json()["booking"]["id"]))

    await asyncio.gather(*(act(person) for person in people))
    told = Counter(_told(answer) for answer in answers)
    assert not [line for line in told if line.startswith("5")], told
    assert told["201"] >= 5
    assert told["200"] >= 5
    await arena.check()
    assert await arena.deadlocks() == 0
    # What the lists say adds up with what is stored: nobody's slot is shown as free, nobody's is missing.
    for room in rooms:
        listed = await api.get(
            f"/rooms/{room['id']}/slots", people[0], params={"date": days[0][0]["start"][:10], "status": "all"}
        )
        taken = {slot["start"] for slot in listed.json()["slots"] if slot["status"] == "booked"}
        stored = await arena.eye.fetch(
            "SELECT lower(c.during) AS since, upper(c.during) AS until FROM claims c JOIN resources r ON r.no = c.resource_no "
            "WHERE r.id = $1 AND c.booking_id IS NOT NULL",
            room["id"],
        )
        for slot in listed.json()["slots"]:
            since, until = instant(slot["start"]), instant(slot["end"])
            overlapped = any(row["since"] < until and since < row["until"] for row in stored)
            assert (slot["start"] in taken) == overlapped
