"""The edges of the room contract: what its text leaves open and api.md sections 0 and 11 decide."""

import asyncio
import base64
import json
import unicodedata
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from support.api import WINDOW, Api, Person, tomorrow
from support.contract import PATHS, check_problem, load_contract, service_document

CONTRACT = load_contract()
PLAIN = {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "09:00", "endTime": "17:00"}


async def bare_room(api: Api, admin: Person) -> dict[str, Any]:
    made = await api.post("/rooms/create", admin, json={"name": "Room"})
    assert made.status_code == 201, made.text
    room: dict[str, Any] = made.json()["room"]
    return room


async def with_schedule(api: Api, admin: Person, **fields: Any) -> tuple[dict[str, Any], httpx.Response]:
    room = await bare_room(api, admin)
    return room, await api.post(f"/rooms/{room['id']}/schedule/create", admin, json=PLAIN | fields)


def refused(response: httpx.Response, status: int = 400, code: str = "INVALID_REQUEST") -> None:
    assert (response.status_code, check_problem(response)) == (status, code), response.text


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


# Errors have one form


@pytest.mark.parametrize(
    "path", ["/nowhere", "/rooms/a/b/c", "/bookings/", "/rooms/", "/static/none.js", "/rooms/%00/x", "/%F0%9F%94%91"]
)
async def test_an_unknown_route_is_404_in_the_envelope(path: str, api: Api) -> None:
    refused(await api.get(path), 404, "NOT_FOUND")


def offered() -> dict[str, set[str]]:
    return {path: {method.upper() for method in methods} for path, methods in service_document()["paths"].items()}


@pytest.mark.parametrize("path", sorted(offered()))
async def test_a_wrong_method_is_405_and_allow_names_every_right_one(path: str, api: Api) -> None:
    wrong = {"TRACE", "PROPFIND", "POST", "PUT", "PATCH", "DELETE"} - offered()[path]
    asked = path.replace("{room_id}", str(uuid4())).replace("{booking_id}", str(uuid4())).replace("{user_id}", str(uuid4()))
    asked = asked.replace("{closure_id}", str(uuid4()))
    for method in sorted(wrong):
        response = await api.send(method, asked)
        refused(response, 405, "METHOD_NOT_ALLOWED")
        allowed = {one.strip() for one in response.headers["allow"].split(",")}
        assert allowed == offered()[path], (method, allowed)


MALFORMED = [
    b"",
    b"{",
    b"nonsense",
    b'{"name": "x"',
    b'{"name": "x"} trailing',
    b"{'name': 'x'}",
    b"\xff\xfe\x00",
    b'{"name": "\xff"}',
    b"[]",
    b"null",
    b'"text"',
    b"12",
    b"[[[[",
]
BODIED = [
    ("POST", "/register", None),
    ("POST", "/login", None),
    ("POST", "/dummyLogin", None),
    ("POST", "/rooms/create", "admin"),
    ("POST", "/rooms", "admin"),
    ("POST", "/bookings/create", "user"),
    ("POST", "/bookings", "user"),
]


@pytest.mark.parametrize(("method", "path", "role"), BODIED)
async def test_a_malformed_body_is_400_never_422(method: str, path: str, role: str | None, api: Api) -> None:
    who = await api.person(role) if role else None
    for body in MALFORMED:
        refused(await api.send(method, path, who, content=body, headers={"Content-Type": "application/json"}))


@pytest.mark.parametrize(("method", "path", "role"), BODIED)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense", ""])
async def test_a_wrong_content_type_is_400(content_type: str, method: str, path: str, role: str | None, api: Api) -> None:
    who = await api.person(role) if role else None
    refused(await api.send(method, path, who, content=b"name=x", headers={"Content-Type": content_type}))


async def test_a_huge_body_is_413_whether_its_length_is_told_or_not(api: Api, admin: Person) -> None:
    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    refused(await api.post("/rooms", admin, content=b" " * (1 << 20) + b"{}"), 413, "TOO_LARGE")
    headers = {"Content-Type": "application/json"}
    refused(await api.post("/rooms", admin, content=chunks(), headers=headers), 413, "TOO_LARGE")
    assert (await api.post("/rooms", admin, json={"name": "still here"})).status_code == 201


# Auth, role, path, body, existence: in that order


@pytest.mark.parametrize(("method", "path", "role"), [one for one in BODIED if one[2]])
async def test_a_missing_bearer_comes_before_a_malformed_body(method: str, path: str, role: str, api: Api) -> None:
    headers = {"Content-Type": "application/json"}
    refused(await api.send(method, path, content=b"{", headers=headers), 401, "UNAUTHORIZED")
    other = await api.person("admin" if role == "user" else "user")
    refused(await api.send(method, path, other, content=b"{", headers=headers), 403, "FORBIDDEN")


