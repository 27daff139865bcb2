"""The days of a period, the time that a schedule is open, the top of a list, safe cells and cursors: all without a database."""

import csv
import io
import random
import statistics
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from holdfast.core.errors import Invalid
from holdfast.core.schedules import Schedule, Window, slots_on
from holdfast.reports import rules
from holdfast.reports.rules import Change, Period, Tally, Types

EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", date(2026, 3, 29), 24),
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5),
        ("America/St_Johns", date(2026, 3, 8), 23),
        ("America/St_Johns", date(2026, 11, 1), 25),
        # Midnight itself is skipped: the day begins at one o'clock.
        ("America/Sao_Paulo", date(2018, 11, 4), 23),
        ("America/Havana", date(2026, 11, 1), 25),
        # A day that was left out to change sides of the date line.
        ("Pacific/Apia", date(2011, 12, 30), 0),
    ],
)
def test_a_day_has_the_hours_that_its_clock_shows(zone: str, day: date, hours: float) -> None:
    period = Period(day, day, zone)
    assert period.end - period.start == hours * HOUR


@pytest.mark.parametrize(
    "zone", ["UTC", "Australia/Lord_Howe", "America/St_Johns", "Europe/Berlin", "Asia/Kathmandu", "Africa/Cairo"]
)
def test_an_instant_belongs_to_the_date_that_the_zones_clock_shows(zone: str) -> None:
    period = Period(date(2026, 1, 1), date(2026, 12, 31), zone)
    chance = random.Random(4)
    assert len(period.edges) == len(period.dates) + 1 == 366
    for number, edge in enumerate(period.edges[:-1]):
        for instant in (edge, edge + chance.random() * (period.edges[number + 1] - edge)):
            assert instant.astimezone(ZoneInfo(zone)).date() == period.dates[number]
        assert (edge - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date() == period.dates[number] - timedelta(days=1)


def test_a_day_begins_once_where_the_clock_goes_back_over_midnight() -> None:
    """St. John's, 2010: at 00:01 of 7 November the clock went back to 23:01. The second 23:01 is the seventh's already."""
    period = Period(date(2010, 11, 6), date(2010, 11, 7), "America/St_Johns")
    first, second = (after - before for before, after in pairwise(period.edges))
    assert (first, second) == (24 * HOUR, 25 * HOUR)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2026, 1, 2), date(2026, 1, 1)),
        (date(2026, 1, 1), date(2027, 1, 2)),
        (date(1, 1, 1), date(1, 1, 9)),
        (date(9999, 12, 25), date(9999, 12, 31)),
    ],
)
def test_a_period_that_makes_no_sense_is_refused(first: date, last: date) -> None:
    with pytest.raises(Invalid):
        Period(first, last)


def test_the_longest_period_is_a_leap_year_and_its_limit_is_named() -> None:
    assert len(Period(date(2028, 1, 1), date(2028, 12, 31)).dates) == rules.MAX_DAYS
    with pytest.raises(Invalid) as refused:
        Period(date(2028, 1, 1), date(2029, 1, 1))
    assert refused.value.details == {"rule": "maxDays", "value": 366}


@pytest.mark.parametrize(("days", "count"), [(1, 1), (2, 2), (7, 2), (31, 2), (124, 2), (125, 3), (366, 6)])
def test_the_pieces_of_a_period_are_all_of_it(days: int, count: int) -> None:
    period = Period(date(2026, 3, 1), date(2026, 3, 1) + timedelta(days=days - 1), "Europe/Berlin")
    pieces = period.pieces()
    assert (pieces[0][0], pieces[-1][1], len(pieces)) == (period.start, period.end, count)
    assert all(one[1] == other[0] for one, other in pairwise(pieces))
    assert all(timedelta() < end - start <= timedelta(days=62, hours=1) for start, end in pieces)


# For how long a room is open


def by_slots(schedule: Schedule, zone: str, start: datetime, end: datetime, closures: list[tuple[datetime, datetime]]) -> int:
    """The same by looking at every minute of every slot: slow, and plain."""
    seconds = 0
    day = start.date() - timedelta(days=3)
    while day <= end.date() + timedelta(days=3):
        for slot in slots_on(schedule, day, zone, 1):
            for minute in range(schedule.slot_minutes):
                instant = slot.start + timedelta(minutes=minute)
                if start <= instant < end and not any(since <= instant < until for since, until in closures):
                    seconds += 60
        day += timedelta(days=1)
    return seconds


ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "America/Havana", "Africa/Cairo", "Asia/Kathmandu"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("seed", range(4))
def test_open_time_is_that_of_the_slots(zone: str, seed: int) -> None:
    chance = random.Random(f"{zone} {seed}")
    windows = []
    for weekday in EVERY_DAY:
        times = sorted(chance.sample(range(0, 1441, 5), 4))
        windows += [Window((weekday,), times[0], times[1]), Window((weekday,), times[2], times[3])][: chance.randint(0, 2)]
    windows.append(Window((1, 7), 0, 5))
    schedule = Schedule(chance.choice([5, 30, 45, 60]), tuple(windows))
    # Around the clock changes of spring and autumn, and an hour that is on no edge of a day.
    middle = chance.choice(
        [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 4, 5, tzinfo=UTC)]
    )
    start = middle - timedelta(minutes=chance.randint(1, 9000))
    end = middle + timedelta(minutes=chance.randint(1, 9000))
    closures, since = [], start - timedelta(days=2)
    while since < end and len(closures) < 6:
        since += timedelta(minutes=chance.randint(1, 4000))
        until = since + timedelta(minutes=chance.choice([1, 60, 1500, 5000]))
        closures.append((since, until))
        since = until
    for closed in ([], closures):
        assert rules.open_seconds(schedule, zone, start, end, closed) == by_slots(schedule, zone, start, end, closed)


