"""The fair queue: tickets in order of arrival, answered at once or looked at later, and what a process that died left behind."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest
from starlette.requests import Request

from conftest import make_settings
from holdfast.adapters.conferencing import ConferenceFailure, ConferenceProvider, Meeting
from holdfast.bookings.service import queueing, serve_lines
from holdfast.core.ids import new_id
from holdfast.main import build_app, build_state
from holdfast.web.state import State
from support.api import Api, Person, code, tomorrow

FAIR = {"fairQueue": True}
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(autouse=True)
async def _nothing_is_under_way_afterwards(state: State) -> AsyncIterator[None]:
    """Who does not wait for an answer may leave something running, which would meet the next test's empty database."""
    yield
    await state.together.close()


async def fair_event(api: Api, admin: Person, seats: int, **policy: Any) -> dict[str, Any]:
    """An event in a week with so many places and a fair queue."""
    made = await api.post(
        "/events", admin, json={"name": "Concert", "start": f"{tomorrow(7)}T18:00:00Z", "policy": {**FAIR, **policy}}
    )
    assert made.status_code == 201, made.text
    event: dict[str, Any] = made.json()["event"]
    if seats:
        assert (await api.post(f"/events/{event['id']}/seats", admin, json={"count": seats})).status_code == 201
    return event


async def requests_of(api: Api, who: Person) -> list[dict[str, Any]]:
    """The user's booking requests, the latest first."""
    answer = await api.get("/booking-requests/my", who)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["bookingRequests"]
    return found


async def seen(api: Api, who: Person, ticket: str) -> dict[str, Any]:
    answer = await api.get(f"/booking-requests/{ticket}", who)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["bookingRequest"]
    return found


async def tickets(api: Api) -> Counter[str]:
    """How many tickets there are of each status."""
    return Counter(row["status"] for row in await api.db.fetch("SELECT status FROM booking_requests"))


async def active(api: Api) -> int:
    """How many bookings stand."""
    rows = await api.db.fetch("SELECT count(*) AS bookings FROM bookings WHERE status = 'active'")
    found: int = rows[0]["bookings"]
    return found


async def left_behind(
    api: Api, who: Person, resource: dict[str, Any], *, answer_in: timedelta | None = None, **selection: Any
) -> str:
    """A ticket as a process leaves it that dies between taking it and serving the line; `selection` is what is wanted.

    Written where it is stored, a minute ago, because a living process serves it within milliseconds. `answer_in` is how long
    from now on its client still waits; None: it was told where to look.
    """
    ticket = new_id()
    request = {
        "selection": selection,
        "title": "Left behind",
        "notes": None,
        "wantsLink": False,
        "by": {"userId": str(who.id), "role": "user", "requestId": "lost", "address": None},
    }
    await api.db.fetch(
        "INSERT INTO booking_requests (id, resource_no, user_id, request, created_at, answer_by) "
        "SELECT $1, no, $2, $3::text::jsonb, clock_timestamp() - interval '1 minute', clock_timestamp() + $4 "
        "FROM resources WHERE id = $5",
        ticket,
        who.id,
        orjson.dumps(request).decode(),
        answer_in,
        UUID(resource["id"]),
    )
    return str(ticket)


async def left_for_slot(api: Api, who: Person, resource: dict[str, Any], slot: dict[str, Any], **given: Any) -> str:
    return await left_behind(api, who, resource, slotIds=[slot["id"]], **given)


