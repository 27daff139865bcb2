"""Hosts: becoming one, offering time by schedule and slot by slot, who takes it, and what a host may do with that."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.core.clock import instant_text
from holdfast.core.ids import new_id
from support.api import WINDOW, Api, Person, code, tomorrow


async def hosting(api: Api, who: Person, **fields: Any) -> dict[str, Any]:
    """The user is a host from then on."""
    made = await api.post("/hosts", who, json={"displayName": "Ada", **fields})
    assert made.status_code == 201, made.text
    host: dict[str, Any] = made.json()["host"]
    return host


def period(start: str, end: str, day: str | None = None) -> dict[str, str]:
    """A time of tomorrow, from `HH:MM` to `HH:MM`."""
    day = day or tomorrow()
    return {"start": f"{day}T{start}:00Z", "end": f"{day}T{end}:00Z"}


async def publish(api: Api, who: Person, *periods: dict[str, str]) -> list[dict[str, Any]]:
    made = await api.post("/slots", who, json={"slots": list(periods)})
    assert made.status_code == 201, made.text
    slots: list[dict[str, Any]] = made.json()["slots"]
    return slots


def soon(minutes: int, *, length: int = 30) -> dict[str, str]:
    """A time that begins in so many minutes."""
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=minutes)
    return {"start": instant_text(start), "end": instant_text(start + timedelta(minutes=length))}


# Becoming a host, and being one


async def test_a_user_becomes_a_host_with_the_default_rules(api: Api, user: Person) -> None:
    assert (await api.get("/users/me", user)).json()["user"]["isHost"] is False
    made = await api.post("/hosts", user, json={"displayName": "Dr. Ada", "bio": "Teeth", "timeZone": "Europe/Berlin"})
    assert made.status_code == 201, made.text
    host = made.json()["host"]
    assert made.headers["location"] == f"/hosts/{host['id']}"
    assert made.headers["etag"]
    assert (host["displayName"], host["bio"], host["timeZone"], host["userId"]) == (
        "Dr. Ada",
        "Teeth",
        "Europe/Berlin",
        str(user.id),
    )
    assert {name: value for name, value in host["policy"].items() if name.startswith(("max", "owner", "cancel", "overlaps"))} == {
        "maxActivePerUser": 5,
        "maxActivePerUserHere": 1,
        "cancelNoticeMinutes": 60,
        "ownerMayBook": False,
        "overlapsAllowed": None,
        "maxDaysAhead": None,
    }
    assert (await api.get("/users/me", user)).json()["user"]["isHost"] is True
    assert (await api.get(f"/hosts/{host['id']}", await api.person())).json() == {"host": host}


async def test_rules_that_are_named_replace_the_defaults_and_null_takes_one_away(api: Api, user: Person) -> None:
    host = await hosting(api, user, policy={"maxActivePerUserHere": None, "maxActivePerUser": 2, "minNoticeMinutes": 30})
    policy = host["policy"]
    assert (policy["maxActivePerUserHere"], policy["maxActivePerUser"]) == (None, 2)
    assert (policy["minNoticeMinutes"], policy["cancelNoticeMinutes"]) == (30, 60)


async def test_one_is_a_host_once(api: Api, user: Person) -> None:
    await hosting(api, user)
    again = await api.post("/hosts", user, json={"displayName": "Ada"})
    assert (again.status_code, code(again)) == (409, "ALREADY_HOST")


@pytest.mark.parametrize(
    "body", [{}, {"displayName": " "}, {"displayName": "x", "timeZone": "Mars/Base"}, {"displayName": 5}, {"displayName": None}]
)
async def test_a_profile_without_sense_is_refused(body: dict[str, Any], api: Api, user: Person) -> None:
    refused = await api.post("/hosts", user, json=body)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_hosts_are_listed_searched_and_paged(api: Api, user: Person) -> None:
    names = ["Ada", "Bob", "Cleo"]
    hosts = [await hosting(api, await api.person(), displayName=name, bio=f"about {name}") for name in names]
    first = (await api.get("/hosts", user, params={"pageSize": 2})).json()
    assert first["hosts"] == hosts[:2]
    assert first["pagination"] == {"page": 1, "pageSize": 2, "total": 3}
    second = await api.get("/hosts", user, params={"pageSize": 2, "page": 2})
    assert second.json()["hosts"] == hosts[2:]
    assert 'rel="prev"' in second.headers["link"]
    assert (await api.get("/hosts", user, params={"q": "ABOUT b"})).json()["hosts"] == [hosts[1]]
    assert (await api.get("/hosts", user, params={"q": "%"})).json()["hosts"] == []


async def test_an_unknown_host_is_404_everywhere(api: Api, admin: Person, user: Person) -> None:
    path = f"/hosts/{new_id()}"
    for answer in (
        await api.get(path, user),
        await api.send("PATCH", path, user, json={"bio": "x"}),
        await api.get(f"{path}/schedule", user),
        await api.send("PUT", f"{path}/schedule", admin, json=WINDOW),
        await api.get(f"{path}/slots", user, params={"date": tomorrow()}),
        await api.post(f"{path}/closures", admin, json=period("10:00", "11:00")),
        await api.get(f"{path}/closures", admin),
    ):
        assert (answer.status_code, code(answer)) == (404, "HOST_NOT_FOUND")
    room = await api.room(admin)
    assert (await api.get(f"/hosts/{room['id']}", user)).status_code == 404
    host = await hosting(api, user)
    assert (await api.get(f"/rooms/{host['id']}", user)).status_code == 404


async def test_a_host_changes_the_own_profile_unless_it_changed_meanwhile(api: Api, user: Person) -> None:
    host = await hosting(api, user, bio="Teeth")
    path = f"/hosts/{host['id']}"
    etag = (await api.get(path, user)).headers["etag"]
    assert (await api.get(path, user, headers={"If-None-Match": etag})).status_code == 304
    changed = await api.send("PATCH", path, user, json={"displayName": "Dr. Ada", "bio": None}, headers={"If-Match": etag})
    assert changed.status_code == 200, changed.text
    assert changed.headers["etag"] != etag
    assert (changed.json()["host"]["displayName"], changed.json()["host"]["bio"]) == ("Dr. Ada", None)
    stale = await api.send("PATCH", path, user, json={"bio": "x"}, headers={"If-Match": etag})
    assert (stale.status_code, code(stale)) == (412, "CHANGED_MEANWHILE")
    assert stale.json()["error"]["details"]["present"]["displayName"] == "Dr. Ada"
    for body in ({"displayName": None}, {"timeZone": None}, {"timeZone": "Mars/Base"}):
        assert (await api.send("PATCH", path, user, json=body)).status_code == 400


async def test_rules_change_one_by_one_and_null_for_all_takes_all_away(api: Api, user: Person) -> None:
    host = await hosting(api, user)
    path = f"/hosts/{host['id']}"
    changed = (await api.send("PATCH", path, user, json={"policy": {"maxActivePerUserHere": 3}})).json()["host"]["policy"]
    assert (changed["maxActivePerUserHere"], changed["maxActivePerUser"], changed["cancelNoticeMinutes"]) == (3, 5, 60)
    changed = (await api.send("PATCH", path, user, json={"policy": {"maxActivePerUser": None}})).json()["host"]["policy"]
    assert (changed["maxActivePerUserHere"], changed["maxActivePerUser"]) == (3, None)
    changed = (await api.send("PATCH", path, user, json={"policy": None})).json()["host"]["policy"]
    assert (changed["maxActivePerUserHere"], changed["cancelNoticeMinutes"], changed["ownerMayBook"]) == (None, None, False)


# Time by schedule


async def test_a_hosts_schedule_makes_slots_on_the_hosts_clock(api: Api, user: Person) -> None:
    host, guest = await hosting(api, user, timeZone="Asia/Tokyo"), await api.person()
    path = f"/hosts/{host['id']}"
    none_yet = await api.get(f"{path}/schedule", guest)
    assert (none_yet.status_code, code(none_yet)) == (404, "SCHEDULE_NOT_FOUND")
    put = await api.send("PUT", f"{path}/schedule", user, json={**WINDOW, "slotMinutes": 60})
    assert put.status_code == 200, put.text
    schedule = put.json()["schedule"]
    assert (schedule["hostId"], schedule["slotMinutes"], schedule["startTime"]) == (host["id"], 60, "09:00")
    assert (await api.get(f"{path}/schedule", guest)).json() == {"schedule": schedule}
    slots = (await api.get(f"{path}/slots", guest, params={"date": tomorrow(3)})).json()["slots"]
    assert len(slots) == 8
    assert (slots[0]["start"], slots[0]["hostId"]) == (f"{tomorrow(3)}T00:00:00Z", host["id"])
    booking = await api.booked(guest, slots[0])
    assert (booking["kind"], booking["hostId"], booking["slotId"]) == ("host", host["id"], slots[0]["id"])
    assert (await api.get(f"{path}/slots", guest, params={"date": tomorrow(3)})).json()["slots"] == slots[1:]


async def test_published_and_scheduled_slots_are_listed_together_and_share_the_hosts_time(api: Api, user: Person) -> None:
    host, guest = await hosting(api, user, policy={"maxActivePerUserHere": None}), await api.person()
    path = f"/hosts/{host['id']}"
    await api.send("PUT", f"{path}/schedule", user, json={**WINDOW, "endTime": "11:00"})
    (early, late) = await publish(api, user, period("09:15", "09:45"), period("20:00", "20:45"))
    params = {"date": tomorrow(), "status": "all"}
    slots = (await api.get(f"{path}/slots", guest, params=params)).json()["slots"]
    assert [slot["start"][11:16] for slot in slots] == ["09:00", "09:15", "09:30", "10:00", "10:30", "20:00"]
    await api.booked(guest, early)
    states = (await api.get(f"{path}/slots", guest, params=params)).json()["slots"]
    assert [slot["status"] for slot in states] == ["booked", "booked", "booked", "free", "free", "free"]
    refused = await api.book(await api.person(), slots[0])
    assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
    alternatives = refused.json()["error"]["details"]["alternatives"]
    assert [one["start"][11:16] for one in alternatives][:2] == ["10:00", "10:30"]
    assert late["id"] in {slot["id"] for slot in (await api.get(f"{path}/slots", guest, params=params)).json()["slots"]}


async def test_a_hosts_slots_of_a_stretch_of_days(api: Api, user: Person) -> None:
    host = await hosting(api, user)
    path = f"/hosts/{host['id']}"
    await api.send("PUT", f"{path}/schedule", user, json=WINDOW)
    (extra,) = await publish(api, user, period("20:00", "21:00", tomorrow(2)))
    answer = await api.get(f"{path}/slots", user, params={"from": tomorrow(1), "to": tomorrow(2)})
    slots = answer.json()["slots"]
    assert len(slots) == 33
    assert slots[-1]["id"] == extra["id"]
    again = await api.get(
        f"{path}/slots",
        user,
        params={"from": tomorrow(1), "to": tomorrow(2)},
        headers={"If-None-Match": answer.headers["etag"]},
    )
    assert again.status_code == 304
    assert (await api.get(f"{path}/slots", user, params={"from": tomorrow(1), "to": tomorrow(40)})).status_code == 400


async def test_an_admin_arranges_a_hosts_time_and_another_user_does_not(api: Api, admin: Person, user: Person) -> None:
    host, other = await hosting(api, user), await api.person()
    await hosting(api, other)
    path = f"/hosts/{host['id']}"
    for who, statuses in ((admin, (200, 201, 200, 204)), (user, (200, 201, 200, 204)), (other, (403, 403, 403, 403))):
        put = await api.send("PUT", f"{path}/schedule", who, json=WINDOW)
        made = await api.post(f"{path}/closures", who, json=period("10:00", "11:00"))
        listed = await api.get(f"{path}/closures", who)
        closure = made.json().get("closure", {"id": new_id()})
        deleted = await api.send("DELETE", f"{path}/closures/{closure['id']}", who)
        assert (put.status_code, made.status_code, listed.status_code, deleted.status_code) == statuses
    assert (await api.send("PATCH", path, admin, json={"bio": "x"})).status_code == 403


async def test_a_host_closes_time_and_opens_it_again(api: Api, user: Person) -> None:
    host, guest = await hosting(api, user), await api.person()
    path = f"/hosts/{host['id']}/closures"
    first, second = await publish(api, user, period("10:00", "11:00"), period("11:00", "12:00"))
    booking = await api.booked(guest, first)
    in_the_way = await api.post(path, user, json=period("10:30", "11:30"))
    assert (in_the_way.status_code, code(in_the_way)) == (409, "BOOKINGS_IN_THE_WAY")
    assert in_the_way.json()["error"]["details"]["bookingIds"] == [booking["id"]]
    made = await api.post(path, user, json={**period("11:00", "12:00"), "reason": "Lunch"})
    assert made.status_code == 201, made.text
    closure = made.json()["closure"]
    assert made.headers["location"] == f"{path}/{closure['id']}"
    refused = await api.book(await api.person(), second)
    assert (refused.status_code, code(refused)) == (409, "CLOSED")
    assert refused.json()["error"]["details"]["closedUntil"] == f"{tomorrow()}T12:00:00Z"
    overlap = await api.post(path, user, json=period("11:30", "13:00"))
    assert (overlap.status_code, code(overlap)) == (409, "CLOSURE_OVERLAP")
    listed = (await api.get(path, user)).json()
    assert [one["reason"] for one in listed["closures"]] == ["Lunch"]
    assert (await api.send("DELETE", f"{path}/{closure['id']}", user)).status_code == 204
    await api.booked(await api.person(), second)
    cancelling = await api.post(path, user, json={**period("09:00", "13:00"), "cancelBookings": True})
    assert cancelling.status_code == 201, cancelling.text
    assert (await api.get(f"/bookings/{booking['id']}", guest)).json()["booking"]["status"] == "cancelled"


async def test_a_closure_is_of_one_host_only(api: Api, admin: Person, user: Person) -> None:
    mine, theirs = await hosting(api, user), await hosting(api, await api.person())
    made = await api.post(f"/hosts/{mine['id']}/closures", user, json=period("10:00", "11:00"))
    closure = made.json()["closure"]["id"]
    room = await api.room(admin)
    for path in (f"/hosts/{theirs['id']}", f"/rooms/{room['id']}"):
        answer = await api.send("DELETE", f"{path}/closures/{closure}", admin)
        assert (answer.status_code, code(answer)) == (404, "CLOSURE_NOT_FOUND")


# Time slot by slot


async def test_a_slot_is_published_by_itself_or_several_at_once(api: Api, user: Person) -> None:
    host = await hosting(api, user)
    alone = await api.post("/slots", user, json=period("10:00", "10:45"))
    assert alone.status_code == 201, alone.text
    slot = alone.json()["slot"]
    assert alone.headers["location"] == f"/slots/{slot['id']}"
    assert {name: slot[name] for name in ("hostId", "start", "end", "status")} == {
        "hostId": host["id"],
        "status": "free",
        **period("10:00", "10:45"),
    }
    several = await publish(api, user, period("12:00", "13:00"), period("13:00", "13:20"))
    assert [(one["start"], one["end"]) for one in several] == [
        tuple(period("12:00", "13:00").values()),
        tuple(period("13:00", "13:20").values()),
    ]
    listed = (await api.get("/slots", await api.person(), params={"hostId": host["id"]})).json()["slots"]
    assert [one["id"] for one in listed] == [slot["id"], several[0]["id"], several[1]["id"]]


async def test_slots_never_overlap_and_may_touch(api: Api, user: Person) -> None:
    await hosting(api, user)
    await publish(api, user, period("10:00", "11:00"))
    for start, end in (("10:30", "11:30"), ("09:30", "10:30"), ("10:00", "11:00"), ("10:15", "10:45"), ("09:00", "12:00")):
        refused = await api.post("/slots", user, json=period(start, end))
        assert (refused.status_code, code(refused)) == (409, "SLOT_OVERLAP")
    await publish(api, user, period("09:00", "10:00"), period("11:00", "12:00"))
    other = await api.person()
    await hosting(api, other)
    await publish(api, other, period("10:00", "11:00"))


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (period("10:30", "11:30"), (409, "SLOT_OVERLAP")),
        (period("14:30", "15:30"), (409, "SLOT_OVERLAP")),
        (period("16:00", "16:00"), (400, "INVALID_REQUEST")),
        (period("17:00", "16:00"), (400, "INVALID_REQUEST")),
        (period("10:00", "11:00", tomorrow(-1)), (400, "INVALID_REQUEST")),
    ],
)
async def test_several_slots_are_published_all_or_none(
    bad: dict[str, str], expected: tuple[int, str], api: Api, user: Person
) -> None:
    await hosting(api, user)
    await publish(api, user, period("10:00", "11:00"))
    good = [period("12:00", "13:00"), period("14:00", "15:00")]
    refused = await api.post("/slots", user, json={"slots": [good[0], bad, good[1]]})
    assert (refused.status_code, code(refused)) == expected
    assert (await api.get("/slots/host", user)).json()["pagination"]["total"] == 1
    await publish(api, user, *good)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"slots": []},
        {"start": f"{tomorrow()}T10:00:00Z"},
        {**period("10:00", "11:00"), "slots": [period("12:00", "13:00")]},
        {"start": tomorrow(), "end": tomorrow(2)},
        {"slots": [{"start": f"{tomorrow()}T10:00:00Z"}]},
    ],
)
async def test_slots_are_named_in_one_way(body: dict[str, Any], api: Api, user: Person) -> None:
    await hosting(api, user)
    refused = await api.post("/slots", user, json=body)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_only_hosts_publish_and_see_a_list_of_their_own(api: Api, user: Person) -> None:
    for answer in (await api.post("/slots", user, json=period("10:00", "11:00")), await api.get("/slots/host", user)):
        assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")


async def test_the_list_of_published_slots_has_what_can_be_booked(api: Api, admin: Person, user: Person) -> None:
    host = await hosting(api, user, policy={"maxActivePerUserHere": None})
    other = await api.person()
    await hosting(api, other)
    hours = [("09:00", "10:00"), ("10:00", "11:00"), ("11:00", "12:00"), ("12:00", "13:00"), ("13:00", "14:00")]
    booked, held, closed, past, free = await publish(api, user, *(period(*hour) for hour in hours))
    (theirs,) = await publish(api, other, period("09:30", "10:30"))
    guest = await api.person()
    await api.booked(guest, booked)
    assert (await api.post("/holds", guest, json={"slotId": held["id"]})).status_code == 201
    closing = {"start": closed["start"], "end": closed["end"]}
    assert (await api.post(f"/hosts/{host['id']}/closures", user, json=closing)).status_code == 201
    # Only the past has begun; it cannot be waited for.
    await api.db.fetch(
        "UPDATE host_slots SET during = tstzrange(lower(during) - interval '9 days', upper(during) - interval '9 days') "
        "WHERE id = $1",
        past["id"],
    )

    async def listed(**params: Any) -> list[tuple[str, str]]:
        answer = await api.get("/slots", guest, params=params)
        assert answer.status_code == 200, answer.text
        return [(slot["id"], slot["status"]) for slot in answer.json()["slots"]]

    assert await listed() == [(theirs["id"], "free"), (free["id"], "free")]
    assert await listed(hostId=host["id"]) == [(free["id"], "free")]
    assert await listed(hostId=host["id"], status="all") == [
        (past["id"], "past"),
        (booked["id"], "booked"),
        (held["id"], "held"),
        (closed["id"], "closed"),
        (free["id"], "free"),
    ]
    assert await listed(page=2, pageSize=1) == [(free["id"], "free")]
    assert (await api.get("/slots", guest, params={"status": "nonsense"})).status_code == 400


async def test_published_slots_are_listed_by_when_they_begin(api: Api, user: Person) -> None:
    await hosting(api, user)
    slots = await publish(api, user, *(period(f"{hour}:00", f"{hour + 1}:00") for hour in range(10, 14)))
    params = {"from": slots[1]["start"], "to": slots[3]["start"]}
    for path in ("/slots", "/slots/host"):
        listed = (await api.get(path, user, params=params)).json()
        assert [slot["id"] for slot in listed["slots"]] == [slots[1]["id"], slots[2]["id"]], path
        assert listed["pagination"]["total"] == 2
        assert (await api.get(path, user, params={"from": "yesterday"})).status_code == 400


async def test_a_host_sees_who_has_a_slot_and_others_do_not(api: Api, user: Person) -> None:
    await hosting(api, user)
    slots = await publish(api, user, period("10:00", "11:00"), period("11:00", "12:00"))
    guest = await api.person(email="guest@example.com")
    assert (await api.send("PATCH", "/users/me", guest, json={"name": "Grace"})).status_code == 200
    booking = await api.booked(guest, slots[0])
    own = (await api.get("/slots/host", user)).json()["slots"]
    assert (own[0]["status"], own[0]["bookingId"]) == ("booked", booking["id"])
    assert own[0]["guest"] == {"id": str(guest.id), "name": "Grace", "email": "guest@example.com"}
    assert (own[1]["status"], own[1]["bookingId"], own[1]["guest"]) == ("free", None, None)
    assert [one["id"] for one in (await api.get("/slots/host", user, params={"status": "booked"})).json()["slots"]] == [
        slots[0]["id"]
    ]
    for answer in (
        await api.get("/slots", await api.person(), params={"status": "all"}),
        await api.get(f"/slots/{slots[0]['id']}", await api.person()),
    ):
        assert "guest@example.com" not in answer.text
        assert booking["id"] not in answer.text


async def test_a_slot_of_every_kind_can_be_looked_at(api: Api, admin: Person, user: Person) -> None:
    host, guest = await hosting(api, user), await api.person()
    await api.send("PUT", f"/hosts/{host['id']}/schedule", user, json={**WINDOW, "endTime": "10:00"})
    (published,) = await publish(api, user, period("12:00", "13:00"))
    room = await api.room(admin)
    of_room = (await api.slots(user, room))[0]
    of_host = (await api.get(f"/hosts/{host['id']}/slots", user, params={"date": tomorrow()})).json()["slots"][0]
    for slot, owner in ((of_room, "roomId"), (of_host, "hostId"), (published, "hostId")):
        shown = await api.get(f"/slots/{slot['id']}", guest)
        assert shown.status_code == 200, shown.text
        found = shown.json()["slot"]
        assert {name: found[name] for name in ("id", owner, "start", "end")} == {
            name: slot[name] for name in ("id", owner, "start", "end")
        }
        assert (found["status"], found["mine"], found["why"]) == ("free", False, None)
    await api.booked(guest, of_room)
    after = (await api.get(f"/slots/{of_room['id']}", guest)).json()["slot"]
    assert (after["status"], after["mine"], after["why"]["rule"]) == ("booked", True, "booked")
    elsewhere = (await api.get(f"/slots/{of_room['id']}", admin)).json()["slot"]
    assert (elsewhere["status"], elsewhere["mine"]) == ("booked", False)
    for unknown in (str(new_id()), "ffffffff-ffff-8fff-bfff-ffffffffffff", "00000000-0000-8000-8000-000000000000"):
        answer = await api.get(f"/slots/{unknown}", guest)
        assert (answer.status_code, code(answer)) == (404, "SLOT_NOT_FOUND")


async def test_a_published_slot_is_taken_back_while_nobody_has_it(api: Api, admin: Person, user: Person) -> None:
    host = await hosting(api, user)
    (slot,) = await publish(api, user, period("10:00", "11:00"))
    other = await api.person()
    await hosting(api, other)
    assert (await api.send("DELETE", f"/slots/{slot['id']}", other)).status_code == 403
    deleted = await api.send("DELETE", f"/slots/{slot['id']}", user)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (
        await api.get(f"/slots/{slot['id']}", user),
        await api.send("DELETE", f"/slots/{slot['id']}", user),
        await api.book(await api.person(), slot),
    ):
        assert (answer.status_code, code(answer)) == (404, "SLOT_NOT_FOUND")
    assert (await api.get("/slots/host", user)).json()["slots"] == []
    # Its time can be published again.
    await publish(api, user, period("10:30", "11:30"))
    await api.send("PUT", f"/hosts/{host['id']}/schedule", user, json=WINDOW)
    computed = (await api.get(f"/hosts/{host['id']}/slots", user, params={"date": tomorrow()})).json()["slots"][0]
    assert (await api.send("DELETE", f"/slots/{computed['id']}", user)).status_code == 404


async def test_a_taken_slot_is_not_taken_back(api: Api, user: Person) -> None:
    host = await hosting(api, user)
    booked, held = await publish(api, user, period("10:00", "11:00"), period("11:00", "12:00"))
    guest, holder = await api.person(), await api.person()
    booking = await api.booked(guest, booked)
    hold = (await api.post("/holds", holder, json={"slotId": held["id"]})).json()["hold"]
    for slot in (booked, held):
        refused = await api.send("DELETE", f"/slots/{slot['id']}", user)
        assert (refused.status_code, code(refused)) == (409, "SLOT_BOOKED")
    await api.db.fetch("UPDATE holds SET expires_at = clock_timestamp() WHERE id = $1", hold["token"])
    await api.db.fetch("UPDATE claims SET expires_at = clock_timestamp() WHERE hold_id = $1", hold["token"])
    assert (await api.send("DELETE", f"/slots/{held['id']}", user)).status_code == 204
    assert (await api.post(f"/bookings/{booking['id']}/cancel", guest)).status_code == 200
    assert (await api.send("DELETE", f"/slots/{booked['id']}", user)).status_code == 204
    # History is kept.
    kept = (await api.get(f"/bookings/{booking['id']}", guest)).json()["booking"]
    assert (kept["slotId"], kept["hostId"], kept["status"]) == (booked["id"], host["id"], "cancelled")
    assert (kept["start"], kept["end"]) == (booked["start"], booked["end"])


# Booking a host's time


async def test_a_cancelled_slot_can_be_booked_again(api: Api, user: Person) -> None:
    await hosting(api, user)
    (slot,) = await publish(api, user, period("10:00", "11:00"))
    guest = await api.person()
    first = await api.booked(guest, slot)
    taken = await api.book(await api.person(), slot)
    assert (taken.status_code, code(taken)) == (409, "SLOT_ALREADY_BOOKED")
    assert (await api.post(f"/bookings/{first['id']}/cancel", guest)).status_code == 200
    again = await api.booked(await api.person(), slot)
    assert (again["slotId"], again["id"] != first["id"]) == (slot["id"], True)


async def test_a_host_does_not_book_the_own_time_unless_the_policy_lets_them(api: Api, user: Person) -> None:
    host = await hosting(api, user)
    (slot,) = await publish(api, user, period("10:00", "11:00"))
    refused = await api.book(user, slot)
    assert (refused.status_code, code(refused)) == (400, "OWN_SLOT")
    assert refused.json()["error"]["details"] == {"rule": "ownerMayBook", "value": False}
    changed = await api.send("PATCH", f"/hosts/{host['id']}", user, json={"policy": {"ownerMayBook": True}})
    assert changed.status_code == 200
    await api.booked(user, slot)


async def test_with_two_rules_a_hosts_time_is_a_diary(api: Api, admin: Person, user: Person) -> None:
    """`ownerMayBook` and `overlapsAllowed: false`: one's own appointments, none at the time of another booking."""
    await hosting(
        api, user, policy={"ownerMayBook": True, "overlapsAllowed": False, "maxActivePerUserHere": None, "maxActivePerUser": None}
    )
    at_nine, at_ten = await publish(api, user, period("09:00", "10:00"), period("10:00", "11:00"))
    room = await api.room(admin)
    elsewhere = await api.booked(user, (await api.slots(user, room))[0])
    refused = await api.book(user, at_nine)
    assert (refused.status_code, code(refused)) == (409, "OVERLAPS_YOUR_BOOKING")
    assert refused.json()["error"]["details"]["bookingIds"] == [elsewhere["id"]]
    await api.booked(user, at_ten)
    # The half hour from 09:30 touches both, and overlaps the one at nine.
    assert code(await api.book(user, at_nine)) == "OVERLAPS_YOUR_BOOKING"
    await api.post(f"/bookings/{elsewhere['id']}/cancel", user)
    await api.booked(user, at_nine)


