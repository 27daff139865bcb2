"""The constraint has the last word, whoever writes: overlaps forged in SQL are refused. And holds end by the database's clock."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from holdfast import claims
from holdfast.core.ids import new_id
from support.api import Person, code
from support.races import Arena, codes, crowd, instant, one_winner

NINE = datetime(2030, 1, 7, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


class _Forger:
    """Writes claims straight into the table."""

    def __init__(self, arena: Arena, no: int, user: Person, closer: Person) -> None:
        self.eye = arena.eye
        self.no = no
        self.user = user
        self.closer = closer

    async def booking(self) -> Any:
        booking_id = new_id()
        await self.eye.execute(
            "INSERT INTO bookings (id, user_id, kind, start_at, end_at) VALUES ($1, $2, 'room', $3, $4)",
            booking_id,
            self.user.id,
            NINE,
            NINE + HOUR,
        )
        return booking_id

    async def closure(self) -> Any:
        closure_id = new_id()
        await self.eye.execute(
            "INSERT INTO closures (id, resource_no, start_at, end_at) VALUES ($1, $2, $3, $4)",
            closure_id,
            self.no,
            NINE,
            NINE + HOUR,
        )
        return closure_id

    async def claim(self, during: str, *, seat: int = 0, holder: str = "booking_id", no: int | None = None) -> None:
        """`during` is SQL."""
        values = {"booking_id": None, "closure_id": None}
        if holder == "booking_id":
            values["booking_id"] = await self.booking()
        elif holder == "closure_id":
            values["closure_id"] = await self.closure()
        elif holder == "both":
            values = {"booking_id": await self.booking(), "closure_id": await self.closure()}
        await self.eye.execute(
            f"INSERT INTO claims (resource_no, seat_no, during, booking_id, closure_id) VALUES ($1, $2, {during}, $3, $4)",
            no or self.no,
            seat,
            values["booking_id"],
            values["closure_id"],
        )


@pytest.fixture
async def forger(arena: Arena, boss: Person) -> _Forger:
    room = await arena.api.room(boss)
    return _Forger(arena, await arena.resource_no(room), await arena.api.person(), boss)


def _period(start: str, end: str, bounds: str = "[)") -> str:
    return f"tstzrange('2030-01-07 {start}+00', '2030-01-07 {end}+00', '{bounds}')"


async def test_an_overlap_forged_in_sql_is_refused_by_name(forger: _Forger) -> None:
    await forger.claim(_period("09:00", "10:00"))
    for during in (
        _period("09:00", "10:00"),
        _period("09:30", "09:31"),
        _period("08:00", "09:00:00.000001"),
        _period("09:59:59.999999", "11:00"),
        _period("08:00", "11:00"),
    ):
        for holder in ("booking_id", "closure_id"):
            with pytest.raises(asyncpg.ExclusionViolationError) as refused:
                await forger.claim(during, holder=holder)
            assert refused.value.constraint_name == "claims_never_overlap"
    assert await forger.eye.fetchval("SELECT count(*) FROM claims") == 1


async def test_what_touches_or_is_elsewhere_is_let_in(arena: Arena, boss: Person, forger: _Forger) -> None:
    await forger.claim(_period("09:00", "10:00"))
    await forger.claim(_period("10:00", "11:00"))
    await forger.claim(_period("08:00", "09:00"), holder="closure_id")
    other = await arena.resource_no(await arena.api.room(boss))
    await forger.claim(_period("09:00", "10:00"), no=other)
    for seat in (1, 2):
        await forger.claim("tstzrange(NULL, NULL)", seat=seat)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await forger.claim("tstzrange(NULL, NULL)", seat=2)


async def test_an_update_into_an_overlap_is_refused_too(forger: _Forger) -> None:
    await forger.claim(_period("09:00", "10:00"))
    await forger.claim(_period("10:00", "11:00"))
    with pytest.raises(asyncpg.ExclusionViolationError):
        await forger.eye.execute(
            f"UPDATE claims SET during = {_period('09:30', '11:00')} WHERE lower(during) = '2030-01-07 10:00+00'"
        )


@pytest.mark.parametrize(
    ("during", "seat", "holder", "constraint"),
    [
        ("'empty'::tstzrange", 0, "booking_id", "claims_are_never_empty"),
        (_period("09:00", "09:00"), 0, "booking_id", "claims_are_never_empty"),
        ("'empty'::tstzrange", 3, "booking_id", "claims_are_never_empty"),
        ("tstzrange(NULL, NULL)", 0, "booking_id", "claims_are_half_open_or_a_seat_for_good"),
        ("tstzrange('2030-01-07 09:00+00', NULL)", 0, "booking_id", "claims_are_half_open_or_a_seat_for_good"),
        ("tstzrange(NULL, '2030-01-07 09:00+00')", 0, "booking_id", "claims_are_half_open_or_a_seat_for_good"),
        (_period("09:00", "10:00", "[]"), 0, "booking_id", "claims_are_half_open_or_a_seat_for_good"),
        (_period("09:00", "10:00", "(]"), 0, "booking_id", "claims_are_half_open_or_a_seat_for_good"),
        (_period("09:00", "10:00"), 3, "booking_id", "claims_are_half_open_or_a_seat_for_good"),
        (_period("09:00", "10:00"), 0, "both", "claims_have_one_holder"),
        (_period("09:00", "10:00"), 0, "none", "claims_have_one_holder"),
    ],
)
async def test_a_claim_that_is_none_is_refused_by_name(
    forger: _Forger, during: str, seat: int, holder: str, constraint: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await forger.claim(during, seat=seat, holder=holder)
    # What is empty breaks two of them; PostgreSQL names the first by the alphabet.
    also = {"claims_are_half_open_or_a_seat_for_good"} if constraint == "claims_are_never_empty" else set()
    assert refused.value.constraint_name in {constraint, *also}


@pytest.mark.parametrize("infinity", ["infinity", "-infinity"])
async def test_the_word_infinity_is_no_way_around(forger: _Forger, infinity: str) -> None:
    """`upper_inf` does not see it: a range that ends at the timestamp 'infinity' has an end, formally."""
    bounds = f"'2030-01-07 09:00+00', '{infinity}'" if infinity == "infinity" else f"'{infinity}', '2030-01-07 09:00+00'"
    with pytest.raises(asyncpg.CheckViolationError):
        await forger.claim(f"tstzrange({bounds})")


async def test_only_holds_expire_and_all_of_them_do(arena: Arena, forger: _Forger) -> None:
    booking = await forger.booking()
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await arena.eye.execute(
            "INSERT INTO claims (resource_no, during, booking_id, expires_at) "
            f"VALUES ($1, {_period('09:00', '10:00')}, $2, now())",
            forger.no,
            booking,
        )
    assert refused.value.constraint_name == "claims_expire_only_as_holds"
    hold = new_id()
    await arena.eye.execute(
        "INSERT INTO holds (id, user_id, booking_id, lasts_for, expires_at) VALUES ($1, $2, $3, '1 minute', now())",
        hold,
        forger.user.id,
        new_id(),
    )
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await arena.eye.execute(
            f"INSERT INTO claims (resource_no, during, hold_id) VALUES ($1, {_period('09:00', '10:00')}, $2)", forger.no, hold
        )
    assert refused.value.constraint_name == "claims_expire_only_as_holds"


async def test_two_forged_inserts_in_parallel_leave_one(arena: Arena, forger: _Forger) -> None:
    first, second = await forger.booking(), await forger.booking()
    insert = f"INSERT INTO claims (resource_no, during, booking_id) VALUES ({forger.no}, {_period('09:00', '10:00')}, $1)"
    rival = await asyncpg.connect(arena.url, server_settings={"application_name": "holdfast forger"})
    try:
        async with arena.parked() as parked:
            await parked.execute(insert, first)
            task = asyncio.ensure_future(rival.execute(insert, second))
            await arena.waiting(1)
            await parked.execute("COMMIT; BEGIN")
            with pytest.raises(asyncpg.ExclusionViolationError):
                await task
    finally:
        await rival.close()


async def test_a_lapsed_hold_is_taken_over_by_exactly_one_of_a_crowd(arena: Arena, boss: Person) -> None:
    api = arena.api
    people = await api.people(20)
    (slot, *_) = await api.slots(people[0], await api.room(boss))
    hold = await arena.hold(people[0], slot, lasts=-timedelta(seconds=1))
    answers = await crowd(
        arena,
        arena.holding_writes_to("bookings"),
        [lambda person=person: api.book(person, slot) for person in people],
        at_least=20,
    )
    one_winner(answers)
    assert await arena.eye.fetchval("SELECT ended_at IS NOT NULL FROM holds WHERE id = $1", hold)
    assert await arena.eye.fetchval("SELECT count(*) FROM outbox WHERE type = 'hold.lapsed' AND subject_id = $1", hold) == 1
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_a_live_hold_refuses_everybody_its_owner_too(arena: Arena, boss: Person) -> None:
    api = arena.api
    owner, other = await api.people(2)
    room = await api.room(boss)
    (slot, *_) = await api.slots(owner, room)
    await arena.hold(owner, slot, lasts=timedelta(minutes=5))
    assert slot["id"] not in {free["id"] for free in await api.slots(other, room)}
    answers = await asyncio.gather(*(api.book(person, slot) for person in (owner, other)))
    assert codes(answers) == {"409 SLOT_ALREADY_BOOKED": 2}
    assert await arena.eye.fetchval("SELECT count(*) FROM claims WHERE hold_id IS NOT NULL") == 1


@pytest.mark.parametrize("with_key", [True, False], ids=["key", "no key"])
async def test_a_hold_that_lapses_while_a_rival_waits_is_free_by_the_databases_clock(
    arena: Arena, boss: Person, with_key: bool
) -> None:
    """The rival began while the hold lived by nobody's clock but its own: what counts is the clock after the lock."""
    api = arena.api
    owner, rival = await api.people(2)
    room = await api.room(boss)
    (slot, *_) = await api.slots(owner, room)
    headers = {"Idempotency-Key": "mine"} if with_key else {}
    async with arena.holding_room(room) as parked:
        task = asyncio.ensure_future(api.book(rival, slot, headers=headers))
        await arena.waiting(1)
        # Meanwhile somebody held it, and the hold's end came.
        hold = await arena.hold(owner, slot, lasts=timedelta(milliseconds=50))
        await parked.fetchval("SELECT 1 FROM holds, pg_sleep_until(expires_at) WHERE id = $1", hold)
    assert (await task).status_code == 201
    await arena.check()


