"""The rules of a policy, for a room, a host and an event alike: what each refuses, its value, what is possible instead."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from holdfast.core.clock import instant_text
from support.api import WINDOW, Api, Person, code, tomorrow

KINDS = ["room", "host", "event"]
DAY_MINUTES = 24 * 60
NO_RULES = {
    "maxActivePerUser": None,
    "maxActivePerUserHere": None,
    "overlapsAllowed": None,
    "cancelNoticeMinutes": None,
    "minNoticeMinutes": None,
    "maxDaysAhead": None,
    "ownerMayBook": False,
    "holdSeconds": 300,
    "waitlistOfferSeconds": 900,
    "reminderMinutes": 15,
    "fairQueue": False,
}
#: A host's rules of their own accord are told apart from those that a test is about.
NO_DEFAULTS = {"maxActivePerUser": None, "maxActivePerUserHere": None, "cancelNoticeMinutes": None}


@dataclass(frozen=True)
class Place:
    """Something to book, of whatever kind: five wishes that can be had, soonest first, and whoever may change its policy."""

    kind: str
    path: str
    wishes: list[dict[str, Any]]
    starts: list[str]
    owner: Person


async def place(api: Api, admin: Person, kind: str, *, day: str | None = None, **policy: Any) -> Place:
    """A room with slots, a host with hours, or an event with seats, at ten in the morning of tomorrow or of another day."""
    day = day or tomorrow()
    if kind == "room":
        room = await api.room(admin, policy=policy)
        slots = (await api.slots(admin, room, day))[2:7]
        return Place(kind, f"/rooms/{room['id']}", [{"slotId": slot["id"]} for slot in slots], starts(slots), admin)
    if kind == "host":
        owner = await api.person()
        made = await api.post("/hosts", owner, json={"displayName": "Ada", "policy": {**NO_DEFAULTS, **policy}})
        assert made.status_code == 201, made.text
        hours = [{"start": f"{day}T{hour}:00:00Z", "end": f"{day}T{hour}:30:00Z"} for hour in range(10, 15)]
        published = await api.post("/slots", owner, json={"slots": hours})
        assert published.status_code == 201, published.text
        slots = published.json()["slots"]
        path = f"/hosts/{made.json()['host']['id']}"
        return Place(kind, path, [{"slotId": slot["id"]} for slot in slots], starts(slots), owner)
    times = {"start": f"{day}T10:00:00Z", "end": f"{day}T10:30:00Z"}
    made = await api.post("/events", admin, json={"name": "Concert", **times, "policy": policy})
    assert made.status_code == 201, made.text
    event = made.json()["event"]
    labels = [f"A-{number}" for number in range(1, 6)]
    assert (await api.post(f"/events/{event['id']}/seats", admin, json={"seats": labels})).status_code == 201
    wishes = [{"eventId": event["id"], "seats": [label]} for label in labels]
    return Place(kind, f"/events/{event['id']}", wishes, [times["start"]] * 5, admin)


def starts(slots: Sequence[dict[str, Any]]) -> list[str]:
    return [slot["start"] for slot in slots]


async def booked(api: Api, who: Person, wish: dict[str, Any]) -> dict[str, Any]:
    made = await api.post("/bookings", who, json=wish)
    assert made.status_code == 201, made.text
    booking: dict[str, Any] = made.json()["booking"]
    return booking


async def change(api: Api, where: Place, **policy: Any) -> dict[str, Any]:
    """The place's rules after a change."""
    changed = await api.send("PATCH", where.path, where.owner, json={"policy": policy})
    assert changed.status_code == 200, changed.text
    found: dict[str, Any] = changed.json()[where.kind]["policy"]
    return found


def why(response: httpx.Response, status: int, expected: str) -> dict[str, Any]:
    """The details of a refusal, which must be this one."""
    assert (response.status_code, code(response)) == (status, expected), response.text
    details: dict[str, Any] = response.json()["error"]["details"]
    return details


async def refused_both_ways(api: Api, who: Person, wish: dict[str, Any], status: int, expected: str) -> dict[str, Any]:
    """Booking and holding are refused alike, the front desk's booking too; returns the details."""
    admin = await api.admin()
    details = why(await api.post("/bookings", who, json=wish), status, expected)
    for path, by in (("/holds", who), (f"/users/{who.id}/bookings", admin)):
        assert set(why(await api.post(path, by, json=wish), status, expected)) == set(details)
    return details


async def shifted(api: Api, booking: dict[str, Any], by: str) -> None:
    """Time cannot be waited for: the booking is moved where it is stored."""
    await api.db.fetch(
        "UPDATE bookings SET start_at = start_at + $2::text::interval, end_at = end_at + $2::text::interval WHERE id = $1",
        booking["id"],
        by,
    )


