"""Live streams when something fails: stopped and several servers, a database that restarts, readers that never read."""

import asyncio
import os
import socket as sockets
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import pytest
from starlette.websockets import WebSocket
from structlog.testing import capture_logs

from holdfast import outbox
from holdfast.core.callers import SYSTEM, Caller
from holdfast.core.ids import new_id
from holdfast.streams.router.sockets import _Conversation
from holdfast.streams.service import Hub, Visitor
from support.api import Api, Person
from support.crashes import durable_postgres
from support.servers import ServerProcess, api_of, served
from support.streams import PATIENCE, events, socket

_LISTENING = """
SELECT 1 FROM pg_stat_activity
WHERE application_name = 'holdfast listens' AND datname = current_database() AND query LIKE 'LISTEN%'"""
ROWS = "SELECT id FROM outbox WHERE type = 'system.notice' ORDER BY number"


async def tell(api: Api, boss: Person, count: int = 1, text: str = "Hello") -> None:
    for _ in range(count):
        sent = await api.post("/notices", boss, json={"message": text})
        assert sent.status_code == 201, sent.text


async def test_what_one_server_does_is_heard_at_another(own_database: str, tmp_path: Path) -> None:
    one_log, two_log = tmp_path / "one.log", tmp_path / "two.log"
    apart = {"HOLDFAST_DATABASE_URL": own_database, "HOLDFAST_WORKER": "apart"}
    with (
        served({"HOLDFAST_DATABASE_URL": own_database}, log=one_log) as one,
        served(apart, log=two_log) as two,
    ):
        async with api_of(one, own_database) as api:
            boss, anna = await api.admin(), await api.person()
            room = await api.room(boss)
            slot, *_ = await api.slots(anna, room)
            channel = f"room:{room['id']}"
            async with events(two.url, anna, "me", channel) as heard, socket(two.url, anna, "me", channel) as by_socket:
                begun = monotonic()
                booking = await api.booked(anna, slot)
                made = await heard.next("booking.created")
                # Woken by NOTIFY, not by the look that comes every second.
                assert monotonic() - begun < 0.9
                assert made["data"]["booking"] == booking
                await heard.next("slot.taken")
                await by_socket.next("booking.created")
            # A browser that comes back elsewhere goes on where it was.
            await api.post(f"/bookings/{booking['id']}/cancel", anna)
            async with events(one.url, anna, "me", channel, last=heard.last_id) as again:
                await again.next("booking.cancelled")
                await again.next("slot.freed")
                assert len(again.messages) == 2


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_streams_end_in_order_when_the_server_stops(processes: str, own_database: str, tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with served({"HOLDFAST_DATABASE_URL": own_database, "HOLDFAST_WORKERS": processes}, log=log) as server:
        async with api_of(server, own_database) as api:
            boss, anna = await api.admin(), await api.person()
            async with (
                events(server.url, anna) as one,
                events(server.url, boss) as two,
                socket(server.url, anna, "me") as three,
                socket(server.url, anna) as four,
            ):
                await tell(api, boss)
                for heard in (one, two, three, four):
                    await heard.next("system.notice")
                begun = monotonic()
                assert await asyncio.to_thread(server.stop) in {0, -15}
                assert monotonic() - begun < 5
                for heard in (one, two, three, four):
                    await heard.until(lambda heard=heard: heard.ended is not None)
                assert [one.ended, two.ended] == ["in order"] * 2
                assert [three.ended, four.ended] == [1001] * 2
    said = log.read_text()
    assert "Stopped." in said
    assert "[error" not in said, said
    assert "Traceback" not in said, said


async def test_streams_outlive_a_restart_of_the_database(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    with (
        durable_postgres(tmp_path_factory.mktemp("durable")) as postgres,
        served({"HOLDFAST_DATABASE_URL": postgres.url}, log=tmp_path / "service.log") as server,
    ):
        async with api_of(server, postgres.url) as api:
            boss, anna = await api.admin(), await api.person()
            async with events(server.url, anna) as heard, socket(server.url, anna, "me") as by_socket:
                await tell(api, boss, 3)
                await asyncio.to_thread(postgres.kill)
                await asyncio.to_thread(postgres.start_again)
                told = 0
                async with asyncio.timeout(20):
                    while told < 3:
                        sent = await api.post("/notices", boss, json={"message": "Hello"})
                        assert sent.status_code in {201, 503}, sent.text
                        told += sent.status_code == 201
                        await asyncio.sleep(0.05)
                rows = await _rows(postgres.url)
                for stream in (heard, by_socket):
                    await stream.until(lambda stream=stream: len(stream.messages) >= len(rows))
                    assert stream.ids() == rows
                    assert stream.ended is None


async def _rows(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [str(row["id"]) for row in await connection.fetch(ROWS)]
    finally:
        await connection.close()


async def test_a_lost_listen_connection_is_made_again_and_nothing_waits_long(own_database: str, tmp_path: Path) -> None:
    with served({"HOLDFAST_DATABASE_URL": own_database}, log=tmp_path / "service.log") as server:
        async with api_of(server, own_database) as api:
            boss, anna = await api.admin(), await api.person()
            async with events(server.url, anna) as heard:
                ended = await api.db.fetch(
                    "SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity "
                    "WHERE application_name = 'holdfast listens' AND datname = current_database()"
                )
                assert [row["ended"] for row in ended] == [True]
                begun = monotonic()
                await tell(api, boss)
                await heard.next("system.notice")
                assert monotonic() - begun < 2
                # And soon it is heard at once again.
                async with asyncio.timeout(5):
                    while not await api.db.fetch(_LISTENING):  # noqa: ASYNC110 - PostgreSQL tells nobody
                        await asyncio.sleep(0.05)


async def until(enough: Callable[[], bool]) -> None:
    """Return when it is so. For what tells nobody."""
    async with asyncio.timeout(PATIENCE):
        while not enough():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.05)


def _resident(pid: int) -> float:
    """Megabytes of a process."""
    with Path(f"/proc/{pid}/statm").open() as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def _deaf(server: ServerProcess, who: Person, *, by_socket: bool) -> sockets.socket:
    """A connection that asks for a stream and never reads, with little room in between."""
    connection = sockets.socket()
    connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", server.port))
    lines = [f"GET {'/ws' if by_socket else '/stream'} HTTP/1.1", "Host: a", f"Authorization: Bearer {who.token}"]
    if by_socket:
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    await loop.sock_sendall(connection, ("\r\n".join(lines) + "\r\n\r\n").encode())
    return connection


async def flood(api: Api, count: int) -> None:
    """So many notices of 2 kB, in one transaction."""
    async with api.db.transaction() as session:
        shape = {"message": "x" * 1999}
        messages = [outbox.Message("system.notice", new_id(), SYSTEM, after=shape) for _ in range(count)]
        await outbox.enqueue_all(session, messages)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("by_socket", [False, True])
async def test_who_never_reads_costs_little_slows_nobody_and_is_parted_with(
    by_socket: bool, own_database: str, tmp_path: Path
) -> None:
    log = tmp_path / "service.log"
    with served({"HOLDFAST_DATABASE_URL": own_database, "HOLDFAST_LOG_LEVEL": "debug"}, log=log) as server:
        async with api_of(server, own_database) as api:
            boss, anna = await api.admin(), await api.person()
            deaf = [await _deaf(server, anna, by_socket=by_socket) for _ in range(20)]
            try:
                async with events(server.url, anna) as heard, socket(server.url, anna) as by_websocket:
                    await tell(api, boss)
                    await heard.until(lambda: len(heard.messages) == 1)
                    assert server.process is not None
                    before = _resident(server.process.pid)
                    # 6 MB for each of twenty, were they kept for each.
                    for round_ in range(6):
                        await flood(api, 500)
                        for one in (heard, by_websocket):
                            await one.until(lambda one=one, n=round_: len(one.messages) == 501 + 500 * n, 30)
                    begun = monotonic()
                    await tell(api, boss)
                    for one in (heard, by_websocket):
                        await one.until(lambda one=one: len(one.messages) == 3002)
                        assert len(set(one.ids())) == 3002
                    assert monotonic() - begun < 2
                    assert _resident(server.process.pid) - before < 40
                    await until(lambda: log.read_text().count("reason=slow") == 20)
                begun = monotonic()
                await asyncio.to_thread(server.stop)
                stopped_in = monotonic() - begun
            finally:
                for connection in deaf:
                    connection.close()
    assert "Traceback" not in log.read_text()
    # The server gives its connections ten seconds to take their last bytes.
    assert stopped_in < 14


async def test_a_defect_in_a_conversation_is_logged_and_no_ordinary_end(
    api: Api, user: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def defect(_self: _Conversation, _text: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(_Conversation, "_hear", defect)
    heard = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "{}"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return heard.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    websocket = WebSocket({"type": "websocket", "headers": []}, receive, send)
    await websocket.accept()
    hub = Hub(api.db, listen_url="", is_out=lambda _user, _session: False)
    subscriber = await hub.join(Visitor(user.id))
    with capture_logs() as logged:
        await _Conversation(websocket, hub, subscriber, Caller(user.id, "user")).run()
    assert [one["event"] for one in logged if one["log_level"] == "error"] == ["socket.broken"]
    assert (sent[-1]["code"], sent[-1]["reason"]) == (1013, "broken")
