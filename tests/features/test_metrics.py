"""`/metrics`: what is counted there is what happened, whichever process is asked; read by Prometheus' own parser."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import timeit
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import make_settings
from holdfast import outbox
from holdfast.adapters.mail import MailboxMailer, MailRefused, MailUnavailable, MemoryMailer
from holdfast.adapters.webhooks import FakeSender, Reply
from holdfast.core import metrics
from holdfast.core.ids import new_id
from holdfast.core.security import AccessTokens
from holdfast.db.database import Database, after_commit, fetch_in
from holdfast.jobs import Runner, queue
from holdfast.main import build_app, build_state
from holdfast.notifications import service as notifications
from holdfast.streams.service import Subscriber
from holdfast.streams.service.hub import MOST_WAITING
from holdfast.web.metrics import _STANDINGS_OF, RequestMetrics
from holdfast.webhooks import service as webhooks
from support.api import Api, Person, tomorrow
from support.everything import made, move_end
from support.servers import SECRET, free_port, served
from support.streams import events, socket

#: Everything that the dashboard and the alerts of `ops/` are built on, with the labels.
NAMES = {
    "holdfast_requests_total": {"method", "route", "status"},
    "holdfast_request_seconds": {"method", "route"},
    "holdfast_requests_in_flight": set(),
    "holdfast_claims_taken_total": {"kind", "via"},
    "holdfast_refusals_total": {"code"},
    "holdfast_holds_live": set(),
    "holdfast_waitlist_waiting": set(),
    "holdfast_queue_waiting": set(),
    "holdfast_queue_wait_seconds": set(),
    "holdfast_relay_lag_seconds": set(),
    "holdfast_relay_messages_total": set(),
    "holdfast_jobs": {"kind", "state"},
    "holdfast_job_runs_total": {"kind", "outcome"},
    "holdfast_job_seconds": {"kind"},
    "holdfast_stream_clients": {"transport"},
    "holdfast_stream_dropped_total": set(),
    "holdfast_webhook_deliveries_total": {"outcome"},
    "holdfast_mails_total": {"outcome"},
    "holdfast_pool_connections": {"pool", "state"},
    "holdfast_pool_wait_seconds": set(),
    "holdfast_process_info": {"version"},
    "holdfast_database_up": set(),
}


class Scrape:
    """One answer of /metrics, read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return float(self._values.get((f"holdfast_{name}", frozenset(labels.items())), 0.0))

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(labels)[label] for known, labels in self._values if known == f"holdfast_{name}"}


async def scrape(api: Api) -> Scrape:
    """As it is now, not a second ago."""
    _STANDINGS_OF.clear()
    answer = await api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(answer.text)


@pytest.fixture
async def grown(api: Api) -> AsyncIterator[Callable[..., Any]]:
    """How much a count has grown since the test began; the process counts for all of its tests."""
    before = await scrape(api)

    async def since(name: str, **labels: str) -> float:
        return (await scrape(api))(name, **labels) - before(name, **labels)

    return since  # type: ignore[return-value]  # a fixture, not an iterator


async def test_every_name_that_the_dashboard_reads_is_there(api: Api) -> None:
    metrics.job_ran("mail", "completed", 0.1)
    metrics.mail_sent("sent")
    metrics.webhook_sent("delivered")
    await api.db.fetch("INSERT INTO job_counts (kind) VALUES ('mail')")
    await api.get("/nowhere")
    user, admin = await api.person(), await api.admin()
    await api.booked(user, (await api.slots(admin, await api.room(admin)))[0])
    found = await scrape(api)
    for name, labels in NAMES.items():
        family = found.families[name if name in found.families else name.removesuffix("_total")]
        assert family.documentation
        assert family.samples, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, name


async def test_requests_are_counted_by_route_template_and_status(api: Api, user: Person, admin: Person, grown: Any) -> None:
    room = await api.room(admin)
    await api.slots(user, room)
    await api.get(f"/rooms/{room['id']}/slots")
    ours = {"method": "GET", "route": "/rooms/{room_id}/slots"}
    templates = (await scrape(api)).labels("requests_total", "route")
    assert ours["route"] in templates
    assert (await grown("requests_total", **ours, status="200"), await grown("requests_total", **ours, status="401")) == (1, 1)
    assert await grown("request_seconds_count", **ours) == 2
    assert 0 < await grown("request_seconds_sum", **ours) < 10
    assert await grown("request_seconds_bucket", **ours, le="+Inf") == 2


