"""The fair queue in company: the first tickets win, whoever serves the line may die, and no line delays another."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from conftest import make_settings
from holdfast.bookings import queries
from holdfast.bookings.service import serve_lines
from support.api import Person, code
from support.crashes import until
from support.races import Arena, arena_on, codes

CROWD = 500
FAIR = {"fairQueue": True}
ASYNC = {"Prefer": "respond-async"}
TAKEN = "409 SEATS_TAKEN"
SLOT_TAKEN = "409 SLOT_ALREADY_BOOKED"


@pytest.fixture
async def second(arena: Arena) -> AsyncIterator[Arena]:
    """Another process of the service on the same database."""
    async with arena_on(make_settings(arena.url, pool_size=20)) as made:
        yield made
        await made.state.together.close()


@pytest.fixture(autouse=True)
async def _nothing_is_under_way_afterwards(arena: Arena) -> AsyncIterator[None]:
    yield
    await arena.state.together.close()


async def _sale(arena: Arena, boss: Person, seats: int) -> dict[str, Any]:
    event = await arena.event(boss, policy=FAIR)
    assert (await arena.api.post(f"/events/{event['id']}/seats", boss, json={"count": seats})).status_code == 201
    return event


async def _tickets(arena: Arena) -> list[asyncpg.Record]:
    """All tickets, the first in line first."""
    rows: list[asyncpg.Record] = await arena.eye.fetch(
        "SELECT id, number, user_id, status, booking_id, (request #>> '{selection,quantity}')::int AS quantity "
        "FROM booking_requests ORDER BY number"
    )
    return rows


async def _queued(arena: Arena, count: int) -> None:
    """Return when so many tickets have been given."""

    async def are_there() -> bool:
        found: int = await arena.eye.fetchval("SELECT count(*) FROM booking_requests")
        return found >= count

    await until(are_there)


def _ask(arena: Arena, who: Person, **body: Any) -> Callable[[], Awaitable[httpx.Response]]:
    headers = body.pop("headers", None)
    return partial(arena.api.post, "/bookings", who, json=body, headers=headers)


async def _all(requests: Sequence[Callable[[], Awaitable[httpx.Response]]]) -> list[httpx.Response]:
    return list(await asyncio.gather(*(request() for request in requests)))


async def test_of_five_hundred_at_one_slot_the_first_ticket_wins(arena: Arena, boss: Person) -> None:
    room = await arena.api.room(boss, policy=FAIR)
    people = await arena.people(CROWD)
    (slot, *_) = await arena.api.slots(people[0], room)
    answers = await _all([_ask(arena, who, slotId=slot["id"]) for who in people])
    assert codes(answers) == {"201": 1, SLOT_TAKEN: CROWD - 1}
    first, *others = await _tickets(arena)
    (won,) = [answer for answer in answers if answer.status_code == 201]
    # The booking has the id of its ticket.
    assert won.json()["booking"]["id"] == str(first["id"])
    assert {ticket["status"] for ticket in others} == {"refused"}
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_of_five_hundred_at_a_sale_of_a_hundred_seats_the_first_hundred_tickets_win(
    arena: Arena, second: Arena, boss: Person
) -> None:
    """Over two processes, whose batches are their own: the order is the database's."""
    event = await _sale(arena, boss, 100)
    people = await arena.people(CROWD)
    answers = await _all([_ask((arena, second)[n % 2], who, eventId=event["id"], quantity=1) for n, who in enumerate(people)])
    assert codes(answers) == {"201": 100, TAKEN: CROWD - 100}
    tickets = await _tickets(arena)
    assert [ticket["status"] for ticket in tickets[:100]] == ["booked"] * 100
    assert {ticket["status"] for ticket in tickets[100:]} <= {"refused"}
    await arena.check()
    await second.close_connections()
    assert await arena.deadlocks() == 0


async def test_groups_are_served_in_the_order_of_their_tickets(arena: Arena, boss: Person) -> None:
    """Going through the tickets by their numbers, each has what it wants where that is left: told again by hand."""
    event = await _sale(arena, boss, 60)
    people = await arena.people(80)
    async with arena.holding_room(event):
        tasks = [
            asyncio.ensure_future(_ask(arena, who, eventId=event["id"], quantity=n % 4 + 1)()) for n, who in enumerate(people)
        ]
        await _queued(arena, 80)
    answers = await asyncio.gather(*tasks)
    assert set(codes(answers)) == {"201", TAKEN}
    left = 60
    for ticket in await _tickets(arena):
        fits = ticket["quantity"] <= left
        assert ticket["status"] == ("booked" if fits else "refused"), ticket
        left -= ticket["quantity"] if fits else 0
    assert left == 0
    await arena.check()


