"""The waitlist in company: strict order, one offer for each wait, nobody overtakes, nothing is free while somebody waits."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings.service import settle_all, taking
from holdfast.db import locks
from holdfast.db.models import User
from holdfast.worker import rounds
from support.api import Person
from support.crashes import until
from support.races import Arena, codes, crowd

#: The promise (api.md section 6): a lapsed offer reaches the next within two seconds.
PASSED_ON = timedelta(seconds=2)


async def _nothing(*_arguments: object, **_named: object) -> None:
    return


async def _sold_out(
    arena: Arena, boss: Person, *quantities: int, **fields: Any
) -> tuple[dict[str, Any], list[tuple[Person, str]]]:
    """An event without a free seat: its buyers, each with a booking of so many."""
    event = await arena.event(boss, *(f"A-{n}" for n in range(1, sum(quantities) + 1)), **fields)
    buyers = await arena.people(len(quantities))
    made = await asyncio.gather(
        *(
            arena.api.post("/bookings", who, json={"eventId": event["id"], "quantity": quantity})
            for who, quantity in zip(buyers, quantities, strict=True)
        )
    )
    assert codes(made) == {"201": len(quantities)}
    return event, [(who, answer.json()["booking"]["id"]) for who, answer in zip(buyers, made, strict=True)]


async def _line(arena: Arena, event: dict[str, Any], *quantities: int, **fields: Any) -> list[Person]:
    """People who have joined an event's line one after the other."""
    people = await arena.people(len(quantities))
    for who, quantity in zip(people, quantities, strict=True):
        await arena.joined(who, eventId=event["id"], quantity=quantity, **fields)
    return people


def _cancel(arena: Arena, bought: tuple[Person, str]) -> "partial[Any]":
    who, booking = bought
    return partial(arena.api.post, f"/bookings/{booking}/cancel", who)


async def _statuses(arena: Arena, place: dict[str, Any]) -> list[str]:
    return [status for _, status, _ in await arena.line(place)]


async def _offer_of(arena: Arena, who: Person) -> str | None:
    """The token of the offer that somebody has."""
    entries = (await arena.api.get("/waitlist/my", who)).json()["entries"]
    return next((entry["holdToken"] for entry in entries if entry["status"] == "offered"), None)


