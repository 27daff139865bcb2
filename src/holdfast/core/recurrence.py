"""Recurrence rules of booking series (RFC 5545 section 3.3.10): when the occurrences are. Pure.

A series follows the wall clock of its zone: 09:00 stays 09:00 across clock changes. The rule is read here, strictly, and
expanded by dateutil, which would search for a date that never comes until the year 9999: hence the bounds.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, SupportsIndex
from zoneinfo import ZoneInfo

from dateutil.rrule import DAILY, MONTHLY, WEEKLY, YEARLY, rrule, weekday

from holdfast.core.errors import Invalid
from holdfast.core.schedules import wall_to_instant

MAX_OCCURRENCES = 366
#: No occurrence is later than this after the first; so far a rule is searched for dates that fit.
MAX_YEARS = 40
MAX_LENGTH = 500
MAX_INTERVAL = 1000
#: More positions would be a list of dates, and each costs a walk through its period.
MAX_POSITIONS = 12
#: As many times of day as a rule may name: each minute.
MAX_TIMES_OF_DAY = 24 * 60

_FREQUENCIES = {"DAILY": DAILY, "WEEKLY": WEEKLY, "MONTHLY": MONTHLY, "YEARLY": YEARLY}
#: How many periods begin within MAX_YEARS, and some more.
_PERIODS = {DAILY: 366, WEEKLY: 53, MONTHLY: 12, YEARLY: 1}
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
#: Least and largest value of a list part; where the least is negative, zero is none.
_LISTS = {
    "BYSECOND": (0, 59),
    "BYMINUTE": (0, 59),
    "BYHOUR": (0, 23),
    "BYMONTHDAY": (-31, 31),
    "BYYEARDAY": (-366, 366),
    "BYWEEKNO": (-53, 53),
    "BYMONTH": (1, 12),
    "BYSETPOS": (-366, 366),
}
#: The parts that the RFC allows only with some frequencies.
_ONLY_WITH = {
    "BYMONTHDAY": {DAILY, MONTHLY, YEARLY},
    "BYYEARDAY": {YEARLY},
    "BYWEEKNO": {YEARLY},
    "BYSETPOS": {WEEKLY, MONTHLY, YEARLY},  # our own bound: with DAILY it would pick among the times of one day
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,3}")
_COUNTED = re.compile(r"[0-9]{1,9}")
_WEEKDAY = re.compile(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_UNTIL = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?")
_MAX_WEEKDAY_OF_MONTH, _MAX_WEEKDAY_OF_YEAR = 5, 53


class _PeriodsOver(Exception):
    """The rule was searched as far as it is to be."""


class _Interval(int):
    """An interval that ends the search after so many periods.

    dateutil adds it (weekly: seven times it) to the date once a period, and has no bound of its own between two matches.
    """

    left: int

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _PeriodsOver

    def __radd__(self, other: int) -> int:
        self._count()
        return other + int(self)

    def __mul__(self, other: SupportsIndex) -> int:
        self._count()
        return int(self) * int(other)


def _refused(message: str, **details: Any) -> Invalid:
    return Invalid(message, details={"field": "recurrence", **details})


def _too_many() -> Invalid:
    return _refused(
        f"A series needs COUNT or UNTIL and has at most {MAX_OCCURRENCES} occurrences.",
        rule="maxOccurrences",
        value=MAX_OCCURRENCES,
    )


def _too_far() -> Invalid:
    return _refused(f"A series ends within {MAX_YEARS} years of its first occurrence.", rule="maxYears", value=MAX_YEARS)


def _parts(rule: str) -> dict[str, str]:
    """The parts of a rule by name, in upper case."""
    if len(rule) > MAX_LENGTH:
        raise _refused(f"A recurrence rule has at most {MAX_LENGTH} characters.", rule="maxLength", value=MAX_LENGTH)
    if not rule.isascii():
        raise _refused("A recurrence rule looks like 'FREQ=WEEKLY;COUNT=10'.")
    parts: dict[str, str] = {}
    for part in rule.upper().removeprefix("RRULE:").split(";"):
        name, equals, value = part.partition("=")
        if name in parts or not equals or not value or name not in _READERS:
            raise _refused(
                "A recurrence rule is one line like 'FREQ=WEEKLY;COUNT=10', each part at most once.",
                parts=sorted(_READERS),
            )
        parts[name] = value
    return parts


def _frequency(name: str, value: str) -> int:
    if value not in _FREQUENCIES:
        raise _refused(f"{name} is one of {', '.join(_FREQUENCIES)}.", part=name)
    return _FREQUENCIES[value]


def _number(name: str, value: str) -> int:
    """COUNT or INTERVAL."""
    if not _COUNTED.fullmatch(value) or not int(value):
        raise _refused(f"{name} is a whole number of at least 1.", part=name)
    number = int(value)
    if name == "COUNT" and number > MAX_OCCURRENCES:
        raise _too_many()
    if name == "INTERVAL" and number > MAX_INTERVAL:
        raise _refused(f"INTERVAL is at most {MAX_INTERVAL}.", rule="maxInterval", value=MAX_INTERVAL)
    return number


def _integers(name: str, value: str) -> list[int]:
    least, largest = _LISTS[name]
    found: set[int] = set()
    for item in value.split(","):
        if not _INTEGER.fullmatch(item) or not least <= int(item) <= largest or (least < 0 and not int(item)):
            without = " without 0" if least < 0 else ""
            raise _refused(f"{name} is a list of whole numbers from {least} to {largest}{without}.", part=name)
        found.add(int(item))
    return sorted(found)


def _weekdays(name: str, value: str) -> list[weekday]:
    found: list[weekday] = []
    for item in dict.fromkeys(value.split(",")):
        match = _WEEKDAY.fullmatch(item)
        nth = int(match[1]) if match and match[1] else None
        if not match or nth == 0 or abs(nth or 1) > _MAX_WEEKDAY_OF_YEAR:
            raise _refused(f"{name} is a list of weekdays like MO, 2TU or -1FR.", part=name)
        found.append(weekday(_WEEKDAYS.index(match[2]), nth))
    return found


def _week_start(name: str, value: str) -> int:
    if value not in _WEEKDAYS:
        raise _refused(f"{name} is one of {', '.join(_WEEKDAYS)}.", part=name)
    return _WEEKDAYS.index(value)


def _until(name: str, value: str) -> datetime:
    """The last instant where the value ends in Z (aware), else the last wall-clock time; a date is meant to its end."""
    match = _UNTIL.fullmatch(value)
    try:
        if match:
            day, clock, utc = match.groups()
            if clock is None:
                return datetime.combine(date.fromisoformat(day), time.max)
            return datetime.combine(date.fromisoformat(day), time.fromisoformat(clock), tzinfo=UTC if utc else None)
    except ValueError:
        pass
    raise _refused(f"{name} is a date and time like 20300131T090000Z, or a date like 20300131.", part=name)


_READERS: dict[str, Callable[[str, str], Any]] = {
    "FREQ": _frequency,
    "UNTIL": _until,
    "COUNT": _number,
    "INTERVAL": _number,
    "BYDAY": _weekdays,
    "WKST": _week_start,
    **dict.fromkeys(_LISTS, _integers),
}


def _read(rule: str) -> dict[str, Any]:
    """The parts of a rule by name, each understood, and allowed beside the others."""
    read = {name: _READERS[name](name, value) for name, value in _parts(rule).items()}
    if "FREQ" not in read:
        raise _refused("A recurrence rule needs FREQ.", part="FREQ")
    if "COUNT" in read and "UNTIL" in read:
        raise _refused("A recurrence rule has either COUNT or UNTIL.", part="UNTIL")
    if "COUNT" not in read and "UNTIL" not in read:
        raise _too_many()
    frequency = read["FREQ"]
    for name, frequencies in _ONLY_WITH.items():
        if name in read and frequency not in frequencies:
            raise _refused(f"{name} does not go with this FREQ.", part=name)
    nths = [day.n for day in read.get("BYDAY", ()) if day.n is not None]
    if nths and (frequency not in {MONTHLY, YEARLY} or "BYWEEKNO" in read):
        raise _refused("Numbered weekdays go with FREQ=MONTHLY, and with FREQ=YEARLY without BYWEEKNO.", part="BYDAY")
    if (frequency == MONTHLY or "BYMONTH" in read) and any(abs(nth) > _MAX_WEEKDAY_OF_MONTH for nth in nths):
        raise _refused("A month has at most five of a weekday.", part="BYDAY")
    if "BYSETPOS" in read and (
        len(read["BYSETPOS"]) > MAX_POSITIONS or not any(name in read for name in ("BYDAY", *_LISTS) if name != "BYSETPOS")
    ):
        raise _refused(f"BYSETPOS goes with another BY part and has at most {MAX_POSITIONS} positions.", part="BYSETPOS")
    times = len(read.get("BYHOUR", "1")) * len(read.get("BYMINUTE", "1")) * len(read.get("BYSECOND", "1"))
    if times > MAX_TIMES_OF_DAY:
        raise _refused(f"A rule has at most {MAX_TIMES_OF_DAY} times of day.", part="BYSECOND")
    return read


def _walls(read: dict[str, Any], first: datetime, until: datetime | None) -> Iterator[datetime]:
    """The wall-clock times that the rule has from `first` on, no end to them seen to but MAX_YEARS and `until`.

    They just end where all was searched that `until` allows; a rule that has not had its COUNT by then is refused.
    """
    frequency = read["FREQ"]
    interval = _Interval(read.get("INTERVAL", 1))
    interval.left = _PERIODS[frequency] * (MAX_YEARS + 1) // interval + 2
    by_weekday = read.get("BYDAY")
    if "BYWEEKNO" in read and not {"BYDAY", "BYMONTHDAY", "BYYEARDAY"} & read.keys():
        by_weekday = [weekday(first.weekday())]  # what a rule does not say comes from the first occurrence; dateutil takes all
    try:
        yield from rrule(
            frequency,
            dtstart=first,
            interval=interval,
            wkst=read.get("WKST", 0),
            count=read.get("COUNT"),
            until=until,
            bysetpos=read.get("BYSETPOS"),
            bymonth=read.get("BYMONTH"),
            bymonthday=read.get("BYMONTHDAY"),
            byyearday=read.get("BYYEARDAY"),
            byweekno=read.get("BYWEEKNO"),
            byweekday=by_weekday,
            byhour=read.get("BYHOUR"),
            byminute=read.get("BYMINUTE"),
            bysecond=read.get("BYSECOND"),
        )
    except _PeriodsOver:
        if until is None:
            raise _too_far() from None


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a wall-clock time; where that is skipped or repeated, as a schedule's window opens."""
    minutes = wall.hour * 60 + wall.minute
    rest = timedelta(seconds=wall.second, microseconds=wall.microsecond)
    return wall_to_instant(wall.date(), minutes, zone, last=False) + rest


