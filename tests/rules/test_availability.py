"""The search over rooms finds what walking through every slot of every room finds, in the same order."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.availability import rules
from holdfast.availability.rules import Candidate, Entry, FreeRoom, Place, Wish, search
from holdfast.bookings.rules import MAX_UNITS
from holdfast.core.errors import Invalid
from holdfast.core.policies import Policy
from holdfast.core.schedules import Schedule, Slot, Window, local_date, slots_between

EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)
NINE_TO_FIVE = Schedule(30, (Window(EVERY_DAY, 9 * 60, 17 * 60),))
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: Wide and narrow offsets, clock changes at one and at midnight, by half an hour, and a date that was skipped.
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]
#: Around them, the clocks of some of these zones change.
DATES = [date(2026, 11, 23), date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 1), date(2026, 4, 24), date(2026, 4, 5)]
PLACES = [Place(capacity, location) for capacity in (None, 2, 4, 9) for location in (None, "East", "West")]


def at(hour: float, day: int = 0) -> datetime:
    return MONDAY + timedelta(days=day, hours=hour)


def room(no: int, *taken: tuple[datetime, datetime], schedule: Schedule = NINE_TO_FIVE, **fields: Any) -> Candidate:
    """A room in UTC, of unknown size, somewhere."""
    details: dict[str, Any] = {"place": Place(None, None), "time_zone": "UTC", "policy": Policy(), **fields}
    return Candidate(
        no=no, id=UUID(int=no), schedule=schedule, starts=[s for s, _ in taken], ends=[e for _, e in taken], **details
    )


def shown(entries: Sequence[Entry]) -> list[tuple[datetime, datetime, list[int]]]:
    """Entries with the numbers of their rooms."""
    return [(entry.start, entry.end, [found.room_id.int for found in entry.rooms]) for entry in entries]


# --- by brute force ---------------------------------------------------------------------------------------------------


def may_be_booked(slot: Slot, candidate: Candidate, now: datetime) -> bool:
    notice, ahead = candidate.policy.min_notice_minutes, candidate.policy.max_days_ahead
    days = (local_date(slot.start, candidate.time_zone) - local_date(now, candidate.time_zone)).days
    return (
        slot.start > now
        and (notice is None or slot.start - now >= timedelta(minutes=notice))
        and (ahead is None or days <= ahead)
        and not any(start < slot.end and slot.start < end for start, end in zip(candidate.starts, candidate.ends, strict=True))
    )


def options(candidate: Candidate, wish: Wish, now: datetime) -> list[tuple[Slot, ...]]:
    slots = slots_between(candidate.schedule, wish.start, wish.end, candidate.time_zone, candidate.no)
    found = []
    for first in range(len(slots)):
        row: list[Slot] = []
        for slot in slots[first:]:
            if (row and slot.start != row[-1].end) or slot.end > wish.end or not may_be_booked(slot, candidate, now):
                break
            row.append(slot)
            if row[-1].end - row[0].start >= timedelta(minutes=wish.minutes):
                found.append(tuple(row))
                break
    return found


def by_brute_force(rooms: Sequence[Candidate], wish: Wish, near: Place | None, now: datetime) -> list[Entry]:
    found = [(candidate, option) for candidate in rooms for option in options(candidate, wish, now)]

    def goodness(candidate: Candidate) -> tuple[object, ...]:
        mine = candidate.place
        if near is None:
            return (mine.capacity is None, mine.capacity or 0, candidate.no) if wish.rooms > 1 else (candidate.no,)
        if mine.capacity is None or near.capacity is None:
            apart = (mine.capacity is not near.capacity, 0)
        else:
            apart = (False, abs(mine.capacity - near.capacity))
        return *apart, not (mine.location is not None and mine.location == near.location), candidate.no

    together: dict[tuple[datetime, ...], list[tuple[Candidate, tuple[Slot, ...]]]] = {}
    for candidate, option in found:
        key = (option[0].start, option[-1].end) if wish.rooms == 1 else (option[0].start,)
        together.setdefault(key, []).append((candidate, option))
    entries = []
    for free in together.values():
        best = sorted(free, key=lambda one: goodness(one[0]))
        if len(best) >= wish.rooms:
            chosen = best if wish.rooms == 1 else best[: wish.rooms]
            end = max(option[-1].end for _, option in chosen)
            entries.append((goodness(chosen[0][0]), chosen[0][1][0].start, end, chosen))
    if wish.near_time is None:
        entries.sort(key=lambda entry: entry[1:3])
    else:
        near_time = wish.near_time
        entries.sort(key=lambda entry: (abs(entry[1] - near_time), *entry[:3]))
    return [
        Entry(start, end, tuple(FreeRoom(c.id, tuple(slot.id for slot in option)) for c, option in chosen))
        for _, start, end, chosen in entries[: wish.limit]
    ]


#: Whole days, windows that touch (at midnight too), and windows that do not.
HOURS = [
    ((480, 1200),),
    ((0, 1440),),
    ((540, 725), (725, 1440)),
    ((0, 150), (545, 900), (960, 1320)),
    ((0, 300), (1140, 1440)),
]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Some windows on some weekdays."""
    days = st.sampled_from([EVERY_DAY, EVERY_DAY, (1, 2, 3, 4, 5), (1, 6, 7)])
    windows = tuple(Window(draw(days), opens, closes) for opens, closes in draw(st.sampled_from(HOURS)))
    return Schedule(draw(st.sampled_from([15, 30, 45, 60, 240])), windows)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Candidate], Wish, Place | None, datetime]:
    """Some rooms, many of them alike, with things in the way, and what somebody wishes for."""
    midnight = datetime.combine(draw(st.sampled_from(DATES)), datetime.min.time(), UTC)
    minute = st.integers(0, 4 * 24 * 60).map(lambda minutes: midnight + timedelta(minutes=minutes))
    quarter = st.integers(0, 4 * 96).map(lambda quarters: midnight + timedelta(minutes=15 * quarters))
    instant = st.one_of(quarter, quarter, minute, st.builds(lambda t: t + timedelta(microseconds=1), quarter))
    rules_ = draw(st.lists(schedules(), min_size=1, max_size=2))
    zones = draw(st.lists(st.sampled_from(ZONES), min_size=1, max_size=2))
    policies = [
        Policy(),
        Policy(),
        Policy(
            min_notice_minutes=draw(st.none() | st.integers(1, 5 * 24 * 60)),
            max_days_ahead=draw(st.none() | st.integers(0, 5)),
        ),
    ]
    rooms = []
    for no in range(1, draw(st.integers(2, 7))):
        edges = sorted(set(draw(st.lists(instant, max_size=6))))
        # Neighbouring claims touch more often than not.
        taken = [pair for pair in pairwise(edges) if draw(st.booleans())]
        taken = draw(st.permutations(taken))
        rooms.append(
            room(
                no,
                *taken,
                schedule=draw(st.sampled_from(rules_)),
                place=draw(st.sampled_from(PLACES)),
                time_zone=draw(st.sampled_from(zones)),
                policy=draw(st.sampled_from(policies)),
            )
        )
    start = draw(instant)
    end = start + draw(st.sampled_from([HOUR, 24 * HOUR, 50 * HOUR, 100 * HOUR]))
    near = draw(st.none() | st.sampled_from(PLACES))
    wish = Wish(
        start,
        end,
        minutes=draw(st.sampled_from([5, 15, 30, 45, 60, 90, 120, 300, 24 * 60 + 15])),
        rooms=draw(st.sampled_from([1, 1, 2, 3])),
        near_room=UUID(int=1) if near else None,
        near_time=draw(instant) if near else None,
        limit=draw(st.sampled_from([1, 3, 20, 100])),
    )
    now = midnight - timedelta(days=2)
    return rooms, wish, near, draw(st.sampled_from([now, now, draw(instant)]))


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_it_finds_what_brute_force_finds_in_random_worlds(
    world: tuple[list[Candidate], Wish, Place | None, datetime],
) -> None:
    rooms, wish, near, now = world
    assert search(rooms, wish, near=near, now=now) == by_brute_force(rooms, wish, near, now)


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_in_which_rooms_are_read_does_not_matter(
    world: tuple[list[Candidate], Wish, Place | None, datetime], chance: random.Random
) -> None:
    rooms, wish, near, now = world
    before = search(rooms, wish, near=near, now=now)
    chance.shuffle(rooms)
    assert search(rooms, wish, near=near, now=now) == before