async def lapse(api: Api, token: str) -> None:
    """Time cannot be waited for: the hold's end is moved to just now, where it is stored."""
    await api.db.fetch("UPDATE holds SET expires_at = clock_timestamp() WHERE id = $1", token)
    await api.db.fetch("UPDATE claims SET expires_at = clock_timestamp() WHERE hold_id = $1", token)


# What a policy is


@pytest.mark.parametrize("kind", KINDS)
async def test_a_policy_is_shown_whole_and_changed_rule_by_rule(kind: str, api: Api, admin: Person) -> None:
    where = await place(api, admin, kind, maxDaysAhead=30, holdSeconds=60)
    expected = {**NO_RULES, "maxDaysAhead": 30, "holdSeconds": 60}
    assert (await api.get(where.path, where.owner)).json()[kind]["policy"] == expected
    expected |= {"minNoticeMinutes": 5, "maxDaysAhead": None}
    assert await change(api, where, minNoticeMinutes=5, maxDaysAhead=None) == expected
    assert await change(api, where, holdSeconds=None, unknownRule=7) == {**expected, "holdSeconds": 300}
    emptied = await api.send("PATCH", where.path, where.owner, json={"policy": None})
    assert emptied.json()[kind]["policy"] == NO_RULES


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_policy_says_where_nobody_said_anything(kind: str, api: Api, admin: Person, user: Person) -> None:
    body = {
        "room": {"name": "Room"},
        "host": {"displayName": "Ada"},
        "event": {"name": "Concert", "start": f"{tomorrow()}T10:00:00Z"},
    }[kind]
    made = await api.post(f"/{kind}s", user if kind == "host" else admin, json=body)
    assert made.status_code == 201, made.text
    defaults = {"maxActivePerUser": 5, "maxActivePerUserHere": 1, "cancelNoticeMinutes": 60} if kind == "host" else {}
    assert made.json()[kind]["policy"] == {**NO_RULES, **defaults}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rule",
    [
        {"maxActivePerUser": 0},
        {"maxActivePerUserHere": -1},
        {"maxActivePerUser": 1.5},
        {"maxActivePerUser": "5"},
        {"maxActivePerUser": True},
        {"maxActivePerUser": 1 << 31},
        {"overlapsAllowed": "no"},
        {"overlapsAllowed": 0},
        {"cancelNoticeMinutes": 0},
        {"minNoticeMinutes": -5},
        {"minNoticeMinutes": 10**9},
        {"maxDaysAhead": -1},
        {"ownerMayBook": "yes"},
        {"holdSeconds": 0},
        {"holdSeconds": 10**9},
        {"waitlistOfferSeconds": 0},
        {"reminderMinutes": 0.5},
        {"fairQueue": 1},
    ],
    ids=str,
)
async def test_a_rule_without_sense_is_refused(rule: dict[str, Any], kind: str, api: Api, admin: Person) -> None:
    where = await place(api, admin, kind)
    refused = await api.send("PATCH", where.path, where.owner, json={"policy": rule})
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")
    assert (await api.get(where.path, where.owner)).json()[kind]["policy"] == NO_RULES


@pytest.mark.parametrize("kind", KINDS)
async def test_without_rules_one_may_have_all(kind: str, api: Api, admin: Person, user: Person) -> None:
    where, other = await place(api, admin, kind), await place(api, admin, kind)
    for wish in where.wishes + other.wishes:
        await booked(api, user, wish)
    cancelled = await booked(api, user, (await place(api, admin, kind, day=tomorrow(30))).wishes[0])
    assert (await api.post(f"/bookings/{cancelled['id']}/cancel", user)).status_code == 200


# How many


@pytest.mark.parametrize("kind", KINDS)
async def test_so_many_here_and_no_more(kind: str, api: Api, admin: Person, user: Person) -> None:
    where, other = [await place(api, admin, kind, maxActivePerUserHere=2) for _ in range(2)]
    first = await booked(api, user, where.wishes[0])
    await booked(api, user, where.wishes[1])
    details = await refused_both_ways(api, user, where.wishes[2], 409, "ALREADY_BOOKED_HERE")
    assert details == {"rule": "maxActivePerUserHere", "value": 2, "nextPossible": where.starts[0]}
    # There is another, and another's are nobody else's.
    await booked(api, user, other.wishes[0])
    await booked(api, await api.person(), where.wishes[2])
    assert (await api.post(f"/bookings/{first['id']}/cancel", user)).status_code == 200
    await booked(api, user, where.wishes[3])
    assert code(await api.post("/bookings", user, json=where.wishes[4])) == "ALREADY_BOOKED_HERE"


