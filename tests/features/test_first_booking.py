"""A room, a slot, a booking, a race: the skeleton of everything else."""

import asyncio
from collections import Counter

from support.api import Api, Person, code


async def test_a_slot_can_be_booked_once(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    assert len(slots) == 16
    booking = await api.booked(user, slots[0])
    assert booking["slotId"] == slots[0]["id"]
    assert [slot["id"] for slot in await api.slots(user, room)] == [slot["id"] for slot in slots[1:]]
    refused = await api.book(await api.person(), slots[0])
    assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
    nearby = refused.json()["error"]["details"]["alternatives"]
    assert [slot["id"] for slot in nearby] == [slot["id"] for slot in slots[1:6]]


async def test_fifty_at_once_get_one_booking(api: Api, admin: Person) -> None:
    room = await api.room(admin)
    people = await api.people(50)
    (slot, *_) = await api.slots(people[0], room)
    answers = await asyncio.gather(*(api.book(person, slot) for person in people))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 49}