@pytest.mark.parametrize("zone", ["Pacific/Apia", "Pacific/Kwajalein", "Asia/Manila", "America/Juneau", "Africa/Cairo"])
@pytest.mark.parametrize(
    "day", [date(2011, 12, 30), date(1993, 8, 21), date(1844, 12, 31), date(1867, 10, 18), date(2026, 4, 24)]
)
def test_dates_that_a_zone_skips_or_repeats_are_as_slots_have_them(zone: str, day: date) -> None:
    around = datetime.combine(day, datetime.min.time(), UTC)
    schedule = Schedule(60, (Window(EVERY_DAY, 0, 24 * 60),))
    wish = Wish(around - timedelta(days=3), around + timedelta(days=3), 120, limit=100)
    rooms, now = [room(1, schedule=schedule, time_zone=zone)], around - timedelta(days=9)
    found = search(rooms, wish, near=None, now=now)
    assert found == by_brute_force(rooms, wish, None, now)
    assert len(found) > 90


def test_nothing_is_found_at_the_ends_of_the_calendar() -> None:
    first, last = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Niue"):
        rooms = [room(1, time_zone=zone)]
        assert search(rooms, Wish(first, first + timedelta(days=4), 30), near=None, now=first) == []
        assert search(rooms, Wish(last - HOUR, last, 30), near=None, now=first) == []


