"""Series over the API: what a rule comes to, the preview that says so, and cancelling or moving one, the following, all.

Where the occurrences are is worked out here by walking the calendar, not by the library that the service uses. Every form of
a rule is tried in `tests/rules/test_recurrence.py`; here it is what becomes of them.
"""

import asyncio
import calendar
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.core.clock import instant_text
from holdfast.core.ids import new_id
from support.api import WINDOW, Api, Person, code, tomorrow

BERLIN = "Europe/Berlin"
ALL_DAY = {**WINDOW, "startTime": "00:00", "endTime": "24:00"}
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def wanted(room: dict[str, Any], rule: str, start: str = "10:00", end: str = "11:00", **fields: Any) -> dict[str, Any]:
    """A series in a room, from tomorrow on, or from the date that `day` names."""
    day = fields.pop("day", tomorrow())
    return {
        "roomId": room["id"],
        "start": f"{day}T{start}:00Z",
        "end": f"{day}T{end}:00Z",
        "recurrence": rule,
        **fields,
    }


async def made(api: Api, who: Person, body: dict[str, Any]) -> dict[str, Any]:
    """A series with its bookings and what was skipped, which must be had."""
    answer = await api.post("/bookings/series", who, json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def previewed(api: Api, who: Person, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await api.post("/bookings/series/preview", who, json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["occurrences"]
    return found


async def mine(api: Api, who: Person, status: str = "active") -> list[dict[str, Any]]:
    """The user's bookings that are ahead, soonest first."""
    answer = await api.get("/bookings/my", who, params={"status": status})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["bookings"]
    return found


async def closed(api: Api, admin: Person, room: dict[str, Any], start: str, end: str) -> None:
    answer = await api.post(f"/rooms/{room['id']}/closures", admin, json={"start": start, "end": end})
    assert answer.status_code == 201, answer.text


async def lapse(api: Api, token: str) -> None:
    """Time cannot be waited for: the hold's end is moved to just now, where it is stored."""
    await api.db.fetch("UPDATE holds SET expires_at = clock_timestamp() WHERE id = $1", token)
    await api.db.fetch("UPDATE claims SET expires_at = clock_timestamp() WHERE hold_id = $1", token)


def starts(shapes: Sequence[dict[str, Any]]) -> list[str]:
    return [one["start"] for one in shapes]


def at(day: int, clock: str = "10:00") -> str:
    """A time of the day that is so many days ahead, in UTC."""
    return f"{tomorrow(day)}T{clock}:00Z"


def on_the_clock(instant: str, zone: str) -> str:
    """Date and time that a zone's clock shows."""
    return datetime.fromisoformat(instant).astimezone(ZoneInfo(zone)).isoformat()[:16]


def clock_change(zone: str, *, forwards: bool) -> date:
    """The next date but a few on which the zone's clock jumps in that direction: an hour is missing, or repeated."""
    day = datetime.now(UTC).date() + timedelta(days=5)
    while True:
        before, after = (
            datetime(one.year, one.month, one.day, tzinfo=ZoneInfo(zone)).utcoffset() or timedelta(0)
            for one in (day, day + timedelta(days=1))
        )
        if before != after and (after > before) is forwards:
            return day
        day += timedelta(days=1)


# What a rule comes to


async def test_a_series_is_a_booking_for_each_occurrence(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    body = wanted(room, "FREQ=DAILY;COUNT=3", title="Stand-up", notes="bring tea")
    answer = await api.post("/bookings/series", user, json=body)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    series = shown["series"]
    assert answer.headers["location"] == f"/series/{series['id']}"
    assert {name: series[name] for name in ("userId", "roomId", "recurrence", "start", "end")} == {
        "userId": str(user.id),
        "roomId": room["id"],
        "recurrence": "FREQ=DAILY;COUNT=3",
        "start": body["start"],
        "end": body["end"],
    }
    assert shown["skipped"] == []
    bookings = shown["bookings"]
    assert [(one["start"], one["end"]) for one in bookings] == [(at(day), at(day, "11:00")) for day in (1, 2, 3)]
    assert {(one["title"], one["notes"], one["seriesId"], one["status"]) for one in bookings} == {
        ("Stand-up", "bring tea", series["id"], "active")
    }
    assert [len(one["slotIds"]) for one in bookings] == [2, 2, 2]
    assert len({one["id"] for one in bookings}) == 3
    assert await mine(api, user) == bookings
    assert (await api.get(f"/bookings/{bookings[1]['id']}", user)).json() == {"booking": bookings[1]}
    assert (await api.get(f"/series/{series['id']}", user)).json() == {"series": series, "bookings": bookings, "skipped": []}
    for day in (1, 2, 3):
        free = {slot["start"] for slot in await api.slots(user, room, tomorrow(day))}
        assert len(free) == 14
        assert not free & {at(day), at(day, "10:30")}


async def test_a_booking_by_itself_is_of_no_series(api: Api, admin: Person, user: Person) -> None:
    (slot, *_) = await api.slots(user, await api.room(admin))
    assert (await api.booked(user, slot))["seriesId"] is None


def walked(day: date, step: int = 1) -> Iterator[date]:
    """Date after date."""
    while True:
        yield day
        day += timedelta(days=step)


def first_of(weekday: int) -> date:
    """The first date ahead that is this weekday, Monday being 0."""
    return next(day for day in walked(date.fromisoformat(tomorrow())) if day.weekday() == weekday)


def months(first: date) -> Iterator[tuple[int, int]]:
    """Year and month, from that of the date on."""
    year, month = first.year, first.month
    while True:
        yield year, month
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def mondays_and_thursdays(first: date) -> list[date]:
    return list(islice((day for day in walked(first) if day.weekday() in {0, 3}), 5))


def every_other_week(first: date) -> list[date]:
    return list(islice(walked(first, 14), 4))


def last_fridays(first: date) -> list[date]:
    found = []
    for year, month in months(first):
        days = [date(year, month, day) for day in range(1, calendar.monthrange(year, month)[1] + 1)]
        last = [day for day in days if day.weekday() == 4][-1]
        if last >= first:
            found.append(last)
        if len(found) == 3:
            return found
    raise AssertionError


def fifteenths(first: date) -> list[date]:
    return [date(year, month, 15) for year, month in islice(months(first), 4)]


@pytest.mark.parametrize(
    ("rule", "first", "by_hand"),
    [
        ("FREQ=DAILY;INTERVAL=3;COUNT=4", date.fromisoformat(tomorrow()), lambda first: list(islice(walked(first, 3), 4))),
        ("FREQ=WEEKLY;BYDAY=MO,TH;COUNT=5", first_of(0), mondays_and_thursdays),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=4", date.fromisoformat(tomorrow(2)), every_other_week),
        ("FREQ=MONTHLY;BYDAY=-1FR;COUNT=3", last_fridays(date.fromisoformat(tomorrow()))[0], last_fridays),
        (
            "FREQ=MONTHLY;BYMONTHDAY=15;COUNT=4",
            next(d for d in walked(date.fromisoformat(tomorrow())) if d.day == 15),
            fifteenths,
        ),
        ("RRULE:FREQ=DAILY;COUNT=1", date.fromisoformat(tomorrow()), lambda first: [first]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_every_form_of_a_rule_is_booked_on_its_dates(
    rule: str, first: date, by_hand: Any, api: Api, admin: Person, user: Person
) -> None:
    body = wanted(await api.room(admin), rule, day=first.isoformat())
    expected = [f"{day.isoformat()}T10:00:00Z" for day in by_hand(first)]
    assert starts(await previewed(api, user, body)) == expected
    assert starts((await made(api, user, body))["bookings"]) == expected


@pytest.mark.parametrize(
    ("until", "days"),
    [("{3}T100000Z", 3), ("{3}T095959Z", 2), ("{3}", 3), ("{3}T100000", 3), ("{1}", 1), ("{4}T235959Z", 4)],
)
async def test_until_includes_what_begins_then(until: str, days: int, api: Api, admin: Person, user: Person) -> None:
    dates = [tomorrow(day).replace("-", "") for day in range(5)]
    body = wanted(await api.room(admin), f"FREQ=DAILY;UNTIL={until.format(*dates)}")
    assert starts((await made(api, user, body))["bookings"]) == [at(day) for day in range(1, days + 1)]


async def test_a_year_of_days_is_the_longest_series(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=366", end="10:30"))
    assert starts(series["bookings"]) == [at(day) for day in range(1, 367)]
    cancelled = await api.post(f"/series/{series['series']['id']}/cancel", user, json={})
    assert (cancelled.status_code, len(cancelled.json()["bookings"])) == (200, 366)
    assert await mine(api, user) == []


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;COUNT=367",
        "FREQ=DAILY",
        "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU",
        f"FREQ=DAILY;UNTIL={int(tomorrow()[:4]) + 2}0131T000000Z",
        "FREQ=DAILY;COUNT=999999999",
    ],
)
async def test_endless_and_too_long_series_are_refused_with_the_limit(rule: str, api: Api, admin: Person, user: Person) -> None:
    body = wanted(await api.room(admin), rule)
    for path in ("/bookings/series", "/bookings/series/preview"):
        refused = await api.post(path, user, json=body)
        assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")
        details = refused.json()["error"]["details"]
        assert (details["rule"], details["value"]) == ("maxOccurrences", 366)
    assert await mine(api, user) == []


@pytest.mark.parametrize(
    "rule",
    [
        "every Monday",
        "FREQ=",
        "FREQ=FORTNIGHTLY;COUNT=3",
        "FREQ=HOURLY;COUNT=3",
        "COUNT=3",
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;COUNT=-1",
        "FREQ=DAILY;COUNT=3;UNTIL=20400101",
        "FREQ=DAILY;COUNT=3;COUNT=4",
        "FREQ=DAILY;COUNT=3;INTERVAL=0",
        "FREQ=DAILY;COUNT=3;BYDAY=XX",
        "FREQ=WEEKLY;COUNT=3;BYDAY=2MO",
        "FREQ=MONTHLY;COUNT=3;BYMONTHDAY=32",
        "FREQ=DAILY;COUNT=3;EXDATE=20300101T100000Z",
        "EXDATE:20300101T100000Z",
        "FREQ=DAILY;COUNT=3\nEXDATE:20300101T100000Z",
        "FREQ=DAILY;COUNT=٣",
        "FREQ=DAILY;UNTIL=20300231",
        "FREQ=DAILY;UNTIL=20000101",
    ],
)
async def test_what_is_no_rule_is_refused_and_the_field_is_named(rule: str, api: Api, admin: Person, user: Person) -> None:
    body = wanted(await api.room(admin), rule)
    for path in ("/bookings/series", "/bookings/series/preview"):
        refused = await api.post(path, user, json=body)
        assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")
        assert refused.json()["error"]["details"]["field"] == "recurrence"
    assert await mine(api, user) == []


async def test_the_first_occurrence_must_be_one_of_the_rule(api: Api, admin: Person, user: Person) -> None:
    other = WEEKDAYS[(date.fromisoformat(tomorrow()).weekday() + 1) % 7]
    refused = await api.post("/bookings/series", user, json=wanted(await api.room(admin), f"FREQ=WEEKLY;COUNT=2;BYDAY={other}"))
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "change",
    [
        {"end": at(1)},
        {"end": at(1, "09:30")},
        {"end": at(40)},
        {"start": tomorrow()},
        {"start": 5},
        {"recurrence": None},
        {"recurrence": ["FREQ=DAILY;COUNT=3"]},
        {"recurrence": " "},
        {"recurrence": "FREQ=DAILY;COUNT=3;BYDAY=" + "MO," * 300 + "MO"},
        {"roomId": "room"},
        {"roomId": None},
        {"title": "x" * 201},
    ],
    ids=str,
)
async def test_a_series_without_sense_is_refused(change: dict[str, Any], api: Api, admin: Person, user: Person) -> None:
    body = wanted(await api.room(admin), "FREQ=DAILY;COUNT=3") | change
    for path in ("/bookings/series", "/bookings/series/preview"):
        refused = await api.post(path, user, json=body)
        assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_on_conflict_is_fail_or_skip(api: Api, admin: Person, user: Person) -> None:
    body = wanted(await api.room(admin), "FREQ=DAILY;COUNT=3")
    for wrong in ("maybe", "FAIL", None, 1):
        refused = await api.post("/bookings/series", user, json={**body, "onConflict": wrong})
        assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


# The wall clock


@pytest.mark.parametrize("forwards", [True, False], ids=["spring", "autumn"])
async def test_nine_stays_nine_across_a_clock_change(forwards: bool, api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, timeZone=BERLIN)
    change = clock_change(BERLIN, forwards=forwards)
    assert change.month == (3 if forwards else 10)
    first = datetime(change.year, change.month, change.day, 9, tzinfo=ZoneInfo(BERLIN)) - timedelta(days=7)
    body = {
        "roomId": room["id"],
        "start": instant_text(first.astimezone(UTC)),
        "end": instant_text(first.astimezone(UTC) + timedelta(hours=2)),
        "recurrence": "FREQ=WEEKLY;COUNT=3",
    }
    bookings = (await made(api, user, body))["bookings"]
    assert [on_the_clock(one["start"], BERLIN)[11:] for one in bookings] == ["09:00"] * 3
    assert [on_the_clock(one["end"], BERLIN)[11:] for one in bookings] == ["11:00"] * 3
    # In UTC, summer's nine is seven and winter's is eight; the change itself is a Sunday.
    assert [one["start"][11:13] for one in bookings] == (["08", "07", "07"] if forwards else ["07", "08", "08"])


async def test_a_time_that_a_clock_change_skips_is_right_after_the_gap(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, ALL_DAY, timeZone=BERLIN)
    change = clock_change(BERLIN, forwards=True)
    before = (change - timedelta(days=1)).isoformat()
    # 02:30 in winter is 01:30 in UTC, and in summer 00:30; on the day itself the clock goes from 02:00 to 03:00.
    body = wanted(room, "FREQ=DAILY;COUNT=3", "01:30", "02:00", day=before)
    after = (change + timedelta(days=1)).isoformat()
    expected = [f"{before}T01:30:00Z", f"{change.isoformat()}T01:00:00Z", f"{after}T00:30:00Z"]
    assert starts(await previewed(api, user, body)) == expected
    bookings = (await made(api, user, body))["bookings"]
    assert starts(bookings) == expected
    assert [on_the_clock(one["start"], BERLIN)[11:] for one in bookings] == ["02:30", "03:00", "02:30"]
    assert [len(one["slotIds"]) for one in bookings] == [1, 1, 1]


async def test_a_time_that_a_clock_change_repeats_is_its_first_occurrence(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, ALL_DAY, timeZone=BERLIN)
    change = clock_change(BERLIN, forwards=False)
    before, after = (change - timedelta(days=1)).isoformat(), (change + timedelta(days=1)).isoformat()
    bookings = (await made(api, user, wanted(room, "FREQ=DAILY;COUNT=3", "00:30", "01:00", day=before)))["bookings"]
    assert starts(bookings) == [f"{before}T00:30:00Z", f"{change.isoformat()}T00:30:00Z", f"{after}T01:30:00Z"]
    assert [on_the_clock(one["start"], BERLIN)[11:] for one in bookings] == ["02:30"] * 3
    # It ends at three, as on every day, which is an hour later on that night.
    assert [on_the_clock(one["end"], BERLIN)[11:] for one in bookings] == ["03:00"] * 3
    assert [len(one["slotIds"]) for one in bookings] == [1, 3, 1]


async def test_the_zone_is_the_rooms_wherever_the_caller_is(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, ALL_DAY, timeZone="Asia/Tokyo")
    # Tomorrow 22:00 in UTC is the day after in Tokyo: its weekday counts.
    day = date.fromisoformat(tomorrow()) + timedelta(days=1)
    body = wanted(room, f"FREQ=WEEKLY;COUNT=2;BYDAY={WEEKDAYS[day.weekday()]}", "22:00", "22:30")
    assert starts((await made(api, user, body))["bookings"]) == [at(1, "22:00"), at(8, "22:00")]


# What stands in the way


async def test_a_conflict_refuses_the_whole_series_and_lists_every_one(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    other = await api.person()
    await api.booked(other, (await api.slots(other, room, tomorrow(2)))[3])
    await closed(api, admin, room, at(4, "09:00"), at(4, "17:00"))
    body = wanted(room, "FREQ=DAILY;COUNT=5")
    preview = await previewed(api, user, body)
    assert [one["status"] for one in preview] == ["free", "conflict", "free", "conflict", "free"]
    refused = await api.post("/bookings/series", user, json=body)
    assert (refused.status_code, code(refused)) == (409, "SERIES_CONFLICT")
    conflicts = refused.json()["error"]["details"]["conflicts"]
    assert conflicts == [one for one in preview if one["status"] == "conflict"]
    assert [(one["start"], one["reason"]["code"]) for one in conflicts] == [(at(2), "SLOT_ALREADY_BOOKED"), (at(4), "CLOSED")]
    assert conflicts[0]["reason"]["details"]["rule"] == "taken"
    assert conflicts[1]["reason"]["details"]["closedUntil"] == at(4, "17:00")
    assert await mine(api, user) == []
    assert await api.db.fetch("SELECT id FROM series") == []
    assert len(await api.slots(user, room, tomorrow(1))) == 16


async def test_skipping_books_the_rest_and_says_what_was_left_out(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    other = await api.person()
    await api.booked(other, (await api.slots(other, room, tomorrow(2)))[3])
    body = wanted(room, "FREQ=DAILY;COUNT=3", onConflict="skip")
    preview = await previewed(api, user, body)
    series = await made(api, user, body)
    assert starts(series["bookings"]) == [at(1), at(3)]
    assert series["skipped"] == [preview[1]]
    assert [one["start"] for one in await mine(api, other)] == [at(2, "10:30")]
    # A series does not remember what it could not have.
    assert (await api.get(f"/series/{series['series']['id']}", user)).json()["bookings"] == series["bookings"]


async def test_a_series_of_which_nothing_can_be_had_is_no_series(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    await closed(api, admin, room, at(1, "00:00"), at(4, "00:00"))
    refused = await api.post("/bookings/series", user, json=wanted(room, "FREQ=DAILY;COUNT=3", onConflict="skip"))
    assert (refused.status_code, code(refused)) == (409, "SERIES_CONFLICT")
    assert starts(refused.json()["error"]["details"]["conflicts"]) == [at(1), at(2), at(3)]
    assert await api.db.fetch("SELECT id FROM series") == []


async def test_every_occurrence_must_fit_the_schedule(api: Api, admin: Person, user: Person) -> None:
    days = [date.fromisoformat(tomorrow(day)).isoweekday() for day in (1, 3)]
    room = await api.room(admin, {**WINDOW, "daysOfWeek": days})
    body = wanted(room, "FREQ=DAILY;COUNT=3")
    refused = await api.post("/bookings/series", user, json=body)
    assert (refused.status_code, code(refused)) == (409, "SERIES_CONFLICT")
    (conflict,) = refused.json()["error"]["details"]["conflicts"]
    assert (conflict["start"], conflict["reason"]["code"]) == (at(2), "OUTSIDE_SCHEDULE")
    assert starts((await made(api, user, {**body, "onConflict": "skip"}))["bookings"]) == [at(1), at(3)]


async def test_what_has_begun_is_left_out(api: Api, admin: Person, user: Person) -> None:
    body = wanted(await api.room(admin), "FREQ=DAILY;INTERVAL=4;COUNT=3", day=tomorrow(-3))
    refused = await api.post("/bookings/series", user, json=body)
    assert (refused.status_code, code(refused)) == (409, "SERIES_CONFLICT")
    (conflict,) = refused.json()["error"]["details"]["conflicts"]
    assert (conflict["start"], conflict["reason"]["code"], conflict["reason"]["details"]["rule"]) == (
        at(-3),
        "INVALID_REQUEST",
        "past",
    )
    assert starts((await made(api, user, {**body, "onConflict": "skip"}))["bookings"]) == [at(1), at(5)]


async def test_the_policys_times_bind_every_occurrence(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={"maxDaysAhead": 4, "minNoticeMinutes": 3 * 24 * 60})
    body = wanted(room, "FREQ=DAILY;COUNT=6", "16:30", "17:00", day=tomorrow(0))
    reasons = [one.get("reason", {}).get("code") for one in await previewed(api, user, body)]
    assert reasons[0] in {"INVALID_REQUEST", "TOO_SOON"}  # today's may have begun
    # In three days, half past four is three days ahead until half past four.
    assert reasons[1:3] == ["TOO_SOON", "TOO_SOON"]
    assert reasons[4:] == [None, "TOO_FAR_AHEAD"]
    skipping = await made(api, user, {**body, "onConflict": "skip"})
    assert at(4, "16:30") in starts(skipping["bookings"])
    refused = await api.post("/bookings/series", await api.person(), json=body)
    far = refused.json()["error"]["details"]["conflicts"][-1]["reason"]
    assert (far["details"]["rule"], far["details"]["value"]) == ("maxDaysAhead", 4)
    assert far["details"]["bookableFrom"] == tomorrow(1)


@pytest.mark.parametrize(
    ("rule", "expected"), [("maxActivePerUserHere", "ALREADY_BOOKED_HERE"), ("maxActivePerUser", "TOO_MANY_BOOKINGS")]
)
async def test_limits_count_over_the_whole_series(rule: str, expected: str, api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={rule: 3})
    await api.booked(user, (await api.slots(user, room, tomorrow(9)))[0])
    body = wanted(room, "FREQ=DAILY;COUNT=4")
    refused = await api.post("/bookings/series", user, json=body)
    assert (refused.status_code, code(refused)) == (409, "SERIES_CONFLICT")
    conflicts = refused.json()["error"]["details"]["conflicts"]
    assert [(one["start"], one["reason"]["code"]) for one in conflicts] == [(at(3), expected), (at(4), expected)]
    assert {(one["reason"]["details"]["rule"], one["reason"]["details"]["value"]) for one in conflicts} == {(rule, 3)}
    assert conflicts == [one for one in await previewed(api, user, body) if one["status"] == "conflict"]
    assert starts((await made(api, user, {**body, "onConflict": "skip"}))["bookings"]) == [at(1), at(2)]
    fuller = await api.book(user, (await api.slots(user, room, tomorrow(7)))[0])
    assert (fuller.status_code, code(fuller)) == (409, expected)
    assert len(await mine(api, user)) == 3


async def test_another_booking_at_that_time_is_in_the_way_where_the_policy_minds(api: Api, admin: Person, user: Person) -> None:
    elsewhere, room = await api.room(admin), await api.room(admin, policy={"overlapsAllowed": False})
    there = await api.booked(user, (await api.slots(user, elsewhere, tomorrow(2)))[3])
    body = wanted(room, "FREQ=DAILY;COUNT=3")
    refused = await api.post("/bookings/series", user, json=body)
    (conflict,) = refused.json()["error"]["details"]["conflicts"]
    assert (conflict["start"], conflict["reason"]["code"]) == (at(2), "OVERLAPS_YOUR_BOOKING")
    assert conflict["reason"]["details"]["bookingIds"] == [there["id"]]
    assert [one["status"] for one in await previewed(api, user, body)] == ["free", "conflict", "free"]


async def test_reasons_of_a_series_come_without_alternatives(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    other = await api.person()
    await api.booked(other, (await api.slots(other, room))[2])
    (alone,) = await previewed(api, user, wanted(room, "FREQ=DAILY;COUNT=1"))
    assert "alternatives" not in alone["reason"]["details"]
    assert alone["reason"]["message"]


async def test_a_preview_books_nothing_and_is_for_everybody(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={"maxActivePerUserHere": 2})
    body = wanted(room, "FREQ=DAILY;COUNT=2")
    for who in (user, user, await api.person()):
        assert [one["status"] for one in await previewed(api, who, body)] == ["free", "free"]
    rows = await api.db.fetch(
        "SELECT (SELECT count(*) FROM claims) + (SELECT count(*) FROM series) + (SELECT count(*) FROM bookings) AS rows"
    )
    assert rows[0]["rows"] == 0


async def test_a_live_hold_is_a_conflict_and_a_lapsed_one_is_not(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slot = (await api.slots(user, room, tomorrow(2)))[2]
    hold = (await api.post("/holds", await api.person(), json={"slotId": slot["id"]})).json()["hold"]
    body = wanted(room, "FREQ=DAILY;COUNT=3")
    assert [one["status"] for one in await previewed(api, user, body)] == ["free", "conflict", "free"]
    assert (await api.post("/bookings/series", user, json=body)).status_code == 409
    await lapse(api, hold["token"])
    assert [one["status"] for one in await previewed(api, user, body)] == ["free", "free", "free"]
    assert len((await made(api, user, body))["bookings"]) == 3


async def test_what_somebody_waits_for_is_not_the_series_to_take(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slot = (await api.slots(user, room, tomorrow(2)))[2]
    hold = (await api.post("/holds", await api.person(), json={"slotId": slot["id"]})).json()["hold"]
    waiter = await api.person()
    waiting = await api.post("/waitlist", waiter, json={"slotId": slot["id"], "autoBook": True})
    assert waiting.status_code == 201, waiting.text
    await lapse(api, hold["token"])
    body = wanted(room, "FREQ=DAILY;COUNT=3", onConflict="skip")
    series = await made(api, user, body)
    assert starts(series["bookings"]) == [at(1), at(3)]
    assert series["skipped"][0]["reason"]["code"] == "SLOT_ALREADY_BOOKED"
    assert starts(await mine(api, waiter)) == [at(2)]


async def test_the_preview_knows_of_those_who_wait(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slot = (await api.slots(user, room, tomorrow(2)))[2]
    hold = (await api.post("/holds", await api.person(), json={"slotId": slot["id"]})).json()["hold"]
    assert (await api.post("/waitlist", await api.person(), json={"slotId": slot["id"]})).status_code == 201
    await lapse(api, hold["token"])
    body = wanted(room, "FREQ=DAILY;COUNT=3", onConflict="skip")
    preview = await previewed(api, user, body)
    series = await made(api, user, body)
    assert starts([one for one in preview if one["status"] == "free"]) == starts(series["bookings"])


async def test_an_unknown_an_archived_and_a_hosts_room_is_404(api: Api, admin: Person, user: Person) -> None:
    archived = await api.room(admin)
    assert (await api.send("DELETE", f"/rooms/{archived['id']}", admin)).status_code == 204
    host = (await api.post("/hosts", await api.person(), json={"displayName": "Ada"})).json()["host"]
    for room in (archived, host, {"id": str(new_id())}):
        for path in ("/bookings/series", "/bookings/series/preview"):
            refused = await api.post(path, user, json=wanted(room, "FREQ=DAILY;COUNT=2"))
            assert (refused.status_code, code(refused)) == (404, "ROOM_NOT_FOUND")


async def test_of_equal_series_at_once_one_is_made(api: Api, admin: Person) -> None:
    room = await api.room(admin)
    people = await api.people(6)
    body = wanted(room, "FREQ=DAILY;COUNT=5")
    answers = await asyncio.gather(*(api.post("/bookings/series", who, json=body) for who in people))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
    losers = [answer for answer in answers if answer.status_code == 409]
    assert {code(answer) for answer in losers} == {"SERIES_CONFLICT"}
    assert {len(answer.json()["error"]["details"]["conflicts"]) for answer in losers} == {5}
    rows = await api.db.fetch("SELECT (SELECT count(*) FROM series) AS series, (SELECT count(*) FROM bookings) AS bookings")
    assert (rows[0]["series"], rows[0]["bookings"]) == (1, 5)


# The preview equals the result: random rooms, rules, and things in the way


@dataclass(frozen=True)
class Case:
    """A room, what is in the way there, and a rule with the dates that it has, worked out by walking the calendar."""

    zone: str
    weekdays: frozenset[int]
    policy: dict[str, Any]
    rule: str
    dates: tuple[date, ...]
    hour: int
    half_hours: int
    taken: frozenset[int]
    closed: frozenset[int]
    own: frozenset[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    first = date.fromisoformat(tomorrow(draw(st.integers(2, 60))))
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY"]))
    interval, count = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    rule = f"FREQ={frequency};INTERVAL={interval};COUNT={count}"
    if frequency == "DAILY":
        dates = list(islice(walked(first, interval), count))
    elif frequency == "WEEKLY":
        days = draw(st.frozensets(st.integers(0, 6), max_size=3)) | {first.weekday()}
        rule += ";BYDAY=" + ",".join(WEEKDAYS[day] for day in sorted(days))
        monday = first - timedelta(days=first.weekday())
        fitting = (day for day in walked(first) if day.weekday() in days and (day - monday).days // 7 % interval == 0)
        dates = list(islice(fitting, count))
    else:
        fitting_months = (pair for number, pair in enumerate(months(first)) if number % interval == 0)
        with_the_day = (pair for pair in fitting_months if first.day <= calendar.monthrange(*pair)[1])
        dates = [date(year, month, first.day) for year, month in islice(with_the_day, count)]
    some = st.frozensets(st.integers(0, 7), max_size=3)
    policy: dict[str, Any] = draw(
        st.sampled_from(
            [
                {},
                {"maxActivePerUserHere": draw(st.integers(1, 6))},
                {"maxDaysAhead": draw(st.integers(5, 90))},
                {"overlapsAllowed": False},
            ]
        )
    )
    return Case(
        zone=draw(st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])),
        weekdays=draw(st.sampled_from([frozenset(range(7))]) | st.frozensets(st.integers(0, 6), min_size=3)),
        policy=policy,
        rule=rule,
        dates=tuple(dates),
        hour=draw(st.integers(8, 11)),
        half_hours=draw(st.integers(1, 4)),
        taken=draw(some),
        closed=draw(some),
        own=draw(some),
    )


def expected_statuses(case: Case, periods: Sequence[tuple[datetime, datetime]]) -> list[str]:
    """Which occurrences are free, by the plain words of the rules. The room is open from eight to twelve."""
    found: list[str] = []
    today = datetime.now(UTC).astimezone(ZoneInfo(case.zone)).date()
    for number, (day, _) in enumerate(zip(case.dates, periods, strict=True)):
        is_open = day.weekday() in case.weekdays and case.hour * 2 + case.half_hours <= 24
        near = (day - today).days <= case.policy.get("maxDaysAhead", 1_000_000)
        obstructed = number in case.taken | case.closed or ("overlapsAllowed" in case.policy and number in case.own)
        room_left = found.count("free") < case.policy.get("maxActivePerUserHere", 1_000_000)
        found.append("free" if is_open and near and not obstructed and room_left else "conflict")
    return found


async def _obstructed(api: Api, admin: Person, user: Person, case: Case, periods: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The case's room with a booking, a closure, or the user's own booking elsewhere, at some of the periods."""
    other, elsewhere = await api.person(), await api.room(admin, ALL_DAY, timeZone=case.zone)
    room = await api.room(admin, ALL_DAY, timeZone=case.zone)
    for number, (start, end) in enumerate(periods):
        body = {"start": start, "end": end}
        if number in case.taken:
            answer = await api.post("/bookings", other, json={"roomId": room["id"], **body})
            assert answer.status_code == 201, answer.text
        elif number in case.closed:
            await closed(api, admin, room, start, end)
        if number in case.own:
            answer = await api.post("/bookings", user, json={"roomId": elsewhere["id"], **body})
            assert answer.status_code == 201, answer.text
    windows = {"daysOfWeek": [day + 1 for day in case.weekdays], "startTime": "08:00", "endTime": "12:00"}
    put = await api.send("PUT", f"/rooms/{room['id']}/schedule", admin, json=windows)
    assert put.status_code == 200, put.text
    patched = await api.send("PATCH", f"/rooms/{room['id']}", admin, json={"policy": case.policy})
    assert patched.status_code == 200, patched.text
    return room


@given(case=cases())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_the_preview_equals_what_is_booked(case: Case, api: Api, admin: Person) -> None:
    user, zone = await api.person(), ZoneInfo(case.zone)
    length = timedelta(minutes=30 * case.half_hours)
    begins = [datetime(day.year, day.month, day.day, case.hour, tzinfo=zone).astimezone(UTC) for day in case.dates]
    instants = [(start, start + length) for start in begins]
    periods = [(instant_text(start), instant_text(end)) for start, end in instants]
    room = await _obstructed(api, admin, user, case, periods)
    body = {"roomId": room["id"], "start": periods[0][0], "end": periods[0][1], "recurrence": case.rule}
    preview = await previewed(api, user, body)
    assert [(one["start"], one["end"]) for one in preview] == periods
    assert [one["status"] for one in preview] == expected_statuses(case, instants)
    free = [one for one in preview if one["status"] == "free"]
    conflicts = [one for one in preview if one["status"] == "conflict"]
    before = await mine(api, user)
    if conflicts:
        refused = await api.post("/bookings/series", user, json=body)
        assert (refused.status_code, code(refused)) == (409, "SERIES_CONFLICT")
        assert refused.json()["error"]["details"]["conflicts"] == conflicts
        assert await mine(api, user) == before
    answer = await api.post("/bookings/series", user, json={**body, "onConflict": "skip"})
    if not free:
        assert (answer.status_code, code(answer)) == (409, "SERIES_CONFLICT")
        return
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert [(one["start"], one["end"]) for one in shown["bookings"]] == [(one["start"], one["end"]) for one in free]
    assert shown["skipped"] == conflicts
    booked = {(one["start"], one["end"]) for one in await mine(api, user) if one["seriesId"] == shown["series"]["id"]}
    assert booked == {(one["start"], one["end"]) for one in free}


# Whose it is


async def test_a_series_is_its_owners(api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=2"))
    path = f"/series/{series['series']['id']}"
    move = {"start": at(1, "14:00"), "end": at(1, "15:00")}
    for who in (await api.person(), admin):
        for answer in (
            await api.get(path, who),
            await api.post(f"{path}/cancel", who, json={}),
            await api.post(f"{path}/reschedule", who, json=move),
        ):
            assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")
    assert (await api.get(path)).status_code == 401
    assert await mine(api, user) == series["bookings"]


async def test_admins_do_not_book_series(api: Api, admin: Person) -> None:
    body = wanted(await api.room(admin), "FREQ=DAILY;COUNT=2")
    for path in ("/bookings/series", "/bookings/series/preview"):
        refused = await api.post(path, admin, json=body)
        assert (refused.status_code, code(refused)) == (403, "FORBIDDEN")


async def test_an_unknown_series_is_404(api: Api, user: Person) -> None:
    path = f"/series/{new_id()}"
    for answer in (
        await api.get(path, user),
        await api.post(f"{path}/cancel", user, json={}),
        await api.post(f"{path}/reschedule", user, json={"start": at(1), "end": at(1, "11:00")}),
    ):
        assert (answer.status_code, code(answer)) == (404, "SERIES_NOT_FOUND")
    assert (await api.get("/series/x", user)).status_code == 400


async def test_admins_cancel_one_of_a_series_with_delete(api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=3"))
    deleted = await api.send("DELETE", f"/bookings/{series['bookings'][1]['id']}", admin)
    assert deleted.status_code == 200
    shown = (await api.get(f"/series/{series['series']['id']}", user)).json()
    assert starts(shown["bookings"]) == [at(1), at(3)]


# Cancelling


async def test_one_of_a_series_is_cancelled_by_itself(api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=3"))
    first, second, third = series["bookings"]
    assert (await api.post(f"/bookings/{second['id']}/cancel", user)).status_code == 200
    assert await mine(api, user) == [first, third]
    assert (await api.get(f"/series/{series['series']['id']}", user)).json()["bookings"] == [first, third]
    cancelled = await api.post(f"/series/{series['series']['id']}/cancel", user, json={})
    assert [one["id"] for one in cancelled.json()["bookings"]] == [first["id"], third["id"]]


async def test_what_follows_of_a_series_is_cancelled(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=4"))
    path = f"/series/{series['series']['id']}"
    cancelled = await api.post(f"{path}/cancel", user, json={"from": at(3)})
    assert cancelled.status_code == 200, cancelled.text
    gone = cancelled.json()["bookings"]
    assert [(one["start"], one["status"]) for one in gone] == [(at(3), "cancelled"), (at(4), "cancelled")]
    assert all(one["cancelledAt"] for one in gone)
    assert await mine(api, user) == series["bookings"][:2]
    assert (await api.get(path, user)).json()["bookings"] == series["bookings"][:2]
    assert [len(await api.slots(user, room, tomorrow(day))) for day in (1, 2, 3, 4)] == [14, 14, 16, 16]
    # A moment later nothing begins at three's time or later any more.
    again = await api.post(f"{path}/cancel", user, json={"from": at(3)})
    assert (again.status_code, again.json()["bookings"]) == (200, [])


@pytest.mark.parametrize("from_", [None, at(-5), at(1)], ids=["all", "from the past", "from the first"])
async def test_all_of_a_series_is_cancelled_at_once(from_: str | None, api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=3"))
    alone = await api.booked(user, (await api.slots(user, room))[0])
    path = f"/series/{series['series']['id']}"
    cancelled = await api.post(f"{path}/cancel", user, json={} if from_ is None else {"from": from_})
    assert cancelled.status_code == 200, cancelled.text
    assert [one["id"] for one in cancelled.json()["bookings"]] == [one["id"] for one in series["bookings"]]
    assert cancelled.json()["series"] == series["series"]
    assert await mine(api, user) == [alone]
    assert [one["id"] for one in await mine(api, user, "cancelled")] == [one["id"] for one in series["bookings"]]
    assert (await api.get(path, user)).json() == {"series": series["series"], "bookings": [], "skipped": []}
    await made(api, await api.person(), wanted(room, "FREQ=DAILY;COUNT=3"))


async def test_what_has_begun_is_not_cancelled_and_still_shown(api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=3"))
    begun = series["bookings"][0]
    # Time cannot be waited for: the first one is moved into the past, where it is stored.
    await api.db.fetch(
        "UPDATE bookings SET start_at = start_at - interval '9 days', end_at = end_at - interval '9 days' WHERE id = $1",
        begun["id"],
    )
    path = f"/series/{series['series']['id']}"
    cancelled = await api.post(f"{path}/cancel", user, json={"from": at(-30)})
    assert starts(cancelled.json()["bookings"]) == [at(2), at(3)]
    assert [one["id"] for one in (await api.get(path, user)).json()["bookings"]] == [begun["id"]]


async def test_too_late_for_one_is_too_late_for_all_that_were_named(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={"cancelNoticeMinutes": 3 * 24 * 60})
    series = await made(api, user, wanted(room, "FREQ=DAILY;INTERVAL=5;COUNT=3"))
    path = f"/series/{series['series']['id']}"
    for answer in (
        await api.post(f"{path}/cancel", user, json={}),
        await api.post(f"{path}/reschedule", user, json={"start": at(1, "14:00"), "end": at(1, "15:00")}),
    ):
        assert (answer.status_code, code(answer)) == (400, "TOO_LATE_TO_CANCEL")
        details = answer.json()["error"]["details"]
        assert (details["rule"], details["value"], details["latest"]) == ("cancelNoticeMinutes", 4320, at(-2))
    assert await mine(api, user) == series["bookings"]
    later = await api.post(f"{path}/cancel", user, json={"from": at(2)})
    assert starts(later.json()["bookings"]) == [at(6), at(11)]


async def test_those_who_wait_have_what_a_cancelled_series_gives_back(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=3", end="10:30"))
    second, third = (series["bookings"][number]["slotId"] for number in (1, 2))
    eager, patient, late = await api.people(3)
    entries = []
    for who, slot_id, auto in ((eager, second, True), (patient, third, False), (late, third, False)):
        answer = await api.post("/waitlist", who, json={"slotId": slot_id, "autoBook": auto})
        assert answer.status_code == 201, answer.text
        entries.append(answer.json()["entry"]["id"])
    assert (await api.post(f"/series/{series['series']['id']}/cancel", user, json={})).status_code == 200
    assert starts(await mine(api, eager)) == [at(2)]
    shown = [
        (await api.get(f"/waitlist/{entry}", who)).json()["entry"]
        for entry, who in zip(entries, (eager, patient, late), strict=True)
    ]
    assert [(one["status"], one["position"]) for one in shown] == [("booked", None), ("offered", None), ("waiting", 1)]
    assert shown[1]["holdToken"]
    assert len(await api.slots(user, room, tomorrow(1))) == 16
    assert [len(await api.slots(user, room, tomorrow(day))) for day in (2, 3)] == [15, 15]


@pytest.mark.parametrize("body", [{"from": "tomorrow"}, {"from": tomorrow()}, {"from": 5}, []])
async def test_a_cancel_from_nonsense_is_refused(body: Any, api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=2"))
    refused = await api.post(f"/series/{series['series']['id']}/cancel", user, json=body)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")
    assert len(await mine(api, user)) == 2


# Moving


async def moved(api: Api, who: Person, series: dict[str, Any], start: str, end: str, **fields: Any) -> httpx.Response:
    return await api.post(f"/series/{series['series']['id']}/reschedule", who, json={"start": start, "end": end, **fields})


async def test_one_of_a_series_moves_by_itself_and_stays_one_of_it(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=3"))
    second = series["bookings"][1]
    to = {"roomId": room["id"], "start": at(2, "15:00"), "end": at(2, "16:00")}
    answer = await api.post(f"/bookings/{second['id']}/reschedule", user, json=to)
    assert answer.status_code == 200, answer.text
    assert answer.json()["booking"]["seriesId"] == series["series"]["id"]
    shown = (await api.get(f"/series/{series['series']['id']}", user)).json()["bookings"]
    assert starts(shown) == [at(1), at(2, "15:00"), at(3)]
    # All move by an hour, each from where it is.
    answer = await moved(api, user, series, at(1, "11:00"), at(1, "12:00"))
    assert answer.status_code == 200, answer.text
    assert starts(answer.json()["bookings"]) == [at(1, "11:00"), at(2, "16:00"), at(3, "11:00")]


async def test_one_that_moved_to_another_room_stays_there_when_all_move(api: Api, admin: Person, user: Person) -> None:
    room, other = await api.room(admin), await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=2"))
    to = {"roomId": other["id"], "start": at(2), "end": at(2, "11:00")}
    assert (await api.post(f"/bookings/{series['bookings'][1]['id']}/reschedule", user, json=to)).status_code == 200
    answer = await moved(api, user, series, at(1, "12:00"), at(1, "13:00"))
    assert answer.status_code == 200, answer.text
    assert [(one["roomId"], one["start"]) for one in answer.json()["bookings"]] == [
        (room["id"], at(1, "12:00")),
        (other["id"], at(2, "12:00")),
    ]
    assert len(await api.slots(user, other, tomorrow(2))) == 14
    assert len(await api.slots(user, room, tomorrow(2))) == 16


async def test_all_of_a_series_moves_as_far_as_its_first(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=3", title="Stand-up"))
    answer = await moved(api, user, series, at(1, "14:00"), at(1, "15:30"))
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert [(one["start"], one["end"]) for one in shown["bookings"]] == [
        (at(day, "14:00"), at(day, "15:30")) for day in (1, 2, 3)
    ]
    assert [one["id"] for one in shown["bookings"]] == [one["id"] for one in series["bookings"]]
    assert {one["title"] for one in shown["bookings"]} == {"Stand-up"}
    assert [len(one["slotIds"]) for one in shown["bookings"]] == [3, 3, 3]
    assert await mine(api, user) == shown["bookings"]
    free = {slot["start"] for slot in await api.slots(user, room, tomorrow(2))}
    assert at(2) in free
    assert not free & {at(2, "14:00"), at(2, "14:30"), at(2, "15:00")}


async def test_a_series_moves_over_its_own_old_times(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, policy={"maxActivePerUserHere": 3, "maxActivePerUser": 3, "overlapsAllowed": False})
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=3"))
    by_a_day = await moved(api, user, series, at(2), at(2, "11:00"))
    assert by_a_day.status_code == 200, by_a_day.text
    assert starts(by_a_day.json()["bookings"]) == [at(2), at(3), at(4)]
    by_half_an_hour = await moved(api, user, series, at(2, "10:30"), at(2, "11:30"))
    assert by_half_an_hour.status_code == 200, by_half_an_hour.text
    assert starts(by_half_an_hour.json()["bookings"]) == [at(day, "10:30") for day in (2, 3, 4)]
    back = await moved(api, user, series, at(1), at(1, "11:00"))
    assert starts(back.json()["bookings"]) == [at(1), at(2), at(3)]
    another = await api.book(user, (await api.slots(user, room, tomorrow(8)))[0])
    assert (another.status_code, code(another)) == (409, "TOO_MANY_BOOKINGS")


async def test_what_follows_of_a_series_moves(api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=4"))
    answer = await moved(api, user, series, at(3, "13:00"), at(3, "14:00"), **{"from": at(3)})
    assert answer.status_code == 200, answer.text
    assert [one["id"] for one in answer.json()["bookings"]] == [one["id"] for one in series["bookings"][2:]]
    assert starts(await mine(api, user)) == [at(1), at(2), at(3, "13:00"), at(4, "13:00")]


async def test_a_series_that_cannot_move_whole_stays_and_says_why(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=4"))
    other = await api.person()
    await api.booked(other, (await api.slots(other, room, tomorrow(2)))[8])
    await closed(api, admin, room, at(4, "12:00"), at(4, "17:00"))
    refused = await moved(api, user, series, at(1, "14:00"), at(1, "15:00"))
    assert (refused.status_code, code(refused)) == (409, "SERIES_CONFLICT")
    conflicts = refused.json()["error"]["details"]["conflicts"]
    assert [(one["start"], one["end"], one["reason"]["code"]) for one in conflicts] == [
        (at(2, "14:00"), at(2, "15:00"), "SLOT_ALREADY_BOOKED"),
        (at(4, "14:00"), at(4, "15:00"), "CLOSED"),
    ]
    outside = await moved(api, user, series, at(1, "16:30"), at(1, "17:30"))
    assert {one["reason"]["code"] for one in outside.json()["error"]["details"]["conflicts"]} == {"OUTSIDE_SCHEDULE"}
    past = await moved(api, user, series, at(-3), at(-3, "11:00"))
    assert (past.status_code, code(past)) == (409, "SERIES_CONFLICT")
    assert await mine(api, user) == series["bookings"]
    assert len(await api.slots(user, room, tomorrow(3))) == 14


async def test_a_series_moves_on_the_rooms_clock(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, timeZone=BERLIN)
    change = clock_change(BERLIN, forwards=False)
    zone = ZoneInfo(BERLIN)
    first = datetime(change.year, change.month, change.day, 9, tzinfo=zone) - timedelta(days=7)
    period = {"start": instant_text(first.astimezone(UTC)), "end": instant_text(first.astimezone(UTC) + timedelta(hours=1))}
    series = await made(api, user, {"roomId": room["id"], **period, "recurrence": "FREQ=WEEKLY;COUNT=3"})
    later = first + timedelta(days=1, hours=2)
    to = later.astimezone(UTC)
    answer = await moved(api, user, series, instant_text(to), instant_text(to + timedelta(hours=1)))
    assert answer.status_code == 200, answer.text
    shown = answer.json()["bookings"]
    days = [(later.date() + timedelta(days=7 * week)).isoformat() for week in range(3)]
    assert [on_the_clock(one["start"], BERLIN) for one in shown] == [f"{day}T11:00" for day in days]
    assert [on_the_clock(one["end"], BERLIN)[11:] for one in shown] == ["12:00"] * 3
    assert {one["start"][11:13] for one in shown} == {"09", "10"}


async def test_a_lapsed_hold_does_not_keep_a_series_from_moving(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=2"))
    slot = (await api.slots(user, room, tomorrow(2)))[8]
    hold = (await api.post("/holds", await api.person(), json={"slotId": slot["id"]})).json()["hold"]
    assert (await moved(api, user, series, at(1, "14:00"), at(1, "15:00"))).status_code == 409
    await lapse(api, hold["token"])
    answer = await moved(api, user, series, at(1, "14:00"), at(1, "15:00"))
    assert answer.status_code == 200, answer.text
    assert starts(await mine(api, user)) == [at(1, "14:00"), at(2, "14:00")]


async def test_what_somebody_waits_for_is_not_the_series_to_move_to(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=2"))
    slot = (await api.slots(user, room, tomorrow(2)))[8]
    hold = (await api.post("/holds", await api.person(), json={"slotId": slot["id"]})).json()["hold"]
    waiter = await api.person()
    waiting = await api.post("/waitlist", waiter, json={"slotId": slot["id"], "autoBook": True})
    assert waiting.status_code == 201, waiting.text
    await lapse(api, hold["token"])
    refused = await moved(api, user, series, at(1, "13:00"), at(1, "14:00"))
    assert refused.status_code == 200, refused.text  # not the time that is waited for
    refused = await moved(api, user, series, at(1, "13:00"), at(1, "14:30"))
    assert (refused.status_code, code(refused)) == (409, "SERIES_CONFLICT")
    assert starts(refused.json()["error"]["details"]["conflicts"]) == [at(2, "13:00")]
    assert starts(await mine(api, user)) == [at(1, "13:00"), at(2, "13:00")]


async def test_those_who_wait_have_what_a_moved_series_gives_up(api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=3", end="10:30"))
    waiter, other = await api.people(2)
    for who, number in ((waiter, 0), (other, 1)):
        slot_id = series["bookings"][number]["slotId"]
        assert (await api.post("/waitlist", who, json={"slotId": slot_id, "autoBook": True})).status_code == 201
    # By a day: the second's time is the first's now, and nobody else's.
    answer = await moved(api, user, series, at(2), at(2, "10:30"))
    assert answer.status_code == 200, answer.text
    assert starts(await mine(api, waiter)) == [at(1)]
    assert await mine(api, other) == []


async def test_of_a_series_that_is_over_nothing_moves(api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=2"))
    later = await moved(api, user, series, at(9), at(9, "11:00"), **{"from": at(8)})
    assert (later.status_code, code(later)) == (400, "INVALID_REQUEST")
    await api.post(f"/series/{series['series']['id']}/cancel", user, json={})
    refused = await moved(api, user, series, at(5), at(5, "11:00"))
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"start": at(1)},
        {"start": at(1), "end": at(1)},
        {"start": at(1, "11:00"), "end": at(1)},
        {"start": at(1), "end": at(40)},
        {"start": at(1), "end": at(1, "11:00"), "from": "x"},
        {"start": "9999-12-31T23:00:00Z", "end": "9999-12-31T23:30:00Z"},
        {"start": "0001-01-01T00:00:00Z", "end": "0001-01-01T00:30:00Z"},
    ],
    ids=str,
)
async def test_a_move_without_sense_is_refused(body: dict[str, Any], api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, timeZone="America/New_York")
    day = tomorrow()
    series = await made(api, user, wanted(room, "FREQ=DAILY;COUNT=2", "15:00", "16:00", day=day))
    refused = await api.post(f"/series/{series['series']['id']}/reschedule", user, json=body)
    assert refused.status_code in {400, 409}, refused.text
    assert code(refused) in {"INVALID_REQUEST", "SERIES_CONFLICT"}
    assert await mine(api, user) == series["bookings"]


# Repeats and messages


async def test_a_series_is_made_once_per_key(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    body, headers = wanted(room, "FREQ=DAILY;COUNT=3"), {"Idempotency-Key": "series-1"}
    first = await api.post("/bookings/series", user, json=body, headers=headers)
    again = await api.post("/bookings/series", user, json=body, headers=headers)
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert len(await mine(api, user)) == 3
    other = await api.post("/bookings/series", user, json={**body, "title": "Other"}, headers=headers)
    assert (other.status_code, code(other)) == (422, "IDEMPOTENCY_KEY_REUSED")
    refused = await api.post("/bookings/series", user, json=body, headers={"Idempotency-Key": "series-2"})
    path = f"/series/{first.json()['series']['id']}"
    cancelled = await api.post(f"{path}/cancel", user, json={"from": at(2)}, headers={"Idempotency-Key": "cancel"})
    assert starts(cancelled.json()["bookings"]) == [at(2), at(3)]
    repeated = await api.post(f"{path}/cancel", user, json={"from": at(2)}, headers={"Idempotency-Key": "cancel"})
    assert (repeated.status_code, repeated.content) == (200, cancelled.content)
    # A conflict is the first answer too, though its reason is gone.
    once_more = await api.post("/bookings/series", user, json=body, headers={"Idempotency-Key": "series-2"})
    assert (refused.status_code, once_more.status_code, once_more.content) == (409, 409, refused.content)


async def test_a_series_moves_once_per_key(api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=2"))
    path, to = f"/series/{series['series']['id']}/reschedule", {"start": at(1, "12:00"), "end": at(1, "13:00")}
    first = await api.post(path, user, json=to, headers={"Idempotency-Key": "move"})
    await moved(api, user, series, at(1, "15:00"), at(1, "16:00"))
    again = await api.post(path, user, json=to, headers={"Idempotency-Key": "move"})
    assert (first.status_code, again.content) == (200, first.content)
    assert starts(await mine(api, user)) == [at(1, "15:00"), at(2, "15:00")]


async def test_the_same_key_at_once_makes_one_series(api: Api, admin: Person, user: Person) -> None:
    body, headers = wanted(await api.room(admin), "FREQ=DAILY;COUNT=3"), {"Idempotency-Key": "series"}
    answers = await asyncio.gather(*(api.post("/bookings/series", user, json=body, headers=headers) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {code(answer) for answer in answers if answer.status_code == 409} <= {"IDEMPOTENCY_IN_PROGRESS"}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert len(await mine(api, user)) == 3


async def test_every_change_of_a_series_leaves_messages(api: Api, admin: Person, user: Person) -> None:
    series = await made(api, user, wanted(await api.room(admin), "FREQ=DAILY;COUNT=2"))
    await moved(api, user, series, at(1, "12:00"), at(1, "13:00"))
    await api.post(f"/series/{series['series']['id']}/cancel", user, json={"from": at(2)})
    rows = await api.db.fetch("SELECT type, actor_id FROM outbox WHERE subject_id = $1", series["series"]["id"])
    assert [(row["type"], row["actor_id"]) for row in rows] == [("series.created", user.id)]
    types = []
    for booking in series["bookings"]:
        found = await api.db.fetch("SELECT type FROM outbox WHERE subject_id = $1 ORDER BY occurred_at", booking["id"])
        types.append([row["type"] for row in found])
    assert types == [
        ["booking.created", "booking.rescheduled"],
        ["booking.created", "booking.rescheduled", "booking.cancelled"],
    ]


async def test_a_refused_series_leaves_no_message(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    await closed(api, admin, room, at(2, "09:00"), at(2, "17:00"))
    before = await api.db.fetch("SELECT count(*) AS rows FROM outbox")
    assert (await api.post("/bookings/series", user, json=wanted(room, "FREQ=DAILY;COUNT=3"))).status_code == 409
    assert await api.db.fetch("SELECT count(*) AS rows FROM outbox") == before


async def test_ending_an_account_ends_its_series(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    await made(api, user, wanted(room, "FREQ=DAILY;COUNT=3"))
    assert (await api.send("DELETE", "/users/me", user)).status_code == 204
    assert [len(await api.slots(admin, room, tomorrow(day))) for day in (1, 2, 3)] == [16, 16, 16]
