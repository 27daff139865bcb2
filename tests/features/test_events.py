"""Events: making and changing them, seats of every sort, the map and the counts, blocking, sales, booking and moving."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.core.clock import instant_text
from holdfast.core.ids import new_id
from support.api import Api, Person, code, tomorrow

START, END = f"{tomorrow(7)}T18:00:00Z", f"{tomorrow(7)}T21:00:00Z"


async def event_of(api: Api, admin: Person, *labels: str, **fields: Any) -> dict[str, Any]:
    """An event in a week, with seats of these labels."""
    made = await api.post("/events", admin, json={"name": "Concert", "start": START, "end": END, **fields})
    assert made.status_code == 201, made.text
    event: dict[str, Any] = made.json()["event"]
    if labels:
        await seats_of(api, admin, event, seats=list(labels))
    return event


async def seats_of(api: Api, admin: Person, event: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    """The seats that a call adds."""
    added = await api.post(f"/events/{event['id']}/seats", admin, json=body)
    assert added.status_code == 201, added.text
    seats: list[dict[str, Any]] = added.json()["seats"]
    return seats


async def seat_map(api: Api, who: Person, event: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The seats by label."""
    shown = await api.get(f"/events/{event['id']}/seats", who)
    assert shown.status_code == 200, shown.text
    return {seat["label"]: seat for seat in shown.json()["seats"]}


async def counts(api: Api, who: Person, event: dict[str, Any]) -> dict[str, int]:
    shown = (await api.get(f"/events/{event['id']}", who)).json()["event"]
    return {name: shown[name] for name in ("capacity", "booked", "held", "available", "waiting")}


async def booked(api: Api, who: Person, event: dict[str, Any], **body: Any) -> dict[str, Any]:
    made = await api.post("/bookings", who, json={"eventId": event["id"], **body})
    assert made.status_code == 201, made.text
    booking: dict[str, Any] = made.json()["booking"]
    return booking


def in_minutes(minutes: int) -> str:
    return instant_text(datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=minutes))


# The event itself


async def test_an_event_is_made_with_everything_that_was_said_of_it(api: Api, admin: Person, user: Person) -> None:
    body = {
        "name": "Concert",
        "description": "Strings",
        "venue": "Town hall",
        "start": START,
        "end": END,
        "timeZone": "Europe/Berlin",
        "salesStart": f"{tomorrow(-1)}T00:00:00Z",
        "salesEnd": f"{tomorrow(6)}T00:00:00Z",
        "metadata": {"artist": "Quartet", "prices": [20, 30.5], "nested": {"a": None}},
        "policy": {"holdSeconds": 120},
    }
    made = await api.post("/events", admin, json=body)
    assert made.status_code == 201, made.text
    event = made.json()["event"]
    assert made.headers["location"] == f"/events/{event['id']}"
    assert {name: event[name] for name in body if name != "policy"} == {
        name: value for name, value in body.items() if name != "policy"
    }
    assert event["policy"]["holdSeconds"] == 120
    assert {event[name] for name in ("capacity", "booked", "held", "available", "waiting")} == {0}
    assert (await api.get(f"/events/{event['id']}", user)).json() == {"event": event}