async def test_tickets_are_given_in_the_order_of_their_commits(arena: Arena, second: Arena, boss: Person) -> None:
    """The line's lock is kept to the commit: their transactions' numbers rise with their own."""
    event = await _sale(arena, boss, 5)
    people = await arena.people(40)
    async with arena.holding_room(event):
        answers = await _all(
            [_ask((arena, second)[n % 2], who, eventId=event["id"], quantity=1, headers=ASYNC) for n, who in enumerate(people)]
        )
        assert codes(answers) == {"202": 40}
        rows = await arena.eye.fetch("SELECT xmin::text::bigint AS xid FROM booking_requests ORDER BY number")
        assert [row["xid"] for row in rows] == sorted(row["xid"] for row in rows)
    await second.state.together.close()


async def _poll(arena: Arena, who: Person, ticket: str) -> dict[str, Any]:
    shown = await arena.api.get(f"/booking-requests/{ticket}", who)
    assert shown.status_code == 200, shown.text
    found: dict[str, Any] = shown.json()["bookingRequest"]
    return found


async def test_who_does_not_wait_is_told_at_once_where_to_look_and_the_order_is_kept(arena: Arena, boss: Person) -> None:
    event = await _sale(arena, boss, 10)
    people = await arena.people(30)
    tickets: list[str] = []
    async with arena.holding_room(event):
        for n, who in enumerate(people, 1):
            answer = await _ask(arena, who, eventId=event["id"], quantity=1, headers=ASYNC)()
            assert answer.status_code == 202, answer.text
            request = answer.json()["bookingRequest"]
            assert (request["status"], request["position"]) == ("waiting", n)
            assert answer.headers["location"] == f"/booking-requests/{request['id']}"
            tickets.append(request["id"])
        # The third and the fifth have had enough.
        for n in (2, 4):
            left = await arena.api.send("DELETE", f"/booking-requests/{tickets[n]}", people[n])
            assert left.status_code == 204
        assert (await _poll(arena, people[5], tickets[5]))["position"] == 4

    async def all_are_told() -> bool:
        waiting: int = await arena.eye.fetchval("SELECT count(*) FROM booking_requests WHERE status = 'waiting'")
        return waiting == 0

    await until(all_are_told)
    shown = [await _poll(arena, who, ticket) for who, ticket in zip(people, tickets, strict=True)]
    expected = ["booked"] * 12 + ["refused"] * 18
    expected[2] = expected[4] = "cancelled"
    assert [one["status"] for one in shown] == expected
    assert {one["error"]["code"] for one in shown[12:]} == {"SEATS_TAKEN"}
    for who, one in zip(people[:12], shown, strict=False):
        if one["status"] == "booked":
            assert (await arena.api.get(f"/bookings/{one['bookingId']}", who)).status_code == 200
    await arena.check()


async def test_ten_repeats_with_one_key_take_one_ticket_and_one_seat(arena: Arena, boss: Person) -> None:
    event = await _sale(arena, boss, 10)
    user = await arena.api.person()
    for headers in ({}, ASYNC):
        request = _ask(
            arena, user, eventId=event["id"], quantity=1, headers={**headers, "Idempotency-Key": f"once {len(headers)}"}
        )
        answers = await _all([request] * 10)
        assert set(codes(answers)) <= {"201", "202", "409 IDEMPOTENCY_IN_PROGRESS"}
        assert codes(answers)["201"] + codes(answers)["202"] >= 1
    await arena.state.together.close()
    assert [ticket["status"] for ticket in await _tickets(arena)] == ["booked"] * 2
    assert await arena.eye.fetchval("SELECT count(*) FROM bookings") == 2
    await arena.check()


