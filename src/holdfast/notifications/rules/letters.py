"""The words of the mails. Times are those of the resource's own clock, with its zone; what people wrote is quoted as it is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email import policy
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from holdfast.adapters.mail import header_text
from holdfast.calendars.rules import Entry, Method, Period, one_line
from holdfast.notifications.rules.templates import HTML, TEXT


class _Headers(HeaderRegistry):
    """The library's, which makes a class anew for each header that is set; a mail has thirty, of a dozen kinds."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The class of a header's values."""
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = super().__getitem__(name)
        return made


_POLICY = policy.SMTP.clone(header_factory=_Headers())
_MAX_SUBJECT = 150
#: Times that one mail lists; the calendar file has them all.
_MOST_TIMES = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A resource as a mail names it: its name, where it is, whose clock counts, and whose time it is (hosts)."""

    id: UUID
    kind: str
    name: str
    location: str | None
    zone: str
    host_user_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A booking as a mail tells of it. `by`: who did what is told, in the reader's eyes (you, admin, host, guest)."""

    entry: Entry
    zone: str
    by: str
    is_guests: bool = False
    before: tuple[Period, ...] = ()


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail before it has its form: what happened, what it is about, and what to do (`then`)."""

    subject: str
    heading: str
    lines: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()
    then: tuple[str, ...] = ()
    calendar: tuple[Entry, ...] = field(default=())
    method: Method = "PUBLISH"


def when(period: Period, zone: str) -> str:
    """`Tue 05 Jan 2027, 10:00 to 11:00 (Europe/Berlin, UTC+01:00)`."""
    clock = ZoneInfo(zone)
    try:
        start = period[0].astimezone(clock)
        end = None if period[1] is None else period[1].astimezone(clock)
    except OverflowError:
        # The last days of the calendar, shifted out of it.
        start, end = period
    text = f"{start:%a %d %b %Y, %H:%M}"
    if end is not None:
        text += f" to {end:%H:%M}" if end.date() == start.date() else f" to {end:%a %d %b %Y, %H:%M}"
    return f"{text} ({zone}, {_offset(start)})"


def _offset(instant: datetime) -> str:
    shift = instant.strftime("%z")
    return f"UTC{shift[:3]}:{shift[3:5]}"


def _times(periods: Sequence[Period], zone: str) -> str:
    shown = [when(period, zone) for period in periods[:_MOST_TIMES]]
    left = len(periods) - len(shown)
    return "\n".join([*shown, f"and {left} more"] if left else shown)


def _facts(told: Told) -> tuple[tuple[str, str], ...]:
    entry = told.entry
    facts = [("What", entry.summary), ("When", _times(entry.periods, told.zone))]
    if told.before:
        facts.append(("Before", _times(told.before, told.zone)))
    if entry.location:
        facts.append(("Where", entry.location))
    if entry.url:
        facts.append(("Link", entry.url))
    if entry.notes:
        facts.append(("Notes", entry.notes))
    return tuple(facts)


_OWNERS_WORDS = {
    "booking.created": ("Booked", "Your booking is confirmed."),
    "booking.updated": ("Changed", "The title or the notes of your booking were changed."),
    "booking.rescheduled": ("Moved", "Your booking has a new time or place."),
    "booking.cancelled": ("Cancelled", "Your booking is cancelled."),
    "booking.reminder": ("Soon", "Your booking begins soon."),
}
_HOSTS_WORDS = {
    "booking.created": ("New booking", "Somebody booked your time."),
    "booking.updated": ("Changed", "The title or the notes of a booking of your time were changed."),
    "booking.rescheduled": ("Moved", "A booking of your time was moved."),
    "booking.cancelled": ("Cancelled", "A booking of your time is cancelled: it is free again."),
}
_BY = {"admin": "An admin did this.", "host": "The host did this.", "guest": "The guest did this."}


def _subject(*parts: str) -> str:
    text = one_line(" ".join(parts))
    return text if len(text) <= _MAX_SUBJECT else f"{text[: _MAX_SUBJECT - 1]}\N{HORIZONTAL ELLIPSIS}"


def _lines(first: str, told: Told) -> tuple[str, ...]:
    return (first, _BY[told.by]) if told.by in _BY else (first,)


def booking_letter(message_type: str, told: Told) -> Letter:
    """What happened to one booking, for its owner, or for the host whose time it takes."""
    word, first = (_HOSTS_WORDS if told.is_guests else _OWNERS_WORDS)[message_type]
    entry = told.entry
    # A reminder changes nothing: the calendar has it.
    calendar = () if message_type == "booking.reminder" else (entry,)
    return Letter(
        subject=_subject(f"{word}:", entry.summary, "-", when(entry.periods[0], told.zone)),
        heading=f"{word}: {one_line(entry.summary)}",
        lines=_lines(first, told),
        facts=_facts(told),
        calendar=calendar,
        method="CANCEL" if entry.cancelled else "REQUEST",
    )


def departure_letter(told: Told) -> Letter:
    """For a host whose time a booking took until it was moved elsewhere: for them it is cancelled."""
    entry = told.entry
    return Letter(
        subject=_subject("Cancelled:", entry.summary, "-", when(entry.periods[0], told.zone)),
        heading=f"Cancelled: {one_line(entry.summary)}",
        lines=_lines("A booking of your time was moved elsewhere: your time is free again.", told),
        facts=_facts(told),
        calendar=(entry,),
        method="CANCEL",
    )


def bookings_letter(message_type: str, told: Sequence[Told]) -> Letter:
    """What happened to bookings of a series at once: one mail, whose calendar file has all of them."""
    first = told[0]
    word, line = {
        "series.created": ("Booked", "Your series is confirmed."),
        "booking.rescheduled": ("Moved", "Bookings of your series have a new time."),
        "booking.cancelled": ("Cancelled", "Bookings of your series are cancelled."),
    }[message_type]
    count = f"{len(told)} times" if len(told) > 1 else "once"
    periods = [period for one in told for period in one.entry.periods]
    facts = [("What", first.entry.summary), ("When", _times(periods, first.zone))]
    if first.entry.location:
        facts.append(("Where", first.entry.location))
    if first.entry.notes:
        facts.append(("Notes", first.entry.notes))
    return Letter(
        subject=_subject(f"{word}:", first.entry.summary, "-", count),
        heading=f"{word}: {one_line(first.entry.summary)}",
        lines=_lines(line, first),
        facts=tuple(facts),
        calendar=tuple(one.entry for one in told),
    )


def event_moved_letter(name: str, told: Sequence[Told], *, period: Period | None, venue: str | None) -> Letter:
    """An event has another time, another place or both, and the reader's bookings with it. What it had before; None: the same."""
    first = told[0]
    new = " and ".join(word for word, old in (("time", period), ("place", venue)) if old is not None)
    before = [*([when(period, first.zone)] if period is not None else []), *([venue] if venue is not None else [])]
    return Letter(
        subject=_subject("Moved:", name, "-", when(first.entry.periods[0], first.zone)),
        heading=f"Moved: {one_line(name)}",
        lines=(f"An event that you have booked has a new {new}. Your seats are the same.",),
        facts=(
            ("What", name),
            ("When", when(first.entry.periods[0], first.zone)),
            ("Before", "\n".join(before)),
            *((("Where", "\n".join(one.entry.location for one in told if one.entry.location)),)),
        ),
        calendar=tuple(one.entry for one in told),
    )


