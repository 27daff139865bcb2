"""Crashes: a durable PostgreSQL of the test's own, real servers, writers that keep a ledger, and the reckoning afterwards."""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from holdfast.core.ids import new_id
from holdfast.core.security import AccessTokens
from holdfast.db import migrate
from holdfast.db.embedded import EmbeddedServer, start
from support.api import WINDOW, Person, tomorrow
from support.races import broken_invariants
from support.servers import SECRET, ServerProcess, free_port

#: No write lasts longer, whatever dies meanwhile: the promise is "503, never a hang".
LONGEST_ANSWER = 6.0


#: Read at import: the suite takes every `HOLDFAST_...` out of the environment before the first test.
TORTURE = os.environ.get("HOLDFAST_TORTURE_KILLS")
#: How many kills of each kind: ten in `make test`, hundreds in `make torture`.
KILLS = int(TORTURE or "10")


def told(text: str) -> None:
    """A line of progress, in the long form only."""
    if TORTURE:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class Postgres:
    """A PostgreSQL with fsync on that is killed and started again, at the same port."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._settings = {"max_connections": "60", "shared_buffers": "32MB", **settings}
        self._version = int(os.environ.get("HOLDFAST_TEST_POSTGRES_VERSION", "18"))
        self._shares: list[EmbeddedServer] = []
        self.server = self._start()
        self.url = self.server.ensure_database("crashes")
        # In a thread: Alembic's environment runs a loop of its own, and a test may be in the midst of one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(migrate.upgrade, self.url).result()

    def _start(self) -> EmbeddedServer:
        server = start(self.folder, version=self._version, settings=self._settings, port=self.port)
        self._shares.append(server)
        return server

    def kill(self, number: int = signal.SIGKILL, *, children_too: bool = False) -> None:
        """End the server without ceremony: SIGKILL to the postmaster, or SIGQUIT ("immediate")."""
        children = _children_of(self.server.pid) if children_too else []
        for pid in (self.server.pid, *children):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def start_again(self) -> None:
        """Start it, recovering what the crash left, once the dead one's last process is gone."""
        self.server = self._start()
        assert self.server.port == self.port

    def stop(self) -> None:
        for share in reversed(self._shares):
            share.stop()


def _children_of(pid: int) -> list[int]:
    """The processes whose parent this is; none where the system has no /proc (there the postmaster's death is enough)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # The second field may hold blanks: count from behind its bracket (proc(5)).
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found


@contextmanager
def durable_postgres(folder: Path, **settings: str) -> Iterator[Postgres]:
    """A server of one's own that is gone afterwards."""
    server = Postgres(folder, **settings)
    try:
        yield server
    finally:
        server.stop()


async def make_person(connection: asyncpg.Connection, role: str = "user") -> Person:
    """A user with a session, by SQL."""
    user_id, session_id, now = new_id(), new_id(), datetime.now(UTC)
    address = f"{user_id}@example.com"
    await connection.execute("INSERT INTO users (id, email, email_key, role) VALUES ($1, $2, $2, $3)", user_id, address, role)
    await connection.execute(
        "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        session_id,
        user_id,
        now,
        now + timedelta(days=1),
    )
    tokens = AccessTokens(SECRET, minutes=600)
    return Person(user_id, tokens.sign(user_id=user_id, role=role, session_id=session_id, now=now))


@dataclass
class Ground:
    """A room full of slots, an admin, and people."""

    boss: Person
    people: list[Person]
    room: str
    slots: list[str]


async def make_ground(url: str, server: str, *, people: int, days: int = 6) -> Ground:
    """People by SQL, a room over HTTP."""
    connection = await asyncpg.connect(url)
    try:
        boss, *others = [await make_person(connection, "user" if n else "admin") for n in range(people + 1)]
    finally:
        await connection.close()
    async with httpx.AsyncClient(base_url=server, timeout=30) as client:
        made = await client.post("/rooms", json={"name": "Room"}, headers=boss.headers)
        room = made.json()["room"]["id"]
        put = await client.put(f"/rooms/{room}/schedule", json={**WINDOW, "slotMinutes": 30}, headers=boss.headers)
        assert (made.status_code, put.status_code) == (201, 200)
        slots = []
        for day in range(1, days + 1):
            listed = await client.get(f"/rooms/{room}/slots", params={"date": tomorrow(day)}, headers=boss.headers)
            slots += [slot["id"] for slot in listed.json()["slots"]]
    return Ground(boss, others, room, slots)


