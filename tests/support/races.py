"""Races: a service on a database of its own, parked transactions, and what must be true when the dust has settled."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.adapters.conferencing import ConferenceProvider
from holdfast.core.ids import new_id
from holdfast.core.settings import Settings
from holdfast.db.database import Database
from holdfast.main import build_app, build_state
from holdfast.web.state import State
from support.api import Api, Person, code, tomorrow

#: How long a test waits for what must happen; reached only where it does not.
PATIENCE = 10.0

#: What a user has ahead: active bookings that have not begun, and live holds.
_AHEAD = """
          SELECT b.id, b.user_id, r.kind, r.no FROM bookings b JOIN booking_units u ON u.booking_id = b.id
          JOIN resources r ON r.no = u.resource_no WHERE b.status = 'active' AND b.start_at > clock_timestamp()
          UNION
          SELECT h.id, h.user_id, r.kind, r.no FROM holds h JOIN claims c ON c.hold_id = h.id
          JOIN resources r ON r.no = c.resource_no LEFT JOIN events e ON e.resource_no = r.no
          WHERE h.ended_at IS NULL AND h.expires_at > clock_timestamp()
            AND coalesce(lower(c.during), e.start_at) > clock_timestamp()"""

#: Each must return no row, whatever was raced. Written against the tables alone: none of them leans on the exclusion constraint.
#: A seat is for good: two claims, or bookings, of one seat overlap whatever their times.
INVARIANTS = {
    "two claims of one unit overlap": """
        SELECT a.no, b.no FROM claims a JOIN claims b
          ON a.resource_no = b.resource_no AND a.seat_no = b.seat_no AND a.no < b.no
        WHERE a.seat_no <> 0 OR (lower(a.during) < upper(b.during) AND lower(b.during) < upper(a.during))""",
    "two active bookings have overlapping units": """
        SELECT u.booking_id, v.booking_id
        FROM booking_units u JOIN bookings b ON b.id = u.booking_id AND b.status = 'active'
        JOIN booking_units v ON v.resource_no = u.resource_no AND v.seat_no = u.seat_no
          AND (v.booking_id, v.position) > (u.booking_id, u.position)
        JOIN bookings c ON c.id = v.booking_id AND c.status = 'active'
        WHERE u.seat_no <> 0 OR (lower(u.during) < upper(v.during) AND lower(v.during) < upper(u.during))""",
    "a unit of an active booking has not exactly one claim": """
        SELECT u.booking_id, u.position, count(c.no)
        FROM booking_units u JOIN bookings b ON b.id = u.booking_id AND b.status = 'active'
        LEFT JOIN claims c ON c.booking_id = u.booking_id AND c.resource_no = u.resource_no
          AND c.seat_no = u.seat_no AND (c.seat_no <> 0 OR c.during = u.during)
        GROUP BY u.booking_id, u.position HAVING count(c.no) <> 1""",
    "an active booking has more claims than units, or no unit": """
        SELECT b.id FROM bookings b WHERE b.status = 'active' AND (
          (SELECT count(*) FROM claims c WHERE c.booking_id = b.id)
            <> (SELECT count(*) FROM booking_units u WHERE u.booking_id = b.id)
          OR NOT EXISTS (SELECT FROM booking_units u WHERE u.booking_id = b.id))""",
    "a cancelled booking has a claim": """
        SELECT b.id FROM bookings b JOIN claims c ON c.booking_id = b.id WHERE b.status <> 'active'""",
    "a claim's holder is not there": """
        SELECT c.no FROM claims c
        LEFT JOIN bookings b ON b.id = c.booking_id
        LEFT JOIN holds h ON h.id = c.hold_id LEFT JOIN closures k ON k.id = c.closure_id
        WHERE num_nonnulls(b.id, h.id, k.id) <> 1""",
    "a claim's hold was ended, or ends at another time": """
        SELECT c.no FROM claims c JOIN holds h ON h.id = c.hold_id
        WHERE h.ended_at IS NOT NULL OR h.expires_at <> c.expires_at""",
    "a closure has not exactly its claim": """
        SELECT k.id FROM closures k LEFT JOIN claims c ON c.closure_id = k.id
          AND c.resource_no = k.resource_no AND c.during = tstzrange(k.start_at, k.end_at)
        WHERE k.start_at IS NOT NULL GROUP BY k.id HAVING count(c.no) <> 1""",
    "a block of seats has no seat, or seats of another event": """
        SELECT k.id FROM closures k LEFT JOIN claims c ON c.closure_id = k.id LEFT JOIN seats s ON s.no = c.seat_no
        WHERE k.start_at IS NULL AND (s.no IS NULL OR s.resource_no <> k.resource_no)""",
    "a claim is of a seat of another event, or of an event without a seat": """
        SELECT c.no FROM claims c JOIN resources r ON r.no = c.resource_no LEFT JOIN seats s ON s.no = c.seat_no
        WHERE (c.seat_no <> 0 AND s.resource_no IS DISTINCT FROM c.resource_no) OR (r.kind = 'event') <> (c.seat_no <> 0)""",
    "a hold that was not ended has no claim": """
        SELECT h.id FROM holds h WHERE h.ended_at IS NULL AND NOT EXISTS (SELECT FROM claims c WHERE c.hold_id = h.id)""",
    "a hold was booked and there is no booking, or two were booked as one": """
        SELECT h.booking_id FROM holds h LEFT JOIN bookings b ON b.id = h.booking_id
        WHERE h.outcome = 'booked' GROUP BY h.booking_id HAVING count(b.id) <> 1""",
    "the end of a hold was told of twice, or it was another": """
        SELECT h.id FROM holds h LEFT JOIN outbox o ON o.subject_id = h.id AND o.type IN ('hold.released', 'hold.lapsed')
        GROUP BY h.id HAVING count(o.id) > 1 OR bool_or(o.type <> 'hold.' || coalesce(h.outcome, 'live'))""",
    "an offer is not a hold of so many units for the one who waits": """
        SELECT e.id FROM waitlist_entries e LEFT JOIN holds h ON h.id = e.hold_id
        WHERE e.status = 'offered' AND (h.origin <> 'waitlist' OR h.user_id <> e.user_id OR h.ended_at IS NOT NULL
          OR (SELECT count(*) FROM claims c WHERE c.hold_id = h.id AND c.resource_no = e.resource_no) <> e.quantity)""",
    "what was offered was nobody's in line, or somebody had two offers for one wait": """
        SELECT h.id FROM holds h LEFT JOIN waitlist_entries e ON e.hold_id = h.id
        WHERE h.origin = 'waitlist' GROUP BY h.id HAVING count(e.id) <> 1
        UNION ALL
        SELECT o.subject_id FROM outbox o WHERE o.type IN ('waitlist.offered', 'waitlist.joined')
        GROUP BY o.subject_id, o.type HAVING count(*) > 1""",
    "a wait has ended in a booking of another, or of more or less than was asked for": """
        SELECT e.id FROM waitlist_entries e JOIN bookings b ON b.id = e.booking_id
        WHERE e.status = 'booked' AND (b.user_id <> e.user_id OR b.version = 1 AND
          (SELECT count(*) FROM booking_units u WHERE u.booking_id = b.id AND u.resource_no = e.resource_no) <> e.quantity)""",
    "an entry says that it was booked, and the outbox does not, or the reverse": """
        SELECT e.id FROM waitlist_entries e LEFT JOIN outbox o ON o.subject_id = e.id AND o.type = 'waitlist.booked'
        GROUP BY e.id HAVING count(o.id) <> CASE e.status WHEN 'booked' THEN 1 ELSE 0 END""",
    "seats are free for somebody who waits": """
        SELECT e.id FROM waitlist_entries e JOIN users u ON u.id = e.user_id JOIN resources r ON r.no = e.resource_no
        WHERE e.status = 'waiting' AND e.slot_id IS NULL AND e.start_at > clock_timestamp() AND u.status = 'active'
          AND r.archived_at IS NULL AND r.policy = '{}'
          AND e.quantity <= (SELECT count(*) FROM seats s WHERE s.resource_no = e.resource_no)
            - (SELECT count(*) FROM claims c WHERE c.resource_no = e.resource_no)""",
    "a slot is free for somebody who waits for it": """
        SELECT e.id FROM waitlist_entries e JOIN users u ON u.id = e.user_id JOIN resources r ON r.no = e.resource_no
        WHERE e.status = 'waiting' AND e.slot_id IS NOT NULL AND e.start_at > clock_timestamp() AND u.status = 'active'
          AND r.archived_at IS NULL AND r.policy ->> 'maxActivePerUserHere' IS NULL
          AND (EXISTS (SELECT FROM schedules s WHERE s.resource_no = e.resource_no
              AND s.slot_minutes * interval '1 minute' = e.end_at - e.start_at)
            OR EXISTS (SELECT FROM host_slots p WHERE p.id = e.slot_id AND p.deleted_at IS NULL))
          AND NOT EXISTS (SELECT FROM claims c WHERE c.resource_no = e.resource_no
            AND c.during && tstzrange(e.start_at, e.end_at))""",
    "a published slot is deleted and somebody has it ahead": """
        SELECT p.id FROM host_slots p JOIN claims c ON c.slot_id = p.id
        WHERE p.deleted_at IS NOT NULL AND upper(c.during) > clock_timestamp()
          AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())""",
    "a booking of an event is not at the event's time": """
        SELECT b.id FROM bookings b JOIN booking_units u ON u.booking_id = b.id JOIN events e ON e.resource_no = u.resource_no
        WHERE b.status = 'active' AND (b.start_at, b.end_at) IS DISTINCT FROM (e.start_at, e.end_at)""",
    "an archived room has bookings or holds ahead": """
        SELECT r.id, c.no FROM resources r JOIN claims c ON c.resource_no = r.no
        LEFT JOIN events e ON e.resource_no = r.no
        WHERE r.archived_at IS NOT NULL AND c.closure_id IS NULL
          AND coalesce(upper(c.during), e.start_at) > clock_timestamp()
          AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())""",
    "a deleted user has bookings ahead": """
        SELECT u.id, b.id FROM users u JOIN bookings b ON b.user_id = u.id
        WHERE u.status = 'deleted' AND b.status = 'active' AND b.start_at > clock_timestamp()""",
    "a deleted user holds or waits": """
        SELECT u.id FROM users u WHERE u.status = 'deleted' AND (
          EXISTS (SELECT FROM holds h WHERE h.user_id = u.id AND h.ended_at IS NULL)
          OR EXISTS (SELECT FROM waitlist_entries e WHERE e.user_id = u.id AND e.ended_at IS NULL))""",
    "a deleted user has a session": """
        SELECT u.id FROM users u JOIN sessions s ON s.user_id = u.id WHERE u.status = 'deleted' AND s.ended_at IS NULL""",
    "a booking does not span its units": """
        SELECT b.id FROM bookings b JOIN booking_units u ON u.booking_id = b.id
        GROUP BY b.id HAVING b.start_at <> min(lower(u.during)) OR b.end_at <> max(upper(u.during))""",
    "a booking was not told of exactly once when it was made": """
        SELECT b.id FROM bookings b LEFT JOIN outbox o ON o.subject_id = b.id AND o.type = 'booking.created'
        GROUP BY b.id HAVING count(o.id) <> 1""",
    "a cancelled booking was not told of exactly once, or an active one was": """
        SELECT b.id FROM bookings b LEFT JOIN outbox o ON o.subject_id = b.id AND o.type = 'booking.cancelled'
        GROUP BY b.id HAVING count(o.id) <> CASE b.status WHEN 'cancelled' THEN 1 ELSE 0 END""",
    "the outbox tells of a booking that is not there": """
        SELECT o.id FROM outbox o LEFT JOIN bookings b ON b.id = o.subject_id
        WHERE o.type LIKE 'booking.%' AND b.id IS NULL""",
    "somebody is over a limit": """
        WITH ahead AS ("""
    + _AHEAD
    + """),
        limits AS (
          SELECT kind, min((policy ->> 'maxActivePerUser')::int) AS most FROM resources GROUP BY kind
          HAVING count(*) = count(policy ->> 'maxActivePerUser'))
        SELECT a.user_id, 'everywhere' AS which, count(DISTINCT a.id) FROM ahead a JOIN limits l USING (kind)
        GROUP BY a.user_id, a.kind, l.most HAVING count(DISTINCT a.id) > l.most
        UNION ALL
        SELECT a.user_id, r.id::text, count(DISTINCT a.id) FROM ahead a JOIN resources r ON r.no = a.no
        GROUP BY a.user_id, r.id, r.policy HAVING count(DISTINCT a.id) > (r.policy ->> 'maxActivePerUserHere')::int""",
    "somebody holds more than ten slots, or ten seats of an event": """
        SELECT h.user_id, CASE WHEN c.seat_no = 0 THEN 0 ELSE c.resource_no END, count(*)
        FROM holds h JOIN claims c ON c.hold_id = h.id
        WHERE h.ended_at IS NULL AND h.origin <> 'conference' AND h.expires_at > clock_timestamp()
        GROUP BY 1, 2 HAVING count(*) > 10""",
}


async def broken_invariants(connection: asyncpg.Connection, ignoring: Iterable[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """What must be true and is not: the sentence and the first rows that show it."""
    # One round trip where all is well, which is nearly always.
    asked = {sentence: statement for sentence, statement in INVARIANTS.items() if sentence not in ignoring}
    at_once = " UNION ALL ".join(f"SELECT {n} WHERE EXISTS ({statement})" for n, statement in enumerate(asked.values()))
    broken = {row[0] for row in await connection.fetch(at_once)}
    return {
        sentence: [tuple(row) for row in (await connection.fetch(statement))[:3]]
        for n, (sentence, statement) in enumerate(asked.items())
        if n in broken
    }


@dataclass
class Statements:
    """What the service sent to its database while recording, in order, over all of its connections."""

    texts: list[str] = field(default_factory=list)
    recording: bool = False

    def watch(self, connection: Any) -> None:
        """Listen to a new connection."""
        connection.add_query_logger(self._note)

    def watch_engine(self, engine: AsyncEngine) -> None:
        """Listen to SQLAlchemy too: it executes prepared statements, which the connection's own logger does not tell of.

        After the execution: before it, its lazy BEGIN has not been sent.
        """
        event.listen(engine.sync_engine, "after_cursor_execute", lambda _c, _cursor, text, *_rest: self._keep(text))

    def _note(self, query: Any) -> None:
        self._keep(query.query)

    def _keep(self, text: str) -> None:
        if self.recording:
            self.texts.append(" ".join(text.split()))

    @property
    def verbs(self) -> list[str]:
        """The first word of each."""
        return [text.split(None, 1)[0].rstrip(";") for text in self.texts]

    async def of(self, work: Awaitable[httpx.Response]) -> httpx.Response:
        """Record what one request sends."""
        async with self.during():
            return await work

    @asynccontextmanager
    async def during(self) -> AsyncIterator[None]:
        """Record what the block sends. The driver tells of a statement one turn of the loop after it: wait for that."""
        await asyncio.sleep(0)
        self.texts.clear()
        self.recording = True
        try:
            yield
            await asyncio.sleep(0)
        finally:
            self.recording = False


@dataclass
class Arena:
    """A service, in this process, on a database that nobody else uses; commits are real."""

    api: Api
    state: State
    url: str
    statements: Statements
    #: A connection of the test's own, outside of the service's pools.
    eye: asyncpg.Connection

    async def waiting(self, count: int = 1) -> None:
        """Return when so many of the service's transactions wait for a lock."""
        end = time.monotonic() + PATIENCE
        seen = -1
        while time.monotonic() < end:
            seen = await self._how_many_wait()
            if seen >= count:
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"{seen} transactions wait for a lock, {count} should")

    async def _how_many_wait(self) -> int:
        seen: int = await self.eye.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock' AND application_name LIKE 'holdfast%'"
        )
        return seen

    @asynccontextmanager
    async def parked(self, *statements: str) -> AsyncIterator[asyncpg.Connection]:
        """A transaction that has run the statements and stays open until the block ends; then it is rolled back."""
        connection = await asyncpg.connect(self.url)
        transaction = connection.transaction()
        await transaction.start()
        try:
            for statement in statements:
                await connection.execute(statement)
            yield connection
        finally:
            if not connection.is_closed():
                await transaction.rollback()
                await connection.close()

    async def waits_or_is_done(self, task: "asyncio.Future[Any]", count: int) -> bool:
        """Return when so many transactions wait for a lock (True), or the task is done (False), whichever is first."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if task.done():
                return False
            if await self._how_many_wait() >= count:
                return True
            await asyncio.sleep(0.001)
        raise AssertionError("it neither waits for a lock nor ends")

    def holding_room(self, room: dict[str, Any]) -> Any:
        """A parked transaction that has the lock on a room, or a host, or an event, as any taker has."""
        return self.parked(f"SELECT FROM resources WHERE id = '{UUID(room['id'])}' FOR NO KEY UPDATE")

    def holding_writes_to(self, table: str) -> Any:
        """A parked transaction that lets everybody read a table and lock its rows, and nobody write to it."""
        return self.parked(f"LOCK TABLE {table} IN SHARE MODE")

    async def check(self, *, ignoring: Iterable[str] = ()) -> None:
        """Everything that must be true is."""
        broken = await self.broken(ignoring=ignoring)
        assert not broken, broken

    async def broken(self, *, ignoring: Iterable[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
        """What must be true and is not."""
        return await broken_invariants(self.eye, ignoring)

    async def close_connections(self) -> None:
        """Close this service's connections, where another arena on the same database is to be settled."""
        await self.state.db.close()

    async def settle(self) -> None:
        """Close the service's connections and wait for their end: what they counted is then in the statistics."""
        await self.state.db.close()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if not await self.eye.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend' AND application_name LIKE 'holdfast%'"
            ):
                return
            await asyncio.sleep(0.005)
        raise AssertionError("connections of the service did not end")

    async def statistic(self, column: str) -> int:
        """A counter of this database (pg_stat_database), with all that ended connections counted."""
        await self.settle()
        await self.eye.execute("SELECT pg_stat_clear_snapshot()")
        value: int = await self.eye.fetchval(f"SELECT {column} FROM pg_stat_database WHERE datname = current_database()")
        return value

    async def deadlocks(self) -> int:
        return await self.statistic("deadlocks")

    async def resource_no(self, room: dict[str, Any]) -> int:
        number: int = await self.eye.fetchval("SELECT no FROM resources WHERE id = $1", UUID(room["id"]))
        return number

    async def people(self, count: int, prefix: str = "") -> list[Person]:
        """New users, by one statement."""
        sessions = {new_id(): new_id() for _ in range(count)}
        now = datetime.now(UTC)
        await self.eye.execute(
            "WITH who AS (SELECT id, session FROM unnest($1::uuid[], $2::uuid[]) AS w(id, session)), "
            "made AS (INSERT INTO users (id, email, email_key, role) "
            "SELECT id, $3 || id || '@example.com', $3 || id || '@example.com', 'user' FROM who RETURNING id) "
            "INSERT INTO sessions (id, user_id, created_at, expires_at) "
            "SELECT who.session, made.id, $4::timestamptz, $4::timestamptz + interval '1 day' "
            "FROM made JOIN who ON who.id = made.id",
            list(sessions),
            list(sessions.values()),
            prefix,
            now,
        )
        tokens = self.state.access_tokens
        return [
            Person(user_id, tokens.sign(user_id=user_id, role="user", session_id=session_id, now=now))
            for user_id, session_id in sessions.items()
        ]

    async def event(self, boss: Person, *labels: str, **fields: Any) -> dict[str, Any]:
        """An event the day after tomorrow; its seats by their labels."""
        made = await self.api.post("/events", boss, json={"name": "Concert", "start": f"{tomorrow(2)}T18:00:00Z", **fields})
        assert made.status_code == 201, made.text
        event: dict[str, Any] = made.json()["event"]
        if labels:
            added = await self.api.post(f"/events/{event['id']}/seats", boss, json={"seats": list(labels)})
            assert added.status_code == 201, added.text
        return event

    async def host(self, who: Person, *hours: int, **fields: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Make somebody a host, with slots of an hour each tomorrow; the host and the slots."""
        made = await self.api.post("/hosts", who, json={"displayName": "Ada", **fields})
        assert made.status_code == 201, made.text
        slots: list[dict[str, Any]] = []
        if hours:
            published = await self.api.post("/slots", who, json={"slots": [hour(one) for one in hours]})
            assert published.status_code == 201, published.text
            slots = published.json()["slots"]
        return made.json()["host"], slots

    async def held(self, who: Person, **body: Any) -> dict[str, Any]:
        """A hold, which must be had."""
        made = await self.api.post("/holds", who, json=body)
        assert made.status_code == 201, made.text
        hold: dict[str, Any] = made.json()["hold"]
        return hold

    async def joined(self, who: Person, **body: Any) -> dict[str, Any]:
        """A place in a line, which must be had."""
        made = await self.api.post("/waitlist", who, json=body)
        assert made.status_code == 201, made.text
        entry: dict[str, Any] = made.json()["entry"]
        return entry

    def confirm(self, who: Person, hold: dict[str, Any], **fields: Any) -> Awaitable[httpx.Response]:
        return self.api.post("/bookings", who, json={"holdToken": hold["token"], **fields})

    async def ends_in(self, hold: dict[str, Any] | str, seconds: float) -> datetime:
        """Move a hold's end to so many seconds from now by the database's clock (behind it, where negative); returns it."""
        token = UUID(hold if isinstance(hold, str) else hold["token"])
        ends: datetime = await self.eye.fetchval(
            "WITH moved AS (UPDATE holds SET expires_at = clock_timestamp() + $2 * interval '1 second' WHERE id = $1 "
            "RETURNING id, expires_at), claimed AS (UPDATE claims SET expires_at = moved.expires_at FROM moved "
            "WHERE hold_id = moved.id) SELECT expires_at FROM moved",
            token,
            seconds,
        )
        return ends

    async def seems_over(self, hold: dict[str, Any]) -> None:
        """Let a hold's end pass in the eyes of whoever reads its claims; its row, which a parked confirm has, stays as it is."""
        await self.eye.execute("UPDATE claims SET expires_at = clock_timestamp() WHERE hold_id = $1", UUID(hold["token"]))

    async def clock(self) -> datetime:
        """What the database's clock says."""
        now: datetime = await self.eye.fetchval("SELECT clock_timestamp()")
        return now

    async def until_after(self, instant: datetime) -> None:
        """Return when the database's clock has passed it."""
        await self.eye.fetchval("SELECT pg_sleep_until($1)", instant)

    async def offered(self, place: dict[str, Any]) -> list[UUID]:
        """Who was offered something of a resource, or had it booked at once, in the order in which it was written."""
        rows = await self.eye.fetch(
            "SELECT e.user_id FROM outbox o JOIN waitlist_entries e ON e.id = o.subject_id "
            "JOIN resources r ON r.no = e.resource_no WHERE r.id = $1 AND (o.type = 'waitlist.offered' "
            "OR o.type = 'waitlist.booked' AND e.hold_id IS NULL) ORDER BY o.occurred_at",
            UUID(place["id"]),
        )
        return [row["user_id"] for row in rows]

    async def line(self, place: dict[str, Any]) -> list[tuple[UUID, str, int]]:
        """Who waits or waited for something of a resource, in the order of their joins: user, status, quantity."""
        rows = await self.eye.fetch(
            "SELECT e.user_id, e.status, e.quantity FROM waitlist_entries e JOIN resources r ON r.no = e.resource_no "
            "WHERE r.id = $1 ORDER BY e.number",
            UUID(place["id"]),
        )
        return [tuple(row) for row in rows]

    async def hold(self, who: Person, *slots: dict[str, Any], lasts: timedelta) -> UUID:
        """A hold of somebody's, by SQL: one that lapsed where `lasts` is negative."""
        hold_id = new_id()
        async with self.eye.transaction():
            expires_at = await self.eye.fetchval(
                "INSERT INTO holds (id, user_id, booking_id, lasts_for, expires_at) "
                "VALUES ($1, $2, $3, $4, clock_timestamp() + $5) RETURNING expires_at",
                hold_id,
                who.id,
                new_id(),
                abs(lasts),
                lasts,
            )
            for slot in slots:
                await self.eye.execute(
                    "INSERT INTO claims (resource_no, during, slot_id, hold_id, expires_at) "
                    "SELECT no, tstzrange($2, $3), $4, $5, $6 FROM resources WHERE id = $1",
                    UUID(slot.get("roomId") or slot["hostId"]),
                    instant(slot["start"]),
                    instant(slot["end"]),
                    UUID(slot["id"]),
                    hold_id,
                    expires_at,
                )
        return hold_id


@asynccontextmanager
async def arena_on(
    settings: Settings,
    *,
    conferencing: ConferenceProvider | None = None,
) -> AsyncIterator[Arena]:
    """A service with these settings, and an eye on its database."""
    statements = Statements()
    state = build_state(settings, conferencing=conferencing, on_connect=statements.watch)
    statements.watch_engine(state.db.engine)
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    eye = await asyncpg.connect(url, server_settings={"application_name": "the test's eye"})
    transport = httpx.ASGITransport(build_app(state))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test", timeout=60) as client:
            yield Arena(Api(client, state.db, state.access_tokens), state, url, statements, eye)
    finally:
        state.passwords.close()
        await state.conferencing.close()
        await state.db.close()
        await eye.close()


def hour(number: int, minute: int = 0) -> dict[str, str]:
    """Start and end of an hour of tomorrow."""
    return {"start": f"{tomorrow()}T{number:02d}:{minute:02d}:00Z", "end": f"{tomorrow()}T{number + 1:02d}:{minute:02d}:00Z"}


def instant(text: str) -> datetime:
    """A wire instant as a value."""
    return datetime.fromisoformat(text).astimezone(UTC)


def statuses(answers: Sequence[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def codes(answers: Sequence[httpx.Response]) -> Counter[str]:
    """The answers by status and code: `201`, `409 SLOT_ALREADY_BOOKED`."""
    return Counter(
        str(answer.status_code) if answer.status_code < 400 else f"{answer.status_code} {code(answer)}" for answer in answers
    )


def one_winner(answers: Sequence[httpx.Response], loser: str = "409 SLOT_ALREADY_BOOKED") -> httpx.Response:
    """Exactly one 201, everybody else the one clean refusal; returns the winner's answer."""
    assert codes(answers) == {"201": 1, **({loser: len(answers) - 1} if len(answers) > 1 else {})}
    return next(answer for answer in answers if answer.status_code == 201)


@asynccontextmanager
async def apart(arena: Arena) -> AsyncIterator[None]:
    """Nobody travels together: each request has a transaction of its own, as if it came to another process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arena.state.together, "run", alone)
        yield


async def alone(_key: object, member: Any, runner: Any) -> Any:
    """As `Together.run`, in a run of its own."""
    (result,) = await runner([member])
    if isinstance(result, Exception):
        raise result
    return result


async def crowd(
    arena: Arena, parked: Any, requests: Sequence[Callable[[], Awaitable[httpx.Response]]], *, at_least: int
) -> list[httpx.Response]:
    """Send all the requests while a transaction is parked, let it go when `at_least` of them wait for a lock.

    They meet in the database, as if each came to another process.
    """
    async with apart(arena), parked:
        tasks = [asyncio.ensure_future(request()) for request in requests]
        try:
            await arena.waiting(at_least)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
    return list(await asyncio.gather(*tasks))


def database_name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


__all__ = [
    "INVARIANTS",
    "PATIENCE",
    "Arena",
    "Database",
    "Statements",
    "alone",
    "apart",
    "arena_on",
    "broken_invariants",
    "codes",
    "crowd",
    "database_name",
    "hour",
    "instant",
    "one_winner",
    "statuses",
]
