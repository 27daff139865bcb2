"""The analytics of a period: its days on a zone's calendar, and what is said about the bookings made in it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from holdfast.core.errors import Invalid
from holdfast.core.schedules import FIRST_DATE, LAST_DATE, wall_to_instant

#: Days that one report looks at, at most: what it costs grows with the bookings in them.
MAX_DAYS = 366
#: Days that one statement looks at, at most: it must end before the limit of statements, on a busy machine too.
PIECE_DAYS = 62
DEFAULT_TOP, MAX_TOP = 5, 100
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """The days from `first` to `last`, both inclusive, on the calendar of `zone`. Raises Invalid where it makes no sense.

    A day begins at the instant at which the zone's clock first shows its midnight, or the first later time where a clock
    change skips midnight, and ends where the next one begins: 23, 24, 25 or whatever hours after.
    """

    first: date
    last: date
    zone: str = "UTC"

    def __post_init__(self) -> None:
        """Check what the fields by themselves do not say."""
        if self.last < self.first:
            message = "The period ends before it begins: `to` is earlier than `from`."
            raise Invalid(message)
        if (self.last - self.first).days >= MAX_DAYS:
            message = f"The period is longer than {MAX_DAYS} days: ask for a shorter one, `from` and `to` both count."
            raise Invalid(message, details={"rule": "maxDays", "value": MAX_DAYS})
        if self.first < FIRST_DATE or self.last > LAST_DATE:
            message = f"The calendar of reports goes from {FIRST_DATE} to {LAST_DATE}."
            raise Invalid(message)

    @property
    def dates(self) -> list[date]:
        """Every date of it."""
        return [self.first + number * _DAY for number in range((self.last - self.first).days + 1)]

    @cached_property
    def edges(self) -> list[datetime]:
        """Where each of its days begins, and where the last one ends: one more than there are dates."""
        zone = ZoneInfo(self.zone)
        return [wall_to_instant(day, 0, zone, last=False) for day in (*self.dates, self.last + _DAY)]

    @property
    def start(self) -> datetime:
        """Its first instant."""
        return self.edges[0]

    @property
    def end(self) -> datetime:
        """The first instant after it."""
        return self.edges[-1]

    def pieces(self) -> list[tuple[datetime, datetime]]:
        """Periods that are all of it together, two at least unless it is a day: each as much as one statement looks at."""
        days = len(self.edges) - 1
        count = min(days, max(2, -(-days // PIECE_DAYS)))
        cuts = [self.edges[number * days // count] for number in range(count + 1)]
        return list(pairwise(cuts))


def percent_of(part: int, whole: int) -> float | None:
    """A percentage with two decimals, halves rounded up; None where there is no whole to be a part of."""
    return (20_000 * part + whole) // (2 * whole) / 100 if whole else None


@dataclass(frozen=True, slots=True)
class Day:
    """The bookings made on a date, and how many of them are cancelled by now."""

    date: date
    bookings: int
    cancelled: int

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {"date": self.date.isoformat(), "bookings": self.bookings, "cancelled": self.cancelled}


@dataclass(frozen=True, slots=True)
class Tally:
    """How many bookings of a resource were made; `units` counts its seats or slots in them."""

    kind: str
    id: UUID
    name: str
    bookings: int
    units: int

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {"id": str(self.id), "name": self.name, "bookings": self.bookings}


def leading(tallies: Iterable[Tally], kind: str, *, count: int) -> list[Tally]:
    """Those of a kind with the most bookings; of equally many, by name, then by id."""
    found = sorted((one for one in tallies if one.kind == kind), key=attrgetter("name", "id"))
    return sorted(found, key=attrgetter("bookings"), reverse=True)[:count]


@dataclass(frozen=True, slots=True)
class OpenRoom:
    """A room, and for how long it was open in the period."""

    no: int
    id: UUID
    name: str
    is_archived: bool
    open_seconds: int


@dataclass(frozen=True, slots=True)
class RoomUse:
    """For how long a room was open in the period, and for how long booked. In seconds."""

    id: UUID
    name: str
    open_seconds: int
    booked_seconds: int

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "roomId": str(self.id),
            "name": self.name,
            "openMinutes": self.open_seconds // 60,
            "bookedMinutes": self.booked_seconds // 60,
            "percent": percent_of(self.booked_seconds, self.open_seconds),
        }


def uses(rooms: Iterable[OpenRoom], booked: Mapping[int, int]) -> list[RoomUse]:
    """Every room there is, and those that are gone but were booked in the period; `booked` is in seconds by their numbers."""
    return [
        RoomUse(room.id, room.name, room.open_seconds, booked.get(room.no, 0))
        for room in rooms
        if booked.get(room.no) or not room.is_archived
    ]


@dataclass(frozen=True, slots=True)
class EventUse:
    """An event's seats that are not blocked, and those of them that are booked."""

    id: UUID
    name: str
    capacity: int
    booked: int

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "eventId": str(self.id),
            "name": self.name,
            "capacity": self.capacity,
            "booked": self.booked,
            "percent": percent_of(self.booked, self.capacity),
        }


@dataclass(frozen=True, slots=True)
class LeadTime:
    """How long ahead of their start bookings were made, in minutes; None where none was made.

    Of whole minutes, rounded down; between two bookings a value is interpolated, as a median usually is.
    """

    median: float | None
    p90: float | None

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {"medianMinutes": self.median, "p90Minutes": self.p90}


def lead_time(histogram: Mapping[int, int]) -> LeadTime:
    """The median and the ninth decile of minutes, each with how many bookings have it."""
    minutes = sorted(histogram)
    upto = list(accumulate(histogram[one] for one in minutes))
    if not upto:
        return LeadTime(None, None)

    def quantile(tenths: int) -> float:
        rank, rest = divmod((upto[-1] - 1) * tenths, 10)
        below, above = minutes[bisect_right(upto, rank)], minutes[bisect_right(upto, rank + (rest > 0))]
        return round(below + (above - below) * rest / 10, 2)

    return LeadTime(quantile(5), quantile(9))


@dataclass(frozen=True, slots=True)
class Analytics:
    """All of a report."""

    period: Period
    days: list[Day]
    tallies: list[Tally]
    lead_time: LeadTime
    rooms: list[RoomUse]
    events: list[EventUse]

    def as_json(self, *, top: int) -> dict[str, Any]:
        """The wire's shape, with the first `top` of each kind."""
        bookings = sum(day.bookings for day in self.days)
        cancelled = sum(day.cancelled for day in self.days)
        return {
            "from": self.period.first.isoformat(),
            "to": self.period.last.isoformat(),
            "tz": self.period.zone,
            "totals": {
                "bookings": bookings,
                "active": bookings - cancelled,
                "cancelled": cancelled,
                "cancellationRate": percent_of(cancelled, bookings) or 0.0,
                "seats": sum(one.units for one in self.tallies if one.kind == "event"),
            },
            "perDay": [day.as_json() for day in self.days],
            "topRooms": [one.as_json() for one in leading(self.tallies, "room", count=top)],
            "topHosts": [one.as_json() for one in leading(self.tallies, "host", count=top)],
            "topEvents": [one.as_json() for one in leading(self.tallies, "event", count=top)],
            "leadTime": self.lead_time.as_json(),
            "utilization": [room.as_json() for room in self.rooms],
            "eventUtilization": [event.as_json() for event in self.events],
        }
