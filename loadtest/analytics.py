"""How long do the analytics of a million bookings take? Each statement's milliseconds beside those of counting the bookings.

A database of its own: 200 rooms, 40 hosts, 100 events of 1,000 seats, and a million bookings made within one year, 5 % of
them cancelled. Measured are the newest 31 days, 92 days, and the whole year of the million, each statement by itself and
the whole use case, two statements at a time, in rounds of random order. The plans go into a text file beside the report.
Loads for some minutes at first; kept for the next run. python loadtest/analytics.py --help
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import reference_load
from holdfast.core.answers import answer
from holdfast.db import migrate, migrations
from holdfast.db.database import SERVER_SETTINGS, Database
from holdfast.reports import queries, service
from holdfast.reports.queries import analytics as statements
from holdfast.reports.rules import Period
from printing import console, figures_table, write_report
from reference_load import Server

NAME = "holdfast_load_analytics"
BOOKINGS = 1_000_000
COUNT, WHOLE = "count all bookings", "the whole report"
#: What the whole report of the newest 31 days may take.
BAR_MS, BAR_DAYS = 200.0, 31
WINDOWS = (BAR_DAYS, 92, 366)
ZONE = "Europe/Berlin"

#: Slots from 350 days ago to two weeks ahead, each taken with the same chance; made up to 14 days before, mostly short before.
#: Ids are version-7 UUIDs of the moment of booking, as the service makes them.
_THINGS = (
    """
INSERT INTO users (id, email, email_key, name, role, created_at)
SELECT gen_random_uuid(), mail, mail, 'Load user ' || n, 'user', now() - interval '2 years'
FROM generate_series(1, 10000) n, LATERAL (SELECT 'user-' || n || '@load.example.com' AS mail) m""",
    """
INSERT INTO resources (id, kind, name, time_zone, created_at)
SELECT gen_random_uuid(), CASE WHEN n <= 200 THEN 'room' WHEN n <= 240 THEN 'host' ELSE 'event' END, 'Load ' || n,
       (ARRAY['UTC', 'Europe/Berlin', 'America/New_York'])[1 + n % 3], now() - interval '2 years'
FROM generate_series(1, 340) n""",
    "INSERT INTO rooms (resource_no, capacity) SELECT no, 4 + no % 16 FROM resources WHERE kind = 'room'",
    """
INSERT INTO schedules (resource_no, id, slot_minutes, windows)
SELECT no, gen_random_uuid(), 30, '[{"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "09:00", "endTime": "19:00"}]'
FROM resources WHERE kind = 'room'""",
    """
INSERT INTO hosts (resource_no, user_id)
SELECT r.no, u.id FROM (SELECT no, row_number() OVER () AS n FROM resources WHERE kind = 'host') r
JOIN (SELECT id, row_number() OVER () AS n FROM users) u USING (n)""",
    """
INSERT INTO events (resource_no, start_at, end_at)
SELECT no, at, at + interval '2 hours'
FROM resources, LATERAL (SELECT date_trunc('day', now()) + (no * 37 % 364 - 350) * interval '1 day 1 second' AS at) a
WHERE kind = 'event'""",
    """
INSERT INTO seats (id, resource_no, label)
SELECT gen_random_uuid(), e.resource_no, 'A-' || n FROM events e, generate_series(1, 1000) n ORDER BY e.resource_no, n""",
    # The chance depends on the slot, else PostgreSQL asks it once for each room.
    """
CREATE UNLOGGED TABLE given AS
SELECT r.no AS resource_no, r.kind, 0::bigint AS seat_no, since, since + interval '30 minutes' AS until, random() < 0.05 AS gone
FROM resources r, generate_series(-350, 13) d, generate_series(0, 19) n,
     LATERAL (SELECT date_trunc('day', now()) + d * interval '1 day' + interval '9 hours' + n * interval '30 minutes' AS since) t
WHERE r.kind <> 'event' AND random() + n * 0 < CASE r.kind WHEN 'room' THEN 0.64 ELSE 0.16 END""",
    # Two seats each, the second of which is the next one.
    """
INSERT INTO given
SELECT s.resource_no, 'event', s.no, e.start_at, e.end_at, random() < 0.05
FROM seats s JOIN events e USING (resource_no) WHERE s.no % 2 = 1 AND random() + s.no * 0 < 0.9""",
    """
CREATE UNLOGGED TABLE named AS
SELECT g.*, (substr(ms, 1, 8) || '-' || substr(ms, 9, 4) || '-7' || substr(gen_random_uuid()::text, 16))::uuid AS id, made_at,
       u.id AS user_id