# --- by example -------------------------------------------------------------------------------------------------------


def test_a_row_of_free_slots_is_found_from_each_of_its_slots_on() -> None:
    rooms = [room(1, (at(9.5), at(10)), (at(11), at(17)))]
    found = search(rooms, Wish(MONDAY, at(24), 60), near=None, now=MONDAY)
    assert shown(found) == [(at(10), at(11), [1])]
    found = search(rooms, Wish(MONDAY, at(24), 30), near=None, now=MONDAY)
    assert [entry.start for entry in found] == [at(9), at(10), at(10.5)]


def test_minutes_between_two_numbers_of_slots_take_the_greater() -> None:
    found = search([room(1)], Wish(at(16), at(24), 31), near=None, now=MONDAY)
    assert shown(found) == [(at(16), at(17), [1])]
    assert len(found[0].rooms[0].slot_ids) == 2


def test_windows_that_touch_are_crossed_even_at_midnight_and_others_are_not() -> None:
    lunch = Schedule(60, (Window(EVERY_DAY, 9 * 60, 12 * 60), Window(EVERY_DAY, 13 * 60, 15 * 60)))
    found = search([room(1, schedule=lunch)], Wish(MONDAY, at(24), 120), near=None, now=MONDAY)
    assert [entry.start for entry in found] == [at(9), at(10), at(13)]
    round_the_clock = Schedule(60, (Window(EVERY_DAY, 0, 12 * 60), Window(EVERY_DAY, 12 * 60, 24 * 60)))
    found = search([room(1, schedule=round_the_clock)], Wish(at(22), at(26), 180), near=None, now=MONDAY)
    assert [entry.start for entry in found] == [at(22), at(23)]


def test_one_room_has_an_entry_per_start_and_end_with_all_rooms_free_then() -> None:
    hourly = Schedule(60, NINE_TO_FIVE.windows)
    rooms = [room(1), room(2, schedule=hourly), room(3), room(4, (at(9), at(9.25)))]
    found = search(rooms, Wish(at(9), at(10), 30), near=None, now=MONDAY)
    assert shown(found) == [(at(9), at(9.5), [1, 3]), (at(9), at(10), [2]), (at(9.5), at(10), [1, 3, 4])]


def test_several_rooms_are_the_smallest_that_are_free_until_the_latest_end() -> None:
    hourly = Schedule(60, NINE_TO_FIVE.windows)
    rooms = [
        room(1, place=Place(None, None)),
        room(2, place=Place(8, None)),
        room(3, place=Place(4, None), schedule=hourly),
        room(4, (at(16.5), at(17)), place=Place(4, None)),
    ]
    found = search(rooms, Wish(at(16), at(17), 30, rooms=2), near=None, now=MONDAY)
    assert shown(found) == [(at(16), at(17), [3, 4]), (at(16.5), at(17), [2, 1])]
    assert search(rooms, Wish(at(16), at(17), 30, rooms=5), near=None, now=MONDAY) == []


