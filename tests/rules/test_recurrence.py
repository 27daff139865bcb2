"""Occurrences of a series, against the RFC's examples, a plain evaluator of its own, and garbage."""

import calendar
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.core.errors import Invalid
from holdfast.core.recurrence import MAX_LENGTH, occurrences
from holdfast.core.schedules import wall_to_instant

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
HOUR = timedelta(hours=1)
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def instant(wall: str, zone: str) -> datetime:
    """The instant at which that zone's clock first shows this."""
    return datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def series(rule: str, first: str, zone: str = "America/New_York", length: timedelta = HOUR) -> list[str]:
    """The wall-clock starts of a series."""
    start = instant(first, zone)
    found = occurrences(rule, start=start, end=start + length, zone=zone)
    return [begins.astimezone(ZoneInfo(zone)).isoformat()[:16] for begins, _ in found]


def dates(rule: str, first: str = "1997-09-02T09:00") -> list[str]:
    """The dates of a series, which keeps its time."""
    found = series(rule, first)
    assert {text[10:] for text in found} == {first[10:]}
    return [text[:10] for text in found]


def refusal(rule: str, first: str = "2030-01-01T09:00") -> Invalid:
    with pytest.raises(Invalid) as refused:
        series(rule, first)
    return refused.value


# The examples of RFC 5545 section 3.8.5.3 that have an end, and some of those without, given a COUNT


@pytest.mark.parametrize(
    ("rule", "first", "expected"),
    [
        ("FREQ=DAILY;COUNT=10", "1997-09-02", "09-02 09-03 09-04 09-05 09-06 09-07 09-08 09-09 09-10 09-11"),
        ("FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09-02", "09-02 09-12 09-22 10-02 10-12"),
        ("FREQ=WEEKLY;COUNT=10", "1997-09-02", "09-02 09-09 09-16 09-23 09-30 10-07 10-14 10-21 10-28 11-04"),
        (
            "FREQ=WEEKLY;UNTIL=19971007T000000Z;WKST=SU;BYDAY=TU,TH",
            "1997-09-02",
            "09-02 09-04 09-09 09-11 09-16 09-18 09-23 09-25 09-30 10-02",
        ),
        (
            "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR",
            "1997-09-01",
            (
                "09-01 09-03 09-05 09-15 09-17 09-19 09-29 10-01 10-03 10-13 10-15 10-17 10-27 10-29 10-31 "
                "11-10 11-12 11-14 11-24 11-26 11-28 12-08 12-10 12-12 12-22"
            ),
        ),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", "1997-09-02", "09-02 09-04 09-16 09-18 09-30 10-02 10-14 10-16"),
        ("FREQ=MONTHLY;COUNT=4;BYDAY=1FR", "1997-09-05", "09-05 10-03 11-07 12-05"),
        ("FREQ=MONTHLY;INTERVAL=2;COUNT=4;BYDAY=1SU,-1SU", "1997-09-07", "09-07 09-28 11-02 11-30"),
        ("FREQ=MONTHLY;COUNT=4;BYDAY=-2MO", "1997-09-22", "09-22 10-20 11-17 12-22"),
        ("FREQ=MONTHLY;COUNT=4;BYMONTHDAY=-3", "1997-09-28", "09-28 10-29 11-28 12-29"),
        ("FREQ=MONTHLY;COUNT=8;BYMONTHDAY=2,15", "1997-09-02", "09-02 09-15 10-02 10-15 11-02 11-15 12-02 12-15"),
        ("FREQ=MONTHLY;COUNT=7;BYMONTHDAY=1,-1", "1997-09-30", "09-30 10-01 10-31 11-01 11-30 12-01 12-31"),
        ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04", "09-04 10-07 11-06"),
        ("FREQ=MONTHLY;COUNT=4;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "1997-09-29", "09-29 10-30 11-27 12-30"),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-08-05", "08-05 08-10 08-19 08-24"),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-08-05", "08-05 08-17 08-19 08-31"),
    ],
)
def test_examples_of_the_rfc_within_a_year(rule: str, first: str, expected: str) -> None:
    assert dates(rule, first + "T09:00") == ["1997-" + day for day in expected.split()]