@dataclass
class Entry:
    """What is known of one booking: the states that it may be in, after what was answered and what was not."""

    slot: str
    states: set[tuple[str, str]]  # (status, slot id)


@dataclass
class Ledger:
    """What the service acknowledged, and what it left open."""

    bookings: dict[str, Entry] = field(default_factory=dict)
    #: Titles of attempts without an answer: each may have become a booking, at most one.
    open_titles: set[str] = field(default_factory=set)
    told: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    longest: float = 0.0
    unequal: list[str] = field(default_factory=list)

    def acknowledge(self) -> None:
        self.acknowledged += 1


class Writer:
    """One user who books, moves and cancels until told to stop, whatever happens to the servers."""

    def __init__(self, ground: Ground, who: Person, server: str, ledger: Ledger, seed: int) -> None:
        self._ground = ground
        self._who = who
        self._server = server
        self._ledger = ledger
        self._rng = random.Random(seed)
        self._mine: list[str] = []
        self.stopping = False

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self._server, timeout=20, headers=self._who.headers) as client:
            while not self.stopping:
                roll = self._rng.random()
                if roll < 0.5 or not self._mine:
                    await self._book(client, with_key=roll < 0.25)
                elif roll < 0.8:
                    await self._cancel(client)
                else:
                    await self._move(client)

    async def _send(self, client: httpx.AsyncClient, path: str, **request: Any) -> httpx.Response | None:
        """One request; None where there was no answer at all."""
        begun = time.monotonic()
        try:
            answer = await client.post(path, **request)
        except httpx.TransportError as error:
            self._ledger.told[type(error).__name__] += 1
            # The process is away: a breath, so as not to spin while it starts.
            await asyncio.sleep(0.02)
            return None
        finally:
            self._ledger.longest = max(self._ledger.longest, time.monotonic() - begun)
        self._ledger.told[str(answer.status_code)] += 1
        if answer.status_code == 503:
            await asyncio.sleep(0.02)
        return answer

    async def _book(self, client: httpx.AsyncClient, *, with_key: bool) -> None:
        slot, title = self._rng.choice(self._ground.slots), str(new_id())
        body = {"slotId": slot, "title": title}
        headers = {"Idempotency-Key": title} if with_key else {}
        answer = await self._send(client, "/bookings", json=body, headers=headers)
        unanswered = answer is None or answer.status_code == 503
        while with_key and not self.stopping and (answer is None or answer.status_code == 503 or _in_progress(answer)):
            # The point of a key: it may be sent again until there is an answer.
            answer = await self._send(client, "/bookings", json=body, headers=headers)
        if answer is None or answer.status_code == 503 or _in_progress(answer):
            self._ledger.open_titles.add(title)
            return
        if answer.status_code != 201:
            return
        booking = answer.json()["booking"]["id"]
        self._ledger.bookings[booking] = Entry(slot, {("active", slot)})
        self._ledger.acknowledge()
        self._mine.append(booking)
        if with_key and (unanswered or self._rng.random() < 0.3):
            again = await self._send(client, "/bookings", json=body, headers=headers)
            if again is not None and again.status_code != 503 and again.content != answer.content:
                self._ledger.unequal.append(f"{answer.text} / {again.status_code} {again.text}")

    async def _cancel(self, client: httpx.AsyncClient) -> None:
        booking = self._mine.pop(self._rng.randrange(len(self._mine)))
        entry = self._ledger.bookings[booking]
        answer = await self._send(client, f"/bookings/{booking}/cancel")
        cancelled = {("cancelled", slot) for _status, slot in entry.states}
        if answer is not None and answer.status_code == 200:
            entry.states = cancelled
            self._ledger.acknowledge()
        elif answer is None or answer.status_code == 503:
            entry.states |= cancelled
            # Asked again later: what is left standing by a lost answer would fill the room in a long run.
            self._mine.append(booking)

    async def _move(self, client: httpx.AsyncClient) -> None:
        booking, slot = self._rng.choice(self._mine), self._rng.choice(self._ground.slots)
        entry = self._ledger.bookings[booking]
        answer = await self._send(client, f"/bookings/{booking}/reschedule", json={"slotId": slot})
        if answer is not None and answer.status_code == 200:
            entry.states = {("active", slot)}
            self._ledger.acknowledge()
        elif answer is None or answer.status_code == 503:
            entry.states = entry.states | {("active", slot)}


