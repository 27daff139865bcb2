"""For how long a schedule could be had in a period: added up by weekdays, and day by day only where days differ."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from holdfast.core.schedules import Schedule, local_date, open_periods, wall_to_instant

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Calendar:
    """The dates of a zone that share an instant with a period.

    `plain` ones lie in it whole, have 24 hours, and so has the day before: of them only the weekday counts.
    """

    dates: tuple[date, ...]
    plain: frozenset[date]
    weekdays: Counter[int]


@lru_cache(maxsize=256)
def _calendar(zone_name: str, start: datetime, end: datetime) -> _Calendar:
    zone = ZoneInfo(zone_name)
    # A window may begin on an instant whose local date is another one, where a whole day is skipped or repeated.
    first, last = local_date(start, zone_name) - _DAY, local_date(end, zone_name) + _DAY
    dates = tuple(first + number * _DAY for number in range((last - first).days + 1))
    edges = [wall_to_instant(day, 0, zone, last=False) for day in (first - _DAY, *dates, last + _DAY)]
    plain = frozenset(
        day
        for day, (before, begins, ends) in zip(dates, zip(edges, edges[1:], edges[2:], strict=False), strict=True)
        if begins - before == _DAY == ends - begins and start <= begins and ends <= end
    )
    return _Calendar(dates, plain, Counter(day.isoweekday() for day in plain))


def _touched(periods: Iterable[tuple[datetime, datetime]], zone_name: str) -> set[date]:
    """The dates that share an instant with some of the periods, and one to either side."""
    found: set[date] = set()
    for since, until in periods:
        day, last = local_date(since, zone_name) - _DAY, local_date(until, zone_name) + _DAY
        found.update(day + number * _DAY for number in range((last - day).days + 1))
    return found


def _seconds_of_weekday(schedule: Schedule, weekday: int) -> int:
    """The time of a plain day's slots; a tail shorter than a slot is no slot."""
    return sum(
        (window.closes - window.opens) // schedule.slot_minutes * schedule.slot_minutes * 60
        for window in schedule.windows
        if weekday in window.days_of_week
    )


def _overlap(one: tuple[datetime, datetime], other: tuple[datetime, datetime]) -> timedelta:
    return max(min(one[1], other[1]) - max(one[0], other[0]), timedelta())


def _seconds_of(
    schedule: Schedule,
    day: date,
    zone: ZoneInfo,
    within: tuple[datetime, datetime],
    closures: Sequence[tuple[datetime, datetime]],
) -> int:
    length = timedelta(minutes=schedule.slot_minutes)
    total = timedelta()
    for opens, closes in open_periods(schedule, day, zone):
        since, until = max(opens, within[0]), min(opens + (closes - opens) // length * length, within[1])
        if since < until:
            total += until - since - sum((_overlap((since, until), one) for one in closures), timedelta())
    return int(total.total_seconds())


def open_seconds(
    schedule: Schedule,
    zone_name: str,
    start: datetime,
    end: datetime,
    closures: Sequence[tuple[datetime, datetime]] = (),
) -> int:
    """The time in `[start, end)` of the slots that the schedule makes in its zone, without what is closed.

    `closures` never overlap each other. The calendar of the zone must reach a few days beyond either end.
    """
    if end <= start:
        return 0
    closures = [(max(since, start), min(until, end)) for since, until in closures if since < end and until > start]
    calendar = _calendar(zone_name, start, end)
    touched = _touched(closures, zone_name) if closures else set()
    by_weekday = {weekday: _seconds_of_weekday(schedule, weekday) for weekday in range(1, 8)}
    total = sum(by_weekday[weekday] * count for weekday, count in calendar.weekdays.items())
    total -= sum(by_weekday[day.isoweekday()] for day in touched & calendar.plain)
    zone = ZoneInfo(zone_name)
    return total + sum(
        _seconds_of(schedule, day, zone, (start, end), closures)
        for day in calendar.dates
        if day in touched or day not in calendar.plain
    )
