"""One Idempotency-Key, one effect: also when it is sent five times at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Any

import httpx
import pytest

from conftest import make_settings
from holdfast.adapters.conferencing import Meeting
from holdfast.idempotency import queries
from support.api import Person, code
from support.races import Arena, apart, arena_on, codes


def _same(answer: httpx.Response, first: httpx.Response) -> None:
    assert answer.content == first.content
    assert answer.status_code == first.status_code
    assert answer.headers["idempotency-replayed"] == "true"
    for name in ("location", "etag", "content-type"):
        assert answer.headers.get(name) == first.headers.get(name)


async def _five_times(arena: Arena, request: Callable[[], Any], *, parked: Any = None) -> httpx.Response:
    """Send it five times at once, and once more; returns the first answer."""
    if parked is None:
        answers = list(await asyncio.gather(*(request() for _ in range(5))))
    else:
        async with apart(arena), parked:
            tasks = [asyncio.ensure_future(request()) for _ in range(5)]
            await arena.waiting(1)
            # One waits for the lock with the key in its hand; the four others are told so, at once.
            for told in islice(asyncio.as_completed(tasks, timeout=5), 4):
                assert (await told).status_code == 409
        answers = list(await asyncio.gather(*tasks))
    firsts = [
        one
        for one in answers
        if "idempotency-replayed" not in one.headers and (one.status_code != 409 or code(one) != "IDEMPOTENCY_IN_PROGRESS")
    ]
    assert len(firsts) == 1, codes(answers)
    first = firsts[0]
    for answer in answers:
        if answer is first:
            continue
        if "idempotency-replayed" in answer.headers:
            _same(answer, first)
        else:
            assert (answer.status_code, code(answer)) == (409, "IDEMPOTENCY_IN_PROGRESS")
    _same(await request(), first)
    return first


async def test_a_booking_sent_five_times_at_once_is_made_once(arena: Arena, boss: Person) -> None:
    room, user = await arena.api.room(boss), await arena.api.person()
    (slot, *_) = await arena.api.slots(user, room)
    first = await _five_times(arena, lambda: arena.api.book(user, slot, headers={"Idempotency-Key": "once"}))
    assert first.status_code == 201
    assert await arena.eye.fetchval("SELECT count(*) FROM bookings") == 1
    await arena.check()


async def test_while_the_first_waits_its_repeats_are_in_progress(arena: Arena, boss: Person) -> None:
    room, user = await arena.api.room(boss), await arena.api.person()
    (slot, *_) = await arena.api.slots(user, room)
    first = await _five_times(
        arena,
        lambda: arena.api.book(user, slot, headers={"Idempotency-Key": "once"}),
        parked=arena.holding_room(room),
    )
    assert first.status_code == 201
    assert await arena.eye.fetchval("SELECT count(*) FROM bookings") == 1
    await arena.check()


async def test_a_refusal_sent_five_times_at_once_is_the_same_refusal(arena: Arena, boss: Person) -> None:
    room, user = await arena.api.room(boss), await arena.api.person()
    (slot, *_) = await arena.api.slots(user, room)
    await arena.api.booked(await arena.api.person(), slot)
    first = await _five_times(arena, lambda: arena.api.book(user, slot, headers={"Idempotency-Key": "once"}))
    assert (first.status_code, code(first)) == (409, "SLOT_ALREADY_BOOKED")


@pytest.mark.parametrize("what", ["cancel", "reschedule", "closure", "schedule", "room"])
async def test_every_change_sent_five_times_at_once_happens_once(arena: Arena, boss: Person, what: str) -> None:
    api = arena.api
    room, user = await api.room(boss), await api.person()
    slots = await api.slots(user, room)
    booking = await api.booked(user, slots[0])
    key = {"Idempotency-Key": "once"}
    windows = {"daysOfWeek": [1, 2, 3], "startTime": "10:00", "endTime": "12:00"}
    request: Callable[[], Any] = {
        "cancel": lambda: api.post(f"/bookings/{booking['id']}/cancel", user, headers=key),
        "reschedule": lambda: api.post(
            f"/bookings/{booking['id']}/reschedule", user, headers=key, json={"slotId": slots[3]["id"]}
        ),
        "closure": lambda: api.post(
            f"/rooms/{room['id']}/closures", boss, headers=key, json={"start": slots[5]["start"], "end": slots[6]["end"]}
        ),
        "schedule": lambda: api.send("PUT", f"/rooms/{room['id']}/schedule", boss, headers=key, json=windows),
        "room": lambda: api.post("/rooms", boss, headers=key, json={"name": "Twin"}),
    }[what]
    before = await arena.eye.fetchval("SELECT count(*) FROM outbox")
    parked = None if what == "room" else arena.holding_room(room)
    first = await _five_times(arena, request, parked=parked)
    assert first.is_success, first.text
    assert await arena.eye.fetchval("SELECT count(*) FROM outbox") == before + 1
    await arena.check()


async def test_another_body_under_the_same_key_is_refused_while_and_after(arena: Arena, boss: Person) -> None:
    room, user = await arena.api.room(boss), await arena.api.person()
    one, other, *_ = await arena.api.slots(user, room)
    key = {"Idempotency-Key": "once"}
    async with arena.holding_room(room):
        first = asyncio.ensure_future(arena.api.book(user, one, headers=key))
        await arena.waiting(1)
        meanwhile = await arena.api.book(user, other, headers=key)
        assert (meanwhile.status_code, code(meanwhile)) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert (await first).status_code == 201
    after = await arena.api.book(user, other, headers=key)
    assert (after.status_code, code(after)) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_two_users_may_use_the_same_key_at_once(arena: Arena, boss: Person) -> None:
    room = await arena.api.room(boss)
    people = await arena.api.people(5)
    slots = await arena.api.slots(people[0], room)
    answers = await asyncio.gather(
        *(arena.api.book(person, slot, headers={"Idempotency-Key": "once"}) for person, slot in zip(people, slots, strict=False))
    )
    assert codes(answers) == {"201": 5}


async def test_control_without_the_keys_lock_and_memory_five_are_made(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(*_arguments: object) -> bool:
        return True

    async def never(*_arguments: object) -> None:
        return

    monkeypatch.setattr(queries, "try_lock", always)
    monkeypatch.setattr(queries, "find", never)
    user = await arena.api.person()
    rooms = [await arena.api.room(boss) for _ in range(5)]
    slots = [(await arena.api.slots(user, room))[0] for room in rooms]
    answers = await asyncio.gather(*(arena.api.book(user, slot, headers={"Idempotency-Key": "once"}) for slot in slots))
    assert codes(answers) == {"201": 5}


class _Gate:
    """A conference provider that answers when it is told to; the booking ids that it was asked with are kept."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.arrived = asyncio.Event()
        self.open = asyncio.Event()

    async def create_link(self, meeting: Meeting) -> str:
        self.asked.append(str(meeting.booking_id))
        self.arrived.set()
        await self.open.wait()
        return f"https://meet.example.com/{meeting.booking_id}"

    async def close(self) -> None:
        return