@pytest.mark.parametrize(
    ("rule", "first", "expected"),
    [
        ("FREQ=YEARLY;COUNT=4;BYMONTH=6,7", "1997-06-10", "1997-06-10 1997-07-10 1998-06-10 1998-07-10"),
        (
            "FREQ=YEARLY;INTERVAL=3;COUNT=6;BYYEARDAY=1,100,200",
            "1997-01-01",
            "1997-01-01 1997-04-10 1997-07-19 2000-01-01 2000-04-09 2000-07-18",
        ),
        ("FREQ=YEARLY;COUNT=3;BYDAY=20MO", "1997-05-19", "1997-05-19 1998-05-18 1999-05-17"),
        ("FREQ=YEARLY;COUNT=3;BYWEEKNO=20;BYDAY=MO", "1997-05-12", "1997-05-12 1998-05-11 1999-05-17"),
        ("FREQ=YEARLY;COUNT=3;BYWEEKNO=20", "1997-05-12", "1997-05-12 1998-05-11 1999-05-17"),
        ("FREQ=YEARLY;COUNT=4;BYMONTH=3;BYDAY=TH", "1997-03-13", "1997-03-13 1997-03-20 1997-03-27 1998-03-05"),
        ("FREQ=MONTHLY;COUNT=3;BYDAY=FR;BYMONTHDAY=13", "1998-02-13", "1998-02-13 1998-03-13 1998-11-13"),
        ("FREQ=MONTHLY;COUNT=3;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13", "1997-09-13", "1997-09-13 1997-10-11 1997-11-08"),
        (
            "FREQ=YEARLY;INTERVAL=4;COUNT=3;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
            "1996-11-05",
            "1996-11-05 2000-11-07 2004-11-02",
        ),
        ("FREQ=MONTHLY;COUNT=5;BYMONTHDAY=31", "2007-01-31", "2007-01-31 2007-03-31 2007-05-31 2007-07-31 2007-08-31"),
        ("FREQ=MONTHLY;COUNT=3", "2007-01-30", "2007-01-30 2007-03-30 2007-04-30"),
        ("FREQ=YEARLY;COUNT=3", "2096-02-29", "2096-02-29 2104-02-29 2108-02-29"),
    ],
)
def test_examples_of_the_rfc_over_years(rule: str, first: str, expected: str) -> None:
    assert dates(rule, first + "T09:00") == expected.split()


def test_every_day_in_january_for_three_years() -> None:
    yearly = dates("FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA", "1998-01-01T09:00")
    daily = dates("FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1", "1998-01-01T09:00")
    assert yearly == daily == [f"{year}-01-{day:02d}" for year in (1998, 1999, 2000) for day in range(1, 32)]


def test_several_times_a_day() -> None:
    assert series("FREQ=DAILY;COUNT=3;BYHOUR=9,15;BYMINUTE=30", "2030-01-01T09:30") == [
        "2030-01-01T09:30",
        "2030-01-01T15:30",
        "2030-01-02T09:30",
    ]


@pytest.mark.parametrize("rule", ["freq=daily;count=2", "RRULE:FREQ=DAILY;COUNT=2", "rrule:COUNT=2;INTERVAL=01;FREQ=DAILY"])
def test_case_order_and_prefix_do_not_matter(rule: str) -> None:
    assert dates(rule) == ["1997-09-02", "1997-09-03"]


# The wall clock


@pytest.mark.parametrize(
    ("zone", "first", "offsets"),
    [
        ("Europe/Berlin", "2026-03-27T09:00", ["+01:00", "+01:00", "+02:00", "+02:00"]),
        ("Europe/Berlin", "2026-10-23T09:00", ["+02:00", "+02:00", "+01:00", "+01:00"]),
        ("America/New_York", "2026-03-06T09:00", ["-05:00", "-05:00", "-04:00", "-04:00"]),
        ("America/New_York", "2026-10-30T09:00", ["-04:00", "-04:00", "-05:00", "-05:00"]),
    ],
)
def test_nine_stays_nine_across_a_clock_change(zone: str, first: str, offsets: list[str]) -> None:
    start = instant(first, zone)
    found = occurrences("FREQ=DAILY;COUNT=4", start=start, end=start + HOUR, zone=zone)
    walls = [(begins.astimezone(ZoneInfo(zone)), ends.astimezone(ZoneInfo(zone))) for begins, ends in found]
    assert all(begins.utcoffset() == timedelta(0) for begins, _ in found)
    assert [(begins.hour, ends.hour) for begins, ends in walls] == [(9, 10)] * 4
    assert [begins.isoformat()[-6:] for begins, _ in walls] == offsets


