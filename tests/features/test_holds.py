"""Holds: what is kept for somebody, how long, against whom, and every way in which it ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from conftest import make_settings
from holdfast.core.ids import new_id
from holdfast.main import build_app, build_state
from holdfast.web.state import State
from support.api import Api, Person, code, tomorrow


async def held(api: Api, who: Person, **body: Any) -> dict[str, Any]:
    """A hold, which must be had."""
    made = await api.post("/holds", who, json=body)
    assert made.status_code == 201, made.text
    hold: dict[str, Any] = made.json()["hold"]
    return hold


async def lapse(api: Api, hold: dict[str, Any]) -> None:
    """Time cannot be waited for: the hold's end is moved to just now, where it is stored."""
    for table, column in (("holds", "id"), ("claims", "hold_id")):
        await api.db.fetch(
            f"UPDATE {table} SET expires_at = clock_timestamp() WHERE {column} = $1",
            hold["token"],
        )


async def event_with(api: Api, admin: Person, *labels: str, **fields: Any) -> dict[str, Any]:
    """An event the day after tomorrow with these seats."""
    made = await api.post("/events", admin, json={"name": "Concert", "start": f"{tomorrow(2)}T18:00:00Z", **fields})
    assert made.status_code == 201, made.text
    event: dict[str, Any] = made.json()["event"]
    added = await api.post(f"/events/{event['id']}/seats", admin, json={"seats": list(labels)})
    assert added.status_code == 201, added.text
    return event


async def host_slots(api: Api, host: Person, *hours: int, **fields: Any) -> list[dict[str, Any]]:
    """Tomorrow's slots of somebody who becomes a host, each an hour from the full one."""
    made = await api.post("/hosts", host, json={"displayName": "Ada", **fields})
    assert made.status_code == 201, made.text
    day = tomorrow()
    slots = [{"start": f"{day}T{hour:02d}:00:00Z", "end": f"{day}T{hour + 1:02d}:00:00Z"} for hour in hours]
    published = await api.post("/slots", host, json={"slots": slots})
    assert published.status_code == 201, published.text
    found: list[dict[str, Any]] = published.json()["slots"]
    return found


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


# What a hold is


