"""Instants: reading the clock, and how instants look on the wire (RFC 3339, UTC, `Z`)."""

import re
from datetime import UTC, date, datetime, time

# RFC 3339 section 5.6. `datetime.fromisoformat` takes far more (week dates, missing zones), hence the pattern.
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", re.ASCII)

#: The first and last instants that a request may name: any zone's offset still fits into the calendar.
EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
LATEST = datetime(9999, 12, 29, tzinfo=UTC)


def now() -> datetime:
    """The present instant, aware, in UTC. Read once, at the edge, and passed down as a value."""
    return datetime.now(UTC)


def instant_text(instant: datetime) -> str:
    """RFC 3339 in UTC, with microseconds only where there are any: `2026-11-20T09:00:00Z`."""
    if instant.tzinfo is not UTC:
        instant = instant.astimezone(UTC)
    return instant.isoformat()[:-6] + "Z"  # without its +00:00


def parse_instant(text: str) -> datetime:
    """An RFC 3339 instant as an aware UTC value; ValueError for anything else, zone-less times included."""
    if not _INSTANT.fullmatch(text):
        msg = "an instant looks like 2026-11-20T09:00:00Z"
        raise ValueError(msg)
    try:
        instant = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = "there is no such instant"
        raise ValueError(msg) from error
    if not EARLIEST <= instant <= LATEST:
        msg = "the instant is outside the calendar"
        raise ValueError(msg)
    return instant


def parse_date(text: str) -> date:
    """A date of exactly ten characters, `YYYY-MM-DD`; ValueError for anything else."""
    if not _DATE.fullmatch(text):
        msg = "a date looks like 2026-11-20"
        raise ValueError(msg)
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        msg = "there is no such date"
        raise ValueError(msg) from error


def parse_wall_time(text: str) -> time:
    """A time of day, `H:MM` or `HH:MM`, 0:00 to 23:59; ValueError for anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        msg = "a time looks like 09:00"
        raise ValueError(msg)
    return time(int(match[1]), int(match[2]))