def berlin(rule: str, first: str, last: str) -> list[str]:
    """Starts and ends in Berlin with their offsets."""
    found = occurrences(rule, start=instant(first, "Europe/Berlin"), end=instant(last, "Europe/Berlin"), zone="Europe/Berlin")
    return [" ".join(moment.astimezone(ZoneInfo("Europe/Berlin")).isoformat()[11:] for moment in pair) for pair in found]


def test_skipped_start_is_the_first_instant_after_the_gap_and_keeps_its_wall_clock_end() -> None:
    found = berlin("FREQ=DAILY;COUNT=3", "2026-03-28T02:30", "2026-03-28T03:30")
    assert found == ["02:30:00+01:00 03:30:00+01:00", "03:00:00+02:00 03:30:00+02:00", "02:30:00+02:00 03:30:00+02:00"]


def test_skipped_occurrence_keeps_its_length_after_the_gap() -> None:
    found = berlin("FREQ=DAILY;COUNT=2", "2026-03-28T02:10", "2026-03-28T02:50")
    assert found == ["02:10:00+01:00 02:50:00+01:00", "03:00:00+02:00 03:40:00+02:00"]


def test_repeated_times_are_the_first_ones() -> None:
    assert berlin("FREQ=DAILY;COUNT=2", "2026-10-24T02:10", "2026-10-24T02:50")[1] == "02:10:00+02:00 02:50:00+02:00"
    assert berlin("FREQ=DAILY;COUNT=2", "2026-10-24T01:30", "2026-10-24T03:30")[1] == "01:30:00+02:00 03:30:00+01:00"


def test_first_occurrence_is_as_given_even_at_a_repeated_time() -> None:
    start = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # 02:30 for the second time
    found = occurrences("FREQ=DAILY;COUNT=2", start=start, end=start + HOUR, zone="Europe/Berlin")
    assert found[0] == (start, start + HOUR)
    assert found[1] == (datetime(2026, 10, 26, 1, 30, tzinfo=UTC), datetime(2026, 10, 26, 2, 30, tzinfo=UTC))


def test_start_at_a_repeated_time_is_not_followed_by_an_earlier_one() -> None:
    start = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    found = occurrences("FREQ=DAILY;COUNT=4;BYMINUTE=10,40", start=start, end=start + HOUR / 6, zone="Europe/Berlin")
    assert [begins for begins, _ in found] == [start, start + timedelta(days=1), start + timedelta(days=1, minutes=30)]


def test_end_before_the_start_on_the_wall_clock_keeps_the_length() -> None:
    start = datetime(2026, 10, 25, 0, 50, tzinfo=UTC)  # 02:50 for the first time, till 02:10 for the second
    found = occurrences("FREQ=DAILY;COUNT=2", start=start, end=start + HOUR / 3, zone="Europe/Berlin")
    assert [ends - begins for begins, ends in found] == [HOUR / 3] * 2


def test_day_that_a_zone_skips_is_one_instant() -> None:
    start = instant("2011-12-29T09:00", "Pacific/Apia")
    found = occurrences("FREQ=DAILY;COUNT=3", start=start, end=start + HOUR, zone="Pacific/Apia")
    assert [begins.isoformat()[:16] for begins, _ in found] == ["2011-12-29T19:00", "2011-12-30T10:00", "2011-12-30T19:00"]
    assert found[1][1] - found[1][0] == HOUR


def test_fractions_of_a_second_are_kept() -> None:
    start = datetime(2030, 1, 1, 9, 0, 7, 250, tzinfo=UTC)
    found = occurrences("FREQ=DAILY;COUNT=2", start=start, end=start + HOUR, zone="Europe/Berlin")
    assert found == [(start + timedelta(days=n), start + timedelta(days=n) + HOUR) for n in (0, 1)]


# The end of a series


@pytest.mark.parametrize(
    ("until", "count"),
    [
        ("20300103", 3),
        ("20300103T085959", 2),
        ("20300103T090000", 3),
        ("20300103T135959Z", 2),
        ("20300103T140000Z", 3),
        ("20300101", 1),
        ("20300101T140000Z", 1),
    ],
)
def test_until_is_an_instant_with_z_and_local_without(until: str, count: int) -> None:
    assert len(series(f"FREQ=DAILY;UNTIL={until}", "2030-01-01T09:00")) == count


