"""The waitlist: joining, one's place in line, what gets free and who has it then, and every end of a wait."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from holdfast.bookings.service import settle_all, taking
from holdfast.core.ids import new_id
from support.api import WINDOW, Api, Person, code, tomorrow

START = f"{tomorrow(7)}T18:00:00Z"


async def event_of(api: Api, admin: Person, seats: int, **fields: Any) -> dict[str, Any]:
    """An event in a week with so many places."""
    made = await api.post("/events", admin, json={"name": "Concert", "start": START, **fields})
    assert made.status_code == 201, made.text
    event: dict[str, Any] = made.json()["event"]
    if seats:
        added = await api.post(f"/events/{event['id']}/seats", admin, json={"count": seats})
        assert added.status_code == 201, added.text
    return event


async def booked(api: Api, who: Person, event: dict[str, Any], quantity: int = 1) -> dict[str, Any]:
    made = await api.post("/bookings", who, json={"eventId": event["id"], "quantity": quantity})
    assert made.status_code == 201, made.text
    booking: dict[str, Any] = made.json()["booking"]
    return booking


async def cancelled(api: Api, who: Person, booking: dict[str, Any]) -> None:
    answer = await api.post(f"/bookings/{booking['id']}/cancel", who)
    assert answer.status_code == 200, answer.text


async def waits(api: Api, who: Person, event: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    """A place in a line, which must be had."""
    made = await api.post("/waitlist", who, json={**({"eventId": event["id"]} if event else {}), **body})
    assert made.status_code == 201, made.text
    entry: dict[str, Any] = made.json()["entry"]
    return entry


async def seen(api: Api, who: Person, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry as it is now."""
    answer = await api.get(f"/waitlist/{entry['id']}", who)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()["entry"]
    return shown


async def states(api: Api, people: Sequence[Person], entries: Sequence[dict[str, Any]]) -> list[tuple[str, int | None]]:
    """Status and position of each entry."""
    shown = [await seen(api, who, entry) for who, entry in zip(people, entries, strict=True)]
    return [(entry["status"], entry["position"]) for entry in shown]


async def lapse(api: Api, token: str) -> None:
    """Time cannot be waited for: the offer's end is moved to just now, where it is stored."""
    await api.db.fetch("UPDATE holds SET expires_at = clock_timestamp() WHERE id = $1", token)
    await api.db.fetch("UPDATE claims SET expires_at = clock_timestamp() WHERE hold_id = $1", token)


# Joining


async def test_a_place_in_line_says_what_is_waited_for(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, 1)
    await booked(api, await api.person(), event)
    made = await api.post("/waitlist", user, json={"eventId": event["id"], "quantity": 2})
    assert made.status_code == 201, made.text
    entry = made.json()["entry"]
    assert made.headers["location"] == f"/waitlist/{entry['id']}"
    assert {name: entry[name] for name in ("kind", "eventId", "slotId", "quantity", "autoBook", "status", "position")} == {
        "kind": "event",
        "eventId": event["id"],
        "slotId": None,
        "quantity": 2,
        "autoBook": False,
        "status": "waiting",
        "position": 1,
    }
    assert (entry["holdToken"], entry["expiresAt"], entry["bookingId"], entry["start"]) == (None, None, None, START)
    assert await seen(api, user, entry) == entry
    assert (await api.get(f"/events/{event['id']}", user)).json()["event"]["waiting"] == 1


async def test_one_waits_at_the_events_own_path_too(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, 0)
    made = await api.post(f"/events/{event['id']}/waitlist", user, json={"quantity": 3, "autoBook": True})
    assert made.status_code == 201, made.text
    entry = made.json()["entry"]
    assert (entry["eventId"], entry["quantity"], entry["autoBook"], entry["position"]) == (event["id"], 3, True, 1)
    again = await api.post("/waitlist", user, json={"eventId": event["id"]})
    assert (again.status_code, code(again)) == (409, "ALREADY_WAITING")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"quantity": 1},
        {"eventId": str(new_id()), "slotId": str(new_id())},
        {"eventId": str(new_id()), "quantity": 0},
        {"eventId": str(new_id()), "quantity": 11},
        {"eventId": str(new_id()), "quantity": "1"},
        {"slotId": str(new_id()), "quantity": 2},
        {"eventId": str(new_id()), "autoBook": "yes"},
        {"eventId": "x"},
    ],
)
async def test_what_is_waited_for_is_named_in_one_way(body: dict[str, Any], api: Api, user: Person) -> None:
    refused = await api.post("/waitlist", user, json=body)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_what_is_unknown_cannot_be_waited_for(api: Api, user: Person) -> None:
    for body, expected in (({"eventId": str(new_id())}, "EVENT_NOT_FOUND"), ({"slotId": str(new_id())}, "SLOT_NOT_FOUND")):
        refused = await api.post("/waitlist", user, json=body)
        assert (refused.status_code, code(refused)) == (404, expected)
    for method in ("GET", "DELETE"):
        unknown = await api.send(method, f"/waitlist/{new_id()}", user)
        assert (unknown.status_code, code(unknown)) == (404, "WAITLIST_ENTRY_NOT_FOUND")