@asynccontextmanager
async def _working(arena: Arena, count: int = 1, **fields: Any) -> AsyncIterator[None]:
    """The worker's loop beside the test."""
    loops = [asyncio.ensure_future(rounds(arena.state.db, **fields)) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop


# Giving back, many at once


@pytest.mark.parametrize("auto_book", [False, True], ids=["offers", "booked at once"])
async def test_ten_cancels_at_once_give_ten_who_wait_one_seat_each_in_the_order_of_their_joins(
    arena: Arena, boss: Person, auto_book: bool
) -> None:
    event, bought = await _sold_out(arena, boss, *[1] * 10)
    waiting = await _line(arena, event, *[1] * 10, autoBook=auto_book)
    answers = await crowd(arena, arena.holding_room(event), [_cancel(arena, one) for one in bought], at_least=10)
    assert codes(answers) == {"200": 10}
    assert await arena.offered(event) == [who.id for who in waiting]
    assert await _statuses(arena, event) == ["booked" if auto_book else "offered"] * 10
    taken = await arena.eye.fetch(
        "SELECT coalesce(h.user_id, b.user_id) AS who, count(*) FROM claims c LEFT JOIN holds h ON h.id = c.hold_id "
        "LEFT JOIN bookings b ON b.id = c.booking_id GROUP BY 1"
    )
    assert {row["who"]: row["count"] for row in taken} == {who.id: 1 for who in waiting}
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_six_cancels_at_once_serve_the_first_six_of_ten(arena: Arena, boss: Person) -> None:
    event, bought = await _sold_out(arena, boss, *[1] * 10)
    waiting = await _line(arena, event, *[1] * 10)
    await crowd(arena, arena.holding_room(event), [_cancel(arena, one) for one in bought[:6]], at_least=6)
    assert await arena.offered(event) == [who.id for who in waiting[:6]]
    places = [(await arena.api.get("/waitlist/my", who)).json()["entries"][0]["position"] for who in waiting]
    assert places == [None] * 6 + [1, 2, 3, 4]
    await arena.check()


async def test_control_without_the_lock_of_whoever_gives_back_one_of_the_line_is_offered_two(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, bought = await _sold_out(arena, boss, 1, 1)
    await _line(arena, event, 1, 1)
    monkeypatch.setattr(locks, "resources", _nothing)
    answers = await crowd(arena, arena.holding_writes_to("holds"), [_cancel(arena, one) for one in bought], at_least=2)
    assert codes(answers) == {"200": 2}
    assert await _statuses(arena, event) == ["offered", "waiting"]
    assert "what was offered was nobody's in line, or somebody had two offers for one wait" in await arena.broken()


async def test_groups_get_what_they_asked_for_or_keep_their_place(arena: Arena, boss: Person) -> None:
    """Whatever the order of the cancels: nobody has more or less than asked, nothing is free for whoever fits."""
    for seed in range(4):
        rng = random.Random(seed)
        event, bought = await _sold_out(arena, boss, *[rng.choice((1, 1, 2, 3)) for _ in range(8)])
        await _line(arena, event, *[rng.randrange(1, 6) for _ in range(8)], autoBook=bool(seed % 2))
        rng.shuffle(bought)
        await crowd(arena, arena.holding_room(event), [_cancel(arena, one) for one in bought], at_least=8)
        assert "waiting" in await _statuses(arena, event)
        # Those who are still in line want more than is left: so say the invariants.
        await arena.check()
    assert await arena.deadlocks() == 0


async def test_a_group_too_large_is_served_first_when_enough_is_free(arena: Arena, boss: Person) -> None:
    event, bought = await _sold_out(arena, boss, 1, 1, 1, 1)
    four, one = await _line(arena, event, 3, 1)
    await _cancel(arena, bought[0])()
    assert await arena.offered(event) == [one.id]
    await asyncio.gather(*(_cancel(arena, each)() for each in bought[1:]))
    assert await arena.offered(event) == [one.id, four.id]
    await arena.check()


async def test_ten_who_wait_for_one_slot_have_it_one_after_the_other(arena: Arena, boss: Person) -> None:
    """Each declines in the midst of outsiders who ask too: the line goes on in its order, without a gap for anybody."""
    api = arena.api
    owner, *others = await arena.people(9)
    room = await api.room(boss)
    (slot, *_) = await api.slots(owner, room)
    booking = await api.booked(owner, slot)
    waiting = await arena.people(10)
    for who in waiting:
        await arena.joined(who, slotId=slot["id"])
    await _cancel(arena, (owner, booking["id"]))()
    for who in waiting[:-1]:
        token = await _offer_of(arena, who)
        declined, *refused = await asyncio.gather(
            api.send("DELETE", f"/holds/{token}", who), *(api.book(other, slot) for other in others)
        )
        assert declined.status_code == 204
        assert codes(refused) == {"409 SLOT_ALREADY_BOOKED": 8}
    assert await arena.offered(room) == [who.id for who in waiting]
    await arena.check()
    assert await arena.deadlocks() == 0


# Nobody overtakes


async def _hammer(arena: Arena, outsiders: Sequence[Person], body: dict[str, Any]) -> list[httpx.Response]:
    """Everybody asks at once, half of them to book and half to hold."""
    return list(
        await asyncio.gather(*(arena.api.post(("/bookings", "/holds")[n % 2], who, json=body) for n, who in enumerate(outsiders)))
    )


@pytest.mark.parametrize("kind", ["event", "slot"])
@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: takers promote nobody"])
async def test_nobody_overtakes_the_line_while_a_lapsed_offer_is_to_be_passed_on(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, kind: str, guarded: bool
) -> None:
    """No worker runs here: whoever meets a lapsed offer gives it to the next in line before asking for oneself."""
    api = arena.api
    outsiders = await arena.people(20)
    if kind == "event":
        place, bought = await _sold_out(arena, boss, 1)
        body, named = {"eventId": place["id"], "quantity": 1}, {"eventId": place["id"], "seats": ["A-1"]}
        refusal = "409 SEATS_TAKEN"
    else:
        place = await api.room(boss)
        owner = await api.person()
        (slot, *_) = await api.slots(owner, place)
        bought = [(owner, (await api.booked(owner, slot))["id"])]
        body = named = {"slotId": slot["id"]}
        refusal = "409 SLOT_ALREADY_BOOKED"
    waiting = await arena.people(4)
    for who in waiting:
        await arena.joined(who, **{name: value for name, value in body.items() if name != "seats"})
    await _cancel(arena, bought[0])()
    if not guarded:
        monkeypatch.setattr(taking, "promote", _nothing)
    for n, who in enumerate(waiting):
        token = await _offer_of(arena, who)
        assert token is not None
        await arena.ends_in(token, -0.001)
        answers = await _hammer(arena, outsiders, named if n % 2 else body)
        if not guarded:
            assert codes(answers) == {"201": 1, refusal: 19}
            assert await arena.offered(place) == [waiting[0].id]
            return
        if who is not waiting[-1]:
            assert codes(answers) == {refusal: 20}
            assert await arena.offered(place) == [one.id for one in waiting[: n + 2]]
        else:
            # Nobody waits any more.
            assert codes(answers) == {"201": 1, refusal: 19}
        await arena.check()
    assert await arena.deadlocks() == 0


async def test_nobody_overtakes_the_line_in_a_minute_of_lapsing_offers_amid_workers_and_outsiders(
    arena: Arena, boss: Person
) -> None:
    """Two workers' loops, outsiders who never stop asking, and offers that lapse one after the other."""
    place, bought = await _sold_out(arena, boss, 1)
    waiting = await _line(arena, place, *[1] * 8)
    outsiders = await arena.people(6)
    over = asyncio.Event()
    answers: list[httpx.Response] = []

    async def ask(who: Person, n: int) -> None:
        body = {"eventId": place["id"], **({"quantity": 1} if n % 2 else {"seats": ["A-1"]})}
        while not over.is_set():
            answers.append(await arena.api.post(("/bookings", "/holds")[n % 3 == 0], who, json=body))

    async with _working(arena, 2, every=0.01):
        crowd_of_outsiders = [asyncio.ensure_future(ask(who, n)) for n, who in enumerate(outsiders)]
        await _cancel(arena, bought[0])()
        for who in waiting[:-1]:
            token: str | None = None

            async def has_an_offer(who: Person = who) -> bool:
                nonlocal token
                token = await _offer_of(arena, who)
                return token is not None

            await until(has_an_offer)
            assert token is not None
            await arena.ends_in(token, 0.01)
        await until(lambda: _is_offered(arena, waiting[-1]))
        over.set()
        await asyncio.gather(*crowd_of_outsiders)
    assert set(codes(answers)) == {"409 SEATS_TAKEN"}
    assert len(answers) >= 20
    assert await arena.offered(place) == [who.id for who in waiting]
    await arena.check()
    assert await arena.deadlocks() == 0


async def _is_offered(arena: Arena, who: Person) -> bool:
    return await _offer_of(arena, who) is not None


async def test_a_lapsed_offer_reaches_the_next_within_two_seconds(arena: Arena, boss: Person) -> None:
    """By the worker's loop at its own pace, while nobody asks for anything; by the database's own clock."""
    event, bought = await _sold_out(arena, boss, 1)
    waiting = await _line(arena, event, *[1] * 4)
    await _cancel(arena, bought[0])()
    first = await _offer_of(arena, waiting[0])
    assert first is not None
    await arena.ends_in(first, -2.5)
    # The control: without the loop it reaches nobody.
    assert await _statuses(arena, event) == ["offered", "waiting", "waiting", "waiting"]
    async with _working(arena):
        for who in waiting[1:]:
            await until(partial(_is_offered, arena, who))
            if who is not waiting[-1]:
                token = await _offer_of(arena, who)
                assert token is not None
                await arena.ends_in(token, 0.05)
    rows = await arena.eye.fetch(
        "SELECT o.occurred_at - (SELECT max(p.expires_at) FROM holds p WHERE p.expires_at < o.occurred_at) AS late "
        "FROM outbox o WHERE o.type = 'waitlist.offered' ORDER BY o.occurred_at"
    )
    late = [row["late"] for row in rows][2:]
    assert len(late) == 2
    assert max(late) < PASSED_ON, late
    await arena.check()


async def test_four_workers_beside_each_other_offer_each_seat_once(arena: Arena, boss: Person) -> None:
    event, bought = await _sold_out(arena, boss, *[1] * 6)
    waiting = await _line(arena, event, *[1] * 12)
    for one in bought:
        await _cancel(arena, one)()
    for who in waiting[:6]:
        token = await _offer_of(arena, who)
        assert token is not None
        await arena.ends_in(token, -1)
    async with arena.holding_room(event):
        rounds = [asyncio.ensure_future(settle_all(arena.state.db)) for _ in range(4)]
        await arena.waiting(4)
    await asyncio.gather(*rounds)
    assert await arena.offered(event) == [who.id for who in waiting]
    assert await _statuses(arena, event) == ["lapsed"] * 6 + ["offered"] * 6
    await arena.check()
    assert await arena.deadlocks() == 0


# Joining


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: joiners without the lock"])
async def test_places_of_parallel_joins_are_the_order_of_their_commits_without_a_gap(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    event, _ = await _sold_out(arena, boss, 1)
    people = await arena.people(18)
    if not guarded:
        monkeypatch.setattr(locks, "resources_by", _nothing)
    answers = await crowd(
        arena,
        arena.holding_writes_to("outbox"),
        [partial(arena.api.post, "/waitlist", who, json={"eventId": event["id"], "quantity": 1}) for who in people],
        at_least=18,
    )
    assert codes(answers) == {"201": 18}
    entries = [answer.json()["entry"] for answer in answers]
    places = sorted(entry["position"] for entry in entries)
    if not guarded:
        assert places == [1] * 18
        return
    assert places == list(range(1, 19))
    # Each has its first row written under the lock that it keeps to its commit: their transactions' numbers are the order.
    rows = await arena.eye.fetch("SELECT id::text FROM waitlist_entries ORDER BY xmin::text::bigint")
    told = {entry["id"]: entry["position"] for entry in entries}
    assert [told[row["id"]] for row in rows] == list(range(1, 19))
    assert [row["id"] for row in await arena.eye.fetch("SELECT id::text FROM waitlist_entries ORDER BY number")] == [
        row["id"] for row in rows
    ]
    shown = [
        (await arena.api.get(f"/waitlist/{entry['id']}", who)).json()["entry"] for entry, who in zip(entries, people, strict=True)
    ]
    assert [entry["position"] for entry in shown] == [entry["position"] for entry in entries]
    await arena.check()


async def test_one_who_joins_ten_times_at_once_waits_once(arena: Arena, boss: Person) -> None:
    event, _ = await _sold_out(arena, boss, 1)
    user = await arena.api.person()
    answers = await crowd(
        arena,
        arena.holding_room(event),
        [partial(arena.api.post, "/waitlist", user, json={"eventId": event["id"], "quantity": 1}) for _ in range(10)],
        at_least=10,
    )
    assert codes(answers) == {"201": 1, "409 ALREADY_WAITING": 9}
    await arena.check()


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: joiners without the lock"])
async def test_who_joins_while_the_last_one_is_given_back_is_not_missed(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """The join has looked and found it taken, the cancel has looked and found nobody waiting: each must see the other."""
    event, bought = await _sold_out(arena, boss, 1)
    user = await arena.api.person()
    if not guarded:
        monkeypatch.setattr(locks, "resources_by", _nothing)
    async with arena.holding_writes_to("waitlist_entries"):
        join = asyncio.ensure_future(
            arena.api.post("/waitlist", user, json={"eventId": event["id"], "quantity": 1}),
        )
        await arena.waiting(1)
        cancel = asyncio.ensure_future(_cancel(arena, bought[0])())
        assert await arena.waits_or_is_done(cancel, 2) is guarded
    assert codes([await join, await cancel]) == {"201": 1, "200": 1}
    if guarded:
        assert await arena.offered(event) == [user.id]
        await arena.check()
    else:
        assert await _statuses(arena, event) == ["waiting"]
        assert set(await arena.broken()) == {"seats are free for somebody who waits"}


async def test_joins_cancels_and_bookings_at_once_leave_nothing_free_for_who_waits(arena: Arena, boss: Person) -> None:
    for _ in range(3):
        event, bought = await _sold_out(arena, boss, *[1] * 6)
        joiners, outsiders = await arena.people(10), await arena.people(10)
        body = {"eventId": event["id"], "quantity": 1}
        answers = await asyncio.gather(
            *(_cancel(arena, one)() for one in bought),
            *(arena.api.post("/waitlist", who, json=body) for who in joiners),
            *(arena.api.post("/bookings", who, json=body) for who in outsiders),
        )
        assert set(codes(answers)) <= {"200", "201", "409 SEATS_TAKEN", "409 STILL_AVAILABLE"}
        await arena.check()
    assert await arena.deadlocks() == 0


# Leaving


@pytest.mark.parametrize("cancel_first", [True, False], ids=["cancel first", "leave first"])
async def test_who_leaves_while_the_offer_is_made_lets_the_next_have_it(arena: Arena, boss: Person, cancel_first: bool) -> None:
    event, bought = await _sold_out(arena, boss, 1)
    anna, ben = await _line(arena, event, 1, 1)
    entry = (await arena.api.get("/waitlist/my", anna)).json()["entries"][0]
    both = [_cancel(arena, bought[0]), partial(arena.api.send, "DELETE", f"/waitlist/{entry['id']}", anna)]
    async with arena.holding_room(event):
        tasks = []
        for request in both if cancel_first else reversed(both):
            tasks.append(asyncio.ensure_future(request()))
            await arena.waiting(len(tasks))
    assert codes(await asyncio.gather(*tasks)) == {"200": 1, "204": 1}
    assert [(who, status) for who, status, _ in await arena.line(event)] == [(anna.id, "left"), (ben.id, "offered")]
    assert await arena.offered(event) == ([anna.id] if cancel_first else []) + [ben.id]
    await arena.check()


@pytest.mark.parametrize("by", ["/waitlist/{entry}", "/holds/{token}"])
async def test_an_offer_that_is_confirmed_and_declined_at_once_is_one_of_both(arena: Arena, boss: Person, by: str) -> None:
    """Confirmed first, the decline hears of the booking; declined first, the next in line has it."""
    for confirm_first in (True, False):
        event, bought = await _sold_out(arena, boss, 1)
        anna, ben = await _line(arena, event, 1, 1)
        await _cancel(arena, bought[0])()
        entry = (await arena.api.get("/waitlist/my", anna)).json()["entries"][0]
        path = by.format(entry=entry["id"], token=entry["holdToken"])
        both: list[partial[Any]] = [
            partial(arena.confirm, anna, {"token": entry["holdToken"]}),
            partial(arena.api.send, "DELETE", path, anna),
        ]
        # The first has the hold's row and waits to write.
        async with arena.holding_writes_to("bookings" if confirm_first else "claims"):
            tasks = []
            for request in both if confirm_first else reversed(both):
                tasks.append(asyncio.ensure_future(request()))
                await arena.waiting(len(tasks))
        told = codes(await asyncio.gather(*tasks))
        line = [(who, status) for who, status, _ in await arena.line(event)]
        if confirm_first:
            refusal = "409 HOLD_USED" if "holds" in by else "409 WAITLIST_ENTRY_BOOKED"
            assert told == {"201": 1, refusal: 1}
            assert line == [(anna.id, "booked"), (ben.id, "waiting")]
        else:
            assert told == {"204": 1, "410 HOLD_EXPIRED": 1}
            assert line == [(anna.id, "left"), (ben.id, "offered")]
        await arena.check()
    assert await arena.deadlocks() == 0


# Deadlocks


async def _head_on(barrier: asyncio.Barrier, turns: list[int], session: AsyncSession, ids: Iterable[UUID]) -> set[UUID]:
    """As `locks.users`, one by one, and every other caller from the other end."""
    turns.append(len(turns))
    mine = turns[-1]
    for step, user_id in enumerate(sorted(set(ids), reverse=mine == 1)):
        if step and mine <= 1:
            await barrier.wait()
        await session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    return set(ids)


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control: users locked in no order"])
async def test_two_lines_of_the_same_people_are_served_at_once_without_a_deadlock(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    here, bought_here = await _sold_out(arena, boss, 1, 1)
    there, bought_there = await _sold_out(arena, boss, 1, 1)
    people = await arena.people(2)
    for event, line in ((here, people), (there, people[::-1])):
        for who in line:
            await arena.joined(who, eventId=event["id"], quantity=1)
    if not guarded:
        monkeypatch.setattr(locks, "users", partial(_head_on, asyncio.Barrier(2), []))
    answers = await asyncio.gather(*(_cancel(arena, one)() for one in (bought_here[0], bought_there[0])))
    assert codes(answers) == {"200": 2}
    assert await arena.offered(here) == [people[0].id]
    assert await arena.offered(there) == [people[1].id]
    await arena.check()
    assert (await arena.deadlocks() == 0) is guarded


async def test_an_account_that_ends_while_its_owner_is_served_elsewhere_meets_nobody_head_on(arena: Arena, boss: Person) -> None:
    """Xenia goes, and Anna waits for what she has; elsewhere both are in a line that is served. Whoever has the smaller id."""
    for swapped in (False, True):
        anna, xenia = sorted(await arena.people(2), key=lambda who: who.id, reverse=swapped)
        here, _ = await _sold_out(arena, boss, 1)
        there, bought = await _sold_out(arena, boss, 1, 1)
        own = await arena.event(boss, "A-1")
        mine = await arena.api.post("/bookings", xenia, json={"eventId": own["id"], "quantity": 1})
        assert mine.status_code == 201
        await arena.joined(anna, eventId=own["id"], quantity=1)
        for event in (here, there):
            for who in (anna, xenia):
                await arena.joined(who, eventId=event["id"], quantity=1)
        ended, *cancelled = await crowd(
            arena,
            arena.holding_writes_to("outbox"),
            [partial(arena.api.send, "DELETE", "/users/me", xenia), *(_cancel(arena, one) for one in bought)],
            at_least=3,
        )
        assert (ended.status_code, codes(cancelled)) == (204, {"200": 2})
        assert anna.id in await arena.offered(own)
        await arena.check()
    assert await arena.deadlocks() == 0


@pytest.mark.parametrize("how", ["offered", "held"])
async def test_what_is_offered_to_somebody_whose_account_ends_goes_to_the_next(arena: Arena, boss: Person, how: str) -> None:
    """The end of the account has looked at what there is to give back, and waits; then there is more."""
    anna, ben = await arena.people(2)
    own = await arena.event(boss, "A-1")
    assert (await arena.api.post("/bookings", anna, json={"eventId": own["id"], "quantity": 1})).status_code == 201
    event, bought = await _sold_out(arena, boss, 1)
    if how == "offered":
        await arena.joined(anna, eventId=event["id"], quantity=1)
    async with arena.holding_room(own):
        end = asyncio.ensure_future(arena.api.send("DELETE", "/users/me", anna))
        await arena.waiting(1)
        assert (await _cancel(arena, bought[0])()).status_code == 200
        if how == "held":
            await arena.held(anna, eventId=event["id"], quantity=1)
        await arena.joined(ben, eventId=event["id"], quantity=1)
    assert (await end).status_code == 204
    assert (await arena.offered(event))[-1] == ben.id
    await arena.check()


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_over_three_lines_leaves_nobody_deadlocked_overtaken_or_forgotten(
    arena: Arena, boss: Person, seed: int
) -> None:
    """Everybody has a seat somewhere and waits elsewhere; then all give back, move, decline, confirm, hold, leave, and go."""
    rng = random.Random(seed)
    api = arena.api
    events = [await arena.event(boss, *(f"A-{n}" for n in range(1, 7))) for _ in range(3)]
    people = await arena.people(18)
    booked: list[tuple[Person, str]] = []
    for n, who in enumerate(people):
        made = await api.post("/bookings", who, json={"eventId": events[n % 3]["id"], "quantity": 1})
        assert made.status_code == 201
        booked.append((who, made.json()["booking"]["id"]))
    for who in rng.sample(people, len(people)):
        for event in events:
            body = {"eventId": event["id"], "quantity": rng.choice((1, 1, 2)), "autoBook": rng.random() < 0.3}
            assert (await api.post("/waitlist", who, json=body)).status_code == 201
    told: list[httpx.Response] = []

    async def act(who: Person, booking: str) -> None:
        for _ in range(8):
            event, roll = rng.choice(events), rng.random()
            body = {"eventId": event["id"], "quantity": 1}
            if roll < 0.2:
                answer = await api.post(f"/bookings/{booking}/cancel", who)
            elif roll < 0.35:
                answer = await api.post(f"/bookings/{booking}/reschedule", who, json=body)
            elif roll < 0.5:
                answer = await api.post(rng.choice(("/bookings", "/holds", "/waitlist")), who, json=body)
            elif roll < 0.6:
                labels = rng.sample([f"A-{n}" for n in range(1, 7)], 2)
                body = {"labels": labels, "blocked": roll < 0.54}
                answer = await api.send("PATCH", f"/events/{event['id']}/seats", boss, json=body)
            elif roll < 0.9:
                entries = (await api.get("/waitlist/my", who)).json().get("entries", [])
                live = [entry for entry in entries if entry["status"] in {"waiting", "offered"}]
                if not live:
                    continue
                entry = rng.choice(live)
                if entry["status"] == "offered" and roll < 0.75:
                    answer = await arena.confirm(who, {"token": entry["holdToken"]})
                elif entry["status"] == "offered" and roll < 0.82:
                    answer = await api.send("DELETE", f"/holds/{entry['holdToken']}", who)
                elif roll < 0.85:
                    answer = await api.send("DELETE", f"/waitlist/{entry['id']}", who)
                else:
                    continue
            elif roll < 0.93:
                answer = await api.send("DELETE", "/users/me", who)
                told.append(answer)
                return
            else:
                continue
            told.append(answer)

    async with _working(arena, every=0.02):
        await asyncio.gather(*(act(*one) for one in booked))
    faults = [(str(answer.request.method), answer.request.url.path) for answer in told if answer.status_code == 500]
    assert not faults, (faults, codes(told))
    # A lock that could not be had in two seconds, on a machine that has other things to do, is told so; not more than that.
    assert codes(told)["503 BUSY"] <= len(told) // 10, codes(told)
    assert codes(told)["200"] >= 5
    await settle_all(arena.state.db)
    await arena.check()
    assert await arena.deadlocks() == 0
