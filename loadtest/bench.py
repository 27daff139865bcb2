"""Our list, book and refuse beside what bounds them: a raw ASGI answer, and the same work done by pgbench. Ratios count.

Everything runs in one go, in rounds of random order, so that a machine's moods hit all alike. python loadtest/bench.py --help
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import asyncpg

import processes
import raw_http
import reference_load
from holdfast.core.schedules import slots_on
from holdfast.core.slot_ids import encode
from holdfast.resources.queries import FREE_SLOTS_OF_A_ROOM
from holdfast.resources.rules import day_reach
from printing import console, figures_table, in_rounds, write_report
from reference_load import SCHEDULE, SLOT_MINUTES, Load, Server

L1, L2_LIST, L2_BOOK, L3_REFUSE, LIST, BOOK, REFUSE = (
    "L1 raw ASGI",
    "pgbench: list",
    "pgbench: book",
    "pgbench: refuse",
    "list",
    "book",
    "refuse",
)
#: (what, beside what, first bar); None where there is no bar yet.
RATIOS: tuple[tuple[str, str, float | None], ...] = (
    (LIST, L1, 0.06),
    (REFUSE, L3_REFUSE, 0.05),
    (LIST, L2_LIST, None),
    (BOOK, L2_BOOK, None),
)
#: What pgbench books lies here, far from everybody else.
_PGBENCH_EPOCH = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
#: More bookings a second than we could make: requests are prepared before the clock runs.
_MOST_BOOKINGS = 4_000

_PGBENCH_BOOK = """
\\set n :base + :client_id + :clients * :i
\\set i :i + 1
\\set no :first_no + :n % :rooms
\\set since {epoch} + :n / :rooms * {length}
\\set until :since + {length}
WITH who AS (SELECT id FROM users WHERE id = ({people})[:client_id + 1] AND status = 'active' FOR KEY SHARE),
made AS (
  INSERT INTO bookings (id, user_id, kind, start_at, end_at)
  SELECT {new_id}, who.id, 'room', to_timestamp(:since::bigint), to_timestamp(:until::bigint) FROM who
  RETURNING id, user_id, start_at, end_at),
units AS (
  INSERT INTO booking_units (booking_id, position, resource_no, during, slot_id)
  SELECT id, 1, :no::bigint, tstzrange(start_at, end_at), {new_id} FROM made),
taken AS (
  INSERT INTO claims (resource_no, during, booking_id) SELECT :no::bigint, tstzrange(start_at, end_at), id FROM made)
INSERT INTO outbox (id, type, subject_id, actor_id, actor_role, request_id, address, after)
SELECT {new_id}, 'booking.created', id, user_id, 'user', 'pgbench', '127.0.0.1', '{after}'::jsonb FROM made;
"""
#: A refusal as one statement: a booking of a slot that a read finds taken, so that nothing is written.
_PGBENCH_REFUSE = """
INSERT INTO claims (resource_no, during, booking_id)
SELECT {no}, w.during, '{booking}'::uuid
FROM (SELECT tstzrange(to_timestamp({since}), to_timestamp({until})) AS during) w
WHERE NOT EXISTS (
  SELECT FROM claims c
  WHERE int8range(c.resource_no, c.resource_no, '[]') && int8range({no}, {no}, '[]')
    AND int8range(c.seat_no, c.seat_no, '[]') && int8range(0, 0, '[]')
    AND c.during && w.during);
