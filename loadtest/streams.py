"""Live streams: how long from a booking's commit to its subscribers' sockets, and what 500 of them cost the bookings.

A steady 100 bookings a second. Beside them nobody, or 500 event streams in a process of their own: each watches `me` and one
of the 50 rooms, so a booking is heard by its owner and ten others; or, as the worst case, all watch all of them, so each
booking is heard 501 times (not one room alone: its bookings would wait for each other, which is another question). Turns in
rounds of random order, on one service. Latency is from `occurredAt`, which the database's clock says when the row is
inserted, so a little before the commit, to the moment in which the bytes are read; the clocks are one, as it is one machine.
Every message must arrive, exactly once. python loadtest/streams.py --help
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import IO, Any

import processes
import raw_http
import reference_load
from holdfast.core.schedules import slots_on
from printing import console, figures_table, in_rounds, write_report
from raw_http import percentile
from reference_load import SCHEDULE, Load, LoadRoom, Server

#: The bars: P99 to the socket in ms, and by how much bookings may be slower beside the subscribers.
BAR_MS, BAR_RATIO = 250.0, 1.1
ALONE, ONE_EACH, ALL = "nobody", "one room each", "all rooms each"
_CONNECT_AT_ONCE = 50


# --- the subscribers' process ---


class _Subscriber(asyncio.Protocol):
    """One event stream, read as cheaply as Python can: what arrived when. What it says is looked at afterwards."""

    def __init__(self, request: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._request = request
        self.ready = loop.create_future()
        self.chunks: list[tuple[float, bytes]] = []
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Note what came, and when."""
        self.chunks.append((time.time(), data))
        if not self.ready.done() and b"retry: " in data:
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The service has parted with it."""
        self.lost = True
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError(b"".join(data for _, data in self.chunks)[:200]))


async def _subscribe(port: int, asked: list[tuple[str, str]]) -> list[_Subscriber]:
    loop = asyncio.get_running_loop()
    found: list[_Subscriber] = []
    for begin in range(0, len(asked), _CONNECT_AT_ONCE):
        some = []
        for token, channels in asked[begin : begin + _CONNECT_AT_ONCE]:
            target = f"/stream?channels={channels}"
            message = raw_http.request("GET", target, port=port, token=token)
            _, subscriber = await loop.create_connection(lambda message=message: _Subscriber(message, loop), "127.0.0.1", port)
            some.append(subscriber)
        async with asyncio.timeout(30):
            await asyncio.gather(*(one.ready for one in some))
        found += some
    return found


def _heard(one: _Subscriber) -> Iterator[tuple[str, float]]:
    """Id, and milliseconds of each message."""
    rest = b""
    for at, data in one.chunks:
        # Chunked transfer encoding puts its own lines between ours; what we look for stands within one of them.
        blocks = (rest + data).split(b"\n\n")
        rest = blocks.pop()
        for block in blocks:
            place = block.find(b"\nevent: ")
            if place < 0:
                continue
            name = block[block.rfind(b"id: ", 0, place) + 4 : place].decode()
            begin = block.find(b'"occurredAt":"') + 14
            occurred = datetime.fromisoformat(block[begin : block.find(b'"', begin)].decode())
            yield name, (at - occurred.timestamp()) * 1000


async def _listen_until_told(spec: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    subscribers = await _subscribe(spec["port"], spec["asked"])
    for one in subscribers:
        one.chunks.clear()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    cpu = time.process_time()
    await loop.run_in_executor(None, sys.stdin.readline)
    busy = time.process_time() - cpu
    latencies: list[float] = []
    twice = 0
    for one in subscribers:
        ids: set[str] = set()
        for name, latency in _heard(one):
            twice += name in ids
            ids.add(name)
            latencies.append(latency)
    lost = sum(one.lost for one in subscribers)
    told = {"latencies": latencies, "twice": twice, "lost": lost, "busy": busy}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


class Crowd:
    """The subscribers, in a process of their own."""

    def __init__(self, port: int, asked: list[tuple[str, str]]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--subscribe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._write({"port": port, "asked": asked})
        if self._read() != "ready":
            raise SystemExit("bench-streams: the subscribers were not let in")

    def end(self) -> dict[str, Any]:
        """Hear what they heard, and let them go."""
        self._write({})
        told: dict[str, Any] = json.loads(self._read())
        self.kill()
        return told

    def kill(self) -> None:
        """Whatever they are at."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                self._pipe(pipe).close()

    def _write(self, value: Any) -> None:
        pipe = self._pipe(self._process.stdin)
        pipe.write(json.dumps(value) + "\n")
        pipe.flush()

    def _read(self) -> str:
        return self._pipe(self._process.stdout).readline().strip()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise RuntimeError("it was started with pipes")
        return pipe