async def test_a_hold_says_what_it_keeps_and_until_when(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slot = (await api.slots(user, room))[0]
    made = await api.post("/holds", user, json={"slotId": slot["id"]})
    assert made.status_code == 201, made.text
    hold = made.json()["hold"]
    assert made.headers["location"] == f"/holds/{hold['token']}"
    assert (hold["kind"], hold["roomId"], hold["slotIds"], hold["seats"]) == ("room", room["id"], [slot["id"]], [])
    assert (hold["start"], hold["end"]) == (slot["start"], slot["end"])
    (row,) = await api.db.fetch("SELECT clock_timestamp() AS now")
    # `holdSeconds` is 300 where the policy names none.
    assert timedelta(seconds=285) < instant(hold["expiresAt"]) - row["now"] <= timedelta(seconds=301)
    assert (await api.get(f"/holds/{hold['token']}", user)).json() == {"hold": hold}


async def test_the_policy_says_how_long_a_hold_is_kept(api: Api, admin: Person, user: Person) -> None:
    long, short = await api.room(admin, policy={"holdSeconds": 3600}), await api.room(admin, policy={"holdSeconds": 60})
    first, second = (await api.slots(user, long))[0], (await api.slots(user, short))[0]
    alone = await held(api, user, slotId=first["id"])
    (row,) = await api.db.fetch("SELECT clock_timestamp() AS now")
    assert instant(alone["expiresAt"]) - row["now"] > timedelta(minutes=59)
    assert (await api.send("DELETE", f"/holds/{alone['token']}", user)).status_code == 204
    both = await held(api, user, slotIds=[first["id"], second["id"]])
    (row,) = await api.db.fetch("SELECT clock_timestamp() AS now")
    assert instant(both["expiresAt"]) - row["now"] <= timedelta(seconds=61), "the shortest of several policies counts"


async def test_a_hold_shows_as_held_and_as_ones_own(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    hold = await held(api, user, slotId=slots[0]["id"])
    assert await api.slots(user, room) == slots[1:]
    path, params = f"/rooms/{room['id']}/slots", {"date": tomorrow(), "status": "all"}
    mine = (await api.get(path, user, params=params)).json()["slots"][0]
    assert (mine["status"], mine["mine"]) == ("held", True)
    theirs = (await api.get(path, await api.person(), params=params)).json()["slots"][0]
    assert (theirs["status"], theirs["mine"]) == ("held", False)
    assert (theirs["why"]["rule"], theirs["why"]["until"]) == ("held", hold["expiresAt"])


async def test_ones_own_live_holds_are_listed_the_first_to_end_first(api: Api, admin: Person, user: Person) -> None:
    long, short = await api.room(admin, policy={"holdSeconds": 3600}), await api.room(admin)
    first = await held(api, user, slotId=(await api.slots(user, long))[0]["id"])
    second = await held(api, user, slotId=(await api.slots(user, short))[0]["id"])
    gone = await held(api, user, slotId=(await api.slots(user, short))[0]["id"])
    lapsed = await held(api, user, slotId=(await api.slots(user, short))[0]["id"])
    await held(api, await api.person(), slotId=(await api.slots(user, short))[0]["id"])
    assert (await api.send("DELETE", f"/holds/{gone['token']}", user)).status_code == 204
    await lapse(api, lapsed)
    assert (await api.get("/holds/my", user)).json() == {"holds": [second, first]}
    assert (await api.get("/holds/my", await api.person())).json() == {"holds": []}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/holds"),
        ("GET", "/holds/my"),
        ("GET", "/holds/{}"),
        ("DELETE", "/holds/{}"),
        ("POST", "/holds/{}/extend"),
    ],
)
async def test_admins_do_not_hold(method: str, path: str, api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    hold = await held(api, user, slotId=slots[0]["id"])
    body = {"slotId": slots[1]["id"]} if path == "/holds" else None
    refused = await api.send(method, path.format(hold["token"]), admin, json=body)
    assert (refused.status_code, code(refused)) == (403, "FORBIDDEN")


# Ways of naming what is to be held


async def test_several_slots_of_rooms_and_hosts_are_held_all_or_none(api: Api, admin: Person, user: Person) -> None:
    room, host, other = await api.room(admin), await api.person(), await api.person()
    mine = await api.slots(user, room)
    theirs = await host_slots(api, host, 10, 11)
    await held(api, other, slotId=theirs[0]["id"])
    refused = await api.post("/holds", user, json={"slotIds": [mine[0]["id"], theirs[0]["id"]]})
    assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
    assert refused.json()["error"]["details"]["slotId"] == theirs[0]["id"]
    assert await api.slots(user, room) == mine
    hold = await held(api, user, slotIds=[theirs[1]["id"], mine[0]["id"]])
    assert set(hold["slotIds"]) == {theirs[1]["id"], mine[0]["id"]}
    assert (hold["start"], hold["end"]) == (mine[0]["start"], theirs[1]["end"])
    booked = await api.post("/bookings", user, json={"holdToken": hold["token"]})
    assert booked.status_code == 201, booked.text
    assert set(booked.json()["booking"]["slotIds"]) == {theirs[1]["id"], mine[0]["id"]}


async def test_a_stretch_of_a_rooms_time_is_held(api: Api, admin: Person, user: Person) -> None:
    room, day = await api.room(admin), tomorrow()
    hold = await held(api, user, roomId=room["id"], start=f"{day}T10:00:00Z", end=f"{day}T11:30:00Z")
    assert (len(hold["slotIds"]), hold["start"], hold["end"]) == (3, f"{day}T10:00:00Z", f"{day}T11:30:00Z")
    assert len(await api.slots(user, room)) == 13
    by_time = await held(api, user, roomId=room["id"], date=day, time="09:00")
    assert by_time["start"] == f"{day}T09:00:00Z"


async def test_named_seats_are_held(api: Api, admin: Person, user: Person) -> None:
    event = await event_with(api, admin, "A-1", "A-2", "A-3")
    hold = await held(api, user, eventId=event["id"], seats=["A-3", "A-1"])
    assert (hold["kind"], hold["eventId"], set(hold["seats"])) == ("event", event["id"], {"A-1", "A-3"})
    assert (hold["start"], hold["end"]) == (event["start"], None)
    seats = (await api.get(f"/events/{event['id']}/seats", user)).json()["seats"]
    assert [(seat["status"], seat["mine"]) for seat in seats] == [("held", True), ("free", False), ("held", True)]
    assert set(hold["slotIds"]) == {seats[0]["id"], seats[2]["id"]}
    shown = (await api.get(f"/events/{event['id']}", user)).json()["event"]
    assert (shown["capacity"], shown["held"], shown["booked"], shown["available"]) == (3, 2, 0, 1)


async def test_the_best_available_seats_are_side_by_side_in_one_row(api: Api, admin: Person, user: Person) -> None:
    event = await event_with(api, admin, "A-1", "A-2", "A-3", "B-1", "B-2", "B-3")
    await held(api, await api.person(), eventId=event["id"], seats=["A-2"])
    hold = await held(api, user, eventId=event["id"], quantity=3)
    assert sorted(hold["seats"]) == ["B-1", "B-2", "B-3"]
    # None are side by side any more: two seats all the same, as adjacent means "where it can".
    apart = await held(api, user, eventId=event["id"], quantity=2)
    assert sorted(apart["seats"]) == ["A-1", "A-3"]


async def test_seats_are_chosen_from_the_section_that_is_named(api: Api, admin: Person, user: Person) -> None:
    event = await event_with(api, admin, "Z-1")
    sections = [{"name": name, "rows": [{"name": "1", "seats": 4}]} for name in ("Stalls", "Balcony")]
    assert (await api.post(f"/events/{event['id']}/seats", admin, json={"sections": sections})).status_code == 201
    hold = await held(api, user, eventId=event["id"], quantity=3, section="Balcony")
    assert all(label.startswith("Balcony-1-") for label in hold["seats"])
    short = await api.post("/holds", user, json={"eventId": event["id"], "quantity": 2, "section": "Balcony"})
    assert (short.status_code, code(short)) == (409, "SEATS_TAKEN")
    unknown = await api.post("/holds", user, json={"eventId": event["id"], "quantity": 2, "section": "Roof"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["details"]["section"] == "Roof"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"slotIds": []},
        {"holdToken": str(new_id())},
        {"eventId": str(new_id())},
        {"eventId": str(new_id()), "seats": []},
        {"eventId": str(new_id()), "quantity": 0},
        {"eventId": str(new_id()), "quantity": 2, "seats": ["A-1"]},
        {"eventId": str(new_id()), "quantity": 1, "slotId": str(new_id())},
        {"roomId": str(new_id()), "start": "2030-01-01T10:00:00Z"},
        {"seats": ["A-1"]},
    ],
)
async def test_what_is_to_be_held_must_be_named_in_exactly_one_way(body: dict[str, Any], api: Api, user: Person) -> None:
    refused = await api.post("/holds", user, json=body)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_what_is_named_twice_is_refused(api: Api, admin: Person, user: Person) -> None:
    event = await event_with(api, admin, "A-1")
    (slot, *_) = await api.slots(user, await api.room(admin))
    for body in ({"eventId": event["id"], "seats": ["A-1", "A-1"]}, {"slotIds": [slot["id"], slot["id"]]}):
        refused = await api.post("/holds", user, json=body)
        assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