async def test_what_can_be_had_now_is_not_waited_for(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, 3)
    (slot, *_) = await api.slots(user, await api.room(admin))
    for body in ({"eventId": event["id"], "quantity": 3}, {"slotId": slot["id"]}):
        refused = await api.post("/waitlist", user, json=body)
        assert (refused.status_code, code(refused)) == (409, "STILL_AVAILABLE")
    # More than is free can be waited for, while somebody with a smaller wish books.
    entry = await waits(api, user, event, quantity=4)
    assert entry["position"] == 1
    await booked(api, await api.person(), event, 3)


async def test_a_rule_that_forbids_booking_forbids_waiting(api: Api, admin: Person, user: Person) -> None:
    past = await event_of(api, admin, 1, start=f"{tomorrow(-3)}T18:00:00Z")
    later = await event_of(api, admin, 1, salesStart=f"{tomorrow(3)}T00:00:00Z")
    limited = await event_of(api, admin, 1, policy={"maxActivePerUserHere": 1})
    await booked(api, user, limited)
    for event, expected in ((past, "INVALID_REQUEST"), (later, "NOT_ON_SALE")):
        assert code(await api.post("/waitlist", user, json={"eventId": event["id"]})) == expected
    host = await api.person()
    assert (await api.post("/hosts", host, json={"displayName": "Ada"})).status_code == 201
    times = {"start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T11:00:00Z"}
    slot = (await api.post("/slots", host, json=times)).json()["slot"]
    await api.booked(user, slot)
    own = await api.post("/waitlist", host, json={"slotId": slot["id"]})
    assert (own.status_code, code(own)) == (400, "OWN_SLOT")
    yesterday = (await api.slots(user, await api.room(admin), tomorrow(-1)))[0]
    assert (await api.post("/waitlist", user, json={"slotId": yesterday["id"]})).status_code == 400


async def test_one_waits_for_the_same_thing_once(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, 1)
    slots = await api.slots(user, await api.room(admin))
    other = await api.person()
    booking = await booked(api, other, event)
    for slot in slots[:2]:
        await api.booked(other, slot)
    await waits(api, user, event)
    await waits(api, user, slotId=slots[0]["id"])
    await waits(api, user, slotId=slots[1]["id"])
    for body in ({"eventId": event["id"], "quantity": 2}, {"slotId": slots[0]["id"]}):
        again = await api.post("/waitlist", user, json=body)
        assert (again.status_code, code(again)) == (409, "ALREADY_WAITING")
    # Also while there is an offer.
    await cancelled(api, other, booking)
    offered = await api.post("/waitlist", user, json={"eventId": event["id"]})
    assert (offered.status_code, code(offered)) == (409, "ALREADY_WAITING")


async def test_positions_are_the_order_of_joining_without_gaps(api: Api, admin: Person) -> None:
    event, other = await event_of(api, admin, 0), await event_of(api, admin, 0)
    people = await api.people(5)
    entries = [await waits(api, who, event) for who in people]
    elsewhere = await waits(api, people[4], other)
    assert [entry["position"] for entry in entries] == [1, 2, 3, 4, 5]
    assert elsewhere["position"] == 1
    for gone in (1, 3):
        assert (await api.send("DELETE", f"/waitlist/{entries[gone]['id']}", people[gone])).status_code == 204
    assert await states(api, people, entries) == [
        ("waiting", 1),
        ("left", None),
        ("waiting", 2),
        ("left", None),
        ("waiting", 3),
    ]