def _in_progress(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and answer.json()["error"]["code"] == "IDEMPOTENCY_IN_PROGRESS"


@dataclass
class Reckoning:
    """What became of what was acknowledged."""

    acknowledged: int
    lost: list[str]
    doubled: list[str]
    unexplained: list[str]
    broken: dict[str, Any]

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {len(self.lost)} lost, {len(self.doubled)} doubled, "
            f"{len(self.unexplained)} unexplained, broken: {self.broken}; "
            f"{self.lost[:3]} {self.doubled[:3]} {self.unexplained[:3]}"
        )

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.unexplained or self.broken)


async def reckon(url: str, ledger: Ledger) -> Reckoning:
    """Compare the ledger with what is stored."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT b.id::text, b.title, b.status, u.slot_id::text AS slot, "
            "(SELECT count(*) FROM claims c WHERE c.booking_id = b.id AND c.during = u.during) AS claims "
            "FROM bookings b JOIN booking_units u ON u.booking_id = b.id"
        )
        broken = await broken_invariants(connection)
    finally:
        await connection.close()
    stored = {row["id"]: row for row in rows}
    lost = []
    for booking, entry in ledger.bookings.items():
        row = stored.get(booking)
        if row is None:
            lost.append(f"{booking} is not there")
        elif (row["status"], row["slot"]) not in entry.states:
            lost.append(f"{booking} is {row['status']} at {row['slot']}, acknowledged were {entry.states}")
        elif row["claims"] != (1 if row["status"] == "active" else 0):
            lost.append(f"{booking} is {row['status']} and has {row['claims']} claims")
    titles = Counter(row["title"] for row in rows)
    doubled = [title for title, count in titles.items() if count > 1]
    unexplained = [row["id"] for row in rows if row["id"] not in ledger.bookings and row["title"] not in ledger.open_titles]
    return Reckoning(ledger.acknowledged, lost, doubled, unexplained, broken)


@dataclass
class Torture:
    """Writers against a server, and a hand that kills."""

    ground: Ground
    ledger: Ledger
    writers: list[Writer]
    tasks: list[asyncio.Task[None]]

    async def acknowledged(self, more: int, seconds: float = 30.0) -> None:
        """Return after so many more acknowledgements: the kill comes in the midst of traffic, at no fixed time."""
        goal = self.ledger.acknowledged + more
        end = time.monotonic() + seconds
        while self.ledger.acknowledged < goal:
            for task in self.tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < end, f"no acknowledgements any more: {self.ledger.told}"
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        for writer in self.writers:
            writer.stopping = True
        await asyncio.gather(*self.tasks)


def begin(ground: Ground, server: str, *, seed: int) -> Torture:
    """Start a writer for each of the people."""
    ledger = Ledger()
    writers = [Writer(ground, who, server, ledger, seed * 1000 + n) for n, who in enumerate(ground.people)]
    return Torture(ground, ledger, writers, [asyncio.create_task(writer.run()) for writer in writers])


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Return when the condition is true; it is asked again and again, and must come true in time."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.002)


async def until_ready(server: ServerProcess, seconds: float) -> float:
    """Seconds until `/readyz` is 200 again."""
    begun = time.monotonic()
    async with httpx.AsyncClient(timeout=5) as client:
        while time.monotonic() - begun < seconds:
            with suppress(httpx.TransportError):
                if (await client.get(f"{server.url}/readyz")).status_code == 200:
                    return time.monotonic() - begun
            await asyncio.sleep(0.01)
    raise AssertionError(f"not ready within {seconds} s:\n{server.log.read_text()[-3000:]}")