async def test_an_event_needs_a_name_and_a_start_and_no_more(api: Api, admin: Person) -> None:
    made = await api.post("/events", admin, json={"name": "Concert", "start": START})
    assert made.status_code == 201, made.text
    event = made.json()["event"]
    assert (event["end"], event["timeZone"], event["metadata"], event["salesStart"]) == (None, "UTC", {}, None)
    # No rule unless one is named.
    assert (event["policy"]["maxActivePerUser"], event["policy"]["cancelNoticeMinutes"]) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": "  "},
        {"start": None},
        {"start": tomorrow()},
        {"end": START},
        {"end": f"{tomorrow(6)}T18:00:00Z"},
        {"salesStart": END, "salesEnd": START},
        {"timeZone": "Mars/Base"},
        {"metadata": []},
        {"metadata": "x"},
        {"metadata": {"long": "x" * 20_000}},
        {"policy": {"holdSeconds": 0}},
    ],
)
async def test_an_event_without_sense_is_refused(change: dict[str, Any], api: Api, admin: Person) -> None:
    body = {"name": "Concert", "start": START, "end": END, **change}
    refused = await api.post("/events", admin, json={name: value for name, value in body.items() if value is not None})
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_events_are_listed_soonest_first_searched_and_paged(api: Api, admin: Person, user: Person) -> None:
    late = await event_of(api, admin, name="Opera", start=f"{tomorrow(9)}T18:00:00Z", end=None, venue="Big House")
    past = await event_of(api, admin, name="Gone", start=f"{tomorrow(-9)}T18:00:00Z", end=None)
    early = await event_of(api, admin, "A-1", "A-2", name="Ballet", start=f"{tomorrow(5)}T18:00:00Z", end=None)
    await booked(api, user, early, seats=["A-1"])

    async def listed(**params: Any) -> list[str]:
        answer = await api.get("/events", user, params=params)
        assert answer.status_code == 200, answer.text
        return [event["id"] for event in answer.json()["events"]]

    assert await listed() == [past["id"], early["id"], late["id"]]
    assert await listed(**{"from": f"{tomorrow()}T00:00:00Z"}) == [early["id"], late["id"]]
    assert await listed(**{"from": f"{tomorrow()}T00:00:00Z", "to": late["start"]}) == [early["id"]]
    assert await listed(q="big house") == [late["id"]]
    assert await listed(q="BALL") == [early["id"]]
    page = await api.get("/events", user, params={"page": 2, "pageSize": 2})
    assert page.json()["pagination"] == {"page": 2, "pageSize": 2, "total": 3}
    assert [event["id"] for event in page.json()["events"]] == [late["id"]]
    (shown,) = [event for event in (await api.get("/events", user)).json()["events"] if event["id"] == early["id"]]
    assert (shown["capacity"], shown["booked"], shown["available"]) == (2, 1, 1)


async def test_an_unknown_event_is_404_everywhere(api: Api, admin: Person, user: Person) -> None:
    path = f"/events/{new_id()}"
    for answer in (
        await api.get(path, user),
        await api.send("PATCH", path, admin, json={"name": "x"}),
        await api.send("DELETE", path, admin),
        await api.get(f"{path}/seats", user),
        await api.post(f"{path}/seats", admin, json={"count": 1}),
        await api.send("PATCH", f"{path}/seats", admin, json={"labels": ["1"], "blocked": True}),
        await api.post(f"{path}/waitlist", user, json={}),
        await api.get(f"{path}/waitlist", admin),
    ):
        assert (answer.status_code, code(answer)) == (404, "EVENT_NOT_FOUND")