async def test_each_slot_has_a_line_of_its_own(api: Api, admin: Person) -> None:
    slots = await api.slots(admin, await api.room(admin))
    taker, first, second = await api.people(3)
    for slot in slots[:2]:
        await api.booked(taker, slot)
    assert (await waits(api, first, slotId=slots[0]["id"]))["position"] == 1
    assert (await waits(api, first, slotId=slots[1]["id"]))["position"] == 1
    assert (await waits(api, second, slotId=slots[1]["id"]))["position"] == 2


# What gets free


async def test_a_cancelled_seat_is_offered_to_the_first_in_line(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 1)
    taker, first, second, outsider = await api.people(4)
    booking = await booked(api, taker, event)
    entries = [await waits(api, who, event) for who in (first, second)]
    await cancelled(api, taker, booking)
    offer = await seen(api, first, entries[0])
    assert (offer["status"], offer["position"], offer["bookingId"]) == ("offered", None, None)
    (row,) = await api.db.fetch("SELECT clock_timestamp() AS now")
    left = datetime.fromisoformat(offer["expiresAt"]) - row["now"]
    assert timedelta(seconds=885) < left <= timedelta(seconds=901), "15 minutes unless the policy says otherwise"
    assert (await seen(api, second, entries[1]))["position"] == 1
    # The offer is a hold: nobody else gets the seat, and it is among one's own holds.
    refused = await api.post("/bookings", outsider, json={"eventId": event["id"], "quantity": 1})
    assert (refused.status_code, code(refused)) == (409, "SEATS_TAKEN")
    (hold,) = (await api.get("/holds/my", first)).json()["holds"]
    assert (hold["token"], hold["expiresAt"]) == (offer["holdToken"], offer["expiresAt"])
    shown = (await api.get(f"/events/{event['id']}", first)).json()["event"]
    assert (shown["held"], shown["available"], shown["booked"]) == (1, 0, 0)
    made = await api.post("/bookings", first, json={"holdToken": offer["holdToken"]})
    assert made.status_code == 201, made.text
    after = await seen(api, first, entries[0])
    assert (after["status"], after["bookingId"], after["holdToken"], after["position"]) == (
        "booked",
        made.json()["booking"]["id"],
        None,
        None,
    )


async def test_the_policy_says_how_long_an_offer_is_kept(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 1, policy={"waitlistOfferSeconds": 60, "holdSeconds": 7200})
    taker, first = await api.people(2)
    booking = await booked(api, taker, event)
    entry = await waits(api, first, event)
    await cancelled(api, taker, booking)
    (row,) = await api.db.fetch("SELECT clock_timestamp() AS now")
    left = datetime.fromisoformat((await seen(api, first, entry))["expiresAt"]) - row["now"]
    assert left <= timedelta(seconds=61)


async def test_what_one_waited_for_is_booked_at_once_where_one_said_so(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 2)
    taker, first = await api.people(2)
    booking = await booked(api, taker, event, 2)
    entry = await waits(api, first, event, quantity=2, autoBook=True)
    await cancelled(api, taker, booking)
    after = await seen(api, first, entry)
    assert (after["status"], after["position"], after["holdToken"]) == ("booked", None, None)
    (mine,) = (await api.get("/bookings/my", first)).json()["bookings"]
    assert (mine["id"], mine["userId"], len(mine["seats"]), mine["status"]) == (
        after["bookingId"],
        str(first.id),
        2,
        "active",
    )


async def test_nobody_gets_more_or_less_than_asked_for(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 5)
    taker, *people = await api.people(4)
    booking = await booked(api, taker, event, 5)
    entries = [await waits(api, who, event, quantity=wanted) for who, wanted in zip(people, (3, 1, 2), strict=True)]
    await cancelled(api, taker, booking)
    # 3 + 1 are given, 1 is left: too few for the third, who keeps the place.
    assert await states(api, people, entries) == [("offered", None), ("offered", None), ("waiting", 1)]
    held = [len((await api.get("/holds/my", who)).json()["holds"][0]["seats"]) for who in people[:2]]
    assert held == [3, 1]
    assert (await api.get(f"/events/{event['id']}", taker)).json()["event"]["available"] == 1


