"""Calendar files, read back by another parser than the one that writes them, and by the letter of RFC 5545."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import vobject
from hypothesis import given
from hypothesis import strategies as st

from holdfast.calendars.rules import (
    Entry,
    joined,
    one_line,
    party,
    stretches,
    uid,
    window,
    write,
    write_busy,
)
from holdfast.core.settings import load_settings

START = datetime(2027, 1, 5, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
ID = UUID("0190a0b0-0000-7000-8000-000000000001")
ORGANIZER = ("Holdfast", "holdfast@example.com")


def entry(**fields: Any) -> Entry:
    given_fields: dict[str, Any] = {
        "booking_id": ID,
        "sequence": 0,
        "cancelled": False,
        "periods": ((START, START + HOUR),),
        "summary": "Review",
        "location": "Blue room, Berlin",
        "url": None,
        "notes": None,
        "created_at": START - timedelta(days=3),
        "changed_at": START - timedelta(days=2),
    }
    return Entry(**{**given_fields, **fields})


def lines(content: bytes) -> list[bytes]:
    """The content lines as they are sent, after a look at their form: CRLF, at most 75 octets, whole characters."""
    assert content.endswith(b"\r\n")
    folded = content.split(b"\r\n")[:-1]
    for line in folded:
        assert len(line) <= 75
        assert b"\n" not in line
        assert b"\r" not in line
        line.decode()
    return content.replace(b"\r\n ", b"").split(b"\r\n")[:-1]


def read(content: bytes) -> Any:
    lines(content)
    return vobject.readOne(content.decode())


def test_a_booking_is_read_back_as_it_was_written() -> None:
    content = write(
        [entry(sequence=3, url="https://meet.example.com/x?a=b,c;d", notes="Bring:\nthe plan")],
        method="REQUEST",
        organizer=ORGANIZER,
        attendee=("Anna", "anna@example.com"),
    )
    calendar = read(content)
    assert calendar.method.value == "REQUEST"
    event = calendar.vevent
    assert event.uid.value == f"{ID}@holdfast" == uid(ID)
    assert event.sequence.value == "3"
    assert (event.dtstart.value, event.dtend.value) == (START, START + HOUR)
    assert event.summary.value == "Review"
    assert event.location.value == "Blue room, Berlin"
    assert event.url.value == "https://meet.example.com/x?a=b,c;d"
    assert event.description.value == "Bring:\nthe plan"
    assert event.status.value == "CONFIRMED"
    assert event.organizer.value == "mailto:holdfast@example.com"
    assert event.attendee.value == "mailto:anna@example.com"
    assert event.attendee.params["CN"] == ["Anna"]
    raw = lines(content)
    assert b"DTSTART:20270105T090000Z" in raw
    assert b"DTSTAMP:20270103T090000Z" in raw
    assert b"LAST-MODIFIED:20270103T090000Z" in raw
    assert raw[:2] == [b"BEGIN:VCALENDAR", b"VERSION:2.0"]


def test_what_is_published_has_an_organizer_and_no_attendee() -> None:
    calendar = read(write([entry(), entry(cancelled=True)], method="PUBLISH", organizer=ORGANIZER, name="Rooms"))
    assert [one.status.value for one in calendar.vevent_list] == ["CONFIRMED", "CANCELLED"]
    assert all("attendee" not in one.contents and "organizer" in one.contents for one in calendar.vevent_list)
    assert calendar.contents["x-wr-calname"][0].value == "Rooms"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200))
def test_no_text_breaks_out_of_its_line(text: str) -> None:
    content = write(
        [entry(summary=text, location=text, notes=text)],
        method="REQUEST",
        organizer=(text, "holdfast@example.com"),
        attendee=(text, "anna@example.com"),
        name=text,
    )
    raw = lines(content)
    assert raw.count(b"BEGIN:VEVENT") == raw.count(b"END:VEVENT") == 1
    for line in raw:
        assert re.match(rb"[A-Z-]+[;:]", line), line
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", line)
    # What other parsers take for line ends (str.splitlines) is none either.
    assert all(re.match(r"[A-Z-]+[;:]| ", line) for line in content.decode().splitlines())
    event = vobject.readOne(content.decode()).vevent
    kept = re.sub(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", "\n", text)
    kept = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", kept)
    assert event.summary.value == kept


@pytest.mark.parametrize(
    "text",
    ["a;b,c\\d:e", "two\nlines", "😀" * 60, "שלום עולם " * 12, "é" * 100, 'say "hi"', "\\n is no end", "BEGIN:VEVENT\r\nX:1"],
)
def test_odd_characters_arrive(text: str) -> None:
    event = read(write([entry(summary=text)], method="PUBLISH", organizer=ORGANIZER)).vevent
    assert event.summary.value == text.replace("\r\n", "\n")


def test_a_name_cannot_add_an_address_or_a_property() -> None:
    hostile = 'Anna";X=1:mailto:evil@example.com\r\nATTENDEE:mailto:evil@example.com'
    content = write([entry()], method="REQUEST", organizer=ORGANIZER, attendee=(hostile, "an,na;x@example.com"))
    event = read(content).vevent
    (attendee,) = event.attendee_list
    assert attendee.value == "mailto:an%2Cna%3Bx@example.com"
    assert set(attendee.params) == {"CN", "ROLE", "PARTSTAT", "RSVP"}


def test_several_stretches_are_one_entry() -> None:
    later = START + 5 * HOUR
    periods = stretches([(START, START + HOUR), (START + HOUR, START + 2 * HOUR), (later, later + HOUR)])
    assert periods == ((START, START + 2 * HOUR), (later, later + HOUR))
    content = write([entry(periods=periods)], method="PUBLISH", organizer=ORGANIZER)
    assert b"RDATE;VALUE=PERIOD:20270105T140000Z/20270105T150000Z" in lines(content)
    assert read(content).vevent.dtend.value == START + 2 * HOUR


def test_seats_of_an_event_without_an_end_are_one_moment() -> None:
    assert stretches([(START, START), (START, None), (START, START)]) == ((START, None),)
    event = read(write([entry(periods=((START, None),))], method="PUBLISH", organizer=ORGANIZER)).vevent
    assert "dtend" not in event.contents


def test_busy_periods_that_overlap_or_touch_are_one() -> None:
    at = [START + n * HOUR for n in range(8)]
    assert joined([(at[4], at[5]), (at[0], at[2]), (at[1], at[3]), (at[3], at[4]), (at[6], at[6])]) == [(at[0], at[5])]


def test_free_busy_says_times_and_nothing_else() -> None:
    content = write_busy(
        [(START, START + HOUR)], shown=window(START), feed_id=ID, organizer=ORGANIZER, now=START, name="Holdfast: Room"
    )
    raw = lines(content)
    assert b"FREEBUSY;FBTYPE=BUSY;VALUE=PERIOD:20270105T090000Z/20270105T100000Z" in raw
    busy = read(content).vfreebusy
    assert busy.freebusy.value == [(START, START + HOUR)]
    assert set(busy.contents) == {"uid", "dtstamp", "dtstart", "dtend", "organizer", "freebusy"}


def test_what_is_shown_is_whole_days() -> None:
    shown = window(datetime(2027, 1, 5, 23, 59, tzinfo=UTC))
    assert shown == window(datetime(2027, 1, 5, 0, 1, tzinfo=UTC))
    assert shown.start == datetime(2026, 10, 7, tzinfo=UTC)
    assert shown.end == datetime(2028, 2, 9, tzinfo=UTC)


def reached_at(**given: object) -> str:
    return load_settings(_env_file=None, **given).reached_at


def test_links_lead_to_where_people_reach_the_service() -> None:
    assert reached_at(public_url="https://booking.example", host="0.0.0.0", port=8080) == "https://booking.example"
    assert reached_at(host="0.0.0.0", port=8080) == "http://127.0.0.1:8080"
    assert reached_at(host="::", port=8080) == "http://[::1]:8080"
    assert reached_at(host="fd00::1", port=80) == "http://[fd00::1]:80"


def test_the_sender_is_the_organizer() -> None:
    assert party("Front desk <desk@example.com>") == ("Front desk", "desk@example.com")
    assert party("desk@example.com") == (None, "desk@example.com")
    assert one_line(" a\r\nBcc: x\x00\u2028y ") == "a Bcc: x y"
