"""When rooms are free for long enough, alone or several at once, and in which order that is told. Pure.

An **option** of a room is a row of neighbouring slots of its grid (each begins where the one ahead of it ends): the fewest
that reach the wanted minutes, all of them free, bookable by the room's policy, and inside of the wanted period. An
**entry** of the answer is a time with the rooms that have an option then.

A thousand rooms have a hundred thousand slots a week, so slots are no objects here: a grid is computed once for all rooms
that share it, and which of its slots a room has free are the bits of one integer.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import accumulate, groupby, islice, repeat
from math import inf
from operator import add
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from holdfast.core import slot_ids
from holdfast.core.clock import instant_text
from holdfast.core.errors import Invalid
from holdfast.core.policies import Policy
from holdfast.core.schedules import FIRST_DATE, LAST_DATE, Schedule, local_date, open_periods

#: The longest period that one search covers.
MAX_RANGE = timedelta(days=31)
#: An option with more slots than one booking may have could not be booked.
MAX_SLOTS = 100
#: An answer ends ahead of the entry with which it would name more slots than this, but never ahead of its first: a thousand
#: rooms with short slots would fill gigabytes.
MAX_SLOT_IDS = 20_000
_INSTANT = timedelta(microseconds=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is looked for: `rooms` rooms at the same time, for `minutes`, within `[start, end)`.

    `near_room` and `near_time` go together and change the order, not what is found. Raises Invalid where it makes no sense.
    """

    start: datetime
    end: datetime
    minutes: int
    rooms: int = 1
    near_room: UUID | None = None
    near_time: datetime | None = None
    limit: int = 20

    def __post_init__(self) -> None:
        """Check what the fields by themselves do not say."""
        if self.end <= self.start:
            message = "The range ends before it begins."
            raise Invalid(message)
        if self.end - self.start > MAX_RANGE:
            message = f"The range is longer than {MAX_RANGE.days} days."
            raise Invalid(message, details={"rule": "maxDays", "value": MAX_RANGE.days})
        if (self.near_room is None) != (self.near_time is None):
            message = "nearRoom and nearTime go together: name both, or neither."
            raise Invalid(message)


@dataclass(frozen=True, slots=True)
class Place:
    """What makes a room near to another one: how many it seats, and where it is."""

    capacity: int | None
    location: str | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A room that is looked at, with the times of its live claims: parallel, in no order, never overlapping."""

    no: int
    id: UUID
    place: Place
    time_zone: str
    policy: Policy
    schedule: Schedule
    starts: Sequence[datetime] = ()
    ends: Sequence[datetime] = ()


@dataclass(frozen=True, slots=True)
class FreeRoom:
    """A room that can be had, and by which slots, first to last."""

    room_id: UUID
    slot_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A time `[start, end)` with the rooms that can be had then, best first."""

    start: datetime
    end: datetime
    rooms: tuple[FreeRoom, ...]

    def as_json(self) -> dict[str, Any]:
        """The wire's shape; slot ids, of which there may be thousands, are left to the renderer."""
        return {
            "start": instant_text(self.start),
            "end": instant_text(self.end),
            "rooms": [{"roomId": str(room.room_id), "slotIds": room.slot_ids} for room in self.rooms],
        }


@dataclass(slots=True)
class _Member:
    """A room of a grid: its place in the order of rooms, and the bits of the steps at which an option begins."""

    rank: int
    room: Candidate
    options: int


@dataclass(slots=True)
class _Grid:
    """The bookable slots of all rooms with one schedule, zone and policy, and the gaps between them.

    Step `n` goes from `edges[n]` to `edges[n + 1]`; the bits of `slots` say which steps are slots. A gap is a step that is
    never free, so that neighbouring bits are neighbouring slots.
    """

    edges: list[datetime]
    slots: int
    slot_minutes: int
    needed: int
    members: list[_Member] = field(default_factory=list)

    def options(self, starts: Sequence[datetime], ends: Sequence[datetime]) -> int:
        """The steps at which `needed` slots in a row begin that share no instant with what is taken."""
        edges, taken = self.edges, 0
        for start, end in zip(starts, ends, strict=True):
            taken |= (1 << bisect_left(edges, end)) - (1 << max(bisect_right(edges, start) - 1, 0))
        found, length = self.slots & ~taken, 1
        while found and length < self.needed:
            more = min(length, self.needed - length)
            found &= found >> more
            length += more
        return found

    def slot_ids(self, step: int, resource_no: int) -> tuple[UUID, ...]:
        """The slots of the option that begins at a step."""
        return tuple(slot_ids.encode(resource_no, start, self.slot_minutes) for start in self.edges[step : step + self.needed])


