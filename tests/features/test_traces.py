"""Traces: one from the request to its SQL, the relay, the job and the webhook; nothing secret in any span; no cost while off."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from conftest import make_settings
from holdfast import jobs
from holdfast.core import tracing
from holdfast.core.callers import SYSTEM
from holdfast.core.ids import new_id
from holdfast.db.database import Database
from holdfast.main import build_app, build_state
from holdfast.outbox import enqueue_all
from holdfast.outbox.relay import relay
from holdfast.outbox.service import Message
from support.api import Api

CANARY = "xq7canary"
#: An example of the W3C's recommendation: version, trace, span, sampled.
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = PARENT.split("-")[1]


class Kept(SpanExporter):
    """Spans, as a collector would get them."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...

    def of(self, trace: str) -> list[ReadableSpan]:
        return [span for span in self.spans if format(span.context.trace_id, "032x") == trace]

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def text(self) -> str:
        return "\n".join(span.to_json() for span in self.spans)


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    """Traces are on, and kept."""
    exporter = Kept()
    tracing.start("http://nowhere.test", exporter=exporter)
    yield exporter
    tracing.stop()


@pytest.fixture
async def traced(kept: Kept, own_database: str) -> AsyncIterator[Api]:
    """A service that traces."""
    state = build_state(make_settings(own_database))
    transport = httpx.ASGITransport(build_app(state), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        yield Api(client, state.db, state.access_tokens)
    state.passwords.close()
    await state.db.close()


class Sink(BaseHTTPRequestHandler):
    """Somebody else's server: keeps what it is sent."""

    got: list[tuple[str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None: ...


@contextmanager
def sink() -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """Its address, and what it got."""
    got: list[tuple[str, dict[str, str], bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Own", (Sink,), {"got": got}))
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_request_and_its_sql_are_one_trace_under_the_caller_s(traced: Api, kept: Kept) -> None:
    admin, user = await traced.admin(), await traced.person()
    room = await traced.room(admin)
    (slot, *_) = await traced.slots(user, room)
    kept.spans.clear()
    assert (await traced.book(user, slot, headers={"traceparent": PARENT})).status_code == 201
    spans = kept.of(TRACE)
    assert spans == kept.spans
    request = kept.named("POST /bookings")
    assert request.kind is SpanKind.SERVER
    assert request.parent is not None
    assert format(request.parent.span_id, "016x") == PARENT.split("-")[2]
    assert dict(request.attributes or {}).items() >= {
        ("http.request.method", "POST"),
        ("http.route", "/bookings"),
        ("http.response.status_code", 201),
    }
    statements = [str((span.attributes or {})["db.statement"]) for span in spans if span.kind is SpanKind.CLIENT]
    # Plain reads, SQLAlchemy's transaction, and the statements inside of it.
    assert [one for one in statements if one.startswith("BEGIN")]
    assert [one for one in statements if "INSERT INTO claims" in one]
    assert [one for one in statements if "INSERT INTO outbox" in one]
    kept.spans.clear()
    assert (await traced.get(f"/rooms/{room['id']}/slots", user, params={"date": "2030-01-01"})).status_code == 200
    read = kept.named("GET /rooms/{room_id}/slots")
    assert len({span.context.trace_id for span in kept.spans}) == 1
    assert [span for span in kept.spans if span.kind is SpanKind.CLIENT and span.parent == read.context]
    assert read.parent is None


async def test_one_trace_leads_from_the_request_to_the_webhook(traced: Api, kept: Kept) -> None:
    admin, user = await traced.admin(), await traced.person()
    (slot, *_) = await traced.slots(user, await traced.room(admin))
    await relay(traced.db, [])
    kept.spans.clear()
    with sink() as (address, got):
        done = asyncio.Event()

        async def deliver(_job: jobs.Job) -> None:
            async with httpx.AsyncClient() as client:
                with tracing.span("webhook", kind="client"):
                    await client.post(address, headers=tracing.headers())
            done.set()

        async def follow(session: Any, stored: Any) -> None:
            for one in stored:
                await jobs.enqueue(session, "webhook", {}, trace=one.trace)

        assert (await traced.book(user, slot, headers={"traceparent": PARENT})).status_code == 201
        assert await relay(traced.db, [follow]) == 1
        runner = jobs.Runner(traced.db, [jobs.Kind("webhook", deliver)], [])
        running = asyncio.create_task(runner.run())
        await asyncio.wait_for(done.wait(), 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    named = {span.name: span for span in kept.of(TRACE)}
    assert named.keys() >= {"POST /bookings", "relay booking.created", "job webhook", "webhook", "INSERT"}
    for name in ("relay booking.created", "job webhook"):
        assert named[name].parent is not None
        assert named[name].parent.span_id == named["POST /bookings"].context.span_id
    assert named["webhook"].parent == named["job webhook"].context
    ((_, headers, _),) = got
    assert headers["traceparent"] == f"00-{TRACE}-{named['webhook'].context.span_id:016x}-01"


async def test_what_travels_together_is_still_each_one_s_own(traced: Api, kept: Kept) -> None:
    admin = await traced.admin()
    people = await traced.people(6)
    slots = await traced.slots(admin, await traced.room(admin))
    traces = {f"00-{number:032x}-b7ad6b7169203331-01": person for number, person in enumerate(people, 1)}
    await asyncio.gather(
        *(traced.book(person, slots[0], headers={"traceparent": one}) for one, person in traces.items()),
        *(traced.book(person, slots[2 + number]) for number, person in enumerate(people)),
    )
    await asyncio.gather(
        *(
            traced.book(person, slots[8 + number], headers={"traceparent": one})
            for number, (one, person) in enumerate(traces.items())
        )
    )
    rows = await traced.db.fetch("SELECT actor_id, trace FROM outbox WHERE type = 'booking.created' AND trace LIKE '00-000000%'")
    assert len(rows) >= 6
    own = {person.id: one.split("-")[1] for one, person in traces.items()}
    assert {(row["actor_id"], row["trace"].split("-")[1]) for row in rows} == set(own.items())


async def test_who_waits_in_line_keeps_their_own_trace(traced: Api) -> None:
    admin = await traced.admin()
    people = await traced.people(6)
    slots = await traced.slots(admin, await traced.room(admin, policy={"fairQueue": True}))
    traces = {person.id: f"{number:032x}" for number, person in enumerate(people, 1)}
    answers = await asyncio.gather(
        *(
            traced.book(person, slot, headers={"traceparent": f"00-{traces[person.id]}-b7ad6b7169203331-01"})
            for person, slot in zip(people, slots, strict=False)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    rows = await traced.db.fetch("SELECT actor_id, trace FROM outbox WHERE type = 'booking.created'")
    assert {row["actor_id"]: row["trace"].split("-")[1] for row in rows} == traces


async def test_nothing_secret_or_personal_is_in_a_span(traced: Api, kept: Kept) -> None:
    admin = await traced.admin()
    body = {"email": f"{CANARY}@example.com", "password": CANARY, "role": "user", "name": CANARY}
    for status in (201, 400):
        assert (await traced.post("/register", json=body)).status_code == status
    assert (await traced.post("/login", json=body)).status_code == 200
    await traced.get(f"/bookings/my?token={CANARY}&ticket={CANARY}", headers={"Authorization": f"Bearer {CANARY}"})
    await traced.get(f"/calendar/{CANARY}.ics")
    await traced.get(f"/rooms/{CANARY}", admin, headers={"X-Request-ID": "mine", "tracestate": f"x={CANARY}"})
    # PostgreSQL quotes the row in its refusal, and the instrumentation notes what it said.
    insert = "INSERT INTO users (id, email, email_key, role) VALUES ($1, $2, $2, 'user')"
    with tracing.span("work"), pytest.raises(Exception, match=CANARY):
        await traced.db.fetch(insert, new_id(), f"{CANARY}@example.com")
    with pytest.raises(RuntimeError), tracing.span("broken"):
        raise RuntimeError(CANARY)
    # And a request that fails with it.
    await traced.db.fetch("ALTER TABLE rooms RENAME TO gone")
    with capture_logs():
        assert (await traced.get("/rooms", admin)).status_code == 500
    await traced.db.fetch("ALTER TABLE gone RENAME TO rooms")
    assert CANARY not in kept.text()
    assert "@example.com" not in kept.text()
    assert [span for span in kept.spans if "INSERT INTO users" in str((span.attributes or {}).get("db.statement"))]
    broken = kept.named("broken")
    assert (broken.status.status_code, broken.status.description) == (StatusCode.ERROR, None)
    assert (broken.attributes or {})["error.type"] == "RuntimeError"
    failed = kept.named("GET /rooms")
    assert (failed.status.status_code, (failed.attributes or {})["http.response.status_code"]) == (StatusCode.ERROR, 500)
    assert kept.named("GET /rooms/{room_id}").status.status_code is StatusCode.UNSET


async def test_statements_of_nobody_s_are_no_traces(traced: Api, kept: Kept) -> None:
    kept.spans.clear()
    await traced.db.fetch("SELECT 1")
    async with traced.db.transaction() as session:
        await enqueue_all(session, [Message("room.created", new_id(), SYSTEM)])
    assert kept.spans == []
    (row,) = await traced.db.fetch("SELECT trace FROM outbox")
    assert row["trace"] is None


@pytest.mark.parametrize("insane", ["", "nonsense", "00-0-0-00", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01", "\xff" * 200])
async def test_a_parent_that_cannot_be_read_is_none(traced: Api, kept: Kept, insane: str) -> None:
    assert (await traced.get("/livez", headers={"traceparent": insane.encode("latin-1")})).status_code == 200
    assert kept.named("GET /livez").parent is None
    with tracing.span("work", insane):
        assert tracing.current() is not None


async def test_who_does_not_want_a_trace_has_none(traced: Api, kept: Kept) -> None:
    assert (await traced.get("/livez", headers={"traceparent": f"{PARENT[:-2]}00"})).status_code == 200
    assert kept.spans == []


async def test_a_collector_gets_the_spans(own_database: str) -> None:
    with sink() as (address, got):
        tracing.start(address)
        try:
            db = Database(own_database, pool_size=2)
            with tracing.span("work", PARENT, kind="server", number=3):
                await db.fetch("SELECT 1 AS one")
            await db.close()
        finally:
            await asyncio.to_thread(tracing.stop)
    assert not tracing.enabled()
    ((path, _, body),) = got
    assert path == "/v1/traces"
    (sent,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert {one.key: one.value.string_value for one in sent.resource.attributes}["service.name"] == "holdfast"
    spans = [span for scope in sent.scope_spans for span in scope.spans]
    assert {(span.name, span.trace_id.hex()) for span in spans} == {("work", TRACE), ("SELECT", TRACE)}


async def test_a_collector_that_is_away_holds_nobody_up(own_database: str) -> None:
    tracing.start("http://127.0.0.1:9")
    db = Database(own_database, pool_size=2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with tracing.span("work"):
        await db.fetch("SELECT 1")
    assert loop.time() - began < 2
    await db.close()
    began = loop.time()
    await asyncio.to_thread(tracing.stop)
    assert loop.time() - began < 10


def test_while_off_nothing_is_traced_and_nothing_imported() -> None:
    assert tracing.current() is None
    assert tracing.headers() == {}
    with tracing.span("work", PARENT, number=1) as span:
        assert span is None
        assert tracing.current() is None
    # The framework imports the interface, which is small; what does something is the SDK and its exporters.
    code = (
        "import sys, holdfast.main, holdfast.cli; names = ('opentelemetry.sdk', 'opentelemetry.exporter', "
        "'opentelemetry.instrumentation'); print([name for name in sys.modules if name.startswith(names)])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "[]\n"


async def test_the_framework_s_own_telemetry_stays_off(traced: Api, kept: Kept) -> None:
    # It would tell paths, queries and what errors say.
    await traced.get(f"/livez?ticket={CANARY}")
    assert [span.name for span in kept.spans] == ["GET /livez"]
    app: Any = traced.client._transport
    assert not app.app._telemetry["tracing"]
    assert not app.app._telemetry["logs"]
    assert not app.app._telemetry["auto_configure"]
