"""Analytics against an evaluation of their own in plain Python, over bookings made at random; and what is refused."""

import random
import statistics
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from holdfast.core.ids import new_id
from support.api import WINDOW, Api, Person, code, tomorrow

ROOM_ZONES = ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns")
SLOT = timedelta(minutes=30)
#: No edge of anything here is finer: midnight in Kathmandu is in the middle of a slot.
STEP = timedelta(minutes=15)


@dataclass
class Made:
    """A booking that a test made: by whom of what is left to chance."""

    id: UUID
    kind: str
    resources: list[int]
    start: datetime
    end: datetime
    created_at: datetime
    cancelled: bool
    seats: list[int] = field(default_factory=list)


@dataclass
class Thing:
    """A room, a host or an event."""

    no: int
    id: str
    name: str
    zone: str = "UTC"


class House:
    """Rooms, hosts, events, and bookings at random, in rows and in memory."""

    def __init__(self, api: Api, seed: int) -> None:
        self.api = api
        self.chance = random.Random(seed)
        self.things: dict[str, list[Thing]] = {"room": [], "host": [], "event": []}
        self.seats: dict[int, list[int]] = {}
        self.starts: dict[int, datetime] = {}
        self.blocked: Counter[int] = Counter()
        self.closed: list[tuple[int, datetime, datetime]] = []
        self.made: list[Made] = []

    async def build(self, admin: Person, middle: datetime) -> None:
        """What there is to book, around an instant."""
        for number, zone in enumerate(ROOM_ZONES):
            room = await self.api.room(admin, name=f"Room {number}", timeZone=zone)
            await self._keep("room", room["id"], room["name"], zone)
        bare = (await self.api.post("/rooms", admin, json={"name": "Bare"})).json()["room"]
        await self._keep("room", bare["id"], bare["name"])
        for number in range(3):
            host = await self.api.post("/hosts", await self.api.person(), json={"displayName": f"Host {number}"})
            await self._keep("host", host.json()["host"]["id"], f"Host {number}")
        for number in range(3):
            body = {"name": f"Event {number}", "start": f"{tomorrow(3)}T18:00:00Z"}
            event = (await self.api.post("/events", admin, json=body)).json()["event"]
            assert (await self.api.post(f"/events/{event['id']}/seats", admin, json={"count": 40})).status_code == 201
            if number == 0:
                body = {"labels": ["1", "2", "3"], "blocked": True}
                assert (await self.api.send("PATCH", f"/events/{event['id']}/seats", admin, json=body)).status_code == 200
            thing = await self._keep("event", event["id"], event["name"])
            self.blocked[thing.no] = 3 if number == 0 else 0
            self.starts[thing.no] = middle + timedelta(days=number * 3, hours=2)
            await self.api.db.fetch("UPDATE events SET start_at = $2 WHERE resource_no = $1", thing.no, self.starts[thing.no])
            free = await self.api.db.fetch(
                "SELECT no FROM seats s WHERE resource_no = $1 AND NOT EXISTS (SELECT FROM claims c WHERE c.seat_no = s.no) "
                "ORDER BY no",
                thing.no,
            )
            self.seats[thing.no] = [row["no"] for row in free]

    async def _keep(self, kind: str, resource_id: str, name: str, zone: str = "UTC") -> Thing:
        rows = await self.api.db.fetch("SELECT no FROM resources WHERE id = $1", UUID(resource_id))
        thing = Thing(rows[0]["no"], resource_id, name, zone)
        self.things[kind].append(thing)
        return thing

    async def close(self, thing: Thing, start: datetime, end: datetime) -> None:
        """A closure, before anything is booked; where it is stored, as the service closes nothing that is over."""
        await self.api.db.fetch(
            "WITH made AS (INSERT INTO closures (id, resource_no, start_at, end_at) VALUES ($1, $2, $3, $4)) "
            "INSERT INTO claims (resource_no, during, closure_id) VALUES ($2, tstzrange($3, $4), $1)",
            new_id(),
            thing.no,
            start,
            end,
        )
        self.closed.append((thing.no, start, end))

    def imagine(self, count: int, first: datetime, last: datetime) -> None:
        """That many bookings, made and starting in some span of time; no two active ones of one unit at one time."""
        taken: set[tuple[int, datetime]] = set()
        free_seats = {no: list(seats) for no, seats in self.seats.items()}
        while len(self.made) < count:
            kind = self.chance.choices(["room", "host", "event"], [6, 2, 1])[0]
            start = first + self.chance.randrange(int((last - first) / SLOT)) * SLOT
            created = start - self.chance.random() ** 2 * timedelta(days=14)
            cancelled = self.chance.random() < 0.2
            if kind == "event":
                thing = self.chance.choice(self.things["event"])
                start = self.starts[thing.no]
                created = start - self.chance.random() * timedelta(days=20)
                seats = free_seats[thing.no][: self.chance.randint(1, 4)]
                if not seats:
                    continue
                if not cancelled:
                    free_seats[thing.no] = free_seats[thing.no][len(seats) :]
                self.made.append(Made(new_id(), kind, [thing.no] * len(seats), start, start + SLOT, created, cancelled, seats))
                continue
            # Several neighbouring slots, sometimes of another room too.
            of_kind = self.things[kind]
            resources = [self.chance.choice(of_kind).no] * self.chance.choice([1, 1, 1, 2, 3])
            if kind == "room" and self.chance.random() < 0.2:
                resources.append(self.chance.choice(of_kind).no)
            units = [(no, start + number * SLOT) for number, no in enumerate(resources)]
            if any(unit in taken for unit in units) or any(
                no == closed and since < at + SLOT and at < until for no, at in units for closed, since, until in self.closed
            ):
                continue
            if not cancelled:
                taken.update(units)
            end = start + len(units) * SLOT
            self.made.append(Made(new_id(), kind, resources, start, end, created, cancelled))

    async def store(self, user: Person) -> None:
        """All of them, as rows."""
        await self.api.db.fetch(
            """
WITH made AS (
  INSERT INTO bookings (id, user_id, kind, status, start_at, end_at, created_at, cancelled_at)
  SELECT id, $1, kind, CASE WHEN gone THEN 'cancelled' ELSE 'active' END, since, until, made_at, CASE WHEN gone THEN now() END
  FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::boolean[])
    AS b(id, kind, since, until, made_at, gone)),
given AS (
  SELECT * FROM unnest($8::uuid[], $9::smallint[], $10::bigint[], $11::bigint[], $12::timestamptz[], $13::timestamptz[],
                       $14::boolean[]) AS u(booking_id, position, resource_no, seat_no, since, until, gone)),
units AS (
  INSERT INTO booking_units (booking_id, position, resource_no, seat_no, during, slot_id)
  SELECT booking_id, position, resource_no, seat_no, tstzrange(since, until), gen_random_uuid() FROM given)
INSERT INTO claims (resource_no, seat_no, during, booking_id)
SELECT resource_no, seat_no, CASE WHEN seat_no = 0 THEN tstzrange(since, until) ELSE tstzrange(NULL, NULL, '()') END, booking_id
FROM given WHERE NOT gone""",
            user.id,
            *(list(column) for column in zip(*self._rows(), strict=True)),
            *(list(column) for column in zip(*self._units(), strict=True)),
        )

    def _rows(self) -> list[tuple[Any, ...]]:
        return [(one.id, one.kind, one.start, one.end, one.created_at, one.cancelled) for one in self.made]

    def _units(self) -> list[tuple[Any, ...]]:
        return [
            (one.id, number + 1, no, *self.unit(one, number), one.cancelled)
            for one in self.made
            for number, no in enumerate(one.resources)
        ]

    def unit(self, one: Made, number: int) -> tuple[int, datetime, datetime]:
        """The seat (0: none) and the time of a unit."""
        if one.seats:
            return one.seats[number], one.start, one.end
        return 0, one.start + number * SLOT, one.start + (number + 1) * SLOT


