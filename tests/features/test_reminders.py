"""Reminders: once for each booking and start, at the right instant, whatever the clocks, workers and people do meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from conftest import make_settings
from holdfast.bookings.queries import bookings as queries
from holdfast.bookings.service import remind_all
from holdfast.db.database import Database, fetch_in
from holdfast.main import build_app, build_state
from support.api import Api, Person, tomorrow
from support.databases import execute, with_name

#: A clock that the test sets, in front of the database's own.
CLOCK = (
    "CREATE SCHEMA clock",
    "CREATE TABLE clock.shown (at timestamptz NOT NULL)",
    "INSERT INTO clock.shown VALUES (pg_catalog.now())",
    "CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM clock.shown'",
)
ALL_DAY = {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "00:00", "endTime": "24:00", "slotMinutes": 30}


@dataclass
class World:
    """The API on a database of its own, whose `now()` says what the test says."""

    api: Api
    db: Database
    url: str

    async def reminded_at(self, now: datetime | str) -> list[str]:
        """Look as a worker does at that instant; returns the bookings that are reminded of, in that order."""
        at = datetime.fromisoformat(now) if isinstance(now, str) else now
        before = await self.reminders()
        await self.db.fetch("UPDATE clock.shown SET at = $1", at)
        found = await remind_all(self.db)
        told = (await self.reminders())[len(before) :]
        assert found == len(told)
        return told

    async def reminders(self) -> list[str]:
        """The bookings that were ever reminded of."""
        rows = await self.db.fetch("SELECT subject_id FROM outbox WHERE type = 'booking.reminder' ORDER BY occurred_at, id")
        return [str(row["subject_id"]) for row in rows]


@pytest.fixture
async def world(own_database: str) -> AsyncIterator[World]:
    name = own_database.rpartition("/")[2]
    await asyncio.to_thread(execute, own_database, *CLOCK)
    statement = f'ALTER DATABASE "{name}" SET search_path = clock, pg_catalog, public'
    await asyncio.to_thread(execute, with_name(own_database, "postgres"), statement)
    state = build_state(make_settings(own_database))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build_app(state)), base_url="http://holdfast.test") as client:
        yield World(Api(client, state.db, state.access_tokens), state.db, own_database)
    state.passwords.close()
    await state.db.close()


@pytest.fixture
async def boss(world: World) -> Person:
    return await world.api.admin()


@pytest.fixture
async def anna(world: World) -> Person:
    return await world.api.person()


async def booking_at(
    world: World, boss: Person, who: Person, start: str, *, policy: dict[str, Any] | None = None, zone: str = "UTC"
) -> dict[str, Any]:
    """A booking of half an hour in a room of its own."""
    room = await world.api.room(boss, ALL_DAY, timeZone=zone, **({} if policy is None else {"policy": policy}))
    end = (datetime.fromisoformat(start) + timedelta(minutes=30)).isoformat()
    made = await world.api.post("/bookings", who, json={"roomId": room["id"], "start": start, "end": end})
    assert made.status_code == 201, made.text
    booking: dict[str, Any] = made.json()["booking"]
    return booking


def at(text: str, day: str | None = None) -> str:
    """A time of the day after tomorrow, in UTC."""
    return f"{day or tomorrow(2)}T{text}+00:00"


async def test_a_reminder_comes_a_quarter_of_an_hour_ahead_and_once(world: World, boss: Person, anna: Person) -> None:
    booking = await booking_at(world, boss, anna, at("10:00:00"))
    assert await world.reminded_at(at("09:44:59.999999")) == []
    assert await world.reminded_at(at("09:45:00")) == [booking["id"]]
    for later in ("09:45:00", "09:45:01", "09:59:59", "10:00:00", "11:00:00"):
        assert await world.reminded_at(at(later)) == []
    (row,) = await world.db.fetch("SELECT after::text AS after, actor_id, before FROM outbox WHERE type = 'booking.reminder'")
    assert (json.loads(row["after"]), row["actor_id"], row["before"]) == (booking, None, None)


async def test_no_worker_was_there_in_time_and_it_is_reminded_of_while_it_is_ahead(
    world: World, boss: Person, anna: Person
) -> None:
    early, late = await booking_at(world, boss, anna, at("10:00:00")), await booking_at(world, boss, anna, at("10:30:00"))
    # From a quarter to ten to a quarter past nobody worked: of what has begun it is too late to remind.
    assert early["id"] not in await world.reminded_at(at("10:15:00"))
    assert await world.reminders() == [late["id"]]


async def test_who_books_later_than_that_is_reminded_at_once(world: World, boss: Person, anna: Person) -> None:
    assert await world.reminded_at(at("09:55:00")) == []
    booking = await booking_at(world, boss, anna, at("10:00:00"))
    assert await world.reminded_at(at("09:55:01")) == [booking["id"]]


@pytest.mark.parametrize(
    ("start", "remind_at"),
    [
        # Berlin, 28 March 2027: two o'clock is three o'clock, an hour after midnight UTC.
        ("2027-03-28T03:00:00+02:00", "2027-03-28T00:45:00+00:00"),
        ("2027-03-28T01:30:00+01:00", "2027-03-28T00:15:00+00:00"),
        # 31 October 2027: half past two comes twice.
        ("2027-10-31T02:30:00+02:00", "2027-10-31T00:15:00+00:00"),
        ("2027-10-31T02:30:00+01:00", "2027-10-31T01:15:00+00:00"),
        ("2027-10-31T03:00:00+01:00", "2027-10-31T01:45:00+00:00"),
    ],
)
async def test_the_instant_is_right_in_nights_in_which_clocks_change(
    start: str, remind_at: str, world: World, boss: Person, anna: Person
) -> None:
    booking = await booking_at(world, boss, anna, start, zone="Europe/Berlin")
    instant = datetime.fromisoformat(remind_at)
    for before in (timedelta(hours=2), timedelta(hours=1), timedelta(seconds=1)):
        assert await world.reminded_at(instant - before) == []
    assert await world.reminded_at(instant) == [booking["id"]]
    assert await world.reminded_at(instant + timedelta(hours=1)) == []


async def test_minutes_are_those_that_pass_and_not_those_of_the_clock(world: World, boss: Person, anna: Person) -> None:
    # Two hours before four o'clock of that night it was one o'clock.
    booking = await booking_at(
        world, boss, anna, "2027-03-28T04:00:00+02:00", zone="Europe/Berlin", policy={"reminderMinutes": 120}
    )
    assert await world.reminded_at("2027-03-28T00:59:59+01:00") == []
    assert await world.reminded_at("2027-03-28T01:00:00+01:00") == [booking["id"]]


async def test_a_policy_says_when_and_nought_says_never(world: World, boss: Person, anna: Person) -> None:
    early = await booking_at(world, boss, anna, at("10:00:00"), policy={"reminderMinutes": 1440})
    usual = await booking_at(world, boss, anna, at("10:00:00"), policy={})
    never = await booking_at(world, boss, anna, at("10:00:00"), policy={"reminderMinutes": 0})
    day_before = tomorrow(1)
    assert await world.reminded_at(at("09:59:59", day_before)) == []
    assert await world.reminded_at(at("10:00:00", day_before)) == [early["id"]]
    assert await world.reminded_at(at("09:45:00")) == [usual["id"]]
    for late in ("09:59:59", "10:00:00", "10:00:01"):
        assert await world.reminded_at(at(late)) == []
    assert never["id"] not in await world.reminders()
    # What the owner says now counts, also for what was booked before.
    room = await world.api.send("PATCH", f"/rooms/{never['roomId']}", boss, json={"policy": {"reminderMinutes": 60}})
    assert room.status_code == 200
    assert await world.reminded_at(at("09:00:00")) == [never["id"]]


async def test_of_several_things_the_longest_time_counts(world: World, boss: Person, anna: Person) -> None:
    slots = []
    for minutes in (5, 45, 0):
        room = await world.api.room(boss, ALL_DAY, policy={"reminderMinutes": minutes})
        day = await world.api.slots(anna, room, tomorrow(2))
        slots.append(next(slot for slot in day if slot["start"].endswith("T10:00:00Z")))
    made = await world.api.post("/bookings", anna, json={"slotIds": [slot["id"] for slot in slots]})
    assert made.status_code == 201, made.text
    assert await world.reminded_at(at("09:14:59")) == []
    assert await world.reminded_at(at("09:15:00")) == [made.json()["booking"]["id"]]


async def test_an_event_is_reminded_of_for_each_of_its_bookings(world: World, boss: Person, anna: Person) -> None:
    made = await world.api.post(
        "/events",
        boss,
        json={"name": "Concert", "start": at("20:00:00"), "end": at("22:00:00"), "policy": {"reminderMinutes": 180}},
    )
    event = made.json()["event"]["id"]
    await world.api.post(f"/events/{event}/seats", boss, json={"count": 10})
    ben = await world.api.person()
    booked = [
        (await world.api.post("/bookings", who, json={"eventId": event, "quantity": 3})).json()["booking"]["id"]
        for who in (anna, ben)
    ]
    assert await world.reminded_at(at("16:59:59")) == []
    assert sorted(await world.reminded_at(at("17:00:00"))) == sorted(booked)
    # It begins later: that is another start for all of them.
    moved = await world.api.send("PATCH", f"/events/{event}", boss, json={"start": at("21:00:00")})
    assert moved.status_code == 200, moved.text
    assert await world.reminded_at(at("17:59:59")) == []
    assert sorted(await world.reminded_at(at("18:00:00"))) == sorted(booked)


async def test_what_is_moved_is_reminded_of_again_and_only_then(world: World, boss: Person, anna: Person) -> None:
    booking = await booking_at(world, boss, anna, at("10:00:00"))
    slots = await world.api.slots(anna, {"id": booking["roomId"]}, tomorrow(2))

    async def move(hour: str) -> None:
        slot = next(slot for slot in slots if slot["start"].endswith(f"T{hour}:00Z"))
        moved = await world.api.post(f"/bookings/{booking['id']}/reschedule", anna, json={"slotId": slot["id"]})
        assert moved.status_code == 200, moved.text

    await move("12:00")
    assert await world.reminded_at(at("09:45:00")) == []
    assert await world.reminded_at(at("11:45:00")) == [booking["id"]]
    await move("14:00")
    assert await world.reminded_at(at("11:46:00")) == []
    assert await world.reminded_at(at("13:45:00")) == [booking["id"]]
    # Other words are no other time.
    await world.api.send("PATCH", f"/bookings/{booking['id']}", anna, json={"title": "Other"})
    assert await world.reminded_at(at("13:46:00")) == []


async def test_who_cancelled_is_left_alone(world: World, boss: Person, anna: Person) -> None:
    booking = await booking_at(world, boss, anna, at("10:00:00"))
    assert (await world.api.post(f"/bookings/{booking['id']}/cancel", anna)).status_code == 200
    assert await world.reminded_at(at("09:50:00")) == []


async def test_who_is_suspended_hears_nothing_until_they_are_back(world: World, boss: Person, anna: Person) -> None:
    booking = await booking_at(world, boss, anna, at("10:00:00"))
    for status, expected in (("suspended", []), ("active", [booking["id"]])):
        changed = await world.api.send("PATCH", f"/users/{anna.id}", boss, json={"status": status})
        assert changed.status_code == 200, changed.text
        assert await world.reminded_at(at("09:50:00")) == expected


async def test_whoever_leaves_is_left_alone(world: World, boss: Person, anna: Person) -> None:
    await booking_at(world, boss, anna, at("10:00:00"))
    assert (await world.api.send("DELETE", "/users/me", anna)).status_code in {200, 204}
    assert await world.reminded_at(at("09:50:00")) == []


async def test_several_workers_remind_of_each_booking_once_between_them(
    world: World, boss: Person, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = await booking_at(world, boss, anna, at("10:00:00"))
    ids = await many(world, booking, anna, 400, at("10:00:00"))
    await world.db.fetch("UPDATE clock.shown SET at = $1", datetime.fromisoformat(at("09:50:00")))
    monkeypatch.setattr("holdfast.bookings.service.reminding._AT_ONCE", 50)
    workers = [Database(world.url, pool_size=4) for _ in range(6)]
    try:
        found = await asyncio.gather(*(remind_all(worker) for worker in workers))
        # They skip what another has, so one of them may be done before all is: the next round finds it.
        found.append(await remind_all(world.db))
    finally:
        for worker in workers:
            await worker.close()
    assert sum(count > 0 for count in found) > 1
    assert sum(found) == 401
    assert sorted(await world.reminders()) == sorted([booking["id"], *ids])


async def test_a_worker_that_dies_before_its_commit_has_reminded_of_nothing(
    world: World, boss: Person, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = await booking_at(world, boss, anna, at("10:00:00"))

    async def dies(*_: Any) -> None:
        raise KeyError("the worker's end")

    with monkeypatch.context() as patch:
        patch.setattr("holdfast.outbox.enqueue_all", dies)
        with pytest.raises(KeyError):
            await world.reminded_at(at("09:50:00"))
    # Another one, or the same after a restart: nothing was planned, so nothing is lost.
    other = Database(world.url, pool_size=2)
    try:
        assert await remind_all(other) == 1
        assert await remind_all(other) == 0
    finally:
        await other.close()
    assert await world.reminders() == [booking["id"]]


@pytest.mark.parametrize("what", ["cancel", "move"])
async def test_what_is_cancelled_or_moved_while_a_worker_looks_is_not_reminded_of(
    what: str, world: World, boss: Person, anna: Person
) -> None:
    booking = await booking_at(world, boss, anna, at("10:00:00"))
    change = {
        "cancel": "status = 'cancelled', cancelled_at = clock_timestamp()",
        "move": "start_at = start_at + interval '2 hours', end_at = end_at + interval '2 hours'",
    }[what]
    async with world.db.transaction() as session:
        await fetch_in(session, f"UPDATE bookings SET {change} WHERE id = $1", UUID(booking["id"]))
        # Somebody has it in hand: it is left alone until then, and nobody waits for it.
        assert await world.reminded_at(at("09:50:00")) == []
    assert await world.reminded_at(at("09:50:00")) == []
    assert await world.reminded_at(at("11:50:00")) == ([] if what == "cancel" else [booking["id"]])


_LIKE = """
WITH made AS (
  INSERT INTO bookings (id, user_id, kind, start_at, end_at)
  SELECT gen_random_uuid(), $1, 'room', s.start_at, s.start_at + interval '30 minutes'
  FROM (SELECT $2::timestamptz + n * $4::text::interval AS start_at FROM generate_series(1, $3::int) n) s
  RETURNING id, start_at, end_at)
