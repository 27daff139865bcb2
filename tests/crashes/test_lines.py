"""`kill -9` amid holds, waitlists and the fair queue: no promotion is lost, no ticket is lost or served twice."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from support.api import Person, tomorrow
from support.crashes import KILLS, TORTURE, Postgres, make_person, told, until
from support.races import broken_invariants
from support.servers import ServerProcess

pytestmark = pytest.mark.serial

SEATS = 6
PEOPLE = 12
#: Each is a start of the service, which takes seconds.
ROUNDS = KILLS if TORTURE else KILLS // 2
#: After a restart: everybody who fits is served by then. The worker's round is a second; the rest is for a busy machine.
SERVED_WITHIN = 10.0


@pytest.fixture
async def eye(durable: Postgres) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(durable.url)
    yield connection
    await connection.close()


async def _event(service: ServerProcess, boss: Person, seats: int, **fields: Any) -> str:
    async with httpx.AsyncClient(base_url=service.url, timeout=30, headers=boss.headers) as client:
        made = await client.post("/events", json={"name": "Concert", "start": f"{tomorrow(7)}T18:00:00Z", **fields})
        event: str = made.json()["event"]["id"]
        added = await client.post(f"/events/{event}/seats", json={"count": seats})
        assert (made.status_code, added.status_code) == (201, 201)
    return event


class Guest:
    """Somebody who wants a seat again and again, and keeps account of what was acknowledged."""

    def __init__(self, who: Person, service: ServerProcess, event: str, seed: int) -> None:
        self.who = who
        self.told: Counter[str] = Counter()
        #: What each booking may be by what was answered and what was not.
        self.bookings: dict[str, set[str]] = {}
        self.holds: set[str] = set()
        self.entries: set[str] = set()
        self.stopping = False
        self._url = service.url
        self._event = event
        self._rng = random.Random(seed)

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=20, headers=self.who.headers) as client:
            while not self.stopping:
                await self._act(client)

    async def _send(self, client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> httpx.Response | None:
        """One request; None where nobody can know what came of it."""
        try:
            answer = await client.request(method, path, json=body)
        except httpx.TransportError as error:
            self.told[type(error).__name__] += 1
            await asyncio.sleep(0.02)
            return None
        self.told[f"{method} {path.split('/')[1]} {answer.status_code}"] += 1
        if answer.status_code == 503:
            await asyncio.sleep(0.02)
            return None
        return answer

    async def _act(self, client: httpx.AsyncClient) -> None:
        roll = self._rng.random()
        wish = {"eventId": self._event, "quantity": 1}
        active = [booking for booking, states in self.bookings.items() if states != {"cancelled"}]
        if roll < 0.25:
            await self._book(client, wish)
        elif roll < 0.45:
            placed = await self._send(client, "POST", "/holds", wish)
            if placed is not None and placed.status_code == 201:
                token = placed.json()["hold"]["token"]
                self.holds.add(token)
                if roll < 0.35:
                    await self._book(client, {"holdToken": token})
                else:
                    await self._send(client, "DELETE", f"/holds/{token}")
        elif roll < 0.65 and active:
            booking = self._rng.choice(active)
            cancelled = await self._send(client, "POST", f"/bookings/{booking}/cancel")
            self.bookings[booking] = {"cancelled"} if cancelled is not None else self.bookings[booking] | {"cancelled"}
        elif roll < 0.8:
            joined = await self._send(client, "POST", "/waitlist", {**wish, "autoBook": roll < 0.7})
            if joined is not None and joined.status_code == 201:
                self.entries.add(joined.json()["entry"]["id"])
        elif roll < 0.9:
            await self._tidy(client)
        else:
            shown = await self._send(client, "GET", "/waitlist/my")
            for entry in shown.json()["entries"] if shown is not None else []:
                if entry["status"] == "offered":
                    if roll < 0.97:
                        await self._book(client, {"holdToken": entry["holdToken"]})
                    else:
                        await self._send(client, "DELETE", f"/waitlist/{entry['id']}")

    async def _tidy(self, client: httpx.AsyncClient) -> None:
        """Give back what a lost answer has left standing: else the hall would be full of it."""
        held = await self._send(client, "GET", "/holds/my")
        for hold in held.json()["holds"] if held is not None else []:
            await self._send(client, "DELETE", f"/holds/{hold['token']}")
        mine = await self._send(client, "GET", "/bookings/my?status=active")
        for booking in mine.json()["bookings"] if mine is not None else []:
            self.bookings.setdefault(booking["id"], {"active"})

    async def _book(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        made = await self._send(client, "POST", "/bookings", body)
        if made is not None and made.status_code == 201:
            self.bookings[made.json()["booking"]["id"]] = {"active"}


async def _reckon(eye: asyncpg.Connection, guests: list[Guest]) -> list[str]:
    """What was acknowledged and is not there."""
    statuses = {str(row["id"]): row["status"] for row in await eye.fetch("SELECT id, status FROM bookings")}
    holds = {str(row["id"]) for row in await eye.fetch("SELECT id FROM holds")}
    entries = {str(row["id"]) for row in await eye.fetch("SELECT id FROM waitlist_entries")}
    lost = []
    for guest in guests:
        for booking, states in guest.bookings.items():
            if statuses.get(booking) not in states:
                lost.append(f"booking {booking} is {statuses.get(booking)}, not {states}")
        lost += [f"hold {token}" for token in guest.holds - holds]
        lost += [f"entry {entry}" for entry in guest.entries - entries]
    return lost


async def test_killing_the_service_amid_holds_and_a_line_loses_no_promotion(
    service: ServerProcess, eye: asyncpg.Connection
) -> None:
    service.start()
    boss, *people = [await make_person(eye, "user" if n else "admin") for n in range(PEOPLE + 1)]
    event = await _event(service, boss, SEATS)
    guests = [Guest(who, service, event, seed) for seed, who in enumerate(people)]
    tasks = [asyncio.create_task(guest.run()) for guest in guests]
    rng = random.Random(20261122)

    def acknowledged() -> int:
        return sum(len(guest.bookings) + len(guest.entries) + len(guest.holds) for guest in guests)

    for number in range(1, ROUNDS + 1):
        goal = acknowledged() + rng.randrange(3, 15)

        async def reached(goal: int = goal) -> bool:
            return acknowledged() >= goal

        await until(reached, 30)
        await asyncio.to_thread(service.kill)
        await asyncio.to_thread(service.start)
        told(f"service killed {number}/{ROUNDS}: {acknowledged()} acknowledged")
    for guest in guests:
        guest.stopping = True
    await asyncio.gather(*tasks)
    # The last kill comes when everybody has gone: whoever waits and fits is served by the worker that then starts.
    await asyncio.to_thread(service.kill)
    await asyncio.to_thread(service.start)
    broken: dict[str, Any] = {}

    async def all_is_true() -> bool:
        nonlocal broken
        broken = await broken_invariants(eye)
        return not broken

    try:
        await until(all_is_true, SERVED_WITHIN)
    except TimeoutError:
        pytest.fail(str(broken))
    assert not await _reckon(eye, guests)
    said = sum((guest.told for guest in guests), Counter[str]())
    assert not [line for line in said if line.endswith(" 500")], said
    assert said["POST waitlist 201"] >= 1, said
    assert await eye.fetchval("SELECT count(*) FROM outbox WHERE type IN ('waitlist.offered', 'waitlist.booked')") >= 1
    assert acknowledged() >= 3 * ROUNDS


async def test_control_a_lost_promotion_and_a_lost_entry_are_seen(service: ServerProcess, eye: asyncpg.Connection) -> None:
    service.start()
    boss, anna, ben = [await make_person(eye, "user" if n else "admin") for n in range(3)]
    event = await _event(service, boss, 1)
    guest = Guest(ben, service, event, 1)
    async with httpx.AsyncClient(base_url=service.url, timeout=20) as client:
        wish = {"eventId": event, "quantity": 1}
        made = await client.post("/bookings", json=wish, headers=anna.headers)
        joined = await client.post("/waitlist", json=wish, headers=ben.headers)
        assert (made.status_code, joined.status_code) == (201, 201)
        guest.entries.add(joined.json()["entry"]["id"])
    assert not await broken_invariants(eye)
    assert not await _reckon(eye, [guest])
    # As if the cancel had been committed without what follows from it.
    service.kill()
    booking = UUID(made.json()["booking"]["id"])
    await eye.execute("DELETE FROM claims WHERE booking_id = $1", booking)
    assert "seats are free for somebody who waits" in await broken_invariants(eye)
    await eye.execute("DELETE FROM waitlist_entries")
    assert len(await _reckon(eye, [guest])) == 1


@asynccontextmanager
async def _nobody_writes_to(durable: Postgres, table: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(durable.url)
    await connection.execute(f"BEGIN; LOCK TABLE {table} IN SHARE MODE")
    try:
        yield
    finally:
        await connection.close()


async def _somebody_waits(eye: asyncpg.Connection) -> bool:
    waiting: int = await eye.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'holdfast%'"
    )
    return waiting > 0


#: What promoting writes, step by step; and what passing on a lapsed offer does. In `make test`, some of it.
_STEPS = ("claims", "holds", "waitlist_entries", *(("bookings", "outbox") if TORTURE else ()))
_STEPS_ON = ("claims", "waitlist_entries", *(("holds", "outbox") if TORTURE else ()))


async def test_a_crash_before_any_step_of_a_promotion_leaves_all_of_it_to_be_done(
    durable: Postgres, service: ServerProcess, eye: asyncpg.Connection
) -> None:
    """A cancel that never was: the booking stands, and the line waits. Then it is cancelled, and the first has the seat."""
    service.start()
    boss, anna, ben = [await make_person(eye, "user" if n else "admin") for n in range(3)]
    for step in _STEPS:
        event = await _event(service, boss, 1)
        wish = {"eventId": event, "quantity": 1}
        async with httpx.AsyncClient(base_url=service.url, timeout=20) as client:
            made = await client.post("/bookings", json=wish, headers=anna.headers)
            joined = await client.post("/waitlist", json=wish, headers=ben.headers)
            assert (made.status_code, joined.status_code) == (201, 201)
            path = f"/bookings/{made.json()['booking']['id']}/cancel"
            async with _nobody_writes_to(durable, step):
                cancel = asyncio.create_task(client.post(path, headers=anna.headers))
                await until(lambda: _somebody_waits(eye))
                await asyncio.to_thread(service.kill)
                with pytest.raises(httpx.TransportError):
                    await cancel
        await asyncio.to_thread(service.start)
        entry = UUID(joined.json()["entry"]["id"])
        assert await eye.fetchval("SELECT status FROM waitlist_entries WHERE id = $1", entry) == "waiting"
        assert not await broken_invariants(eye)
        async with httpx.AsyncClient(base_url=service.url, timeout=20) as client:
            assert (await client.post(path, headers=anna.headers)).status_code == 200
        assert await eye.fetchval("SELECT status FROM waitlist_entries WHERE id = $1", entry) == "offered"
        assert not await broken_invariants(eye)


async def test_a_crash_before_any_step_of_passing_on_a_lapsed_offer_delays_it_by_seconds(
    durable: Postgres, service: ServerProcess, eye: asyncpg.Connection
) -> None:
    """The worker dies in the midst of it; the one that starts next passes it on."""
    service.start()
    boss, anna, ben, cleo = [await make_person(eye, "user" if n else "admin") for n in range(4)]
    for step in _STEPS_ON:
        event = await _event(service, boss, 1)
        wish = {"eventId": event, "quantity": 1}
        async with httpx.AsyncClient(base_url=service.url, timeout=20) as client:
            made = await client.post("/bookings", json=wish, headers=anna.headers)
            entries = [
                (await client.post("/waitlist", json=wish, headers=who.headers)).json()["entry"]["id"] for who in (ben, cleo)
            ]
            cancelled = await client.post(f"/bookings/{made.json()['booking']['id']}/cancel", headers=anna.headers)
            assert cancelled.status_code == 200
        await _lapse(eye, entries[0])
        async with _nobody_writes_to(durable, step):
            await until(lambda: _somebody_waits(eye))
            await asyncio.to_thread(service.kill)
        begun = time.monotonic()
        await asyncio.to_thread(service.start)

        async def is_offered(entry: str = entries[1]) -> bool:
            found: str = await eye.fetchval("SELECT status FROM waitlist_entries WHERE id = $1", UUID(entry))
            return found == "offered"

        await until(is_offered, SERVED_WITHIN)
        told(f"passed on {time.monotonic() - begun:.1f} s after the restart began")
        assert await eye.fetchval("SELECT status FROM waitlist_entries WHERE id = $1", UUID(entries[0])) == "lapsed"
        assert not await broken_invariants(eye)


async def _lapse(eye: asyncpg.Connection, entry: str) -> None:
    """End an offer in a moment, long enough for the test to stand in the worker's way."""
    await eye.execute(
        "UPDATE holds SET expires_at = clock_timestamp() + interval '0.4 seconds' "
        "WHERE id = (SELECT hold_id FROM waitlist_entries WHERE id = $1)",
        UUID(entry),
    )
    await eye.execute("UPDATE claims c SET expires_at = h.expires_at FROM holds h WHERE h.id = c.hold_id")