@pytest.mark.parametrize("path", ["/holds", "/bookings/{booking}/reschedule", "/bookings"])
async def test_nobody_gets_past_those_who_stand_in_line(arena: Arena, second: Arena, boss: Person, path: str) -> None:
    """Who holds, moves or books at another process comes later: there is nothing left."""
    event, other = await _sale(arena, boss, 5), await arena.event(boss, "A-1")
    people = await arena.people(8)
    late = await arena.api.person()
    moved = await arena.api.post("/bookings", late, json={"eventId": other["id"], "quantity": 1})
    body = {"eventId": event["id"], "quantity": 1}
    async with arena.holding_room(event):
        early = [asyncio.ensure_future(_ask(arena, who, **body)()) for who in people]
        await _queued(arena, 8)
        address = path.format(booking=moved.json()["booking"]["id"])
        overtaking = asyncio.ensure_future(second.api.post(address, late, json=body))
        await arena.waiting(2)
    assert codes(await asyncio.gather(*early)) == {"201": 5, TAKEN: 3}
    assert codes([await overtaking]) == {TAKEN: 1}
    await arena.check()


# Whoever serves the line may die


async def _end_who_waits_for(arena: Arena, table: str) -> None:
    """End the connections that wait to write to a table, in the midst of their transactions.

    Asked of the locks: `pg_stat_activity` still shows who has just been let go by another lock as waiting.
    """

    async def is_ended() -> bool:
        ended: int = await arena.eye.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE relation = $1::regclass AND NOT granted", table
        )
        return ended > 0

    await until(is_ended)


@pytest.mark.parametrize("table", ["bookings", "claims", "outbox", "booking_requests"])
async def test_an_allocator_that_is_killed_in_mid_batch_loses_and_doubles_nothing(arena: Arena, boss: Person, table: str) -> None:
    """Whatever it was about to write. Who is told to try again has nothing, and who has something is told so."""
    event = await _sale(arena, boss, 20)
    people = await arena.people(40)
    body = {"eventId": event["id"], "quantity": 1}
    async with arena.holding_room(event):
        tasks = [asyncio.ensure_future(_ask(arena, who, **body)()) for who in people]
        await _queued(arena, 40)
        # Written to by nobody else from here on: whoever serves the line stands at it.
        gate = await asyncpg.connect(arena.url)
        await gate.execute(f"BEGIN; LOCK TABLE {table} IN SHARE MODE")
    await _end_who_waits_for(arena, table)
    await gate.close()
    answers = await asyncio.gather(*tasks)
    assert set(codes(answers)) <= {"201", TAKEN, "503 BUSY"}, codes(answers)
    # What the dead one left behind is the next one's.
    await arena.eye.execute("UPDATE booking_requests SET created_at = created_at - interval '10 seconds'")
    await serve_lines(arena.state.db)
    tickets = await _tickets(arena)
    assert len(tickets) == 40
    assert "waiting" not in {ticket["status"] for ticket in tickets}
    told = {who.id: answer.status_code for who, answer in zip(people, answers, strict=True)}
    for ticket in tickets:
        booked = ticket["status"] == "booked"
        assert (told[ticket["user_id"]] == 201) == booked, (ticket, told[ticket["user_id"]])
    by_number = [told[ticket["user_id"]] for ticket in tickets if told[ticket["user_id"]] != 503]
    assert by_number == sorted(by_number)
    assert await arena.eye.fetchval("SELECT count(*) FROM bookings") == list(told.values()).count(201)
    await arena.check()


async def test_a_line_whose_process_is_gone_is_served_by_the_next_in_its_order(arena: Arena, second: Arena, boss: Person) -> None:
    """Tickets were given, and nobody is left who would serve them: the worker of another process does, once."""
    event = await _sale(arena, boss, 10)
    people = await arena.people(25)
    async with arena.holding_room(event):
        answers = await _all([_ask(second, who, eventId=event["id"], quantity=1, headers=ASYNC) for who in people])
        assert codes(answers) == {"202": 25}
        # The process dies: what it was about to do is rolled back with its connections.
        for task in (*second.state.together._running.values(), *second.state.together._watched):
            task.cancel()
        await second.close_connections()
    await arena.eye.execute("UPDATE booking_requests SET created_at = created_at - interval '10 seconds'")
    await asyncio.gather(*(serve_lines(arena.state.db) for _ in range(3)))
    assert [ticket["status"] for ticket in await _tickets(arena)] == ["booked"] * 10 + ["refused"] * 15
    await arena.check()


