"""What stands around every route: methods, request ids, unknown addresses, health, load."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from conftest import make_settings
from holdfast.main import build_app, build_state
from holdfast.web.middleware import Edge
from holdfast.web.state import State
from support.api import Api, Person, code
from support.doors import listening
from support.servers import free_port


async def test_a_wrong_method_hears_all_the_right_ones(api: Api) -> None:
    refused = await api.send("PUT", "/rooms")
    assert (refused.status_code, code(refused), refused.headers["allow"]) == (405, "METHOD_NOT_ALLOWED", "GET, POST")
    one = await api.send("PUT", "/bookings/019376a5-0000-7000-8000-000000000000")
    assert one.headers["allow"] == "DELETE, GET, PATCH"


async def test_head_says_what_get_does_without_the_content(api: Api, admin: Person, state: State) -> None:
    room = await api.room(admin)
    async with (
        listening(build_app(state)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=admin.headers) as real,
    ):
        for path in (f"/rooms/{room['id']}", "/bookings/export", "/", "/nowhere", "/rooms?page=x"):
            shown, head = await real.get(path), await real.head(path)
            assert (head.status_code, head.content) == (shown.status_code, b"")
            for name in ("content-type", "content-length", "etag", "cache-control"):
                assert head.headers.get(name) == shown.headers.get(name), (path, name)
            # The connection can be used again: nothing of a body is on it.
            assert (await real.get("/livez")).status_code == 200
        etag = (await real.head(f"/rooms/{room['id']}")).headers["etag"]
        for known in (etag, etag[:-1] + '-gzip"'):
            assert (await real.head(f"/rooms/{room['id']}", headers={"If-None-Match": known})).status_code == 304
        # Where there is no GET there is no HEAD; a stream has no end that one could tell of.
        for path, allowed in (("/login", "POST"), ("/stream", "GET")):
            refused = await real.head(path)
            assert (refused.status_code, refused.headers["allow"], refused.content) == (405, allowed, b"")
        # Counted by its route, as every request is.
        assert 'method="HEAD",route="/rooms/{room_id}"' in (await real.get("/metrics")).text


async def test_a_sane_request_id_comes_back_and_another_is_replaced(api: Api) -> None:
    assert (await api.get("/health", headers={"X-Request-ID": "mine-1"})).headers["x-request-id"] == "mine-1"
    for insane in ("x" * 200, "a b", "<script>", "ü"):
        made = (await api.get("/health", headers={"X-Request-ID": insane.encode()})).headers["x-request-id"]
        assert made
        assert made != insane


async def test_health_needs_nobody(api: Api) -> None:
    for path in ("/health", "/livez"):
        assert (await api.get(path)).json() == {"status": "ok"}
    ready = (await api.get("/readyz")).json()
    assert ready.pop("relayLagSeconds") >= 0
    assert ready == {"status": "ok", "database": "ok", "migrations": "at head"}
    assert (await api.get("/_info")).json()["name"] == "holdfast"


async def test_a_database_behind_its_migrations_is_not_ready(api: Api) -> None:
    from holdfast.db import migrations

    await api.db.fetch("UPDATE alembic_version SET version_num = '0000'")
    try:
        refused = await api.get("/readyz")
        assert (refused.status_code, code(refused), refused.headers["retry-after"]) == (503, "NOT_READY", "1")
        # Ahead of this version is fine: in a rolling upgrade the database goes first.
        await api.db.fetch("UPDATE alembic_version SET version_num = '9999'")
        assert (await api.get("/readyz")).json()["migrations"] == "ahead"
    finally:
        await api.db.fetch("UPDATE alembic_version SET version_num = $1", migrations.head())


async def test_without_a_database_every_route_is_busy_and_health_answers(api: Api, user: Person) -> None:
    away = build_state(make_settings(f"postgresql://nobody@127.0.0.1:{free_port()}/none", pool_size=2))
    transport = httpx.ASGITransport(build_app(away))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        assert (await client.get("/livez")).status_code == 200
        for method, path, body in (
            ("GET", "/readyz", None),
            ("GET", "/rooms", None),
            ("POST", "/dummyLogin", {"role": "user"}),
        ):
            refused = await client.request(method, path, json=body, headers=user.headers)
            assert (refused.status_code, code(refused)) == (503, "BUSY"), (path, refused.text)
            assert refused.headers["retry-after"] == "1"
    away.passwords.close()
    await away.db.close()


async def test_a_crowd_beyond_the_limit_is_told_to_come_back_and_health_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        await go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    monkeypatch.setattr("holdfast.web.middleware.MAX_IN_FLIGHT", 3)
    edge = Edge(slow)
    transport = httpx.ASGITransport(edge)
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        waiting = [asyncio.create_task(client.get("/rooms")) for _ in range(3)]
        await asyncio.sleep(0)
        refused = await client.get("/rooms")
        while refused.status_code != 503:
            refused = await client.get("/rooms")
        assert (code(refused), refused.headers["retry-after"]) == ("BUSY", "1")
        health = asyncio.create_task(client.get("/health"))
        go_on.set()
        assert {(await one).status_code for one in [*waiting, health]} == {204}


async def test_who_never_sends_their_body_keeps_nobody_out(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.web.middleware.MAX_IN_FLIGHT", 3)
    head = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    async with listening(build_app(state)) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        for _, writer in idle:
            writer.write(head)
            await writer.drain()
        for _ in range(10):
            assert (await client.get("/rooms")).status_code == 401
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()


async def test_bodies_have_an_end_together(api: Api, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.web.middleware.MAX_HELD", 50)
    refused = await api.post("/rooms", admin, json={"name": "x" * 100})
    assert (refused.status_code, code(refused)) == (503, "BUSY")
    # What is answered is held no more.
    assert (await api.post("/rooms", admin, json={"name": "x"})).status_code == 201


async def test_long_lived_streams_are_no_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/stream":
            await go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    monkeypatch.setattr("holdfast.web.middleware.MAX_IN_FLIGHT", 3)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Edge(app)), base_url="http://holdfast.test") as client:
        streams = [asyncio.create_task(client.get("/stream")) for _ in range(10)]
        await asyncio.sleep(0)
        assert (await client.get("/rooms")).status_code == 204
        go_on.set()
        assert {(await one).status_code for one in streams} == {204}


@pytest.mark.parametrize("path", ["/rooms", "/bookings", "/auth/logout"])
async def test_a_body_that_dribbles_is_given_up(
    api: Api, admin: Person, user: Person, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.web.middleware.BODY_SECONDS", 0.05)

    async def dribble() -> AsyncIterator[bytes]:
        yield b'{"name": "'
        # In time for the next byte, each time, and never for the last.
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    who = user if path == "/bookings" else admin
    headers = {"Content-Type": "application/json", "Idempotency-Key": "slow"}
    refused = await api.post(path, who, content=dribble(), headers=headers)
    assert (refused.status_code, code(refused)) == (408, "REQUEST_TIMEOUT")
    assert refused.headers["connection"] == "close"
    assert (await api.get("/rooms", admin)).json() == {"rooms": []}


async def test_a_body_in_chunks_has_the_same_limit(api: Api, admin: Person) -> None:
    async def chunks(count: int) -> AsyncIterator[bytes]:
        yield b'{"name": "Room", "x": "'
        for _ in range(count):
            yield b"x" * 65_536
        yield b'"}'

    headers = {"Content-Type": "application/json"}
    assert (await api.post("/rooms", admin, content=chunks(15), headers=headers)).status_code == 201
    refused = await api.post("/rooms", admin, content=chunks(17), headers=headers)
    assert (refused.status_code, code(refused)) == (413, "TOO_LARGE")
    assert refused.headers["connection"] == "close"


async def test_a_connection_that_dribbled_is_closed_by_a_real_server(
    api: Api, admin: Person, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.web.middleware.BODY_SECONDS", 0.05)
    head = f"POST /rooms HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin.token}\r\nContent-Type: application/json\r\n"
    async with listening(build_app(state)) as port:
        for framing, begun in (("Content-Length: 900", b"{"), ("Transfer-Encoding: chunked", b"1\r\n{\r\n")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"{head}{framing}\r\n\r\n".encode() + begun)
            async with asyncio.timeout(10):
                answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), answer
            writer.close()
            await writer.wait_closed()


async def test_the_pages_bring_everything_with_them(api: Api) -> None:
    for path, needle in (("/", "/docs"), ("/docs", "swagger-ui-bundle.js"), ("/redoc", "redoc.standalone.js")):
        page = await api.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert needle in page.text
        assert "//" not in page.text.replace("http://127.0.0.1:8080", "")
    assert (await api.get("/static/vendor/swagger-ui/swagger-ui.css")).status_code == 200


async def test_two_processes_share_nothing_but_the_database(api: Api, admin: Person, user: Person, state: State) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    other = build_state(make_settings(state.db.url, pool_size=4))
    transport = httpx.ASGITransport(build_app(other))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        mine, theirs = await asyncio.gather(
            api.book(user, slots[0]),
            client.post("/bookings", json={"slotId": slots[0]["id"]}, headers=(await api.person()).headers),
        )
    assert sorted([mine.status_code, theirs.status_code]) == [201, 409]
    other.passwords.close()
    await other.db.close()
