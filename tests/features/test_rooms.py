"""Rooms: making, finding, changing them; schedules with several windows."""

from typing import Any

import pytest

from support.api import WINDOW, Api, Person, code, tomorrow


async def names(api: Api, who: Person, **query: Any) -> list[str]:
    answer = await api.get("/rooms", who, params=query)
    assert answer.status_code == 200, answer.text
    return [room["name"] for room in answer.json()["rooms"]]


async def test_a_new_room_has_defaults_for_all_but_its_name(api: Api, admin: Person) -> None:
    made = await api.post("/rooms", admin, json={"name": "Plain"})
    room = made.json()["room"]
    assert made.headers["location"] == f"/rooms/{room['id']}"
    assert room | {"id": "", "createdAt": ""} == {
        "id": "",
        "name": "Plain",
        "description": None,
        "capacity": None,
        "kind": "room",
        "timeZone": "UTC",
        "location": None,
        "features": [],
        "policy": {
            **dict.fromkeys(room["policy"]),
            "ownerMayBook": False,
            "holdSeconds": 300,
            "waitlistOfferSeconds": 900,
            "reminderMinutes": 15,
            "fairQueue": False,
        },
        "createdAt": "",
    }


async def test_rooms_are_found_by_kind_size_features_and_words(api: Api, admin: Person) -> None:
    for fields in (
        {"name": "Small", "capacity": 2, "features": ["screen"]},
        {"name": "Large", "capacity": 20, "features": ["screen", "video"], "location": "2nd floor"},
        {"name": "Bay", "kind": "bay", "capacity": 1, "description": "50% off_peak"},
    ):
        assert (await api.post("/rooms", admin, json=fields)).status_code == 201
    assert await names(api, admin) == ["Small", "Large", "Bay"]
    assert await names(api, admin, kind="bay") == ["Bay"]
    assert await names(api, admin, minCapacity=2) == ["Small", "Large"]
    assert await names(api, admin, feature=["screen", "video"]) == ["Large"]
    assert await names(api, admin, q="FLOOR") == ["Large"]
    assert await names(api, admin, q="50%") == ["Bay"]
    assert await names(api, admin, q="%") == ["Bay"]
    assert await names(api, admin, q="f_p") == ["Bay"]
    assert await names(api, admin, kind="court") == []
    page = await api.get("/rooms", admin, params={"page": 2, "pageSize": 2})
    assert [room["name"] for room in page.json()["rooms"]] == ["Bay"]
    assert page.json()["pagination"] == {"page": 2, "pageSize": 2, "total": 3}


async def test_a_change_changes_what_it_names_and_each_rule_by_itself(api: Api, admin: Person) -> None:
    made = await api.post(
        "/rooms",
        admin,
        json={"name": "R", "capacity": 4, "features": ["a", "a", "b"], "policy": {"maxDaysAhead": 30, "minNoticeMinutes": 5}},
    )
    room = made.json()["room"]
    assert room["features"] == ["a", "b"]
    path = f"/rooms/{room['id']}"
    changed = await api.send("PATCH", path, admin, json={"capacity": None, "policy": {"maxDaysAhead": 7}})
    now = changed.json()["room"]
    assert (now["name"], now["capacity"]) == ("R", None)
    assert (now["policy"]["maxDaysAhead"], now["policy"]["minNoticeMinutes"]) == (7, 5)
    taken_away = await api.send("PATCH", path, admin, json={"policy": {"minNoticeMinutes": None}})
    assert taken_away.json()["room"]["policy"] == {**now["policy"], "minNoticeMinutes": None}
    emptied = await api.send("PATCH", path, admin, json={"policy": None})
    assert emptied.json()["room"]["policy"] == room["policy"] | {"maxDaysAhead": None, "minNoticeMinutes": None}
    for bad in ({"name": None}, {"name": " "}, {"timeZone": "Mars/Base"}, {"capacity": 0}, {"policy": {"maxDaysAhead": -1}}):
        assert (await api.send("PATCH", path, admin, json=bad)).status_code == 400, bad