def test_a_room_that_never_closes_is_open_for_all_of_a_year_but_its_tails() -> None:
    schedule = Schedule(30, (Window(EVERY_DAY, 0, 1440),))
    period = Period(date(2026, 1, 1), date(2026, 12, 31), "Europe/Berlin")
    assert rules.open_seconds(schedule, "Europe/Berlin", period.start, period.end) == 365 * 24 * 3600
    nearly = Schedule(30, (Window(EVERY_DAY, 0, 1439),))
    assert rules.open_seconds(nearly, "UTC", period.start, period.start + 24 * HOUR) == 47 * 1800
    assert rules.open_seconds(schedule, "UTC", period.end, period.start) == 0


# The top of a list


def test_the_most_booked_come_first_and_equals_by_name() -> None:
    def tally(kind: str, name: str, bookings: int) -> Tally:
        return Tally(kind, uuid4(), name, bookings, bookings)

    tallies = [tally("room", "B", 3), tally("host", "H", 9), tally("room", "A", 3), tally("room", "C", 5), tally("room", "D", 1)]
    assert [one.name for one in rules.leading(tallies, "room", count=3)] == ["C", "A", "B"]
    assert [one.name for one in rules.leading(reversed(tallies), "room", count=3)] == ["C", "A", "B"]
    assert rules.leading(tallies, "event", count=3) == []


@pytest.mark.parametrize("count", [2, 3, 4, 7, 10, 11, 100, 1001])
def test_the_median_and_the_ninth_decile_are_those_of_the_values_themselves(count: int) -> None:
    chance = random.Random(count)
    values = [chance.choice([-3, 0, 7, chance.randint(0, 20_000)]) for _ in range(count)]
    found = rules.lead_time(Counter(values))
    assert found.median == statistics.median(values)
    assert found.p90 == pytest.approx(statistics.quantiles(values, n=10, method="inclusive")[8], abs=0.005)


def test_the_lead_time_of_one_is_its_own_and_of_none_none() -> None:
    assert rules.lead_time({5: 1}).as_json() == {"medianMinutes": 5, "p90Minutes": 5}
    assert rules.lead_time({}).as_json() == {"medianMinutes": None, "p90Minutes": None}


def test_a_percentage_has_two_decimals_and_nothing_is_a_part_of_nothing() -> None:
    assert rules.percent_of(1, 3) == 33.33
    assert (rules.percent_of(2, 3), rules.percent_of(1, 32), rules.percent_of(7, 7)) == (66.67, 3.13, 100)
    assert rules.percent_of(0, 3) == 0
    assert rules.percent_of(0, 0) is None


# Cells


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\rx",
        "\nx",
        "  =1",
        "\N{NO-BREAK SPACE}=1",
        "\N{IDEOGRAPHIC SPACE}+1",
        "\N{ZERO WIDTH SPACE}=1",
        "\N{ZERO WIDTH NO-BREAK SPACE}=1",
        "\N{RIGHT-TO-LEFT OVERRIDE}=1",
        "\x01=1",
        "\N{FULLWIDTH EQUALS SIGN}1",
        "\N{FULLWIDTH PLUS SIGN}1",
        "\N{FULLWIDTH HYPHEN-MINUS}1",
        "\N{FULLWIDTH COMMERCIAL AT}x",
        "\N{SMALL COMMERCIAL AT}x",
        "\N{SUPERSCRIPT PLUS SIGN}x",
        "\N{MINUS SIGN}1",
        "=cmd|' /C calc'!A0",
        "-",
    ],
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert rules.safe_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x;=1+1", "x;'=1+1"),
        ("x; \N{FULLWIDTH EQUALS SIGN}1;y", "x;' \N{FULLWIDTH EQUALS SIGN}1;y"),
        (";-1", ";'-1"),
        ("first\n=1", "first\n'=1"),
        ("first\r\n\r\n@x;+1", "first\r\n\r\n'@x;'+1"),
        ("=1;=2", "'=1;'=2"),
        ("\n=1", "'\n'=1"),
        ("\t=1", "'\t'=1"),
        ("a\t=1", "a\t'=1"),
        ('a;"=1+1;', "a;'\"=1+1;"),
        ('a\n ""-1', 'a\n\' ""-1'),
    ],
)
def test_so_does_what_begins_a_cell_where_semicolons_separate(text: str, expected: str) -> None:
    assert rules.safe_cell(text) == expected