@pytest.fixture
async def gated(own_database: str) -> AsyncIterator[tuple[Arena, _Gate]]:
    gate = _Gate()
    async with arena_on(make_settings(own_database, pool_size=40), conferencing=gate) as made:
        yield made, gate


async def test_while_the_provider_thinks_repeats_are_in_progress_and_one_link_is_made(gated: tuple[Arena, _Gate]) -> None:
    arena, gate = gated
    boss, user = await arena.api.admin(), await arena.api.person()
    (slot, *_) = await arena.api.slots(user, await arena.api.room(boss))

    def request() -> Any:
        return arena.api.book(user, slot, json={"createConferenceLink": True}, headers={"Idempotency-Key": "once"})

    first = asyncio.ensure_future(request())
    await asyncio.wait_for(gate.arrived.wait(), 5)
    for repeat in await asyncio.gather(*(request() for _ in range(4))):
        assert (repeat.status_code, code(repeat)) == (409, "IDEMPOTENCY_IN_PROGRESS")
    gate.open.set()
    made = await first
    assert made.status_code == 201, made.text
    assert gate.asked == [made.json()["booking"]["id"]]
    _same(await request(), made)
    await arena.check()


async def test_repeats_that_arrive_with_the_confirm_do_not_spoil_it(gated: tuple[Arena, _Gate]) -> None:
    """A repeat has the key's lock for a moment while it is being told "in progress"; the confirm must outlast that."""
    arena, gate = gated
    boss, user = await arena.api.admin(), await arena.api.person()
    (slot, *_) = await arena.api.slots(user, await arena.api.room(boss))

    def request() -> Any:
        return arena.api.book(user, slot, json={"createConferenceLink": True}, headers={"Idempotency-Key": "once"})

    first = asyncio.ensure_future(request())
    await asyncio.wait_for(gate.arrived.wait(), 5)
    # A repeat that stands between its look at the key and its answer: the key's row cannot be read past this lock.
    async with arena.parked("LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE"):
        repeat = asyncio.ensure_future(request())
        await arena.waiting(1)
        gate.open.set()
        both = asyncio.ensure_future(arena.waiting(2))
        await asyncio.wait([first, both], return_when=asyncio.FIRST_COMPLETED)
        both.cancel()
    made = await first
    assert made.status_code == 201, made.text
    assert codes([await repeat]) in ({"409 IDEMPOTENCY_IN_PROGRESS": 1}, {"201": 1})
    _same(await request(), made)
    assert len(set(gate.asked)) == 1
    await arena.check()


async def test_a_hold_that_ends_while_it_is_confirmed_is_a_whole_booking_or_none(gated: tuple[Arena, _Gate]) -> None:
    """The clock decides once: a trigger lets the hold's end pass between the confirm's statements, as a slow disk would."""
    arena, gate = gated
    gate.open.set()
    boss, user = await arena.api.admin(), await arena.api.person()
    slots = await arena.api.slots(user, await arena.api.room(boss))
    await arena.eye.execute("""
        CREATE FUNCTION the_hold_ends() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          UPDATE claims SET expires_at = clock_timestamp() WHERE hold_id IS NOT NULL;
          UPDATE holds SET expires_at = (SELECT max(expires_at) FROM claims WHERE hold_id = holds.id) WHERE ended_at IS NULL;
          RETURN NEW; END $$""")
    await arena.eye.execute("CREATE TRIGGER slow BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION the_hold_ends()")
    answer = await arena.api.post(
        "/bookings", user, json={"slotIds": [slot["id"] for slot in slots[:3]], "createConferenceLink": True}
    )
    assert codes([answer]) in ({"201": 1}, {"502 CONFERENCE_SERVICE_ERROR": 1}), answer.text
    assert await arena.eye.fetchval("SELECT count(*) FROM bookings") == (1 if answer.status_code == 201 else 0)
    await arena.check()