@dataclass(frozen=True, slots=True)
class _Found:
    """An entry to be: each room with its grid and the step at which its option begins, best first."""

    start: datetime
    end: datetime
    rooms: Sequence[tuple[_Member, _Grid, int]]

    @property
    def slots(self) -> int:
        return sum(grid.needed for _, grid, _ in self.rooms)

    def entry(self) -> Entry:
        return Entry(
            self.start,
            self.end,
            tuple(FreeRoom(member.room.id, grid.slot_ids(step, member.room.no)) for member, grid, step in self.rooms),
        )


def search(rooms: Iterable[Candidate], wish: Wish, *, near: Place | None, now: datetime) -> list[Entry]:
    """What fits the wish, in order; `near` is the place of the room that the wish names, if it names one.

    One room wanted: an entry per start and end, with all rooms that have exactly this option; in the order in which they
    were made. Several: an entry per start at which so many rooms have an option, with the best of them, and the latest of
    their ends; best is the smallest, those of unknown capacity last, then the one that was made first.

    Entries come soonest first. With `near`: nearest to the wished time first, and of two equally near the one whose best
    room is nearer; rooms everywhere by the distance of their capacity (unknown is far from all but unknown), then those
    of the same location, then as they were made.
    """
    grids = _grids(_ranked(rooms, wish, near), wish, now)
    by_start: dict[datetime, list[_Grid]] = {}
    for grid in grids:
        for step in _steps(grid, wish):
            by_start.setdefault(grid.edges[step], []).append(grid)
    return [found.entry() for found in _within_bounds(_in_order(by_start, wish), wish.limit)]


def _ranked(rooms: Iterable[Candidate], wish: Wish, near: Place | None) -> list[Candidate]:
    """The rooms, best first."""

    def nearness(room: Candidate) -> tuple[float, bool, int]:
        assert near is not None  # noqa: S101 - asked for only then
        mine, wanted = room.place.capacity, near.capacity
        unknown = 0 if mine == wanted else inf
        apart = unknown if mine is None or wanted is None else abs(mine - wanted)
        elsewhere = near.location is not None and room.place.location != near.location
        return apart, elsewhere, room.no

    def size(room: Candidate) -> tuple[float, int]:
        return inf if room.place.capacity is None else room.place.capacity, room.no

    if near is not None:
        return sorted(rooms, key=nearness)
    if wish.rooms > 1:
        return sorted(rooms, key=size)
    return sorted(rooms, key=lambda room: room.no)


def _grids(rooms: Iterable[Candidate], wish: Wish, now: datetime) -> list[_Grid]:
    """The grids of the rooms that have options, each with its rooms, best first."""
    grids: dict[tuple[Schedule, str, int | None, int | None], _Grid | None] = {}
    for rank, room in enumerate(rooms):
        key = (room.schedule, room.time_zone, room.policy.min_notice_minutes, room.policy.max_days_ahead)
        if key not in grids:
            grids[key] = _grid(room, wish, now)
        grid = grids[key]
        options = grid.options(room.starts, room.ends) if grid else 0
        if grid and options:
            grid.members.append(_Member(rank, room, options))
    return [grid for grid in grids.values() if grid and grid.members]