# Refused for the same reasons as a booking


async def test_what_is_unknown_is_404_for_a_hold_as_for_a_booking(api: Api, admin: Person, user: Person) -> None:
    event = await event_with(api, admin, "A-1")
    for body, expected in (
        ({"slotId": str(new_id())}, "SLOT_NOT_FOUND"),
        ({"roomId": str(new_id()), "start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T11:00:00Z"}, "ROOM_NOT_FOUND"),
        ({"eventId": str(new_id()), "quantity": 1}, "EVENT_NOT_FOUND"),
        ({"eventId": event["id"], "seats": ["A-1", "A-9", "Q-7"]}, "SEATS_NOT_FOUND"),
    ):
        for path in ("/holds", "/bookings"):
            refused = await api.post(path, user, json=body)
            assert (refused.status_code, code(refused)) == (404, expected)
    assert refused.json()["error"]["details"]["seats"] == ["A-9", "Q-7"]


async def test_taken_seats_are_named_and_others_proposed(api: Api, admin: Person, user: Person) -> None:
    event = await event_with(api, admin, "A-1", "A-2", "A-3", "A-4")
    await held(api, await api.person(), eventId=event["id"], seats=["A-1"])
    for path in ("/holds", "/bookings"):
        refused = await api.post(path, user, json={"eventId": event["id"], "seats": ["A-1", "A-2"]})
        assert (refused.status_code, code(refused)) == (409, "SEATS_TAKEN")
        details = refused.json()["error"]["details"]
        assert details["seats"] == ["A-1"]
        assert details["available"] == 3
        assert len(details["alternatives"]) == 2
        assert set(details["alternatives"]) <= {"A-2", "A-3", "A-4"}


