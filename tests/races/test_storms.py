"""Many writes of every kind at once, in no order that a test has chosen: no fault, no deadlock, everything true afterwards."""

import asyncio
import random

import httpx
import pytest

from support.api import WINDOW, Person
from support.races import Arena, codes, instant


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
        assert codes(answers) == {"409 SLOT_ALREADY_BOOKED": 8}
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
    told = codes(answers)
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
    told = codes(answers)
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