async def test_who_wants_more_than_is_free_keeps_the_place_and_the_next_is_served(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 3)
    one, two, *people = await api.people(4)
    small, large = await booked(api, one, event, 1), await booked(api, two, event, 2)
    entries = [await waits(api, people[0], event, quantity=3), await waits(api, people[1], event, quantity=1)]
    await cancelled(api, one, small)
    assert await states(api, people, entries) == [("waiting", 1), ("offered", None)]
    token = (await seen(api, people[1], entries[1]))["holdToken"]
    await cancelled(api, two, large)
    assert (await seen(api, people[0], entries[0]))["status"] == "waiting"
    assert (await api.send("DELETE", f"/holds/{token}", people[1])).status_code == 204
    assert await states(api, people, entries) == [("offered", None), ("left", None)]


async def test_seats_of_a_group_are_side_by_side_where_it_can_be(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, 0)
    labels = ["A-1", "A-2", "A-3", "B-1", "B-2"]
    assert (await api.post(f"/events/{event['id']}/seats", admin, json={"seats": labels})).status_code == 201
    taker, guest = await api.people(2)
    made = await api.post("/bookings", taker, json={"eventId": event["id"], "seats": labels})
    entry = await waits(api, user, event, quantity=2, autoBook=True)
    await booked_elsewhere(api, admin, guest)
    await cancelled(api, taker, made.json()["booking"])
    booking = (await seen(api, user, entry))["bookingId"]
    seats = sorted((await api.get(f"/bookings/{booking}", user)).json()["booking"]["seats"])
    assert seats in (["A-1", "A-2"], ["A-2", "A-3"], ["B-1", "B-2"])


async def booked_elsewhere(api: Api, admin: Person, who: Person) -> dict[str, Any]:
    """A booking that has nothing to do with the line."""
    return await api.booked(who, (await api.slots(who, await api.room(admin)))[0])


@pytest.mark.parametrize("way", ["add", "open", "reschedule", "release", "account", "delete"])
async def test_whatever_frees_a_seat_offers_it(way: str, api: Api, admin: Person) -> None:
    event, other = await event_of(api, admin, 2), await event_of(api, admin, 1)
    taker, first = await api.people(2)
    path = f"/events/{event['id']}/seats"
    assert (await api.send("PATCH", path, admin, json={"labels": ["1"], "blocked": True})).status_code == 200
    if way == "release":
        hold = (await api.post("/holds", taker, json={"eventId": event["id"], "quantity": 1})).json()["hold"]
    else:
        booking = await booked(api, taker, event)
    entry = await waits(api, first, event)
    match way:
        case "add":
            added = await api.post(path, admin, json={"count": 3})
            assert [seat["status"] for seat in added.json()["seats"]] == ["held"], "the answer tells the truth"
        case "open":
            opened = await api.send("PATCH", path, admin, json={"labels": ["1"], "blocked": False})
            assert [seat["status"] for seat in opened.json()["seats"]] == ["held"]
        case "reschedule":
            body = {"eventId": other["id"], "quantity": 1}
            assert (await api.post(f"/bookings/{booking['id']}/reschedule", taker, json=body)).status_code == 200
        case "release":
            assert (await api.send("DELETE", f"/holds/{hold['token']}", taker)).status_code == 204
        case "account":
            assert (await api.send("DELETE", "/users/me", taker)).status_code == 204
        case _:
            assert (await api.send("DELETE", f"/bookings/{booking['id']}", admin)).status_code == 200
    offer = await seen(api, first, entry)
    assert offer["status"] == "offered"
    assert (await api.post("/bookings", first, json={"holdToken": offer["holdToken"]})).status_code == 201


async def test_what_a_transaction_gives_up_and_takes_itself_is_not_offered(api: Api, admin: Person) -> None:
    slots = await api.slots(admin, await api.room(admin))
    taker, first = await api.people(2)
    made = await api.post("/bookings", taker, json={"slotIds": [slots[0]["id"], slots[1]["id"]]})
    entry = await waits(api, first, slotId=slots[1]["id"])
    body = {"slotIds": [slots[1]["id"], slots[2]["id"]]}
    path = f"/bookings/{made.json()['booking']['id']}/reschedule"
    assert (await api.post(path, taker, json=body)).status_code == 200
    assert (await seen(api, first, entry))["status"] == "waiting"


# Slots of rooms and hosts