INSERT INTO booking_units (booking_id, position, resource_no, during, slot_id)
SELECT m.id, 1, u.resource_no, tstzrange(m.start_at, m.end_at), u.slot_id
FROM made m CROSS JOIN booking_units u WHERE u.booking_id = $5
RETURNING booking_id"""


async def many(world: World, like: dict[str, Any], who: Person, count: int, start: str, *, step: str = "0") -> list[str]:
    """Bookings like that one, by SQL; returns their ids."""
    connection = await asyncpg.connect(world.url)
    try:
        rows = await connection.fetch(_LIKE, who.id, datetime.fromisoformat(start), count, step, UUID(like["id"]))
    finally:
        await connection.close()
    return [str(row["booking_id"]) for row in rows]


async def test_a_look_reads_only_what_begins_soon(world: World, boss: Person, anna: Person) -> None:
    soon = await booking_at(world, boss, anna, at("10:00:00"))
    # Who reminds of theirs a year ahead must not have everybody else's looked at.
    far = await booking_at(world, boss, anna, at("12:00:00"), policy={"reminderMinutes": 525_600})
    assert await world.reminded_at(at("09:40:00")) == [far["id"]]
    # Years of bookings that nobody was reminded of, before and after.
    await many(world, soon, anna, 20_000, at("10:00:00"), step="-1 hour")
    await many(world, soon, anna, 20_000, at("11:00:00"), step="1 hour")
    await world.db.fetch("UPDATE clock.shown SET at = $1", datetime.fromisoformat(at("09:50:00")))
    for table in ("bookings", "booking_units", "resources", "users"):
        await world.db.fetch(f"ANALYZE {table}")
    (row,) = await world.db.fetch("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + queries._REMIND.replace("$1", "500"))
    (plan,) = json.loads(row[0])
    text = row[0]
    assert "bookings_to_remind_of" in text
    assert '"Relation Name": "bookings"' in text
    read = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    assert read < 200, text