# --- the bookings ---


@dataclass(frozen=True)
class Turn:
    """One turn. Latencies in ms: of the bookings, and of the messages; CPU in microseconds per booking."""

    bookings: int
    booking_p50: float
    booking_p95: float
    booking_p99: float
    messages: int
    p50: float
    p95: float
    p99: float
    slowest: float
    missing: int
    twice: int
    lost: int
    service_cpu: float | None
    postgres_cpu: float | None
    subscribers_busy: float


class House:
    """A service, who books, and who listens."""

    def __init__(self, on: Server, load: Load, service: processes.Process, options: argparse.Namespace) -> None:
        self._on, self._service = on, service
        self._rate, self._seconds = options.rate, options.seconds
        self._tokens = load.tokens(options.subscribers)
        self._rooms = load.rooms
        self._day = load.last_day + timedelta(days=10)
        self._expected = 0
        self._watchers = {who: self._watched(who) for who in (ALONE, ONE_EACH, ALL)}
        self._free = self._slots(load.rooms, days=3650)

    def _slots(self, rooms: tuple[LoadRoom, ...], *, days: int) -> Iterator[tuple[str, str]]:
        for ahead in range(days):
            day = self._day + timedelta(days=ahead)
            slots = [(str(room.id), str(slot.id)) for room in rooms for slot in slots_on(SCHEDULE, day, room.zone, room.no)]
            yield from random.sample(slots, len(slots))

    def _watched(self, who: str) -> Counter[str]:
        """How many watch each room."""
        return Counter(channel.removeprefix("room:") for _, channels in self._asked(who) for channel in channels.split(","))

    def _asked(self, who: str) -> list[tuple[str, str]]:
        rooms = [f"room:{room.id}" for room in self._rooms]
        if who == ALL:
            return [(token, ",".join(["me", *rooms])) for token in self._tokens]
        if who == ONE_EACH:
            return [(token, f"me,{rooms[n % len(rooms)]}") for n, token in enumerate(self._tokens)]
        return []

    def _next_request(self, who: str) -> raw_http.NextRequest:
        tokens = cycle(self._tokens)

        def made(_number: int) -> bytes:
            room_id, slot_id = next(self._free)
            # What the owner hears, and what those hear who watch the room.
            self._expected += 1 + self._watchers[who][room_id]
            return raw_http.request("POST", "/bookings", port=self._service.port, token=next(tokens), body={"slotId": slot_id})

        return made

    def book(self, who: str) -> Turn:
        """Book at an even rate while these listen; SystemExit where a booking is refused."""
        crowd = None if who == ALONE else Crowd(self._service.port, self._asked(who))
        try:
            self._expected = 0
            meter = processes.CpuMeter(self._service.pid, self._on.pid)
            seen = raw_http.constant_rate(
                self._service.port, self._next_request(who), rate=self._rate, seconds=self._seconds, connections=20
            )
            service_cpu, postgres_cpu = meter.per(seen.count)
            # What is under way arrives.
            time.sleep(1.5)
            told = crowd.end() if crowd is not None else {"latencies": [], "twice": 0, "lost": 0, "busy": 0.0}
        finally:
            if crowd is not None:
                crowd.kill()
        if set(seen.statuses) != {201}:
            raise SystemExit(f"bench-streams: expected 201 for each booking, got {dict(seen.statuses)}")
        heard: list[float] = told["latencies"]
        expected = 0 if who == ALONE else self._expected
        return Turn(
            bookings=seen.count,
            booking_p50=seen.percentile(50),
            booking_p95=seen.percentile(95),
            booking_p99=seen.percentile(99),
            messages=len(heard),
            p50=percentile(heard, 50),
            p95=percentile(heard, 95),
            p99=percentile(heard, 99),
            slowest=max(heard, default=0.0),
            missing=expected - len(heard),
            twice=told["twice"],
            lost=told["lost"],
            service_cpu=service_cpu,
            postgres_cpu=postgres_cpu,
            subscribers_busy=told["busy"] / self._seconds,
        )


