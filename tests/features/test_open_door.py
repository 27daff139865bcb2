"""Other origins, headers for browsers and caches, compressed answers, proxies: what the door adds to every answer."""

import asyncio
import gzip
import json
import shutil
import zlib
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse

from holdfast.main import build_app
from holdfast.web import compression
from holdfast.web.compression import Compressed, wants_gzip
from holdfast.web.proxies import TrustedProxies
from holdfast.web.security_headers import SecurityHeaders
from holdfast.web.state import State
from support.api import WINDOW, Api, Person, code
from support.doors import door, listening

ORIGIN = "https://app.example"
PLAIN = {"Accept-Encoding": "identity"}
ZIPPED = {"Accept-Encoding": "gzip"}


# --- other origins -------------------------------------------------------------------------------------------------------


async def test_without_a_setting_no_other_origin_may_read(api: Api, user: Person) -> None:
    answer = await api.get("/rooms", user, headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_listed_origin_may_and_another_may_not(api: Api, user: Person, state: State) -> None:
    async with door(state, cors_origins=f"https://Other.example, {ORIGIN}") as opened:
        for origin in (ORIGIN, "https://other.example"):
            answer = await opened.get("/rooms", headers={**user.headers, "Origin": origin})
            assert answer.headers["access-control-allow-origin"] == origin
            assert "origin" in answer.headers["vary"].lower()
            assert "access-control-allow-credentials" not in answer.headers
        shown = set(answer.headers["access-control-expose-headers"].split(", "))
        assert shown >= {"ETag", "Location", "Link", "X-Request-ID", "Idempotency-Replayed", "RateLimit", "Retry-After"}
        for origin in ("https://app.example.evil", "http://app.example", "https://app.example:444", "null"):
            answer = await opened.get("/rooms", headers={**user.headers, "Origin": origin})
            assert "access-control-allow-origin" not in answer.headers, origin


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_browser_may_send_what_the_service_reads(api: Api, state: State, method: str) -> None:
    async with door(state, cors_origins=ORIGIN) as opened:
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,if-match,if-none-match,prefer",
        }
        preflight = await opened.send("OPTIONS", "/bookings", headers=asked)
        assert preflight.status_code == 200, preflight.text
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert method in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["x-content-type-options"] == "nosniff"
        assert preflight.headers["x-request-id"]
        for wrong in ({"Origin": "https://evil.example"}, {"Access-Control-Request-Headers": "x-anything"}):
            refused = await opened.send("OPTIONS", "/bookings", headers={**asked, **wrong})
            assert (refused.status_code, code(refused)) == (400, "CORS_REFUSED"), refused.text
            assert refused.headers["content-type"] == "application/problem+json"


async def test_errors_can_be_read_by_a_page_of_another_origin(
    api: Api, user: Person, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with door(state, cors_origins=ORIGIN) as opened:
        headers = {**user.headers, "Origin": ORIGIN}

        async def broken(*_arguments: object, **_more: object) -> None:
            raise ZeroDivisionError

        answers = [
            await opened.get("/rooms", headers={"Origin": ORIGIN}),
            await opened.get("/nowhere", headers=headers),
            await opened.send("PUT", "/rooms", headers=headers),
            await opened.post("/rooms", headers=headers, content=b"{"),
            await opened.post("/bookings", headers=headers, content=b"x" * (1 << 20) + b"x"),
        ]
        with monkeypatch.context() as patched, structlog.testing.capture_logs() as logs:
            patched.setattr("holdfast.accounts.service.users.queries.find_user", broken)
            answers.append(await opened.get("/users/me", headers=headers))
        assert [line["event"] for line in logs] == ["request.failed"]
        with monkeypatch.context() as patched:
            patched.setattr("holdfast.web.middleware.MAX_IN_FLIGHT", 0)
            answers.append(await opened.get("/rooms", headers=headers))
    assert [one.status_code for one in answers] == [401, 404, 405, 403, 413, 500, 503]
    for one in answers:
        code(one)
        assert one.headers["access-control-allow-origin"] == ORIGIN, one.status_code
        assert "X-Request-ID" in one.headers["access-control-expose-headers"]


# --- headers for browsers and caches -------------------------------------------------------------------------------------


async def test_every_answer_tells_browsers_what_not_to_do(api: Api, admin: Person) -> None:
    paths = ("/rooms", "/users/me", "/nowhere", "/health", "/", "/docs", "/redoc", "/static/docs.js", "/openapi.json")
    for path in paths:
        answer = await api.get(path, admin)
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], path
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        (policy,) = answer.headers.get_list("content-security-policy")
        assert "frame-ancestors 'none'" in policy
        assert ("script-src 'self'" in policy) == (path in {"/", "/docs", "/redoc"}), path
        assert "unsafe-eval" not in policy
        assert "script-src 'self' " not in policy
        assert "strict-transport-security" not in answer.headers