async def test_a_request_with_the_tag_of_compressed_bytes_is_counted_by_its_route(api: Api, admin: Person, grown: Any) -> None:
    room = await api.room(admin)
    await api.get(f"/rooms/{room['id']}", admin, headers={"If-None-Match": '"some-gzip"'})
    assert await grown("requests_total", method="GET", route="/rooms/{room_id}", status="200") == 1


async def test_made_up_addresses_and_methods_are_one_label_each(api: Api, grown: Any) -> None:
    for number in range(5):
        await api.get(f"/made-up/{number}")
        await api.send(f"BREW{number}", "/made-up")
    assert await grown("requests_total", method="GET", route="unmatched", status="404") == 5
    assert await grown("requests_total", method="other", route="unmatched", status="404") == 5
    found = await scrape(api)
    assert not [route for route in found.labels("requests_total", "route") if "made-up" in route]
    assert found.labels("requests_total", "method") <= {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"}


async def test_requests_in_flight_are_those_whose_answer_has_not_begun() -> None:
    arrived, answer, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        arrived.set()
        await answer.wait()
        if scope["path"] == "/lost":
            raise RuntimeError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await gone.wait()

    async def send(_message: Any) -> None: ...

    def in_flight() -> float:
        return Scrape(metrics.exposition().decode())("requests_in_flight")

    measured, before = RequestMetrics(app), in_flight()
    for path in ("/streamed", "/lost"):
        arrived.clear(), answer.clear()
        request = asyncio.create_task(measured({"type": "http", "method": "GET", "path": path}, None, send))  # type: ignore[arg-type]
        await arrived.wait()
        assert in_flight() == before + 1
        answer.set()
        if path == "/lost":
            with pytest.raises(RuntimeError):
                await request
        while in_flight() != before:  # noqa: ASYNC110 - a number, which nobody announces
            await asyncio.sleep(0)
        gone.set()
        await asyncio.gather(request, return_exceptions=True)
        assert in_flight() == before


async def test_claims_are_counted_by_kind_and_by_what_took_them(api: Api, admin: Person, user: Person, grown: Any) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    other = await api.person()
    booking = made(await api.post("/bookings", user, json={"slotIds": [slots[0]["id"], slots[1]["id"]]}), "booking")
    hold = made(await api.post("/holds", user, json={"slotId": slots[2]["id"]}), "hold")
    made(await api.post("/waitlist", other, json={"slotId": slots[0]["id"]}), "entry")
    made(await api.post(f"/bookings/{booking['id']}/cancel", user), "booking", 200)
    closing = {"start": slots[8]["start"], "end": slots[9]["end"]}
    made(await api.post(f"/rooms/{room['id']}/closures", admin, json=closing), "closure")
    made(await api.post("/hosts", other, json={"displayName": "Ada"}), "host")
    times = {"start": f"{tomorrow(2)}T09:00:00Z", "end": f"{tomorrow(2)}T10:00:00Z"}
    published = made(await api.post("/slots", other, json=times), "slot")
    await api.booked(user, published)
    event = made(await api.post("/events", admin, json={"name": "Talk", "start": f"{tomorrow(2)}T18:00:00Z"}), "event")
    assert (await api.post(f"/events/{event['id']}/seats", admin, json={"count": 4})).status_code == 201
    made(await api.post("/bookings", user, json={"eventId": event["id"], "quantity": 3}), "booking")
    # A hold that becomes a booking takes nothing anew.
    made(await api.post("/bookings", user, json={"holdToken": hold["token"]}), "booking")
    counted = {
        (kind, via): await grown("claims_taken_total", kind=kind, via=via)
        for kind in ("slot", "seat")
        for via in ("booking", "hold", "offer", "closure")
    }
    assert {pair: count for pair, count in counted.items() if count} == {
        ("slot", "booking"): 3,
        ("slot", "hold"): 1,
        ("slot", "offer"): 1,
        ("slot", "closure"): 1,
        ("seat", "booking"): 3,
    }


async def test_what_is_rolled_back_is_not_counted(api: Api, admin: Person, user: Person, grown: Any) -> None:
    told: list[str] = []
    with suppress(RuntimeError):
        async with api.db.transaction() as session:
            after_commit(session, lambda: told.append("rolled back"))
            raise RuntimeError
    async with api.db.transaction() as session:
        after_commit(session, lambda: told.append("committed"))
        assert told == []
    assert told == ["committed"]
    slot = (await api.slots(user, await api.room(admin)))[0]
    await api.booked(user, slot)
    assert (await api.book(await api.person(), slot)).status_code == 409
    assert await grown("claims_taken_total", kind="slot", via="booking") == 1


async def test_refusals_are_counted_by_their_code(api: Api, admin: Person, user: Person, grown: Any) -> None:
    slot = (await api.slots(user, await api.room(admin)))[0]
    await api.booked(user, slot)
    for key in ("one", "one", "two"):
        assert (await api.book(user, slot, headers={"Idempotency-Key": key})).status_code == 409
    await api.get("/rooms")
    await api.get("/rooms/nonsense", user)
    await api.get("/nowhere")
    await api.send("DELETE", "/rooms", admin)
    await api.post("/rooms", user, json={"name": "Mine"})
    counted = {
        code: await grown("refusals_total", code=code)
        for code in ("UNAUTHORIZED", "FORBIDDEN", "INVALID_REQUEST", "NOT_FOUND", "METHOD_NOT_ALLOWED")
    }
    assert set(counted.values()) == {1}, counted
    # A replay is the first refusal again, not another one.
    assert await grown("refusals_total", code="SLOT_ALREADY_BOOKED") == 2


async def test_standings_are_what_the_database_holds(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    hold = made(await api.post("/holds", user, json={"slotIds": [slots[0]["id"], slots[1]["id"]]}), "hold")
    lapsed = made(await api.post("/holds", user, json={"slotId": slots[3]["id"]}), "hold")
    made(await api.post("/waitlist", await api.person(), json={"slotId": slots[0]["id"]}), "entry")
    await move_end(api, lapsed["token"], -1)
    await api.db.fetch(
        "INSERT INTO booking_requests (id, resource_no, user_id, request) SELECT $1, no, $2, '{}' FROM resources WHERE id = $3",
        new_id(),
        user.id,
        UUID(room["id"]),
    )
    job = (
        "INSERT INTO jobs (id, kind, payload, state, run_at, leased_until) VALUES ($1, 'mail', '{}', $2, now() + $3, $4 + now())"
    )
    for state, due in (("waiting", -1), ("waiting", 60), ("waiting", 60), ("dead", 0), ("active", 0)):
        lease = timedelta(minutes=1) if state == "active" else None
        await api.db.fetch(job, new_id(), state, timedelta(seconds=due), lease)
    found = await scrape(api)
    assert hold["token"] not in found.text
    assert (found("holds_live"), found("waitlist_waiting"), found("queue_waiting")) == (1, 1, 1)
    assert {state: found("jobs", kind="mail", state=state) for state in ("waiting", "delayed", "active", "dead")} == {
        "waiting": 1,
        "delayed": 2,
        "active": 1,
        "dead": 1,
    }
    assert 0 < found("relay_lag_seconds") < 60
    assert found("database_up") == 1
    number = "SELECT id, row_number() OVER () AS number FROM outbox"
    await api.db.fetch(f"UPDATE outbox SET number = n.number FROM ({number}) n WHERE n.id = outbox.id")
    assert (await scrape(api))("relay_lag_seconds") == 0


async def test_a_crowd_of_scrapes_asks_the_database_once(own_database: str) -> None:
    asked: list[str] = []

    def listen(connection: Any) -> None:
        connection.add_query_logger(lambda one: asked.append(one.query))

    state = build_state(make_settings(own_database), on_connect=listen)
    transport = httpx.ASGITransport(build_app(state))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        answers = await asyncio.gather(*(client.get("/metrics") for _ in range(40)))
    state.passwords.close()
    await state.db.close()
    assert {answer.status_code for answer in answers} == {200}
    # Two statements a second; a slow machine may need a second or two.
    assert 2 <= len([one for one in asked if "FROM claims" in one or "job_counts" in one]) <= 6


async def test_without_the_database_the_rest_is_told() -> None:
    away = build_state(make_settings(f"postgresql://nobody@127.0.0.1:{free_port()}/none", pool_size=2))
    transport = httpx.ASGITransport(build_app(away))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        answer = await client.get("/metrics")
    away.passwords.close()
    await away.db.close()
    assert answer.status_code == 200
    found = Scrape(answer.text)
    assert "holdfast_database_up 0.0" in answer.text
    assert "holdfast_holds_live" not in answer.text
    assert "holdfast_requests" in found.families


async def test_who_waits_for_a_connection_is_seen(own_database: str) -> None:
    def now() -> Scrape:
        return Scrape(metrics.exposition().decode())

    before = now()
    db = Database(own_database, pool_size=2)
    async with db.transaction() as session:
        await fetch_in(session, "SELECT 1")
        used = now()("pool_connections", pool="transactions", state="used")
        assert used == before("pool_connections", pool="transactions", state="used") + 1

        async def second() -> None:
            async with db.transaction():
                pass

        waits = asyncio.create_task(second())
        while not db._transaction_turns._waiters:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        # What is measured is time itself.
        await asyncio.sleep(0.05)
    await waits
    after = now()
    assert after("pool_wait_seconds_count") - before("pool_wait_seconds_count") == 2
    assert 0.04 < after("pool_wait_seconds_sum") - before("pool_wait_seconds_sum") < 2
    assert after("pool_connections", pool="transactions", state="used") == used - 1
    idle = before("pool_connections", pool="transactions", state="idle")
    assert after("pool_connections", pool="transactions", state="idle") == idle + 1
    await db.close()
    assert now()("pool_connections", pool="transactions", state="idle") == idle


async def test_a_ticket_s_wait_is_measured(api: Api, admin: Person, user: Person, grown: Any) -> None:
    room = await api.room(admin, policy={"fairQueue": True})
    await api.booked(user, (await api.slots(user, room))[0])
    assert await grown("queue_wait_seconds_count") == 1


async def test_nobody_is_named(api: Api, admin: Person, user: Person) -> None:
    slot = (await api.slots(user, await api.room(admin)))[0]
    await api.booked(user, slot)
    await api.get("/users/me", user)
    text = (await scrape(api)).text
    assert "@" not in text
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", text)


async def test_clients_of_the_streams_are_counted_while_they_are_there(api: Api, own_database: str, tmp_path: Path) -> None:
    async def clients(url: str) -> list[float]:
        async with httpx.AsyncClient() as client:
            found = Scrape((await client.get(f"{url}/metrics")).text)
        return [found("stream_clients", transport=transport) for transport in ("sse", "websocket")]

    with served({"HOLDFAST_DATABASE_URL": own_database}, log=tmp_path / "service.log") as server:
        db = Database(own_database, pool_size=2)
        async with httpx.AsyncClient(base_url=server.url) as client:
            who = await Api(client, db, AccessTokens(SECRET, minutes=60)).person()
        await db.close()
        assert await clients(server.url) == [0, 0]
        async with events(server.url, who):
            async with socket(server.url, who, "me"), socket(server.url, who, "me"):
                assert await clients(server.url) == [1, 2]
            async with asyncio.timeout(10):
                while await clients(server.url) != [1, 0]:
                    pass
        async with asyncio.timeout(10):
            while await clients(server.url) != [0, 0]:
                pass


async def test_who_is_too_slow_is_counted_once(api: Api, grown: Any) -> None:
    subscriber: Any = Subscriber(None)  # type: ignore[arg-type]  # nobody asks who it is
    told: Any = None
    for _ in range(MOST_WAITING + 5):
        subscriber.give(told)
    assert subscriber.ended == "slow"
    assert await grown("stream_dropped_total") == 1


async def test_mails_are_counted_by_what_became_of_them(api: Api, admin: Person, user: Person, grown: Any) -> None:
    kept: list[str] = []

    async def keep(to: str, _subject: str, _mail: bytes) -> None:
        kept.append(to)

    refusing, failing = MemoryMailer(), MemoryMailer()
    refusing.failure, failing.failure = MailRefused("no such address"), MailUnavailable("not now")
    slots = await api.slots(user, await api.room(admin))
    for slot, mailer in zip(slots, (MemoryMailer(), MailboxMailer(keep), refusing, failing), strict=False):
        await api.booked(user, slot)
        while await outbox.relay(api.db, [notifications.follow]):
            """Another round."""
        kinds = notifications.kinds(api.db, mailer, make_settings(api.db.url))
        runner = Runner(api.db, kinds)
        (claimed,) = await queue.claim(api.db, [(kind, 50) for kind in kinds])
        await runner._work(claimed)
    assert len(kept) == 1
    assert {
        outcome: await grown("mails_total", outcome=outcome) for outcome in ("sent", "kept", "refused", "failed")
    } == dict.fromkeys(("sent", "kept", "refused", "failed"), 1)
    runs = {outcome: await grown("job_runs_total", kind="mail", outcome=outcome) for outcome in ("completed", "dead", "failed")}
    assert runs == {"completed": 2, "dead": 1, "failed": 1}
    assert await grown("job_seconds_count", kind="mail") == 4


async def test_webhooks_are_counted_by_what_became_of_them(api: Api, admin: Person, grown: Any) -> None:
    answers = iter([204, 500, 410, 204])
    sender = FakeSender(lambda _parcel: Reply(next(answers)))
    ids = []
    for _ in range(4):
        made = await api.post("/webhooks", admin, json={"url": "https://sink.example/hook", "types": ["booking.created"]})
        ids.append(made.json()["webhook"]["id"])
        assert (await api.post(f"/webhooks/{ids[-1]}/test", admin)).status_code == 202
    # Of the last one nothing is wanted any more.
    assert (await api.send("DELETE", f"/webhooks/{ids[-1]}", admin)).status_code == 204
    kinds = webhooks.kinds(api.db, sender)
    runner = Runner(api.db, kinds)
    for claimed in await queue.claim(api.db, [(kind, 50) for kind in kinds]):
        await runner._work(claimed)
    outcomes = ("delivered", "failed", "gone", "cancelled")
    counted = {outcome: await grown("webhook_deliveries_total", outcome=outcome) for outcome in outcomes}
    assert counted == dict.fromkeys(outcomes, 1)


def test_what_a_request_costs_is_within_thirty_microseconds() -> None:
    pool = metrics.Pool("reads")

    def measured() -> None:
        metrics.request_began()
        metrics.pool_not_waited()
        pool.taken()
        pool.returned(idle=3)
        metrics.request_answered("GET", "/rooms/{room_id}/slots", 200, 0.004)

    assert min(timeit.repeat(measured, number=2_000, repeat=50)) / 2_000 < 30e-6


COUNTING = """
import sys
from pathlib import Path
from holdfast.core import metrics
metrics.share(Path(sys.argv[1]))
metrics.mail_sent("sent")
metrics.mail_sent("sent")
metrics.stream_opened("sse")
metrics.job_ran("mail", "completed", 0.2)
print("counted", flush=True)
sys.stdin.read()
"""
TELLING = """
import sys
from pathlib import Path
from holdfast.core import metrics
metrics.share(Path(sys.argv[1]))
metrics.mail_sent("sent")
metrics.job_ran("mail", "completed", 20)
print(metrics.exposition().decode())
"""


def test_one_process_tells_of_all_and_of_the_dead_only_what_they_counted(tmp_path: Path) -> None:
    def told() -> Scrape:
        ran = subprocess.run([sys.executable, "-c", TELLING, tmp_path], capture_output=True, text=True, check=True, timeout=60)
        return Scrape(ran.stdout)

    command = [sys.executable, "-c", COUNTING, tmp_path]
    counting = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in counting:
            assert process.stdout is not None
            assert process.stdout.readline() == b"counted\n"
        found = told()
        assert (found("mails_total", outcome="sent"), found("stream_clients", transport="sse")) == (5, 2)
        assert (found("job_seconds_count", kind="mail"), found("job_seconds_sum", kind="mail")) == (3, pytest.approx(20.4))
        assert [found("job_seconds_bucket", kind="mail", le=bound) for bound in ("0.1", "0.25", "30.0")] == [0, 2, 3]
        counting[0].kill()
        counting[0].wait(10)
        # The one that told is gone as well, and what it counted is kept: a count never falls.
        found = told()
        assert (found("mails_total", outcome="sent"), found("stream_clients", transport="sse")) == (6, 1)
    finally:
        for process in counting:
            process.kill()
            process.communicate()


LATE = """
import sys
from pathlib import Path
from holdfast.core import metrics
metrics.mail_sent("sent")
metrics.share(Path(sys.argv[1]))
"""


def test_who_has_counted_for_itself_is_told_that_it_cannot_share_any_more(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", LATE, tmp_path], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert "comes too late" in ran.stderr


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    environment = {**os.environ, "HOLDFAST_METRICS_DIR": str(tmp_path / "taken"), "HOLDFAST_PORT": "0"}
    command = [sys.executable, "-m", "holdfast.cli", "serve"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert ran.stderr.startswith("holdfast: HOLDFAST_METRICS_DIR: ")


LIMITED = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"


def test_a_disk_that_is_full_is_noticed_at_the_start_and_ends_nothing_later(tmp_path: Path) -> None:
    """The files are mapped: where their room is not theirs from the beginning, a full disk ends the process (SIGBUS)."""
    counting = (
        "import sys, pathlib; from holdfast.core import metrics; metrics.share(pathlib.Path(sys.argv[1])); metrics.refused('X')"
    )
    subprocess.run([sys.executable, "-c", counting, tmp_path], check=True, timeout=60)
    files = list(tmp_path.glob("*.db"))
    assert len(files) == 3
    for file in files:
        assert file.stat().st_size == 1 << 20
        assert file.stat().st_blocks * 512 >= 1 << 20
    # Files that may not grow so far fail like a full disk, and no signal ends us.
    full = f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {LIMITED}; {counting}"
    ran = subprocess.run([sys.executable, "-c", full, tmp_path], capture_output=True, text=True, check=False, timeout=60)
    assert "cannot be used (File too large)" in ran.stderr


def test_a_file_without_anything_in_it_is_no_count(tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").touch()
    ran = subprocess.run([sys.executable, "-c", TELLING, tmp_path], capture_output=True, text=True, check=True, timeout=60)
    assert Scrape(ran.stdout)("mails_total", outcome="sent") == 1


def test_a_folder_of_the_settings_is_shared_by_services_and_worker(own_database: str, tmp_path: Path) -> None:
    environment = {
        "HOLDFAST_DATABASE_URL": own_database,
        "HOLDFAST_METRICS_DIR": str(tmp_path / "shared"),
        "HOLDFAST_WORKER": "apart",
    }
    with served(environment, log=tmp_path / "one.log") as one, served(environment, log=tmp_path / "other.log") as other:
        command = [sys.executable, "-m", "holdfast.cli", "worker"]
        worker = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
        try:
            for _ in range(3):
                assert httpx.get(f"{one.url}/livez", timeout=10).status_code == 200
            found = Scrape(httpx.get(f"{other.url}/metrics", timeout=10).text)
            assert found("requests_total", method="GET", route="/livez", status="200") == 3
            while not (tmp_path / "shared" / f"counter_{worker.pid}.db").exists():
                assert worker.poll() is None
                one.wait_until_ready()
        finally:
            worker.terminate()
            assert worker.wait(20) == 0


LABELS = """
from holdfast.core import metrics
for number in range(5_000):
    metrics.refused(str(number))
print(metrics.exposition().decode().count("refusals_total{"), 'code="other"} 3000.0' in metrics.exposition().decode())
"""


def test_labels_that_somebody_forgot_to_bound_are_bounded() -> None:
    ran = subprocess.run([sys.executable, "-c", LABELS], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "2001 True\n"


def test_behind_one_port_every_scrape_tells_of_all_processes(own_database: str, tmp_path: Path) -> None:
    with served({"HOLDFAST_DATABASE_URL": own_database}, "--workers", "2", log=tmp_path / "service.log") as server:

        def fetched(path: str) -> str:
            # Each over a connection of its own, so that either process may get it.
            answer = httpx.get(server.url + path, timeout=10)
            assert answer.status_code == 200
            return answer.text

        def seen() -> float:
            return Scrape(fetched("/metrics"))("requests_total", method="GET", route="/livez", status="200")

        for _ in range(40):
            fetched("/livez")
        assert {seen() for _ in range(20)} == {40}
        assert server.process is not None
        folder = next(Path(f"/proc/{child}/environ") for child in children(server.process.pid)).read_bytes()
        name = next(one for one in folder.split(b"\0") if one.startswith(b"HOLDFAST_METRICS_DIR=")).partition(b"=")[2].decode()
        serving = [child for child in children(server.process.pid) if b"multiprocessing.spawn" in command_of(child)]
        assert len(serving) == 2
        counts = [Path(name) / f"counter_{child}.db" for child in serving]
        # A process that dies takes no count with it, only what it had.
        victim = serving[0]
        before = len(list(Path(name).glob("counter_*.db")))
        os.kill(victim, signal.SIGKILL)
        server.wait_until_ready()
        while len(list(Path(name).glob("counter_*.db"))) == before:
            server.wait_until_ready()
        for _ in range(10):
            fetched("/livez")
        assert {seen() for _ in range(10)} == {50}
        assert counts[0].exists()
        assert not (Path(name) / f"gauge_livesum_{victim}.db").exists()
        assert server.stop() == 0
        assert not Path(name).exists()


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