"""

#: Claims that share an instant with another one of the same unit.
_DOUBLED = """
SELECT count(*) FROM (
  SELECT lower(during) < max(upper(during)) OVER (PARTITION BY resource_no, seat_no ORDER BY lower(during), no
                                                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS over
  FROM claims WHERE during && tstzrange($1, $2)) c
WHERE over"""
_BOOKED = """
SELECT (SELECT count(*) FROM bookings WHERE status = 'active' AND start_at >= $1 AND start_at < $2) AS bookings,
       (SELECT count(*) FROM claims WHERE during && tstzrange($1, $2)) AS claims,
       (SELECT count(*) FROM booking_units WHERE during && tstzrange($1, $2)) AS units"""


@dataclass(frozen=True)
class Run:
    """One workload in one round. Microseconds of CPU per request; latencies in ms, None where pgbench does not tell."""

    per_second: float
    count: int
    service_cpu: float | None
    postgres_cpu: float | None
    p50: float | None = None
    p99: float | None = None
    client_busy: float | None = None


class Bench:
    """The servers, the load and the workloads."""

    def __init__(self, on: Server, load: Load, options: argparse.Namespace, stack: ExitStack) -> None:
        self.on = on
        self.load = load
        self.seconds: int = options.seconds
        self.connections: int = options.connections
        self.tokens = load.tokens(self.connections)
        self.day = datetime.now(UTC).date() + timedelta(days=1)
        self.next_day = load.last_day + timedelta(days=10)
        self.pgbench_round = 0
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = on.pgbench or _wheel_pgbench() or shutil.which("pgbench")
        if found is None:
            raise SystemExit("bench: pgbench is not found; it comes with PostgreSQL: apt-get install postgresql-contrib")
        self.pgbench = str(found)
        # Without a worker: what is told afterwards is no part of an answer, and pgbench's bookings are not told of either.
        self.service = stack.enter_context(processes.holdfast(load.url, apart=True))
        self.lists = [
            [self._list_request(room.id, token) for room in random.sample(load.rooms, len(load.rooms))] for token in self.tokens
        ]
        lengths = []
        for message in self.lists[0]:
            status, body = raw_http.ask(self.service.port, message)
            if status != 200:
                raise SystemExit(f"bench: a list was answered {status}: {body[:300]!r}")
            lengths.append(len(body))
        self.body_length = round(statistics.mean(lengths))
        self.raw = stack.enter_context(processes.raw_asgi(self.body_length))
        self.taken = asyncio.run(self._a_taken_slot())
        self.workloads: dict[str, Callable[[float], Run]] = {
            L1: self.run_l1,
            L2_LIST: self.run_pgbench_list,
            L2_BOOK: self.run_pgbench_book,
            L3_REFUSE: self.run_pgbench_refuse,
            LIST: self.run_list,
            BOOK: self.run_book,
            REFUSE: self.run_refuse,
        }
        self._write_scripts()

    def _list_request(self, room_id: UUID, token: str) -> bytes:
        return raw_http.request("GET", f"/rooms/{room_id}/slots?date={self.day}", port=self.service.port, token=token)

    async def _query(self, statement: str, *arguments: object) -> asyncpg.Record:
        connection = await asyncpg.connect(self.load.url)
        try:
            return (await connection.fetch(statement, *arguments))[0]
        finally:
            await connection.close()

    async def _a_taken_slot(self) -> asyncpg.Record:
        start = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        return await self._query(
            "SELECT resource_no, booking_id, lower(during) AS since, upper(during) AS until FROM claims "
            "WHERE during && tstzrange($1, $2) ORDER BY resource_no, lower(during) DESC LIMIT 1",
            start,
            start + timedelta(days=1),
        )

    # --- ours, over HTTP ---------------------------------------------------------------------------------------------

    def _http(self, process: processes.Process, next_request: raw_http.NextRequest, seconds: float, expected: int) -> Run:
        meter = processes.CpuMeter(process.pid, self.on.pid)
        seen = raw_http.closed_loop(process.port, next_request, connections=self.connections, seconds=seconds)
        service_cpu, postgres_cpu = meter.per(seen.count)
        if set(seen.statuses) != {expected}:
            raise SystemExit(f"bench: expected only {expected}, got {dict(seen.statuses)}")
        return Run(
            seen.per_second,
            seen.count,
            service_cpu,
            postgres_cpu,
            seen.percentile(50),
            seen.percentile(99),
            client_busy=seen.busy / seen.seconds,
        )

    def run_l1(self, seconds: float) -> Run:
        """A raw ASGI function, a fixed body of the mean length of our lists, the very requests of `run_list`."""
        return self._http(self.raw, self._cycling(self.lists), seconds, 200)

    def run_list(self, seconds: float) -> Run:
        """Tomorrow's free slots, one room after the other, each connection with a token of its own."""
        return self._http(self.service, self._cycling(self.lists), seconds, 200)

    @staticmethod
    def _cycling(lists: list[list[bytes]]) -> raw_http.NextRequest:
        at = [0] * len(lists)

        def following(number: int) -> bytes:
            messages = lists[number]
            at[number] = (at[number] + 1) % len(messages)
            return messages[at[number]]

        return following

    def run_book(self, seconds: float) -> Run:
        """Different slots, each booked once, durable; afterwards: rows = 201s, no unit twice."""
        first = self.next_day
        days = max(1, round(seconds * _MOST_BOOKINGS) // (len(self.load.rooms) * reference_load.SLOTS_A_DAY))
        self.next_day += timedelta(days=days + 2)
        wanted = list(self._slot_ids(first, days))
        random.shuffle(wanted)
        messages = [self._booking(slot_id, self.tokens[n % len(self.tokens)]) for n, slot_id in enumerate(wanted)]
        done = self._http(self.service, lambda _number: messages.pop() if messages else None, seconds, 201)
        start = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=1)
        asyncio.run(self._verify(start, start + timedelta(days=days + 2), done.count))
        return done

    def _slot_ids(self, first: date, days: int) -> Iterator[UUID]:
        for offset in range(days):
            for room in self.load.rooms:
                for slot in slots_on(SCHEDULE, first + timedelta(days=offset), room.zone, room.no):
                    yield slot.id

    def _booking(self, slot_id: UUID, token: str) -> bytes:
        return raw_http.request("POST", "/bookings", port=self.service.port, token=token, body={"slotId": str(slot_id)})

    async def _verify(self, start: datetime, end: datetime, created: int) -> None:
        doubled = (await self._query(_DOUBLED, start, end))[0]
        if doubled:
            raise SystemExit(f"bench: {doubled} units are taken twice. This is a defect of the service: keep the database.")
        rows = dict((await self._query(_BOOKED, start, end)).items())
        if set(rows.values()) != {created}:
            raise SystemExit(f"bench: {created} answers of 201, but {rows} rows. This is a defect of the service.")

    def run_refuse(self, seconds: float) -> Run:
        """Everybody wants one taken slot."""
        slot_id = encode(self.taken["resource_no"], self.taken["since"], SLOT_MINUTES)
        messages = [self._booking(slot_id, token) for token in self.tokens]
        return self._http(self.service, lambda number: messages[number], seconds, 409)

    # --- pgbench -----------------------------------------------------------------------------------------------------

    def _write_scripts(self) -> None:
        since, until = (f"to_timestamp({int(instant.timestamp())})" for instant in day_reach(self.day))
        # pgbench has no variables of type uuid, so the rooms' ids are an array.
        room = "(ARRAY[" + ",".join(f"'{room.id}'" for room in self.load.rooms) + "]::uuid[])[:n]"
        text = FREE_SLOTS_OF_A_ROOM.replace("$1", room).replace("$2", since).replace("$3", until)
        (self.folder / "list.sql").write_text(f"\\set n random(1, :rooms)\n{text};\n")
        version = asyncio.run(self._query("SELECT current_setting('server_version_num')::int"))[0]
        chosen = random.Random(0).choices(self.load.people, k=self.connections)
        shape = {"id": str(UUID(int=0)), "status": "active", "title": None, "start": "", "end": "", "more": " " * 350}
        (self.folder / "book.sql").write_text(
            _PGBENCH_BOOK.format(
                epoch=_PGBENCH_EPOCH,
                length=SLOT_MINUTES * 60,
                people="ARRAY[" + ",".join(f"'{user}'" for user, _ in chosen) + "]::uuid[]",
                new_id="uuidv7()" if version >= 180_000 else "gen_random_uuid()",
                # A colon before a word would be a variable.
                after=json.dumps(shape, separators=(",", ": ")),
            )
        )
        (self.folder / "refuse.sql").write_text(
            _PGBENCH_REFUSE.format(
                no=self.taken["resource_no"],
                booking=self.taken["booking_id"],
                since=int(self.taken["since"].timestamp()),
                until=int(self.taken["until"].timestamp()),
            )
        )

    def _pgbench(self, seconds: float, script: str, **variables: int) -> Run:
        parts = urlsplit(self.load.url)
        environment = {
            **os.environ,
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port or 5432),
            "PGUSER": unquote(parts.username or ""),
            "PGPASSWORD": unquote(parts.password or ""),
            "PGDATABASE": unquote(parts.path.removeprefix("/")),
        }
        command = [self.pgbench, "-n", "-M", "prepared", "-c", str(self.connections), "-j", "1", "-P", "1"]
        command += ["-T", str(max(1, round(seconds)) + 1)]
        for name, value in variables.items():
            command += ["-D", f"{name}={value}"]
        command += ["-f", str(self.folder / script)]
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        speeds: list[float] = []
        words: list[str] = []
        # When, and the server's CPU then. The first second goes into connecting and planning, which our service has behind it.
        marks: list[tuple[float, float | None]] = []
        assert child.stderr is not None
        for line in child.stderr:
            words.append(line)
            seen = re.match(r"progress: [0-9.]+ s, ([0-9.]+) tps", line)
            if seen is not None:
                marks.append((time.monotonic(), processes.cpu_seconds(self.on.pid)))
                speeds.append(float(seen[1]))
        output = child.communicate()[0]
        failed = re.search(r"^number of failed transactions: (\d+)", output, re.MULTILINE)
        if child.returncode or len(speeds) < 2 or (failed is not None and int(failed[1])):
            raise SystemExit(f"bench: pgbench failed:\n{output[-600:]}\n{''.join(words)[-600:]}")
        speed = statistics.mean(speeds[1:])
        (begun, before), (ended, after) = marks[0], marks[-1]
        transactions = round(speed * (ended - begun))
        used = None if after is None or before is None else (after - before) / transactions * 1e6
        return Run(speed, transactions, None, used)

    def run_pgbench_list(self, seconds: float) -> Run:
        """The statement of our list."""
        return self._pgbench(seconds, "list.sql", rooms=len(self.load.rooms))

    def run_pgbench_book(self, seconds: float) -> Run:
        """All rows of a booking, durable, in one statement."""
        self.pgbench_round += 1
        return self._pgbench(
            seconds,
            "book.sql",
            i=0,
            base=self.pgbench_round * 1_000_000,
            clients=self.connections,
            rooms=len(self.load.rooms),
            first_no=self.load.rooms[0].no,
        )

    def run_pgbench_refuse(self, seconds: float) -> Run:
        """A booking of a taken slot, refused by one statement."""
        return self._pgbench(seconds, "refuse.sql")