def test_until_between_two_equal_wall_clock_times() -> None:
    # 02:30 comes at 00:30Z and again at 01:30Z; the occurrence is the first one.
    for until, count in (("20261025T002959Z", 1), ("20261025T003000Z", 2), ("20261025T010000Z", 2)):
        start = instant("2026-10-24T02:30", "Europe/Berlin")
        assert len(occurrences(f"FREQ=DAILY;UNTIL={until}", start=start, end=start + HOUR, zone="Europe/Berlin")) == count


def test_year_of_days_is_the_most() -> None:
    assert len(dates("FREQ=DAILY;COUNT=366")) == 366
    assert len(dates("FREQ=DAILY;UNTIL=20301231", "2029-12-31T09:00")) == 366


@pytest.mark.parametrize(
    "rule",
    ["FREQ=DAILY", "FREQ=DAILY;COUNT=367", "FREQ=DAILY;COUNT=999999999", "FREQ=DAILY;UNTIL=20310102", "FREQ=WEEKLY;BYDAY=TU"],
)
def test_endless_and_long_series_are_refused(rule: str) -> None:
    details = refusal(rule).details
    assert details is not None
    assert (details["rule"], details["value"]) == ("maxOccurrences", 366)


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=YEARLY;COUNT=42",
        "FREQ=WEEKLY;UNTIL=99991231T235959Z;INTERVAL=52",
        "FREQ=YEARLY;UNTIL=99991231;INTERVAL=1000",
        "FREQ=YEARLY;COUNT=2;INTERVAL=1000",
        "FREQ=YEARLY;COUNT=2;BYMONTH=1;BYMONTHDAY=1,30;BYDAY=TU;BYSETPOS=2",
        "FREQ=MONTHLY;COUNT=2;BYYEARDAY=1",
    ],
)
def test_far_ends_are_refused(rule: str) -> None:
    refusal(rule)


def test_series_in_the_last_year_of_the_calendar_ends_in_a_refusal() -> None:
    refusal("FREQ=DAILY;COUNT=20", "9999-12-20T09:00")


def test_no_horizon_is_needed_after_until() -> None:
    assert dates("FREQ=YEARLY;UNTIL=20360101;BYMONTH=2;BYMONTHDAY=29", "2032-02-29T09:00") == ["2032-02-29"]


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=WEEKLY;COUNT=3;BYDAY=MO",
        "FREQ=DAILY;COUNT=3;BYHOUR=10",
        "FREQ=DAILY;UNTIL=20291231",
        "FREQ=DAILY;UNTIL=20300101T135959Z",
        "FREQ=DAILY;UNTIL=19000101",
        "FREQ=YEARLY;UNTIL=20400101;BYMONTH=2;BYMONTHDAY=30",
    ],
)
def test_rule_without_its_first_occurrence_is_refused(rule: str) -> None:
    assert "first occurrence" in refusal(rule).text  # the first is a Tuesday at 09:00


# What is no rule