async def test_an_event_changes_unless_it_changed_meanwhile(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", description="Old", policy={"holdSeconds": 60, "maxDaysAhead": 30})
    path = f"/events/{event['id']}"
    etag = (await api.get(path, user)).headers["etag"]
    assert (await api.get(path, user, headers={"If-None-Match": etag})).status_code == 304
    # A seat that is taken changes what is shown, not what is to be changed.
    await booked(api, user, event, seats=["A-1"])
    assert (await api.get(path, user, headers={"If-None-Match": etag})).status_code == 200
    body = {"name": "Gala", "description": None, "policy": {"holdSeconds": 90}}
    changed = await api.send("PATCH", path, admin, json=body, headers={"If-Match": etag})
    assert changed.status_code == 200, changed.text
    after = changed.json()["event"]
    assert (after["name"], after["description"], after["start"]) == ("Gala", None, START)
    assert (after["policy"]["holdSeconds"], after["policy"]["maxDaysAhead"]) == (90, 30)
    stale = await api.send("PATCH", path, admin, json={"name": "x"}, headers={"If-Match": etag})
    assert (stale.status_code, code(stale)) == (412, "CHANGED_MEANWHILE")
    assert stale.json()["error"]["details"]["present"]["name"] == "Gala"
    for bad in ({"name": None}, {"start": None}, {"end": f"{tomorrow(6)}T18:00:00Z"}, {"start": END}):
        assert (await api.send("PATCH", path, admin, json=bad)).status_code == 400
    none_left = (await api.send("PATCH", path, admin, json={"policy": None, "metadata": None})).json()["event"]
    assert (none_left["policy"]["maxDaysAhead"], none_left["metadata"]) == (None, {})


async def test_moving_an_event_moves_its_bookings_and_its_line(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1")
    booking = await booked(api, user, event, seats=["A-1"])
    cancelled = await api.person()
    waiting = await api.post("/waitlist", cancelled, json={"eventId": event["id"]})
    start, end = f"{tomorrow(8)}T19:00:00Z", f"{tomorrow(8)}T22:00:00Z"
    moved = await api.send("PATCH", f"/events/{event['id']}", admin, json={"start": start, "end": end})
    assert moved.status_code == 200, moved.text
    after = (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"]
    assert (after["start"], after["end"], after["seats"], after["id"]) == (start, end, ["A-1"], booking["id"])
    (mine,) = (await api.get("/bookings/my", user)).json()["bookings"]
    assert mine["start"] == start
    entry = await api.get(f"/waitlist/{waiting.json()['entry']['id']}", cancelled)
    assert (entry.json()["entry"]["start"], entry.json()["entry"]["status"]) == (start, "waiting")


async def test_an_event_in_use_is_not_archived(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2")
    path = f"/events/{event['id']}"
    booking = await booked(api, user, event, seats=["A-1"])
    hold = (await api.post("/holds", user, json={"eventId": event["id"], "quantity": 1})).json()["hold"]
    for take_back in (f"/holds/{hold['token']}", f"/bookings/{booking['id']}"):
        refused = await api.send("DELETE", path, admin)
        assert (refused.status_code, code(refused)) == (409, "EVENT_IN_USE")
        assert (await api.send("DELETE", take_back, user)).status_code in {200, 204}
    assert (await api.send("DELETE", path, admin)).status_code == 204
    assert (await api.get("/events", user)).json()["events"] == []
    for answer in (
        await api.get(path, user),
        await api.get(f"{path}/seats", user),
        await api.send("DELETE", path, admin),
        await api.post("/bookings", user, json={"eventId": event["id"], "quantity": 1}),
        await api.post("/holds", user, json={"eventId": event["id"], "seats": ["A-1"]}),
        await api.post("/waitlist", user, json={"eventId": event["id"]}),
    ):
        assert (answer.status_code, code(answer)) == (404, "EVENT_NOT_FOUND")
    kept = (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"]
    assert (kept["eventId"], kept["seats"], kept["status"]) == (event["id"], ["A-1"], "cancelled")


# Seats


async def test_seats_are_added_by_label_section_or_count(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin)
    by_label = await seats_of(api, admin, event, seats=["A-1", "A-2"])
    assert [(seat["label"], seat["row"], seat["number"], seat["status"]) for seat in by_label] == [
        ("A-1", "A", 1, "free"),
        ("A-2", "A", 2, "free"),
    ]
    rows = [{"name": "1", "seats": 2}, {"name": "2", "seats": 1}]
    by_section = await seats_of(api, admin, event, sections=[{"name": "Stalls", "rows": rows}])
    assert [(seat["label"], seat["section"], seat["row"], seat["number"]) for seat in by_section] == [
        ("Stalls-1-1", "Stalls", "1", 1),
        ("Stalls-1-2", "Stalls", "1", 2),
        ("Stalls-2-1", "Stalls", "2", 1),
    ]
    by_count = await seats_of(api, admin, event, count=2)
    assert [(seat["label"], seat["section"], seat["row"]) for seat in by_count] == [("1", None, None), ("2", None, None)]
    assert list(await seat_map(api, user, event)) == [seat["label"] for seat in by_label + by_section + by_count]
    assert len({seat["id"] for seat in by_label + by_section + by_count}) == 7
    assert (await counts(api, user, event))["capacity"] == 7


async def test_seats_that_exist_are_skipped_and_left_alone(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2")
    await booked(api, user, event, seats=["A-1"])
    added = await seats_of(api, admin, event, seats=["A-1", "A-3", "A-2", "A-3"])
    assert [seat["label"] for seat in added] == ["A-3"]
    assert await seats_of(api, admin, event, seats=["A-1"]) == []
    states = {label: seat["status"] for label, seat in (await seat_map(api, user, event)).items()}
    assert states == {"A-1": "booked", "A-2": "free", "A-3": "free"}
    admission = await event_of(api, admin)
    await seats_of(api, admin, admission, count=3)
    assert [seat["label"] for seat in await seats_of(api, admin, admission, count=5)] == ["4", "5"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"seats": []},
        {"count": 0},
        {"count": 20_001},
        {"count": "5"},
        {"count": 1, "seats": ["A-1"]},
        {"seats": [""]},
        {"seats": ["x" * 201]},
        {"sections": [{"name": "S", "rows": []}]},
        {"sections": [{"name": "S", "rows": [{"name": "1", "seats": 0}]}]},
        {"sections": [{"name": "S", "rows": [{"name": "1", "seats": 10_001}, {"name": "2", "seats": 10_000}]}]},
    ],
)
async def test_seats_are_named_in_one_way_and_at_most_twenty_thousand(body: dict[str, Any], api: Api, admin: Person) -> None:
    event = await event_of(api, admin)
    refused = await api.post(f"/events/{event['id']}/seats", admin, json=body)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")
    assert await seat_map(api, admin, event) == {}


async def test_twenty_thousand_seats_come_in_one_call(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin)
    rows = [{"name": str(row), "seats": 100} for row in range(100)]
    sections = [{"name": name, "rows": rows} for name in ("North", "South")]
    assert len(await seats_of(api, admin, event, sections=sections)) == 20_000
    assert (await counts(api, user, event))["available"] == 20_000
    booking = await booked(api, user, event, quantity=4)
    assert len({label.rsplit("-", 1)[0] for label in booking["seats"]}) == 1
    assert len(await seat_map(api, user, event)) == 20_000


async def test_the_map_shows_what_is_free_held_booked_blocked_and_ones_own(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2", "A-3", "A-4", "A-5")
    other = await api.person()
    await booked(api, user, event, seats=["A-1"])
    assert (await api.post("/holds", user, json={"eventId": event["id"], "seats": ["A-2"]})).status_code == 201
    await booked(api, other, event, seats=["A-3"])
    blocked = await api.send("PATCH", f"/events/{event['id']}/seats", admin, json={"labels": ["A-4"], "blocked": True})
    assert blocked.status_code == 200, blocked.text
    mine = {label: (seat["status"], seat["mine"]) for label, seat in (await seat_map(api, user, event)).items()}
    assert mine == {
        "A-1": ("booked", True),
        "A-2": ("held", True),
        "A-3": ("booked", False),
        "A-4": ("blocked", False),
        "A-5": ("free", False),
    }
    theirs = {label: seat["mine"] for label, seat in (await seat_map(api, other, event)).items()}
    assert theirs == {"A-1": False, "A-2": False, "A-3": True, "A-4": False, "A-5": False}
    assert await counts(api, user, event) == {"capacity": 4, "booked": 2, "held": 1, "available": 1, "waiting": 0}


async def test_the_map_is_sent_again_only_when_it_has_changed(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2")
    path = f"/events/{event['id']}/seats"
    etag = (await api.get(path, user)).headers["etag"]
    same = await api.get(path, user, headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    for change in ("book", "block", "add"):
        if change == "book":
            await booked(api, user, event, seats=["A-1"])
        elif change == "block":
            assert (await api.send("PATCH", path, admin, json={"labels": ["A-2"], "blocked": True})).status_code == 200
        else:
            await seats_of(api, admin, event, seats=["A-3"])
        changed = await api.get(path, user, headers={"If-None-Match": etag})
        assert changed.status_code == 200, change
        assert changed.headers["etag"] != etag
        etag = changed.headers["etag"]


async def test_blocked_seats_cannot_be_had_until_they_are_opened(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2")
    path = f"/events/{event['id']}/seats"
    blocked = await api.send("PATCH", path, admin, json={"labels": ["A-1"], "blocked": True})
    assert [(seat["label"], seat["status"]) for seat in blocked.json()["seats"]] == [("A-1", "blocked")]
    again = await api.send("PATCH", path, admin, json={"labels": ["A-1", "A-1"], "blocked": True})
    assert (again.status_code, again.json()["seats"][0]["status"]) == (200, "blocked")
    for way in ("/holds", "/bookings"):
        refused = await api.post(way, user, json={"eventId": event["id"], "seats": ["A-1"]})
        assert (refused.status_code, code(refused)) == (409, "SEATS_TAKEN")
    assert (await booked(api, user, event, quantity=1))["seats"] == ["A-2"]
    opened = await api.send("PATCH", path, admin, json={"labels": ["A-1"], "blocked": False})
    assert opened.json()["seats"][0]["status"] == "free"
    await booked(api, user, event, seats=["A-1"])


async def test_taken_seats_are_not_blocked_and_then_none_are(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2", "A-3")
    await booked(api, user, event, seats=["A-2"])
    hold = (await api.post("/holds", user, json={"eventId": event["id"], "seats": ["A-3"]})).json()["hold"]
    path, body = f"/events/{event['id']}/seats", {"labels": ["A-1", "A-2", "A-3"], "blocked": True}
    refused = await api.send("PATCH", path, admin, json=body)
    assert (refused.status_code, code(refused)) == (409, "SEATS_TAKEN")
    assert set(refused.json()["error"]["details"]["seats"]) == {"A-2", "A-3"}
    assert (await seat_map(api, user, event))["A-1"]["status"] == "free"
    unknown = await api.send("PATCH", path, admin, json={"labels": ["A-1", "Q-1"], "blocked": True})
    assert (unknown.status_code, code(unknown)) == (404, "SEATS_NOT_FOUND")
    assert unknown.json()["error"]["details"]["seats"] == ["Q-1"]
    # A hold that is over is in nobody's way.
    await api.db.fetch("UPDATE holds SET expires_at = clock_timestamp() WHERE id = $1", hold["token"])
    await api.db.fetch("UPDATE claims SET expires_at = clock_timestamp() WHERE hold_id = $1", hold["token"])
    assert (await api.send("PATCH", path, admin, json={"labels": ["A-3"], "blocked": True})).status_code == 200


# When seats can be had


async def test_outside_of_the_sales_window_nothing_is_sold_and_the_answer_says_when(
    api: Api, admin: Person, user: Person
) -> None:
    event = await event_of(api, admin, "A-1", salesStart=f"{tomorrow(2)}T00:00:00Z", salesEnd=f"{tomorrow(3)}T00:00:00Z")
    ways = [("/bookings", user), ("/holds", user), (f"/users/{user.id}/bookings", admin), ("/waitlist", user)]
    for path, who in ways:
        body = {"eventId": event["id"], "quantity": 1}
        refused = await api.post(path, who, json=body)
        assert (refused.status_code, code(refused)) == (409, "NOT_ON_SALE")
        details = refused.json()["error"]["details"]
        assert (details["rule"], details["value"]) == ("salesStart", f"{tomorrow(2)}T00:00:00Z")
    over = {"salesStart": None, "salesEnd": f"{tomorrow(-1)}T00:00:00Z"}
    assert (await api.send("PATCH", f"/events/{event['id']}", admin, json=over)).status_code == 200
    late = await api.post("/bookings", user, json={"eventId": event["id"], "quantity": 1})
    assert (late.status_code, code(late)) == (409, "NOT_ON_SALE")
    assert late.json()["error"]["details"]["rule"] == "salesEnd"
    window = {"salesStart": f"{tomorrow(-1)}T00:00:00Z", "salesEnd": f"{tomorrow(3)}T00:00:00Z"}
    assert (await api.send("PATCH", f"/events/{event['id']}", admin, json=window)).status_code == 200
    await booked(api, user, event, quantity=1)


async def test_an_event_that_has_begun_is_not_held_or_booked(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", start=in_minutes(-5), end=None)
    for path, who in (("/bookings", user), ("/holds", user), (f"/users/{user.id}/bookings", admin)):
        refused = await api.post(path, who, json={"eventId": event["id"], "seats": ["A-1"]})
        assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")
        assert refused.json()["error"]["details"]["rule"] == "past"
    assert (await api.get(f"/events/{event['id']}", user)).status_code == 200


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"minNoticeMinutes": 14 * 24 * 60}, (400, "TOO_SOON")),
        ({"maxDaysAhead": 2}, (400, "TOO_FAR_AHEAD")),
        ({"maxActivePerUser": 1}, (409, "TOO_MANY_BOOKINGS")),
        ({"maxActivePerUserHere": 1}, (409, "ALREADY_BOOKED_HERE")),
        ({"overlapsAllowed": False}, (409, "OVERLAPS_YOUR_BOOKING")),
    ],
)
async def test_an_events_policy_binds_like_a_rooms(
    policy: dict[str, Any], expected: tuple[int, str], api: Api, admin: Person, user: Person
) -> None:
    event, other = await event_of(api, admin, "A-1", "A-2"), await event_of(api, admin, "A-1")
    await booked(api, user, event, seats=["A-1"])
    await booked(api, user, other, seats=["A-1"])
    assert (await api.send("PATCH", f"/events/{event['id']}", admin, json={"policy": policy})).status_code == 200
    (rule, value), *_ = policy.items()
    for path, who in (("/bookings", user), ("/holds", user), (f"/users/{user.id}/bookings", admin)):
        refused = await api.post(path, who, json={"eventId": event["id"], "seats": ["A-2"]})
        assert (refused.status_code, code(refused)) == expected
        details = refused.json()["error"]["details"]
        assert (details["rule"], details["value"]) == (rule, value)


async def test_an_event_that_does_not_say_its_end_overlaps_at_its_start(api: Api, admin: Person, user: Person) -> None:
    first = await event_of(api, admin, "A-1", end=None)
    again = await event_of(api, admin, "A-1", end=None, policy={"overlapsAllowed": False})
    touching = await event_of(api, admin, "A-1", start=f"{tomorrow(7)}T17:00:00Z", end=START, policy={"overlapsAllowed": False})
    await booked(api, user, first, seats=["A-1"])
    refused = await api.post("/bookings", user, json={"eventId": again["id"], "seats": ["A-1"]})
    assert code(refused) == "OVERLAPS_YOUR_BOOKING"
    await booked(api, user, touching, seats=["A-1"])


async def test_the_cancel_notice_of_an_event_binds_its_guests(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", policy={"cancelNoticeMinutes": 14 * 24 * 60})
    booking = await booked(api, user, event, seats=["A-1"])
    refused = await api.post(f"/bookings/{booking['id']}/cancel", user)
    assert (refused.status_code, code(refused)) == (400, "TOO_LATE_TO_CANCEL")
    assert (await api.send("DELETE", f"/bookings/{booking['id']}", admin)).status_code == 200


# Booking


async def test_a_booking_of_seats_has_their_labels_and_ids(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2", "A-3")
    seats = await seat_map(api, user, event)
    booking = await booked(api, user, event, seats=["A-3", "A-1"], title="Us")
    assert (booking["kind"], booking["eventId"], booking["start"], booking["end"]) == ("event", event["id"], START, END)
    assert set(booking["seats"]) == {"A-1", "A-3"}
    assert set(booking["slotIds"]) == {seats["A-1"]["id"], seats["A-3"]["id"]}
    assert booking["slotId"] == booking["slotIds"][0]
    assert (await api.get("/bookings/my", user)).json()["bookings"] == [booking]
    listed = await api.get("/bookings", admin, params={"eventId": event["id"]})
    assert listed.json()["bookings"] == [booking]


async def test_the_best_seats_are_booked_side_by_side_where_it_can_be(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2", "A-3", "A-4", "B-1", "B-2", "B-3", "B-4")
    await booked(api, await api.person(), event, seats=["A-2"])
    booking = await booked(api, user, event, quantity=4)
    assert sorted(booking["seats"]) == ["B-1", "B-2", "B-3", "B-4"]
    pair = await booked(api, user, event, quantity=2)
    assert sorted(pair["seats"]) == ["A-3", "A-4"]
    assert (await booked(api, user, event, quantity=1, adjacent=False))["seats"] == ["A-1"]
    sold_out = await api.post("/bookings", user, json={"eventId": event["id"], "quantity": 1})
    assert (sold_out.status_code, code(sold_out)) == (409, "SEATS_TAKEN")
    assert sold_out.json()["error"]["details"]["available"] == 0


async def test_alternatives_for_taken_seats_are_free_and_as_many(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, *(f"A-{n}" for n in range(1, 9)))
    await booked(api, await api.person(), event, seats=["A-2", "A-3"])
    refused = await api.post("/bookings", user, json={"eventId": event["id"], "seats": ["A-1", "A-2", "A-3"]})
    details = refused.json()["error"]["details"]
    assert details["seats"] == ["A-2", "A-3"]
    await booked(api, user, event, seats=details["alternatives"])
    few = await api.post("/bookings", user, json={"eventId": event["id"], "seats": [f"A-{n}" for n in range(1, 9)]})
    assert (few.status_code, few.json()["error"]["details"]["alternatives"]) == (409, [])


async def test_seats_of_a_booking_are_all_or_none(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2")
    await booked(api, await api.person(), event, seats=["A-2"])
    before = await counts(api, user, event)
    refused = await api.post("/bookings", user, json={"eventId": event["id"], "seats": ["A-1", "A-2"]})
    assert refused.status_code == 409
    assert await counts(api, user, event) == before


async def test_a_general_admission_event_sells_as_many_as_there_are(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin)
    await seats_of(api, admin, event, count=5)
    assert len((await booked(api, user, event, quantity=3))["seats"]) == 3
    refused = await api.post("/bookings", await api.person(), json={"eventId": event["id"], "quantity": 3})
    assert (code(refused), refused.json()["error"]["details"]["available"]) == ("SEATS_TAKEN", 2)
    assert len((await booked(api, await api.person(), event, quantity=2))["seats"]) == 2


async def test_a_cancelled_seat_is_free_at_once(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1")
    booking = await booked(api, user, event, seats=["A-1"])
    assert (await api.post(f"/bookings/{booking['id']}/cancel", user)).status_code == 200
    assert (await seat_map(api, user, event))["A-1"]["status"] == "free"
    assert await counts(api, user, event) == {"capacity": 1, "booked": 0, "held": 0, "available": 1, "waiting": 0}
    await booked(api, await api.person(), event, seats=["A-1"])


async def test_a_booking_moves_to_other_seats_and_may_keep_some(api: Api, admin: Person, user: Person) -> None:
    event, other = await event_of(api, admin, "A-1", "A-2", "A-3"), await event_of(api, admin, "B-1")
    booking = await booked(api, user, event, seats=["A-1", "A-2"])
    await booked(api, await api.person(), other, seats=["B-1"])
    path = f"/bookings/{booking['id']}/reschedule"
    moved = await api.post(path, user, json={"eventId": event["id"], "seats": ["A-2", "A-3"]})
    assert moved.status_code == 200, moved.text
    assert set(moved.json()["booking"]["seats"]) == {"A-2", "A-3"}
    assert moved.json()["booking"]["id"] == booking["id"]
    assert {label: seat["status"] for label, seat in (await seat_map(api, user, event)).items()} == {
        "A-1": "free",
        "A-2": "booked",
        "A-3": "booked",
    }
    taken = await api.post(path, user, json={"eventId": other["id"], "seats": ["B-1"]})
    assert (taken.status_code, code(taken)) == (409, "SEATS_TAKEN")
    assert set((await api.get(f"/bookings/{booking['id']}", user)).json()["booking"]["seats"]) == {"A-2", "A-3"}
    best = await api.post(path, user, json={"eventId": event["id"], "quantity": 3})
    assert (best.status_code, len(best.json()["booking"]["seats"])) == (200, 3)


async def test_a_booking_moves_between_events_and_rooms(api: Api, admin: Person, user: Person) -> None:
    event, other = (
        await event_of(api, admin, "A-1"),
        await event_of(api, admin, "B-1", start=f"{tomorrow(9)}T18:00:00Z", end=None),
    )
    booking = await booked(api, user, event, seats=["A-1"])
    path = f"/bookings/{booking['id']}/reschedule"
    moved = (await api.post(path, user, json={"eventId": other["id"], "quantity": 1})).json()["booking"]
    assert (moved["eventId"], moved["start"], moved["end"]) == (other["id"], f"{tomorrow(9)}T18:00:00Z", None)
    assert (await counts(api, user, event))["available"] == 1
    (slot, *_) = await api.slots(user, await api.room(admin))
    to_room = await api.post(path, user, json={"slotId": slot["id"]})
    assert to_room.status_code == 200, to_room.text
    assert (to_room.json()["booking"]["kind"], to_room.json()["booking"]["seats"]) == ("room", [])
    assert (await counts(api, user, other))["booked"] == 0


async def test_ending_an_account_frees_its_seats(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2")
    await booked(api, user, event, seats=["A-1"])
    assert (await api.post("/holds", user, json={"eventId": event["id"], "seats": ["A-2"]})).status_code == 201
    assert (await api.send("DELETE", "/users/me", user)).status_code == 204
    assert (await counts(api, admin, event))["available"] == 2


async def test_every_change_of_an_event_can_be_repeated_safely(api: Api, admin: Person, user: Person) -> None:
    path = ""
    requests: list[tuple[str, str, Person, dict[str, Any] | None, int]] = [
        ("POST", "/events", admin, {"name": "Concert", "start": START}, 201),
        ("PATCH", "{}", admin, {"name": "Gala"}, 200),
        ("POST", "{}/seats", admin, {"count": 3}, 201),
        ("PATCH", "{}/seats", admin, {"labels": ["1"], "blocked": True}, 200),
        ("DELETE", "{}", admin, None, 204),
    ]
    for number, (method, address, who, body, status) in enumerate(requests):
        headers = {"Idempotency-Key": f"k{number}"}
        first = await api.send(method, address.format(path), who, json=body, headers=headers)
        again = await api.send(method, address.format(path), who, json=body, headers=headers)
        assert (first.status_code, again.status_code) == (status, status), (first.text, again.text)
        assert again.content == first.content
        assert again.headers["idempotency-replayed"] == "true"
        path = path or first.headers["location"]
    assert (await api.get("/events", user)).json()["pagination"]["total"] == 0


async def test_a_repeated_booking_of_the_best_seats_gets_the_same_seats(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, *(f"A-{n}" for n in range(1, 9)))
    body, headers = {"eventId": event["id"], "quantity": 2}, {"Idempotency-Key": "k"}
    first = await api.post("/bookings", user, json=body, headers=headers)
    again = await api.post("/bookings", user, json=body, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert (await counts(api, user, event))["booked"] == 2


async def test_changes_of_events_and_seats_leave_messages(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2")
    path = f"/events/{event['id']}"
    await api.send("PATCH", path, admin, json={"name": "Gala"})
    await api.send("PATCH", f"{path}/seats", admin, json={"labels": ["A-1"], "blocked": True})
    await api.send("DELETE", path, admin)
    rows = await api.db.fetch("SELECT type, actor_id FROM outbox WHERE subject_id = $1 ORDER BY occurred_at", event["id"])
    assert [row["type"] for row in rows] == ["event.created", "seat.changed", "event.updated", "seat.changed", "event.archived"]
    assert {row["actor_id"] for row in rows} == {admin.id}