async def test_more_seats_than_are_free_are_refused_with_how_many_are(api: Api, admin: Person, user: Person) -> None:
    event = await event_with(api, admin, "A-1", "A-2")
    for path in ("/holds", "/bookings"):
        refused = await api.post(path, user, json={"eventId": event["id"], "quantity": 3})
        assert (refused.status_code, code(refused)) == (409, "SEATS_TAKEN")
        assert refused.json()["error"]["details"]["available"] == 2


@pytest.mark.parametrize("path", ["/holds", "/bookings"])
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"minNoticeMinutes": 7 * 24 * 60}, (400, "TOO_SOON")),
        ({"maxDaysAhead": 0}, (400, "TOO_FAR_AHEAD")),
        ({"maxActivePerUser": 1}, (409, "TOO_MANY_BOOKINGS")),
        ({"maxActivePerUserHere": 1}, (409, "ALREADY_BOOKED_HERE")),
        ({"overlapsAllowed": False}, (409, "OVERLAPS_YOUR_BOOKING")),
    ],
)
async def test_the_policy_of_a_room_binds_holds_and_bookings_alike(
    policy: dict[str, Any], expected: tuple[int, str], path: str, api: Api, admin: Person, user: Person
) -> None:
    room, elsewhere = await api.room(admin), await api.room(admin)
    slots = await api.slots(user, room)
    await api.booked(user, slots[0])
    await api.booked(user, (await api.slots(user, elsewhere))[1])
    changed = await api.send("PATCH", f"/rooms/{room['id']}", admin, json={"policy": policy})
    assert changed.status_code == 200
    refused = await api.post(path, user, json={"slotId": slots[1]["id"]})
    assert (refused.status_code, code(refused)) == expected
    (rule,) = policy
    assert refused.json()["error"]["details"]["rule"] == rule