async def test_a_hold_that_comes_while_a_rival_waits_and_lives_is_respected(arena: Arena, boss: Person) -> None:
    api = arena.api
    owner, rival = await api.people(2)
    room = await api.room(boss)
    (slot, *_) = await api.slots(owner, room)
    async with arena.holding_room(room):
        task = asyncio.ensure_future(api.book(rival, slot))
        await arena.waiting(1)
        await arena.hold(owner, slot, lasts=timedelta(minutes=5))
    refused = await task
    assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")


async def test_a_lapsed_hold_in_the_way_of_a_closure_and_a_move_is_no_obstacle(arena: Arena, boss: Person) -> None:
    api = arena.api
    owner, mover = await api.people(2)
    room = await api.room(boss)
    slots = await api.slots(owner, room)
    await arena.hold(owner, *slots[0:3], lasts=-timedelta(seconds=1))
    await arena.hold(owner, slots[8], lasts=-timedelta(seconds=1))
    booking = await api.booked(mover, slots[5])
    moved = await api.post(f"/bookings/{booking['id']}/reschedule", mover, json={"slotId": slots[1]["id"]})
    assert moved.status_code == 200, moved.text
    closed = await api.post(f"/rooms/{room['id']}/closures", boss, json={"start": slots[8]["start"], "end": slots[9]["end"]})
    assert closed.status_code == 201, closed.text
    await arena.check()


async def test_a_lapsed_hold_over_two_rooms_is_taken_over_in_both_at_once(arena: Arena, boss: Person) -> None:
    api = arena.api
    owner, *people = await api.people(11)
    here, there = await api.room(boss), await api.room(boss)
    one, other = (await api.slots(owner, here))[0], (await api.slots(owner, there))[0]
    await arena.hold(owner, one, other, lasts=-timedelta(seconds=1))
    answers = await asyncio.gather(*(api.book(person, (one, other)[n % 2]) for n, person in enumerate(people)))
    assert codes(answers) == {"201": 2, "409 SLOT_ALREADY_BOOKED": 8}
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_control_without_the_take_over_a_lapsed_hold_blocks_for_ever(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_arguments: object) -> list[Any]:
        return []

    monkeypatch.setattr(claims, "release_lapsed", nothing)
    api = arena.api
    owner, other = await api.people(2)
    (slot, *_) = await api.slots(owner, await api.room(boss))
    await arena.hold(owner, slot, lasts=-timedelta(seconds=1))
    assert instant(slot["start"]) > datetime.now(UTC)
    assert codes([await api.book(other, slot)]) == {"409 SLOT_ALREADY_BOOKED": 1}
