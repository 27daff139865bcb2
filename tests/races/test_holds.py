"""Holds in company: who confirms, extends, releases, takes over, and who would take the ground from under them."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest

from conftest import make_settings
from holdfast.bookings.rules import deciding
from holdfast.bookings.service import settle_all
from holdfast.db import locks
from support.api import Person, code
from support.crashes import until
from support.races import Arena, alone, arena_on, codes, crowd, one_winner

TAKEN = "409 SLOT_ALREADY_BOOKED"


async def _nothing(*_arguments: object, **_named: object) -> None:
    return


def _nothing_at_all(*_arguments: object, **_named: object) -> None:
    return


async def _all_active(_session: object, ids: Iterable[UUID]) -> set[UUID]:
    """As `locks.users` answers, without the lock."""
    return set(ids)


@asynccontextmanager
async def _confirming(arena: Arena, who: Person, hold: dict[str, Any]) -> AsyncIterator["asyncio.Task[httpx.Response]"]:
    """A confirm that has found the hold alive, has its row and is about to write, while the hold's end passes."""
    async with arena.holding_writes_to("bookings"):
        confirm = asyncio.ensure_future(arena.confirm(who, hold))
        await arena.waiting(1)
        await arena.seems_over(hold)
        yield confirm


# Confirming


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: no lock on the hold"])
async def test_ten_confirms_of_one_hold_are_one_booking(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    api, user = arena.api, await arena.api.person()
    (slot, *_) = await api.slots(user, await api.room(boss))
    hold = await arena.held(user, slotId=slot["id"])
    if not guarded:
        monkeypatch.setattr(locks, "holds", _nothing)
    answers = await crowd(
        arena, arena.holding_writes_to("bookings"), [lambda: arena.confirm(user, hold) for _ in range(10)], at_least=10
    )
    if not guarded:
        assert codes(answers) != {"201": 1, "409 HOLD_USED": 9}
        return
    won = one_winner(answers, "409 HOLD_USED")
    told = {answer.json()["error"]["details"]["bookingId"] for answer in answers if answer is not won}
    assert told == {won.json()["booking"]["id"]}
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_a_hold_is_honoured_to_its_end_and_not_a_moment_longer(arena: Arena, boss: Person) -> None:
    """By the database's clock: a confirm that ended before the end was taken, one that began after it was not."""
    api, user = arena.api, await arena.api.person()
    (slot, *_) = await api.slots(user, await api.room(boss))
    sides: Counter[tuple[str, int]] = Counter()
    for n in range(40):
        hold = await arena.held(user, slotId=slot["id"])
        ends = await arena.ends_in(hold, (n % 20 - 2) / 1000 if n < 30 else 0.5)
        asked = await arena.clock()
        answer = await arena.confirm(user, hold)
        told = await arena.clock()
        side = "after" if asked >= ends else "before" if told <= ends else "across"
        sides[side, answer.status_code] += 1
        if answer.status_code == 201:
            booking = answer.json()["booking"]["id"]
            assert (await api.post(f"/bookings/{booking}/cancel", user)).status_code == 200
        else:
            assert codes([answer]) == {"410 HOLD_EXPIRED": 1}
    assert sides["before", 410] == sides["after", 201] == 0, sides
    assert sides["before", 201]
    assert sides["after", 410]
    await arena.check()


async def test_what_was_held_is_free_the_instant_the_hold_ends_and_not_before(arena: Arena, boss: Person) -> None:
    """Nobody sweeps here: an outsider who asks again and again has it from the end on."""
    api = arena.api
    user, other = await arena.people(2)
    (slot, *_) = await api.slots(user, await api.room(boss))
    refused = 0
    for _ in range(8):
        hold = await arena.held(user, slotId=slot["id"])
        ends = await arena.ends_in(hold, 0.04)
        while True:
            asked = await arena.clock()
            answer = await api.book(other, slot)
            told = await arena.clock()
            if answer.status_code == 201:
                break
            assert codes([answer]) == {TAKEN: 1}
            assert asked < ends
            refused += 1
        assert told > ends
        assert (await api.post(f"/bookings/{answer.json()['booking']['id']}/cancel", other)).status_code == 200
    assert refused
    await arena.check()


async def test_at_the_end_of_a_hold_its_owner_or_the_next_has_it_but_never_both(arena: Arena, boss: Person) -> None:
    api = arena.api
    user, *others = await arena.people(4)
    (slot, *_) = await api.slots(user, await api.room(boss))
    rng = random.Random(20261121)
    won: Counter[str] = Counter()
    for _ in range(25):
        hold = await arena.held(user, slotId=slot["id"])
        await arena.ends_in(hold, rng.uniform(-0.002, 0.02))
        own, *theirs = await asyncio.gather(
            arena.confirm(user, hold),
            *(api.book(other, slot) for other in others[:2]),
            api.post("/holds", others[2], json={"slotId": slot["id"]}),
        )
        assert set(codes([own])) <= {"201", "410 HOLD_EXPIRED"}
        assert set(codes(theirs)) <= {"201", TAKEN}
        (*winners,) = [answer for answer in (own, *theirs) if answer.status_code == 201]
        assert len(winners) <= 1
        await arena.check()
        for answer in winners:
            won["own" if answer is own else "other"] += 1
            if "hold" in answer.json():
                await api.send("DELETE", f"/holds/{answer.json()['hold']['token']}", others[2])
            else:
                await api.send("DELETE", f"/bookings/{answer.json()['booking']['id']}", boss)
    assert won["own"] + won["other"] > 10, won
    assert await arena.deadlocks() == 0


async def test_a_release_that_comes_after_a_confirm_is_told_of_the_booking(arena: Arena, boss: Person) -> None:
    """It would be a lie to say that it is given back: there is a booking now."""
    api, user = arena.api, await arena.api.person()
    (slot, *_) = await api.slots(user, await api.room(boss))
    hold = await arena.held(user, slotId=slot["id"])
    async with arena.holding_writes_to("bookings"):
        confirm = asyncio.ensure_future(arena.confirm(user, hold))
        await arena.waiting(1)
        release = asyncio.ensure_future(api.send("DELETE", f"/holds/{hold['token']}", user))
        await arena.waiting(2)
    made, refused = await confirm, await release
    assert codes([made, refused]) == {"201": 1, "409 HOLD_USED": 1}
    assert refused.json()["error"]["details"]["bookingId"] == made.json()["booking"]["id"]
    await arena.check()


async def test_a_confirm_that_comes_after_a_release_finds_nothing(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    (slot, *_) = await api.slots(user, await api.room(boss))
    hold = await arena.held(user, slotId=slot["id"])
    async with arena.holding_writes_to("claims"):
        release = asyncio.ensure_future(api.send("DELETE", f"/holds/{hold['token']}", user))
        await arena.waiting(1)
        confirm = asyncio.ensure_future(arena.confirm(user, hold))
        await arena.waiting(2)
    assert codes([await release, await confirm]) == {"204": 1, "410 HOLD_EXPIRED": 1}
    assert (await api.book(user, slot)).status_code == 201
    await arena.check()


async def test_five_releases_and_five_confirms_at_once_agree_on_what_became_of_it(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    slots = await api.slots(user, await api.room(boss))
    for slot in slots[:10]:
        hold = await arena.held(user, slotId=slot["id"])
        answers = await asyncio.gather(
            *(arena.confirm(user, hold) if n % 2 else api.send("DELETE", f"/holds/{hold['token']}", user) for n in range(10))
        )
        assert codes(answers) in ({"201": 1, "409 HOLD_USED": 9}, {"204": 1, "410 HOLD_EXPIRED": 9})
        await arena.check()
    assert await arena.deadlocks() == 0


# The ground under a hold: who would take it away judges by what is taken


@dataclass
class Ground:
    """A hold, whose it is, who would take away what it stands on, and how."""

    who: Person
    hold: dict[str, Any]
    rival: Callable[[], Awaitable[httpx.Response]]


Make = Callable[[Arena, Person], Awaitable[Ground]]


async def _in_a_room(arena: Arena, boss: Person, method: str, path: str, **body: Any) -> Ground:
    api, user = arena.api, await arena.api.person()
    room = await api.room(boss)
    slot, after, *_ = await api.slots(user, room)
    hold = await arena.held(user, slotId=slot["id"])
    period = {"start": slot["start"], "end": after["start"]} if path else {}
    return Ground(user, hold, lambda: api.send(method, f"/rooms/{room['id']}{path}", boss, json={**period, **body} or None))


async def _at_an_event(arena: Arena, boss: Person, method: str, **body: Any) -> Ground:
    api, user = arena.api, await arena.api.person()
    event = await arena.event(boss, "A-1", "A-2")
    hold = await arena.held(user, eventId=event["id"], seats=["A-1"])
    return Ground(user, hold, lambda: api.send(method, f"/events/{event['id']}", boss, json=body or None))


async def _at_a_host(arena: Arena, boss: Person, path: str) -> Ground:
    api = arena.api
    user, ada = await arena.people(2)
    _host, (slot,) = await arena.host(ada, 10)
    hold = await arena.held(user, slotId=slot["id"])
    return Ground(user, hold, lambda: api.send("DELETE", path.format(slot=slot["id"]), ada))


async def _of_a_taker(arena: Arena, boss: Person, path: str) -> Ground:
    api = arena.api
    user, other = await arena.people(2)
    (slot, *_) = await api.slots(user, await api.room(boss))
    hold = await arena.held(user, slotId=slot["id"])
    return Ground(user, hold, lambda: api.post(path, other, json={"slotId": slot["id"]}))


async def _of_a_buyer(arena: Arena, boss: Person, **body: Any) -> Ground:
    api = arena.api
    user, other = await arena.people(2)
    event = await arena.event(boss, "A-1")
    hold = await arena.held(user, eventId=event["id"], quantity=1)
    return Ground(user, hold, lambda: api.post("/bookings", other, json={"eventId": event["id"], **body}))


async def _of_who_blocks(arena: Arena, boss: Person) -> Ground:
    api, user = arena.api, await arena.api.person()
    event = await arena.event(boss, "A-1")
    hold = await arena.held(user, eventId=event["id"], quantity=1)
    body = {"labels": ["A-1"], "blocked": True}
    return Ground(user, hold, lambda: api.send("PATCH", f"/events/{event['id']}/seats", boss, json=body))


#: Who comes while a confirm is under way and the end of its hold has passed; what it is told, and how it is without the lock
#: on the holds of the resource: the untrue answer, and what is broken then (None: that is not its only guard).
RIVALS: dict[str, tuple[Make, str, tuple[str, str | None] | None]] = {
    "archive the room": (
        lambda a, b: _in_a_room(a, b, "DELETE", ""),
        "409 ROOM_IN_USE",
        ("204", "an archived room has bookings or holds ahead"),
    ),
    "archive the event": (
        lambda a, b: _at_an_event(a, b, "DELETE"),
        "409 EVENT_IN_USE",
        ("204", "an archived room has bookings or holds ahead"),
    ),
    "move the event": (
        lambda a, b: _at_an_event(a, b, "PATCH", start="2033-03-03T18:00:00Z"),
        "200",
        ("200", "a booking of an event is not at the event's time"),
    ),
    "delete the slot": (
        lambda a, b: _at_a_host(a, b, "/slots/{slot}"),
        "409 SLOT_BOOKED",
        ("204", "a published slot is deleted and somebody has it ahead"),
    ),
    "close": (
        lambda a, b: _in_a_room(a, b, "POST", "/closures"),
        "409 BOOKINGS_IN_THE_WAY",
        ("409 CLOSURE_OVERLAP", None),
    ),
    "close and cancel": (
        lambda a, b: _in_a_room(a, b, "POST", "/closures", cancelBookings=True),
        "201",
        ("409 CLOSURE_OVERLAP", None),
    ),
    "end the host's account": (lambda a, b: _at_a_host(a, b, "/users/me"), "204", None),
    "book the slot": (lambda a, b: _of_a_taker(a, b, "/bookings"), TAKEN, None),
    "hold the slot": (lambda a, b: _of_a_taker(a, b, "/holds"), TAKEN, None),
    "wait for the slot": (lambda a, b: _of_a_taker(a, b, "/waitlist"), "201", None),
    "book the seat": (lambda a, b: _of_a_buyer(a, b, seats=["A-1"]), "409 SEATS_TAKEN", None),
    "book any seat": (lambda a, b: _of_a_buyer(a, b, quantity=1), "409 SEATS_TAKEN", None),
    "block the seat": (_of_who_blocks, "409 SEATS_TAKEN", None),
}


@pytest.mark.parametrize("name", RIVALS)
async def test_a_confirm_under_way_is_seen_by_whoever_would_count_the_hold_as_over(arena: Arena, boss: Person, name: str) -> None:
    make, told, _ = RIVALS[name]
    ground = await make(arena, boss)
    async with _confirming(arena, ground.who, ground.hold) as confirm:
        rival = asyncio.ensure_future(ground.rival())
        await arena.waiting(2)
    made, answer = await confirm, await rival
    assert codes([made]) == {"201": 1}
    assert codes([answer]) == {told: 1}
    booking = made.json()["booking"]["id"]
    if told == "409 BOOKINGS_IN_THE_WAY":
        assert answer.json()["error"]["details"]["bookingIds"] == [booking]
    ended = name in {"close and cancel", "end the host's account"}
    assert await arena.eye.fetchval("SELECT status FROM bookings WHERE id = $1", UUID(booking)) == (
        "cancelled" if ended else "active"
    )
    await arena.check()
    assert await arena.deadlocks() == 0


@pytest.mark.parametrize("name", [name for name, (_, _, control) in RIVALS.items() if control is not None])
async def test_control_without_the_lock_on_the_holds_of_a_resource_the_answer_is_untrue(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make, _, control = RIVALS[name]
    assert control is not None
    told, sentence = control
    ground = await make(arena, boss)
    monkeypatch.setattr(locks, "holds_of", _nothing)
    async with _confirming(arena, ground.who, ground.hold) as confirm:
        rival = asyncio.ensure_future(ground.rival())
        await arena.waits_or_is_done(rival, 2)
    assert codes([await confirm]) == {"201": 1}
    assert codes([await rival]) == {told: 1}
    assert set(await arena.broken()) == ({sentence} if sentence else set())


async def test_the_sweep_leaves_a_hold_that_is_being_confirmed(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    (slot, *_) = await api.slots(user, await api.room(boss))
    hold = await arena.held(user, slotId=slot["id"])
    async with _confirming(arena, user, hold) as confirm:
        sweep = asyncio.ensure_future(settle_all(arena.state.db))
        await arena.waiting(2)
    assert codes([await confirm]) == {"201": 1}
    await sweep
    assert await arena.eye.fetchval("SELECT count(*) FROM outbox WHERE type = 'hold.lapsed'") == 0
    await arena.check()


async def test_two_sweeps_at_once_say_once_of_each_hold_that_it_has_lapsed(arena: Arena, boss: Person) -> None:
    api = arena.api
    people = await arena.people(8)
    room = await api.room(boss)
    slots = await api.slots(people[0], room)
    for person, slot in zip(people, slots, strict=False):
        await arena.ends_in(await arena.held(person, slotId=slot["id"]), -1)
    async with arena.holding_room(room):
        sweeps = [asyncio.ensure_future(settle_all(arena.state.db)) for _ in range(4)]
        await arena.waiting(4)
    assert await asyncio.gather(*sweeps) == [1, 1, 1, 1]
    assert await arena.eye.fetchval("SELECT count(*) FROM outbox WHERE type = 'hold.lapsed'") == 8
    assert len(await api.slots(people[0], room)) == 16
    await arena.check()
    assert await arena.deadlocks() == 0


# Extending


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: no lock on the hold"])
async def test_one_of_ten_parallel_extensions_counts(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    api, user = arena.api, await arena.api.person()
    (slot, *_) = await api.slots(user, await api.room(boss, policy={"holdSeconds": 60}))
    hold = await arena.held(user, slotId=slot["id"])
    if not guarded:
        monkeypatch.setattr(locks, "holds", _nothing)
    answers = await crowd(
        arena,
        arena.holding_writes_to("holds"),
        [lambda: api.post(f"/holds/{hold['token']}/extend", user) for _ in range(10)],
        at_least=10,
    )
    extended = await arena.eye.fetchval(
        "SELECT round(extract(epoch FROM h.expires_at - $2::timestamptz))::int FROM holds h WHERE h.id = $1",
        UUID(hold["token"]),
        await arena.eye.fetchval("SELECT $1::text::timestamptz", hold["expiresAt"]),
    )
    if guarded:
        assert codes(answers) == {"200": 1, "409 HOLD_EXTENDED": 9}
        assert extended == 60
        await arena.check()
    else:
        assert codes(answers)["200"] > 1
        assert extended > 60


async def test_an_extension_and_the_end_of_a_hold_agree(arena: Arena, boss: Person) -> None:
    """Extended in time it lives on, and nobody takes it over; too late it is over, and somebody may."""
    api = arena.api
    user, other = await arena.people(2)
    (slot, *_) = await api.slots(user, await api.room(boss))
    rng = random.Random(7)
    told: Counter[str] = Counter()
    for n in range(30):
        hold = await arena.held(user, slotId=slot["id"])
        await arena.ends_in(hold, 0.5 if n % 5 == 0 else rng.uniform(-0.002, 0.015))
        extended, taken = await asyncio.gather(api.post(f"/holds/{hold['token']}/extend", user), api.book(other, slot))
        told.update(codes([extended]))
        assert set(codes([extended])) <= {"200", "410 HOLD_EXPIRED"}
        assert set(codes([taken])) <= {"201", TAKEN}
        assert (extended.status_code, taken.status_code) != (200, 201)
        await arena.check()
        if extended.status_code == 200:
            assert (await api.send("DELETE", f"/holds/{hold['token']}", user)).status_code == 204
        if taken.status_code == 201:
            assert (await api.post(f"/bookings/{taken.json()['booking']['id']}/cancel", other)).status_code == 200
    assert set(told) == {"200", "410 HOLD_EXPIRED"}


# Taking over, and crowds


@pytest.mark.parametrize(
    "off",
    [(), ("lock",), ("constraint",), ("lock", "constraint"), ("lock", "look", "constraint")],
    ids=["guarded", "no lock", "no constraint", "neither", "control: nor a look"],
)
async def test_a_lapsed_hold_is_taken_over_by_one_of_many(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, off: tuple[str, ...]
) -> None:
    """Those who book it and those who hold it stand in one crowd. All must delete the same claim: even that keeps them apart,
    as long as they look again afterwards.
    """
    api = arena.api
    people = await arena.people(12)
    (slot, *_) = await api.slots(people[0], await api.room(boss))
    await arena.ends_in(await arena.held(people[0], slotId=slot["id"]), -1)
    if "lock" in off:
        for way in ("resources", "resources_by", "users"):
            monkeypatch.setattr(locks, way, _all_active if way == "users" else _nothing)
    if "look" in off:
        monkeypatch.setattr(deciding, "check_bookable", _nothing_at_all)
    if "constraint" in off:
        await arena.eye.execute("ALTER TABLE claims DROP CONSTRAINT claims_never_overlap")
    answers = await crowd(
        arena,
        arena.holding_writes_to("claims"),
        [
            partial(api.post, ("/bookings", "/holds")[n % 2], person, json={"slotId": slot["id"]})
            for n, person in enumerate(people)
        ],
        at_least=12,
    )
    if len(off) < 3:
        one_winner(answers, TAKEN)
        await arena.check()
    else:
        assert codes(answers)["201"] > 1
        assert "two claims of one unit overlap" in await arena.broken()


async def test_two_hundred_holds_of_one_slot_are_one(arena: Arena, boss: Person) -> None:
    people = await arena.people(200)
    (slot, *_) = await arena.api.slots(people[0], await arena.api.room(boss))
    answers = await asyncio.gather(*(arena.api.post("/holds", person, json={"slotId": slot["id"]}) for person in people))
    one_winner(answers, TAKEN)
    assert await arena.eye.fetchval("SELECT count(*) FROM claims") == 1
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_two_hundred_holds_of_the_last_seat_are_one(arena: Arena, boss: Person) -> None:
    people = await arena.people(200)
    event = await arena.event(boss, "A-1")
    answers = await asyncio.gather(
        *(arena.api.post("/holds", person, json={"eventId": event["id"], "quantity": 1}) for person in people)
    )
    one_winner(answers, "409 SEATS_TAKEN")
    await arena.check()


# One key


@pytest.mark.parametrize("path", ["/bookings", "/holds"])
async def test_the_same_key_twice_in_one_batch_has_one_effect(arena: Arena, boss: Person, path: str) -> None:
    """Buyers of one event travel together: two requests with one key must not be two buyers."""
    api = arena.api
    early, user = await arena.people(2)
    event = await arena.event(boss, *(f"A-{n}" for n in range(1, 9)))
    body = {"eventId": event["id"], "quantity": 1}

    async def _all_queued() -> bool:
        return sum(map(len, arena.state.together._waiting.values())) == 3

    async with arena.holding_room(event):
        first = asyncio.ensure_future(api.post(path, early, json=body))
        await arena.waiting(1)
        twins = [asyncio.ensure_future(api.post(path, user, json=body, headers={"Idempotency-Key": "once"})) for _ in range(3)]
        await until(_all_queued)
    assert (await first).status_code == 201
    answers = await asyncio.gather(*twins)
    assert codes(answers) == {"201": 1, "409 IDEMPOTENCY_IN_PROGRESS": 2}
    again = await api.post(path, user, json=body, headers={"Idempotency-Key": "once"})
    (won,) = [answer for answer in answers if answer.status_code == 201]
    assert (again.status_code, again.content, again.headers["idempotency-replayed"]) == (201, won.content, "true")
    assert await arena.eye.fetchval("SELECT count(*) FROM claims") == 2
    await arena.check()


async def test_the_same_key_of_two_people_in_one_batch_is_two_effects(arena: Arena, boss: Person) -> None:
    people = await arena.people(10)
    event = await arena.event(boss, *(f"A-{n}" for n in range(1, 11)))
    answers = await asyncio.gather(
        *(
            arena.api.post("/bookings", who, json={"eventId": event["id"], "quantity": 1}, headers={"Idempotency-Key": "once"})
            for who in people
        )
    )
    assert codes(answers) == {"201": 10}
    await arena.check()


# Limits


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: no lock on the user"])
async def test_twenty_parallel_holds_of_one_user_stop_at_ten_slots(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """Rooms and hosts count together."""
    api, user = arena.api, await arena.api.person()
    slots = [(await api.slots(user, await api.room(boss)))[n] for n in range(10)]
    unlimited = {"maxActivePerUser": None, "maxActivePerUserHere": None}
    hosts = enumerate(await arena.people(10), start=8)
    slots += [(await arena.host(host, hour, policy=unlimited))[1][0] for hour, host in hosts]
    if not guarded:
        monkeypatch.setattr(locks, "users", _all_active)
    answers = await crowd(
        arena,
        arena.holding_writes_to("holds"),
        [partial(api.post, "/holds", user, json={"slotId": slot["id"]}) for slot in slots],
        at_least=20,
    )
    if guarded:
        assert codes(answers) == {"201": 10, "409 TOO_MANY_HOLDS": 10}
        await arena.check()
        assert await arena.deadlocks() == 0
    else:
        assert codes(answers) == {"201": 20}
        assert "somebody holds more than ten slots, or ten seats of an event" in await arena.broken()


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: no lock on event or user"])
async def test_twenty_parallel_holds_of_one_user_stop_at_ten_seats_of_an_event(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """In one process they travel together; here every request meets the others in the database, as from twenty processes."""
    api, user = arena.api, await arena.api.person()
    here, there = [await arena.event(boss, *(f"A-{n}" for n in range(1, 31))) for _ in range(2)]

    monkeypatch.setattr(arena.state.together, "run", alone)
    if not guarded:
        monkeypatch.setattr(locks, "users", _all_active)
        monkeypatch.setattr(locks, "resources_by", _nothing)

    def hold(event: dict[str, Any], n: int) -> Any:
        return lambda: api.post("/holds", user, json={"eventId": event["id"], "seats": [f"A-{n}"]})

    answers = await crowd(arena, arena.holding_writes_to("holds"), [hold(here, n) for n in range(1, 21)], at_least=20)
    if guarded:
        assert codes(answers) == {"201": 10, "409 TOO_MANY_HOLDS": 10}
        # Another event has a limit of its own.
        assert codes([await hold(there, 1)()]) == {"201": 1}
        await arena.check()
    else:
        assert codes(answers) == {"201": 20}
        assert "somebody holds more than ten slots, or ten seats of an event" in await arena.broken()


async def test_holds_of_several_units_never_exceed_the_limit_either(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    event = await arena.event(boss, *(f"A-{n}" for n in range(1, 41)))
    rooms = [await api.slots(user, await api.room(boss)) for _ in range(10)]
    seats, slots = await asyncio.gather(
        asyncio.gather(*(api.post("/holds", user, json={"eventId": event["id"], "quantity": 3}) for _ in range(10))),
        asyncio.gather(
            *(api.post("/holds", user, json={"slotIds": [day[0]["id"], day[1]["id"], day[2]["id"]]}) for day in rooms)
        ),
    )
    assert codes(seats) == codes(slots) == {"201": 3, "409 TOO_MANY_HOLDS": 7}
    await arena.check()


async def test_a_slot_released_in_a_crowd_at_the_limit_lets_at_most_one_in(arena: Arena, boss: Person) -> None:
    api, user = arena.api, await arena.api.person()
    rooms = [await api.slots(user, await api.room(boss)) for _ in range(18)]
    held = [await arena.held(user, slotId=day[0]["id"]) for day in rooms[:10]]
    released, *answers = await asyncio.gather(
        api.send("DELETE", f"/holds/{held[0]['token']}", user),
        *(api.post("/holds", user, json={"slotId": day[1]["id"]}) for day in rooms[10:]),
    )
    assert released.status_code == 204
    assert set(codes(answers)) <= {"201", "409 TOO_MANY_HOLDS"}
    assert codes(answers)["201"] <= 1
    await arena.check()


async def test_two_processes_share_every_seat_and_every_limit(arena: Arena, boss: Person) -> None:
    """A batch is a process's own; what keeps two processes apart is the database."""
    event = await arena.event(boss, *(f"A-{n}" for n in range(1, 31)))
    people = await arena.people(20)
    async with arena_on(make_settings(arena.url, pool_size=20)) as other:
        answers = await asyncio.gather(
            *(
                one.api.post("/holds", person, json={"eventId": event["id"], "quantity": 2})
                for person in people
                for one in (arena, other)
            )
        )
        assert codes(answers) == {"201": 15, "409 SEATS_TAKEN": 25}
        assert code(next(answer for answer in answers if answer.status_code == 409)) == "SEATS_TAKEN"
    assert await arena.eye.fetchval("SELECT count(*) FROM claims") == 30
    await arena.check()
    assert await arena.deadlocks() == 0
