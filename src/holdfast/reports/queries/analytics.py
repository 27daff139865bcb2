"""The analytics' statements: each looks at the rows of the period and at no others, however long the history is.

What they cost is proportional to the bookings of the period (`loadtest/analytics.py` measures it), and but for one no index
is there for their sake: each makes every booking dearer. Instants come as arguments: calendars are Python's business.
"""

import asyncio
from datetime import datetime

import asyncpg

from holdfast.db.database import Database
from holdfast.reports.rules import Day, EventUse, OpenRoom, Period, Tally, open_seconds
from holdfast.resources.queries import schedule_out_of

#: By the index of the newest, day by day: no grouping, and no calendar in SQL.
BY_DAY = """
SELECT made.bookings, made.cancelled
FROM generate_series(1, cardinality($1::timestamptz[]) - 1) AS d(n),
LATERAL (
  SELECT count(*) AS bookings, count(b.cancelled_at) AS cancelled
  FROM bookings b
  WHERE b.created_at >= ($1::timestamptz[])[d.n] AND b.created_at < ($1::timestamptz[])[d.n + 1]) made
ORDER BY d.n"""

#: A histogram by whole minutes: some ten thousand pairs, where a million bookings would have to be sorted.
LEAD_TIMES = """
SELECT array_agg(minutes) AS minutes, array_agg(bookings) AS bookings
FROM (
  SELECT floor(date_part('epoch', b.start_at - b.created_at) / 60)::bigint AS minutes, count(*)::int AS bookings
  FROM bookings b WHERE b.created_at >= $1::timestamptz AND b.created_at < $2::timestamptz
  GROUP BY 1) histogram"""

#: Booking by booking (OFFSET 0 keeps the planner from reading all units there ever were). A booking with several slots of
#: one resource is one booking of it: its first unit there counts; seats of one booking are all of one event.
BY_RESOURCE = """
SELECT r.kind, r.id, r.name, found.bookings, found.units
FROM (
  SELECT u.resource_no, count(*) AS units,
         count(*) FILTER (WHERE u.position = 1 OR u.seat_no = 0 AND NOT EXISTS (
           SELECT FROM booking_units e
           WHERE e.booking_id = u.booking_id AND e.position < u.position AND e.resource_no = u.resource_no)) AS bookings
  FROM bookings b
  CROSS JOIN LATERAL (
    SELECT u.booking_id, u.position, u.resource_no, u.seat_no FROM booking_units u WHERE u.booking_id = b.id OFFSET 0) u
  WHERE b.created_at >= $1::timestamptz AND b.created_at < $2::timestamptz
  GROUP BY u.resource_no) found
JOIN resources r ON r.no = found.resource_no"""

#: By an index of its own, without a look at the rows: 20 ms of processor time for 80,000 claims, where the constraint's index
#: takes 100, for some 4 us that it costs each claim (100 without it). No slot of a room is longer than a day.
TIME_TAKEN = """
SELECT c.resource_no, date_part('epoch', sum(least(upper(c.during), $2) - greatest(lower(c.during), $1)))::bigint AS seconds
FROM claims c
WHERE c.booking_id IS NOT NULL AND c.seat_no = 0
  AND lower(c.during) > $1::timestamptz - interval '1 day' AND lower(c.during) < $2::timestamptz AND upper(c.during) > $1
GROUP BY c.resource_no"""

ROOMS = """
SELECT r.no, r.id, r.name, r.time_zone, r.archived_at, s.slot_minutes, s.windows::text AS windows,
       closed.starts, closed.ends
FROM resources r
LEFT JOIN schedules s ON s.resource_no = r.no
LEFT JOIN LATERAL (
  SELECT array_agg(k.start_at) AS starts, array_agg(k.end_at) AS ends
  FROM closures k
  WHERE k.resource_no = r.no AND k.start_at < $2::timestamptz AND k.end_at > $1::timestamptz
    AND EXISTS (SELECT FROM claims c WHERE c.closure_id = k.id)) closed ON true
WHERE r.kind = 'room'
ORDER BY r.no"""

EVENT_USE = """
SELECT r.id, r.name, taken.booked, (SELECT count(*) FROM seats s WHERE s.resource_no = r.no) - taken.blocked AS capacity
FROM events e
JOIN resources r ON r.no = e.resource_no
CROSS JOIN LATERAL (
  SELECT count(c.booking_id) AS booked, count(c.closure_id) AS blocked
  FROM claims c WHERE c.resource_no = r.no AND c.seat_no <> 0) taken
WHERE e.start_at >= $1::timestamptz AND e.start_at < $2::timestamptz AND (r.archived_at IS NULL OR taken.booked > 0)
ORDER BY e.start_at, r.no"""


async def count_by_day(db: Database, period: Period) -> list[Day]:
    """Each date of the period, soonest first, with the bookings made on it."""
    rows = await db.fetch(BY_DAY, period.edges)
    return [Day(date, row["bookings"], row["cancelled"]) for date, row in zip(period.dates, rows, strict=True)]


async def count_by_lead_time(db: Database, start: datetime, end: datetime) -> dict[int, int]:
    """How many of the bookings made in `[start, end)` were made how many whole minutes ahead."""
    (row,) = await db.fetch(LEAD_TIMES, start, end)
    return dict(zip(row["minutes"] or (), row["bookings"] or (), strict=True))


async def count_by_resource(db: Database, start: datetime, end: datetime) -> list[Tally]:
    """The resources of which bookings were made in `[start, end)`."""
    return [Tally(*row) for row in await db.fetch(BY_RESOURCE, start, end)]


async def sum_time_taken(db: Database, start: datetime, end: datetime) -> dict[int, int]:
    """Seconds of `[start, end)` that bookings take, by the numbers of rooms and hosts."""
    return dict(await db.fetch(TIME_TAKEN, start, end))


async def read_rooms(db: Database, period: Period) -> list[OpenRoom]:
    """Every room there ever was, in the order in which they were made, and for how long it was open.

    Open is what the present schedule makes bookable, without what is closed; of a room that is gone, until it was archived.
    """
    rows = await db.fetch(ROOMS, period.start, period.end)
    # A thousand rooms with a schedule of its own each take a tenth of a second, in which others want to be answered.
    return await asyncio.to_thread(lambda: [_open_room(row, period) for row in rows])


def _open_room(row: asyncpg.Record, period: Period) -> OpenRoom:
    schedule, archived_at = schedule_out_of(row), row["archived_at"]
    until = period.end if archived_at is None else min(period.end, archived_at)
    closures = list(zip(row["starts"] or (), row["ends"] or (), strict=True))
    return OpenRoom(
        no=row["no"],
        id=row["id"],
        name=row["name"],
        is_archived=archived_at is not None,
        open_seconds=open_seconds(schedule, row["time_zone"], period.start, until, closures) if schedule else 0,
    )


async def read_event_use(db: Database, period: Period) -> list[EventUse]:
    """The events that begin in the period, soonest first; archived ones only where seats were booked."""
    rows = await db.fetch(EVENT_USE, period.start, period.end)
    return [EventUse(row["id"], row["name"], row["capacity"], row["booked"]) for row in rows]