@pytest.mark.parametrize(
    "rule",
    [
        "",
        ";",
        "RRULE:",
        "RRULE:RRULE:FREQ=DAILY;COUNT=2",
        "COUNT=2",
        "FREQ=;COUNT=2",
        "FREQ=HOURLY;COUNT=2",
        "FREQ=MINUTELY;COUNT=2",
        "FREQ=SECONDLY;COUNT=2",
        "FREQ=FORTNIGHTLY;COUNT=2",
        "FREQ=DAILY;COUNT=2;",
        "FREQ=DAILY;COUNT=2;COUNT=2",
        "FREQ=DAILY;COUNT=2;UNTIL=20300103",
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;COUNT=-1",
        "FREQ=DAILY;COUNT=1.5",
        "FREQ=DAILY;COUNT=\u0662",
        "FREQ=DAILY;COUNT=2;INTERVAL=0",
        "FREQ=DAILY;COUNT=2;INTERVAL=1001",
        "FREQ=DAILY;COUNT=2;INTERVAL=999999999999999999999",
        "FREQ=DAILY;COUNT=2;X-PART=1",
        "FREQ=DAILY;COUNT=2;BYEASTER=0",
        "FREQ=DAILY;COUNT=2\nDTSTART:20300101T090000Z",
        "DTSTART:20300101T090000Z\nRRULE:FREQ=DAILY;COUNT=2",
        "RDATE:20300101",
        "FREQ=DAILY;COUNT=2\n",
        " FREQ=DAILY;COUNT=2",
        "EXDATE=20300101;FREQ=DAILY;COUNT=2",
        "FREQ=DAILY;UNTIL=20300231",
        "FREQ=DAILY;UNTIL=20300103T250000Z",
        "FREQ=DAILY;UNTIL=20300103T0900Z",
        "FREQ=DAILY;UNTIL=2030-01-03",
        "FREQ=DAILY;UNTIL=00000101",
        "FREQ=DAILY;UNTIL=tomorrow",
        "FREQ=DAILY;COUNT=2;BYDAY=XX",
        "FREQ=DAILY;COUNT=2;BYDAY=",
        "FREQ=DAILY;COUNT=2;BYDAY=TU,",
        "FREQ=DAILY;COUNT=2;BYDAY=1TU",
        "FREQ=MONTHLY;COUNT=2;BYDAY=0TU",
        "FREQ=MONTHLY;COUNT=2;BYDAY=6TU",
        "FREQ=YEARLY;COUNT=2;BYDAY=54TU",
        "FREQ=YEARLY;COUNT=2;BYMONTH=12;BYDAY=53TU",
        "FREQ=YEARLY;COUNT=2;BYWEEKNO=1;BYDAY=1TU",
        "FREQ=MONTHLY;COUNT=2;BYDAY=TU(1)",
        "FREQ=MONTHLY;COUNT=2;BYMONTHDAY=0",
        "FREQ=MONTHLY;COUNT=2;BYMONTHDAY=32",
        "FREQ=MONTHLY;COUNT=2;BYMONTH=13",
        "FREQ=MONTHLY;COUNT=2;BYMONTH=-1",
        "FREQ=MONTHLY;COUNT=2;BYWEEKNO=1",
        "FREQ=WEEKLY;COUNT=2;BYMONTHDAY=1",
        "FREQ=DAILY;COUNT=2;BYYEARDAY=1",
        "FREQ=DAILY;COUNT=2;BYDAY=TU;BYSETPOS=1",
        "FREQ=MONTHLY;COUNT=2;BYSETPOS=1",
        "FREQ=MONTHLY;COUNT=2;BYDAY=TU;BYSETPOS=0",
        "FREQ=MONTHLY;COUNT=2;BYDAY=TU;BYSETPOS=1,2,3,4,5,6,7,8,9,10,11,12,13",
        "FREQ=DAILY;COUNT=2;BYHOUR=24",
        "FREQ=DAILY;COUNT=2;BYSECOND=60",
        "FREQ=DAILY;COUNT=2;BYMINUTE=" + ",".join(map(str, range(60))) + ";BYSECOND=" + ",".join(map(str, range(60))),
        "FREQ=WEEKLY;COUNT=2;WKST=1",
        "FREQ=DAILY;COUNT=2;BYMONTH=" + ",".join(["1"] * 300),
    ],
)
def test_what_is_no_rule_is_refused(rule: str) -> None:
    text = str(refusal(rule))
    assert text.endswith(".")
    assert len(rule) < 20 or rule not in text


def test_occurrence_ends_after_it_starts() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    with pytest.raises(Invalid):
        occurrences("FREQ=DAILY;COUNT=2", start=start, end=start, zone="UTC")


def check(rule: str, start: datetime, length: timedelta, zone: str) -> None:
    """Whatever the rule, the answer is occurrences in order or a refusal."""
    try:
        found = occurrences(rule, start=start, end=start + length, zone=zone)
    except Invalid:
        return
    assert found[0] == (start, start + length)
    assert len(found) <= 366
    assert all(begins < ends for begins, ends in found)
    assert all(before[0] < after[0] for before, after in pairwise(found))
    assert all(moment.utcoffset() == timedelta(0) for pair in found for moment in pair)


def instants(first: int, last: int) -> st.SearchStrategy[datetime]:
    """Any instant of these years."""
    seconds = int((datetime(last, 12, 20, tzinfo=UTC) - datetime(first, 1, 3, tzinfo=UTC)).total_seconds())
    return st.integers(0, seconds).map(lambda offset: datetime(first, 1, 3, tzinfo=UTC) + timedelta(seconds=offset))


