"""Slots tile the opening hours, in every zone and across every clock change."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import slot_ids
from holdfast.core.schedules import (
    Schedule,
    Window,
    find_slot,
    open_periods,
    slots_between,
    slots_on,
    wall_to_instant,
)

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def changes(zone: ZoneInfo, year: int) -> list[date]:
    """The dates of a year on which the zone's offset changes."""
    days = [datetime(year, 1, 1, 12, tzinfo=UTC) + timedelta(days=n) for n in range(366)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    return [days[n].date() for n in range(1, 366) if offsets[n] != offsets[n - 1]]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """One to three windows of a day that do not overlap, on some weekdays."""
    edges = sorted(draw(st.lists(st.integers(0, 1440), min_size=2, max_size=6, unique=True)))
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    days = st.lists(st.integers(1, 7), min_size=1, max_size=7, unique=True).map(lambda found: tuple(sorted(found)))
    windows = tuple(Window(draw(days), opens, closes) for opens, closes in pairs)
    return Schedule(draw(st.sampled_from([5, 7, 15, 30, 45, 60, 90, 240])), windows)


@st.composite
def interesting_days(draw: st.DrawFn) -> tuple[str, date]:
    """A zone and a date, more often than not one around a clock change of the ten years around now."""
    name = draw(st.sampled_from(ZONES))
    year = draw(st.integers(2021, 2031))
    around = changes(ZoneInfo(name), year)
    if around and draw(st.booleans()):
        return name, draw(st.sampled_from(around)) + timedelta(days=draw(st.integers(-1, 1)))
    return name, date(year, 1, 1) + timedelta(days=draw(st.integers(0, 364)))


@given(schedules(), interesting_days())
@settings(max_examples=400, deadline=None)
def test_slots_tile_the_opening_hours_in_all_zones(schedule: Schedule, where: tuple[str, date]) -> None:
    name, day = where
    length = timedelta(minutes=schedule.slot_minutes)
    slots = slots_on(schedule, day, name, 7)
    assert all(slot.end - slot.start == length for slot in slots)
    assert all(earlier.end <= later.start for earlier, later in pairwise(slots))
    for opens, closes in open_periods(schedule, day, ZoneInfo(name)):
        inside = [slot for slot in slots if opens <= slot.start < closes]
        # No gap: each begins where the one before ended, from the opening on; what is left is shorter than a slot.
        assert [slot.start for slot in inside] == [opens + n * length for n in range(len(inside))]
        assert timedelta(0) <= closes - (opens + len(inside) * length) < length
    assert sum(closes - opens >= length for opens, closes in open_periods(schedule, day, ZoneInfo(name))) == 0 or slots


@given(schedules(), interesting_days())
@settings(max_examples=200, deadline=None)
def test_slots_of_neighbouring_dates_never_overlap(schedule: Schedule, where: tuple[str, date]) -> None:
    name, day = where
    week = [slot for n in range(-3, 4) for slot in slots_on(schedule, day + timedelta(days=n), name, 7)]
    assert all(earlier.end <= later.start for earlier, later in pairwise(week))


@given(schedules(), interesting_days())
@settings(max_examples=200, deadline=None)
def test_every_slot_is_found_again_by_its_id(schedule: Schedule, where: tuple[str, date]) -> None:
    name, day = where
    for slot in slots_on(schedule, day, name, 7):
        key = slot_ids.decode(slot.id)
        assert key is not None
        assert find_slot(schedule, key, name) == slot
        assert slots_between(schedule, slot.start, slot.end, name, 7)[0] == slot


@given(st.sampled_from(ZONES), st.integers(2021, 2031), st.integers(0, 1439))
@settings(max_examples=300, deadline=None)
def test_wall_time_is_what_the_clock_shows_or_the_end_of_a_gap(name: str, year: int, minutes: int) -> None:
    zone = ZoneInfo(name)
    for day in changes(zone, year)[:2]:
        for last in (False, True):
            instant = wall_to_instant(day, minutes, zone, last=last)
            shown = instant.astimezone(zone).replace(tzinfo=None)
            wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001 - a wall clock
            if shown != wall:
                before = (instant - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
                assert before < wall < shown


def test_a_window_over_the_spring_change_loses_the_hour_that_is_not_there() -> None:
    nights = Schedule(60, (Window(EVERY_DAY, 0, 6 * 60),))
    slots = slots_on(nights, date(2026, 3, 29), "Europe/Berlin", 1)
    assert [slot.start for slot in slots] == [at("2026-03-28T23:00") + timedelta(hours=n) for n in range(5)]


def test_a_window_over_the_autumn_change_has_the_hour_twice() -> None:
    nights = Schedule(60, (Window(EVERY_DAY, 0, 6 * 60),))
    slots = slots_on(nights, date(2026, 10, 25), "Europe/Berlin", 1)
    assert [slot.start for slot in slots] == [at("2026-10-24T22:00") + timedelta(hours=n) for n in range(7)]


def test_a_window_that_opens_in_a_gap_opens_after_it() -> None:
    early = Schedule(30, (Window(EVERY_DAY, 2 * 60 + 30, 4 * 60),))
    slots = slots_on(early, date(2026, 3, 29), "Europe/Berlin", 1)
    assert [slot.start for slot in slots] == [at("2026-03-29T01:00"), at("2026-03-29T01:30")]


def test_a_repeated_time_opens_the_first_time_and_closes_the_last() -> None:
    around = Schedule(30, (Window(EVERY_DAY, 2 * 60, 2 * 60 + 30),))
    slots = slots_on(around, date(2026, 10, 25), "Europe/Berlin", 1)
    assert (slots[0].start, slots[-1].end) == (at("2026-10-25T00:00"), at("2026-10-25T01:30"))


def test_windows_that_a_clock_change_pushes_together_do_not_overlap() -> None:
    split = Schedule(30, (Window(EVERY_DAY, 60, 2 * 60 + 30), Window(EVERY_DAY, 2 * 60 + 30, 4 * 60)))
    slots = slots_on(split, date(2026, 10, 25), "Europe/Berlin", 1)
    assert all(earlier.end <= later.start for earlier, later in pairwise(slots))
    assert len({slot.id for slot in slots}) == len(slots) == 8


def test_midnight_that_comes_twice_is_not_sold_twice() -> None:
    # Havana sets its clocks from one back to midnight: yesterday's 24:00 is an hour after today's first 0:00.
    all_day = Schedule(30, (Window(EVERY_DAY, 0, 1440),))
    for day in changes(ZoneInfo("America/Havana"), 2026):
        both = [s for n in (-1, 0, 1) for s in slots_on(all_day, day + timedelta(days=n), "America/Havana", 1)]
        assert all(earlier.end <= later.start for earlier, later in pairwise(both))


def test_a_date_that_a_zone_skipped_has_no_slots() -> None:
    assert slots_on(Schedule(30, (Window(EVERY_DAY, 0, 1440),)), date(2011, 12, 30), "Pacific/Apia", 1) == ()


@pytest.mark.parametrize("day", [date(1, 1, 1), date(9999, 12, 31)])
@pytest.mark.parametrize("name", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Amsterdam"])
def test_dates_at_the_ends_of_the_calendar_have_no_slots(day: date, name: str) -> None:
    assert slots_on(Schedule(30, (Window(EVERY_DAY, 0, 1440),)), day, name, 1) == ()


def test_a_tail_shorter_than_a_slot_is_dropped() -> None:
    assert len(slots_on(Schedule(30, (Window(EVERY_DAY, 0, 23 * 60 + 59),)), date(2026, 11, 20), "UTC", 1)) == 47


def test_long_ago_had_odd_seconds_and_its_slots_have_ids() -> None:
    slots = slots_on(Schedule(30, (Window(EVERY_DAY, 540, 600),)), date(1880, 1, 5), "Europe/Amsterdam", 1)
    assert slots[0].start.second != 0
    assert slot_ids.decode(slots[0].id) == (1, slots[0].start, 30)


@given(st.integers(1, (1 << 40) - 1), st.datetimes(max_value=datetime(9998, 1, 1)), st.integers(1, 2047))  # noqa: DTZ001
def test_ids_are_reversible(number: int, start: datetime, minutes: int) -> None:
    start = start.replace(microsecond=0, tzinfo=UTC)
    slot_id = slot_ids.encode(number, start, minutes)
    assert (slot_id.version, slot_id.variant) == (8, "specified in RFC 4122")
    assert slot_ids.decode(slot_id) == (number, start, minutes)


@given(st.uuids())
def test_an_id_of_nobody_is_unknown_or_encodes_itself(slot_id: object) -> None:
    key = slot_ids.decode(slot_id)  # type: ignore[arg-type]
    assert key is None or slot_ids.encode(*key) == slot_id