def test_near_ranks_by_time_then_by_size_then_by_place() -> None:
    near = Place(6, "East")
    rooms = [
        room(1, place=Place(None, "East")),
        room(2, place=Place(12, "East")),
        room(3, place=Place(5, "West")),
        room(4, place=Place(7, "East")),
        room(5, place=Place(7, None)),
        room(6, place=Place(6, "West")),
    ]
    wish = Wish(at(11), at(13.5), 30, near_room=UUID(int=9), near_time=at(12), limit=5)
    found = search(rooms, wish, near=near, now=MONDAY)
    # Before and after are as far: the sooner one, unless its best room is farther.
    assert [entry.start for entry in found] == [at(12), at(11.5), at(12.5), at(11), at(13)]
    assert shown(found)[0][2] == [6, 4, 3, 5, 2, 1]
    taken = [(at(11), at(12))]
    rooms[5] = room(6, *taken, place=Place(6, "West"))
    assert [entry.start for entry in search(rooms, wish, near=near, now=MONDAY)] == [
        at(12),
        at(12.5),
        at(11.5),
        at(13),
        at(11),
    ]
    both = Wish(at(11), at(13), 30, rooms=2, near_room=UUID(int=9), near_time=at(12))
    assert shown(search(rooms, both, near=near, now=MONDAY))[0] == (at(12), at(12.5), [6, 4])
    # Of unknown size are near each other, and far from all the rest.
    unknown = search(rooms, wish, near=Place(None, "East"), now=MONDAY)
    assert shown(unknown)[0][2] == [1, 2, 4, 3, 5, 6]


def test_a_wished_time_outside_of_the_period_is_as_good_as_any() -> None:
    for near_time, starts in ((at(40), [at(16.5), at(16)]), (at(-5), [at(9), at(9.5)]), (at(9), [at(9), at(9.5)])):
        wish = Wish(at(8), at(24), 30, near_room=UUID(int=1), near_time=near_time, limit=2)
        found = search([room(1)], wish, near=Place(None, None), now=MONDAY)
        assert [entry.start for entry in found] == starts


def test_policies_keep_slots_out_that_begin_too_soon_or_too_late() -> None:
    now = at(8.5)
    hasty = room(1, policy=Policy(min_notice_minutes=60, max_days_ahead=1))
    found = search([hasty], Wish(MONDAY, at(0, day=7), 30, limit=100), near=None, now=now)
    assert (found[0].start, found[-1].end) == (at(9.5), at(17, day=1))
    # The room's own calendar counts: in Auckland it is 21:30 already, in New York 03:30.
    for zone, last in (("Pacific/Auckland", at(11)), ("America/New_York", at(29))):
        there = room(1, policy=Policy(max_days_ahead=0), time_zone=zone, schedule=Schedule(60, (Window(EVERY_DAY, 0, 1440),)))
        found = search([there], Wish(MONDAY, at(0, day=2), 60, limit=100), near=None, now=now)
        assert (found[0].start, found[-1].end) == (at(9), last)


def test_what_has_begun_is_over() -> None:
    found = search([room(1)], Wish(MONDAY, at(24), 30), near=None, now=at(10))
    assert found[0].start == at(10.5)
    found = search([room(1)], Wish(MONDAY, at(24), 30), near=None, now=at(10) - timedelta(microseconds=1))
    assert found[0].start == at(10)


def test_an_option_has_no_more_slots_than_a_booking_may_have() -> None:
    short = Schedule(5, (Window(EVERY_DAY, 0, 1440),))
    wish = Wish(MONDAY, at(24), rules.MAX_SLOTS * 5, limit=1)
    found = search([room(1, schedule=short)], wish, near=None, now=MONDAY)
    assert len(found[0].rooms[0].slot_ids) == rules.MAX_SLOTS
    longer = Wish(MONDAY, at(24), rules.MAX_SLOTS * 5 + 1)
    assert search([room(1, schedule=short)], longer, near=None, now=MONDAY) == []
    assert rules.MAX_SLOTS == MAX_UNITS


def test_an_answer_ends_before_it_names_too_many_slots_but_never_ahead_of_its_first_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rooms = [room(no) for no in range(1, 4)]
    wish = Wish(MONDAY, at(24), 60)
    whole = search(rooms, wish, near=None, now=MONDAY)
    for most, entries in ((18, 3), (17, 2), (6, 1), (5, 1)):
        monkeypatch.setattr(rules, "MAX_SLOT_IDS", most)
        assert search(rooms, wish, near=None, now=MONDAY) == whole[:entries]


@pytest.mark.parametrize(
    "wish",
    [
        {"end": MONDAY},
        {"end": MONDAY - HOUR},
        {"end": MONDAY + timedelta(days=31, microseconds=1)},
        {"near_room": UUID(int=1)},
        {"near_time": MONDAY},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Wish(**{"start": MONDAY, "end": at(1), "minutes": 30, **wish})
    assert Wish(MONDAY, MONDAY + timedelta(days=31), 30).rooms == 1