@pytest.mark.parametrize("kind", KINDS)
async def test_so_many_over_all_of_a_kind_and_no_more(kind: str, api: Api, admin: Person, user: Person) -> None:
    where, unlimited = await place(api, admin, kind, maxActivePerUser=3), await place(api, admin, kind, day=tomorrow(2))
    for other_kind in set(KINDS) - {kind}:
        await booked(api, user, (await place(api, admin, other_kind)).wishes[0])
    await booked(api, user, unlimited.wishes[0])
    await booked(api, user, where.wishes[0])
    await booked(api, user, where.wishes[1])
    details = await refused_both_ways(api, user, where.wishes[2], 409, "TOO_MANY_BOOKINGS")
    assert details == {"rule": "maxActivePerUser", "value": 3, "nextPossible": where.starts[0]}
    # Another place's rule is that place's own.
    await booked(api, user, unlimited.wishes[1])
    await booked(api, await api.person(), where.wishes[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["maxActivePerUser", "maxActivePerUserHere"])
async def test_only_what_is_ahead_counts(rule: str, kind: str, api: Api, admin: Person, user: Person) -> None:
    limit: dict[str, Any] = {rule: 1}
    where = await place(api, admin, kind, **limit)
    booking = await booked(api, user, where.wishes[0])
    assert (await api.post("/bookings", user, json=where.wishes[1])).status_code == 409
    await shifted(api, booking, "-9 days")
    await booked(api, user, where.wishes[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["maxActivePerUser", "maxActivePerUserHere"])
async def test_a_live_hold_counts_and_becomes_the_one_that_is_allowed(
    rule: str, kind: str, api: Api, admin: Person, user: Person
) -> None:
    limit: dict[str, Any] = {rule: 1}
    where = await place(api, admin, kind, **limit)
    hold = (await api.post("/holds", user, json=where.wishes[0])).json()["hold"]
    details = await refused_both_ways(api, user, where.wishes[1], 409, _CODES[rule])
    assert details == {"rule": rule, "value": 1, "nextPossible": where.starts[0]}
    await booked(api, user, {"holdToken": hold["token"]})
    assert code(await api.post("/holds", user, json=where.wishes[1])) == _CODES[rule]
    other = await api.person()
    hold = (await api.post("/holds", other, json=where.wishes[1])).json()["hold"]
    await lapse(api, hold["token"])
    await booked(api, other, where.wishes[2])


_CODES = {"maxActivePerUser": "TOO_MANY_BOOKINGS", "maxActivePerUserHere": "ALREADY_BOOKED_HERE"}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lower_limit_leaves_what_stands(kind: str, api: Api, admin: Person, user: Person) -> None:
    where = await place(api, admin, kind)
    standing = [await booked(api, user, wish) for wish in where.wishes[:3]]
    await change(api, where, maxActivePerUserHere=1)
    details = why(await api.post("/bookings", user, json=where.wishes[3]), 409, "ALREADY_BOOKED_HERE")
    assert (details["rule"], details["value"]) == ("maxActivePerUserHere", 1)
    # When the first of three has begun there are still two.
    assert details.get("nextPossible") != where.starts[0] or kind == "event"
    mine = (await api.get("/bookings/my", user, params={"status": "active"})).json()["bookings"]
    assert sorted(one["id"] for one in mine) == sorted(one["id"] for one in standing)


@pytest.mark.parametrize("kind", KINDS)
async def test_moving_at_the_limit_does_not_count_what_is_moved(kind: str, api: Api, admin: Person, user: Person) -> None:
    where = await place(api, admin, kind, maxActivePerUserHere=1, maxActivePerUser=1, overlapsAllowed=False)
    booking = await booked(api, user, where.wishes[0])
    moved = await api.post(f"/bookings/{booking['id']}/reschedule", user, json=where.wishes[1])
    assert moved.status_code == 200, moved.text
    back = await api.post(f"/bookings/{booking['id']}/reschedule", user, json=where.wishes[0])
    assert back.status_code == 200, back.text


async def test_moving_to_another_room_counts_there(api: Api, admin: Person, user: Person) -> None:
    here, there = await place(api, admin, "room"), await place(api, admin, "room", maxActivePerUserHere=1)
    await booked(api, user, there.wishes[0])
    booking = await booked(api, user, here.wishes[1])
    refused = await api.post(f"/bookings/{booking['id']}/reschedule", user, json=there.wishes[2])
    assert why(refused, 409, "ALREADY_BOOKED_HERE")["value"] == 1
    assert (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"] == booking


# When


@pytest.mark.parametrize("kind", KINDS)
async def test_so_long_before_and_no_later(kind: str, api: Api, admin: Person, user: Person) -> None:
    where = await place(api, admin, kind, minNoticeMinutes=3 * DAY_MINUTES)
    before = datetime.now(UTC)
    details = await refused_both_ways(api, user, where.wishes[0], 400, "TOO_SOON")
    assert (details["rule"], details["value"]) == ("minNoticeMinutes", 3 * DAY_MINUTES)
    earliest = datetime.fromisoformat(details["earliestStart"]) - timedelta(days=3)
    assert before <= earliest <= datetime.now(UTC) + timedelta(seconds=1)
    left = datetime.fromisoformat(where.starts[0]) - datetime.now(UTC)
    await change(api, where, minNoticeMinutes=max(1, left // timedelta(minutes=1) - 1))
    await booked(api, user, where.wishes[0])
    await change(api, where, minNoticeMinutes=left // timedelta(minutes=1) + 2)
    # The rest of the day is later for a room and a host, and the same for an event.
    assert code(await api.post("/bookings", await api.person(), json=where.wishes[0])) in {"TOO_SOON", "SEATS_TAKEN"}
    # The notice binds whoever takes, not whoever has it.
    assert (await api.get("/bookings/my", user)).json()["bookings"][0]["status"] == "active"


@pytest.mark.parametrize("kind", KINDS)
async def test_so_many_days_ahead_and_no_further(kind: str, api: Api, admin: Person, user: Person) -> None:
    near = await place(api, admin, kind, day=tomorrow(5), maxDaysAhead=5)
    far = await place(api, admin, kind, day=tomorrow(6), maxDaysAhead=5)
    await booked(api, user, near.wishes[0])
    details = await refused_both_ways(api, user, far.wishes[0], 400, "TOO_FAR_AHEAD")
    assert details == {"rule": "maxDaysAhead", "value": 5, "latestDate": tomorrow(5), "bookableFrom": tomorrow(1)}
    await change(api, far, maxDaysAhead=6)
    await booked(api, user, far.wishes[0])


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_days_ahead_are_those_of_the_rooms_calendar(zone: str, api: Api, admin: Person, user: Person) -> None:
    schedule = {**WINDOW, "startTime": "00:00", "endTime": "24:00"}
    room = await api.room(admin, schedule, timeZone=zone, policy={"maxDaysAhead": 2})
    today = datetime.now(ZoneInfo(zone)).date()

    async def answer(day: date, number: int) -> httpx.Response:
        return await api.book(user, (await api.slots(user, room, day.isoformat()))[number])

    assert (await answer(today + timedelta(days=2), -1)).status_code == 201
    details = why(await answer(today + timedelta(days=3), 0), 400, "TOO_FAR_AHEAD")
    assert details["latestDate"] == (today + timedelta(days=2)).isoformat()
    assert details["bookableFrom"] == (today + timedelta(days=1)).isoformat()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_move_asks_what_a_booking_asks(kind: str, api: Api, admin: Person, user: Person) -> None:
    near = await place(api, admin, kind)
    booking = await booked(api, user, near.wishes[0])
    rules: list[tuple[dict[str, Any], str]] = [
        ({"minNoticeMinutes": 9 * DAY_MINUTES}, "TOO_SOON"),
        ({"maxDaysAhead": 1}, "TOO_FAR_AHEAD"),
    ]
    for policy, expected in rules:
        there = await place(api, admin, kind, day=tomorrow(4), **policy)
        refused = await api.post(f"/bookings/{booking['id']}/reschedule", user, json=there.wishes[0])
        assert why(refused, 400, expected)["rule"] == next(iter(policy))
    assert (await api.get(f"/bookings/{booking['id']}", user)).json()["booking"] == booking


# Giving back


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_too_late_to_give_back_for_the_owner_alone(kind: str, api: Api, admin: Person, user: Person) -> None:
    where = await place(api, admin, kind, cancelNoticeMinutes=5 * DAY_MINUTES)
    booking = await booked(api, user, where.wishes[0])
    path = f"/bookings/{booking['id']}"
    latest = datetime.fromisoformat(where.starts[0]) - timedelta(days=5)
    for answer in (
        await api.post(f"{path}/cancel", user),
        await api.send("DELETE", path, user),
        await api.post(f"{path}/reschedule", user, json=where.wishes[1]),
    ):
        assert why(answer, 400, "TOO_LATE_TO_CANCEL") == {
            "rule": "cancelNoticeMinutes",
            "value": 5 * DAY_MINUTES,
            "latest": instant_text(latest),
        }
    assert (await api.get(path, user)).json()["booking"] == booking
    # Whoever owns the place gives it back at any time: the host, or for rooms and events an admin.
    deleted = await api.send("DELETE", path, where.owner)
    assert (deleted.status_code, deleted.json()["booking"]["status"]) == (200, "cancelled")
    # What is cancelled is, and saying so again is never too late.
    assert (await api.post(f"{path}/cancel", user)).status_code == 200


@pytest.mark.parametrize("kind", KINDS)
async def test_with_the_notice_left_it_is_given_back(kind: str, api: Api, admin: Person, user: Person) -> None:
    where = await place(api, admin, kind)
    booking = await booked(api, user, where.wishes[0])
    left = (datetime.fromisoformat(where.starts[0]) - datetime.now(UTC)) // timedelta(minutes=1)
    await change(api, where, cancelNoticeMinutes=left + 2)
    assert code(await api.post(f"/bookings/{booking['id']}/cancel", user)) == "TOO_LATE_TO_CANCEL"
    await change(api, where, cancelNoticeMinutes=max(1, left - 1))
    assert (await api.post(f"/bookings/{booking['id']}/cancel", user)).status_code == 200


async def test_the_notice_is_that_of_where_it_is_not_of_where_it_goes(api: Api, admin: Person, user: Person) -> None:
    here, there = await place(api, admin, "room"), await place(api, admin, "room", cancelNoticeMinutes=5 * DAY_MINUTES)
    booking = await booked(api, user, here.wishes[0])
    moved = await api.post(f"/bookings/{booking['id']}/reschedule", user, json=there.wishes[0])
    assert moved.status_code == 200, moved.text
    back = await api.post(f"/bookings/{booking['id']}/reschedule", user, json=here.wishes[0])
    assert (back.status_code, code(back)) == (400, "TOO_LATE_TO_CANCEL")


# At the same time as something else


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other_kind", KINDS)
async def test_not_while_one_has_something_else(kind: str, other_kind: str, api: Api, admin: Person, user: Person) -> None:
    elsewhere, where = await place(api, admin, other_kind), await place(api, admin, kind, overlapsAllowed=False)
    there = await booked(api, user, elsewhere.wishes[0])
    details = await refused_both_ways(api, user, where.wishes[0], 409, "OVERLAPS_YOUR_BOOKING")
    assert details == {"rule": "overlapsAllowed", "value": False, "bookingIds": [there["id"]]}
    await booked(api, await api.person(), where.wishes[0])
    assert (await api.post(f"/bookings/{there['id']}/cancel", user)).status_code == 200
    await booked(api, user, where.wishes[1])


@pytest.mark.parametrize("allowed", [True, None])
@pytest.mark.parametrize("kind", KINDS)
async def test_at_once_where_nobody_minds(kind: str, allowed: bool | None, api: Api, admin: Person, user: Person) -> None:
    elsewhere, where = await place(api, admin, "room"), await place(api, admin, kind, overlapsAllowed=allowed)
    await booked(api, user, elsewhere.wishes[0])
    await booked(api, user, where.wishes[0])


async def test_what_touches_does_not_overlap(api: Api, admin: Person, user: Person) -> None:
    elsewhere, where = await place(api, admin, "room"), await place(api, admin, "room", overlapsAllowed=False)
    await booked(api, user, elsewhere.wishes[1])
    await booked(api, user, where.wishes[0])
    await booked(api, user, where.wishes[2])
    assert code(await api.post("/bookings", user, json=where.wishes[1])) == "OVERLAPS_YOUR_BOOKING"


async def test_an_event_that_does_not_say_its_end_takes_its_first_instant(api: Api, admin: Person, user: Person) -> None:
    where = await place(api, admin, "room", overlapsAllowed=False)
    made = await api.post("/events", admin, json={"name": "Open end", "start": f"{tomorrow()}T10:30:00Z"})
    event = made.json()["event"]
    await api.post(f"/events/{event['id']}/seats", admin, json={"count": 1})
    await booked(api, user, {"eventId": event["id"], "quantity": 1})
    await booked(api, user, where.wishes[0])
    assert code(await api.post("/bookings", user, json=where.wishes[1])) == "OVERLAPS_YOUR_BOOKING"
    await booked(api, user, where.wishes[2])


async def test_a_gap_within_ones_booking_is_free_time(api: Api, admin: Person, user: Person) -> None:
    elsewhere, where = await place(api, admin, "room"), await place(api, admin, "room", overlapsAllowed=False)
    await booked(api, user, {"slotIds": [elsewhere.wishes[0]["slotId"], elsewhere.wishes[2]["slotId"]]})
    await booked(api, user, where.wishes[1])
    for number in (0, 2):
        assert code(await api.post("/bookings", user, json=where.wishes[number])) == "OVERLAPS_YOUR_BOOKING"


async def test_a_running_booking_overlaps_though_it_does_not_count(api: Api, admin: Person, user: Person) -> None:
    schedule = {**WINDOW, "startTime": "00:00", "endTime": "24:00", "slotMinutes": 1440}
    long = await api.room(admin, schedule)
    where = await place(api, admin, "room", overlapsAllowed=False, maxActivePerUser=1)
    booking = await booked(api, user, {"slotId": (await api.slots(user, long))[0]["id"]})
    assert code(await api.post("/bookings", user, json=where.wishes[0])) == "TOO_MANY_BOOKINGS"
    # It began an hour ago, and is under way until the end of its day.
    await api.db.fetch("UPDATE bookings SET start_at = clock_timestamp() - interval '1 hour' WHERE id = $1", booking["id"])
    assert code(await api.post("/bookings", user, json=where.wishes[0])) == "OVERLAPS_YOUR_BOOKING"


# How long something is kept


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [None, 1, 45, 604_800])
async def test_a_hold_is_kept_as_long_as_the_policy_says(
    seconds: int | None, kind: str, api: Api, admin: Person, user: Person
) -> None:
    policy: dict[str, Any] = {} if seconds is None else {"holdSeconds": seconds}
    where = await place(api, admin, kind, **policy)
    before = datetime.now(UTC)
    made = await api.post("/holds", user, json=where.wishes[0])
    assert made.status_code == 201, made.text
    kept = datetime.fromisoformat(made.json()["hold"]["expiresAt"])
    length = timedelta(seconds=300 if seconds is None else seconds)
    assert before + length - timedelta(seconds=1) <= kept <= datetime.now(UTC) + length + timedelta(seconds=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [None, 45])
async def test_an_offer_is_kept_as_long_as_the_policy_says(
    seconds: int | None, kind: str, api: Api, admin: Person, user: Person
) -> None:
    policy: dict[str, Any] = {"holdSeconds": 7, **({} if seconds is None else {"waitlistOfferSeconds": seconds})}
    where = await place(api, admin, kind, **policy)
    standing = [await booked(api, user, wish) for wish in (where.wishes if kind == "event" else where.wishes[:1])]
    waiter = await api.person()
    wish = where.wishes[0] if kind != "event" else {"eventId": where.wishes[0]["eventId"]}
    entry = await api.post("/waitlist", waiter, json=wish)
    assert entry.status_code == 201, entry.text
    before = datetime.now(UTC)
    await api.post(f"/bookings/{standing[0]['id']}/cancel", user)
    shown = (await api.get(f"/waitlist/{entry.json()['entry']['id']}", waiter)).json()["entry"]
    assert shown["status"] == "offered"
    length = timedelta(seconds=900 if seconds is None else seconds)
    kept = datetime.fromisoformat(shown["expiresAt"])
    assert before + length - timedelta(seconds=1) <= kept <= datetime.now(UTC) + length + timedelta(seconds=1)


# Several at once


async def test_several_rooms_are_booked_at_once_where_none_of_their_rules_minds(api: Api, admin: Person, user: Person) -> None:
    rooms = [await place(api, admin, "room", overlapsAllowed=False, maxActivePerUserHere=1) for _ in range(3)]
    wish = {"slotIds": [room.wishes[0]["slotId"] for room in rooms]}
    booking = await booked(api, user, wish)
    assert set(booking["slotIds"]) == set(wish["slotIds"])
    for room in rooms:
        # One booking, in each of the rooms.
        details = why(await api.post("/bookings", user, json=room.wishes[3]), 409, "ALREADY_BOOKED_HERE")
        assert details["value"] == 1
    other = await place(api, admin, "room", overlapsAllowed=False)
    assert why(await api.post("/bookings", user, json=other.wishes[0]), 409, "OVERLAPS_YOUR_BOOKING")["bookingIds"] == [
        booking["id"]
    ]
    assert (await api.post(f"/bookings/{booking['id']}/cancel", user)).status_code == 200
    await booked(api, user, rooms[1].wishes[3])


async def test_several_rooms_in_one_booking_count_as_one_over_all(api: Api, admin: Person, user: Person) -> None:
    rooms = [await place(api, admin, "room", maxActivePerUser=2) for _ in range(2)]
    for number in range(2):
        await booked(api, user, {"slotIds": [room.wishes[number]["slotId"] for room in rooms]})
    refused = await api.post("/bookings", user, json=rooms[0].wishes[3])
    assert why(refused, 409, "TOO_MANY_BOOKINGS")["value"] == 2


@pytest.mark.parametrize(
    ("policy", "status", "expected"),
    [
        ({"maxDaysAhead": 0}, 400, "TOO_FAR_AHEAD"),
        ({"minNoticeMinutes": 9 * DAY_MINUTES}, 400, "TOO_SOON"),
        ({"maxActivePerUserHere": 1}, 409, "ALREADY_BOOKED_HERE"),
        ({"maxActivePerUser": 1}, 409, "TOO_MANY_BOOKINGS"),
        ({"overlapsAllowed": False}, 409, "OVERLAPS_YOUR_BOOKING"),
    ],
)
async def test_of_several_rooms_each_ones_rules_bind(
    policy: dict[str, Any], status: int, expected: str, api: Api, admin: Person, user: Person
) -> None:
    plain, strict, third = await place(api, admin, "room"), await place(api, admin, "room"), await place(api, admin, "room")
    await booked(api, user, strict.wishes[4])
    await booked(api, user, third.wishes[0])
    await change(api, strict, **policy)
    for wish in ([plain, strict], [strict, plain]):
        refused = await api.post("/bookings", user, json={"slotIds": [one.wishes[0]["slotId"] for one in wish]})
        assert why(refused, status, expected)["rule"] == next(iter(policy))
    assert (await api.get("/bookings/my", user)).json()["bookings"][-1]["start"] == strict.starts[4]
    await booked(api, user, plain.wishes[0])


async def test_of_several_rooms_the_strictest_times_hold(api: Api, admin: Person, user: Person) -> None:
    one = await place(api, admin, "room", holdSeconds=600, cancelNoticeMinutes=10)
    two = await place(api, admin, "room", holdSeconds=30, cancelNoticeMinutes=5 * DAY_MINUTES)
    wish = {"slotIds": [room.wishes[0]["slotId"] for room in (one, two)]}
    hold = (await api.post("/holds", user, json=wish)).json()["hold"]
    assert datetime.fromisoformat(hold["expiresAt"]) <= datetime.now(UTC) + timedelta(seconds=31)
    booking = await booked(api, user, {"holdToken": hold["token"]})
    details = why(await api.post(f"/bookings/{booking['id']}/cancel", user), 400, "TOO_LATE_TO_CANCEL")
    assert details["value"] == 5 * DAY_MINUTES


async def test_a_room_and_a_host_are_booked_as_one_under_the_rules_of_both(api: Api, admin: Person, user: Person) -> None:
    room, host = await place(api, admin, "room"), await place(api, admin, "host", maxActivePerUserHere=1)
    wish = {"slotIds": [place_.wishes[0]["slotId"] for place_ in (room, host)]}
    booking = await booked(api, user, wish)
    assert len(booking["slotIds"]) == 2
    refused = await api.post("/bookings", user, json={"slotIds": [place_.wishes[1]["slotId"] for place_ in (room, host)]})
    assert why(refused, 409, "ALREADY_BOOKED_HERE")["rule"] == "maxActivePerUserHere"
    await booked(api, user, room.wishes[1])
    # A host does not book their own time, not even with a room beside it.
    own = await api.post("/bookings", host.owner, json={"slotIds": [room.wishes[2]["slotId"], host.wishes[2]["slotId"]]})
    assert why(own, 400, "OWN_SLOT") == {"rule": "ownerMayBook", "value": False}


# A host's defaults


async def test_a_hosts_defaults_are_one_here_five_in_all_and_an_hours_notice(api: Api, admin: Person, user: Person) -> None:
    defaults: dict[str, Any] = {"maxActivePerUser": 5, "maxActivePerUserHere": 1, "cancelNoticeMinutes": 60}
    hosts = [await place(api, admin, "host", **defaults) for _ in range(6)]
    bookings = []
    for number, host in enumerate(hosts[:5]):
        bookings.append(await booked(api, user, host.wishes[number]))
        assert code(await api.post("/bookings", user, json=host.wishes[(number + 1) % 5])) in {
            "ALREADY_BOOKED_HERE",
            "TOO_MANY_BOOKINGS",
        }
    details = why(await api.post("/bookings", user, json=hosts[5].wishes[0]), 409, "TOO_MANY_BOOKINGS")
    assert details == {"rule": "maxActivePerUser", "value": 5, "nextPossible": hosts[0].starts[0]}
    await shifted(api, bookings[0], "-9 days")
    await booked(api, user, hosts[5].wishes[0])
    soon = datetime.now(UTC) + timedelta(minutes=59)
    await api.db.fetch("UPDATE bookings SET start_at = $2 WHERE id = $1", bookings[1]["id"], soon)
    late = await api.post(f"/bookings/{bookings[1]['id']}/cancel", user)
    assert why(late, 400, "TOO_LATE_TO_CANCEL")["value"] == 60
    assert (await api.post(f"/bookings/{bookings[2]['id']}/cancel", user)).status_code == 200


# A person's own diary

DIARY: dict[str, Any] = {"ownerMayBook": True, "overlapsAllowed": False, **NO_DEFAULTS}


async def test_a_host_does_not_book_their_own_time_unless_they_may(api: Api, admin: Person) -> None:
    host = await place(api, admin, "host")
    details = await refused_both_ways(api, host.owner, host.wishes[0], 400, "OWN_SLOT")
    assert details == {"rule": "ownerMayBook", "value": False}
    await change(api, host, ownerMayBook=True)
    booking = await booked(api, host.owner, host.wishes[0])
    assert (booking["userId"], booking["kind"]) == (str(host.owner.id), "host")
    await change(api, host, ownerMayBook=False)
    moving = await api.post(f"/bookings/{booking['id']}/reschedule", host.owner, json=host.wishes[1])
    assert why(moving, 400, "OWN_SLOT")["rule"] == "ownerMayBook"
    await booked(api, await api.person(), host.wishes[1])


async def test_ones_own_diary_is_kept_by_booking_ones_own_time(api: Api, admin: Person, user: Person) -> None:
    made = await api.post("/hosts", user, json={"displayName": "Ada", "policy": DIARY})
    path = f"/hosts/{made.json()['host']['id']}"
    put = await api.send("PUT", f"{path}/schedule", user, json=WINDOW)
    assert put.status_code == 200, put.text
    slots = (await api.get(f"{path}/slots", user, params={"date": tomorrow()})).json()["slots"]
    first = await booked(api, user, {"slotId": slots[0]["id"], "title": "Dentist"})
    await booked(api, user, {"slotId": slots[1]["id"], "title": "Tax"})
    assert [one["title"] for one in (await api.get("/bookings/my", user)).json()["bookings"]] == ["Dentist", "Tax"]
    for who in (user, await api.person()):
        again = await api.post("/bookings", who, json={"slotId": slots[0]["id"]})
        assert why(again, 409, "SLOT_ALREADY_BOOKED")["rule"] == "taken"
    # A published slot across the same time is no way around.
    across = {"start": slots[0]["start"], "end": slots[1]["end"]}
    published = await api.post("/slots", user, json=across)
    if published.status_code == 201:
        twice = await api.post("/bookings", user, json={"slotId": published.json()["slot"]["id"]})
        assert (twice.status_code, code(twice)) == (409, "SLOT_ALREADY_BOOKED")
    moved = await api.post(f"/bookings/{first['id']}/reschedule", user, json={"slotId": slots[4]["id"]})
    assert moved.status_code == 200, moved.text
    assert (await api.send("DELETE", f"/bookings/{first['id']}", user)).status_code == 200


@pytest.mark.parametrize("kind", ["room", "event", "host"])
async def test_in_ones_own_diary_one_is_never_twice_at_once(kind: str, api: Api, admin: Person) -> None:
    diary, elsewhere = await place(api, admin, "host", **DIARY), await place(api, admin, kind)
    there = await booked(api, diary.owner, elsewhere.wishes[0])
    details = await refused_both_ways(api, diary.owner, diary.wishes[0], 409, "OVERLAPS_YOUR_BOOKING")
    assert details["bookingIds"] == [there["id"]]
    free = await booked(api, diary.owner, diary.wishes[1])
    moving = await api.post(f"/bookings/{free['id']}/reschedule", diary.owner, json=diary.wishes[0])
    assert why(moving, 409, "OVERLAPS_YOUR_BOOKING")["rule"] == "overlapsAllowed"


async def test_own_time_and_a_strict_room_at_once_are_one_booking(api: Api, admin: Person) -> None:
    diary = await place(api, admin, "host", **DIARY)
    rooms = [await place(api, admin, "room", overlapsAllowed=False) for _ in range(4)]
    wishes = [diary.wishes[0], *(room.wishes[0] for room in rooms)]
    answers = await asyncio.gather(*(api.post("/bookings", diary.owner, json=wish) for wish in wishes))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 4]
    assert {code(answer) for answer in answers if answer.status_code == 409} == {"OVERLAPS_YOUR_BOOKING"}


async def test_guests_of_a_diary_are_bound_by_it_too(api: Api, admin: Person, user: Person) -> None:
    diary, elsewhere = await place(api, admin, "host", **DIARY), await place(api, admin, "room")
    await booked(api, user, elsewhere.wishes[0])
    refused = await api.post("/bookings", user, json=diary.wishes[0])
    assert why(refused, 409, "OVERLAPS_YOUR_BOOKING")["value"] is False
    await booked(api, user, diary.wishes[1])
    taken = await api.post("/bookings", diary.owner, json=diary.wishes[1])
    assert why(taken, 409, "SLOT_ALREADY_BOOKED")["rule"] == "taken"


# Which of several reasons is told


async def test_of_several_reasons_that_of_the_slot_comes_before_that_of_the_user(api: Api, admin: Person, user: Person) -> None:
    where = await place(api, admin, "room", maxDaysAhead=0, maxActivePerUserHere=1)
    await booked(api, await api.person(), (await place(api, admin, "room")).wishes[0])
    # Too far ahead for anybody comes before what one has oneself.
    assert code(await api.post("/bookings", user, json=where.wishes[0])) == "TOO_FAR_AHEAD"
    await change(api, where, maxDaysAhead=None)
    await booked(api, await api.person(), where.wishes[0])
    await booked(api, user, where.wishes[1])
    # Taken comes before over the limit: another slot would be refused for the other reason.
    assert code(await api.post("/bookings", user, json=where.wishes[0])) == "SLOT_ALREADY_BOOKED"
    assert code(await api.post("/bookings", user, json=where.wishes[2])) == "ALREADY_BOOKED_HERE"