def instants_of(day: date, zone: str) -> list[datetime]:
    """Every quarter of an hour at which the clock of the zone shows that date."""
    start = datetime.combine(day, time(), UTC) - timedelta(hours=16)
    return [one for one in (start + number * STEP for number in range(4 * 56)) if one.astimezone(ZoneInfo(zone)).date() == day]


def expected(house: House, first: date, last: date, zone: str, top: int = 5) -> dict[str, Any]:
    """What the answer must be: one booking, one day, a quarter of an hour at a time."""
    local = ZoneInfo(zone)
    made = [one for one in house.made if first <= one.created_at.astimezone(local).date() <= last]
    dates = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    made_on = Counter(one.created_at.astimezone(local).date() for one in made)
    cancelled_of = Counter(one.created_at.astimezone(local).date() for one in made if one.cancelled)

    def leading(kind: str) -> list[dict[str, Any]]:
        found = [
            {"id": thing.id, "name": thing.name, "bookings": sum(thing.no in one.resources for one in made)}
            for thing in house.things[kind]
        ]
        return sorted((one for one in found if one["bookings"]), key=lambda one: (-one["bookings"], one["name"]))[:top]

    leads = sorted((one.start - one.created_at) // timedelta(minutes=1) for one in made)
    whole = {instant for day in dates for instant in instants_of(day, zone)}
    uses = []
    for room in house.things["room"]:
        open_at = set()
        for instant in whole:
            shown = instant.astimezone(ZoneInfo(room.zone))
            if room.name != "Bare" and time(9) <= shown.time() < time(17):
                open_at.add(instant)
        open_at -= {i for no, since, until in house.closed if no == room.no for i in whole if since <= i < until}
        booked = {
            house.unit(one, number)[1] + part
            for one in house.made
            if not one.cancelled
            for number, no in enumerate(one.resources)
            if no == room.no
            for part in (timedelta(), STEP)
        }
        opens, taken = 15 * len(open_at), 15 * len(booked & whole)
        uses.append(
            {
                "roomId": room.id,
                "name": room.name,
                "openMinutes": opens,
                "bookedMinutes": taken,
                "percent": percent(taken, opens) if opens else None,
            }
        )
    events = []
    for event in house.things["event"]:
        if first <= house.starts[event.no].astimezone(local).date() <= last:
            booked_seats = sum(len(one.seats) for one in house.made if event.no in one.resources and not one.cancelled)
            capacity = 40 - house.blocked[event.no]
            share = {"capacity": capacity, "booked": booked_seats, "percent": percent(booked_seats, capacity)}
            events.append({"eventId": event.id, "name": event.name, **share})
    gone = sum(one.cancelled for one in made)
    return {
        "from": first.isoformat(),
        "to": last.isoformat(),
        "tz": zone,
        "totals": {
            "bookings": len(made),
            "active": len(made) - gone,
            "cancelled": gone,
            "cancellationRate": percent(gone, len(made)) if made else 0,
            "seats": sum(len(one.seats) for one in made),
        },
        "perDay": [{"date": day.isoformat(), "bookings": made_on[day], "cancelled": cancelled_of[day]} for day in dates],
        "topRooms": leading("room"),
        "topHosts": leading("host"),
        "topEvents": leading("event"),
        "leadTime": {
            "medianMinutes": statistics.median(leads) if leads else None,
            "p90Minutes": ninth_decile(leads),
        },
        "utilization": uses,
        "eventUtilization": events,
    }


def percent(part: int, whole: int) -> float:
    return float((Decimal(100 * part) / whole).quantize(Decimal("0.01"), ROUND_HALF_UP))


def ninth_decile(values: list[int]) -> float | None:
    if len(values) < 2:
        return values[0] if values else None
    return round(statistics.quantiles(values, n=10, method="inclusive")[8], 2)


async def analyze(api: Api, admin: Person, **query: Any) -> dict[str, Any]:
    answer = await api.get("/analytics/bookings", admin, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_analytics_are_what_counting_by_hand_gives(api: Api, admin: Person, user: Person, seed: int) -> None:
    """Around the clock changes of every zone that is asked for, and around the day in the middle."""
    middle = datetime(2026, *[(3, 29), (4, 5), (10, 4), (11, 1)][seed], 12, tzinfo=UTC)
    house = House(api, seed)
    await house.build(admin, middle)
    rooms = house.things["room"]
    await house.close(rooms[0], middle - timedelta(days=2, hours=3), middle - timedelta(hours=1, minutes=30))
    await house.close(rooms[2], middle + timedelta(days=1), middle + timedelta(days=1, hours=1))
    house.imagine(400, middle - timedelta(days=9), middle + timedelta(days=9))
    await house.store(user)
    day = middle.date()
    for zone in ("UTC", "Australia/Lord_Howe", "America/St_Johns", "Europe/Berlin", "Asia/Kathmandu"):
        for before, after in ((0, 0), (1, 1), (12, 5), (60, 30)):
            first, last = day - timedelta(days=before), day + timedelta(days=after)
            found = await analyze(api, admin, **{"from": first.isoformat(), "to": last.isoformat(), "tz": zone})
            assert found == expected(house, first, last, zone), (zone, before, after)
    found = await analyze(api, admin, **{"from": day.isoformat(), "to": day.isoformat(), "topN": 1})
    assert found == expected(house, day, day, "UTC", top=1)


async def test_a_bookings_first_and_last_instant_of_a_day_count_on_that_day(api: Api, admin: Person, user: Person) -> None:
    house = House(api, 0)
    await house.build(admin, datetime(2026, 10, 4, tzinfo=UTC))
    edge = datetime(2026, 10, 4, tzinfo=ZoneInfo("Australia/Lord_Howe")).astimezone(UTC)
    following = datetime(2026, 10, 5, tzinfo=ZoneInfo("Australia/Lord_Howe")).astimezone(UTC)
    tick = timedelta(microseconds=1)
    for created in (edge - tick, edge, following - tick, following):
        start = edge + timedelta(days=5) + len(house.made) * SLOT
        house.made.append(Made(uuid4(), "room", [house.things["room"][0].no], start, start + SLOT, created, cancelled=False))
    await house.store(user)
    found = await analyze(api, admin, **{"from": "2026-10-03", "to": "2026-10-05", "tz": "Australia/Lord_Howe"})
    assert [day["bookings"] for day in found["perDay"]] == [1, 2, 1]
    found = await analyze(api, admin, **{"from": "2026-10-04", "to": "2026-10-04", "tz": "Australia/Lord_Howe"})
    assert found["totals"]["bookings"] == 2


async def test_a_period_without_bookings_has_all_its_days_and_no_lead_time(api: Api, admin: Person) -> None:
    found = await analyze(api, admin, **{"from": "2026-02-27", "to": "2026-03-02"})
    assert [day["date"] for day in found["perDay"]] == ["2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02"]
    assert all(day["bookings"] == day["cancelled"] == 0 for day in found["perDay"])
    assert found["totals"] == {"bookings": 0, "active": 0, "cancelled": 0, "cancellationRate": 0, "seats": 0}
    assert found["leadTime"] == {"medianMinutes": None, "p90Minutes": None}
    assert found["topRooms"] == found["utilization"] == found["eventUtilization"] == []


async def test_a_booking_for_the_end_of_time_is_counted_too(api: Api, admin: Person, user: Person) -> None:
    """Four billion minutes ahead: more than a PostgreSQL integer holds."""
    booking = await api.booked(user, (await api.slots(user, await api.room(admin), "9998-06-01"))[0])
    made_on = booking["createdAt"][:10]
    found = await analyze(api, admin, **{"from": made_on, "to": made_on})
    assert found["totals"]["bookings"] == 1
    assert found["leadTime"]["medianMinutes"] > 2**31


async def test_what_is_booked_through_the_api_is_in_the_analytics(api: Api, admin: Person, user: Person) -> None:
    """By days made, cancelled ones too; and by the time taken, without them."""
    room = await api.room(admin)
    slots = await api.slots(user, room)
    kept = await api.booked(user, slots[0])
    gone = await api.booked(user, slots[1])
    assert (await api.post(f"/bookings/{gone['id']}/cancel", user)).status_code == 200
    today = datetime.now(UTC).date().isoformat()
    found = await analyze(api, admin, **{"from": today, "to": tomorrow()})
    assert (found["totals"]["bookings"], found["totals"]["cancelled"], found["totals"]["cancellationRate"]) == (2, 1, 50.0)
    assert found["topRooms"] == [{"id": room["id"], "name": "Room", "bookings": 2}]
    (use,) = found["utilization"]
    assert (use["openMinutes"], use["bookedMinutes"], use["percent"]) == (960, 30, 3.13)
    moved = await api.post(
        f"/bookings/{kept['id']}/reschedule", user, json={"slotId": (await api.slots(user, room, tomorrow(2)))[0]["id"]}
    )
    assert moved.status_code == 200
    found = await analyze(api, admin, **{"from": today, "to": tomorrow()})
    assert (found["totals"]["bookings"], found["utilization"][0]["bookedMinutes"]) == (2, 0)


async def test_holds_take_no_time_and_archived_rooms_are_told_of_where_they_were_booked(
    api: Api, admin: Person, user: Person
) -> None:
    room, unused, held = [await api.room(admin, name=name) for name in ("Booked", "Unused", "Held")]
    booking = await api.booked(user, (await api.slots(user, room))[0])
    hold = await api.post("/holds", user, json={"slotId": (await api.slots(user, held))[0]["id"]})
    assert hold.status_code == 201
    # Some days back, so that both rooms can be archived.
    for statement in (
        "UPDATE bookings SET start_at = start_at - interval '10 days', end_at = end_at - interval '10 days' WHERE id = $1",
        (
            "UPDATE claims SET during = tstzrange(lower(during) - interval '10 days', upper(during) - interval '10 days') "
            "WHERE booking_id = $1"
        ),
    ):
        await api.db.fetch(statement, UUID(booking["id"]))
    for one in (room, unused):
        assert (await api.send("DELETE", f"/rooms/{one['id']}", admin)).status_code == 204
    found = await analyze(api, admin, **{"from": tomorrow(-9), "to": tomorrow(7)})
    uses = {use["name"]: use for use in found["utilization"]}
    assert set(uses) == {"Booked", "Held"}
    assert (uses["Booked"]["bookedMinutes"], uses["Held"]["bookedMinutes"]) == (30, 0)
    assert 0 < uses["Booked"]["openMinutes"] < uses["Held"]["openMinutes"] == 17 * 8 * 60
    assert found["topRooms"][0]["name"] == "Booked"


async def test_a_booking_outside_of_a_schedule_that_was_cut_short_counts_all_the_same(
    api: Api, admin: Person, user: Person
) -> None:
    room = await api.room(admin)
    for slot in (await api.slots(user, room))[-3:]:
        await api.booked(user, slot)
    shorter = {**WINDOW, "endTime": "09:30"}
    assert (await api.send("PUT", f"/rooms/{room['id']}/schedule", admin, json=shorter)).status_code == 200
    found = await analyze(api, admin, **{"from": tomorrow(), "to": tomorrow()})
    assert found["utilization"][0] | {"roomId": ""} == {
        "roomId": "",
        "name": "Room",
        "openMinutes": 30,
        "bookedMinutes": 90,
        "percent": 300.0,
    }


GOOD = {"from": "2026-11-01", "to": "2026-11-30"}


@pytest.mark.parametrize("path", ["/analytics/bookings", "/analytics/bookings.csv"])
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"from": "2026-11-01"},
        {"to": "2026-11-01"},
        {"from": "2026-11-02", "to": "2026-11-01"},
        {"from": "2026-11-01T00:00:00Z", "to": "2026-11-02"},
        {"from": "2026-02-30", "to": "2026-03-01"},
        {"from": "", "to": ""},
        {"from": "2025-11-01", "to": "2026-11-02"},
        {"from": "0001-01-01", "to": "0001-01-02"},
        {"from": "9999-12-31", "to": "9999-12-31"},
        {**GOOD, "tz": "Europe/Atlantis"},
        {**GOOD, "tz": ""},
        {**GOOD, "tz": "+01:00"},
        {**GOOD, "tz": "../../etc/passwd"},
        {**GOOD, "topN": 0},
        {**GOOD, "topN": 101},
        {**GOOD, "topN": -1},
        {**GOOD, "topN": "many"},
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(api: Api, admin: Person, path: str, query: dict[str, Any]) -> None:
    refused = await api.get(path, admin, params=query)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST"), refused.text


async def test_a_period_that_is_too_long_is_told_the_longest(api: Api, admin: Person) -> None:
    refused = await api.get("/analytics/bookings", admin, params={"from": "2024-01-01", "to": "2026-01-01"})
    assert refused.json()["error"]["details"] == {"rule": "maxDays", "value": 366}
    assert "366 days" in refused.json()["error"]["message"]
    assert len((await analyze(api, admin, **{"from": "2028-01-01", "to": "2028-12-31", "topN": 100}))["perDay"]) == 366


async def test_the_calendars_ends_are_no_fault(api: Api, admin: Person) -> None:
    await api.room(admin, timeZone="Pacific/Kiritimati")
    for day in ("0001-01-08", "9999-12-24"):
        for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Niue"):
            found = await analyze(api, admin, **{"from": day, "to": day, "tz": zone})
            assert found["totals"]["bookings"] == 0


async def test_analytics_are_for_admins(api: Api, user: Person) -> None:
    for path in ("/analytics/bookings", "/analytics/bookings.csv"):
        assert (await api.get(path, user, params=GOOD)).status_code == 403
        assert (await api.get(path, params=GOOD)).status_code == 401