async def test_auth_and_role_come_before_the_path_the_path_before_existence(api: Api, admin: Person, user: Person) -> None:
    for path, allowed, other in [
        ("/rooms/blue/schedule/create", admin, user),
        ("/bookings/mine/cancel", user, admin),
    ]:
        refused(await api.post(path, json=PLAIN), 401, "UNAUTHORIZED")
        refused(await api.post(path, other, json=PLAIN), 403, "FORBIDDEN")
        refused(await api.post(path, allowed, json=PLAIN))
    refused(await api.get("/rooms/blue/slots/list"), 401, "UNAUTHORIZED")
    refused(await api.get("/rooms/blue/slots/list", user, params={"date": tomorrow()}))
    # An unknown room with an invalid body: the body first.
    refused(await api.post(f"/rooms/{uuid4()}/schedule/create", admin, json=PLAIN | {"daysOfWeek": []}))
    refused(await api.get(f"/rooms/{uuid4()}/slots/list", user, params={"date": "never"}))


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token abc", "Bearer a.b.c", "Bearer null", "bearer undefined", "x"]
)
async def test_anything_but_a_good_bearer_is_401(value: str, api: Api) -> None:
    for _, path in [("listRooms", "/rooms/list"), ("myBookings", "/bookings/my"), ("listBookings", "/bookings/list")]:
        refused(await api.get(path, headers={"Authorization": value}), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("spelling", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer Bearer {}", "Bearer   {}"])
async def test_the_scheme_is_read_in_any_case_and_once_too_often(spelling: str, api: Api, user: Person) -> None:
    listed = await api.get("/rooms/list", headers={"Authorization": spelling.format(user.token)})
    assert listed.status_code == 200, listed.text


@pytest.mark.parametrize(
    "spelling",
    ["{{{}}}", "urn:uuid:{}", "{}0", " {}", "{} ", "{}\n"],
)
async def test_a_malformed_id_in_a_path_is_400(spelling: str, api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    bad = spelling.format(room["id"])
    refused(await api.get(f"/rooms/{quote(bad)}", user))


async def test_ids_are_read_in_any_case(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    listed = await api.get(f"/rooms/{room['id'].upper()}/slots/list", user, params={"date": tomorrow()})
    slots = listed.json()["slots"]
    assert len(slots) == 16
    booked = await api.post("/bookings/create", user, json={"slotId": slots[0]["id"].upper()})
    assert booked.status_code == 201, booked.text
    assert booked.json()["booking"]["slotId"] == slots[0]["id"]


# Schedules


async def test_one_digit_hours_are_answered_with_two(api: Api, admin: Person) -> None:
    room, made = await with_schedule(api, admin, startTime="9:00", endTime="9:30")
    assert made.status_code == 201, made.text
    schedule = made.json()["schedule"]
    assert (schedule["startTime"], schedule["endTime"]) == ("09:00", "09:30")
    shown = (await api.get(f"/rooms/{room['id']}/schedule", admin)).json()["schedule"]
    assert (shown["startTime"], shown["endTime"]) == ("09:00", "09:30")
    put = await api.send(
        "PUT",
        f"/rooms/{room['id']}/schedule",
        admin,
        json={"windows": [{"daysOfWeek": [1], "startTime": "0:00", "endTime": "8:05"}]},
    )
    assert put.json()["schedule"]["windows"] == [{"daysOfWeek": [1], "startTime": "00:00", "endTime": "08:05"}]


@pytest.mark.parametrize(
    ("start", "end", "slots"), [("00:00", "23:59", 47), ("09:00", "10:45", 3), ("09:00", "09:30", 1), ("9:15", "10:14", 1)]
)
async def test_a_tail_shorter_than_a_slot_is_dropped(start: str, end: str, slots: int, api: Api, admin: Person) -> None:
    room, made = await with_schedule(api, admin, startTime=start, endTime=end)
    assert made.status_code == 201, made.text
    listed = await api.slots(admin, room)
    assert len(listed) == slots
    for slot in listed:
        begin, finish = datetime.fromisoformat(slot["start"]), datetime.fromisoformat(slot["end"])
        assert finish - begin == timedelta(minutes=30)
        assert slot["start"].endswith("Z")
        assert slot["roomId"] == room["id"]
    assert all(earlier["end"] == later["start"] for earlier, later in pairwise(listed))


async def test_repeated_days_are_deduplicated(api: Api, admin: Person) -> None:
    _, made = await with_schedule(api, admin, daysOfWeek=[3, 1, 1, 3, 7, 7])
    assert made.json()["schedule"]["daysOfWeek"] == [1, 3, 7]


BAD_SCHEDULES: list[dict[str, Any]] = [
    {"daysOfWeek": []},
    {"daysOfWeek": [0]},
    {"daysOfWeek": [8]},
    {"daysOfWeek": [-1]},
    {"daysOfWeek": ["1"]},
    {"daysOfWeek": [True]},
    {"daysOfWeek": [1.5]},
    {"daysOfWeek": [None]},
    {"daysOfWeek": None},
    {"daysOfWeek": 1},
    {"daysOfWeek": "1"},
    {"daysOfWeek": {"1": 1}},
    {"startTime": "17:00", "endTime": "09:00"},
    {"startTime": "09:00", "endTime": "09:00"},
    {"startTime": "09:00", "endTime": "09:29"},
    {"endTime": "24:00"},
    {"startTime": "24:00"},
    {"startTime": "9"},
    {"startTime": "9:0"},
    {"startTime": "09:60"},
    {"startTime": "25:00"},
    {"startTime": "0900"},
    {"startTime": "09:00:00"},
    {"startTime": "09:00\n"},
    {"startTime": " 09:00"},
    {"startTime": "-9:00"},
    {"startTime": "009:00"},
    {"startTime": "\uff10\uff19:00"},
    {"startTime": ""},
    {"startTime": None},
    {"startTime": 900},
    {"startTime": True},
]


@pytest.mark.parametrize("fields", BAD_SCHEDULES, ids=[json.dumps(one) for one in BAD_SCHEDULES])
async def test_a_schedule_that_makes_no_sense_is_400_and_none_is_made(fields: dict[str, Any], api: Api, admin: Person) -> None:
    room, made = await with_schedule(api, admin, **fields)
    refused(made)
    refused(await api.get(f"/rooms/{room['id']}/schedule", admin), 404, "SCHEDULE_NOT_FOUND")


@pytest.mark.parametrize("missing", ["daysOfWeek", "startTime", "endTime"])
async def test_a_schedule_needs_all_three(missing: str, api: Api, admin: Person) -> None:
    room = await bare_room(api, admin)
    body = {name: value for name, value in PLAIN.items() if name != missing}
    refused(await api.post(f"/rooms/{room['id']}/schedule/create", admin, json=body))


async def test_the_room_id_in_the_body_is_optional_and_the_path_wins(api: Api, admin: Person) -> None:
    other = await bare_room(api, admin)
    room, made = await with_schedule(api, admin, roomId=other["id"])
    assert made.status_code == 201
    assert made.json()["schedule"]["roomId"] == room["id"]
    refused(await api.get(f"/rooms/{other['id']}/schedule", admin), 404, "SCHEDULE_NOT_FOUND")
    _, without = await with_schedule(api, admin)
    assert without.status_code == 201


async def test_midnight_as_an_end_is_for_put(api: Api, admin: Person) -> None:
    room = await api.room(admin, schedule={**WINDOW, "startTime": "00:00", "endTime": "24:00"})
    assert len(await api.slots(admin, room)) == 48


async def test_eight_parallel_schedule_creations_make_one(api: Api, admin: Person) -> None:
    room = await bare_room(api, admin)
    answers = await asyncio.gather(*(api.post(f"/rooms/{room['id']}/schedule/create", admin, json=PLAIN) for _ in range(8)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 7}
    for answer in answers:
        CONTRACT.check("createSchedule", answer)


# Rooms

BAD_ROOMS: list[dict[str, Any]] = [
    {"name": ""},
    {"name": " "},
    {"name": "\t\n\u00a0\u2003"},
    {"name": None},
    {"name": 5},
    {"name": ["x"]},
    {"capacity": 0},
    {"capacity": -1},
    {"capacity": "10"},
    {"capacity": True},
    {"capacity": False},
    {"capacity": 1.5},
    {"capacity": [1]},
    {"capacity": 10**30},
    {"capacity": 1 << 31},
    {"description": 5},
]


@pytest.mark.parametrize("path", PATHS["createRoom"])
@pytest.mark.parametrize("fields", BAD_ROOMS, ids=[json.dumps(one)[:30] for one in BAD_ROOMS])
async def test_types_are_taken_literally_and_blank_names_refused(
    fields: dict[str, Any], path: str, api: Api, admin: Person
) -> None:
    refused(await api.post(path, admin, json={"name": "Room", **fields}))
    assert (await api.get("/rooms/list", admin)).json() == {"rooms": []}


async def test_unknown_fields_are_ignored(api: Api, admin: Person) -> None:
    made = await api.post("/rooms/create", admin, json={"name": "Room", "colour": "blue", "id": str(uuid4())})
    assert made.status_code == 201
    assert "colour" not in made.json()["room"]


async def test_created_things_have_a_location_that_answers(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    booked = await api.book(user, (await api.slots(user, room))[0])
    made = await api.post("/rooms", admin, json={"name": "Another"})
    for response, who in [(booked, user), (made, admin)]:
        assert response.status_code == 201
        found = await api.get(response.headers["location"], who)
        assert found.json() == response.json()


async def test_rooms_and_own_bookings_come_whole(api: Api, admin: Person, user: Person) -> None:
    for n in range(105):
        assert (await api.post("/rooms", admin, json={"name": f"Room {n}"})).status_code == 201
    rooms = (await api.get("/rooms/list", user)).json()
    assert [one["name"] for one in rooms["rooms"]] == [f"Room {n}" for n in range(105)]
    room = await api.room(admin, schedule={**WINDOW, "slotMinutes": 5})
    slots = (await api.slots(user, room))[:30]
    for slot in reversed(slots):
        await api.booked(user, slot)
    mine = (await api.get("/bookings/my", user)).json()["bookings"]
    assert [one["slotId"] for one in mine] == [slot["id"] for slot in slots]


async def test_empty_lists_are_lists(api: Api, admin: Person, user: Person) -> None:
    assert (await api.get("/rooms/list", user)).json() == {"rooms": []}
    assert (await api.get("/bookings/my", user)).json() == {"bookings": []}
    everything = (await api.get("/bookings/list", admin)).json()
    assert everything == {"bookings": [], "pagination": {"page": 1, "pageSize": 20, "total": 0}}
    room = await bare_room(api, admin)
    listed = await api.get(f"/rooms/{room['id']}/slots/list", user, params={"date": tomorrow()})
    assert listed.json() == {"slots": []}


# Slots


@pytest.mark.parametrize("path", PATHS["listSlots"])
async def test_past_slots_are_listed_but_cannot_be_booked(path: str, api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    listed = await api.get(path.format(roomId=room["id"]), user, params={"date": tomorrow(-3)})
    slots = listed.json()["slots"]
    assert len(slots) == 16
    for create in PATHS["createBooking"]:
        refused(await api.post(create, user, json={"slotId": slots[0]["id"]}))
    assert (await api.get("/bookings/list", admin)).json()["pagination"]["total"] == 0


async def test_a_day_without_a_window_is_empty(api: Api, admin: Person, user: Person) -> None:
    weekday = date.fromisoformat(tomorrow()).isoweekday()
    room, _ = await with_schedule(api, admin, daysOfWeek=[day for day in range(1, 8) if day != weekday])
    assert await api.slots(user, room) == []
    assert len(await api.slots(user, room, tomorrow(2))) == 16


@pytest.mark.parametrize("path", PATHS["listSlots"])
async def test_a_fully_booked_day_stays_empty(path: str, api: Api, admin: Person, user: Person) -> None:
    room, _ = await with_schedule(api, admin, endTime="10:00")
    for slot in await api.slots(user, room):
        await api.booked(user, slot)
    for _ in range(2):
        listed = await api.get(path.format(roomId=room["id"]), user, params={"date": tomorrow()})
        assert listed.json() == {"slots": []}
    assert len(await api.slots(user, room, tomorrow(2))) == 2


ZONES = ["UTC", "Asia/Tokyo", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Africa/Monrovia", "Europe/Dublin"]


@pytest.mark.parametrize("zone", ZONES)
async def test_any_date_may_be_asked_for(zone: str, api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, timeZone=zone)
    for day in ("0001-01-01", "9999-12-31"):
        assert await api.slots(user, room, day) == [], day
    for day in ("0001-01-15", "0999-02-28", "1582-10-10", "1900-02-28", "2000-02-29", "2400-02-29", "9999-12-15"):
        slots = await api.slots(user, room, day)
        assert len(slots) == 16, day
        assert len({slot["id"] for slot in slots}) == 16
    for path in PATHS["listSlots"]:
        for status in ("free", "all"):
            for day in ("0001-01-01", "0001-01-02", "9999-12-30", "9999-12-31"):
                listed = await api.get(path.format(roomId=room["id"]), user, params={"date": day, "status": status})
                CONTRACT.check("listSlots", listed)
                assert listed.status_code == 200


BAD_DATES = [
    "",
    " ",
    "today",
    "2026-11-31",
    "2027-02-29",
    "1900-02-29",
    "0000-01-01",
    "10000-01-01",
    "-001-01-01",
    "2026-1-1",
    "20261120",
    "2026-W47-5",
    "2026-324",
    "2026-11-20T00:00:00Z",
    "2026-11-20T00:00:00",
    "2026-11-20 ",
    " 2026-11-20",
    "2026-11-20\n",
    "2026/11/20",
    "20.11.2026",
    "1700000000",
    "1700000000000",
    "0",
    "-1",
    "1e9",
    "NaN",
    "null",
    "\uff12\uff10\uff12\uff16-11-20",
    "2026-11-2\u0660",
    "2026-11-20\x00",
]


@pytest.mark.parametrize("path", PATHS["listSlots"])
@pytest.mark.parametrize("text", BAD_DATES, ids=[repr(one) for one in BAD_DATES])
async def test_a_date_is_ten_characters_and_nothing_else(text: str, path: str, api: Api, admin: Person) -> None:
    room = await bare_room(api, admin)
    refused(await api.get(path.format(roomId=room["id"]), admin, params={"date": text}))


async def test_twenty_parallel_first_reads_give_the_same_ids(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    lists = await asyncio.gather(*(api.slots(user, room, tomorrow(40)) for _ in range(20)))
    assert len(lists[0]) == 16
    assert all(one == lists[0] for one in lists)
    booking = await api.booked(user, lists[0][3])
    assert booking["slotId"] == lists[0][3]["id"]


async def test_an_archived_room_is_gone_for_slots_and_booking(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slot = (await api.slots(user, room))[0]
    assert (await api.send("DELETE", f"/rooms/{room['id']}", admin)).status_code == 204
    listed = await api.get(f"/rooms/{room['id']}/slots/list", user, params={"date": tomorrow()})
    refused(listed, 404, "ROOM_NOT_FOUND")
    refused(await api.book(user, slot), 404, "SLOT_NOT_FOUND")
    assert (await api.get("/rooms/list", user)).json() == {"rooms": []}


async def test_an_id_that_no_schedule_makes_is_unknown(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slot = (await api.slots(user, room))[0]
    other = {**WINDOW, "startTime": "09:10"}
    assert (await api.send("PUT", f"/rooms/{room['id']}/schedule", admin, json=other)).status_code == 200
    for made_up in (slot["id"], str(uuid4()), "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-8fff-bfff-ffffffffffff"):
        for path in PATHS["createBooking"]:
            refused(await api.post(path, user, json={"slotId": made_up}), 404, "SLOT_NOT_FOUND")


# Bookings


@pytest.mark.parametrize("value", ["true", 1, 0, "", [], {}])
async def test_whether_a_link_is_wanted_is_a_boolean(value: object, api: Api, admin: Person, user: Person) -> None:
    slot = (await api.slots(user, await api.room(admin)))[0]
    for path in PATHS["createBooking"]:
        refused(await api.post(path, user, json={"slotId": slot["id"], "createConferenceLink": value}))


async def test_a_link_is_made_where_it_was_asked_for(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    assert (await api.booked(user, slots[0]))["conferenceLink"] is None
    assert (await api.booked(user, slots[1], createConferenceLink=False))["conferenceLink"] is None
    booking = await api.booked(user, slots[2], createConferenceLink=True)
    assert booking["conferenceLink"] == f"https://meet.example.com/{booking['id']}"


async def test_cancelling_twice_is_200_and_the_slot_is_free_again(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    booking = await api.booked(user, slots[0])
    first = await api.post(f"/bookings/{booking['id']}/cancel", user)
    second = await api.post(f"/bookings/{booking['id']}/cancel", user)
    for answer in (first, second):
        assert CONTRACT.check("cancelBooking", answer)["booking"]["status"] == "cancelled"
    assert first.json() == second.json()
    assert await api.slots(user, room) == slots
    again = await api.booked(await api.person(), slots[0])
    assert again["id"] != booking["id"]
    # A repeat of the cancel leaves the next one's booking alone.
    assert (await api.post(f"/bookings/{booking['id']}/cancel", user)).status_code == 200
    assert len(await api.slots(user, room)) == 15


async def test_cancelling_in_parallel_is_200_for_all_and_happens_once(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    booking = await api.booked(user, (await api.slots(user, room))[0])
    answers = await asyncio.gather(*(api.post(f"/bookings/{booking['id']}/cancel", user) for _ in range(8)))
    assert Counter(answer.status_code for answer in answers) == {200: 8}
    assert len({answer.text for answer in answers}) == 1
    told = await api.db.fetch("SELECT count(*) AS n FROM outbox WHERE type = 'booking.cancelled'")
    assert told[0]["n"] == 1


async def test_a_foreign_booking_is_403_even_when_it_is_cancelled(api: Api, admin: Person, user: Person) -> None:
    booking = await api.booked(user, (await api.slots(user, await api.room(admin)))[0])
    other, path = await api.person(), f"/bookings/{booking['id']}/cancel"
    for _ in range(2):
        refused(await api.post(path, other), 403, "FORBIDDEN")
        refused(await api.post(path, admin), 403, "FORBIDDEN")
        assert (await api.post(path, user)).status_code == 200


async def test_own_bookings_are_those_from_now_on_cancelled_ones_included(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    later, past, soon = [await api.booked(user, slots[n]) for n in (9, 5, 1)]
    await api.booked(await api.person(), slots[3])
    assert (await api.post(f"/bookings/{soon['id']}/cancel", user)).status_code == 200
    await api.db.fetch(
        "UPDATE bookings SET start_at = now() - interval '1 hour', end_at = now() - interval '30 min' WHERE id = $1", past["id"]
    )
    mine = (await api.get("/bookings/my", user)).json()["bookings"]
    assert [(one["id"], one["status"]) for one in mine] == [(soon["id"], "cancelled"), (later["id"], "active")]
    old = (await api.get("/bookings/my", user, params={"scope": "past"})).json()["bookings"]
    assert [one["id"] for one in old] == [past["id"]]
    refused(await api.get("/bookings/my", admin), 403, "FORBIDDEN")


@pytest.mark.parametrize("path", PATHS["listBookings"])
async def test_all_bookings_come_newest_first_in_pages_without_gap_or_repeat(path: str, api: Api, admin: Person) -> None:
    slots = await api.slots(admin, await api.room(admin))
    made = [(await api.booked(await api.person(), slot))["id"] for slot in slots]
    # The same instant for some of them: the id breaks the tie.
    await api.db.fetch("UPDATE bookings SET created_at = '2026-01-01T00:00:00Z' WHERE id = ANY($1::uuid[])", made[:6])
    whole = (await api.get(path, admin, params={"pageSize": 100})).json()
    expected = [*reversed(made[6:]), *sorted(made[:6], reverse=True)]
    assert [one["id"] for one in whole["bookings"]] == expected
    paged = []
    for page in range(1, 5):
        body = CONTRACT.check("listBookings", await api.get(path, admin, params={"page": page, "pageSize": 5}))
        assert body["pagination"] == {"page": page, "pageSize": 5, "total": 16}
        paged += [one["id"] for one in body["bookings"]]
    assert paged == expected
    assert (await api.get(path, admin, params={"page": 5, "pageSize": 5})).json()["bookings"] == []


@pytest.mark.parametrize("path", [*PATHS["listBookings"], "/users", "/rooms/list", "/bookings/my"])
async def test_a_page_beyond_everything_is_empty_or_400(path: str, api: Api, admin: Person, user: Person) -> None:
    who = user if path == "/bookings/my" else admin
    for page in (10**6, 2**31, 2**63 - 1, 2**63, 10**19, 10**30, 10**400):
        answer = await api.get(path, who, params={"page": str(page), "pageSize": "100"})
        assert answer.status_code in {200, 400}, answer.text
        if answer.status_code == 200:
            (items,) = (value for name, value in answer.json().items() if name != "pagination")
            assert items == []
        else:
            refused(answer)


@pytest.mark.parametrize("path", PATHS["listBookings"])
@pytest.mark.parametrize("name", ["page", "pageSize"])
@pytest.mark.parametrize("value", ["0", "-1", "", " ", "x", "1.5", "1e1", "NaN", "0x1", "null", "true", "[1]", "1,2", "1\x00"])
async def test_a_bad_page_is_400(value: str, name: str, path: str, api: Api, admin: Person) -> None:
    refused(await api.get(path, admin, params={name: value}))


async def test_a_page_larger_than_100_is_400(api: Api, admin: Person) -> None:
    for path in PATHS["listBookings"]:
        assert (await api.get(path, admin, params={"pageSize": 100})).status_code == 200
        refused(await api.get(path, admin, params={"pageSize": 101}))


# Accounts


async def test_dummy_users_are_rows_and_the_second_log_in_works(api: Api) -> None:
    answers = await asyncio.gather(*(api.post("/dummyLogin", json={"role": role}) for role in ["admin", "user"] * 5))
    assert Counter(answer.status_code for answer in answers) == {200: 10}
    ids: dict[str, set[str]] = {"admin": set(), "user": set()}
    for answer in answers:
        claims = claims_of(answer.json()["token"])
        assert {"user_id", "role", "exp", "iat", "iss", "jti"} <= set(claims)
        ids[claims["role"]].add(claims["user_id"])
    assert all(len(found) == 1 for found in ids.values())
    rows = await api.db.fetch("SELECT id::text, role FROM users")
    assert {(row["id"], row["role"]) for row in rows} == {
        (ids["admin"].copy().pop(), "admin"),
        (ids["user"].copy().pop(), "user"),
    }
    admin, user = ({"Authorization": f"Bearer {answers[n].json()['token']}"} for n in (0, 1))
    room = (await api.post("/rooms/create", headers=admin, json={"name": "Blue"})).json()["room"]
    assert (await api.post(f"/rooms/{room['id']}/schedule/create", headers=admin, json=PLAIN)).status_code == 201
    slots = (await api.get(f"/rooms/{room['id']}/slots/list", headers=user, params={"date": tomorrow()})).json()["slots"]
    booked = await api.post("/bookings/create", headers=user, json={"slotId": slots[0]["id"]})
    assert booked.json()["booking"]["userId"] == ids["user"].pop()
    assert {one["role"] for one in (await api.get("/users", headers=admin)).json()["users"]} == {"admin", "user"}


PASSWORDS = [
    "x",
    " ",
    "  leading and trailing  ",
    "p" * 72,
    "p" * 200,
    "\N{KEY}\N{FAMILY}\N{SNOWMAN}",
    "\u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627 \u4f60\u597d",
    "\U0001f469\u200d\U0001f4bb" * 30,
    "tab\tnew\nline",
    "\u202eright to left",
    "%s %n {0} ${x} ' OR 1=1 --",
    unicodedata.normalize("NFD", "p\u00e4ssw\u00f6rd"),
]


@pytest.mark.parametrize("password", PASSWORDS, ids=[f"{n}" for n in range(len(PASSWORDS))])
async def test_a_password_is_any_non_empty_string(password: str, api: Api) -> None:
    account = {"email": "somebody@example.com", "password": password}
    made = await api.post("/register", json=account | {"role": "user"})
    assert made.status_code == 201, made.text
    assert (await api.post("/login", json=account)).status_code == 200
    for wrong in (password + "x", password + " ", " " + password, password[:-1] or "y", password.swapcase() + "!"):
        answer = await api.post("/login", json=account | {"password": wrong})
        refused(answer, 401, "UNAUTHORIZED")
    refused(await api.post("/login", json=account | {"password": ""}))


async def test_passwords_that_differ_after_72_bytes_differ(api: Api) -> None:
    account = {"email": "somebody@example.com", "password": "p" * 72 + "one"}
    assert (await api.post("/register", json=account | {"role": "user"})).status_code == 201
    refused(await api.post("/login", json=account | {"password": "p" * 72 + "two"}), 401, "UNAUTHORIZED")
    refused(await api.post("/login", json=account | {"password": "p" * 72}), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("password", ["", None, 5, True, ["x"], {"x": 1}])
async def test_an_empty_password_or_none_is_400(password: object, api: Api) -> None:
    refused(await api.post("/register", json={"email": "a@example.com", "password": password, "role": "user"}))


@pytest.mark.parametrize(
    "email",
    [
        "a@b.test",
        "printer@office.local",
        "root@localhost",
        "x@example.invalid",
        "a+tag@example.com",
        "o'brien@example.com",
        "\u00fcmlaut@ex\u00e4mple.com",
        "a@sub.sub.example.co.uk",
    ],
)
async def test_addresses_at_reserved_domains_are_fine(email: str, api: Api) -> None:
    account = {"email": email, "password": "x"}
    made = await api.post("/register", json=account | {"role": "user"})
    assert made.status_code == 201, made.text
    CONTRACT.check("register", made)
    assert made.json()["user"]["email"] == email
    assert (await api.post("/login", json=account)).status_code == 200


@pytest.mark.parametrize(
    "email", ["", " ", "a", "@", "a@", "@b", "a@b@c", "a b@c.de", "a@b c", "a@b\n", "a\x00@b.c", 5, None, "a@b..c"]
)
async def test_no_address_is_400(email: object, api: Api) -> None:
    refused(await api.post("/register", json={"email": email, "password": "x", "role": "user"}))


@pytest.mark.parametrize(
    ("one", "same"), [("Some.Body@Example.COM", "some.body@example.com"), ("\u00c4@b.test", "\u00e4@B.TEST")]
)
async def test_addresses_are_compared_without_case(one: str, same: str, api: Api) -> None:
    assert (await api.post("/register", json={"email": one, "password": "x", "role": "user"})).status_code == 201
    refused(await api.post("/register", json={"email": same, "password": "y", "role": "user"}))
    assert (await api.post("/login", json={"email": same, "password": "x"})).status_code == 200


async def test_an_address_registered_in_parallel_is_taken_once(api: Api) -> None:
    account = {"email": "somebody@example.com", "password": "x", "role": "user"}
    answers = await asyncio.gather(*(api.post("/register", json=account) for _ in range(8)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 400: 7}


async def test_unknown_and_wrong_are_answered_alike(api: Api) -> None:
    account = {"email": "somebody@example.com", "password": "x"}
    assert (await api.post("/register", json=account | {"role": "user"})).status_code == 201
    wrong = await api.post("/login", json=account | {"password": "y"})
    unknown = await api.post("/login", json=account | {"email": "nobody@example.com"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()


@pytest.mark.parametrize(
    "body", [{"email": "a@example.com", "password": 12345678}, {"email": "nobody", "password": "hunter2-hunter2"}]
)
async def test_a_refused_registration_does_not_return_the_password(body: dict[str, Any], api: Api) -> None:
    answer = await api.post("/register", json=body | {"role": "user"})
    refused(answer)
    assert str(body["password"]) not in answer.text


# Conditional requests


async def test_a_list_of_slots_has_an_etag_that_changes_with_a_booking(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    for path in PATHS["listSlots"]:
        for status in ("free", "all"):
            request: dict[str, Any] = {"params": {"date": tomorrow(), "status": status}}
            address = path.format(roomId=room["id"])
            first = await api.get(address, user, **request)
            tag = first.headers["etag"]
            for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                same = await api.get(address, user, headers={"If-None-Match": sent}, **request)
                assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
            other = await api.get(address, user, headers={"If-None-Match": '"other"'}, **request)
            assert other.json() == first.json()
            await api.booked(user, (await api.slots(user, room))[0])
            changed = await api.get(address, user, headers={"If-None-Match": tag}, **request)
            assert changed.status_code == 200
            assert changed.headers["etag"] != tag


async def test_a_change_meant_for_another_version_is_412_with_the_present_state(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    booking = await api.booked(user, slots[0])
    for path, who, method, body in [
        (f"/rooms/{room['id']}", admin, "PATCH", {"name": "Changed"}),
        (f"/rooms/{room['id']}/schedule", admin, "PUT", {**WINDOW, "endTime": "16:00"}),
        (f"/bookings/{booking['id']}", user, "PATCH", {"title": "Changed"}),
        (f"/users/{user.id}", admin, "PATCH", {"status": "active"}),
        ("/users/me", admin, "PATCH", {"name": "Changed"}),
    ]:
        shown = await api.get(path, who)
        tag = shown.headers["etag"]
        same = await api.get(path, who, headers={"If-None-Match": tag})
        assert (same.status_code, same.content) == (304, b""), path
        stale = await api.send(method, path, who, json=body, headers={"If-Match": '"0"'})
        refused(stale, 412, "CHANGED_MEANWHILE")
        (kind,) = shown.json()
        assert stale.json()["error"]["details"]["present"] == shown.json()[kind]
        assert (await api.get(path, who)).json() == shown.json()
        changed = await api.send(method, path, who, json=body, headers={"If-Match": tag})
        assert changed.status_code == 200, changed.text
        if changed.json() != shown.json():
            assert changed.headers["etag"] != tag
            refused(await api.send(method, path, who, json=body, headers={"If-Match": tag}), 412, "CHANGED_MEANWHILE")
        assert (await api.send(method, path, who, json=body, headers={"If-Match": "*"})).status_code == 200


async def test_a_deletion_meant_for_another_version_is_412(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    booking = await api.booked(user, (await api.slots(user, room))[0])
    for path, who, status in [
        (f"/bookings/{booking['id']}", user, 200),
        (f"/rooms/{room['id']}", admin, 204),
        ("/users/me", user, 204),
    ]:
        tag = (await api.get(path, who)).headers["etag"]
        refused(await api.send("DELETE", path, who, headers={"If-Match": '"0"'}), 412, "CHANGED_MEANWHILE")
        assert (await api.send("DELETE", path, who, headers={"If-Match": tag})).status_code == status


# And the rest


async def test_the_service_says_who_it_is_and_that_it_lives(api: Api) -> None:
    assert (await api.get("/_info")).json()["name"] == "holdfast"
    assert (await api.get("/health")).json() == {"status": "ok"}
    assert (await api.get("/livez")).json() == {"status": "ok"}
    assert (await api.get("/readyz")).status_code == 200


async def test_every_answer_has_a_request_id_the_callers_own_if_it_is_sane(api: Api, user: Person) -> None:
    own = await api.get("/rooms/list", user, headers={"X-Request-ID": "mine-0123456789.abc"})
    assert own.headers["x-request-id"] == "mine-0123456789.abc"
    for bad in ("", "with blank", "x" * 500, "<script>", "a;b", "\u00e9"):
        made = await api.get("/nowhere", headers={"X-Request-ID": bad.encode()})
        assert made.headers["x-request-id"] not in {"", bad}
    assert (await api.post("/rooms", user, content=b" " * (2 << 20))).headers["x-request-id"]


async def test_the_filters_have_the_names_that_the_surface_gives_them(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    early, late = await api.booked(user, slots[0]), await api.booked(user, slots[8])
    cut = slots[4]["start"]
    for path, who in [("/bookings", admin), ("/bookings/list", admin), ("/bookings/my", user)]:
        before = (await api.get(path, who, params={"to": cut})).json()["bookings"]
        after = (await api.get(path, who, params={"from": cut})).json()["bookings"]
        assert ([one["id"] for one in before], [one["id"] for one in after]) == ([early["id"]], [late["id"]]), path
        refused(await api.get(path, who, params={"to": "nonsense"}))
        refused(await api.get(path, who, params={"from": "nonsense"}))


async def test_instants_are_utc_with_a_z(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, timeZone="Asia/Kolkata")
    slot = (await api.slots(user, room))[0]
    booking = await api.booked(user, slot)
    for text in (slot["start"], slot["end"], booking["start"], booking["createdAt"], room["createdAt"]):
        assert text.endswith("Z")
        assert datetime.fromisoformat(text).tzinfo == UTC
    assert slot["start"].endswith("T03:30:00Z")
