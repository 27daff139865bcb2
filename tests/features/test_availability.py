"""Searching for free rooms: what is asked for, what is in the way, and how it compares to reading every room's slots."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.core.ids import new_id
from support.api import WINDOW, Api, Person, code, tomorrow

DAY = tomorrow(3)


def instant(hour: int, minute: int = 0, *, day: str = DAY) -> str:
    return f"{day}T{hour:02d}:{minute:02d}:00Z"


async def ask(api: Api, who: Person, **query: Any) -> list[dict[str, Any]]:
    """The entries of an answer; half an hour of that day between nine and five unless the query says otherwise."""
    named = {"from": instant(9), "to": instant(17), "minutes": 30, **{name.rstrip("_"): value for name, value in query.items()}}
    answer = await api.get("/availability", who, params=named)
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["availability"]
    return entries


def rooms_of(entry: dict[str, Any]) -> list[str]:
    return [room["roomId"] for room in entry["rooms"]]


def starts(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["start"][11:16] for entry in entries]


async def test_an_entry_names_the_rooms_and_the_slots_to_book_them_by(api: Api, admin: Person, user: Person) -> None:
    first, second = await api.room(admin), await api.room(admin)
    slots = await api.slots(user, first, DAY)
    await api.booked(user, slots[1])
    entries = await ask(api, user, minutes=60, limit=2)
    assert entries == [
        {
            "start": instant(9),
            "end": instant(10),
            "rooms": [{"roomId": second["id"], "slotIds": [slot["id"] for slot in (await api.slots(user, second, DAY))[:2]]}],
        },
        {
            "start": instant(9, 30),
            "end": instant(10, 30),
            "rooms": [{"roomId": second["id"], "slotIds": [slot["id"] for slot in (await api.slots(user, second, DAY))[1:3]]}],
        },
    ]
    (third,) = await ask(api, user, minutes=60, from_=instant(10), to=instant(11))
    assert rooms_of(third) == [first["id"], second["id"]]
    for room in third["rooms"]:
        made = await api.post("/bookings", user, json={"slotIds": room["slotIds"]})
        assert made.status_code == 201, made.text
        assert (made.json()["booking"]["start"], made.json()["booking"]["end"]) == (third["start"], third["end"])
    assert await ask(api, user, minutes=60, from_=instant(10), to=instant(11)) == []


async def test_rooms_are_asked_for_by_kind_size_and_features(api: Api, admin: Person, user: Person) -> None:
    small = await api.room(admin, capacity=2, features=["screen"])
    large = await api.room(admin, capacity=20, features=["screen", "video"])
    unknown = await api.room(admin, features=["video"])
    bay = await api.room(admin, kind="bay", capacity=1)
    archived = await api.room(admin, capacity=50)
    assert (await api.send("DELETE", f"/rooms/{archived['id']}", admin)).status_code == 204
    assert (await api.post("/rooms", admin, json={"name": "Without a schedule"})).status_code == 201
    for query, expected in (
        ({}, [small, large, unknown, bay]),
        ({"kind": "bay"}, [bay]),
        ({"kind": "room", "minCapacity": 1}, [small, large]),
        ({"minCapacity": 3}, [large]),
        ({"feature": "screen"}, [small, large]),
        ({"feature": ["video", "screen"]}, [large]),
        ({"kind": "court"}, []),
        ({"rooms": 2}, [bay, small]),
        ({"rooms": 4}, [bay, small, large, unknown]),
        ({"rooms": 5}, []),
        ({"rooms": 2, "feature": "video"}, [large, unknown]),
    ):
        entries = await ask(api, user, to=instant(9, 30), **query)
        assert [rooms_of(entry) for entry in entries] == ([[room["id"] for room in expected]] if expected else []), query


async def test_bookings_closures_and_live_holds_are_in_the_way_and_lapsed_holds_are_not(
    api: Api, admin: Person, user: Person
) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room, DAY)
    await api.booked(user, slots[0])
    cancelled = await api.booked(user, slots[1])
    assert (await api.post(f"/bookings/{cancelled['id']}/cancel", user)).status_code == 200
    closure = {"start": instant(10, 15), "end": instant(11, 15)}
    assert (await api.post(f"/rooms/{room['id']}/closures", admin, json=closure)).status_code == 201
    for slot in slots[6:8]:
        held = await api.post("/holds", user, json={"slotId": slot["id"]})
        assert held.status_code == 201, held.text
    assert starts(await ask(api, user, to=instant(14))) == ["09:30", "11:30", "13:00", "13:30"]
    lapsed = "UPDATE {} SET expires_at = clock_timestamp() - interval '1 second'"
    await api.db.fetch(
        lapsed.format("claims") + " WHERE expires_at IS NOT NULL AND lower(during) = $1::timestamptz",
        datetime.fromisoformat(slots[7]["start"]),
    )
    assert starts(await ask(api, user, to=instant(14))) == ["09:30", "11:30", "12:30", "13:00", "13:30"]
    # What the search says is free, is: the lapsed hold gives way.
    (free,) = await ask(api, user, from_=instant(12, 30), to=instant(13))
    assert free["rooms"][0]["slotIds"] == [slots[7]["id"]]


async def test_a_policy_keeps_its_rooms_out_too_soon_and_too_far_ahead(api: Api, admin: Person, user: Person) -> None:
    free = await api.room(admin)
    late = await api.room(admin, policy={"minNoticeMinutes": 10 * 24 * 60})
    near = await api.room(admin, policy={"maxDaysAhead": 4})
    days = [tomorrow(offset) for offset in (3, 20)]
    seen = [await ask(api, user, from_=instant(9, day=day), to=instant(9, 30, day=day)) for day in days]
    assert [rooms_of(entry) for (entry,) in seen] == [[free["id"], near["id"]], [free["id"], late["id"]]]
    for entries in seen:
        for room in entries[0]["rooms"]:
            made = await api.post("/bookings", user, json={"slotIds": room["slotIds"]})
            assert made.status_code == 201, made.text


async def test_a_period_that_is_over_has_nothing_and_the_present_one_only_what_is_ahead(
    api: Api, admin: Person, user: Person
) -> None:
    await api.room(admin, schedule={**WINDOW, "startTime": "00:00", "endTime": "24:00"})
    now = datetime.now(UTC)
    over = await ask(api, user, from_=(now - timedelta(days=9)).isoformat(), to=(now - timedelta(days=2)).isoformat())
    assert over == []
    around = await ask(api, user, from_=(now - timedelta(days=1)).isoformat(), to=(now + timedelta(days=1)).isoformat())
    first = datetime.fromisoformat(around[0]["start"])
    assert now < first <= now + timedelta(minutes=31)
    assert len(around) == 20


async def test_near_a_room_and_a_time(api: Api, admin: Person, user: Person) -> None:
    here = await api.room(admin, capacity=6, location="East", kind="bay")
    west = await api.room(admin, capacity=7, location="West")
    east = await api.room(admin, capacity=7, location="East")
    like = {"nearRoom": here["id"], "nearTime": instant(12)}
    entries = await ask(api, user, limit=3, **like)
    assert starts(entries) == ["12:00", "11:30", "12:30"]
    assert rooms_of(entries[0]) == [here["id"], east["id"], west["id"]]
    # The room itself need not be among those that are asked for.
    entries = await ask(api, user, kind="room", limit=1, **like)
    assert [rooms_of(entry) for entry in entries] == [[east["id"], west["id"]]]
    assert await ask(api, user, kind="court", **like) == []
    entries = await ask(api, user, rooms=2, limit=1, **like)
    assert [rooms_of(entry) for entry in entries] == [[here["id"], east["id"]]]


async def test_near_an_unknown_or_archived_room_is_not_found(api: Api, admin: Person, user: Person) -> None:
    archived = await api.room(admin)
    assert (await api.send("DELETE", f"/rooms/{archived['id']}", admin)).status_code == 204
    for room_id in (archived["id"], str(new_id())):
        query = {"from": instant(9), "to": instant(17), "minutes": 30, "nearRoom": room_id, "nearTime": instant(12)}
        refused = await api.get("/availability", user, params=query)
        assert (refused.status_code, code(refused)) == (404, "ROOM_NOT_FOUND")


@pytest.mark.parametrize(
    "wrong",
    [
        {"from": None},
        {"to": None},
        {"minutes": None},
        {"from": DAY},
        {"to": instant(9)},
        {"to": instant(8)},
        {"to": instant(9, day=tomorrow(35))},
        {"minutes": 4},
        {"minutes": 7 * 24 * 60 + 1},
        {"minutes": "30.5"},
        {"rooms": 0},
        {"rooms": 21},
        {"limit": 0},
        {"limit": 101},
        {"minCapacity": 0},
        {"minCapacity": 1 << 31},
        {"kind": "\x00"},
        {"nearRoom": "x", "nearTime": instant(9)},
        {"nearRoom": "019376a5-0000-7000-8000-000000000000"},
        {"nearTime": instant(9)},
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_invalid(api: Api, user: Person, wrong: dict[str, Any]) -> None:
    query = {"from": instant(9), "to": instant(17), "minutes": 30, **wrong}
    query = {name: value for name, value in query.items() if value is not None}
    refused = await api.get("/availability", user, params=query)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST"), refused.text


async def test_everybody_with_a_token_may_ask(api: Api, admin: Person) -> None:
    assert await ask(api, admin) == []
    assert await ask(api, admin, to=instant(9, day=tomorrow(34)), minutes=7 * 24 * 60, rooms=20, limit=100) == []
    refused = await api.get("/availability", params={"minutes": "wrong"})
    assert (refused.status_code, code(refused)) == (401, "UNAUTHORIZED")


async def _world(api: Api, admin: Person, user: Person, chance: random.Random) -> list[dict[str, Any]]:
    """Rooms that differ, with a part of their slots of some days booked, held or closed."""
    schedules: list[dict[str, Any]] = [
        {"slotMinutes": minutes, "daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "08:00", "endTime": "14:00"}
        for minutes in (30, 45, 60)
    ]
    schedules.append(
        {
            "slotMinutes": 30,
            "windows": [
                {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "00:00", "endTime": "02:00"},
                {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "09:10", "endTime": "12:10"},
                {"daysOfWeek": [1, 3, 5, 7], "startTime": "22:00", "endTime": "24:00"},
            ],
        }
    )
    rooms = []
    for _ in range(6):
        room = await api.room(
            admin,
            chance.choice(schedules),
            kind=chance.choice(["room", "room", "bay"]),
            capacity=chance.choice([None, 2, 4, 8]),
            timeZone=chance.choice(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
            features=chance.choice([[], ["screen"], ["screen", "video"]]),
        )
        rooms.append(room)
        for day in (DAY, tomorrow(4)):
            listed = await api.slots(user, room, day)
            for slot in chance.sample(listed, int(len(listed) * 0.3)):
                await api.booked(user, slot)
        closed = datetime.fromisoformat(instant(chance.randrange(8, 12), day=tomorrow(5)))
        until = closed + timedelta(minutes=chance.randrange(20, 200))
        closure = {"start": closed.isoformat(), "end": until.isoformat()}
        assert (await api.post(f"/rooms/{room['id']}/closures", admin, json=closure)).status_code == 201
    return rooms


def _wish(chance: random.Random) -> dict[str, Any]:
    wish: dict[str, Any] = {
        "from": instant(chance.randrange(24)),
        "to": instant(chance.randrange(24), 15, day=tomorrow(chance.choice([4, 6]))),
        "minutes": chance.choice([30, 45, 60, 90, 150]),
        "rooms": chance.choice([1, 1, 2, 3]),
        "limit": chance.choice([5, 100]),
    }
    wish |= chance.choice([{}, {"kind": "room"}, {"minCapacity": 3}])
    return wish | chance.choice([{}, {}, {"feature": ["screen"]}])


async def _by_brute_force(api: Api, who: Person, rooms: list[dict[str, Any]], wish: dict[str, Any]) -> list[dict[str, Any]]:
    """What the rooms' own lists of free slots make of the wish, when walked through one by one."""
    together: dict[tuple[str, ...], list[tuple[Any, str, dict[str, Any]]]] = {}
    for place, room in enumerate(rooms):
        if (
            wish.get("kind", room["kind"]) != room["kind"]
            or (room["capacity"] or 0) < wish.get("minCapacity", 0)
            or not set(wish.get("feature", ())) <= set(room["features"])
        ):
            continue
        listed = await api.get(f"/rooms/{room['id']}/slots", who, params={"from": wish["from"], "to": wish["to"]})
        slots = [slot for slot in listed.json()["slots"] if slot["end"] <= wish["to"]]
        for first in range(len(slots)):
            row = [slots[first]]
            for slot in slots[first + 1 :]:
                if _minutes(row) >= wish["minutes"] or slot["start"] != row[-1]["end"]:
                    break
                row.append(slot)
            if _minutes(row) >= wish["minutes"]:
                key: tuple[str, ...] = (row[0]["start"], row[-1]["end"]) if wish["rooms"] == 1 else (row[0]["start"],)
                rank: tuple[int, ...] = (place,) if wish["rooms"] == 1 else (room["capacity"] or 1_000, place)
                option = {"roomId": room["id"], "slotIds": [slot["id"] for slot in row]}
                together.setdefault(key, []).append((rank, row[-1]["end"], option))
    entries = []
    for key, free in sorted(together.items()):
        if len(free) >= wish["rooms"]:
            best = sorted(free, key=lambda one: one[0])[: wish["rooms"] if wish["rooms"] > 1 else None]
            entries.append({"start": key[0], "end": max(end for _, end, _ in best), "rooms": [option for *_, option in best]})
    return entries[: wish["limit"]]


def _minutes(row: list[dict[str, Any]]) -> float:
    return (datetime.fromisoformat(row[-1]["end"]) - datetime.fromisoformat(row[0]["start"])).total_seconds() / 60


@pytest.mark.parametrize("seed", range(3))
async def test_it_finds_what_the_rooms_own_lists_of_slots_have(api: Api, admin: Person, user: Person, seed: int) -> None:
    chance = random.Random(seed)
    rooms = await _world(api, admin, user, chance)
    found = 0
    for _ in range(25):
        wish = _wish(chance)
        expected = await _by_brute_force(api, user, rooms, wish)
        answer = await api.get("/availability", user, params=wish)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"availability": expected}, wish
        found += len(expected)
    assert found > 100