def _wheel_pgbench() -> Path | None:
    from holdfast.db.embedded import available_versions, binaries

    versions = available_versions()
    return Path(binaries.find(versions[-1]).bin_dir) / "pgbench" if versions else None


def _rounds(bench: Bench, count: int) -> dict[str, list[Run]]:
    with console.status("Warming up"):
        for run in bench.workloads.values():
            run(1)
    return in_rounds([(name, partial(run, bench.seconds)) for name, run in bench.workloads.items()], count)


def _median(runs: list[Run], what: str) -> float | None:
    values = [getattr(run, what) for run in runs]
    return None if any(value is None for value in values) else statistics.median(values)


def _ratio(found: dict[str, list[Run]], ours: str, theirs: str) -> float:
    """The median of the rounds' ratios: the two of one round met the same machine."""
    return statistics.median(a.per_second / b.per_second for a, b in zip(found[ours], found[theirs], strict=True))


def _text(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _report(found: dict[str, list[Run]], bench: Bench) -> tuple[dict[str, Any], list[str]]:
    table = figures_table("", "per second", "CPU us", "PG CPU us", "P50 ms", "P99 ms", title="Medians; CPU per request")
    medians = {}
    for name, runs in found.items():
        medians[name] = {what: _median(runs, what) for what in asdict(runs[0])}
        m = medians[name]
        table.add_row(
            name,
            _text(m["per_second"]),
            _text(m["service_cpu"]),
            _text(m["postgres_cpu"]),
            _text(m["p50"], 2),
            _text(m["p99"], 2),
        )
    console.print(table)
    ratios, missed = [], []
    for ours, theirs, bar in RATIOS:
        ratio = _ratio(found, ours, theirs)
        ratios.append({"what": ours, "beside": theirs, "ratio": ratio, "bar": bar})
        verdict = "" if bar is None else f"(bar {bar:.2f}: {'held' if ratio >= bar else 'MISSED'})"
        console.print(f"  {ours:<7} = {ratio:.3f} of {theirs:<16} {verdict}")
        if bar is not None and ratio < bar:
            missed.append(f"{ours} / {theirs}")
    busiest = max(run.client_busy or 0 for runs in found.values() for run in runs)
    console.print(
        f"  one worker, {bench.connections} connections, {bench.seconds} s a run, list bodies of {bench.body_length} bytes; "
        f"after each booking run: rows = 201s, no unit twice"
    )
    console.print(f"  the client used {busiest:.0%} of a core at most" + (": IT was the limit" if busiest > 0.9 else ""))
    return {
        "connections": bench.connections,
        "seconds": bench.seconds,
        "body_length": bench.body_length,
        "medians": medians,
        "ratios": ratios,
        "client_busy": busiest,
        "rounds": {name: [asdict(run) for run in runs] for name, runs in found.items()},
    }, missed


def main() -> int:
    """Run it all; exit code 1 only with --check and a ratio below its bar."""
    parser = argparse.ArgumentParser(description="Our list, book and refuse beside a raw ASGI answer and pgbench.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each run")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--check", action="store_true", help="fail where a ratio is below its bar")
    parser.add_argument("--data-dir", type=Path, default=reference_load.DEFAULT_FOLDER, help="folder of the embedded PostgreSQL")
    parser.add_argument("--output", type=Path, default=Path("reports/bench.json"))
    options = parser.parse_args()
    with ExitStack() as stack:
        on = stack.enter_context(reference_load.server(options.data_dir))
        built = reference_load.ensure(on)
        load = stack.enter_context(reference_load.cloned(on, built, "holdfast_load_bench"))
        bench = Bench(on, load, options, stack)
        found = _rounds(bench, options.rounds)
        report, missed = _report(found, bench)
    write_report(options.output, report)
    console.print(
        f"All rounds: {options.output}. Absolute figures are this machine's; compare ratios and CPU. Next: make load-test"
    )
    if missed and options.check:
        console.print(f"Below the bar: {', '.join(missed)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