@pytest.mark.parametrize(
    "text",
    ["a; b", "one\ntwo", ";", "", " ", "Review", "a=1", "1-2", "'=1", "(=1)", "ä@b", "2026-11-20", "\N{GRINNING FACE}=", "x\ty"],
)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert rules.safe_cell(text) == text


def test_a_line_reads_back_as_it_was_written() -> None:
    values = ["a,b", 'say "hi"', "two\nlines", "carriage\r\nreturn", "", None, 5, "ünï-\N{GRINNING FACE}", ";", "'"]
    written = rules.line(values)
    assert written.endswith("\r\n")
    assert next(csv.reader(io.StringIO(written, newline=""))) == ["" if value is None else str(value) for value in values]


# Changes


def change(**fields: object) -> Change:
    plain: dict[str, object] = {
        "id": uuid4(),
        "number": 1,
        "type": "booking.created",
        "subject_id": uuid4(),
        "actor_id": None,
        "actor_role": "user",
        "actor_key_id": None,
        "request_id": None,
        "address": None,
        "before": None,
        "after": None,
        "occurred_at": datetime(2026, 11, 20, 9, tzinfo=UTC),
    }
    return Change(**(plain | fields))  # type: ignore[arg-type]  # by name


ME, OTHER, KEY = uuid4(), uuid4(), uuid4()


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"actor_id": ME}, "user"),
        ({"actor_id": ME, "after": {"userId": str(ME)}}, "user"),
        ({"actor_id": ME, "after": {"userId": str(OTHER)}}, "user"),
        ({"actor_id": ME, "actor_role": "admin"}, "user"),
        ({"actor_id": ME, "actor_role": "admin", "after": {"userId": str(ME)}}, "user"),
        ({"actor_id": ME, "actor_role": "admin", "after": {"userId": str(OTHER)}}, "frontDesk"),
        ({"actor_id": ME, "actor_role": "admin", "before": {"userId": str(OTHER)}}, "frontDesk"),
        ({"actor_id": ME, "actor_role": "admin", "before": {"userId": None}, "after": {"name": "x"}}, "user"),
        ({"actor_id": ME, "actor_role": "admin", "after": {"userId": str(OTHER)}, "actor_key_id": KEY}, "apiKey"),
        ({"actor_role": "admin"}, "system"),
        ({"actor_role": "anyone"}, "anyone"),
    ],
)
def test_the_actor_is_named_by_the_right_that_it_was_done_by(fields: dict[str, object], kind: str) -> None:
    assert change(**fields).as_json()["actor"]["kind"] == kind


def test_types_that_end_with_a_dot_are_beginnings() -> None:
    types = Types.of(["booking.", "user.created", "hold."])
    assert types == Types(("user.created",), ("booking.", "hold."))
    assert types.fits("booking.created")
    assert types.fits("user.created")
    assert not types.fits("user.updated")
    assert not types.fits("bookings")
    assert Types.of([]).fits("anything.happened")


def test_cursors_read_back_as_they_were_written() -> None:
    for number in (0, 1, 10**17):
        assert rules.number_in_cursor(rules.number_text(number)) == number
    one = change(occurred_at=datetime(2026, 11, 20, 9, 0, 0, 123457, tzinfo=UTC))
    place = rules.place_in_cursor(rules.place_text(one))
    assert (place.occurred_at, place.id) == (one.occurred_at, one.id)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "1",
        "YWZ0ZXI6",
        "YWZ0ZXI6LTE",
        "YWZ0ZXI6MQ==",
        "YWZ0ZXI6MR",
        "ä",
        "\x00",
        "a" * 500,
        "YmVmb3JlOjE6MQ",
        "%%%",
        "YWZ0ZXI6MTAwMDAwMDAwMDAwMDAwMDAwMDAwMDA",
    ],
)
def test_a_cursor_of_somebody_else_is_refused(cursor: str) -> None:
    for reads in (rules.number_in_cursor, rules.place_in_cursor):
        with pytest.raises(Invalid):
            reads(cursor)


def test_a_cursor_of_the_other_list_is_refused() -> None:
    with pytest.raises(Invalid):
        rules.place_in_cursor(rules.number_text(5))
    with pytest.raises(Invalid):
        rules.number_in_cursor(rules.place_text(change()))


def test_the_cursor_of_a_place_holds_any_id() -> None:
    one = change(id=UUID(int=2**128 - 1))
    assert rules.place_in_cursor(rules.place_text(one)).id == one.id
