"""The service dies between hold, call and confirm: no booking, nothing held beyond the hold's end, never a second link."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from support.crashes import Ground, Postgres, make_ground, until
from support.servers import ServerProcess

PATIENCE = 10.0


class Provider:
    """A real little HTTP server that makes links: one per Idempotency-Key, when it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.links: dict[str, str] = {}
        self.answering = asyncio.Event()
        self.called = asyncio.Event()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Bound, and deaf until `listen`: whoever calls meanwhile is refused.
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
            body = orjson.loads(await reader.readexactly(int(fields["content-length"])))
            key = fields["idempotency-key"]
            assert key == body["bookingId"]
            self.asked.append(key)
            self.links.setdefault(key, f"https://meet.example.com/{len(self.links) + 1}")
            self.called.set()
            await self.answering.wait()
            answer = orjson.dumps({"url": self.links[key]})
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def close(self) -> None:
        for task in list(self._open):
            task.cancel()
        if self._server is None:
            self._socket.close()
        else:
            self._server.close()
            await self._server.wait_closed()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    yield made
    await made.close()


@contextmanager
def _service(postgres: Postgres, provider: Provider, log: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(
        {
            "HOLDFAST_DATABASE_URL": postgres.url,
            "HOLDFAST_CONFERENCE_PROVIDER": "http",
            "HOLDFAST_CONFERENCE_URL": f"http://127.0.0.1:{provider.port}/links",
        },
        log=log,
    )
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def linked(durable: Postgres, provider: Provider, tmp_path: Path) -> Iterator[ServerProcess]:
    with _service(durable, provider, tmp_path / "linked.log") as server:
        yield server


@pytest.fixture
async def eye(durable: Postgres) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(durable.url, server_settings={"application_name": "the test's eye"})
    yield connection
    await connection.close()


async def _book(
    server: ServerProcess, ground: Ground, *, who: int = 0, slot: int = 0, link: bool = True
) -> httpx.Response | None:
    """None where the server died."""
    person = ground.people[who]
    async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
        try:
            return await client.post(
                "/bookings",
                json={"slotId": ground.slots[slot], "createConferenceLink": link},
                headers={**person.headers, **({"Idempotency-Key": "once"} if link else {})},
            )
        except httpx.TransportError:
            return None


async def _until(eye: asyncpg.Connection, statement: str) -> None:
    """Return when the statement says true."""

    async def said() -> bool:
        return bool(await eye.fetchval(statement))

    await until(said)


async def _claims(eye: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await eye.fetch(
        "SELECT booking_id IS NOT NULL, hold_id IS NOT NULL, "
        "extract(epoch FROM expires_at - clock_timestamp())::float8 BETWEEN 0 AND 60 FROM claims"
    )
    return [tuple(row) for row in rows]


def _code(answer: httpx.Response | None) -> tuple[int, str]:
    assert answer is not None
    return answer.status_code, "" if answer.is_success else answer.json()["error"]["code"]


@pytest.mark.parametrize("moment", ["between hold and call", "during the call", "between call and confirm"])
async def test_a_crash_at_any_step_leaves_a_hold_that_ends_and_a_repeat_makes_no_second_link(
    durable: Postgres, provider: Provider, linked: ServerProcess, eye: asyncpg.Connection, moment: str
) -> None:
    ground = await make_ground(durable.url, linked.url, people=2, days=2)
    if moment != "between hold and call":
        await provider.listen()
    first = asyncio.ensure_future(_book(linked, ground))
    await _until(eye, "SELECT count(*) = 1 FROM claims WHERE hold_id IS NOT NULL")
    if moment == "between hold and call":
        linked.kill()
    elif moment == "during the call":
        await asyncio.wait_for(provider.called.wait(), PATIENCE)
        linked.kill()
    else:
        await asyncio.wait_for(provider.called.wait(), PATIENCE)
        # The confirm waits for the hold's lock: the provider has answered, and nothing is written yet.
        async with eye.transaction():
            await eye.execute("SELECT FROM holds FOR NO KEY UPDATE")
            provider.answering.set()
            waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'holdfast'"
            watcher = await asyncpg.connect(durable.url)
            await _until(watcher, waits)
            await watcher.close()
            linked.kill()
    assert await first is None
    # The dead process's transaction is rolled back by the server as soon as it notices.
    await _until(
        eye, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'holdfast%' AND datname = current_database()"
    )
    assert await eye.fetchval("SELECT count(*) FROM bookings") == 0
    assert await _claims(eye) == [(False, True, True)]
    asked_with = str(await eye.fetchval("SELECT booking_id FROM holds"))
    assert provider.asked == ([] if moment == "between hold and call" else [asked_with])

    if moment == "between hold and call":
        await provider.listen()
    provider.answering.set()
    # However long the service takes to come back on a busy machine, the deadline is ahead.
    await eye.execute("UPDATE idempotency_keys SET busy_until = busy_until + interval '1 minute' WHERE status IS NULL")
    linked.start()
    assert _code(await _book(linked, ground)) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert _code(await _book(linked, ground, who=1, link=False)) == (409, "SLOT_ALREADY_BOOKED")
    # Its deadline passes (the test does not wait for it).
    await eye.execute("UPDATE idempotency_keys SET busy_until = clock_timestamp() WHERE status IS NULL")
    again = await _book(linked, ground)
    assert _code(again) == (201, "")
    assert again is not None
    booking = again.json()["booking"]
    assert booking["id"] == asked_with
    assert set(provider.asked) == {asked_with}
    assert provider.links == {asked_with: booking["conferenceLink"]}
    assert await _claims(eye) == [(True, False, None)]
    replay = await _book(linked, ground)
    assert replay is not None
    assert replay.content == again.content
    assert replay.headers["idempotency-replayed"] == "true"


async def test_what_a_dead_process_held_is_free_at_the_holds_end_without_any_sweep(
    durable: Postgres, provider: Provider, linked: ServerProcess, eye: asyncpg.Connection
) -> None:
    ground = await make_ground(durable.url, linked.url, people=2, days=2)
    await provider.listen()
    first = asyncio.ensure_future(_book(linked, ground))
    await asyncio.wait_for(provider.called.wait(), PATIENCE)
    linked.kill()
    await first
    linked.start()
    assert _code(await _book(linked, ground, who=1, link=False)) == (409, "SLOT_ALREADY_BOOKED")
    async with eye.transaction():
        ends = await eye.fetchval("UPDATE holds SET expires_at = clock_timestamp() RETURNING expires_at")
        await eye.execute("UPDATE claims SET expires_at = $1 WHERE hold_id IS NOT NULL", ends)
    assert _code(await _book(linked, ground, who=1, link=False)) == (201, "")
    # The one who comes back finds it taken, and the provider is not asked for nothing.
    await eye.execute("UPDATE idempotency_keys SET busy_until = clock_timestamp() WHERE status IS NULL")
    assert _code(await _book(linked, ground)) == (409, "SLOT_ALREADY_BOOKED")
    assert len(provider.asked) == 1
    assert await _claims(eye) == [(True, False, None)]


async def test_a_second_process_sees_the_firsts_request_in_progress_and_replays_its_answer(
    durable: Postgres, provider: Provider, linked: ServerProcess, tmp_path: Path
) -> None:
    ground = await make_ground(durable.url, linked.url, people=1, days=2)
    await provider.listen()
    with _service(durable, provider, tmp_path / "second.log") as second:
        first = asyncio.ensure_future(_book(linked, ground))
        await asyncio.wait_for(provider.called.wait(), PATIENCE)
        for repeat in await asyncio.gather(*(_book(second, ground) for _ in range(4))):
            assert _code(repeat) == (409, "IDEMPOTENCY_IN_PROGRESS")
        provider.answering.set()
        made = await first
        assert _code(made) == (201, "")
        replay = await _book(second, ground)
    assert made is not None
    assert replay is not None
    assert replay.content == made.content
    assert len(provider.asked) == 1


async def test_a_provider_that_hangs_is_a_clear_502_that_leaves_nothing(
    durable: Postgres, provider: Provider, linked: ServerProcess, eye: asyncpg.Connection
) -> None:
    ground = await make_ground(durable.url, linked.url, people=2, days=2)
    await provider.listen()
    assert _code(await _book(linked, ground)) == (502, "CONFERENCE_SERVICE_ERROR")
    assert await _claims(eye) == []
    assert await eye.fetchval("SELECT count(*) FROM bookings") == 0
    provider.answering.set()
    again = await _book(linked, ground)
    assert _code(again) == (201, "")
    assert len(set(provider.asked)) == 1