async def test_caches_keep_no_secret_and_share_nothing_of_anybodys(api: Api, user: Person) -> None:
    email = {"email": "a@example.com", "password": "x"}
    for path, body in (
        ("/register", {**email, "role": "user"}),
        ("/login", email),
        ("/login", {**email, "password": "y"}),
        ("/dummyLogin", {"role": "user"}),
        ("/auth/refresh", {"refreshToken": "x"}),
        ("/api-keys", {"name": "Key"}),
    ):
        answer = await api.post(path, user, json=body)
        assert answer.headers.get_list("cache-control") == ["no-store"], path
    for path in ("/rooms", "/users/me", "/bookings/my", "/nowhere"):
        assert (await api.get(path, user)).headers.get_list("cache-control") == ["private, no-cache"], path
    for path in ("/", "/docs", "/static/style.css"):
        assert (await api.get(path)).headers.get_list("cache-control") == ["no-cache"], path


async def test_a_route_that_says_how_it_may_be_kept_is_believed() -> None:
    app = FastAPI()

    @app.get("/feed")
    async def feed() -> Response:
        return Response(b"x", headers={"Cache-Control": "private, max-age=300"})

    app.add_middleware(SecurityHeaders)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://holdfast.test") as client:
        assert (await client.get("/feed")).headers.get_list("cache-control") == ["private, max-age=300"]


async def test_https_is_asked_for_where_it_was_used(api: Api, state: State) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
    async with door(state, trusted_proxies="10.0.0.0/8") as proxied:
        through = await proxied.get("/health", headers=forwarded, address="10.0.0.1")
        assert through.headers["strict-transport-security"] == "max-age=31536000"
        plain = await proxied.get("/health", headers={**forwarded, "X-Forwarded-Proto": "http"}, address="10.0.0.1")
        assert "strict-transport-security" not in plain.headers
        spoofed = await proxied.get("/health", headers=forwarded, address="198.51.100.7")
        assert "strict-transport-security" not in spoofed.headers
    assert "strict-transport-security" not in (await api.get("/health", headers=forwarded)).headers


# --- proxies -------------------------------------------------------------------------------------------------------------