async def test_a_taken_closed_past_or_own_slot_is_not_held(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    await api.booked(await api.person(), slots[0])
    closing = {"start": slots[1]["start"], "end": slots[1]["end"]}
    assert (await api.post(f"/rooms/{room['id']}/closures", admin, json=closing)).status_code == 201
    yesterday = await api.slots(user, room, tomorrow(-1))
    own = await host_slots(api, user, 10)
    for slot, expected in (
        (slots[0], (409, "SLOT_ALREADY_BOOKED")),
        (slots[1], (409, "CLOSED")),
        (yesterday[0], (400, "INVALID_REQUEST")),
        (own[0], (400, "OWN_SLOT")),
    ):
        refused = await api.post("/holds", user, json={"slotId": slot["id"]})
        assert (refused.status_code, code(refused)) == expected


async def test_a_live_hold_counts_as_a_booking_for_the_limits(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={"maxActivePerUserHere": 1})
    slots = await api.slots(user, room)
    hold = await held(api, user, slotId=slots[0]["id"])
    for path in ("/bookings", "/holds"):
        assert code(await api.post(path, user, json={"slotId": slots[1]["id"]})) == "ALREADY_BOOKED_HERE"
    await lapse(api, hold)
    assert (await api.post("/bookings", user, json={"slotId": slots[1]["id"]})).status_code == 201


async def test_held_time_is_in_the_way_of_an_overlap(api: Api, admin: Person, user: Person) -> None:
    strict, free = await api.room(admin, policy={"overlapsAllowed": False}), await api.room(admin)
    hold = await held(api, user, slotId=(await api.slots(user, free))[0]["id"])
    slot = (await api.slots(user, strict))[0]
    assert code(await api.book(user, slot)) == "OVERLAPS_YOUR_BOOKING"
    assert (await api.send("DELETE", f"/holds/{hold['token']}", user)).status_code == 204
    await api.booked(user, slot)


async def test_ten_seats_of_one_event_are_the_most_that_one_holds(api: Api, admin: Person, user: Person) -> None:
    labels = [f"A-{n}" for n in range(1, 16)]
    event, other = await event_with(api, admin, *labels), await event_with(api, admin, *labels)
    first = await held(api, user, eventId=event["id"], quantity=6)
    await held(api, user, eventId=event["id"], quantity=4)
    refused = await api.post("/holds", user, json={"eventId": event["id"], "quantity": 1})
    assert (refused.status_code, code(refused)) == (409, "TOO_MANY_HOLDS")
    assert refused.json()["error"]["details"]["value"] == 10
    await held(api, user, eventId=other["id"], quantity=10)
    third = await event_with(api, admin, *labels)
    assert code(await api.post("/holds", user, json={"eventId": third["id"], "quantity": 11})) == "TOO_MANY_HOLDS"
    # What was booked is not held any more.
    assert (await api.post("/bookings", user, json={"holdToken": first["token"]})).status_code == 201
    await held(api, user, eventId=event["id"], quantity=1)


async def test_ten_slots_over_all_rooms_and_hosts_are_the_most_that_one_holds(api: Api, admin: Person, user: Person) -> None:
    one, two = await api.slots(user, await api.room(admin)), await api.slots(user, await api.room(admin))
    theirs = await host_slots(api, await api.person(), 10, policy={"maxActivePerUserHere": None})
    first = await held(api, user, slotIds=[slot["id"] for slot in one[:5]])
    await held(api, user, slotIds=[slot["id"] for slot in two[:4]])
    await held(api, user, slotId=theirs[0]["id"])
    for slot in (one[5], two[5]):
        refused = await api.post("/holds", user, json={"slotId": slot["id"]})
        assert (refused.status_code, code(refused)) == (409, "TOO_MANY_HOLDS")
        assert refused.json()["error"]["details"]["value"] == 10
    # Bookings are no holds, and others' holds are theirs.
    await api.booked(user, one[5])
    await held(api, await api.person(), slotId=one[6]["id"])
    await lapse(api, first)
    await held(api, user, slotIds=[slot["id"] for slot in one[:5]])


# Confirming


async def test_a_hold_becomes_a_booking_of_the_same_units(api: Api, admin: Person, user: Person) -> None:
    event = await event_with(api, admin, "A-1", "A-2")
    hold = await held(api, user, eventId=event["id"], seats=["A-1", "A-2"])
    made = await api.post("/bookings", user, json={"holdToken": hold["token"], "title": "Us two", "notes": "Aisle"})
    assert made.status_code == 201, made.text
    booking = made.json()["booking"]
    assert made.headers["location"] == f"/bookings/{booking['id']}"
    assert (booking["slotIds"], booking["seats"]) == (hold["slotIds"], hold["seats"])
    assert (booking["title"], booking["notes"], booking["status"]) == ("Us two", "Aisle", "active")
    seats = (await api.get(f"/events/{event['id']}/seats", user)).json()["seats"]
    assert {(seat["status"], seat["mine"]) for seat in seats} == {("booked", True)}
    assert (await api.get("/holds/my", user)).json() == {"holds": []}


async def test_a_used_hold_says_which_booking_it_became(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    hold = await held(api, user, slotId=slots[0]["id"])
    booking = (await api.post("/bookings", user, json={"holdToken": hold["token"]})).json()["booking"]
    path = f"/holds/{hold['token']}"
    for answer in (
        await api.post("/bookings", user, json={"holdToken": hold["token"]}),
        await api.get(path, user),
        await api.send("DELETE", path, user),
        await api.post(f"{path}/extend", user),
    ):
        assert (answer.status_code, code(answer)) == (409, "HOLD_USED")
        assert answer.json()["error"]["details"]["bookingId"] == booking["id"]


async def test_confirming_asks_only_whether_the_hold_lives(api: Api, admin: Person, user: Person) -> None:
    """What has become stricter since, or what else was booked since, does not take away what was promised."""
    room, elsewhere = await api.room(admin), await api.room(admin)
    hold = await held(api, user, slotId=(await api.slots(user, room))[0]["id"])
    await api.booked(user, (await api.slots(user, elsewhere))[0])
    policy = {
        "maxActivePerUser": 1,
        "maxActivePerUserHere": 1,
        "overlapsAllowed": False,
        "minNoticeMinutes": 7 * 24 * 60,
        "maxDaysAhead": 0,
        "cancelNoticeMinutes": 7 * 24 * 60,
    }
    changed = await api.send("PATCH", f"/rooms/{room['id']}", admin, json={"policy": policy})
    assert changed.status_code == 200, changed.text
    other = {"daysOfWeek": [1], "startTime": "00:00", "endTime": "01:00"}
    assert (await api.send("PUT", f"/rooms/{room['id']}/schedule", admin, json=other)).status_code == 200
    made = await api.post("/bookings", user, json={"holdToken": hold["token"]})
    assert made.status_code == 201, made.text


async def test_the_end_of_sales_does_not_end_a_live_hold(api: Api, admin: Person, user: Person) -> None:
    event = await event_with(api, admin, "A-1")
    hold = await held(api, user, eventId=event["id"], quantity=1)
    over = {"salesStart": f"{tomorrow(-3)}T00:00:00Z", "salesEnd": f"{tomorrow(-1)}T00:00:00Z"}
    assert (await api.send("PATCH", f"/events/{event['id']}", admin, json=over)).status_code == 200
    assert code(await api.post("/bookings", user, json={"eventId": event["id"], "quantity": 1})) == "NOT_ON_SALE"
    assert (await api.post("/bookings", user, json={"holdToken": hold["token"]})).status_code == 201


async def test_the_front_desk_confirms_a_users_own_hold(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    hold = await held(api, user, slotId=slots[0]["id"])
    someone = await api.person()
    foreign = await api.post(f"/users/{someone.id}/bookings", admin, json={"holdToken": hold["token"]})
    assert (foreign.status_code, code(foreign)) == (403, "FORBIDDEN")
    made = await api.post(f"/users/{user.id}/bookings", admin, json={"holdToken": hold["token"]})
    assert (made.status_code, made.json()["booking"]["userId"]) == (201, str(user.id))
    other = await held(api, user, slotId=slots[1]["id"])
    await lapse(api, other)
    late = await api.post(f"/users/{user.id}/bookings", admin, json={"holdToken": other["token"]})
    assert (late.status_code, code(late)) == (410, "HOLD_EXPIRED")


async def test_unknown_and_foreign_holds_are_told_apart(api: Api, admin: Person, user: Person) -> None:
    hold = await held(api, user, slotId=(await api.slots(user, await api.room(admin)))[0]["id"])
    for token, who, expected in (
        (str(new_id()), user, (404, "HOLD_NOT_FOUND")),
        (hold["token"], await api.person(), (403, "FORBIDDEN")),
    ):
        for answer in (
            await api.get(f"/holds/{token}", who),
            await api.send("DELETE", f"/holds/{token}", who),
            await api.post(f"/holds/{token}/extend", who),
            await api.post("/bookings", who, json={"holdToken": token}),
        ):
            assert (answer.status_code, code(answer)) == expected
    assert (await api.get(f"/holds/{hold['token']}", user)).json() == {"hold": hold}


# Ending


async def test_after_its_end_a_hold_is_gone_for_everything(api: Api, admin: Person, user: Person) -> None:
    hold = await held(api, user, slotId=(await api.slots(user, await api.room(admin)))[0]["id"])
    await lapse(api, hold)
    path = f"/holds/{hold['token']}"
    for answer in (
        await api.get(path, user),
        await api.post(f"{path}/extend", user),
        await api.post("/bookings", user, json={"holdToken": hold["token"]}),
        await api.send("DELETE", path, user),
    ):
        assert (answer.status_code, code(answer)) == (410, "HOLD_EXPIRED")
    (row,) = await api.db.fetch("SELECT count(*) AS n FROM bookings")
    assert row["n"] == 0


async def test_a_lapsed_hold_is_free_that_instant_without_any_sweep(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    event = await event_with(api, admin, "A-1")
    first = await held(api, user, slotId=slots[0]["id"])
    second = await held(api, user, eventId=event["id"], seats=["A-1"])
    await lapse(api, first)
    await lapse(api, second)
    assert await api.slots(user, room) == slots
    (seat,) = (await api.get(f"/events/{event['id']}/seats", user)).json()["seats"]
    assert (seat["status"], seat["mine"]) == ("free", False)
    assert (await api.get(f"/events/{event['id']}", user)).json()["event"]["available"] == 1
    other = await api.person()
    assert (await api.book(other, slots[0])).status_code == 201
    assert (await api.post("/bookings", other, json={"eventId": event["id"], "seats": ["A-1"]})).status_code == 201
    for hold in (first, second):
        assert code(await api.post("/bookings", user, json={"holdToken": hold["token"]})) == "HOLD_EXPIRED"


async def test_released_units_are_free_at_once_and_the_hold_is_over(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    hold = await held(api, user, slotId=slots[0]["id"])
    released = await api.send("DELETE", f"/holds/{hold['token']}", user)
    assert (released.status_code, released.content) == (204, b"")
    assert (await api.book(await api.person(), slots[0])).status_code == 201
    for method, path in (("GET", "/holds/{}"), ("DELETE", "/holds/{}"), ("POST", "/holds/{}/extend")):
        answer = await api.send(method, path.format(hold["token"]), user)
        assert (answer.status_code, code(answer)) == (410, "HOLD_EXPIRED")
    assert (await api.post("/bookings", user, json={"holdToken": hold["token"]})).status_code == 410


async def test_a_hold_is_extended_once_by_its_own_length(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={"holdSeconds": 120})
    slots = await api.slots(user, room)
    hold = await held(api, user, slotId=slots[0]["id"])
    extended = await api.post(f"/holds/{hold['token']}/extend", user)
    assert extended.status_code == 200, extended.text
    after = extended.json()["hold"]
    moved = instant(after["expiresAt"]) - instant(hold["expiresAt"])
    assert abs(moved - timedelta(seconds=120)) <= timedelta(seconds=1)
    assert (after["token"], after["slotIds"]) == (hold["token"], hold["slotIds"])
    again = await api.post(f"/holds/{hold['token']}/extend", user)
    assert again.status_code == 409
    assert code(again) == "HOLD_EXTENDED"
    assert (await api.get(f"/holds/{hold['token']}", user)).json()["hold"]["expiresAt"] == after["expiresAt"]
    # The claims have the new end too, or somebody else could take them in between.
    (row,) = await api.db.fetch(
        "SELECT count(*) AS n FROM claims c JOIN holds h ON h.id = c.hold_id AND h.expires_at = c.expires_at WHERE h.id = $1",
        hold["token"],
    )
    assert row["n"] == 1


async def test_a_closure_names_live_holds_and_ends_them_only_when_told_to(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    hold = await held(api, user, slotId=slots[0]["id"])
    lapsed = await held(api, user, slotId=slots[1]["id"])
    await lapse(api, lapsed)
    body: dict[str, Any] = {"start": slots[0]["start"], "end": slots[1]["end"]}
    refused = await api.post(f"/rooms/{room['id']}/closures", admin, json=body)
    assert (refused.status_code, code(refused)) == (409, "BOOKINGS_IN_THE_WAY")
    assert refused.json()["error"]["details"] == {"bookingIds": [], "holdIds": [hold["token"]]}
    closed = await api.post(f"/rooms/{room['id']}/closures", admin, json={**body, "cancelBookings": True})
    assert closed.status_code == 201, closed.text
    assert code(await api.post("/bookings", user, json={"holdToken": hold["token"]})) == "HOLD_EXPIRED"


async def test_a_room_is_not_archived_under_a_live_hold(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    hold = await held(api, user, slotId=(await api.slots(user, room))[0]["id"])
    refused = await api.send("DELETE", f"/rooms/{room['id']}", admin)
    assert (refused.status_code, code(refused)) == (409, "ROOM_IN_USE")
    await lapse(api, hold)
    assert (await api.send("DELETE", f"/rooms/{room['id']}", admin)).status_code == 204


async def test_holds_of_a_deleted_account_are_free_at_once(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(admin, room)
    await held(api, user, slotId=slots[0]["id"])
    assert (await api.send("DELETE", "/users/me", user)).status_code == 204
    assert await api.slots(admin, room) == slots
    assert (await api.book(await api.person(), slots[0])).status_code == 201


# Together with what else there is


async def test_every_change_of_a_hold_can_be_repeated_safely(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    hold = await held(api, user, slotId=slots[0]["id"])
    other = await held(api, user, slotId=slots[1]["id"])
    path = f"/holds/{hold['token']}"
    requests: list[tuple[str, str, dict[str, Any] | None, int]] = [
        ("POST", "/holds", {"slotId": slots[2]["id"]}, 201),
        ("POST", f"{path}/extend", None, 200),
        ("POST", "/bookings", {"holdToken": hold["token"]}, 201),
        ("DELETE", f"/holds/{other['token']}", None, 204),
    ]
    for number, (method, address, body, status) in enumerate(requests):
        headers = {"Idempotency-Key": f"k{number}"}
        first = await api.send(method, address, user, json=body, headers=headers)
        again = await api.send(method, address, user, json=body, headers=headers)
        assert (first.status_code, again.status_code) == (status, status), (first.text, again.text)
        assert again.content == first.content
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers.get("location") == first.headers.get("location")
    (row,) = await api.db.fetch("SELECT count(*) AS holds, (SELECT count(*) FROM bookings) AS bookings FROM holds")
    assert (row["holds"], row["bookings"]) == (3, 1)
    other_body = await api.post("/holds", user, json={"slotId": slots[3]["id"]}, headers={"Idempotency-Key": "k0"})
    assert (other_body.status_code, code(other_body)) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_refusal_is_kept_under_its_key_too(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    hold = await held(api, await api.person(), slotId=slots[0]["id"])
    headers = {"Idempotency-Key": "k1"}
    refused = await api.post("/holds", user, json={"slotId": slots[0]["id"]}, headers=headers)
    assert refused.status_code == 409
    await lapse(api, hold)
    again = await api.post("/holds", user, json={"slotId": slots[0]["id"]}, headers=headers)
    assert (again.status_code, again.content) == (409, refused.content)
    assert (await api.post("/holds", user, json={"slotId": slots[0]["id"]})).status_code == 201


class Failing:
    """A conference provider that is down, unless it is told a link."""

    def __init__(self, link: str | None = None) -> None:
        self.link = link

    async def create_link(self, _meeting: object) -> str:
        if self.link is None:
            raise TimeoutError
        return self.link

    async def close(self) -> None:
        return


@asynccontextmanager
async def served_with(state: State, provider: Failing) -> AsyncIterator[httpx.AsyncClient]:
    other = build_state(make_settings(state.db.url, pool_size=8), conferencing=provider)
    transport = httpx.ASGITransport(build_app(other))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
            yield client
    finally:
        other.passwords.close()
        await other.db.close()


async def test_a_hold_is_confirmed_with_a_conference_link(api: Api, admin: Person, user: Person) -> None:
    hold = await held(api, user, slotId=(await api.slots(user, await api.room(admin)))[0]["id"])
    made = await api.post("/bookings", user, json={"holdToken": hold["token"], "createConferenceLink": True})
    assert made.status_code == 201, made.text
    booking = made.json()["booking"]
    assert booking["conferenceLink"] == f"https://meet.example.com/{booking['id']}"


async def test_a_failing_provider_leaves_the_hold_with_its_user_and_its_own_end(
    api: Api, admin: Person, user: Person, state: State
) -> None:
    room = await api.room(admin)
    hold = await held(api, user, slotId=(await api.slots(user, room))[0]["id"])
    body = {"holdToken": hold["token"], "createConferenceLink": True}
    async with served_with(state, Failing()) as client:
        refused = await client.post("/bookings", json=body, headers=user.headers)
    assert (refused.status_code, code(refused)) == (502, "CONFERENCE_SERVICE_ERROR")
    assert (await api.get(f"/holds/{hold['token']}", user)).json() == {"hold": hold}
    rival = await api.book(await api.person(), {"id": hold["slotIds"][0]})
    assert rival.status_code == 409
    made = await api.post("/bookings", user, json={"holdToken": hold["token"]})
    assert (made.status_code, made.json()["booking"]["conferenceLink"]) == (201, None)


async def test_a_lapsed_or_foreign_hold_asks_no_provider(api: Api, admin: Person, user: Person, state: State) -> None:
    slots = await api.slots(user, await api.room(admin))
    hold = await held(api, user, slotId=slots[0]["id"])
    foreign = await held(api, await api.person(), slotId=slots[1]["id"])
    await lapse(api, hold)
    async with served_with(state, Failing()) as client:
        for token, status in ((hold["token"], 410), (foreign["token"], 403), (str(new_id()), 404)):
            body = {"holdToken": token, "createConferenceLink": True}
            assert (await client.post("/bookings", json=body, headers=user.headers)).status_code == status


async def test_a_booking_may_not_move_onto_a_hold_token(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    booking = await api.booked(user, slots[0])
    hold = await held(api, user, slotId=slots[1]["id"])
    refused = await api.post(f"/bookings/{booking['id']}/reschedule", user, json={"holdToken": hold["token"]})
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_every_end_of_a_hold_leaves_its_message_once(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    used, released, lapsed = [await held(api, user, slotId=slot["id"]) for slot in slots[:3]]
    await api.post("/bookings", user, json={"holdToken": used["token"]})
    await api.send("DELETE", f"/holds/{released['token']}", user)
    await lapse(api, lapsed)
    await api.booked(user, slots[2])
    for hold, expected in (
        (used, ["hold.created"]),
        (released, ["hold.created", "hold.released"]),
        (lapsed, ["hold.created", "hold.lapsed"]),
    ):
        rows = await api.db.fetch("SELECT type FROM outbox WHERE subject_id = $1 ORDER BY occurred_at", hold["token"])
        assert [row["type"] for row in rows] == expected