async def test_killing_the_service_in_the_midst_of_a_fair_queue_loses_and_doubles_no_ticket(
    service: ServerProcess, eye: asyncpg.Connection
) -> None:
    """Whoever was told of a place in line keeps it: the first tickets have the seats, whoever serves them."""
    service.start()
    boss, *people = [await make_person(eye, "user" if n else "admin") for n in range(61)]
    for seed in range(10 if TORTURE else 2):
        event = await _event(service, boss, 20, policy={"fairQueue": True})
        number = await eye.fetchval("SELECT no FROM resources WHERE id = $1", UUID(event))
        given: dict[str, Person] = {}
        seats: set[str] = set()

        async def ask(who: Person, event: str, given: dict[str, Person], seats: set[str], *, wait: bool) -> None:
            headers = who.headers if wait else {**who.headers, "Prefer": "respond-async"}
            async with httpx.AsyncClient(base_url=service.url, timeout=20, headers=headers) as client:
                try:
                    answer = await client.post("/bookings", json={"eventId": event, "quantity": 1})
                except httpx.TransportError:
                    return
            if answer.status_code == 202:
                given[answer.json()["bookingRequest"]["id"]] = who
            elif answer.status_code == 201:
                seats.add(answer.json()["booking"]["id"])
            else:
                assert answer.status_code in {409, 503}, answer.text

        tasks = [asyncio.create_task(ask(who, event, given, seats, wait=bool(n % 3))) for n, who in enumerate(people)]
        least = random.Random(seed).randrange(1, 30)

        async def enough(number: int = number, least: int = least) -> bool:
            found: int = await eye.fetchval("SELECT count(*) FROM booking_requests WHERE resource_no = $1", number)
            return found >= least

        await until(enough, 30)
        assert service.process is not None
        service.process.send_signal(signal.SIGKILL)
        await asyncio.gather(*tasks)
        await asyncio.to_thread(service.kill)
        await asyncio.to_thread(service.start)
        # Those who waited for an answer cannot hear it any more: their places are given up after the deadline.
        await eye.execute(
            "UPDATE booking_requests SET answer_by = clock_timestamp() WHERE answer_by IS NOT NULL AND status = 'waiting'"
        )

        async def all_decided(number: int = number) -> bool:
            waiting: int = await eye.fetchval(
                "SELECT count(*) FROM booking_requests WHERE resource_no = $1 AND status = 'waiting'", number
            )
            return waiting == 0

        await until(all_decided, SERVED_WITHIN)
        tickets = await eye.fetch(
            "SELECT id::text, status, booking_id::text FROM booking_requests WHERE resource_no = $1 ORDER BY number", number
        )
        assert set(given) <= {ticket["id"] for ticket in tickets}
        decided = [ticket["status"] for ticket in tickets if ticket["status"] != "cancelled"]
        assert decided == sorted(decided), decided
        booked = {ticket["booking_id"] for ticket in tickets if ticket["status"] == "booked"}
        assert seats <= booked
        assert len(booked) == decided.count("booked") <= 20
        assert "refused" not in decided or decided.count("booked") == 20
        assert {ticket["status"] for ticket in tickets if ticket["id"] in given} <= {"booked", "refused"}
        assert not await broken_invariants(eye)
        told(f"{len(tickets)} tickets, {len(booked)} booked, {len(given)} told of a place")