starts = instants(1, 9999) | instants(2026, 2032).map(lambda moment: moment.replace(second=0))
lengths = st.integers(1, 3000).map(lambda minutes: timedelta(minutes=minutes))


def numbers(least: int, largest: int) -> st.SearchStrategy[str]:
    return st.lists(st.integers(least, largest).map(str), min_size=1, max_size=8).map(",".join)


weekdays = st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=7, unique=True).map(",".join)
nth_weekdays = st.lists(
    st.tuples(st.integers(-54, 54).map(lambda n: str(n) if n else ""), st.sampled_from(WEEKDAYS)).map("".join), max_size=6
).map(",".join)
PARTS: dict[str, st.SearchStrategy[str]] = {
    "INTERVAL": st.integers(0, 40).map(str) | st.integers().map(str),
    "BYDAY": weekdays | nth_weekdays,
    "BYMONTHDAY": numbers(-31, 31),
    "BYYEARDAY": numbers(-366, 366),
    "BYWEEKNO": numbers(-53, 53),
    "BYMONTH": numbers(1, 12),
    "BYSETPOS": numbers(-366, 366) | numbers(-5, 5),
    "BYHOUR": numbers(0, 23),
    "BYMINUTE": numbers(0, 59),
    "BYSECOND": numbers(0, 60),
    "WKST": st.sampled_from(WEEKDAYS),
}


@st.composite
def rules(draw: st.DrawFn) -> str:
    """Rules that are nearly right, most of them."""
    parts = ["FREQ=" + draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY", "HOURLY"]))]
    until = st.datetimes().map(lambda moment: moment.strftime("%Y%m%d"))
    parts.append(
        draw(
            st.integers(1, 400).map("COUNT={}".format) | (until | until.map(lambda day: day + "T120000Z")).map("UNTIL={}".format)
        )
    )
    for name in draw(st.lists(st.sampled_from(sorted(PARTS)), max_size=4, unique=True)):
        value = draw(PARTS[name] | st.text(max_size=8)) if draw(st.integers(0, 9)) == 0 else draw(PARTS[name])
        parts.append(f"{name}={value}")
    return ";".join(draw(st.permutations(parts)))


@given(rules(), starts, lengths, st.sampled_from(ZONES))
@settings(max_examples=100, deadline=None)
def test_nearly_right_rules_end_in_occurrences_or_a_refusal(rule: str, start: datetime, length: timedelta, zone: str) -> None:
    check(rule, start, length, zone)


@given(st.text(max_size=MAX_LENGTH + 20) | st.text("FREQ=DAILYWKCOUNTBS;,:0123456789+-\n\r\t TZ", max_size=80), starts)
@example("\N{LATIN SMALL LETTER LONG S}", datetime(2030, 1, 1, tzinfo=UTC))
@settings(max_examples=150, deadline=None)
def test_garbage_is_refused(rule: str, start: datetime) -> None:
    check(rule, start, HOUR, "Europe/Berlin")


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;COUNT=2;BYMONTH=2;BYMONTHDAY=30;BYDAY=MO,TU,WE,TH,FR,SA,SU",
        "FREQ=WEEKLY;COUNT=2;BYDAY=MO,TU,WE;BYSETPOS=" + ",".join(map(str, range(-366, -354))),
        "FREQ=MONTHLY;COUNT=2;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS=" + ",".join(map(str, range(355, 367))),
        "FREQ=YEARLY;COUNT=2;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;COUNT=2;BYMONTH=12;BYYEARDAY=" + ",".join(map(str, range(100, 200))),
    ],
)
def test_search_for_a_date_that_never_comes_ends_soon(rule: str) -> None:
    began = time.process_time()
    refusal(rule)
    assert time.process_time() - began < 0.5  # in the year 9999 it would have been seconds; it is some 20 ms


# A plain evaluator: look at each day in turn


