"""Schedules: wall-clock windows in a zone, and the slots that they make on a date. Pure; the database is elsewhere.

A window's wall-clock times become instants first, then slots tile the elapsed time between them (design section 2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from holdfast.core import slot_ids

MINUTES_A_DAY = 24 * 60
#: Beyond these dates there are no slots: around them, no offset of a zone and no look at the days beside leaves the calendar.
FIRST_DATE, LAST_DATE = date(1, 1, 8), date(9999, 12, 24)


@dataclass(frozen=True, slots=True)
class Window:
    """Open from `opens` to `closes`, minutes after local midnight (closes at most 1440), on ISO weekdays 1..7."""

    days_of_week: tuple[int, ...]
    opens: int
    closes: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a resource can be had: windows on its own clock, cut into slots of `slot_minutes`.

    The order of the windows is that of the caller; windows of one weekday never overlap.
    """

    slot_minutes: int
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """Half-open `[start, end)`, aware, UTC; `id` is stable for ever and reversible."""

    id: UUID
    resource_no: int
    start: datetime
    end: datetime


def wall_text(minutes: int) -> str:
    """Minutes after midnight as `HH:MM`; 1440 is `24:00`."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def windows_json(windows: tuple[Window, ...]) -> list[dict[str, Any]]:
    """The windows as they are stored and as they look on the wire."""
    return [
        {"daysOfWeek": list(w.days_of_week), "startTime": wall_text(w.opens), "endTime": wall_text(w.closes)} for w in windows
    ]


@lru_cache(maxsize=4096)
def stored_schedule(slot_minutes: int, windows: str) -> Schedule:
    """A schedule out of its row: the slot length and the windows' JSON text (cached, as hot reads bring the same text)."""

    def minutes(text: str) -> int:
        return int(text[:2]) * 60 + int(text[3:])

    return Schedule(
        slot_minutes,
        tuple(Window(tuple(w["daysOfWeek"]), minutes(w["startTime"]), minutes(w["endTime"])) for w in orjson.loads(windows)),
    )


def _first_instant_not_before(wall: datetime, zone: ZoneInfo) -> datetime:
    """The transition instant of a gap: the first instant whose wall clock shows `wall` or later."""
    low = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    high = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if middle.astimezone(zone).replace(tzinfo=None) >= wall:
            high = middle
        else:
            low = middle
    return high


def wall_to_instant(day: date, minutes: int, zone: ZoneInfo, *, last: bool) -> datetime:
    """The instant at which the zone's clock shows that time of that date.

    A time that a clock change skips is the first instant after the gap; of a repeated time, `last` picks the last
    occurrence, else the first. OverflowError at the ends of the calendar.
    """
    wall = datetime.combine(day, time()) + timedelta(minutes=minutes)
    instant = wall.replace(tzinfo=zone, fold=1 if last else 0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != wall:
        return _first_instant_not_before(wall, zone)
    return instant


def _windows_of(schedule: Schedule, day: date) -> list[Window]:
    weekday = day.isoweekday()
    return sorted((w for w in schedule.windows if weekday in w.days_of_week), key=lambda w: w.opens)


def open_periods(schedule: Schedule, day: date, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
    """The opening hours of a date as instants, soonest first, never overlapping, not even the day before's.

    Where a clock change would let a window begin before the one ahead of it ends, it begins there instead: midnight
    itself may be a repeated time, so the window ahead may be one of yesterday that closes at 24:00.
    """
    yesterday = day - timedelta(days=1)
    free_from = max(
        (wall_to_instant(yesterday, w.closes, zone, last=True) for w in _windows_of(schedule, yesterday)), default=None
    )
    for window in _windows_of(schedule, day):
        start = wall_to_instant(day, window.opens, zone, last=False)
        end = wall_to_instant(day, window.closes, zone, last=True)
        if free_from is not None and start < free_from:
            start = free_from
        if start < end:
            yield start, end
            free_from = end


@lru_cache(maxsize=8192)
def slots_on(schedule: Schedule, day: date, zone_name: str, resource_no: int) -> tuple[Slot, ...]:
    """Every slot that the schedule makes on a date of the zone's calendar, soonest first.

    A tail shorter than a slot is dropped. Dates at the ends of the calendar, where a zone's offset leaves it, make none.
    """
    if not FIRST_DATE <= day <= LAST_DATE:
        return ()
    zone = ZoneInfo(zone_name)
    length = timedelta(minutes=schedule.slot_minutes)
    found: list[Slot] = []
    for opens, closes in open_periods(schedule, day, zone):
        start = opens
        while start + length <= closes:
            slot_id = slot_ids.encode(resource_no, start, schedule.slot_minutes)
            found.append(Slot(slot_id, resource_no, start, start + length))
            start += length
    return tuple(found)


def local_date(instant: datetime, zone_name: str) -> date:
    """The date that the zone's calendar shows at that instant. OverflowError at the ends of the calendar."""
    return instant.astimezone(ZoneInfo(zone_name)).date()


def slots_between(schedule: Schedule, start: datetime, end: datetime, zone_name: str, resource_no: int) -> tuple[Slot, ...]:
    """Every slot that begins in `[start, end)`, soonest first."""
    try:
        # A slot belongs to its window's date, and a window may begin on an instant whose local date is another one only
        # where a whole day is skipped or repeated: one date to either side covers that.
        first, last = local_date(start, zone_name) - timedelta(days=1), local_date(end, zone_name) + timedelta(days=1)
    except OverflowError:
        return ()
    found: dict[UUID, Slot] = {}
    for offset in range((last - first).days + 1):
        for slot in slots_on(schedule, first + timedelta(days=offset), zone_name, resource_no):
            if start <= slot.start < end:
                found[slot.id] = slot
    return tuple(sorted(found.values(), key=lambda slot: slot.start))


def find_slot(schedule: Schedule, key: slot_ids.SlotKey, zone_name: str) -> Slot | None:
    """The slot that this key names, if the schedule makes it."""
    if key.minutes != schedule.slot_minutes:
        return None
    for slot in slots_between(schedule, key.start, key.start + timedelta(seconds=1), zone_name, key.resource_no):
        return slot
    return None