async def test_a_guest_has_one_booking_with_a_host_by_default(api: Api, user: Person) -> None:
    await hosting(api, user)
    first, second = await publish(api, user, period("10:00", "11:00"), period("11:00", "12:00"))
    guest = await api.person()
    booking = await api.booked(guest, first)
    refused = await api.book(guest, second)
    assert (refused.status_code, code(refused)) == (409, "ALREADY_BOOKED_HERE")
    assert refused.json()["error"]["details"] == {
        "rule": "maxActivePerUserHere",
        "value": 1,
        "nextPossible": first["start"],
    }
    moved = await api.post(f"/bookings/{booking['id']}/reschedule", guest, json={"slotId": second["id"]})
    assert moved.status_code == 200, moved.text


async def test_a_guest_has_five_bookings_over_all_hosts_by_default(api: Api, admin: Person) -> None:
    guest = await api.person()
    slots = []
    for _ in range(6):
        host = await api.person()
        await hosting(api, host)
        slots += await publish(api, host, period("10:00", "11:00"))
    # Rooms are another kind, and do not count.
    await api.booked(guest, (await api.slots(guest, await api.room(admin)))[0])
    for slot in slots[:5]:
        await api.booked(guest, slot)
    refused = await api.book(guest, slots[5])
    assert (refused.status_code, code(refused)) == (409, "TOO_MANY_BOOKINGS")
    assert refused.json()["error"]["details"]["rule"] == "maxActivePerUser"
    assert refused.json()["error"]["details"]["value"] == 5