async def test_a_freed_slot_of_a_room_is_offered(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(admin, room)
    taker = await api.person()
    booking = await api.booked(taker, slots[0])
    entry = await waits(api, user, slotId=slots[0]["id"])
    assert (entry["kind"], entry["roomId"], entry["slotId"], entry["quantity"]) == ("room", room["id"], slots[0]["id"], 1)
    assert (entry["start"], entry["end"]) == (slots[0]["start"], slots[0]["end"])
    await cancelled(api, taker, booking)
    offer = await seen(api, user, entry)
    assert offer["status"] == "offered"
    assert await api.slots(admin, room) == slots[1:]
    assert code(await api.book(taker, slots[0])) == "SLOT_ALREADY_BOOKED"
    made = await api.post("/bookings", user, json={"holdToken": offer["holdToken"]})
    assert (made.status_code, made.json()["booking"]["slotId"]) == (201, slots[0]["id"])


async def test_a_published_slot_can_be_waited_for(api: Api, user: Person) -> None:
    host, guest = await api.people(2)
    made = await api.post("/hosts", host, json={"displayName": "Ada"})
    times = {"start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T11:00:00Z"}
    slot = (await api.post("/slots", host, json=times)).json()["slot"]
    booking = await api.booked(guest, slot)
    entry = await waits(api, user, slotId=slot["id"], autoBook=True)
    assert (entry["kind"], entry["hostId"]) == ("host", made.json()["host"]["id"])
    assert (await api.send("DELETE", f"/bookings/{booking['id']}", host)).status_code == 200
    after = await seen(api, user, entry)
    assert after["status"] == "booked"
    own = (await api.get("/slots/host", host)).json()["slots"][0]
    assert (own["bookingId"], own["guest"]["id"]) == (after["bookingId"], str(user.id))


async def test_a_slot_that_is_taken_back_is_not_waited_for_any_more(api: Api, user: Person) -> None:
    host = await api.person()
    made = await api.post("/hosts", host, json={"displayName": "Ada"})
    times = {"start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T11:00:00Z"}
    slot = (await api.post("/slots", host, json=times)).json()["slot"]
    assert (await api.post(f"/hosts/{made.json()['host']['id']}/closures", host, json=times)).status_code == 201
    entry = await waits(api, user, slotId=slot["id"])
    assert (await api.send("DELETE", f"/slots/{slot['id']}", host)).status_code == 204
    assert (await seen(api, user, entry))["status"] == "lapsed"


async def test_a_closed_slot_can_be_waited_for_until_the_closure_is_deleted(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(admin, room)
    path = f"/rooms/{room['id']}/closures"
    closure = (await api.post(path, admin, json={"start": slots[0]["start"], "end": slots[1]["end"]})).json()["closure"]
    entry = await waits(api, user, slotId=slots[1]["id"])
    assert (await api.send("DELETE", f"{path}/{closure['id']}", admin)).status_code == 204
    assert (await seen(api, user, entry))["status"] == "offered"
    assert (await api.slots(admin, room))[0] == slots[0]


async def test_a_closure_that_cancels_a_booking_offers_nothing_of_its_own_time(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(admin, room)
    taker, second = await api.people(2)
    made = await api.post("/bookings", taker, json={"slotIds": [slots[0]["id"], slots[1]["id"]]})
    assert made.status_code == 201
    closed, freed = await waits(api, user, slotId=slots[0]["id"]), await waits(api, second, slotId=slots[1]["id"])
    body = {"start": slots[0]["start"], "end": slots[0]["end"], "cancelBookings": True}
    assert (await api.post(f"/rooms/{room['id']}/closures", admin, json=body)).status_code == 201
    assert (await seen(api, user, closed))["status"] == "waiting"
    assert (await seen(api, second, freed))["status"] == "offered"


async def test_a_lapsed_hold_goes_to_who_waits_before_anybody_else_gets_it(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(admin, room)
    holder, outsider = await api.people(2)
    hold = (await api.post("/holds", holder, json={"slotId": slots[0]["id"]})).json()["hold"]
    entry = await waits(api, user, slotId=slots[0]["id"])
    await lapse(api, hold["token"])
    for path in ("/bookings", "/holds"):
        refused = await api.post(path, outsider, json={"slotId": slots[0]["id"]})
        assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
    await settle_all(api.db)
    assert (await seen(api, user, entry))["status"] == "offered"


# Ends of an offer


async def test_a_lapsed_offer_goes_to_the_next(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 1)
    taker, *people = await api.people(4)
    booking = await booked(api, taker, event)
    entries = [await waits(api, who, event) for who in people]
    await cancelled(api, taker, booking)
    for current, nobody in ((0, 1), (1, 2)):
        token = (await seen(api, people[current], entries[current]))["holdToken"]
        await lapse(api, token)
        lapsed = await seen(api, people[current], entries[current])
        assert (lapsed["status"], lapsed["holdToken"], lapsed["position"]) == ("lapsed", None, None)
        late = await api.post("/bookings", people[current], json={"holdToken": token})
        assert (late.status_code, code(late)) == (410, "HOLD_EXPIRED")
        await settle_all(api.db)
        assert (await seen(api, people[nobody], entries[nobody]))["status"] == "offered"
    token = (await seen(api, people[2], entries[2]))["holdToken"]
    await lapse(api, token)
    await settle_all(api.db)
    assert (await api.get(f"/events/{event['id']}", taker)).json()["event"]["available"] == 1
    assert (await api.post("/waitlist", taker, json={"eventId": event["id"]})).status_code == 409


async def test_an_outsider_does_not_get_in_between_a_lapsed_offer_and_the_next_in_line(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 1)
    taker, first, second, outsider = await api.people(4)
    booking = await booked(api, taker, event)
    entries = [await waits(api, who, event) for who in (first, second)]
    await cancelled(api, taker, booking)
    await lapse(api, (await seen(api, first, entries[0]))["holdToken"])
    refused = await api.post("/bookings", outsider, json={"eventId": event["id"], "quantity": 1})
    assert (refused.status_code, code(refused)) == (409, "SEATS_TAKEN")
    assert await states(api, (first, second), entries) == [("lapsed", None), ("offered", None)]


@pytest.mark.parametrize("way", ["hold", "entry"])
async def test_a_declined_offer_goes_to_the_next(way: str, api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 1)
    taker, first, second = await api.people(3)
    booking = await booked(api, taker, event)
    entries = [await waits(api, who, event) for who in (first, second)]
    await cancelled(api, taker, booking)
    token = (await seen(api, first, entries[0]))["holdToken"]
    path = f"/holds/{token}" if way == "hold" else f"/waitlist/{entries[0]['id']}"
    assert (await api.send("DELETE", path, first)).status_code == 204
    assert await states(api, (first, second), entries) == [("left", None), ("offered", None)]
    assert (await api.post("/bookings", first, json={"holdToken": token})).status_code == 410


async def test_leaving_may_be_repeated_and_a_booked_entry_is_not_left(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, 1)
    taker, other = await api.people(2)
    booking = await booked(api, taker, event)
    entry, gone = await waits(api, user, event, autoBook=True), await waits(api, other, event)
    for _ in range(2):
        left = await api.send("DELETE", f"/waitlist/{gone['id']}", other)
        assert (left.status_code, left.content) == (204, b"")
    await cancelled(api, taker, booking)
    refused = await api.send("DELETE", f"/waitlist/{entry['id']}", user)
    assert refused.status_code == 409
    assert code(refused) == "WAITLIST_ENTRY_BOOKED"
    assert refused.json()["error"]["details"]["bookingId"] == (await seen(api, user, entry))["bookingId"]


async def test_who_comes_back_is_last_in_line(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 1)
    taker, first, second = await api.people(3)
    booking = await booked(api, taker, event)
    entries = [await waits(api, who, event) for who in (first, second)]
    assert (await api.send("DELETE", f"/waitlist/{entries[0]['id']}", first)).status_code == 204
    again = await waits(api, first, event)
    assert (again["position"], again["id"] != entries[0]["id"]) == (2, True)
    await cancelled(api, taker, booking)
    assert await states(api, (second, first), (entries[1], again)) == [("offered", None), ("waiting", 1)]
    # A lapsed offer does not keep one out either.
    await lapse(api, (await seen(api, second, entries[1]))["holdToken"])
    await settle_all(api.db)
    assert (await seen(api, first, again))["status"] == "offered"
    assert (await waits(api, second, event))["position"] == 1


# Limits and people


async def test_who_has_reached_a_limit_keeps_the_place_until_it_is_free(api: Api, admin: Person) -> None:
    event, other = await event_of(api, admin, 1, policy={"maxActivePerUser": 1}), await event_of(api, admin, 5)
    taker, first, second = await api.people(3)
    booking = await booked(api, taker, event)
    entries = [await waits(api, who, event) for who in (first, second)]
    elsewhere = await booked(api, first, other)
    await cancelled(api, taker, booking)
    assert await states(api, (first, second), entries) == [("waiting", 1), ("offered", None)]
    await cancelled(api, first, elsewhere)
    assert (await api.send("DELETE", f"/waitlist/{entries[1]['id']}", second)).status_code == 204
    assert (await seen(api, first, entries[0]))["status"] == "offered"


async def test_a_line_whose_first_people_are_all_at_their_limit_keeps_nobody_behind_them_back(
    api: Api, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "_AT_ONCE", 2)
    full, other = await event_of(api, admin, 1, policy={"maxActivePerUser": 1}), await event_of(api, admin, 9)
    taker, *held_back, patient = await api.people(6)
    booking = await booked(api, taker, full)
    entries = [await waits(api, who, full) for who in (*held_back, patient)]
    for who in held_back:
        await booked(api, who, other)
    await cancelled(api, taker, booking)
    assert await states(api, [*held_back, patient], entries) == [("waiting", n) for n in (1, 2, 3, 4)] + [("offered", None)]


async def test_a_limit_that_gets_free_elsewhere_serves_who_waits_by_the_next_round(api: Api, admin: Person) -> None:
    """Nothing free stays free while somebody fitting waits."""
    event, other = await event_of(api, admin, 1, policy={"maxActivePerUser": 1}), await event_of(api, admin, 5)
    taker, first = await api.people(2)
    booking = await booked(api, taker, event)
    entry = await waits(api, first, event)
    elsewhere = await booked(api, first, other)
    await cancelled(api, taker, booking)
    assert (await seen(api, first, entry))["status"] == "waiting"
    await cancelled(api, first, elsewhere)
    await settle_all(api.db)
    assert (await seen(api, first, entry))["status"] == "offered"


async def test_an_offer_counts_as_a_hold_for_the_limits(api: Api, admin: Person, user: Person) -> None:
    limited = await event_of(api, admin, 1, policy={"maxActivePerUser": 1})
    free = await event_of(api, admin, 1, policy={"maxActivePerUser": 1})
    taker = await api.person()
    booking = await booked(api, taker, limited)
    entry = await waits(api, user, limited)
    await cancelled(api, taker, booking)
    offer = await seen(api, user, entry)
    refused = await api.post("/bookings", user, json={"eventId": free["id"], "quantity": 1})
    assert (refused.status_code, code(refused)) == (409, "TOO_MANY_BOOKINGS")
    assert (await api.post("/bookings", user, json={"holdToken": offer["holdToken"]})).status_code == 201


async def test_who_is_suspended_or_gone_is_passed_over(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 1)
    taker, suspended, gone, third = await api.people(4)
    booking = await booked(api, taker, event)
    await waits(api, suspended, event)
    await waits(api, gone, event)
    entry = await waits(api, third, event)
    assert (await api.send("PATCH", f"/users/{suspended.id}", admin, json={"status": "suspended"})).status_code == 200
    assert (await api.send("DELETE", "/users/me", gone)).status_code == 204
    assert (await seen(api, third, entry))["position"] == 2
    await cancelled(api, taker, booking)
    assert (await seen(api, third, entry))["status"] == "offered"


async def test_waits_for_what_has_begun_or_is_archived_are_over(api: Api, admin: Person, user: Person) -> None:
    event, archived = await event_of(api, admin, 0), await event_of(api, admin, 0)
    entry, other = await waits(api, user, event), await waits(api, user, archived)
    await api.db.fetch("UPDATE waitlist_entries SET start_at = clock_timestamp() WHERE id = $1", entry["id"])
    assert (await api.send("DELETE", f"/events/{archived['id']}", admin)).status_code == 204
    await settle_all(api.db)
    assert await states(api, (user, user), (entry, other)) == [("lapsed", None), ("lapsed", None)]


# Lists


async def test_ones_own_entries_are_listed_the_latest_first(api: Api, admin: Person, user: Person) -> None:
    events = [await event_of(api, admin, 0) for _ in range(3)]
    entries = [await waits(api, user, event) for event in events]
    await waits(api, await api.person(), events[0])
    assert (await api.send("DELETE", f"/waitlist/{entries[1]['id']}", user)).status_code == 204
    listed = (await api.get("/waitlist/my", user)).json()["entries"]
    assert [(entry["id"], entry["status"]) for entry in listed] == [
        (entries[2]["id"], "waiting"),
        (entries[1]["id"], "left"),
        (entries[0]["id"], "waiting"),
    ]
    assert (await api.get("/waitlist/my", await api.person())).json() == {"entries": []}


async def test_an_admin_sees_who_waits_and_who_has_an_offer(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 1)
    taker, *people = await api.people(5)
    booking = await booked(api, taker, event)
    entries = [await waits(api, who, event) for who in people]
    assert (await api.send("DELETE", f"/waitlist/{entries[3]['id']}", people[3])).status_code == 204
    await cancelled(api, taker, booking)
    path = f"/events/{event['id']}/waitlist"
    whole = (await api.get(path, admin)).json()
    assert whole["pagination"]["total"] == 3
    assert [(entry["userId"], entry["status"], entry["position"]) for entry in whole["entries"]] == [
        (str(people[0].id), "offered", None),
        (str(people[1].id), "waiting", 1),
        (str(people[2].id), "waiting", 2),
    ]
    assert {entry["holdToken"] for entry in whole["entries"]} == {None}, "a token is its owner's"
    second = await api.get(path, admin, params={"page": 2, "pageSize": 2})
    assert [entry["id"] for entry in second.json()["entries"]] == [entries[2]["id"]]


async def test_joining_and_leaving_can_be_repeated_safely(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, 0)
    for path, body in (("/waitlist", {"eventId": event["id"]}), (f"/events/{event['id']}/waitlist", {})):
        headers = {"Idempotency-Key": f"join-{path}"}
        first = await api.post(path, user, json=body, headers=headers)
        again = await api.post(path, user, json=body, headers=headers)
        assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
        entry = first.json()["entry"]["id"]
        for _ in range(2):
            left = await api.send("DELETE", f"/waitlist/{entry}", user, headers={"Idempotency-Key": f"leave-{entry}"})
            assert left.status_code == 204
    (row,) = await api.db.fetch("SELECT count(*) AS n FROM waitlist_entries")
    assert row["n"] == 2


async def test_every_step_of_a_wait_leaves_a_message(api: Api, admin: Person) -> None:
    event = await event_of(api, admin, 1)
    taker, first, second, third = await api.people(4)
    booking = await booked(api, taker, event)
    entries = [await waits(api, who, event) for who in (first, second)] + [await waits(api, third, event, autoBook=True)]
    await cancelled(api, taker, booking)
    await lapse(api, (await seen(api, first, entries[0]))["holdToken"])
    await settle_all(api.db)
    assert (await api.send("DELETE", f"/waitlist/{entries[1]['id']}", second)).status_code == 204
    for entry, expected in zip(
        entries,
        (
            ["waitlist.joined", "waitlist.offered", "waitlist.lapsed"],
            ["waitlist.joined", "waitlist.offered", "waitlist.left"],
            ["waitlist.joined", "waitlist.booked"],
        ),
        strict=True,
    ):
        rows = await api.db.fetch("SELECT type FROM outbox WHERE subject_id = $1 ORDER BY occurred_at", entry["id"])
        assert [row["type"] for row in rows] == expected
    made = await api.db.fetch("SELECT count(*) AS n FROM outbox WHERE type = 'booking.created'")
    assert made[0]["n"] == 2


async def test_a_new_schedule_that_makes_room_serves_who_waits_by_the_next_round(api: Api, admin: Person, user: Person) -> None:
    """A slot that the schedule does not make for a while keeps its line."""
    room = await api.room(admin)
    slots = await api.slots(admin, room)
    taker = await api.person()
    booking = await api.booked(taker, slots[0])
    entry = await waits(api, user, slotId=slots[0]["id"])
    assert (
        await api.send("PUT", f"/rooms/{room['id']}/schedule", admin, json={**WINDOW, "startTime": "12:00"})
    ).status_code == 200
    await cancelled(api, taker, booking)
    assert (await seen(api, user, entry))["status"] == "waiting"
    assert (await api.send("PUT", f"/rooms/{room['id']}/schedule", admin, json=WINDOW)).status_code == 200
    await settle_all(api.db)
    assert (await seen(api, user, entry))["status"] == "offered"
