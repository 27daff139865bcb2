"""Booking by every way of naming a time; cancelling, moving, changing; what stands in the way, and what is said then."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.api import WINDOW, Api, Person, code, tomorrow


async def test_a_stretch_of_time_is_several_slots(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    day = tomorrow()
    body = {"roomId": room["id"], "start": f"{day}T10:00:00Z", "end": f"{day}T12:00:00Z", "title": "Review"}
    made = await api.post("/bookings", user, json=body)
    assert made.status_code == 201, made.text
    booking = made.json()["booking"]
    assert (booking["start"], booking["end"]) == (body["start"], body["end"])
    assert len(booking["slotIds"]) == 4
    assert booking["slotId"] == booking["slotIds"][0]
    assert (booking["title"], booking["roomId"], booking["kind"]) == ("Review", room["id"], "room")
    assert made.headers["location"] == f"/bookings/{booking['id']}"
    assert len(await api.slots(user, room)) == 12


async def test_a_slot_can_be_named_by_date_and_time_on_the_rooms_clock(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, timeZone="Asia/Tokyo")
    day = tomorrow(3)
    made = await api.post("/bookings", user, json={"roomId": room["id"], "date": day, "time": "9:00"})
    assert made.status_code == 201, made.text
    assert made.json()["booking"]["start"] == f"{day}T00:00:00Z"


@pytest.mark.parametrize(
    ("start", "end"),
    [("10:00", "10:15"), ("10:10", "10:40"), ("08:30", "09:30"), ("16:30", "17:30"), ("10:00", "10:45")],
)
async def test_a_time_that_is_no_slot_is_outside_the_schedule(
    api: Api, admin: Person, user: Person, start: str, end: str
) -> None:
    room = await api.room(admin)
    day = tomorrow()
    body = {"roomId": room["id"], "start": f"{day}T{start}:00Z", "end": f"{day}T{end}:00Z"}
    refused = await api.post("/bookings", user, json=body)
    assert (refused.status_code, code(refused)) == (400, "OUTSIDE_SCHEDULE")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"slotIds": []},
        {"roomId": "019376a5-0000-7000-8000-000000000000"},
        {"roomId": "019376a5-0000-7000-8000-000000000000", "start": "2030-01-01T10:00:00Z"},
        {"slotId": "019376a5-0000-7000-8000-000000000000", "slotIds": ["019376a5-0000-7000-8000-000000000000"]},
        {
            "roomId": "019376a5-0000-7000-8000-000000000000",
            "start": "2030-01-01T10:00:00Z",
            "end": "2030-01-01T10:00:00Z",
        },
        {"roomId": "019376a5-0000-7000-8000-000000000000", "date": "2030-01-01T00:00:00Z", "time": "10:00"},
        {"roomId": "019376a5-0000-7000-8000-000000000000", "date": "2030-01-01", "time": "24:00"},
    ],
)
async def test_a_time_must_be_named_in_exactly_one_way(api: Api, user: Person, body: dict[str, Any]) -> None:
    refused = await api.post("/bookings", user, json=body)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_several_slots_are_all_or_nothing(api: Api, admin: Person, user: Person) -> None:
    first, second = await api.room(admin), await api.room(admin, timeZone="Europe/Paris")
    mine, theirs = await api.slots(user, first), await api.slots(user, second)
    await api.booked(await api.person(), theirs[3])
    refused = await api.post("/bookings", user, json={"slotIds": [mine[0]["id"], theirs[3]["id"]]})
    assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
    assert refused.json()["error"]["details"]["slotId"] == theirs[3]["id"]
    assert len(await api.slots(user, first)) == 16
    made = await api.post("/bookings", user, json={"slotIds": [theirs[4]["id"], mine[0]["id"]]})
    assert made.status_code == 201
    assert set(made.json()["booking"]["slotIds"]) == {mine[0]["id"], theirs[4]["id"]}


async def test_a_slot_named_twice_is_refused(api: Api, admin: Person, user: Person) -> None:
    (slot, *_) = await api.slots(user, await api.room(admin))
    refused = await api.post("/bookings", user, json={"slotIds": [slot["id"], slot["id"]]})
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_cancelling_frees_the_slot_and_keeps_the_booking(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    (slot, *_) = await api.slots(user, room)
    booking = await api.booked(user, slot)
    cancelled = await api.post(f"/bookings/{booking['id']}/cancel", user)
    assert cancelled.status_code == 200
    again = await api.post(f"/bookings/{booking['id']}/cancel", user)
    assert again.json() == cancelled.json()
    assert cancelled.json()["booking"]["status"] == "cancelled"
    assert cancelled.json()["booking"]["cancelledAt"]
    assert (await api.slots(user, room))[0] == slot
    rebooked = await api.booked(await api.person(), slot)
    assert rebooked["slotId"] == slot["id"]
    mine = (await api.get("/bookings/my", user)).json()["bookings"]
    assert [one["status"] for one in mine] == ["cancelled"]


async def test_an_admin_cancels_with_delete_and_others_may_not(api: Api, admin: Person, user: Person) -> None:
    (slot, *_) = await api.slots(user, await api.room(admin))
    booking = await api.booked(user, slot)
    path = f"/bookings/{booking['id']}"
    assert (await api.send("DELETE", path, await api.person())).status_code == 403
    assert (await api.post(f"{path}/cancel", admin)).status_code == 403
    deleted = await api.send("DELETE", path, admin)
    assert (deleted.status_code, deleted.json()["booking"]["status"]) == (200, "cancelled")


async def test_a_booking_moves_and_may_overlap_its_own_old_time(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    day = tomorrow()
    first = {"roomId": room["id"], "start": f"{day}T10:00:00Z", "end": f"{day}T11:00:00Z"}
    booking = (await api.post("/bookings", user, json=first)).json()["booking"]
    moved = await api.post(
        f"/bookings/{booking['id']}/reschedule",
        user,
        json={"roomId": room["id"], "start": f"{day}T10:30:00Z", "end": f"{day}T12:00:00Z"},
    )
    assert moved.status_code == 200, moved.text
    assert moved.json()["booking"]["id"] == booking["id"]
    assert moved.json()["booking"]["start"] == f"{day}T10:30:00Z"
    free = {slot["start"] for slot in await api.slots(user, room)}
    assert f"{day}T10:00:00Z" in free
    assert not free & {f"{day}T10:30:00Z", f"{day}T11:00:00Z", f"{day}T11:30:00Z"}


async def test_a_booking_that_cannot_move_keeps_its_time(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    booking = await api.booked(user, slots[0])
    await api.booked(await api.person(), slots[5])
    refused = await api.post(f"/bookings/{booking['id']}/reschedule", user, json={"slotId": slots[5]["id"]})
    assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
    kept = (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"]
    assert kept == booking
    stranger = await api.post(f"/bookings/{booking['id']}/reschedule", await api.person(), json={"slotId": slots[6]["id"]})
    assert stranger.status_code == 403


async def test_a_cancelled_booking_cannot_move(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    booking = await api.booked(user, slots[0])
    await api.post(f"/bookings/{booking['id']}/cancel", user)
    refused = await api.post(f"/bookings/{booking['id']}/reschedule", user, json={"slotId": slots[1]["id"]})
    assert (refused.status_code, code(refused)) == (409, "BOOKING_CANCELLED")


async def test_title_and_notes_can_be_changed_and_taken_away(api: Api, admin: Person, user: Person) -> None:
    (slot, *_) = await api.slots(user, await api.room(admin))
    booking = await api.booked(user, slot, title="Old")
    path = f"/bookings/{booking['id']}"
    etag = (await api.get(path, user)).headers["etag"]
    changed = await api.send("PATCH", path, user, json={"title": "New", "notes": "bring tea"}, headers={"If-Match": etag})
    assert changed.json()["booking"]["title"] == "New"
    stale = await api.send("PATCH", path, user, json={"title": None}, headers={"If-Match": etag})
    assert (stale.status_code, code(stale)) == (412, "CHANGED_MEANWHILE")
    assert stale.json()["error"]["details"]["present"]["title"] == "New"
    emptied = await api.send("PATCH", path, user, json={"title": None})
    assert (emptied.json()["booking"]["title"], emptied.json()["booking"]["notes"]) == (None, "bring tea")


async def test_the_front_desk_books_for_a_user_who_exists(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    made = await api.post(f"/users/{user.id}/bookings", admin, json={"slotId": slots[0]["id"]})
    assert (made.status_code, made.json()["booking"]["userId"]) == (201, str(user.id))
    unknown = await api.post("/users/019376a5-0000-7000-8000-000000000000/bookings", admin, json={"slotId": slots[1]["id"]})
    assert (unknown.status_code, code(unknown)) == (404, "USER_NOT_FOUND")
    assert (await api.post(f"/users/{user.id}/bookings", user, json={"slotId": slots[1]["id"]})).status_code == 403


async def test_lists_are_filtered_paged_and_walked(api: Api, admin: Person, user: Person) -> None:
    room, other = await api.room(admin), await api.room(admin)
    slots = await api.slots(user, room)
    made = [await api.booked(user, slot) for slot in slots[:5]]
    await api.booked(await api.person(), (await api.slots(user, other))[0])
    await api.post(f"/bookings/{made[0]['id']}/cancel", user)
    page = await api.get("/bookings", admin, params={"roomId": room["id"], "pageSize": 2, "page": 2})
    assert page.json()["pagination"] == {"page": 2, "pageSize": 2, "total": 5}
    assert [one["id"] for one in page.json()["bookings"]] == [made[2]["id"], made[1]["id"]]
    assert 'rel="next"' in page.headers["link"]
    active = await api.get("/bookings", admin, params={"status": "active", "userId": str(user.id)})
    assert [one["id"] for one in active.json()["bookings"]] == [one["id"] for one in reversed(made[1:])]
    walked, cursor = [], ""
    while True:
        answer = await api.get("/bookings", admin, params={"cursor": cursor, "pageSize": 4})
        assert answer.status_code == 200, answer.text
        walked += answer.json()["bookings"]
        cursor = answer.json()["nextCursor"]
        if cursor is None:
            break
    assert len(walked) == len({one["id"] for one in walked}) == 6
    assert (await api.get("/bookings", admin, params={"cursor": "nonsense"})).status_code == 400
    first = await api.get("/bookings/my", user, params={"page": 1, "pageSize": 2})
    assert [one["id"] for one in first.json()["bookings"]] == [made[0]["id"], made[1]["id"]]
    assert first.json()["pagination"]["total"] == 5


async def test_bookings_of_the_past_are_in_their_own_scope(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    past, future = await api.booked(user, slots[0]), await api.booked(user, slots[1])
    # Time cannot be waited for: the booking is moved into the past where it is stored.
    await api.db.fetch("UPDATE bookings SET start_at = start_at - interval '9 days' WHERE id = $1", past["id"])
    ids = {
        scope: [one["id"] for one in (await api.get("/bookings/my", user, params={"scope": scope})).json()["bookings"]]
        for scope in ("future", "past", "all")
    }
    assert ids == {"future": [future["id"]], "past": [past["id"]], "all": [past["id"], future["id"]]}


async def test_a_closure_takes_slots_and_gives_them_back(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    day = tomorrow()
    path = f"/rooms/{room['id']}/closures"
    body = {"start": f"{day}T09:10:00Z", "end": f"{day}T11:00:00Z", "reason": "Cleaning"}
    made = await api.post(path, admin, json=body)
    assert made.status_code == 201, made.text
    closure = made.json()["closure"]
    assert (await api.slots(user, room))[0]["start"] == f"{day}T11:00:00Z"
    everything = (await api.get(f"/rooms/{room['id']}/slots", user, params={"date": day, "status": "all"})).json()["slots"]
    assert [slot["status"] for slot in everything[:5]] == ["closed"] * 4 + ["free"]
    refused = await api.post("/bookings", user, json={"slotId": everything[0]["id"]})
    assert (refused.status_code, code(refused)) == (409, "CLOSED")
    assert refused.json()["error"]["details"]["closedUntil"] == f"{day}T11:00:00Z"
    touching = await api.post(path, admin, json={"start": f"{day}T11:00:00Z", "end": f"{day}T11:30:00Z"})
    assert touching.status_code == 201
    overlap = await api.post(path, admin, json={"start": f"{day}T10:00:00Z", "end": f"{day}T10:30:00Z"})
    assert (overlap.status_code, code(overlap)) == (409, "CLOSURE_OVERLAP")
    listed = (await api.get(path, admin)).json()
    assert [one["reason"] for one in listed["closures"]] == ["Cleaning", None]
    assert (await api.send("DELETE", f"{path}/{closure['id']}", admin)).status_code == 204
    assert (await api.send("DELETE", f"{path}/{closure['id']}", admin)).status_code == 404
    assert (await api.slots(user, room))[0]["start"] == f"{day}T09:00:00Z"


async def test_a_closure_over_bookings_names_them_or_cancels_them(api: Api, admin: Person, user: Person) -> None:
    room, other = await api.room(admin), await api.room(admin)
    slots, elsewhere = await api.slots(user, room), await api.slots(user, other)
    made = await api.post("/bookings", user, json={"slotIds": [slots[0]["id"], elsewhere[0]["id"]]})
    booking = made.json()["booking"]
    path = f"/rooms/{room['id']}/closures"
    body: dict[str, Any] = {"start": slots[0]["start"], "end": slots[2]["end"]}
    refused = await api.post(path, admin, json=body)
    assert (refused.status_code, code(refused)) == (409, "BOOKINGS_IN_THE_WAY")
    assert refused.json()["error"]["details"] == {"bookingIds": [booking["id"]], "holdIds": []}
    closed = await api.post(path, admin, json={**body, "cancelBookings": True})
    assert closed.status_code == 201
    assert (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"]["status"] == "cancelled"
    assert len(await api.slots(user, other)) == 16


@pytest.mark.parametrize(("start", "end"), [("10:00", "10:00"), ("11:00", "10:00")])
async def test_a_closure_must_end_after_it_begins(api: Api, admin: Person, start: str, end: str) -> None:
    room = await api.room(admin)
    day = tomorrow()
    body = {"start": f"{day}T{start}:00Z", "end": f"{day}T{end}:00Z"}
    assert (await api.post(f"/rooms/{room['id']}/closures", admin, json=body)).status_code == 400


async def test_another_schedule_leaves_bookings_alone_and_offers_nothing_over_them(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    booking = await api.booked(user, slots[1])
    put = await api.send("PUT", f"/rooms/{room['id']}/schedule", admin, json={**WINDOW, "slotMinutes": 60})
    assert put.status_code == 200
    assert (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"] == booking
    starts = [slot["start"] for slot in await api.slots(user, room)]
    assert len(starts) == 7
    assert f"{tomorrow()}T09:00:00Z" not in starts
    old = await api.post("/bookings", user, json={"slotId": slots[5]["id"]})
    assert (old.status_code, code(old)) == (404, "SLOT_NOT_FOUND")


async def test_a_room_with_bookings_ahead_cannot_be_archived(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    (slot, *_) = await api.slots(user, room)
    booking = await api.booked(user, slot)
    refused = await api.send("DELETE", f"/rooms/{room['id']}", admin)
    assert (refused.status_code, code(refused)) == (409, "ROOM_IN_USE")
    await api.post(f"/bookings/{booking['id']}/cancel", user)
    assert (await api.send("DELETE", f"/rooms/{room['id']}", admin)).status_code == 204
    assert (await api.get(f"/rooms/{room['id']}", user)).status_code == 404
    assert (await api.get(f"/rooms/{room['id']}/slots", user, params={"date": tomorrow()})).status_code == 404
    assert (await api.get("/rooms", user)).json() == {"rooms": []}
    gone = await api.book(user, slot)
    assert (gone.status_code, code(gone)) == (404, "SLOT_NOT_FOUND")
    assert (await api.get(f"/bookings/{booking['id']}", user)).status_code == 200


async def test_slots_of_a_stretch_of_days_come_by_dates_or_instants(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    path = f"/rooms/{room['id']}/slots"
    first, last = tomorrow(1), tomorrow(3)
    by_dates = await api.get(path, user, params={"from": first, "to": last})
    assert len(by_dates.json()["slots"]) == 48
    by_instants = await api.get(path, user, params={"from": f"{first}T12:00:00Z", "to": f"{first}T13:00:00Z"})
    assert [slot["start"][11:16] for slot in by_instants.json()["slots"]] == ["12:00", "12:30"]
    for bad in (
        {"from": first},
        {"from": last, "to": first},
        {"from": first, "to": tomorrow(40)},
        {"from": first, "to": f"{last}T00:00:00Z"},
        {"date": first, "from": first, "to": last},
        {},
    ):
        assert (await api.get(path, user, params=bad)).status_code == 400, bad


async def test_a_slot_says_what_it_is_and_whose(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    await api.booked(user, slots[0])
    path = f"/rooms/{room['id']}/slots"
    params = {"date": tomorrow(), "status": "all"}
    mine = (await api.get(path, user, params=params)).json()["slots"]
    assert [(slot["status"], slot["mine"]) for slot in mine[:2]] == [("booked", True), ("free", False)]
    theirs = (await api.get(path, await api.person(), params=params)).json()["slots"]
    assert (theirs[0]["status"], theirs[0]["mine"]) == ("booked", False)
    long_ago = (await api.get(path, user, params={"date": "2001-01-01", "status": "all"})).json()["slots"]
    assert {slot["status"] for slot in long_ago} == {"past"}


async def _policy(api: Api, admin: Person, **rules: Any) -> dict[str, Any]:
    return await api.room(admin, policy=rules)


async def test_limits_per_user_count_what_is_ahead(api: Api, admin: Person, user: Person) -> None:
    room = await _policy(api, admin, maxActivePerUserHere=2)
    slots = await api.slots(user, room)
    first = await api.booked(user, slots[0])
    await api.booked(user, slots[1])
    refused = await api.book(user, slots[2])
    assert (refused.status_code, code(refused)) == (409, "ALREADY_BOOKED_HERE")
    details = refused.json()["error"]["details"]
    # The next possible time: when the first of the two has begun.
    assert details == {"rule": "maxActivePerUserHere", "value": 2, "nextPossible": slots[0]["start"]}
    desk = await api.post(f"/users/{user.id}/bookings", admin, json={"slotId": slots[2]["id"]})
    assert code(desk) == "ALREADY_BOOKED_HERE"
    await api.post(f"/bookings/{first['id']}/cancel", user)
    second = await api.booked(user, slots[2])
    # Itself is not counted when it moves.
    moved = await api.post(f"/bookings/{second['id']}/reschedule", user, json={"slotId": slots[3]["id"]})
    assert moved.status_code == 200, moved.text


async def test_a_limit_over_all_rooms_counts_other_rooms(api: Api, admin: Person, user: Person) -> None:
    limited, free = await _policy(api, admin, maxActivePerUser=1), await api.room(admin)
    await api.booked(user, (await api.slots(user, free))[0])
    refused = await api.book(user, (await api.slots(user, limited))[3])
    assert (refused.status_code, code(refused)) == (409, "TOO_MANY_BOOKINGS")


async def test_overlaps_may_be_forbidden(api: Api, admin: Person, user: Person) -> None:
    strict, free = await _policy(api, admin, overlapsAllowed=False), await api.room(admin)
    await api.booked(user, (await api.slots(user, free))[0])
    slots = await api.slots(user, strict)
    refused = await api.book(user, slots[0])
    assert (refused.status_code, code(refused)) == (409, "OVERLAPS_YOUR_BOOKING")
    await api.booked(user, slots[1])


async def test_notice_and_reach_are_kept_and_explained(api: Api, admin: Person, user: Person) -> None:
    room = await _policy(api, admin, minNoticeMinutes=3 * 24 * 60, maxDaysAhead=10)
    soon = await api.book(user, (await api.slots(user, room, tomorrow(1)))[0])
    assert (soon.status_code, code(soon)) == (400, "TOO_SOON")
    assert soon.json()["error"]["details"]["value"] == 4320
    far = await api.book(user, (await api.slots(user, room, tomorrow(11)))[0])
    assert (far.status_code, code(far)) == (400, "TOO_FAR_AHEAD")
    assert far.json()["error"]["details"]["latestDate"] == tomorrow(10)
    await api.booked(user, (await api.slots(user, room, tomorrow(10)))[0])


async def test_the_cancel_notice_binds_the_owner_only(api: Api, admin: Person, user: Person) -> None:
    room = await _policy(api, admin, cancelNoticeMinutes=7 * 24 * 60)
    slots = await api.slots(user, room)
    booking = await api.booked(user, slots[0])
    late = await api.post(f"/bookings/{booking['id']}/cancel", user)
    assert (late.status_code, code(late)) == (400, "TOO_LATE_TO_CANCEL")
    move = await api.post(f"/bookings/{booking['id']}/reschedule", user, json={"slotId": slots[1]["id"]})
    assert code(move) == "TOO_LATE_TO_CANCEL"
    assert (await api.send("DELETE", f"/bookings/{booking['id']}", admin)).status_code == 200


async def test_every_change_leaves_a_message_with_its_actor(api: Api, admin: Person, user: Person) -> None:
    (slot, *_) = await api.slots(user, await api.room(admin))
    booking = await api.booked(user, slot)
    await api.post(f"/bookings/{booking['id']}/cancel", user, headers={"X-Request-ID": "from-a-test"})
    rows = await api.db.fetch(
        "SELECT type, actor_id, request_id, before->>'status' AS before, after->>'status' AS after "
        "FROM outbox WHERE subject_id = $1 ORDER BY occurred_at",
        booking["id"],
    )
    assert [(row["type"], row["actor_id"], row["before"], row["after"]) for row in rows] == [
        ("booking.created", user.id, None, "active"),
        ("booking.cancelled", user.id, "active", "cancelled"),
    ]
    assert rows[1]["request_id"] == "from-a-test"


async def test_a_refused_booking_leaves_no_message(api: Api, admin: Person, user: Person) -> None:
    (slot, *_) = await api.slots(user, await api.room(admin))
    await api.booked(user, slot)
    before = await api.db.fetch("SELECT count(*) FROM outbox")
    assert (await api.book(await api.person(), slot)).status_code == 409
    assert await api.db.fetch("SELECT count(*) FROM outbox") == before


async def test_times_with_an_offset_mean_the_same_instant(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    start = datetime.fromisoformat(f"{tomorrow()}T10:00:00+00:00").astimezone(UTC)
    east = (start + timedelta(hours=5, minutes=30)).replace(tzinfo=None).isoformat() + "+05:30"
    end = (start + timedelta(hours=6)).replace(tzinfo=None).isoformat() + "+05:30"
    made = await api.post("/bookings", user, json={"roomId": room["id"], "start": east, "end": end})
    assert made.json()["booking"]["start"] == f"{tomorrow()}T10:00:00Z"