async def heard(networks: str, peer: str, kind: str = "http", **headers: str) -> tuple[str, str]:
    """The client's address and the scheme that the application sees."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.update(scope)

    async def nothing(*_arguments: object) -> Any:
        raise AssertionError

    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": kind, "client": (peer, 5), "scheme": "ws" if kind == "websocket" else "http", "headers": raw}
    await TrustedProxies(app, networks=[ip_network(part.strip(), strict=False) for part in networks.split(",")])(
        scope, nothing, nothing
    )
    return seen["client"][0], seen["scheme"]


PROXIES = "10.0.0.1/8, 2001:db8::1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.1.2.3", "198.51.100.7", "198.51.100.7"),
        ("10.1.2.3", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.1.2.3", "1.1.1.1, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("10.1.2.3", "198.51.100.7:4711", "198.51.100.7"),
        ("10.1.2.3", "[2001:db8:9::5]:4711", "2001:db8:9::5"),
        ("10.1.2.3", "::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:10.1.2.3", "198.51.100.7", "198.51.100.7"),
        ("2001:db8::1", "2001:db8::2", "2001:db8::2"),
        ("10.1.2.3", "10.4.4.4, 10.5.5.5", "10.4.4.4"),
        # Not addresses: what is known for sure is the one who said so.
        ("10.1.2.3", "unknown", "10.1.2.3"),
        ("10.1.2.3", "1.1.1.1, <script>, 10.9.9.9", "10.9.9.9"),
        ("10.1.2.3", "", "10.1.2.3"),
        # Not from a proxy of ours: anybody may write this.
        ("198.51.100.9", "1.1.1.1", "198.51.100.9"),
        ("2001:db8::2", "1.1.1.1", "2001:db8::2"),
        ("testclient", "1.1.1.1", "testclient"),
    ],
)
async def test_the_right_most_address_that_is_no_proxy_of_ours_counts(peer: str, forwarded: str, address: str) -> None:
    assert await heard(PROXIES, peer, x_forwarded_for=forwarded) == (address, "http")


@pytest.mark.parametrize(
    ("kind", "said", "scheme"),
    [
        ("http", "https", "https"),
        ("http", "HTTPS", "https"),
        ("http", "javascript", "http"),
        ("websocket", "https", "wss"),
        ("websocket", "http", "ws"),
    ],
)
async def test_the_scheme_is_believed_of_a_proxy(kind: str, said: str, scheme: str) -> None:
    assert (await heard(PROXIES, "10.1.2.3", kind, x_forwarded_proto=said))[1] == scheme
    before = "ws" if kind == "websocket" else "http"
    assert (await heard(PROXIES, "192.0.2.1", kind, x_forwarded_proto=said))[1] == before


async def test_the_address_behind_a_proxy_goes_into_messages_and_limits(api: Api, user: Person, state: State) -> None:
    async with door(state, trusted_proxies="10.0.0.1", rate_limit="1/minute") as proxied:
        for address in ("198.51.100.7", "198.51.100.8"):
            headers = {"X-Forwarded-For": f"203.0.113.1, {address}"}
            assert (await proxied.get("/rooms", headers=headers, address="10.0.0.1")).status_code == 401
            assert (await proxied.get("/rooms", headers=headers, address="10.0.0.1")).status_code == 429
        headers = {**user.headers, "X-Forwarded-For": "198.51.100.7"}
        await proxied.send("PATCH", "/users/me", headers=headers, address="10.0.0.1", json={"name": "A"})
    await api.send("PATCH", "/users/me", headers=headers, json={"name": "B"})
    rows = await api.db.fetch("SELECT address FROM outbox WHERE type = 'user.updated' ORDER BY occurred_at")
    # The shared service has no proxies: the header is only words to it.
    assert [row["address"] for row in rows] == ["198.51.100.7", "127.0.0.1"]


# --- compressed answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (b"gzip", True),
        (b"br, GZIP;q=0.5", True),
        (b"*", True),
        (b"x-gzip", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000, *", False),
        (b"identity", False),
        (b"br", False),
        (b"", False),
        (b";;,,=q", False),
    ],
)
def test_gzip_is_sent_to_those_who_accept_it(header: bytes, wanted: bool) -> None:
    assert wants_gzip(header) == wanted


async def test_a_large_list_is_compressed_for_those_who_ask(api: Api, admin: Person) -> None:
    room = await api.room(admin)
    put = await api.send("PUT", f"/rooms/{room['id']}/schedule", admin, json={**WINDOW, "slotMinutes": 10})
    assert put.status_code == 200
    path, params = f"/rooms/{room['id']}/slots", {"date": "2999-01-01"}
    plain = await api.get(path, admin, params=params, headers=PLAIN)
    zipped = await api.get(path, admin, params=params, headers=ZIPPED)
    assert len(plain.content) > compression.LEAST
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < len(plain.content) / 2
    assert zipped.json() == plain.json()
    for one in (plain, zipped):
        assert "accept-encoding" in one.headers["vary"].lower()
    small = await api.get("/health", headers=ZIPPED)
    assert "content-encoding" not in small.headers


async def test_tags_of_compressed_answers_are_their_own_and_still_work(api: Api, admin: Person) -> None:
    made = await api.post("/rooms", admin, json={"name": "Room", "description": "very large " * 400})
    assert made.status_code == 201
    path = f"/rooms/{made.json()['room']['id']}"
    plain = (await api.get(path, admin, headers=PLAIN)).headers["etag"]
    answer = await api.get(path, admin, headers=ZIPPED)
    assert answer.headers["content-encoding"] == "gzip"
    zipped = answer.headers["etag"]
    # A strong tag names bytes (RFC 9110 section 8.8.1), and these are others.
    assert zipped != plain
    assert not zipped.startswith("W/")
    for tag in (plain, zipped, f'"x-gzip", {zipped}', f"W/{zipped}"):
        same = await api.get(path, admin, headers={**ZIPPED, "If-None-Match": tag})
        assert (same.status_code, same.content) == (304, b""), tag
        assert same.headers["etag"] == (zipped if "gzip" in tag else plain)
        # A cache keeps what its 200 said: else it would hand the packed bytes to whoever cannot read them.
        assert same.headers["vary"] == "Accept-Encoding"
    changed = await api.send("PATCH", path, admin, headers={**ZIPPED, "If-Match": zipped}, json={"name": "New"})
    assert changed.status_code == 200
    stale = await api.send("PATCH", path, admin, headers={**ZIPPED, "If-Match": zipped}, json={"name": "Newer"})
    assert (stale.status_code, code(stale)) == (412, "CHANGED_MEANWHILE")
    assert (await api.get(path, admin, headers={**ZIPPED, "If-None-Match": zipped})).status_code == 200


def streaming() -> FastAPI:
    """An application that streams lines, messages and a file in pieces."""
    app = FastAPI()

    async def pieces() -> AsyncIterator[bytes]:
        for n in range(50):
            yield f"{n},booked,2026-11-20T09:00:00Z\r\n".encode() * 20

    @app.get("/lines.csv")
    async def lines() -> Response:
        return StreamingResponse(pieces(), media_type="text/csv")

    @app.get("/stream")
    async def stream() -> Response:
        return StreamingResponse(pieces(), media_type="text/event-stream")

    @app.get("/picture")
    async def picture() -> Response:
        return Response(b"x" * 9000, media_type="image/png")

    @app.get("/packed")
    async def packed() -> Response:
        return Response(gzip.compress(b"x" * 9000), media_type="text/plain", headers={"Content-Encoding": "gzip"})

    @app.get("/large")
    async def large() -> Response:
        return Response(json.dumps(list(range(100_000))), media_type="application/json")

    app.add_middleware(Compressed)
    return app


async def test_what_is_streamed_is_compressed_piece_by_piece() -> None:
    sent: list[bytes] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/csv")]})
        for n in range(50):
            await send({"type": "http.response.body", "body": f"{n},booked\r\n".encode() * 20, "more_body": True})
        await send({"type": "http.response.body"})

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.append(message["body"])

    scope = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", b"gzip")]}
    await Compressed(app)(scope, receive, send)
    # Each piece can be read when it has arrived: nothing is held back until the end.
    unpacker = zlib.decompressobj(31)
    for n in range(50):
        assert unpacker.decompress(sent[n]) == f"{n},booked\r\n".encode() * 20
    unpacker.decompress(b"".join(sent[50:]))
    assert unpacker.eof


async def test_event_streams_pictures_and_packed_answers_pass_as_they_are() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(streaming()), base_url="http://holdfast.test") as client:
        for path, encoding in (("/stream", None), ("/picture", None), ("/packed", "gzip"), ("/large", "gzip")):
            answer = await client.get(path, headers=ZIPPED)
            assert answer.headers.get("content-encoding") == encoding, path
            assert answer.content
        assert (await client.get("/large", headers=ZIPPED)).json() == list(range(100_000))
        assert "content-encoding" not in (await client.head("/large", headers=ZIPPED)).headers
        plain = await client.get("/lines.csv", headers=PLAIN)
        assert ("content-encoding" not in plain.headers, len(plain.content)) == (True, (10 * 31 + 40 * 32) * 20)


async def test_files_of_the_pages_are_compressed(api: Api) -> None:
    plain = await api.get("/static/vendor/swagger-ui/swagger-ui.css", headers=PLAIN)
    zipped = await api.get("/static/vendor/swagger-ui/swagger-ui.css", headers=ZIPPED)
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.content == plain.content
    tag = zipped.headers["etag"]
    again = await api.get("/static/vendor/swagger-ui/swagger-ui.css", headers={**ZIPPED, "If-None-Match": tag})
    assert (again.status_code, again.headers["etag"]) == (304, tag)


async def test_replayed_answers_are_the_same_bytes_packed_or_not(api: Api, admin: Person) -> None:
    body = {"name": "Room", "description": "very large " * 400}
    first = await api.post("/rooms", admin, json=body, headers={**ZIPPED, "Idempotency-Key": "k"})
    again = await api.post("/rooms", admin, json=body, headers={**PLAIN, "Idempotency-Key": "k"})
    assert (first.headers["content-encoding"], first.status_code, again.status_code) == ("gzip", 201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert first.content == again.content


# --- the pages under their policy ----------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize(("path", "needle"), [("/docs", "opblock-summary-path"), ("/redoc", "operation/dummyLogin")])
async def test_the_pages_work_in_a_browser_under_their_policy(
    api: Api, state: State, path: str, needle: str, tmp_path: Path
) -> None:
    async with listening(build_app(state)) as port:
        browser = await asyncio.create_subprocess_exec(
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--enable-logging=stderr"),
            *("--virtual-time-budget=10000", "--dump-dom", f"http://127.0.0.1:{port}{path}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(180):
                page, log = await browser.communicate()
        finally:
            if browser.returncode is None:
                browser.kill()
    # Filled by a script of our own; nothing of it was refused but the mark that ReDoc would load from its maker's site.
    assert needle in page.decode()
    refused = [line for line in log.decode(errors="replace").splitlines() if "Content Security Policy" in line]
    assert [line for line in refused if "https://cdn.redoc.ly/" not in line] == []
