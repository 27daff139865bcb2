"""How long does it take to find free rooms among 1,000, over 7 days? The search's milliseconds beside one trivial statement's.

The rooms of a reference load of its own have 20 half-hour slots a day, three of ten taken. All are measured in one run, in
rounds of random order: once with one schedule for all rooms, once with a schedule of its own for each, which share nothing
and are the worst case. Loads for half a minute at first; kept for the next run. python loadtest/availability.py --help
"""

import argparse
import asyncio
import gc
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from datetime import time as wall_time
from pathlib import Path
from uuid import UUID

import asyncpg
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import reference_load
from holdfast.availability import queries, service
from holdfast.availability.rules import Wish
from holdfast.core.answers import answer
from holdfast.core.schedules import local_date
from holdfast.db.database import Database
from printing import console, figures_table, write_report
from reference_load import Load, Server, Size

TRIVIAL, STATEMENT = "SELECT 1", "the statement"
SIZE = Size(bookings=120_000, rooms=1_000, users=1_000, taken=0.3)
DAYS = 7
#: What the whole use case may take, with any wish.
BAR_MS = 300.0

#: Opens and closes a little later in each room; no two of a thousand alike.
_OWN_SCHEDULES = """
UPDATE schedules SET windows = jsonb_build_array(jsonb_build_object(
  'daysOfWeek', '[1, 2, 3, 4, 5, 6, 7]'::jsonb,
  'startTime', to_char(time '08:00' + resource_no % 40 * interval '1 minute', 'HH24:MI'),
  'endTime', to_char(time '18:40' + resource_no / 40 * interval '1 minute', 'HH24:MI')))"""