def plainly(frequency: str, interval: int, days: set[int], nth: int | None, first: date) -> list[date]:
    """The dates of some 4000 days that the rule has. Weeks begin on Monday; `nth`: of the month's such weekdays."""
    found = []
    monday = first - timedelta(days=first.weekday())
    for offset in range(4000):
        day = first + timedelta(days=offset)
        if frequency == "DAILY":
            fits = offset % interval == 0 and (not days or day.weekday() in days)
        elif frequency == "WEEKLY":
            fits = ((day - monday).days // 7) % interval == 0 and day.weekday() in (days or {first.weekday()})
        else:
            months = (day.year - first.year) * 12 + day.month - first.month
            fits = months % interval == 0
            if nth is None:
                fits = fits and day.day == first.day
            else:
                left = calendar.monthrange(day.year, day.month)[1] - day.day
                place = (day.day - 1) // 7 + 1 if nth > 0 else -(left // 7 + 1)
                fits = fits and day.weekday() in days and place == nth
        if fits:
            found.append(day)
    return found


@st.composite
def plain_series(draw: st.DrawFn) -> tuple[str, list[date], datetime | None, int, str]:
    """A rule, its dates by the plain evaluator, its UNTIL, the minutes after midnight, a zone."""
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY"]))
    interval = draw(st.integers(1, 9))
    first = date(2020, 1, 1) + timedelta(days=draw(st.integers(0, 4000)))
    days: set[int] = set()
    nth = None
    parts = [f"FREQ={frequency}"] + ([f"INTERVAL={interval}"] if interval > 1 or draw(st.booleans()) else [])
    if frequency == "MONTHLY" and draw(st.booleans()):
        days = {first.weekday()}
        left = calendar.monthrange(first.year, first.month)[1] - first.day
        nth = draw(st.sampled_from([(first.day - 1) // 7 + 1, -(left // 7 + 1)]))
        parts.append(f"BYDAY={nth}{WEEKDAYS[first.weekday()]}")
    elif frequency == "MONTHLY":
        parts += draw(st.sampled_from([[], [f"BYMONTHDAY={first.day}"]]))
    elif draw(st.booleans()):
        days = draw(st.sets(st.integers(0, 6), max_size=6)) | {first.weekday()}
        parts.append("BYDAY=" + ",".join(WEEKDAYS[day] for day in days))
    expected = plainly(frequency, interval, days, nth, first)
    until = None
    if draw(st.booleans()):
        count = draw(st.integers(1, min(366, len(expected))))
        parts.append(f"COUNT={count}")
        expected = expected[:count]
    else:
        last = datetime.combine(first, datetime.min.time()) + timedelta(seconds=draw(st.integers(0, 3900 * 86_400)))
        until = last.replace(tzinfo=UTC if draw(st.booleans()) else None)
        parts.append("UNTIL=" + last.strftime("%Y%m%dT%H%M%S") + ("Z" if until.tzinfo else ""))
    zone = draw(st.sampled_from(["Europe/Berlin", "America/New_York"]) | st.sampled_from(ZONES))
    return ";".join(parts), expected, until, draw(st.integers(0, 1439)), zone


@given(plain_series(), st.integers(1, 1440))
@settings(max_examples=100, deadline=None)
def test_occurrences_are_those_of_the_plain_evaluator(
    case: tuple[str, list[date], datetime | None, int, str], length: int
) -> None:
    rule, expected, until, minutes, zone_name = case
    zone = ZoneInfo(zone_name)
    start = wall_to_instant(expected[0], minutes, zone, last=False)
    end = wall_to_instant(expected[0], minutes + length, zone, last=False)
    wall_start = datetime.combine(expected[0], datetime.min.time()) + timedelta(minutes=minutes)
    if start.astimezone(zone).replace(tzinfo=None) != wall_start or end <= start:
        return  # the first one is skipped: then this is another series
    wall_length = end.astimezone(zone).replace(tzinfo=None) - wall_start
    pairs: list[tuple[datetime, datetime]] = []
    for day in expected:
        wall = datetime.combine(day, datetime.min.time()) + timedelta(minutes=minutes)
        begins = wall_to_instant(day, minutes, zone, last=False)
        if until is not None and (wall > until if until.tzinfo is None else begins > until):
            break
        ends = wall_to_instant(day, minutes + wall_length // timedelta(minutes=1), zone, last=False)
        pairs.append((begins, ends if ends > begins else begins + (end - start)))
    if not 1 <= len(pairs) <= 366:
        with pytest.raises(Invalid):
            occurrences(rule, start=start, end=end, zone=zone_name)
        return
    assert occurrences(rule, start=start, end=end, zone=zone_name) == pairs