def _grid(room: Candidate, wish: Wish, now: datetime) -> _Grid | None:
    """The grid of a room and of all that share it; None where no option can be."""
    needed = -(-wish.minutes // room.schedule.slot_minutes)
    if needed > MAX_SLOTS:
        return None
    earliest = max(wish.start, now + _INSTANT)
    if room.policy.min_notice_minutes is not None:
        earliest = max(earliest, now + timedelta(minutes=room.policy.min_notice_minutes))
    length = timedelta(minutes=room.schedule.slot_minutes)
    edges: list[datetime] = []
    slots = 0
    for opens, count in _tiled(room.schedule, room.time_zone, *_dates(wish, room.time_zone)):
        skipped = max(0, -((opens - earliest) // length))
        left = min(count, (wish.end - opens) // length) - skipped
        if left <= 0:
            continue
        begin = opens + skipped * length
        if not edges or edges[-1] != begin:
            edges.append(begin)
        slots |= ((1 << left) - 1) << (len(edges) - 1)
        edges.extend(accumulate(repeat(length, left - 1), add, initial=begin + length))
    if room.policy.max_days_ahead is not None:
        slots &= ~_too_far_ahead(edges, room.policy.max_days_ahead, room.time_zone, now)
    return _Grid(edges, slots, room.schedule.slot_minutes, needed) if slots else None


def _dates(wish: Wish, zone_name: str) -> tuple[date, date]:
    """The first and the last date, in the zone, of slots that may lie within the wish: as `slots_between` has them.

    Nothing overflows: instants that a request may name keep two days from the ends of the calendar.
    """
    return local_date(wish.start, zone_name) - _DAY, local_date(wish.end, zone_name) + _DAY


@lru_cache(maxsize=4096)
def _tiled(schedule: Schedule, zone_name: str, first: date, last: date) -> tuple[tuple[datetime, int], ...]:
    """From when how many slots follow each other, in the opening hours of these dates: what `slots_on` spells out."""
    zone = ZoneInfo(zone_name)
    length = timedelta(minutes=schedule.slot_minutes)
    found: set[tuple[datetime, int]] = set()
    day = max(first, FIRST_DATE)
    while day <= min(last, LAST_DATE):
        found.update((opens, (closes - opens) // length) for opens, closes in open_periods(schedule, day, zone))
        day += _DAY
    return tuple(sorted((opens, count) for opens, count in found if count))


def _too_far_ahead(edges: Sequence[datetime], days: int, zone_name: str, now: datetime) -> int:
    """The steps that begin on a later date, in the zone, than so many days after the present one."""
    last = local_date(now, zone_name) + timedelta(days=days)
    # No zone is a day from UTC: only around the last date must its own calendar be asked.
    surely_fine = datetime.combine(last, time(), UTC)
    refused = 0
    for step in range(bisect_left(edges, surely_fine), len(edges) - 1):
        if edges[step] >= surely_fine + 2 * _DAY or local_date(edges[step], zone_name) > last:
            refused |= 1 << step
    return refused


def _steps(grid: _Grid, wish: Wish) -> list[int]:
    """The steps of a grid that may begin an entry of the answer."""
    union = 0
    for member in grid.members:
        union |= member.options
    steps = [step for step, bit in enumerate(reversed(f"{union:b}")) if bit == "1"]
    if wish.rooms > 1:
        return steps
    # Each of them is an entry by itself: to either side of the wished time, the first `limit` stand ahead of all others.
    middle = 0 if wish.near_time is None else bisect_left(steps, bisect_left(grid.edges, wish.near_time))
    return steps[max(0, middle - wish.limit) : middle + wish.limit]


def _in_order(by_start: dict[datetime, list[_Grid]], wish: Wish) -> Iterator[_Found]:
    """The entries to be, in the order of the answer."""
    near_time = wish.near_time

    def distance(start: datetime) -> timedelta:
        return start - wish.start if near_time is None else abs(start - near_time)

    def order(found: _Found) -> tuple[int, datetime, datetime]:
        return 0 if near_time is None else found.rooms[0][0].rank, found.start, found.end

    for _, tied in groupby(sorted(by_start, key=distance), key=distance):
        yield from sorted((found for start in tied for found in _at(start, by_start[start], wish.rooms)), key=order)


def _at(start: datetime, grids: Iterable[_Grid], wanted: int) -> Iterator[_Found]:
    """What there is at one start: an entry per end, or where several rooms are wanted, one at most."""
    by_end: dict[datetime, list[tuple[_Member, _Grid, int]]] = {}
    for grid in grids:
        step = bisect_left(grid.edges, start)
        free = by_end.setdefault(grid.edges[step + grid.needed], [])
        free.extend((member, grid, step) for member in grid.members if member.options >> step & 1)
    if wanted == 1:
        for end, free in by_end.items():
            yield _Found(start, end, sorted(free, key=_rank))
        return
    chosen = sorted((option for free in by_end.values() for option in free), key=_rank)[:wanted]
    if len(chosen) == wanted:
        yield _Found(start, max(grid.edges[step + grid.needed] for _, grid, step in chosen), chosen)


def _rank(option: tuple[_Member, _Grid, int]) -> int:
    return option[0].rank


def _within_bounds(found: Iterable[_Found], limit: int) -> Iterator[_Found]:
    """The first `limit` of them, fewer where they name more than MAX_SLOT_IDS slots."""
    slots = 0
    for number, one in enumerate(islice(found, limit)):
        slots += one.slots
        if number and slots > MAX_SLOT_IDS:
            return
        yield one