class Bench:
    """One database, and what is measured on it. Values are milliseconds."""

    def __init__(self, load: Load) -> None:
        self.db = Database(load.url)
        self.start = datetime.combine(load.last_day - timedelta(days=DAYS - 1), wall_time(), UTC)
        self.seen: dict[str, list[float]] = {}
        #: The longest that the event loop was kept from everybody else, of each run.
        self.held: dict[str, list[float]] = {}
        self.found: dict[str, tuple[int, int]] = {}
        near = {"near_room": UUID(str(load.rooms[SIZE.rooms // 2].id)), "near_time": self.start + timedelta(days=3, hours=13)}
        self.work: dict[str, Callable[[], Awaitable[object]]] = {
            TRIVIAL: lambda: self.db.fetch(TRIVIAL),
            STATEMENT: self._statement,
            "30 minutes": self._search("30 minutes", minutes=30),
            "2 hours near a room and time": self._search("2 hours near a room and time", minutes=120, **near),
            "5 rooms for an hour": self._search("5 rooms for an hour", minutes=60, rooms=5),
            "20 rooms for 4 hours": self._search("20 rooms for 4 hours", minutes=240, rooms=20),
        }

    async def _statement(self) -> None:
        end = self.start + timedelta(days=DAYS)
        await self.db.fetch(queries.ROOMS_AND_TIMES, self.start, end, None, None, [], None)

    def _search(self, name: str, **wish: object) -> Callable[[], Awaitable[object]]:
        whole = Wish(self.start, self.start + timedelta(days=DAYS), **wish)  # type: ignore[arg-type]  # by name

        async def search() -> None:
            entries = await service.search_availability(self.db, wish=whole, now=datetime.now(UTC))
            body = answer({"availability": [entry.as_json() for entry in entries]}).body
            self.found[name] = len(entries), len(body)

        return search

    async def run(self, name: str) -> None:
        """Measure one thing once."""
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0.001)
                longest = max(longest, time.perf_counter() - before - 0.001)

        watcher = asyncio.create_task(watch()) if name != TRIVIAL else None
        await asyncio.sleep(0)
        before = time.perf_counter()
        await self.work[name]()
        self.seen.setdefault(name, []).append((time.perf_counter() - before) * 1_000)
        if watcher is not None:
            # Once more, so that it sees what the last step took.
            await asyncio.sleep(0.002)
            watcher.cancel()
        self.held.setdefault(name, []).append(longest * 1_000)


def _own_schedules(load: Load) -> None:
    async def update() -> None:
        connection = await asyncpg.connect(load.url)
        try:
            await connection.execute(_OWN_SCHEDULES)
        finally:
            await connection.close()

    asyncio.run(update())


async def _measure(sides: dict[str, Load], rounds: int) -> dict[str, Bench]:
    benches = {name: Bench(load) for name, load in sides.items()}
    turns = [(bench, name) for bench in benches.values() for name in bench.work]
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} runs"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("Warming up", total=rounds * len(turns))
        for bench, name in turns:
            await bench.run(name)
        # As the service does after its start.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        first = {id(bench): bench.seen["30 minutes"] for bench in benches.values()}
        for bench in benches.values():
            bench.seen, bench.held = {"first of all": first[id(bench)]}, {}
        for number in range(1, rounds + 1):
            for bench, name in random.sample(turns, len(turns)):
                progress.update(task, description=f"Round {number}: {name}")
                await bench.run(name)
                progress.advance(task)
    for bench in benches.values():
        await bench.db.close()
    return benches


def _load(on: Server) -> Load:
    """The load, built anew where too few of its days are ahead."""
    load = reference_load.ensure(on, SIZE)
    if load.last_day - timedelta(days=DAYS) < local_date(datetime.now(UTC), "UTC"):
        load = reference_load.ensure(on, SIZE, rebuild=True)
    return load


def _report(side: str, bench: Bench) -> tuple[dict[str, dict[str, object]], list[str]]:
    table = figures_table(side, "ms", f"of {TRIVIAL}", "loop held ms", "entries", "kB", "")
    missed: list[str] = []
    report: dict[str, dict[str, object]] = {}
    trivial = statistics.median(bench.seen[TRIVIAL])
    for name in bench.work:
        median, held = statistics.median(bench.seen[name]), statistics.median(bench.held[name])
        entries, size = bench.found.get(name, (None, None))
        verdict = "" if size is None else "held" if median <= BAR_MS else "MISSED"
        if verdict == "MISSED":
            missed.append(f"{side}: {name}")
        table.add_row(
            name,
            f"{median:.2f}" if name == TRIVIAL else f"{median:.0f}",
            f"{median / trivial:,.0f}",
            "" if name == TRIVIAL else f"{held:.0f}",
            "" if entries is None else str(entries),
            "" if size is None else f"{size / 1_000:,.0f}",
            verdict,
        )
        report[name] = {"ms": median, "of_trivial": median / trivial, "loop_held_ms": held, "all_ms": bench.seen[name]}
    console.print(table)
    console.print(f"  the very first search of the process: {bench.seen['first of all'][0]:.0f} ms")
    return report, missed


def main() -> int:
    """Load, measure, print; exit code 1 only with --check and a search above the bar."""
    parser = argparse.ArgumentParser(description=f"The search for free rooms among {SIZE.rooms:,} over {DAYS} days.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--check", action="store_true", help=f"fail where a search takes more than {BAR_MS:g} ms")
    parser.add_argument("--data-dir", type=Path, default=reference_load.DEFAULT_FOLDER, help="folder of the embedded PostgreSQL")
    parser.add_argument("--output", type=Path, default=Path("reports/availability.json"))
    options = parser.parse_args()
    with ExitStack() as stack:
        on = stack.enter_context(reference_load.server(options.data_dir))
        load = _load(on)
        own = stack.enter_context(reference_load.cloned(on, load, "holdfast_load_availability"))
        _own_schedules(own)
        sides = {"One schedule and three zones": load, "A schedule of its own for each room": own}
        benches = asyncio.run(_measure(sides, options.rounds))
        report, missed = {}, []
        for side, bench in benches.items():
            report[side], above = _report(side, bench)
            missed += above
    write_report(options.output, {"rooms": SIZE.rooms, "sides": report})
    console.print(f"Medians of {options.rounds} rounds, JSON included; bar {BAR_MS:g} ms. All rounds: {options.output}")
    if missed and options.check:
        console.print(f"Above the bar: {', '.join(missed)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