@asynccontextmanager
async def parked(state: State, resource: dict[str, Any]) -> AsyncIterator[None]:
    """The resource's row is locked by somebody else, who does nothing with it: its line stands still."""
    connection = await asyncpg.connect(state.db.url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT no FROM resources WHERE id = $1 FOR NO KEY UPDATE", UUID(resource["id"]))
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def another(api: Api, state: State, *, provider: ConferenceProvider | None = None, **settings: Any) -> AsyncIterator[Api]:
    """A second process on the same database, with other settings or another provider of links."""
    other = build_state(make_settings(state.db.url, pool_size=8, **settings), conferencing=provider)
    transport = httpx.ASGITransport(build_app(other))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test", timeout=30) as client:
        yield Api(client, api.db, api.tokens)
    await other.together.close()
    other.passwords.close()
    await other.db.close()


class Scripted:
    """A provider of links that does what a test says: an answer, or an error to raise."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Meeting] = []

    async def create_link(self, meeting: Meeting) -> str:
        self.asked.append(meeting)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        return


# The same answers as without


async def of_room(api: Api, admin: Person) -> dict[str, Any]:
    room = await api.room(admin, policy=FAIR)
    return {"slotId": (await api.slots(admin, room))[0]["id"]}


async def of_host(api: Api, _admin: Person) -> dict[str, Any]:
    host = await api.person()
    assert (await api.post("/hosts", host, json={"displayName": "Ada", "policy": FAIR})).status_code == 201
    period = {"start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T11:00:00Z"}
    made = await api.post("/slots", host, json=period)
    assert made.status_code == 201, made.text
    return {"slotId": made.json()["slot"]["id"]}


async def of_event(api: Api, admin: Person) -> dict[str, Any]:
    return {"eventId": (await fair_event(api, admin, 1))["id"], "quantity": 1}


@pytest.mark.parametrize("of", [of_room, of_host, of_event])
async def test_with_a_fair_queue_the_answers_are_those_without(
    of: Callable[[Api, Person], Awaitable[dict[str, Any]]], api: Api, admin: Person, user: Person
) -> None:
    body = await of(api, admin)
    made = await api.post("/bookings", user, json={**body, "title": "Mine"})
    assert made.status_code == 201, made.text
    booking = made.json()["booking"]
    assert made.headers["location"] == f"/bookings/{booking['id']}"
    assert (booking["title"], booking["status"], booking["userId"]) == ("Mine", "active", str(user.id))
    assert (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"] == booking
    (ticket,) = await requests_of(api, user)
    assert {name: ticket[name] for name in ("status", "position", "bookingId", "error")} == {
        "status": "booked",
        "position": None,
        "bookingId": booking["id"],
        "error": None,
    }
    late = await api.post("/bookings", await api.person(), json=body)
    assert (late.status_code, code(late)) == (409, "SEATS_TAKEN" if "eventId" in body else "SLOT_ALREADY_BOOKED")
    assert late.json()["error"]["details"]["rule"]


async def test_without_a_fair_queue_nobody_takes_a_ticket(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={"fairQueue": False})
    made = await api.book(user, (await api.slots(user, room))[0], headers=ASYNC)
    assert made.status_code == 201
    assert "preference-applied" not in made.headers
    assert await tickets(api) == {}


async def test_every_resource_has_a_fair_queue_where_the_setting_says_so(
    api: Api, state: State, admin: Person, user: Person
) -> None:
    slots = await api.slots(user, await api.room(admin))
    event = (await api.post("/events", admin, json={"name": "Concert", "start": f"{tomorrow(7)}T18:00:00Z"})).json()["event"]
    await api.post(f"/events/{event['id']}/seats", admin, json={"count": 2})
    async with another(api, state, fair_queue="all") as served:
        await served.booked(user, slots[0])
        made = await served.post("/bookings", user, json={"eventId": event["id"], "quantity": 1}, headers=ASYNC)
        assert made.status_code == 202, made.text
    assert await tickets(api) == {"booked": 2}
    await api.booked(user, slots[1])
    assert await tickets(api) == {"booked": 2}


async def test_several_rooms_are_waited_for_in_the_line_of_the_fair_one(api: Api, admin: Person, user: Person) -> None:
    plain, fair = await api.room(admin), await api.room(admin, policy=FAIR)
    wanted = [(await api.slots(user, room))[4]["id"] for room in (plain, fair)]
    made = await api.post("/bookings", user, json={"slotIds": wanted})
    assert (made.status_code, len(made.json()["booking"]["slotIds"])) == (201, 2)
    rows = await api.db.fetch("SELECT r.id FROM booking_requests t JOIN resources r ON r.no = t.resource_no")
    assert [str(row["id"]) for row in rows] == [fair["id"]]


@pytest.mark.parametrize("way", ["slotIds", "period", "date and time"])
async def test_every_way_of_naming_a_time_survives_the_wait(way: str, api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy=FAIR, timeZone="Asia/Tokyo")
    slots = await api.slots(user, room, tomorrow(3))
    body: dict[str, Any] = {
        "slotIds": {"slotIds": [slots[2]["id"], slots[0]["id"]]},
        "period": {"roomId": room["id"], "start": slots[0]["start"], "end": slots[2]["end"]},
        "date and time": {"roomId": room["id"], "date": tomorrow(3), "time": "09:00"},
    }[way]
    made = await api.post("/bookings", user, json={**body, "notes": "bring tea"})
    assert made.status_code == 201, made.text
    booking = made.json()["booking"]
    many = {"slotIds": [0, 2], "period": [0, 1, 2], "date and time": [0]}[way]
    assert booking["slotIds"] == [slots[number]["id"] for number in many]
    assert booking["notes"] == "bring tea"


async def test_seats_are_named_or_the_best_ones_after_the_wait(api: Api, admin: Person, user: Person) -> None:
    event = await fair_event(api, admin, 0)
    seats = {"sections": [{"name": "S", "rows": [{"name": "A", "seats": 6}]}]}
    labels = [seat["label"] for seat in (await api.post(f"/events/{event['id']}/seats", admin, json=seats)).json()["seats"]]
    named = await api.post("/bookings", user, json={"eventId": event["id"], "seats": [labels[1]]})
    assert named.json()["booking"]["seats"] == [labels[1]]
    best = await api.post("/bookings", user, json={"eventId": event["id"], "quantity": 2, "section": "S"})
    assert best.status_code == 201, best.text
    assert len(best.json()["booking"]["seats"]) == 2
    missing = await api.post("/bookings", user, json={"eventId": event["id"], "seats": ["Z-99"]})
    assert (missing.status_code, code(missing)) == (404, "SEATS_NOT_FOUND")
    taken = await api.post("/bookings", user, json={"eventId": event["id"], "seats": [labels[1]]})
    assert (taken.status_code, code(taken)) == (409, "SEATS_TAKEN")
    assert taken.json()["error"]["details"]["seats"] == [labels[1]]
    assert (await tickets(api))["waiting"] == 0


async def test_the_front_desk_waits_in_line_too(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin, policy=FAIR))
    made = await api.post(f"/users/{user.id}/bookings", admin, json={"slotId": slots[0]["id"]})
    assert (made.status_code, made.json()["booking"]["userId"]) == (201, str(user.id))
    (ticket,) = await requests_of(api, user)
    assert ticket["bookingId"] == made.json()["booking"]["id"]
    unknown = await api.post(f"/users/{new_id()}/bookings", admin, json={"slotId": slots[1]["id"]})
    assert (unknown.status_code, code(unknown)) == (404, "USER_NOT_FOUND")
    rows = await api.db.fetch("SELECT actor_id FROM outbox WHERE type = 'booking.created'")
    assert [row["actor_id"] for row in rows] == [admin.id]


async def test_what_cannot_be_had_is_refused_before_a_ticket_is_given(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={**FAIR, "maxDaysAhead": 3})
    slots = await api.slots(user, room)
    await api.booked(await api.person(), slots[0])
    before = await tickets(api)
    past = (await api.slots(user, room, tomorrow(-2)))[0]
    far = (await api.slots(user, room, tomorrow(8)))[0]
    stretch = {"roomId": room["id"], "start": f"{tomorrow()}T20:00:00Z", "end": f"{tomorrow()}T21:00:00Z"}
    for body, status, expected in (
        ({}, 400, "INVALID_REQUEST"),
        ({"slotIds": [slots[1]["id"], slots[1]["id"]]}, 400, "INVALID_REQUEST"),
        ({"slotId": str(new_id())}, 404, "SLOT_NOT_FOUND"),
        ({"slotId": past["id"]}, 400, "INVALID_REQUEST"),
        ({"slotId": far["id"]}, 400, "TOO_FAR_AHEAD"),
        (stretch, 400, "OUTSIDE_SCHEDULE"),
        ({**stretch, "roomId": str(new_id())}, 404, "ROOM_NOT_FOUND"),
        ({"slotId": slots[0]["id"]}, 409, "SLOT_ALREADY_BOOKED"),
        ({"eventId": str(new_id()), "quantity": 1}, 404, "EVENT_NOT_FOUND"),
    ):
        for headers in ({}, ASYNC, {"Idempotency-Key": str(new_id())}):
            refused = await api.post("/bookings", user, json=body, headers=headers)
            assert (refused.status_code, code(refused)) == (status, expected), body
    assert await tickets(api) == before


# Asked for later


async def test_who_does_not_wait_is_told_where_to_look(api: Api, state: State, admin: Person, user: Person) -> None:
    slot = (await api.slots(user, await api.room(admin, policy=FAIR)))[0]
    answer = await api.book(user, slot, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    ticket = answer.json()["bookingRequest"]
    assert answer.headers["location"] == f"/booking-requests/{ticket['id']}"
    assert answer.headers["preference-applied"] == "respond-async"
    assert set(ticket) >= {"id", "position", "status", "bookingId", "error"}
    assert ticket["status"] in {"waiting", "booked"}
    await state.together.close()  # nobody polls a loop here: what is under way comes to its end
    after = await seen(api, user, ticket["id"])
    assert (after["status"], after["position"], after["error"]) == ("booked", None, None)
    booking = (await api.get(f"/bookings/{after['bookingId']}", user)).json()["booking"]
    assert (booking["slotId"], booking["status"]) == (slot["id"], "active")
    assert await requests_of(api, user) == [after]


@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        ("respond-async", 202),
        ("Respond-Async", 202),
        ("wait=10, respond-async", 202),
        ("respond-async; foo=bar", 202),
        ("wait=10", 201),
        ("return=minimal", 201),
        ("respond-asynchronously", 201),
        ("", 201),
    ],
)
async def test_only_the_preference_itself_is_honoured(prefer: str, status: int, api: Api, admin: Person, user: Person) -> None:
    slot = (await api.slots(user, await api.room(admin, policy=FAIR)))[0]
    assert (await api.book(user, slot, headers={"Prefer": prefer})).status_code == status


async def test_a_refusal_is_stored_and_told_to_who_looks(api: Api, state: State, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={**FAIR, "maxActivePerUserHere": 1})
    slots = await api.slots(user, room)
    await api.booked(user, slots[0])
    answer = await api.book(user, slots[1], headers=ASYNC)
    assert answer.status_code == 202, answer.text
    await state.together.close()
    ticket = await seen(api, user, answer.json()["bookingRequest"]["id"])
    assert (ticket["status"], ticket["bookingId"], ticket["position"]) == ("refused", None, None)
    assert ticket["error"].pop("message")
    assert ticket["error"] == {
        "code": "ALREADY_BOOKED_HERE",
        "details": {"rule": "maxActivePerUserHere", "value": 1, "nextPossible": slots[0]["start"]},
    }


async def test_a_long_wait_ends_in_a_place_to_look(
    api: Api, state: State, admin: Person, user: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await api.room(admin, policy=FAIR)
    slot = (await api.slots(user, room))[0]
    # Ten seconds would be long for a test.
    monkeypatch.setattr(queueing, "WAIT", timedelta(seconds=0.2))
    monkeypatch.setattr(queueing, "_LOOK", 0.05)
    async with parked(state, room):
        answer = await api.book(user, slot)
        assert answer.status_code == 202, answer.text
        ticket = answer.json()["bookingRequest"]
        assert (ticket["status"], ticket["position"]) == ("waiting", 1)
        assert answer.headers["location"] == f"/booking-requests/{ticket['id']}"
    await state.together.close()
    await serve_lines(state.db)
    assert (await seen(api, user, ticket["id"]))["status"] == "booked"
    assert await active(api) == 1


@pytest.mark.parametrize("kind", ["room", "event"])
async def test_a_ticket_is_given_while_the_line_stands_still(
    kind: str, api: Api, state: State, admin: Person, user: Person
) -> None:
    if kind == "room":
        resource = await api.room(admin, policy=FAIR)
        body = {"slotId": (await api.slots(user, resource))[0]["id"]}
    else:
        resource = await fair_event(api, admin, 2)
        body = {"eventId": resource["id"], "quantity": 1}
    second = await api.person()
    async with parked(state, resource):
        answers = [await api.post("/bookings", who, json=body, headers=ASYNC) for who in (user, second)]
        assert [answer.status_code for answer in answers] == [202, 202], answers[0].text
        shown = [answer.json()["bookingRequest"] for answer in answers]
        assert [(one["status"], one["position"]) for one in shown] == [("waiting", 1), ("waiting", 2)]


async def test_who_went_away_does_not_get_what_they_cannot_know_of(
    api: Api, state: State, admin: Person, user: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await api.room(admin, policy=FAIR)
    slot = (await api.slots(user, room))[0]

    async def gone(_request: Request) -> bool:
        return True

    # The transport of these tests never hangs up.
    monkeypatch.setattr(Request, "is_disconnected", gone)
    monkeypatch.setattr(queueing, "_LOOK", 0.05)
    async with parked(state, room):
        await api.book(user, slot)
    await state.together.close()
    await serve_lines(state.db)
    (ticket,) = await requests_of(api, user)
    assert (ticket["status"], ticket["bookingId"]) == ("cancelled", None)
    assert await active(api) == 0


async def test_who_is_told_to_try_again_has_no_booking_behind_their_back(
    api: Api, state: State, admin: Person, user: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await api.room(admin, policy=FAIR)
    slot = (await api.slots(user, room))[0]
    # Longer than one waits for a lock, and less than the ten seconds that one has.
    monkeypatch.setattr(queueing, "WAIT", timedelta(seconds=3))
    async with parked(state, room):
        answer = await api.book(user, slot)
    assert answer.status_code in {202, 503}, answer.text
    await state.together.close()
    await api.db.fetch("UPDATE booking_requests SET created_at = created_at - interval '1 minute'")
    await serve_lines(state.db)
    (ticket,) = await requests_of(api, user)
    # 202 says where the booking will be; after 503 the client knows of none, and books again.
    assert ticket["status"] == ("booked" if answer.status_code == 202 else "cancelled")
    assert await active(api) == (1 if answer.status_code == 202 else 0)


async def test_a_hot_resource_does_not_delay_another(api: Api, state: State, admin: Person, user: Person) -> None:
    hot, other = await api.room(admin, policy=FAIR), await api.room(admin, policy=FAIR)
    slots = [(await api.slots(user, room))[0] for room in (hot, other)]
    async with parked(state, hot):
        waiting = asyncio.create_task(api.book(await api.person(), slots[0]))
        made = await asyncio.wait_for(api.book(user, slots[1]), 1.5)
        assert made.status_code == 201, made.text
        assert not waiting.done()
    assert (await waiting).status_code == 201


# Whose it is, and leaving


async def test_a_place_in_line_is_its_owners(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy=FAIR)
    ticket = await left_for_slot(api, user, room, (await api.slots(user, room))[0])
    path = f"/booking-requests/{ticket}"
    other = await api.person()
    for method, who in (("GET", other), ("DELETE", other), ("DELETE", admin)):
        answer = await api.send(method, path, who)
        assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")
    assert (await api.get(path, admin)).json() == (await api.get(path, user)).json()
    for method in ("GET", "DELETE"):
        assert (await api.send(method, path)).status_code == 401
        assert (await api.send(method, "/booking-requests/x", user)).status_code == 400
        unknown = await api.send(method, f"/booking-requests/{new_id()}", user)
        assert (unknown.status_code, code(unknown)) == (404, "BOOKING_REQUEST_NOT_FOUND")
    assert await requests_of(api, await api.person()) == []
    assert [one["id"] for one in await requests_of(api, user)] == [ticket]


async def test_positions_are_counted_from_the_front_of_the_line(api: Api, admin: Person) -> None:
    room, other = await api.room(admin, policy=FAIR), await api.room(admin, policy=FAIR)
    people = await api.people(4)
    slot, elsewhere = (await api.slots(admin, room))[0], (await api.slots(admin, other))[0]
    await left_for_slot(api, people[0], other, elsewhere)
    line = [await left_for_slot(api, who, room, slot) for who in people]

    async def positions() -> list[tuple[str, int | None]]:
        shown = [await seen(api, who, ticket) for who, ticket in zip(people, line, strict=True)]
        return [(one["status"], one["position"]) for one in shown]

    assert await positions() == [("waiting", 1), ("waiting", 2), ("waiting", 3), ("waiting", 4)]
    for _ in range(2):
        left = await api.send("DELETE", f"/booking-requests/{line[1]}", people[1])
        assert left.status_code == 204, left.text
    assert await positions() == [("waiting", 1), ("cancelled", None), ("waiting", 2), ("waiting", 3)]


async def test_who_left_the_line_gets_nothing(api: Api, state: State, admin: Person) -> None:
    room = await api.room(admin, policy=FAIR)
    slot = (await api.slots(admin, room))[0]
    first, second = await api.people(2)
    tickets_of = [await left_for_slot(api, who, room, slot) for who in (first, second)]
    headers = {"Idempotency-Key": "leave"}
    for _ in range(2):
        left = await api.send("DELETE", f"/booking-requests/{tickets_of[0]}", first, headers=headers)
        assert left.status_code == 204
    assert left.headers["idempotency-replayed"] == "true"
    await serve_lines(state.db)
    assert (await seen(api, first, tickets_of[0]))["status"] == "cancelled"
    assert (await seen(api, second, tickets_of[1]))["status"] == "booked"
    assert await active(api) == 1


async def test_what_is_booked_is_not_left_but_cancelled(api: Api, admin: Person, user: Person) -> None:
    booking = await api.booked(user, (await api.slots(user, await api.room(admin, policy=FAIR)))[0])
    (ticket,) = await requests_of(api, user)
    refused = await api.send("DELETE", f"/booking-requests/{ticket['id']}", user)
    assert (refused.status_code, code(refused)) == (409, "BOOKING_REQUEST_ANSWERED")
    assert refused.json()["error"]["details"]["bookingId"] == booking["id"]
    assert (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"]["status"] == "active"


async def test_the_last_hundred_requests_are_listed_the_latest_first(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy=FAIR)
    slot = (await api.slots(user, room))[0]
    made = [await left_for_slot(api, user, room, slot) for _ in range(103)]
    assert [one["id"] for one in await requests_of(api, user)] == made[:2:-1]


# In order of arrival


async def numbers_by_status(api: Api) -> dict[str, list[int]]:
    rows = await api.db.fetch("SELECT number, status FROM booking_requests ORDER BY number")
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row["status"], []).append(row["number"])
    return found


async def test_of_a_crowd_on_one_slot_the_first_ticket_wins(api: Api, state: State, admin: Person) -> None:
    room = await api.room(admin, policy=FAIR)
    slots = await api.slots(admin, room)
    people = await api.people(40)
    async with parked(state, room):
        asked = [asyncio.create_task(api.book(who, slots[0])) for who in people]
        # Nobody is served before all stand in line.
        for _ in range(400):
            if (await tickets(api))["waiting"] == len(people):
                break
            await asyncio.sleep(0.005)
        assert await tickets(api) == {"waiting": 40}
    answers = await asyncio.gather(*asked)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 39}
    numbers = await numbers_by_status(api)
    assert len(numbers["booked"]) == 1
    assert numbers["booked"][0] < min(numbers["refused"])
    for answer in answers:
        if answer.status_code == 409:
            assert code(answer) == "SLOT_ALREADY_BOOKED"
            details = answer.json()["error"]["details"]
            assert (details["rule"], details["slotId"]) == ("taken", slots[0]["id"])
            assert details["alternatives"] == slots[1:6]
    winner = next(answer for answer in answers if answer.status_code == 201).json()["booking"]
    rows = await api.db.fetch("SELECT user_id FROM booking_requests ORDER BY number LIMIT 1")
    assert str(rows[0]["user_id"]) == winner["userId"]


async def test_of_a_crowd_at_a_sale_the_first_tickets_win(api: Api, admin: Person) -> None:
    event = await fair_event(api, admin, 12)
    people = await api.people(30)
    asked = [api.post("/bookings", who, json={"eventId": event["id"], "quantity": 1}) for who in people]
    answers = await asyncio.gather(*asked)
    assert Counter(answer.status_code for answer in answers) == {201: 12, 409: 18}
    numbers = await numbers_by_status(api)
    assert max(numbers["booked"]) < min(numbers["refused"])
    labels = [label for answer in answers if answer.status_code == 201 for label in answer.json()["booking"]["seats"]]
    assert len(set(labels)) == 12
    shown = (await api.get(f"/events/{event['id']}", admin)).json()["event"]
    assert (shown["booked"], shown["available"]) == (12, 0)


async def test_a_line_is_served_in_the_order_of_its_tickets(api: Api, state: State, admin: Person) -> None:
    room = await api.room(admin, policy=FAIR)
    slots = await api.slots(admin, room)
    people = await api.people(4)
    # Whom the clocks call earlier is of no account.
    line = [await left_for_slot(api, who, room, slots[number]) for who, number in zip(people, (0, 0, 1, 0), strict=True)]
    await api.db.fetch("UPDATE booking_requests SET created_at = created_at - interval '1 hour' WHERE id = $1", UUID(line[3]))
    await serve_lines(state.db)
    shown = [await seen(api, who, ticket) for who, ticket in zip(people, line, strict=True)]
    assert [one["status"] for one in shown] == ["booked", "refused", "booked", "refused"]
    assert [one["error"]["code"] for one in shown if one["error"]] == ["SLOT_ALREADY_BOOKED"] * 2
    assert shown[1]["error"]["details"]["alternatives"]
    assert set(shown[1]["error"]) == {"code", "message", "details"}


async def test_limits_count_within_one_service_of_the_line(api: Api, state: State, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={**FAIR, "maxActivePerUserHere": 2})
    slots = await api.slots(user, room)
    line = [await left_for_slot(api, user, room, slot) for slot in slots[:4]]
    await serve_lines(state.db)
    shown = [await seen(api, user, ticket) for ticket in line]
    assert [(one["error"] or {}).get("code") for one in shown] == [None, None, *["ALREADY_BOOKED_HERE"] * 2]
    assert await active(api) == 2


async def test_a_line_longer_than_one_service_is_served_whole(api: Api, state: State, admin: Person) -> None:
    event = await fair_event(api, admin, 230)
    people = await api.people(5)
    for number in range(240):
        who = people[number % 5]
        await left_behind(api, who, event, eventId=event["id"], quantity=1, section=None, adjacent=True)
    await serve_lines(state.db)
    numbers = await numbers_by_status(api)
    assert (len(numbers["booked"]), len(numbers["refused"])) == (230, 10)
    assert max(numbers["booked"]) < min(numbers["refused"])


async def test_a_new_request_comes_after_those_who_stand_in_line(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy=FAIR)
    slot = (await api.slots(user, room))[0]
    earlier = await api.person()
    ticket = await left_for_slot(api, earlier, room, slot)
    refused = await api.book(user, slot)
    assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
    assert (await seen(api, earlier, ticket))["status"] == "booked"


Overtake = Callable[[Api, Person, dict[str, Any], Sequence[dict[str, Any]]], Awaitable[httpx.Response]]


def a_key() -> dict[str, str]:
    """A key never seen: what is tried twice within one request must not be in its own way."""
    return {"Idempotency-Key": str(new_id())}


async def by_holding(api: Api, who: Person, _room: dict[str, Any], slots: Sequence[dict[str, Any]]) -> httpx.Response:
    return await api.post("/holds", who, json={"slotId": slots[3]["id"]}, headers=a_key())


async def by_moving(api: Api, who: Person, _room: dict[str, Any], slots: Sequence[dict[str, Any]]) -> httpx.Response:
    booking = (await api.get("/bookings/my", who)).json()["bookings"][0]
    return await api.post(f"/bookings/{booking['id']}/reschedule", who, json={"slotId": slots[3]["id"]}, headers=a_key())


async def by_a_series(api: Api, who: Person, room: dict[str, Any], slots: Sequence[dict[str, Any]]) -> httpx.Response:
    body = {"roomId": room["id"], "start": slots[3]["start"], "end": slots[3]["end"], "recurrence": "FREQ=DAILY;COUNT=2"}
    return await api.post("/bookings/series", who, json=body, headers=a_key())


async def by_moving_a_series(api: Api, who: Person, room: dict[str, Any], slots: Sequence[dict[str, Any]]) -> httpx.Response:
    series = (await api.get("/bookings/my", who)).json()["bookings"][-1]["seriesId"]
    assert series is not None, room
    to = {"start": slots[3]["start"], "end": slots[3]["end"]}
    return await api.post(f"/series/{series}/reschedule", who, json=to, headers=a_key())


@pytest.mark.parametrize("overtake", [by_holding, by_moving, by_a_series, by_moving_a_series])
async def test_nobody_overtakes_the_line(overtake: Overtake, api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    await api.booked(user, slots[0])
    period = {"start": slots[5]["start"], "end": slots[5]["end"]}
    series = await api.post("/bookings/series", user, json={"roomId": room["id"], **period, "recurrence": "FREQ=DAILY;COUNT=2"})
    assert series.status_code == 201, series.text
    assert (await api.send("PATCH", f"/rooms/{room['id']}", admin, json={"policy": FAIR})).status_code == 200
    earlier = await api.person()
    ticket = await left_for_slot(api, earlier, room, slots[3])
    refused = await overtake(api, user, room, slots)
    assert refused.status_code == 409, refused.text
    assert code(refused) in {"SLOT_ALREADY_BOOKED", "SERIES_CONFLICT"}
    shown = await seen(api, earlier, ticket)
    assert shown["status"] == "booked"
    booking = (await api.get(f"/bookings/{shown['bookingId']}", earlier)).json()["booking"]
    assert booking["slotId"] == slots[3]["id"]


@pytest.mark.parametrize("overtake", [by_holding, by_moving, by_a_series, by_moving_a_series])
async def test_what_the_line_leaves_can_be_had_without_a_ticket(
    overtake: Overtake, api: Api, admin: Person, user: Person
) -> None:
    room = await api.room(admin, policy=FAIR)
    slots = await api.slots(user, room)
    await api.booked(user, slots[0])
    period = {"start": slots[5]["start"], "end": slots[5]["end"]}
    series = await api.post("/bookings/series", user, json={"roomId": room["id"], **period, "recurrence": "FREQ=DAILY;COUNT=2"})
    assert series.status_code == 201, series.text
    earlier = await api.person()
    ticket = await left_for_slot(api, earlier, room, slots[8])
    answer = await overtake(api, user, room, slots)
    assert answer.is_success, answer.text
    assert (await seen(api, earlier, ticket))["status"] == "booked"


# Idempotency keys


async def test_a_repeat_with_the_same_key_takes_no_second_ticket(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin, policy=FAIR))
    headers = {"Idempotency-Key": "once"}
    first = await api.book(user, slots[0], headers=headers)
    again = await api.book(user, slots[0], headers=headers)
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    other = await api.book(user, slots[1], headers=headers)
    assert (other.status_code, code(other)) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert await tickets(api) == {"booked": 1}


async def test_a_repeat_that_does_not_wait_is_told_of_the_same_place(api: Api, state: State, admin: Person, user: Person) -> None:
    slot = (await api.slots(user, await api.room(admin, policy=FAIR)))[0]
    headers = {**ASYNC, "Idempotency-Key": "once"}
    first = await api.book(user, slot, headers=headers)
    await state.together.close()
    again = await api.book(user, slot, headers=headers)
    assert (first.status_code, again.status_code, again.content) == (202, 202, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert await tickets(api) == {"booked": 1}


async def test_the_same_key_at_once_is_one_ticket(api: Api, admin: Person, user: Person) -> None:
    slot = (await api.slots(user, await api.room(admin, policy=FAIR)))[0]
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(api.book(user, slot, headers=headers) for _ in range(6)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {code(answer) for answer in answers if answer.status_code == 409} <= {"IDEMPOTENCY_IN_PROGRESS"}
    assert await tickets(api) == {"booked": 1}
    last = await api.book(user, slot, headers=headers)
    assert last.content in {answer.content for answer in answers if answer.status_code == 201}


async def test_a_conflict_after_the_wait_is_the_keys_answer(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={**FAIR, "maxActivePerUserHere": 1})
    slots = await api.slots(user, room)
    standing = await api.booked(user, slots[0])
    headers = {"Idempotency-Key": "once"}
    first = await api.book(user, slots[1], headers=headers)
    assert (first.status_code, code(first)) == (409, "ALREADY_BOOKED_HERE")
    await api.post(f"/bookings/{standing['id']}/cancel", user)
    again = await api.book(user, slots[1], headers=headers)
    assert (again.status_code, again.content) == (409, first.content)
    assert (await api.book(user, slots[1])).status_code == 201


async def test_what_is_invalid_after_the_wait_is_judged_afresh_at_a_repeat(api: Api, admin: Person, user: Person) -> None:
    event = await fair_event(api, admin, 2, minNoticeMinutes=60 * 24 * 30)
    body, headers = {"eventId": event["id"], "quantity": 1}, {"Idempotency-Key": "once"}
    for _ in range(2):
        refused = await api.post("/bookings", user, json=body, headers=headers)
        assert (refused.status_code, code(refused)) == (400, "TOO_SOON")
    allowed = await api.send("PATCH", f"/events/{event['id']}", admin, json={"policy": {"minNoticeMinutes": None}})
    assert allowed.status_code == 200, allowed.text
    made = await api.post("/bookings", user, json=body, headers=headers)
    assert made.status_code == 201, made.text


# Links


async def test_a_link_is_asked_for_once_the_turn_has_come(api: Api, state: State, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin, policy=FAIR))
    provider = Scripted("https://meet.example.com/one", "https://meet.example.com/two")
    async with another(api, state, provider=provider) as served:
        first = await served.booked(user, slots[0], createConferenceLink=True)
        # Whoever wants a link is there to hear of it: this waits.
        second = await served.book(user, slots[1], json={"createConferenceLink": True}, headers=ASYNC)
    assert first["conferenceLink"] == "https://meet.example.com/one"
    assert second.status_code == 201, second.text
    assert second.json()["booking"]["conferenceLink"] == "https://meet.example.com/two"
    assert [str(meeting.booking_id) for meeting in provider.asked] == [first["id"], second.json()["booking"]["id"]]
    assert [(one["status"], one["bookingId"]) for one in await requests_of(api, user)] == [
        ("booked", second.json()["booking"]["id"]),
        ("booked", first["id"]),
    ]


async def test_without_a_link_the_ticket_is_refused_and_the_slot_free(
    api: Api, state: State, admin: Person, user: Person
) -> None:
    room = await api.room(admin, policy=FAIR)
    slots = await api.slots(user, room)
    async with another(api, state, provider=Scripted(ConferenceFailure("down"))) as served:
        refused = await served.book(user, slots[0], json={"createConferenceLink": True})
    assert (refused.status_code, code(refused)) == (502, "CONFERENCE_SERVICE_ERROR")
    (ticket,) = await requests_of(api, user)
    assert (ticket["status"], ticket["error"]["code"]) == ("refused", "CONFERENCE_SERVICE_ERROR")
    assert await api.slots(user, room) == slots


async def test_without_a_link_the_same_key_tries_again(api: Api, state: State, admin: Person, user: Person) -> None:
    slot = (await api.slots(user, await api.room(admin, policy=FAIR)))[0]
    provider = Scripted(ConferenceFailure("down"), "https://meet.example.com/one")
    headers = {"Idempotency-Key": "once"}
    async with another(api, state, provider=provider) as served:
        refused = await served.book(user, slot, json={"createConferenceLink": True}, headers=headers)
        assert refused.status_code == 502
        made = await served.book(user, slot, json={"createConferenceLink": True}, headers=headers)
    assert made.status_code == 201, made.text
    assert made.json()["booking"]["conferenceLink"] == "https://meet.example.com/one"


# What a dead process leaves


async def test_tickets_that_were_left_behind_are_served_exactly_once(api: Api, state: State, admin: Person) -> None:
    room, event = await api.room(admin, policy=FAIR), await fair_event(api, admin, 2)
    slots = await api.slots(admin, room)
    people = await api.people(4)
    line = [await left_for_slot(api, who, room, slots[0]) for who in people[:2]]
    line += [
        await left_behind(api, who, event, eventId=event["id"], quantity=2, section=None, adjacent=True) for who in people[2:]
    ]
    await asyncio.gather(*(serve_lines(state.db) for _ in range(4)))
    await serve_lines(state.db)
    shown = [await seen(api, who, ticket) for who, ticket in zip(people, line, strict=True)]
    assert [one["status"] for one in shown] == ["booked", "refused", "booked", "refused"]
    for who, ticket, kind in ((people[0], shown[0], "room"), (people[2], shown[2], "event")):
        (booking,) = (await api.get("/bookings/my", who)).json()["bookings"]
        assert (booking["id"], booking["kind"], booking["title"]) == (ticket["bookingId"], kind, "Left behind")
        rows = await api.db.fetch(
            "SELECT actor_id, request_id FROM outbox WHERE subject_id = $1 AND type = 'booking.created'", booking["id"]
        )
        assert [(row["actor_id"], row["request_id"]) for row in rows] == [(who.id, "lost")]
    assert await active(api) == 2


async def test_a_ticket_whose_client_cannot_hear_any_more_is_cancelled(api: Api, state: State, admin: Person) -> None:
    room = await api.room(admin, policy=FAIR)
    slot = (await api.slots(admin, room))[0]
    people = await api.people(3)
    waits = (timedelta(seconds=-1), timedelta(seconds=30), None)
    line = [await left_for_slot(api, who, room, slot, answer_in=wait) for who, wait in zip(people, waits, strict=True)]
    await serve_lines(state.db)
    shown = [await seen(api, who, ticket) for who, ticket in zip(people, line, strict=True)]
    assert [one["status"] for one in shown] == ["cancelled", "booked", "refused"]


async def test_tickets_of_what_is_gone_are_refused_and_keep_nobody_back(api: Api, state: State, admin: Person) -> None:
    archived, room = await api.room(admin, policy=FAIR), await api.room(admin, policy=FAIR)
    slot, elsewhere = (await api.slots(admin, archived))[0], (await api.slots(admin, room))[0]
    ended, first, second = await api.people(3)
    stretch = {"roomId": archived["id"], "start": slot["start"], "end": slot["end"]}
    line = [await left_for_slot(api, first, archived, slot), await left_behind(api, first, archived, **stretch)]
    await left_for_slot(api, ended, room, elsewhere)
    line.append(await left_for_slot(api, second, room, elsewhere))
    assert (await api.send("DELETE", f"/rooms/{archived['id']}", admin)).status_code == 204
    assert (await api.send("DELETE", "/users/me", ended)).status_code == 204
    await serve_lines(state.db)
    shown = [await seen(api, who, ticket) for who, ticket in zip((first, first, second), line, strict=True)]
    assert [one["status"] for one in shown] == ["refused", "refused", "booked"], shown
    assert [one["error"]["code"] for one in shown[:2]] == ["SLOT_NOT_FOUND", "ROOM_NOT_FOUND"]
    assert (await tickets(api))["waiting"] == 0


async def test_a_ticket_whose_process_died_while_it_asked_for_a_link_is_refused(
    api: Api, state: State, admin: Person, user: Person
) -> None:
    room = await api.room(admin, policy=FAIR)
    slot = (await api.slots(user, room))[0]
    hold = (await api.post("/holds", user, json={"slotId": slot["id"]})).json()["hold"]
    ticket = await left_for_slot(api, user, room, slot)
    await api.db.fetch("UPDATE booking_requests SET hold_id = $2 WHERE id = $1", UUID(ticket), UUID(hold["token"]))
    await serve_lines(state.db)
    assert (await seen(api, user, ticket))["status"] == "waiting"
    for table, column in (("holds", "id"), ("claims", "hold_id")):
        await api.db.fetch(
            f"UPDATE {table} SET expires_at = clock_timestamp() - interval '1 minute' WHERE {column} = $1", UUID(hold["token"])
        )
    await serve_lines(state.db)
    shown = await seen(api, user, ticket)
    assert (shown["status"], shown["error"]["code"]) == ("refused", "CONFERENCE_SERVICE_ERROR")
    assert await active(api) == 0


async def test_a_young_ticket_is_left_to_the_process_that_took_it(api: Api, state: State, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy=FAIR)
    ticket = await left_for_slot(api, user, room, (await api.slots(user, room))[0])
    await api.db.fetch("UPDATE booking_requests SET created_at = clock_timestamp() + interval '1 minute'")
    await serve_lines(state.db)
    assert (await seen(api, user, ticket))["status"] == "waiting"
    await api.db.fetch("UPDATE booking_requests SET created_at = clock_timestamp() - interval '2 seconds'")
    await serve_lines(state.db)
    assert (await seen(api, user, ticket))["status"] == "booked"