async def test_of_two_changes_to_one_version_the_second_is_refused(api: Api, admin: Person) -> None:
    made = await api.post("/rooms", admin, json={"name": "R"})
    path = f"/rooms/{made.json()['room']['id']}"
    etag = made.headers["etag"]
    assert (await api.send("PATCH", path, admin, json={"name": "A"}, headers={"If-Match": etag})).status_code == 200
    stale = await api.send("PATCH", path, admin, json={"name": "B"}, headers={"If-Match": etag})
    assert (stale.status_code, code(stale)) == (412, "CHANGED_MEANWHILE")
    assert stale.json()["error"]["details"]["present"]["name"] == "A"
    assert (await api.send("DELETE", path, admin, headers={"If-Match": etag})).status_code == 412
    assert (await api.get(path, admin, headers={"If-None-Match": stale.json()["error"]["details"]["etag"]})).status_code == 304


async def test_a_day_may_have_several_windows_and_weekdays_their_own(api: Api, admin: Person, user: Person) -> None:
    windows = [
        {"daysOfWeek": [1, 2], "startTime": "08:00", "endTime": "12:00"},
        {"daysOfWeek": [1], "startTime": "13:00", "endTime": "24:00"},
    ]
    room = await api.room(admin, schedule={"slotMinutes": 60, "windows": windows})
    monday, tuesday, sunday = "2030-01-07", "2030-01-08", "2030-01-06"
    assert [slot["start"][11:13] for slot in await api.slots(user, room, monday)] == [
        *("08", "09", "10", "11"),
        *(str(hour) for hour in range(13, 24)),
    ]
    assert len(await api.slots(user, room, tuesday)) == 4
    assert await api.slots(user, room, sunday) == []
    shown = (await api.get(f"/rooms/{room['id']}/schedule", user)).json()["schedule"]
    assert shown["windows"] == windows
    assert "startTime" not in shown


@pytest.mark.parametrize(
    "schedule",
    [
        {"windows": []},
        {"slotMinutes": 4, **WINDOW},
        {"slotMinutes": 1441, **WINDOW},
        {"slotMinutes": 60, **WINDOW, "endTime": "09:30"},
        {**WINDOW, "windows": [WINDOW]},
        {"windows": [WINDOW, {**WINDOW, "startTime": "16:00", "endTime": "18:00"}]},
        {"daysOfWeek": [1]},
        {**WINDOW, "startTime": "24:00"},
    ],
)
async def test_a_schedule_that_makes_no_sense_is_refused(api: Api, admin: Person, schedule: dict[str, Any]) -> None:
    made = await api.post("/rooms", admin, json={"name": "R"})
    refused = await api.send("PUT", f"/rooms/{made.json()['room']['id']}/schedule", admin, json=schedule)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_a_room_without_a_schedule_has_no_slots_and_says_why(api: Api, admin: Person, user: Person) -> None:
    room = (await api.post("/rooms", admin, json={"name": "R"})).json()["room"]
    assert await api.slots(user, room) == []
    missing = await api.get(f"/rooms/{room['id']}/schedule", user)
    assert (missing.status_code, code(missing)) == (404, "SCHEDULE_NOT_FOUND")
    body = {"roomId": room["id"], "date": tomorrow(), "time": "09:00"}
    refused = await api.post("/bookings", user, json=body)
    assert (refused.status_code, code(refused)) == (400, "OUTSIDE_SCHEDULE")


async def test_another_zone_moves_the_slots_and_not_the_bookings(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    booking = await api.booked(user, (await api.slots(user, room))[0])
    await api.send("PATCH", f"/rooms/{room['id']}", admin, json={"timeZone": "Asia/Tokyo"})
    assert (await api.slots(user, room))[0]["start"].endswith("T00:00:00Z")
    assert (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"] == booking
