"""Does it stay as fast as history grows? P50 of list and book with 10 million bookings against 100 thousand.

Two databases on one server, a service of its own in front of each, measured in turns of random order. The first run loads
10 million bookings, which takes a quarter of an hour or more and 8 GB; they are kept for the next. A smaller one:
python loadtest/history.py --large 1000000
"""

import argparse
import asyncio
import random
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import asyncpg

import processes
import raw_http
import reference_load
from holdfast.core.schedules import slots_on
from printing import console, figures_table, in_rounds, write_report
from reference_load import SCHEDULE, Load, Size

LIST, BOOK, OLD = "list", "book", "list of any past day"
#: How many times as long the median may take with the large history; None: only shown (those pages are not in memory).
BARS: dict[str, float | None] = {LIST: 1.25, BOOK: 1.5, OLD: None}
_MOST_PER_SECOND = 2_000

#: Every booking that the service itself made is in the outbox; the reference load is not.
_CLEAN = (
    "DELETE FROM claims WHERE booking_id IN (SELECT subject_id FROM outbox)",
    "DELETE FROM booking_units WHERE booking_id IN (SELECT subject_id FROM outbox)",
    "DELETE FROM bookings WHERE id IN (SELECT subject_id FROM outbox)",
    "TRUNCATE outbox",
    "VACUUM (ANALYZE) claims, bookings, booking_units",
)


class Side:
    """One of the two databases with its service."""

    def __init__(self, load: Load, connections: int, stack: ExitStack) -> None:
        self.load = load
        self.connections = connections
        self.first_free = load.last_day + timedelta(days=10)
        # What an earlier run may have left when it was killed.
        asyncio.run(self.clean())
        stack.callback(lambda: asyncio.run(self.clean()))
        self.service = stack.enter_context(processes.holdfast(load.url, apart=True))
        self.tokens = load.tokens(200)
        self.wanted = self._slots()
        self.seen: dict[str, list[float]] = {name: [] for name in BARS}

    async def clean(self) -> None:
        """Take away what was booked beyond the load, and what it left in the indexes."""
        connection = await asyncpg.connect(self.load.url, command_timeout=3600)
        try:
            if await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)"):
                for statement in _CLEAN:
                    await connection.execute(statement)
        finally:
            await connection.close()

    def _slots(self) -> Iterator[str]:
        for offset in count():
            found = [
                str(slot.id)
                for room in self.load.rooms
                for slot in slots_on(SCHEDULE, self.first_free + timedelta(days=offset), room.zone, room.no)
            ]
            random.shuffle(found)
            yield from found

    def _lists(self, *, old: bool) -> list[bytes]:
        today = datetime.now(UTC).date()
        past = max(1, (today - self.load.first_day).days)
        messages = []
        for number in range(_MOST_PER_SECOND):
            day = today + timedelta(days=-random.randint(1, past) if old else random.randint(0, 13))
            target = f"/rooms/{random.choice(self.load.rooms).id}/slots?date={day}"
            token = self.tokens[number % len(self.tokens)]
            messages.append(raw_http.request("GET", target, port=self.service.port, token=token))
        return messages

    def run(self, what: str, seconds: float) -> None:
        """One turn; keeps its median."""
        if what == BOOK:
            messages = [
                raw_http.request("POST", "/bookings", port=self.service.port, token=token, body={"slotId": next(self.wanted)})
                for token in random.choices(self.tokens, k=int(seconds * _MOST_PER_SECOND))
            ]
            seen = raw_http.closed_loop(
                self.service.port,
                lambda _number: messages.pop() if messages else None,
                connections=self.connections,
                seconds=seconds,
            )
        else:
            lists = self._lists(old=what == OLD)
            turn = count()
            seen = raw_http.closed_loop(
                self.service.port,
                lambda _number: lists[next(turn) % len(lists)],
                connections=self.connections,
                seconds=seconds,
            )
        expected = 201 if what == BOOK else 200
        if set(seen.statuses) != {expected}:
            raise SystemExit(f"bench-history: {what}: expected only {expected}, got {dict(seen.statuses)}")
        self.seen[what].append(seen.percentile(50))


def _measure(small: Side, large: Side, rounds: int, seconds: float) -> None:
    turns = [(side, what) for side in (small, large) for what in BARS]
    with console.status("Warming up"):
        for side, what in turns:
            side.run(what, 2)
    for side in (small, large):
        side.seen = {name: [] for name in BARS}
    named = [(f"{what}, {side.load.size.bookings:,} bookings", partial(side.run, what, seconds)) for side, what in turns]
    in_rounds(named, rounds)


def main() -> int:
    """Load, measure, compare; exit code 1 only with --check and a bar missed."""
    parser = argparse.ArgumentParser(description="P50 of list and book with a long history against a short one.")
    parser.add_argument("--small", type=int, default=100_000, help="bookings of the short history")
    parser.add_argument("--large", type=int, default=10_000_000, help="bookings of the long one")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2, help="of each turn")
    parser.add_argument("--connections", type=int, default=4, help="few, so that P50 is not the time spent in a queue")
    parser.add_argument("--check", action="store_true", help="fail where a bar is missed")
    parser.add_argument("--data-dir", type=Path, default=reference_load.DEFAULT_FOLDER, help="folder of the embedded PostgreSQL")
    parser.add_argument("--output", type=Path, default=Path("reports/history.json"))
    options = parser.parse_args()
    if options.small >= options.large:
        parser.error("--large must be above --small")
    with ExitStack() as stack:
        on = stack.enter_context(reference_load.server(options.data_dir))
        loads = [reference_load.ensure(on, Size(bookings)) for bookings in (options.small, options.large)]
        small, large = (Side(load, options.connections, stack) for load in loads)
        _measure(small, large, options.rounds, options.seconds)
        table = figures_table("P50 ms", f"{options.small:,}", f"{options.large:,}", "ratio", "bar", "")
        missed, report = [], {}
        for what, bar in BARS.items():
            # Of each round, as the two turns of one met the same machine.
            ratio = statistics.median(b / a for a, b in zip(small.seen[what], large.seen[what], strict=True))
            medians = statistics.median(small.seen[what]), statistics.median(large.seen[what])
            held = bar is None or ratio <= bar
            if not held:
                missed.append(what)
            verdict = "" if bar is None else "held" if held else "MISSED"
            table.add_row(what, *(f"{m:.2f}" for m in medians), f"{ratio:.2f}", "" if bar is None else f"{bar:.2f}", verdict)
            report[what] = {
                "ratio": ratio,
                "bar": bar,
                "small": small.seen[what],
                "large": large.seen[what],
            }
        console.print(table)
    write_report(options.output, {"bookings": {"small": options.small, "large": options.large}, "p50": report})
    console.print(
        f"Medians of {options.rounds} rounds: {options.output}. The databases are kept in {options.data_dir} for the next run."
    )
    if missed and options.check:
        console.print(f"Missed: {', '.join(missed)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
