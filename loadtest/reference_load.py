"""The reference load: a database with as much in it as a busy house has, built once and used again.

50 rooms with 20 half-hour slots a day each, 10,000 users, 100,000 bookings, half of each day taken, the next 60 days and
as many past ones as it needs. Rows are inserted in the order of time, through every index and constraint that the service
has, so that the indexes look as years of use leave them; only the foreign keys' triggers are off meanwhile, where the
account may do that. By itself: python loadtest/reference_load.py --bookings 1000000
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from holdfast.core.ids import new_id
from holdfast.core.schedules import Schedule, Window, slots_on, windows_json
from holdfast.core.security import AccessTokens
from holdfast.db import migrate, migrations
from holdfast.db.embedded import start as start_embedded

DEFAULT_NAME = "holdfast_load"
DEFAULT_FOLDER = Path(".data/load")
#: Signs the tokens of services that the load tests start themselves, on loopback.
SECRET = "signs-tokens-of-load-tests-on-loopback-only-7d1f"
SLOT_MINUTES = 30
SCHEDULE = Schedule(SLOT_MINUTES, (Window((1, 2, 3, 4, 5, 6, 7), 9 * 60, 19 * 60),))
SLOTS_A_DAY = 20
DAYS_AHEAD = 60
_ZONES = ("UTC", "Europe/Berlin", "America/New_York")
_CANCELLED = 0.05
_STALE_AFTER = timedelta(days=30)
_BATCH = 10_000
_SEED = 20_261_120
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Size:
    """How much there is; two databases with equal sizes are interchangeable."""

    bookings: int = 100_000
    rooms: int = 50
    users: int = 10_000
    #: Part of a day's slots that is taken.
    taken: float = 0.5


@dataclass(frozen=True)
class LoadRoom:
    """A room of the load."""

    no: int
    id: UUID
    zone: str


@dataclass(frozen=True)
class Load:
    """A database that holds the load, and who may call the service in front of it. `last_day` is the last one with bookings."""

    url: str
    size: Size
    rooms: tuple[LoadRoom, ...]
    people: tuple[tuple[UUID, UUID], ...]
    first_day: date
    last_day: date

    def tokens(self, count: int) -> list[str]:
        """Access tokens of that many users, good for a day, for a service whose secret is SECRET."""
        signer = AccessTokens(SECRET, minutes=1440)
        now = datetime.now(UTC)
        chosen = random.Random(_SEED).sample(self.people, min(count, len(self.people)))
        return [signer.sign(user_id=user, role="user", session_id=session, now=now) for user, session in chosen]


_PEOPLE = """
INSERT INTO users (id, email, email_key, name, role, created_at)
SELECT gen_random_uuid(), mail, mail, 'Load user ' || n, 'user', now() - interval '1 year'
FROM generate_series(1, $1::int) n, LATERAL (SELECT 'user-' || n || '@load.example.com' AS mail) m"""
_SESSIONS = """
INSERT INTO sessions (id, user_id, network, created_at, expires_at)
SELECT gen_random_uuid(), id, NULL, now(), now() + interval '10 years' FROM users"""

#: A batch of bookings with their units, and the claims of the active ones. Ids are version-7 UUIDs of the moment of
#: booking, as the service makes them: time in milliseconds, then random bits.
_BOOKINGS = """
WITH given AS MATERIALIZED (
  SELECT g.*, LEAST(g.since - random() * interval '14 days', now() - random() * interval '1 hour') AS made_at
  FROM unnest($1::bigint[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::boolean[]) g(no, since, slot_id, user_id, cancelled)
), named AS MATERIALIZED (
  SELECT given.*, since + $6::interval AS until,
    (substr(ms, 1, 8) || '-' || substr(ms, 9, 4) || '-7' || substr(gen_random_uuid()::text, 16))::uuid AS id
  FROM given, LATERAL (SELECT lpad(to_hex(floor(extract(epoch FROM made_at) * 1000)::bigint), 12, '0') AS ms) t
), booked AS (
  INSERT INTO bookings (id, user_id, kind, status, start_at, end_at, title, created_at, cancelled_at)
  SELECT id, user_id, 'room', CASE WHEN cancelled THEN 'cancelled' ELSE 'active' END, since, until, 'Meeting', made_at,
         CASE WHEN cancelled THEN made_at + interval '1 minute' END
  FROM named ORDER BY made_at
), units AS (
  INSERT INTO booking_units (booking_id, position, resource_no, during, slot_id)
  SELECT id, 1, no, tstzrange(since, until), slot_id FROM named
)
INSERT INTO claims (resource_no, during, booking_id)
SELECT no, tstzrange(since, until), id FROM named WHERE NOT cancelled"""

#: Each of these counts what must not be there; cheap enough to look at all of it.
_MUST_BE_NONE = {
    "active bookings without their claim": """
        SELECT count(*) FROM bookings b LEFT JOIN claims c ON c.booking_id = b.id
        WHERE (b.status = 'active') <> (c.no IS NOT NULL)""",
    "bookings without their unit": """
        SELECT count(*) FROM bookings b LEFT JOIN booking_units u ON u.booking_id = b.id
        WHERE u.booking_id IS NULL OR lower(u.during) <> b.start_at OR upper(u.during) <> b.end_at""",
    "bookings of nobody": "SELECT count(*) FROM bookings b LEFT JOIN users u ON u.id = b.user_id WHERE u.id IS NULL",
}


def name_for(size: Size) -> str:
    """The database's name: the default one for the default number of bookings."""
    return DEFAULT_NAME if size.bookings == Size().bookings else f"{DEFAULT_NAME}_{size.bookings}"


def with_name(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@dataclass(frozen=True)
class Server:
    """A PostgreSQL to load into. `pid` and `pgbench` are known of the embedded one."""

    url: str
    pid: int | None
    pgbench: Path | None


@contextmanager
def server(folder: Path = DEFAULT_FOLDER) -> Iterator[Server]:
    """HOLDFAST_DATABASE_URL's server where it is set (databases of our own on it), else an embedded one in `folder`."""
    # Told to end, a script still ends what it started.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    given = os.environ.get("HOLDFAST_DATABASE_URL")
    if given:
        yield Server(given.replace("postgresql+asyncpg://", "postgresql://", 1), None, None)
        return
    with start_embedded(folder) as embedded:
        yield Server(embedded.url, embedded.pid, Path(embedded.bin_dir) / "pgbench")


@contextmanager
def cloned(on: Server, load: Load, name: str) -> Iterator[Load]:
    """A copy of the load to write into, gone afterwards: what one run books is not there for the next."""
    source = urlsplit(load.url).path.removeprefix("/")
    _execute(on.url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
    try:
        yield Load(with_name(on.url, name), load.size, load.rooms, load.people, load.first_day, load.last_day)
    finally:
        _execute(on.url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def empty(on: Server, name: str) -> Iterator[str]:
    """The URL of a migrated database without any rows, gone afterwards."""
    url = with_name(on.url, name)
    drop = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
    _execute(on.url, drop, f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")
    try:
        migrate.upgrade(url)
        yield url
    finally:
        _execute(on.url, drop)


def _execute(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def ensure(on: Server, size: Size | None = None, *, rebuild: bool = False) -> Load:
    """The load on that server, built unless it is there with the same size, revision and from the last 30 days."""
    size = size or Size()
    name = name_for(size)
    url = with_name(on.url, name)
    found = None if rebuild else asyncio.run(_label(on.url, name))
    if found is None or not _usable(found, size):
        _execute(on.url, f'DROP DATABASE IF EXISTS "{name}"', f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")
        migrate.upgrade(url)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(f"Building {name}", total=size.bookings)
            found = asyncio.run(_build(url, size, lambda done, what: progress.update(task, completed=done, description=what)))
        _execute(on.url, f"COMMENT ON DATABASE \"{name}\" IS '{json.dumps(found)}'")
    return asyncio.run(_load(url, size, found))


def _usable(label: dict[str, Any], size: Size) -> bool:
    built_on = date.fromisoformat(label["built_on"])
    return (
        label["size"] == asdict(size)
        and label["revision"] == migrations.head()
        and timedelta(0) <= datetime.now(UTC).date() - built_on <= _STALE_AFTER
    )


async def _label(server_url: str, name: str) -> dict[str, Any] | None:
    """What a finished build wrote on the database; None where there is none, or half of one."""
    connection = await asyncpg.connect(server_url)
    try:
        text = await connection.fetchval("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1", name)
    finally:
        await connection.close()
    return json.loads(text) if text else None


def _rows_of_a_day(
    day: date, count: int, *, rooms: list[LoadRoom], people: list[UUID], chance: random.Random
) -> list[tuple[int, datetime, UUID, UUID, bool]]:
    """`count` bookings of a day: (room, start, slot id, user, cancelled), no two active ones of the same slot."""
    slots = [slot for room in rooms for slot in slots_on(SCHEDULE, day, room.zone, room.no)]
    cancelled = int(count * _CANCELLED)
    active = chance.sample(slots, min(count - cancelled, len(slots)))
    rows = [(slot.resource_no, slot.start, slot.id, chance.choice(people), False) for slot in active]
    rows += [(s.resource_no, s.start, s.id, chance.choice(people), True) for s in chance.choices(slots, k=count - len(active))]
    return rows


def _batches(size: Size, rooms: list[LoadRoom], people: list[UUID], today: date) -> Iterator[list[tuple[Any, ...]]]:
    """All bookings in the order of their dates, the oldest first, some thousands at a time."""
    chance = random.Random(_SEED)
    a_day = max(1, int(size.rooms * SLOTS_A_DAY * size.taken))
    days = -(-size.bookings // a_day)
    last = today + timedelta(days=min(DAYS_AHEAD, max(1, days // 2)))
    first_count = size.bookings - (days - 1) * a_day
    batch: list[tuple[Any, ...]] = []
    for back in range(days - 1, -1, -1):
        count = first_count if back == days - 1 else a_day
        batch += _rows_of_a_day(last - timedelta(days=back), count, rooms=rooms, people=people, chance=chance)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _build(url: str, size: Size, told: Callable[[int, str], None]) -> dict[str, Any]:
    connection = await asyncpg.connect(url, command_timeout=3600)
    try:
        # Where that is not allowed, the foreign keys are checked row by row: slower.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET session_replication_role = replica")
        await connection.execute("SET synchronous_commit = off")
        rooms = await _add_rooms(connection, size)
        await connection.execute(_PEOPLE, size.users)
        await connection.execute(_SESSIONS)
        people = [row["id"] for row in await connection.fetch("SELECT id FROM users ORDER BY email_key")]
        today = datetime.now(UTC).date()
        batches = _batches(size, rooms, people, today)
        done = 0
        upcoming = await asyncio.to_thread(next, batches, None)
        while upcoming:
            columns = [list(column) for column in zip(*upcoming, strict=True)]
            # The next batch is thought up while PostgreSQL stores this one.
            _, following = await asyncio.gather(
                connection.execute(_BOOKINGS, *columns, timedelta(minutes=SLOT_MINUTES)),
                asyncio.to_thread(next, batches, None),
            )
            done += len(upcoming)
            told(done, "Bookings, units and claims")
            upcoming = following
        told(done, "Looking for what must not be")
        for what, statement in _MUST_BE_NONE.items():
            wrong = await connection.fetchval(statement)
            if wrong:
                raise SystemExit(f"reference load: {wrong} {what}: the load is wrong, this is a defect of reference_load.py.")
        told(done, "VACUUM, ANALYZE")
        await connection.execute("VACUUM (ANALYZE)")
        # Where that is not allowed, it will come by itself.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CHECKPOINT")
        told(done, "Built")
        return {"size": asdict(size), "revision": migrations.head(), "built_on": today.isoformat()}
    finally:
        await connection.close()


async def _add_rooms(connection: asyncpg.Connection, size: Size) -> list[LoadRoom]:
    rooms = []
    windows = json.dumps(windows_json(SCHEDULE.windows))
    for n in range(1, size.rooms + 1):
        room_id, zone = new_id(), _ZONES[n % len(_ZONES)]
        no = await connection.fetchval(
            "INSERT INTO resources (id, kind, name, time_zone) VALUES ($1, 'room', $2, $3) RETURNING no",
            room_id,
            f"Load room {n}",
            zone,
        )
        await connection.execute("INSERT INTO rooms (resource_no, capacity) VALUES ($1, $2)", no, 4 + n % 16)
        await connection.execute(
            "INSERT INTO schedules (resource_no, id, slot_minutes, windows) VALUES ($1, $2, $3, $4::text::jsonb)",
            no,
            new_id(),
            SLOT_MINUTES,
            windows,
        )
        rooms.append(LoadRoom(no, room_id, zone))
    return rooms


async def _load(url: str, size: Size, label: dict[str, Any]) -> Load:
    connection = await asyncpg.connect(url)
    try:
        rooms = await connection.fetch("SELECT no, id, time_zone FROM resources ORDER BY no")
        people = await connection.fetch("SELECT user_id, id FROM sessions ORDER BY user_id")
    finally:
        await connection.close()
    a_day = max(1, int(size.rooms * SLOTS_A_DAY * size.taken))
    days = -(-size.bookings // a_day)
    last = date.fromisoformat(label["built_on"]) + timedelta(days=min(DAYS_AHEAD, max(1, days // 2)))
    return Load(
        url,
        size,
        tuple(LoadRoom(row["no"], row["id"], row["time_zone"]) for row in rooms),
        tuple((row["user_id"], row["id"]) for row in people),
        last - timedelta(days=days - 1),
        last,
    )


def main() -> int:
    """Build it and say what there is."""
    parser = argparse.ArgumentParser(description="Build the reference load, unless it is there.")
    parser.add_argument("--bookings", type=int, default=Size.bookings, help="up to 10 million")
    parser.add_argument("--rooms", type=int, default=Size.rooms)
    parser.add_argument("--users", type=int, default=Size.users)
    parser.add_argument("--rebuild", action="store_true", help="build it anew")
    parser.add_argument("--data-dir", type=Path, default=DEFAULT_FOLDER, help="folder of the embedded PostgreSQL")
    options = parser.parse_args()
    with server(options.data_dir) as on:
        load = ensure(on, Size(options.bookings, options.rooms, options.users), rebuild=options.rebuild)
        console.print(
            f"{name_for(load.size)}: {load.size.bookings:,} bookings of {len(load.people):,} users in {len(load.rooms)} rooms, "
            f"{load.first_day} to {load.last_day}. Next: make bench, or make load-test"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
