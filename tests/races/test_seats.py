"""Seats of an event in company: two hundred buyers, best available, named, blocked; no seat twice, everybody answered."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import httpx
import pytest

from conftest import make_settings
from holdfast.db import locks
from holdfast.events import seating
from support.api import Person
from support.races import Arena, alone, arena_on, codes, crowd, one_winner

CROWD = 200
TAKEN = "409 SEATS_TAKEN"
Place = tuple[str, str, int]


async def _nothing(*_arguments: object, **_named: object) -> None:
    return


@pytest.fixture
async def second(arena: Arena) -> AsyncIterator[Arena]:
    """Another process of the service on the same database."""
    async with arena_on(make_settings(arena.url, pool_size=20)) as made:
        yield made


async def _hall(arena: Arena, boss: Person, rows: int, seats: int) -> tuple[dict[str, Any], dict[str, Place]]:
    """An event with so many rows of so many seats; where each seat is, by its label."""
    event = await arena.event(boss)
    layout = {"sections": [{"name": "Stalls", "rows": [{"name": str(n), "seats": seats} for n in range(1, rows + 1)]}]}
    made = await arena.api.post(f"/events/{event['id']}/seats", boss, json=layout)
    assert made.status_code == 201, made.text
    return event, {seat["label"]: (seat["section"], seat["row"], seat["number"]) for seat in made.json()["seats"]}


def _buy(arena: Arena, who: Person, event: dict[str, Any], path: str = "/bookings", **body: Any) -> "partial[Any]":
    return partial(arena.api.post, path, who, json={"eventId": event["id"], **body})


def _seats(answers: Sequence[httpx.Response]) -> list[list[str]]:
    """What each of those has who got something."""
    return [(answer.json().get("booking") or answer.json()["hold"])["seats"] for answer in answers if answer.status_code == 201]


def _side_by_side(labels: Sequence[str], places: dict[str, Place]) -> bool:
    found = sorted(places[label] for label in labels)
    first = found[0]
    return found == [(first[0], first[1], first[2] + n) for n in range(len(found))]


async def _counts(arena: Arena, who: Person, event: dict[str, Any]) -> dict[str, int]:
    shown = (await arena.api.get(f"/events/{event['id']}", who)).json()["event"]
    return {name: shown[name] for name in ("capacity", "booked", "held", "available")}


async def test_two_hundred_who_want_neighbouring_seats_of_ten_thousand_all_get_them(
    arena: Arena, second: Arena, boss: Person
) -> None:
    """Over two processes: one to four each, side by side in one row, no seat twice, and nobody waits in vain."""
    event, places = await _hall(arena, boss, 100, 100)
    people = await arena.people(CROWD)
    wanted = [n % 4 + 1 for n in range(CROWD)]
    answers = await asyncio.gather(
        *(
            _buy((arena, second)[n % 2], who, event, ("/bookings", "/holds")[n % 3 == 0], quantity=quantity)()
            for n, (who, quantity) in enumerate(zip(people, wanted, strict=True))
        )
    )
    assert codes(answers) == {"201": CROWD}
    got = _seats(answers)
    assert [len(seats) for seats in got] == wanted
    assert all(_side_by_side(seats, places) for seats in got)
    assert max(Counter(label for seats in got for label in seats).values()) == 1
    counts = await _counts(arena, boss, event)
    assert counts["booked"] + counts["held"] == sum(wanted)
    assert counts["available"] == 10_000 - sum(wanted)
    await arena.check()
    await second.close_connections()
    assert await arena.deadlocks() == 0


async def test_two_hundred_in_a_hall_of_three_hundred_sell_it_to_the_last_seat_that_fits(
    arena: Arena, second: Arena, boss: Person
) -> None:
    event, _places = await _hall(arena, boss, 15, 20)
    people = await arena.people(CROWD)
    rng = random.Random(300)
    wanted = [rng.randrange(1, 5) for _ in people]
    answers = await asyncio.gather(
        *(
            _buy((arena, second)[n % 2], who, event, quantity=quantity)()
            for n, (who, quantity) in enumerate(zip(people, wanted, strict=True))
        )
    )
    assert set(codes(answers)) == {"201", TAKEN}
    sold = Counter(label for seats in _seats(answers) for label in seats)
    assert max(sold.values()) == 1
    counts = await _counts(arena, boss, event)
    assert counts == {"capacity": 300, "booked": len(sold), "held": 0, "available": 300 - len(sold)}
    # Nobody gave back: who was refused wanted more than was left then, and so more than is left now.
    refused = [quantity for quantity, answer in zip(wanted, answers, strict=True) if answer.status_code == 409]
    assert counts["available"] < min(refused)
    await arena.check()
    await second.close_connections()
    assert await arena.deadlocks() == 0


async def test_a_hall_that_is_nearly_full_refuses_two_hundred_cleanly(arena: Arena, boss: Person) -> None:
    event, _places = await _hall(arena, boss, 10, 30)
    full = await arena.people(29)
    for who in full:
        assert (await _buy(arena, who, event, quantity=10)()).status_code == 201
    people = await arena.people(CROWD)
    answers = await asyncio.gather(*(_buy(arena, who, event, quantity=n % 4 + 1)() for n, who in enumerate(people)))
    assert set(codes(answers)) == {"201", TAKEN}
    counts = await _counts(arena, boss, event)
    assert counts["booked"] == 290 + sum(map(len, _seats(answers)))
    assert counts["available"] == 0
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_overlapping_pairs_of_named_seats_in_any_order_never_deadlock(
    arena: Arena, second: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ring of twelve seats: everybody wants two neighbours, half of them named the other way round."""
    for one in (arena, second):
        monkeypatch.setattr(one.state.together, "run", alone)
    labels = [f"A-{n}" for n in range(1, 13)]
    event = await arena.event(boss, *labels)
    people = await arena.people(48)

    def pair(n: int) -> list[str]:
        return [labels[n % 12], labels[(n + 1) % 12]][:: -1 if n % 2 else 1]

    answers = await asyncio.gather(
        *(
            _buy((arena, second)[n // 12 % 2], who, event, ("/bookings", "/holds")[n % 2], seats=pair(n))()
            for n, who in enumerate(people)
        )
    )
    assert set(codes(answers)) == {"201", TAKEN}
    assert 4 <= codes(answers)["201"] <= 6
    await arena.check()
    await second.close_connections()
    assert await arena.deadlocks() == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_named_best_blocked_and_given_back_at_once_add_up(arena: Arena, second: Arena, boss: Person, seed: int) -> None:
    """Forty seats; some want those, some any, the admin blocks and opens them, and some give back what they got."""
    rng = random.Random(seed)
    labels = [f"A-{n}" for n in range(1, 41)]
    event = await arena.event(boss, *labels)
    people = await arena.people(24)
    told: list[httpx.Response] = []

    async def act(one: Arena, who: Person) -> None:
        mine: list[str] = []
        for _ in range(6):
            roll = rng.random()
            if roll < 0.3:
                answer = await _buy(one, who, event, seats=rng.sample(labels, rng.randrange(1, 4)))()
            elif roll < 0.5:
                answer = await _buy(one, who, event, quantity=rng.randrange(1, 4))()
            elif roll < 0.6:
                answer = await _buy(one, who, event, "/holds", quantity=2)()
            elif roll < 0.8 or not mine:
                body = {"labels": rng.sample(labels, 5), "blocked": rng.random() < 0.5}
                answer = await one.api.send("PATCH", f"/events/{event['id']}/seats", boss, json=body)
            elif roll < 0.9:
                answer = await one.api.post(f"/bookings/{mine[0]}/reschedule", who, json={"eventId": event["id"], "quantity": 2})
            else:
                answer = await one.api.post(f"/bookings/{mine.pop()}/cancel", who)
            if answer.status_code == 201 and "booking" in answer.json():
                mine.append(answer.json()["booking"]["id"])
            told.append(answer)

    await asyncio.gather(*(act((arena, second)[n % 2], who) for n, who in enumerate(people)))
    assert set(codes(told)) <= {"200", "201", TAKEN, "409 BOOKING_CANCELLED"}
    assert codes(told)["201"] >= 5
    assert codes(told)["200"] >= 5
    counts = await _counts(arena, boss, event)
    blocked = await arena.eye.fetchval("SELECT count(*) FROM claims WHERE closure_id IS NOT NULL")
    assert counts["capacity"] == 40 - blocked
    assert counts["booked"] + counts["held"] + counts["available"] == counts["capacity"]
    shown = (await arena.api.get(f"/events/{event['id']}/seats", boss)).json()["seats"]
    states = Counter(seat["status"] for seat in shown)
    assert [states[name] for name in ("booked", "held", "free", "blocked")] == [
        *(counts[name] for name in ("booked", "held", "available")),
        blocked,
    ]
    await arena.check()
    await second.close_connections()
    assert await arena.deadlocks() == 0


async def test_who_blocks_and_who_buys_the_same_seat_never_both_succeed(arena: Arena, boss: Person) -> None:
    event = await arena.event(boss, *(f"A-{n}" for n in range(1, 21)))
    people = await arena.people(20)
    for n, who in enumerate(people, 1):
        label = f"A-{n}"
        bought, blocked = await asyncio.gather(
            _buy(arena, who, event, seats=[label])(),
            arena.api.send("PATCH", f"/events/{event['id']}/seats", boss, json={"labels": [label], "blocked": True}),
        )
        assert codes([bought, blocked]) in ({"201": 1, TAKEN: 1}, {TAKEN: 1, "200": 1})
    await arena.check()


async def test_seats_that_are_added_by_two_at_once_are_there_once(arena: Arena, boss: Person) -> None:
    event = await arena.event(boss)
    answers = await asyncio.gather(
        *(
            arena.api.post(f"/events/{event['id']}/seats", boss, json={"seats": [f"A-{m}" for m in range(n, n + 20)]})
            for n in range(1, 11)
        )
    )
    assert codes(answers) == {"201": 10}
    assert sum(len(answer.json()["seats"]) for answer in answers) == 29
    assert (await _counts(arena, boss, event))["capacity"] == 29
    await arena.check()


@pytest.mark.parametrize(
    "off",
    [(), ("lock",), ("constraint",), ("lock", "constraint"), ("lock", "look", "constraint")],
    ids=["guarded", "no lock", "no constraint", "control: neither", "control: nor a look"],
)
async def test_a_dozen_buyers_of_one_seat_are_one_as_long_as_there_is_a_guard(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, off: tuple[str, ...]
) -> None:
    """Each in a transaction of its own, as from twelve processes."""
    event = await arena.event(boss, "A-1")
    people = await arena.people(12)
    monkeypatch.setattr(arena.state.together, "run", alone)
    if "lock" in off:
        monkeypatch.setattr(locks, "resources_by", _nothing)
    if "look" in off:
        monkeypatch.setattr(seating.Hall, "is_free", lambda *_arguments: True)
    if "constraint" in off:
        await arena.eye.execute("ALTER TABLE claims DROP CONSTRAINT claims_never_overlap")
        await arena.eye.execute("DROP INDEX claims_one_per_seat")
    answers = await crowd(
        arena,
        arena.holding_writes_to("claims"),
        [_buy(arena, who, event, seats=["A-1"]) for who in people],
        at_least=12,
    )
    if {"lock", "constraint"} <= set(off):
        assert codes(answers) == {"201": 12}
        assert {"two claims of one unit overlap", "two active bookings have overlapping units"} <= set(await arena.broken())
    else:
        one_winner(answers, TAKEN)
        await arena.check()
        assert await arena.deadlocks() == 0


async def test_two_events_never_wait_for_each_other(arena: Arena, boss: Person) -> None:
    here, there = await arena.event(boss, "A-1"), await arena.event(boss, "A-1")
    first, other = await arena.people(2)
    async with arena.holding_room(here):
        waits = asyncio.ensure_future(_buy(arena, first, here, quantity=1)())
        await arena.waiting(1)
        assert (await _buy(arena, other, there, quantity=1)()).status_code == 201
        assert not waits.done()
    assert (await waits).status_code == 201