def offer_letter(entry: dict[str, Any], place: Place, *, period: Period, until: datetime, base: str) -> Letter:
    """It is the reader's turn: what is kept for them, until when, and how to take it."""
    end = when((until, None), place.zone)
    count = entry["quantity"]
    facts = [("What", place.name), ("When", when(period, place.zone))]
    if place.kind == "event":
        facts.append(("Seats", str(count)))
    if place.location:
        facts.append(("Where", place.location))
    facts.append(("Yours until", end))
    return Letter(
        subject=_subject("Your turn:", place.name, "-", when(period, place.zone)),
        heading=f"Your turn: {one_line(place.name)}",
        lines=("What you waited for is free, and kept for you. Take it in time: after that, the next in line is asked.",),
        facts=tuple(facts),
        then=(
            f'To take it, send POST {base}/bookings with {{"holdToken": "{entry["holdToken"]}"}}.',
            f"If you do not want it any more, send DELETE {base}/waitlist/{entry['id']}: the next in line is asked at once.",
        ),
    )


def reset_letter(*, token: str, minutes: int, base: str) -> Letter:
    """The way to a new password, for whoever reads the account's mail."""
    return Letter(
        subject="A new password for Holdfast",
        heading="A new password",
        lines=(
            "Somebody, probably you, asked for a new password for your account.",
            f"This token is good once, for {minutes} minutes:",
            token,
        ),
        then=(
            f'Send PUT {base}/auth/password-reset with {{"token": "{token}", "newPassword": "..."}}.',
            f"It can be tried at {base}/docs too.",
            "If it was not you, do nothing: your password stays as it is.",
        ),
    )


def webhook_letter(*, webhook_id: UUID, url: str, reason: str | None, base: str) -> Letter:
    """A webhook is not served any more, for the admin who made it."""
    return Letter(
        subject=_subject("Webhook disabled:", url),
        heading="A webhook is disabled",
        lines=("Nothing is sent to this address any more. What happened meanwhile is kept: GET /changes.",),
        facts=(("Address", url), *((("Reason", reason),) if reason else ())),
        then=(f'Once it is put right, send PATCH {base}/webhooks/{webhook_id} with {{"enabled": true}}.',),
    )


def make_message(
    letter: Letter,
    *,
    sender: Address,
    to: Address,
    message_id: UUID,
    user_id: UUID,
    subject_id: UUID,
    date: datetime,
    calendar: bytes | None,
    base: str,
) -> EmailMessage:
    """The letter as a mail. Its Message-ID is the same whenever it is written, so that a repeat can be told."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = header_text(letter.subject)
    message["Date"] = format_datetime(date)
    # Short: a long one would be folded in the middle of a word.
    digest = hashlib.sha256(message_id.bytes + user_id.bytes).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@holdfast>"
    # What is about the same thing stands together in the reader's program.
    message["References"] = f"<{subject_id}@holdfast>"
    message["Auto-Submitted"] = "auto-generated"
    footer = f"Holdfast, {base}"
    message.set_content(TEXT.get_template("letter.txt").render(letter=letter, footer=footer))
    message.add_alternative(HTML.get_template("letter.html").render(letter=letter, footer=footer), subtype="html")
    if calendar is not None:
        text = calendar.decode()
        if letter.method != "PUBLISH":
            # Among the alternatives, calendars take it for an invitation.
            message.add_alternative(text, subtype="calendar", cte="base64", params={"method": letter.method})
        message.add_attachment(
            text,
            subtype="calendar",
            cte="base64",
            filename="booking.ics" if len(letter.calendar) == 1 else "bookings.ics",
            params={"method": letter.method},
        )
    return message