FROM given g,
  LATERAL (SELECT least(g.since - random() * random() * interval '14 days', now() - random() * interval '1 hour') AS made_at,
                  1 + floor(random() * 10000)::int AS person WHERE g.resource_no > 0) m,
  LATERAL (SELECT lpad(to_hex(floor(extract(epoch FROM made_at) * 1000)::bigint), 12, '0') AS ms) t,
  (SELECT id, row_number() OVER () AS person FROM users) u
WHERE u.person = m.person
ORDER BY made_at LIMIT 1000000""",
)
_BOOKINGS = (
    """
INSERT INTO bookings (id, user_id, kind, status, start_at, end_at, title, created_at, cancelled_at)
SELECT id, user_id, kind, CASE WHEN gone THEN 'cancelled' ELSE 'active' END, since, until, 'Meeting', made_at,
       CASE WHEN gone THEN made_at + interval '1 minute' END
FROM named ORDER BY made_at""",
    """
INSERT INTO booking_units (booking_id, position, resource_no, seat_no, during, slot_id)
SELECT id, position, resource_no, seat_no + position - 1 + CASE kind WHEN 'event' THEN 0 ELSE 1 - position END,
       tstzrange(since, until), gen_random_uuid()
FROM named, generate_series(1, 2) position
WHERE position = 1 OR kind = 'event' ORDER BY made_at, position""",
    """
INSERT INTO claims (resource_no, seat_no, during, booking_id)
SELECT u.resource_no, u.seat_no, CASE WHEN u.seat_no = 0 THEN u.during ELSE tstzrange(NULL, NULL, '()') END, u.booking_id
FROM named n JOIN booking_units u ON u.booking_id = n.id WHERE NOT n.gone ORDER BY n.made_at""",
    "DROP TABLE given, named",
    "VACUUM (ANALYZE)",
)
_MUST_BE_NONE = """
SELECT count(*) FROM bookings b LEFT JOIN claims c ON c.booking_id = b.id WHERE (b.status = 'active') <> (c.no IS NOT NULL)"""


def _ensure(on: Server) -> str:
    """The URL of the database, built unless it is there, of today and of the present revision."""
    url = reference_load.with_name(on.url, NAME)
    wanted = {"bookings": BOOKINGS, "revision": migrations.head(), "built_on": datetime.now(UTC).date().isoformat()}
    if asyncio.run(_label(on.url)) != wanted:
        asyncio.run(_run(on.url, f'DROP DATABASE IF EXISTS "{NAME}"', f'CREATE DATABASE "{NAME}" TEMPLATE template0'))
        migrate.upgrade(url)
        with console.status("Loading a million bookings: some minutes"):
            asyncio.run(_build(url))
        asyncio.run(_run(on.url, f"COMMENT ON DATABASE \"{NAME}\" IS '{json.dumps(wanted)}'"))
    return url


async def _label(server_url: str) -> object:
    connection = await asyncpg.connect(server_url)
    try:
        text = await connection.fetchval("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1", NAME)
    finally:
        await connection.close()
    return json.loads(text) if text else None


async def _run(url: str, *texts: str) -> None:
    connection = await asyncpg.connect(url, command_timeout=3600)
    try:
        for text in texts:
            await connection.execute(text)
    finally:
        await connection.close()


async def _build(url: str) -> None:
    connection = await asyncpg.connect(url, command_timeout=3600)
    try:
        # Where that is not allowed, the foreign keys are checked row by row: slower.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET session_replication_role = replica")
        await connection.execute("SET synchronous_commit = off")
        for text in (*_THINGS, *_BOOKINGS):
            await connection.execute(text)
        made, wrong = await connection.fetchval("SELECT count(*) FROM bookings"), await connection.fetchval(_MUST_BE_NONE)
        if made != BOOKINGS or wrong:
            raise SystemExit(f"analytics: {made} bookings, {wrong} of them without their claim: a defect of this script.")
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


class Bench:
    """What is measured of one window. Values are milliseconds."""

    def __init__(self, db: Database, days: int) -> None:
        self.db = db
        last = datetime.now(UTC).date()
        self.period = Period(last - timedelta(days=days - 1), last, ZONE)
        self.seen: dict[str, list[float]] = {}
        self.bookings = 0
        self.work: dict[str, Callable[[], Awaitable[object]]] = {
            COUNT: lambda: db.fetch("SELECT count(*) FROM bookings"),
            "by day": lambda: queries.count_by_day(db, self.period),
            "lead time": self._lead_time,
            "by room, host, event": self._by_resource,
            "use of rooms": self._use_of_rooms,
            "use of events": lambda: queries.read_event_use(db, self.period),
            WHOLE: self._whole,
        }

    async def _whole(self) -> None:
        found = (await service.analyze_bookings(self.db, period=self.period)).as_json(top=5)
        answer(found)
        self.bookings = found["totals"]["bookings"]

    async def _by_resource(self) -> None:
        for piece in self.period.pieces():
            await queries.count_by_resource(self.db, *piece)

    async def _lead_time(self) -> None:
        for piece in self.period.pieces():
            await queries.count_by_lead_time(self.db, *piece)

    async def _use_of_rooms(self) -> None:
        await queries.read_rooms(self.db, self.period)
        for piece in self.period.pieces():
            await queries.sum_time_taken(self.db, *piece)

    async def run(self, name: str) -> None:
        """Measure one thing once."""
        before = time.perf_counter()
        await self.work[name]()
        self.seen.setdefault(name, []).append((time.perf_counter() - before) * 1_000)

    def arguments(self) -> dict[str, tuple[str, list[object]]]:
        """Each statement with its arguments; of those that run piece by piece, the first."""
        start, end, pieces = self.period.start, self.period.end, self.period.pieces()
        return {
            "by day": (statements.BY_DAY, [self.period.edges]),
            f"lead time, of {len(pieces)} pieces the first": (statements.LEAD_TIMES, list(pieces[0])),
            f"by room, host, event, of {len(pieces)} pieces the first": (statements.BY_RESOURCE, list(pieces[0])),
            f"time taken, of {len(pieces)} pieces the first": (statements.TIME_TAKEN, list(pieces[0])),
            "rooms": (statements.ROOMS, [start, end]),
            "use of events": (statements.EVENT_USE, [start, end]),
        }


def _literal(value: object) -> str:
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(_literal, value))}]"
    return f"'{value.isoformat()}'::timestamptz" if isinstance(value, datetime | date) else str(value)


async def _plans(url: str, benches: list[Bench]) -> str:
    """How PostgreSQL runs each statement, with the settings of the service's own sessions."""
    connection = await asyncpg.connect(url, server_settings=SERVER_SETTINGS)
    told: list[str] = []
    try:
        for bench in benches:
            for name, (statement, arguments) in bench.arguments().items():
                await connection.execute(f"PREPARE asked AS {statement}")
                asked = f"EXPLAIN (ANALYZE, BUFFERS) EXECUTE asked({', '.join(map(_literal, arguments))})"
                rows = await connection.fetch(asked)
                await connection.execute("DEALLOCATE asked")
                told += [f"== {name}, {len(bench.period.dates)} days ==", *(row[0] for row in rows), ""]
    finally:
        await connection.close()
    return "\n".join(told)