def _expand(read: dict[str, Any], start: datetime, end: datetime, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    wall_start, wall_end = (instant.astimezone(zone).replace(tzinfo=None) for instant in (start, end))
    length, wall_length = end - start, wall_end - wall_start
    # dateutil knows whole seconds only.
    fraction = timedelta(microseconds=wall_start.microsecond)
    horizon = start + timedelta(days=_PERIODS[DAILY] * MAX_YEARS)
    until: datetime | None = read.get("UNTIL")
    last_instant, last_wall = None, until
    if until is not None and until.tzinfo is not None:
        last_instant = until
        # What the clock shows may jump back after that instant: instants decide.
        last_wall = until.astimezone(zone).replace(tzinfo=None) + timedelta(days=1)
    if last_wall is not None and last_wall - wall_start > timedelta(days=_PERIODS[DAILY] * MAX_YEARS + 1):
        raise _too_far()
    found: list[tuple[datetime, datetime]] = []
    for number, whole in enumerate(_walls(read, wall_start - fraction, last_wall)):
        wall = whole + fraction
        begins, ends = (_instant(wall, zone), _instant(wall + wall_length, zone)) if number else (start, end)
        if (last_instant is not None and begins > last_instant) or (last_wall is not None and wall > last_wall):
            break
        if not number and wall != wall_start:
            break
        if begins > horizon:
            raise _too_far()
        if found and begins <= found[-1][0]:
            continue
        if len(found) == MAX_OCCURRENCES:
            raise _too_many()
        found.append((begins, ends if ends > begins else begins + length))
    if not found:
        raise _refused("The recurrence rule does not include its first occurrence: let the series begin on a date that it has.")
    return found


def occurrences(rule: str, *, start: datetime, end: datetime, zone: str) -> list[tuple[datetime, datetime]]:
    """Start and end of each occurrence (aware, UTC), of which `start` and `end` are the first, soonest first.

    Both keep their wall-clock time in the zone. A time that a clock change skips is the first instant after the gap, of a
    repeated one it is the first, for ends as for starts; an occurrence that would then end no later than it starts has the
    first one's elapsed length instead. One that would not start after the one before it is left out. The first is always as
    given. UNTIL is an instant where it ends in Z, else a wall-clock time; a mere date includes that day.

    Invalid for a rule that is malformed, combines what the RFC says must not be combined, repeats within a day by its FREQ, has
    no end or more than MAX_OCCURRENCES, reaches further than MAX_YEARS, or does not include the first occurrence.
    """
    if end <= start:
        raise _refused("An occurrence ends after it starts.")
    read = _read(rule)
    try:
        return _expand(read, start, end, ZoneInfo(zone))
    except OverflowError:
        raise _too_far() from None  # the calendar ends in the year 9999