def _report(found: dict[str, list[Turn]], options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    table = figures_table(
        "who listens", "booking P50", "P99", "messages/s", "to the socket P50", "P95", "P99", "slowest", "CPU us"
    )

    def median(turns: list[Turn], name: str) -> float:
        return statistics.median(getattr(turn, name) or 0.0 for turn in turns)

    for who, turns in found.items():
        figures = [median(turns, name) for name in ("booking_p50", "booking_p99")]
        figures.append(median(turns, "messages") / options.seconds)
        figures += [median(turns, name) for name in ("p50", "p95", "p99", "slowest", "service_cpu")]
        table.add_row(who, *(f"{value:,.1f}" if value < 100 else f"{value:,.0f}" for value in figures))
    console.print(table)
    ratios = [a.booking_p50 / b.booking_p50 for a, b in zip(found[ONE_EACH], found[ALONE], strict=True)]
    ratio, p99 = statistics.median(ratios), median(found[ONE_EACH], "p99")
    wrong = sum(turn.missing + turn.twice + turn.lost for turn in found[ONE_EACH])
    held = ratio <= BAR_RATIO and p99 < BAR_MS and not wrong
    console.print(f"  to the socket: P99 {p99:.0f} ms (bar {BAR_MS:g}: {'held' if p99 < BAR_MS else 'MISSED'})")
    console.print(
        f"  bookings take {ratio:.2f} times as long beside them (bar {BAR_RATIO:g}: {'held' if ratio <= BAR_RATIO else 'MISSED'})"
    )
    for turn in found.get(ALL, []):
        if turn.lost:
            console.print(f"  worst case: {turn.lost} subscribers were too slow, and parted with: they resume by themselves")
    if wrong:
        console.print("  MESSAGES ARE MISSING, OR CAME TWICE, OR SUBSCRIBERS WERE PARTED WITH: this is a defect of the service")
    busiest = max(turn.subscribers_busy for turns in found.values() for turn in turns)
    if busiest > 0.8:
        console.print(f"  the subscribers' process was busy for {busiest:.0%} of a core: its own delays are in the figures")
    report = {
        "subscribers": options.subscribers,
        "rate": options.rate,
        "seconds": options.seconds,
        "bar_ms": BAR_MS,
        "bar_ratio": BAR_RATIO,
        "p99": p99,
        "ratio": ratio,
        "ratios": ratios,
        "wrong": wrong,
        "turns": {who: [asdict(turn) for turn in turns] for who, turns in found.items()},
    }
    return report, held


def main() -> int:
    """Book and listen; exit code 1 where a message is missing or came twice, with `--check` also where a bar is missed."""
    parser = argparse.ArgumentParser(description="From a booking's commit to the sockets of its subscribers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worst", type=int, default=1, help="rounds of the worst case")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--rate", type=float, default=100.0, help="bookings per second")
    parser.add_argument("--subscribers", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1, help="server processes")
    parser.add_argument("--apart", action="store_true", help="with `holdfast worker` beside the service")
    parser.add_argument("--bookings", type=int, default=reference_load.Size.bookings, help="that there are before")
    parser.add_argument("--check", action="store_true", help="fail where a bar is missed")
    parser.add_argument("--subscribe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--data-dir", type=Path, default=reference_load.DEFAULT_FOLDER, help="folder of the embedded PostgreSQL")
    parser.add_argument("--output", type=Path, default=Path("reports/streams.json"))
    options = parser.parse_args()
    if options.subscribe:
        asyncio.run(_listen_until_told(json.loads(sys.stdin.readline())))
        return 0
    with ExitStack() as stack:
        on = stack.enter_context(reference_load.server(options.data_dir))
        size = reference_load.Size(bookings=options.bookings)
        load = stack.enter_context(reference_load.cloned(on, reference_load.ensure(on, size), "holdfast_load_streams"))
        if options.apart:
            stack.enter_context(processes.worker(load.url))
        service = stack.enter_context(processes.holdfast(load.url, workers=options.workers, apart=options.apart))
        house = House(on, load, service, options)
        found = in_rounds([(who, lambda who=who: house.book(who)) for who in (ALONE, ONE_EACH)], options.rounds)
        # Afterwards: what it leaves undone must not be the others' burden.
        if options.worst:
            found |= in_rounds([(ALL, lambda: house.book(ALL))], options.worst)
    report, held = _report(found, options)
    write_report(options.output, {"workers": options.workers, **report})
    console.print(f"All turns: {options.output}")
    return 1 if report["wrong"] or (options.check and not held) else 0


if __name__ == "__main__":
    sys.exit(main())