async def _measure(url: str, rounds: int) -> tuple[list[Bench], str]:
    db = Database(url)
    benches = [Bench(db, days) for days in WINDOWS]
    turns = [(bench, name) for bench in benches for name in bench.work]
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} runs"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("Warming up", total=rounds * len(turns))
        for bench, name in turns:
            await bench.run(name)
        for bench in benches:
            bench.seen = {}
        for number in range(1, rounds + 1):
            for bench, name in random.sample(turns, len(turns)):
                progress.update(task, description=f"Round {number}: {len(bench.period.dates)} days, {name}")
                await bench.run(name)
                progress.advance(task)
    plans = await _plans(url, benches)
    await db.close()
    return benches, plans


def main() -> int:
    """Load, measure, print; exit code 1 only with --check and the bar missed."""
    parser = argparse.ArgumentParser(description="The analytics of a database with a million bookings.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--check", action="store_true", help=f"fail where {BAR_DAYS} days take more than {BAR_MS:g} ms")
    parser.add_argument("--data-dir", type=Path, default=reference_load.DEFAULT_FOLDER, help="folder of the embedded PostgreSQL")
    parser.add_argument("--output", type=Path, default=Path("reports/analytics.json"))
    options = parser.parse_args()
    with reference_load.server(options.data_dir) as on:
        benches, plans = asyncio.run(_measure(_ensure(on), options.rounds))
    report: dict[str, object] = {}
    missed = False
    for bench in benches:
        days = len(bench.period.dates)
        table = figures_table(f"{days} days, {bench.bookings:,} bookings", "ms", "least ms", f"of {COUNT}", "")
        count = statistics.median(bench.seen[COUNT])
        for name, seen in bench.seen.items():
            median = statistics.median(seen)
            verdict = ""
            if name == WHOLE and days == BAR_DAYS:
                missed = median > BAR_MS
                verdict = "MISSED" if missed else "held"
            table.add_row(name, f"{median:.0f}", f"{min(seen):.0f}", f"{median / count:.1f}", verdict)
        console.print(table)
        report[str(days)] = {"bookings": bench.bookings, "ms": bench.seen}
    write_report(options.output, {"bookings": BOOKINGS, "days": report})
    text = options.output.with_suffix(".txt")
    text.write_text(plans)
    console.print(f"Medians of {options.rounds} rounds; bar {BAR_MS:g} ms for {BAR_DAYS} days. {options.output}, plans: {text}")
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
