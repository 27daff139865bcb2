"""The use case of the analytics: several reads, two at a time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import chain
from typing import ParamSpec, TypeVar
from uuid import UUID

from holdfast.db.database import Database
from holdfast.reports import queries
from holdfast.reports.rules import Analytics, Day, Period, Tally, lead_time, uses

P = ParamSpec("P")
T = TypeVar("T")
#: Reads of one report that run at the same time: it is answered in half the time, and never takes all connections from
#: those who book meanwhile.
_LANES = 2


async def analyze_bookings(db: Database, *, period: Period) -> Analytics:
    """Everything there is to say about the bookings made in the period, and about what was taken in it.

    The reads are no snapshot: what is booked meanwhile may be in one and not in another. Raises Busy where one of them takes
    longer than a statement may.
    """
    lanes = asyncio.Semaphore(_LANES)

    def read(query: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> asyncio.Task[T]:
        async def in_a_lane() -> T:
            async with lanes:
                return await query(*args, **kwargs)

        return asyncio.create_task(in_a_lane())

    # The longest first, so that the lanes end together.
    pieces = period.pieces()
    tallies = [read(queries.count_by_resource, db, *piece) for piece in pieces]
    taken = [read(queries.sum_time_taken, db, *piece) for piece in pieces]
    rooms = read(queries.read_rooms, db, period)
    ahead = [read(queries.count_by_lead_time, db, *piece) for piece in pieces]
    days = read(queries.count_by_day, db, period)
    events = read(queries.read_event_use, db, period)
    everything = [*tallies, *taken, *ahead, rooms, days, events]
    try:
        await asyncio.gather(*everything)
    finally:
        # Where one is refused, nobody waits for the others.
        for task in everything:
            task.cancel()
    return Analytics(
        period=period,
        days=days.result(),
        tallies=_added_up(chain.from_iterable(task.result() for task in tallies)),
        lead_time=await asyncio.to_thread(lambda: lead_time(_sum(task.result() for task in ahead))),
        rooms=uses(rooms.result(), _sum(task.result() for task in taken)),
        events=events.result(),
    )


def _sum(counts: Iterable[Mapping[int, int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    return total


def _added_up(tallies: Iterable[Tally]) -> list[Tally]:
    """One tally for each resource."""
    found: dict[UUID, Tally] = {}
    for one in tallies:
        other = found.get(one.id)
        bookings, units = (other.bookings, other.units) if other else (0, 0)
        found[one.id] = Tally(one.kind, one.id, one.name, one.bookings + bookings, one.units + units)
    return list(found.values())


async def count_bookings_by_day(db: Database, *, period: Period) -> list[Day]:
    """Each date of the period with the bookings made on it."""
    return await queries.count_by_day(db, period)