async def test_the_hour_of_notice_binds_the_guest_not_the_host(api: Api, user: Person) -> None:
    await hosting(api, user, policy={"maxActivePerUserHere": None})
    near, far = await publish(api, user, soon(30), soon(90))
    guest = await api.person()
    late, early = await api.booked(guest, near), await api.booked(guest, far)
    refused = await api.post(f"/bookings/{late['id']}/cancel", guest)
    assert (refused.status_code, code(refused)) == (400, "TOO_LATE_TO_CANCEL")
    assert refused.json()["error"]["details"]["value"] == 60
    assert (await api.send("DELETE", f"/bookings/{late['id']}", guest)).status_code == 400
    assert (await api.post(f"/bookings/{early['id']}/cancel", guest)).status_code == 200
    by_host = await api.send("DELETE", f"/bookings/{late['id']}", user)
    assert (by_host.status_code, by_host.json()["booking"]["status"]) == (200, "cancelled")


async def test_a_host_sees_and_deletes_guests_bookings_and_no_others(api: Api, admin: Person, user: Person) -> None:
    host = await hosting(api, user)
    (slot,) = await publish(api, user, period("10:00", "11:00"))
    guest = await api.person()
    booking = await api.booked(guest, slot)
    of_room = await api.booked(guest, (await api.slots(guest, await api.room(admin)))[0])
    assert (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"] == booking
    assert (await api.post(f"/bookings/{booking['id']}/cancel", user)).status_code == 403
    assert (await api.send("PATCH", f"/bookings/{booking['id']}", user, json={"title": "x"})).status_code == 403
    for method in ("GET", "DELETE"):
        assert (await api.send(method, f"/bookings/{of_room['id']}", user)).status_code == 403
    listed = await api.get("/bookings", admin, params={"hostId": host["id"]})
    assert [one["id"] for one in listed.json()["bookings"]] == [booking["id"]]
    assert (await api.send("DELETE", f"/bookings/{booking['id']}", user)).status_code == 200


async def test_ending_a_hosts_account_cancels_what_guests_have_booked(api: Api, admin: Person, user: Person) -> None:
    host = await hosting(api, user)
    await api.send("PUT", f"/hosts/{host['id']}/schedule", user, json=WINDOW)
    first, second, third = await publish(api, user, *(period(f"{hour}:00", f"{hour + 1}:00") for hour in (18, 19, 20)))
    guest, holder, past_guest = await api.person(), await api.person(), await api.person()
    booking, past = await api.booked(guest, first), await api.booked(past_guest, third)
    hold = (await api.post("/holds", holder, json={"slotId": second["id"]})).json()["hold"]
    await api.db.fetch("UPDATE bookings SET start_at = start_at - interval '9 days' WHERE id = $1", past["id"])
    assert (await api.send("DELETE", "/users/me", user)).status_code == 204
    after = (await api.get(f"/bookings/{booking['id']}", guest)).json()["booking"]
    assert (after["status"], after["slotId"]) == ("cancelled", first["id"])
    assert (await api.get(f"/bookings/{past['id']}", past_guest)).json()["booking"]["status"] == "active"
    assert (await api.get("/hosts", guest)).json()["hosts"] == []
    assert (await api.get("/slots", guest, params={"status": "all"})).json()["slots"] == []
    for path in (f"/hosts/{host['id']}", f"/slots/{first['id']}", f"/hosts/{host['id']}/slots?date={tomorrow()}"):
        assert (await api.get(path, guest)).status_code == 404
    assert code(await api.book(guest, second)) == "SLOT_NOT_FOUND"
    assert code(await api.post("/bookings", holder, json={"holdToken": hold["token"]})) == "HOLD_EXPIRED"


async def test_every_change_of_a_host_can_be_repeated_safely(api: Api, user: Person) -> None:
    host_path, closure_path = "", ""
    requests: list[tuple[str, str, dict[str, Any] | None, int]] = [
        ("POST", "/hosts", {"displayName": "Ada"}, 201),
        ("PATCH", "{host}", {"bio": "x"}, 200),
        ("PUT", "{host}/schedule", WINDOW, 200),
        ("POST", "{host}/closures", period("10:00", "11:00"), 201),
        ("DELETE", "{closure}", None, 204),
        ("POST", "/slots", {"slots": [period("20:00", "21:00"), period("21:00", "22:00")]}, 201),
    ]
    for number, (method, path, body, status) in enumerate(requests):
        address, headers = path.format(host=host_path, closure=closure_path), {"Idempotency-Key": f"k{number}"}
        first = await api.send(method, address, user, json=body, headers=headers)
        again = await api.send(method, address, user, json=body, headers=headers)
        assert (first.status_code, again.status_code) == (status, status), (first.text, again.text)
        assert again.content == first.content
        assert again.headers["idempotency-replayed"] == "true"
        host_path = host_path or first.headers["location"]
        closure_path = first.headers["location"] if path.endswith("closures") else closure_path
    slots = (await api.get("/slots/host", user)).json()["slots"]
    assert len(slots) == 2
    for _ in range(2):
        deleted = await api.send("DELETE", f"/slots/{slots[0]['id']}", user, headers={"Idempotency-Key": "last"})
        assert deleted.status_code == 204