async def test_four_who_serve_one_line_at_once_serve_each_ticket_once(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await _sale(arena, boss, 150)
    people = await arena.people(240)
    selection = {"eventId": event["id"], "quantity": 1, "section": None, "adjacent": True}
    by = {"userId": None, "role": "user", "requestId": None, "address": None}
    request = json.dumps({"selection": selection, "title": None, "notes": None, "wantsLink": False, "by": by})
    await arena.eye.execute(
        "INSERT INTO booking_requests (id, resource_no, user_id, request, created_at) "
        "SELECT gen_random_uuid(), $1, who, $2::jsonb, clock_timestamp() - interval '1 minute' FROM unnest($3::uuid[]) AS who",
        await arena.resource_no(event),
        request,
        [who.id for who in people],
    )
    async with arena.holding_room(event):
        servers = [asyncio.ensure_future(serve_lines(arena.state.db)) for _ in range(4)]
        await arena.waiting(4)
    await asyncio.gather(*servers)
    assert [ticket["status"] for ticket in await _tickets(arena)] == ["booked"] * 150 + ["refused"] * 90
    await arena.check()
    assert await arena.deadlocks() == 0


async def test_control_without_the_order_of_tickets_others_win(
    arena: Arena, boss: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line served from its end: what is asserted above would see it."""
    event = await _sale(arena, boss, 10)
    people = await arena.people(30)
    forwards = queries.next_in_line

    async def backwards(*arguments: Any, **named: Any) -> Any:
        return (await forwards(*arguments, **named))[::-1]

    monkeypatch.setattr(queries, "next_in_line", backwards)
    async with arena.holding_room(event):
        tasks = [asyncio.ensure_future(_ask(arena, who, eventId=event["id"], quantity=1)()) for who in people]
        await _queued(arena, 30)
    await asyncio.gather(*tasks)
    assert [ticket["status"] for ticket in await _tickets(arena)] == ["refused"] * 20 + ["booked"] * 10


# One line never delays another


async def test_a_hot_resource_does_not_delay_another(arena: Arena, boss: Person) -> None:
    """While the hot one stands still and a hundred wait for it, whoever wants something else is answered."""
    hot, other = await _sale(arena, boss, 50), await _sale(arena, boss, 50)
    room = await arena.api.room(boss, policy=FAIR)
    people = await arena.people(120)
    slots = await arena.api.slots(people[0], room)
    async with arena.holding_room(hot):
        waiting = [asyncio.ensure_future(_ask(arena, who, eventId=hot["id"], quantity=1)()) for who in people[:100]]
        await _queued(arena, 100)
        answers = await _all(
            [
                *(_ask(arena, who, eventId=other["id"], quantity=1) for who in people[100:110]),
                *(_ask(arena, who, slotId=slot["id"]) for who, slot in zip(people[110:], slots, strict=False)),
            ]
        )
        assert codes(answers) == {"201": 20}
        assert not any(task.done() for task in waiting)
    assert codes(await asyncio.gather(*waiting)) == {"201": 50, TAKEN: 50}
    await arena.check()


async def test_a_line_that_stands_still_holds_one_connection(arena: Arena, boss: Person) -> None:
    """However many wait in it: that is why it delays nobody."""
    hot = await _sale(arena, boss, 50)
    people = await arena.people(60)
    async with arena.holding_room(hot):
        waiting = [asyncio.ensure_future(_ask(arena, who, eventId=hot["id"], quantity=1)()) for who in people]
        await _queued(arena, 60)
        await arena.waiting(1)
        assert await arena._how_many_wait() == 1
    assert codes(await asyncio.gather(*waiting)) == {"201": 50, TAKEN: 10}


async def test_the_answer_kept_under_a_key_is_the_tickets(arena: Arena, boss: Person) -> None:
    """A loser's key answers as it did, whatever is free by then."""
    event = await _sale(arena, boss, 1)
    anna, ben = await arena.people(2)
    body = {"eventId": event["id"], "quantity": 1}
    async with arena.holding_room(event):
        first = asyncio.ensure_future(_ask(arena, anna, **body)())
        await _queued(arena, 1)
        loser = asyncio.ensure_future(_ask(arena, ben, **body, headers={"Idempotency-Key": "once"})())
        await _queued(arena, 2)
    won, lost = await first, await loser
    assert (won.status_code, lost.status_code, code(lost)) == (201, 409, "SEATS_TAKEN")
    assert (await arena.api.post(f"/bookings/{won.json()['booking']['id']}/cancel", anna)).status_code == 200
    again = await _ask(arena, ben, **body, headers={"Idempotency-Key": "once"})()
    assert (again.status_code, again.content) == (409, lost.content)
    assert (await arena.eye.fetchval("SELECT booking_id FROM booking_requests WHERE user_id = $1", UUID(str(ben.id)))) is None
