"""What stands in a calendar, and how it is written (RFC 5545, and RFC 5546 for the methods). Pure: values in, bytes out.

An entry is a booking. Its UID never changes, and its SEQUENCE is how often the booking was changed, in feeds, files and
mails alike: of two copies the one with the higher number is the newer one.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from email.utils import parseaddr
from functools import lru_cache
from typing import Any, Literal, TypeAlias
from urllib.parse import quote
from uuid import UUID

from icalendar import Calendar, Event, FreeBusy, vCalAddress

from holdfast.core.clock import instant_text

#: What feeds and free/busy show: whole days (UTC), so that an unchanged calendar is the same text all day.
DAYS_BACK = 90
DAYS_AHEAD = 400
#: A cancelled booking stays in the feeds at least so long after its cancellation, whenever it began.
CANCELLED_DAYS = 30
#: Feeds of one user.
MAX_FEEDS = 50
CONTENT_TYPE = "text/calendar; charset=utf-8"
_PRODUCT = "-//Holdfast//Holdfast//EN"
_REFRESH = timedelta(minutes=15)
_END = b"END:VCALENDAR\r\n"
# What some readers take for the end of a line, though RFC 5545 does not.
_LINE_ENDS = {ord(char): "\n" for char in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"}

Method: TypeAlias = Literal["PUBLISH", "REQUEST", "CANCEL"]
#: From when until when; without an end where none is known.
Period: TypeAlias = tuple[datetime, datetime | None]
#: An address as a calendar names it: name and e-mail.
Party: TypeAlias = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Window:
    """What a calendar shows: the time `[start, end)`, and what was cancelled since."""

    start: datetime
    end: datetime
    cancelled_since: datetime


@dataclass(frozen=True, slots=True)
class Feed:
    """A private address of a calendar; `room_id` is None where it shows the bookings of its user."""

    id: UUID
    user_id: UUID
    room_id: UUID | None
    created_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The wire's shape; the token is no part of it."""
        return {
            "id": str(self.id),
            "roomId": str(self.room_id) if self.room_id else None,
            "createdAt": instant_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Entry:
    """A booking as a calendar shows it. `periods` are its stretches of time, soonest first, at least one."""

    booking_id: UUID
    sequence: int
    cancelled: bool
    periods: tuple[Period, ...]
    summary: str
    location: str | None
    url: str | None
    notes: str | None
    created_at: datetime
    changed_at: datetime


def window(now: datetime) -> Window:
    """What a calendar shows at this moment."""
    today = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    return Window(
        today - timedelta(days=DAYS_BACK), today + timedelta(days=DAYS_AHEAD), today - timedelta(days=CANCELLED_DAYS + 1)
    )


def uid(booking_id: UUID) -> str:
    """The entry's name in every calendar, for ever."""
    return f"{booking_id}@holdfast"


def party(sender: str) -> Party:
    """The organizer out of a sender like `Holdfast <holdfast@example.com>`."""
    name, address = parseaddr(sender)
    return (name or None, address or sender)


def one_line(text: str) -> str:
    """A text without line ends and control characters, for headers and names."""
    return " ".join("".join(" " if unicodedata.category(char) in {"Cc", "Zl", "Zp"} else char for char in text).split())


def _plain(text: str) -> str:
    """A text as a calendar may carry it (RFC 5545 section 3.3.11): no control characters but line end and tab."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").translate(_LINE_ENDS)
    return "".join(char for char in lines if char in "\n\t" or unicodedata.category(char) != "Cc")


def joined(periods: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Periods that overlap or touch made one, soonest first."""
    found: list[tuple[datetime, datetime]] = []
    for start, end in sorted(periods):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def stretches(periods: Sequence[Period]) -> tuple[Period, ...]:
    """A booking's units as stretches of time: neighbours and seats of the same time are one."""
    known = [(start, end) for start, end in periods if end is not None and start < end]
    open_ended = [start for start, end in periods if end is None or start >= end]
    found: list[Period] = [*joined(known)]
    found += [(start, None) for start in sorted(set(open_ended)) if not any(a <= start < b for a, b in joined(known))]
    return tuple(sorted(found, key=lambda period: period[0]))


def location(places: Mapping[str, str | None], labels: Sequence[str]) -> str | None:
    """Where a booking is: the resources' names, each with where it is, and the seats."""
    found = [f"{name}, {place}" if place else name for name, place in places.items()]
    if labels:
        found.append(f"{'seat' if len(labels) == 1 else 'seats'} {', '.join(labels[:100])}")
    return ", ".join(found) or None


def summary(title: str | None, names: Iterable[str], *, guest: str | None = None) -> str:
    """What a booking is called: by its owner, or with `guest` by whoever is visited by them."""
    if guest is not None:
        return f"{guest}: {title}" if title else guest
    return title or ", ".join(dict.fromkeys(names))


def _address(who: Party, **parameters: str) -> vCalAddress:
    name, email = who
    address = vCalAddress(f"mailto:{quote(email, safe='@!$&*+-=_.~')}")
    if name:
        # A quotation mark cannot stand in a parameter's value (RFC 5545 section 3.2).
        address.params["CN"] = one_line(name).replace('"', "'")
    for parameter, value in parameters.items():
        address.params[parameter] = value
    return address


def _calendar(method: Method, *, name: str | None = None) -> Calendar:
    calendar = Calendar()
    calendar.add("prodid", _PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    calendar.add("method", method)
    if name is not None:
        # The second is RFC 7986's, the first what most programs read.
        calendar.add("x-wr-calname", one_line(name))
        calendar.add("name", one_line(name))
        calendar.add("refresh-interval", _REFRESH, parameters={"VALUE": "DURATION"})
        calendar.add("x-published-ttl", "PT15M")
    return calendar


def _text(calendar: Calendar) -> bytes:
    content: bytes = calendar.to_ical()
    return content


def _event(entry: Entry, *, organizer: Party, attendee: Party | None) -> Event:
    event = Event()
    event.add("uid", uid(entry.booking_id))
    event.add("sequence", entry.sequence)
    event.add("dtstamp", entry.changed_at)
    event.add("created", entry.created_at)
    event.add("last-modified", entry.changed_at)
    (start, end), *others = entry.periods
    event.add("dtstart", start)
    if end is not None:
        event.add("dtend", end)
    if others:
        # Not one stretch: the others are further times of the same entry.
        event.add("rdate", [(since, until or since) for since, until in others], parameters={"VALUE": "PERIOD"})
    event.add("summary", _plain(entry.summary))
    event.add("status", "CANCELLED" if entry.cancelled else "CONFIRMED")
    if entry.location:
        event.add("location", _plain(entry.location))
    if entry.url:
        event.add("url", entry.url)
    if entry.notes:
        event.add("description", _plain(entry.notes))
    event["organizer"] = _address(organizer)
    if attendee is not None:
        event["attendee"] = _address(attendee, ROLE="REQ-PARTICIPANT", PARTSTAT="ACCEPTED", RSVP="FALSE")
    return event


@lru_cache(maxsize=10_000)
def _event_text(entry: Entry, organizer: Party, attendee: Party | None) -> bytes:
    """Kept, as one takes 0.4 ms, and of the thousands in a busy room's feed hardly any has changed since the last look."""
    content: bytes = _event(entry, organizer=organizer, attendee=attendee).to_ical()
    return content


def write(
    entries: Iterable[Entry],
    *,
    method: Method,
    organizer: Party,
    attendee: Party | None = None,
    name: str | None = None,
) -> bytes:
    """A calendar of bookings. REQUEST and CANCEL are about one booking and have an attendee; PUBLISH has none (RFC 5546)."""
    head = _text(_calendar(method, name=name)).removesuffix(_END)
    return b"".join([head, *(_event_text(entry, organizer, attendee) for entry in entries), _END])


def write_busy(
    busy: Sequence[tuple[datetime, datetime]], *, shown: Window, feed_id: UUID, organizer: Party, now: datetime, name: str
) -> bytes:
    """Free/busy: when, and nothing else."""
    calendar = _calendar("PUBLISH", name=name)
    component = FreeBusy()
    component.add("uid", f"freebusy-{feed_id}@holdfast")
    component.add("dtstamp", now)
    component.add("dtstart", shown.start)
    component.add("dtend", shown.end)
    component["organizer"] = _address(organizer)
    for start, end in busy:
        component.add("freebusy", (max(start, shown.start), min(end, shown.end)), parameters={"FBTYPE": "BUSY"})
    calendar.add_component(component)
    return _text(calendar)
