"""How many statements the hottest routes send, exactly: a list is one, a refusal is one, a booking one short transaction."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import httpx
import pytest
from sqlalchemy import text

from conftest import make_settings
from holdfast.db.database import fetch_in
from support.api import Person, code, tomorrow
from support.races import Arena, arena_on


@pytest.fixture
async def arena(own_database: str) -> AsyncIterator[Arena]:
    async with arena_on(make_settings(own_database, pool_size=2)) as made:
        yield made


async def _warm(arena: Arena, boss: Person) -> tuple[dict[str, str], Person, list[dict[str, str]]]:
    """A room, a user, slots; connections made, the snapshot of revocations fresh."""
    room, user = await arena.api.room(boss), await arena.api.person()
    slots = await arena.api.slots(user, room)
    await arena.api.booked(user, slots[-1])
    await arena.state.revocations.look()
    return room, user, slots


async def test_listing_a_day_is_one_statement(arena: Arena, boss: Person) -> None:
    room, user, _slots = await _warm(arena, boss)
    for path in (f"/rooms/{room['id']}/slots", f"/rooms/{room['id']}/slots/list"):
        for query in ({"date": tomorrow()}, {"date": "2031-05-05"}, {"date": tomorrow(), "status": "all"}):
            listed = await arena.statements.of(arena.api.get(path, user, params=query))
            assert listed.status_code == 200
            assert arena.statements.verbs == ["SELECT"], arena.statements.texts


async def test_listing_writes_nothing(arena: Arena, boss: Person) -> None:
    room, user, _slots = await _warm(arena, boss)
    written = "tup_inserted + tup_updated + tup_deleted"
    before = await arena.statistic(written)
    for days in range(1, 40):
        assert (await arena.api.get(f"/rooms/{room['id']}/slots", user, params={"date": tomorrow(days)})).status_code == 200
    assert await arena.statistic(written) == before
    # The counter counts: a booking moves it.
    await arena.api.booked(user, (await arena.api.slots(user, room))[0])
    assert await arena.statistic(written) > before


async def test_a_refusal_of_a_taken_slot_is_one_statement(arena: Arena, boss: Person) -> None:
    _room, user, slots = await _warm(arena, boss)
    for path in ("/bookings", "/bookings/create"):
        refused = await arena.statements.of(arena.api.post(path, user, json={"slotId": slots[-1]["id"]}))
        assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
        assert arena.statements.verbs == ["SELECT"], arena.statements.texts


async def test_booking_a_slot_is_one_look_and_one_transaction_of_six_statements(arena: Arena, boss: Person) -> None:
    _room, user, slots = await _warm(arena, boss)
    made = await arena.statements.of(arena.api.book(user, slots[0]))
    assert made.status_code == 201
    texts = arena.statements.texts
    assert arena.statements.verbs == [
        "SELECT",  # the look without a lock
        "BEGIN",
        "SELECT",  # the lock
        "SELECT",  # the look at fresh data
        "WITH",  # the booking and its units
        "INSERT",  # the claim
        "INSERT",  # the outbox message
        "COMMIT",
    ], texts
    assert "FOR NO KEY UPDATE" in texts[2]
    assert "INSERT INTO claims" in texts[5]
    assert "INSERT INTO outbox" in texts[6]


async def test_several_slots_of_two_rooms_take_as_many_statements_as_one(arena: Arena, boss: Person) -> None:
    _room, user, slots = await _warm(arena, boss)
    other = await arena.api.slots(user, await arena.api.room(boss))
    made = await arena.statements.of(arena.api.book(user, slots[0]))
    single = list(arena.statements.verbs)
    several = await arena.statements.of(
        arena.api.post("/bookings", user, json={"slotIds": [slot["id"] for slot in (*slots[1:4], *other[:4])]})
    )
    assert (made.status_code, several.status_code) == (201, 201)
    assert arena.statements.verbs == single, arena.statements.texts


async def test_control_the_recorder_hears_every_way_to_the_database(arena: Arena, boss: Person) -> None:
    """The read pool, SQLAlchemy, and raw statements inside of its transactions: in their order, each once."""
    await arena.state.db.open()
    async with arena.statements.during():
        await arena.state.db.fetch("VALUES (1)")
        async with arena.state.db.transaction() as session:
            await session.execute(text("SELECT 2"))
            await fetch_in(session, "TABLE rooms")
    assert arena.statements.verbs == ["VALUES", "BEGIN", "SELECT", "TABLE", "COMMIT"]


async def test_searching_what_is_free_is_one_statement_however_many_rooms_there_are(arena: Arena, boss: Person) -> None:
    _room, user, _slots = await _warm(arena, boss)
    window = {"from": f"{tomorrow()}T00:00:00Z", "to": f"{tomorrow(7)}T00:00:00Z", "minutes": 60}
    for rooms in (1, 5):
        for _ in range(rooms):
            await arena.api.room(boss)
        for query in (window, {**window, "rooms": 2}, {**window, "kind": "room"}):
            found = await arena.statements.of(arena.api.get("/availability", user, params=query))
            assert found.status_code == 200, found.text
            assert found.json()["availability"]
            assert arena.statements.verbs == ["SELECT"], arena.statements.texts


async def test_the_map_of_an_event_is_one_statement_and_so_is_that_it_has_not_changed(arena: Arena, boss: Person) -> None:
    """However many seats there are: once the layout has been read, which is kept by its version."""
    user = await arena.api.person()
    event = await arena.event(boss)
    path = f"/events/{event['id']}/seats"
    assert (await arena.api.post(path, boss, json={"count": 2000})).status_code == 201
    assert (await arena.api.get(path, user)).status_code == 200
    shown = await arena.statements.of(arena.api.get(path, user))
    assert shown.status_code == 200
    assert len(shown.json()["seats"]) == 2000
    assert len(arena.statements.verbs) == 1, arena.statements.texts
    same = await arena.statements.of(arena.api.get(path, user, headers={"If-None-Match": shown.headers["etag"]}))
    assert (same.status_code, same.content) == (304, b"")
    assert len(arena.statements.verbs) == 1, arena.statements.texts
    # A seat that is taken makes another map of the same layout: still one.
    assert (await arena.api.post("/bookings", user, json={"eventId": event["id"], "quantity": 1})).status_code == 201
    changed = await arena.statements.of(arena.api.get(path, user, headers={"If-None-Match": shown.headers["etag"]}))
    assert changed.status_code == 200
    assert len(arena.statements.verbs) == 1, arena.statements.texts


async def test_a_refused_hold_of_a_taken_slot_is_one_statement(arena: Arena, boss: Person) -> None:
    _room, user, slots = await _warm(arena, boss)
    refused = await arena.statements.of(arena.api.post("/holds", user, json={"slotId": slots[-1]["id"]}))
    assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
    assert arena.statements.verbs == ["SELECT"], arena.statements.texts


async def test_twenty_buyers_of_an_event_take_hardly_more_statements_than_one(arena: Arena, boss: Person) -> None:
    """Who waits travels together: one transaction for all that have come meanwhile."""
    people = await arena.people(22)
    event = await arena.event(boss)
    assert (await arena.api.post(f"/events/{event['id']}/seats", boss, json={"count": 100})).status_code == 201

    def buy(who: Person) -> Awaitable[httpx.Response]:
        return arena.api.post("/bookings", who, json={"eventId": event["id"], "quantity": 2})

    assert (await buy(people[0])).status_code == 201
    async with arena.statements.during():
        assert (await buy(people[1])).status_code == 201
    alone = arena.statements.verbs.count("INSERT")
    async with arena.statements.during():
        assert {answer.status_code for answer in await asyncio.gather(*(buy(who) for who in people[2:]))} == {201}
    # The first goes at once, the others together behind it; a few late ones may make a third.
    assert arena.statements.verbs.count("BEGIN") <= 4, arena.statements.verbs
    assert arena.statements.verbs.count("INSERT") <= 4 * alone
