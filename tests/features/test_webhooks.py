"""Webhooks: what admins do with them, and that messages come signed, at least once, and of one booking in order."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from conftest import make_settings
from holdfast import outbox
from holdfast.adapters.webhooks import FakeSender, HttpSender, Reply, WebhookSender, WebhookUnavailable
from holdfast.core.callers import SYSTEM
from holdfast.core.ids import new_id
from holdfast.db.database import Database
from holdfast.jobs import Job, Later, Runner
from holdfast.main import build_app, build_state
from holdfast.webhooks import queries, service
from holdfast.webhooks.rules import Outcome, Result, Retries
from holdfast.webhooks.service import delivering, disabling, tidying
from support.api import Api, Person, code
from support.sinks import Behaviour, Delivered, accepts, answers, cuts, floods, hangs, sink

PATIENT = Retries((timedelta(milliseconds=10),) * 200, timedelta(hours=1))
URL = "https://hooks.example.com/holdfast"
BOOKINGS = ["booking.created", "booking.updated", "booking.rescheduled", "booking.cancelled"]


@pytest.fixture(scope="module")
async def app(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The application, with webhooks to loopback allowed."""
    state = build_state(make_settings(database_url, webhook_loopback=True))
    transport = httpx.ASGITransport(build_app(state))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as made:
        yield made
    state.passwords.close()
    await state.db.close()


@pytest.fixture
async def local(api: Api, app: httpx.AsyncClient) -> Api:
    """The same empty database, through the application that allows loopback."""
    return Api(app, api.db, api.tokens)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """The worker's connections."""
    made = Database(database_url, pool_size=16)
    yield made
    await made.close()


async def relayed(db: Database) -> None:
    """Hand on all that is committed."""
    while await outbox.relay(db, [service.follow]):
        pass


@asynccontextmanager
async def working(
    db: Database, sender: WebhookSender | None = None, *, retries: Retries = PATIENT, workers: int = 1
) -> AsyncIterator[None]:
    """A relay, and workers that send, until the block ends."""
    chosen = sender if sender is not None else HttpSender(loopback=True, deadline_seconds=1.0)
    runners = [Runner(db, service.kinds(db, chosen, retries=retries)) for _ in range(workers)]

    async def relay() -> None:
        while True:
            await outbox.relay(db, [service.follow])
            for runner in runners:
                runner.wake()
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(relay()), *(asyncio.create_task(runner.run()) for runner in runners)]
    try:
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await chosen.close()


async def hooked(api: Api, admin: Person, url: str, types: Sequence[str] = (), **fields: Any) -> tuple[str, str]:
    """A webhook's id and secret."""
    made = await api.post("/webhooks", admin, json={"url": url, "types": list(types), **fields})
    assert made.status_code == 201, made.text
    return made.json()["webhook"]["id"], made.json()["secret"]


async def deliveries(api: Api, admin: Person, webhook: str, **params: Any) -> list[dict[str, Any]]:
    listed = await api.get(f"/webhooks/{webhook}/deliveries", admin, params={"pageSize": 100, **params})
    assert listed.status_code == 200, listed.text
    found: list[dict[str, Any]] = listed.json()["deliveries"]
    return found


async def until(api: Api, statement: str, seconds: float = 20.0) -> None:
    """Return when the statement finds something."""
    async with asyncio.timeout(seconds):
        while True:
            if await api.db.fetch(statement):
                return
            await asyncio.sleep(0.01)


async def ended(api: Api, admin: Person, webhook: str, count: int, seconds: float = 40.0) -> list[dict[str, Any]]:
    """The deliveries, as soon as there are so many and none is pending."""
    async with asyncio.timeout(seconds):
        while True:
            rows = await api.db.fetch("SELECT status FROM webhook_deliveries WHERE webhook_id = $1", UUID(webhook))
            if len(rows) >= count and all(row["status"] != "pending" for row in rows):
                return await deliveries(api, admin, webhook)
            await asyncio.sleep(0.02)


async def said(api: Api, *, subject: UUID, titles: Sequence[str]) -> None:
    """Messages about one booking, as the booking's use cases write them."""
    db: Database = api.db
    async with db.transaction() as session:
        for place, title in enumerate(titles):
            shape = {
                "id": str(subject),
                "kind": "event",
                "eventId": str(subject),
                "seats": ["A-1"],
                "slotIds": [],
                "title": title,
            }
            type_ = "booking.updated" if place else "booking.created"
            before = {"before": shape} if place else {}
            await outbox.enqueue(session, type_, subject, by=SYSTEM, after=shape, **before)


def titles_by_booking(requests: Sequence[Delivered]) -> dict[str, list[str]]:
    """The titles of each booking in the order in which they first arrived."""
    found: dict[str, list[str]] = defaultdict(list)
    seen = set()
    for one in requests:
        if one.id not in seen:
            seen.add(one.id)
            found[one.json["data"]["booking"]["id"]].append(one.json["data"]["booking"]["title"])
    return found


# What admins do.


async def test_a_secret_is_shown_at_creation_and_rotation_and_nowhere_else(api: Api, admin: Person) -> None:
    made = await api.post("/webhooks", admin, json={"url": URL, "types": ["booking.created"], "description": "Doors"})
    assert made.status_code == 201, made.text
    webhook, secret = made.json()["webhook"], made.json()["secret"]
    assert secret.startswith("whsec_")
    assert made.headers["location"] == f"/webhooks/{webhook['id']}"
    assert webhook | {"id": 0, "createdAt": 0} == {
        "id": 0,
        "url": URL,
        "types": ["booking.created"],
        "description": "Doors",
        "enabled": True,
        "disabledReason": None,
        "failingSince": None,
        "previousSecretUntil": None,
        "createdAt": 0,
    }
    path = f"/webhooks/{webhook['id']}"
    rotated = await api.post(f"{path}/rotate-secret", admin)
    assert rotated.status_code == 200
    newer = rotated.json()["secret"]
    assert newer != secret
    assert rotated.json()["webhook"]["previousSecretUntil"] is not None
    changed = await api.send("PATCH", path, admin, json={"description": None})
    shown = [await api.get(path, admin), await api.get("/webhooks", admin), changed]
    shown.append(await api.send("DELETE", path, admin))
    kept = await api.db.fetch("SELECT type, before::text, after::text FROM outbox WHERE subject_id = $1", UUID(webhook["id"]))
    assert [row["type"] for row in kept] == ["webhook.created", "webhook.rotated", "webhook.updated", "webhook.deleted"]
    for text in [answer.text for answer in shown] + [f"{row['before']}{row['after']}" for row in kept]:
        assert "whsec_" not in text
        assert secret[6:20] not in text


async def test_an_idempotency_key_is_ignored_where_secrets_are_made(api: Api, admin: Person) -> None:
    headers = {"Idempotency-Key": "the same"}
    answers_ = [await api.post("/webhooks", admin, json={"url": URL}, headers=headers) for _ in range(2)]
    assert [one.status_code for one in answers_] == [201, 201]
    assert len({one.json()["secret"] for one in answers_}) == 2
    path = f"/webhooks/{answers_[0].json()['webhook']['id']}/rotate-secret"
    rotated = [await api.post(path, admin, headers=headers) for _ in range(2)]
    assert len({one.json()["secret"] for one in rotated}) == 2
    assert await api.db.fetch("SELECT 1 FROM idempotency_keys") == []


async def test_other_changes_are_replayed_by_key(api: Api, admin: Person) -> None:
    webhook, _ = await hooked(api, admin, URL)
    headers = {"Idempotency-Key": "once"}
    first = await api.post(f"/webhooks/{webhook}/test", admin, headers=headers)
    again = await api.post(f"/webhooks/{webhook}/test", admin, headers=headers)
    assert (first.status_code, again.content) == (202, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert len(await deliveries(api, admin, webhook)) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": 7},
        {"url": "http://hooks.example.com/"},
        {"url": "https://127.0.0.1/"},
        {"url": "https://2130706433/"},
        {"url": "https://[::ffff:10.0.0.1]/"},
        {"url": "https://me:secret@hooks.example.com/"},
        {"url": URL, "types": ["booking.exploded"]},
        {"url": URL, "types": "booking.created"},
        {"url": URL, "types": [None]},
        {"url": URL, "enabled": "yes"},
        {"url": URL, "description": "x" * 501},
    ],
)
async def test_a_bad_webhook_is_refused_at_creation_and_change(api: Api, admin: Person, body: dict[str, Any]) -> None:
    refused = await api.post("/webhooks", admin, json=body)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")
    assert "secret@" not in refused.text
    if body:
        webhook, _ = await hooked(api, admin, URL)
        assert (await api.send("PATCH", f"/webhooks/{webhook}", admin, json=body)).status_code == 400
    for field in ("url", "enabled"):
        webhook, _ = await hooked(api, admin, URL)
        assert (await api.send("PATCH", f"/webhooks/{webhook}", admin, json={field: None})).status_code == 400


async def test_unknown_types_are_answered_with_those_that_there_are(api: Api, admin: Person) -> None:
    refused = await api.post("/webhooks", admin, json={"url": URL, "types": ["nonsense"]})
    assert "booking.reminder" in refused.json()["error"]["details"]["types"]


async def test_changes_honour_if_match_and_lists_come_newest_first(api: Api, admin: Person) -> None:
    first, _ = await hooked(api, admin, URL)
    second, _ = await hooked(api, admin, URL, ["slot.taken"])
    listed = await api.get("/webhooks", admin, params={"pageSize": 1})
    assert [one["id"] for one in listed.json()["webhooks"]] == [second]
    assert listed.json()["pagination"] == {"page": 1, "pageSize": 1, "total": 2}
    shown = await api.get(f"/webhooks/{first}", admin)
    tag = shown.headers["etag"]
    assert (await api.get(f"/webhooks/{first}", admin, headers={"If-None-Match": tag})).status_code == 304
    body = {"types": ["slot.freed", "slot.freed"], "enabled": False}
    changed = await api.send("PATCH", f"/webhooks/{first}", admin, json=body, headers={"If-Match": tag})
    assert changed.json()["webhook"]["types"] == ["slot.freed"]
    for method, json in (("PATCH", {"description": "late"}), ("DELETE", None)):
        late = await api.send(method, f"/webhooks/{first}", admin, json=json, headers={"If-Match": tag})
        assert (late.status_code, code(late)) == (412, "CHANGED_MEANWHILE")
    nothing = await api.send("PATCH", f"/webhooks/{first}", admin, json={})
    assert nothing.headers["etag"] == changed.headers["etag"]
    assert (
        await api.send("DELETE", f"/webhooks/{first}", admin, headers={"If-Match": changed.headers["etag"]})
    ).status_code == 204
    assert code(await api.get(f"/webhooks/{first}", admin)) == "WEBHOOK_NOT_FOUND"
    assert [one["id"] for one in (await api.get("/webhooks", admin)).json()["webhooks"]] == [second]


async def test_what_is_not_there_is_404_and_only_admins_come_in(api: Api, admin: Person, user: Person) -> None:
    webhook, _ = await hooked(api, admin, URL)
    other, _ = await hooked(api, admin, URL)
    delivery = (await api.post(f"/webhooks/{other}/test", admin)).json()["delivery"]["id"]
    nobody = str(uuid4())
    routes = [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/rotate-secret"),
        ("POST", "/test"),
        ("GET", "/deliveries"),
        ("GET", f"/deliveries/{delivery}"),
        ("POST", f"/deliveries/{delivery}/redeliver"),
    ]
    for method, rest in routes:
        json = {} if method == "PATCH" else None
        assert code(await api.send(method, f"/webhooks/{nobody}{rest}", admin, json=json)) == "WEBHOOK_NOT_FOUND"
        assert (await api.send(method, f"/webhooks/{nobody}{rest}", user, json=json)).status_code == 403
        assert (await api.send(method, f"/webhooks/{nobody}{rest}", json=json)).status_code == 401
        assert (await api.send(method, f"/webhooks/7{rest}", admin, json=json)).status_code == 400
    for method, rest in routes[-2:]:
        assert code(await api.send(method, f"/webhooks/{webhook}{rest}", admin)) == "DELIVERY_NOT_FOUND"
    assert (await api.get(f"/webhooks/{webhook}/deliveries", admin, params={"status": "lost"})).status_code == 400


async def test_there_are_not_more_webhooks_than_the_relay_can_bear(
    api: Api, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.webhooks.rules.MAX_WEBHOOKS", 1)
    await hooked(api, admin, URL)
    refused = await api.post("/webhooks", admin, json={"url": URL})
    assert (refused.status_code, code(refused)) == (409, "TOO_MANY_WEBHOOKS")


# What follows a message.


async def test_a_booking_is_heard_of_signed_and_in_full(local: Api, admin: Person, user: Person, db: Database) -> None:
    async with sink() as here:
        webhook, secret = await hooked(local, admin, here.url, BOOKINGS)
        room = await local.room(admin)
        slots = await local.slots(user, room)
        booking = await local.booked(user, slots[0], title="Review")
        await local.send("PATCH", f"/bookings/{booking['id']}", user, json={"title": "Büro"})
        await local.post(f"/bookings/{booking['id']}/reschedule", user, json={"slotId": slots[3]["id"]})
        await local.post(f"/bookings/{booking['id']}/cancel", user)
        async with working(db):
            listed = await ended(local, admin, webhook, 4)
    assert [one.json["type"] for one in here.requests] == BOOKINGS
    assert [one.json["data"]["booking"]["title"] for one in here.requests] == ["Review", "Büro", "Büro", "Büro"]
    for one in here.requests:
        assert one.json["id"] == one.id
        assert set(one.json) == {"id", "type", "occurredAt", "data"}
        Verifier(secret).verify(one.body, one.headers)
    assert [one["type"] for one in listed] == BOOKINGS[::-1]
    newest = listed[0]
    assert (newest["status"], newest["attempts"], newest["responseStatus"], newest["error"]) == ("delivered", 1, 204, None)
    one = (await local.get(f"/webhooks/{webhook}/deliveries/{newest['id']}", admin)).json()["delivery"]
    assert one["body"] == here.requests[-1].json
    assert await deliveries(local, admin, webhook, status="failed") == []


def bad_in_turn(rng: random.Random) -> Behaviour:
    """Fails a third of the time, in all the ways there are; else it takes a moment."""
    redirects, much = answers(302, Location="http://127.0.0.1:1/"), answers(200, b"x" * 2**20)
    ways = [answers(500, b"no"), cuts, redirects, floods(503), answers(404)]

    async def behave(delivered: Delivered, writer: asyncio.StreamWriter) -> None:
        if rng.random() < 1 / 3:
            await rng.choice(ways)(delivered, writer)
            return
        await asyncio.sleep(rng.random() * 0.02)
        await (accepts if rng.random() < 0.8 else much)(delivered, writer)

    return behave


async def test_nothing_is_missing_and_each_booking_is_in_order_at_a_bad_sink(local: Api, admin: Person, db: Database) -> None:
    room = await local.room(admin)
    guests = await local.people(8)
    slots = await local.slots(guests[0], room)

    async def live(guest: Person, slot: dict[str, Any]) -> list[str]:
        booking = await local.booked(guest, slot, title="0")
        for title in "12345":
            changed = await local.send("PATCH", f"/bookings/{booking['id']}", guest, json={"title": title})
            assert changed.status_code == 200
        assert (await local.post(f"/bookings/{booking['id']}/cancel", guest)).status_code == 200
        return [booking["id"]]

    async with sink(bad_in_turn(random.Random(7))) as here, sink(hangs) as stuck:
        webhook, secret = await hooked(local, admin, here.url, BOOKINGS)
        await hooked(local, admin, stuck.url, BOOKINGS)
        async with working(db, workers=2):
            await asyncio.gather(*(live(guest, slot) for guest, slot in zip(guests, slots, strict=False)))
            listed = await ended(local, admin, webhook, 8 * 7)
    assert {one["status"] for one in listed} == {"delivered"}
    heard = titles_by_booking(here.requests)
    assert len(heard) == 8
    for titles in heard.values():
        assert titles == ["0", "1", "2", "3", "4", "5", "5"]
    bodies: dict[str, set[bytes]] = defaultdict(set)
    for one in here.requests:
        Verifier(secret).verify(one.body, one.headers)
        bodies[one.id].add(one.body)
    assert len(bodies) == 8 * 7
    assert all(len(same) == 1 for same in bodies.values())
    assert len(here.requests) > 8 * 7
    assert stuck.most_at_once <= 2 * delivering.WIDTH


async def test_control_without_the_look_at_earlier_ones_the_order_breaks(
    local: Api, admin: Person, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_arguments: object, **_named: object) -> bool:
        return False

    monkeypatch.setattr(queries, "earlier_is_pending", never)
    seen: set[str] = set()

    async def fails_the_first_once(delivered: Delivered, writer: asyncio.StreamWriter) -> None:
        title = delivered.json["data"]["booking"]["title"]
        bad = title == "0" and title not in seen
        seen.add(title)
        await (answers(500) if bad else accepts)(delivered, writer)

    async with sink(fails_the_first_once) as here:
        webhook, _ = await hooked(local, admin, here.url, BOOKINGS)
        await said(local, subject=new_id(), titles="0123456")
        async with working(db):
            await ended(local, admin, webhook, 7)
    titles = [one.json["data"]["booking"]["title"] for one in here.requests]
    assert len(titles) == 8
    assert titles[-1] == "0" or "0" in titles[titles.index("1") :]


async def test_a_booking_that_was_rolled_back_is_never_heard_of(local: Api, admin: Person, db: Database) -> None:
    async with sink() as here:
        webhook, _ = await hooked(local, admin, here.url)
        lost, kept = new_id(), new_id()
        with suppress(ZeroDivisionError):
            async with local.db.transaction() as session:
                await outbox.enqueue(session, "booking.created", lost, by=SYSTEM, after={"id": str(lost), "kind": "event"})
                raise ZeroDivisionError
        await said(local, subject=kept, titles="0")
        async with working(db):
            await ended(local, admin, webhook, 1)
    assert here.requests
    assert all(str(kept) in one.body.decode() and str(lost) not in one.body.decode() for one in here.requests)


async def test_a_webhook_gets_the_types_that_it_wants_and_nothing_while_it_is_disabled(
    local: Api, admin: Person, db: Database
) -> None:
    everything, _ = await hooked(local, admin, URL)
    updates, _ = await hooked(local, admin, URL, ["booking.updated"])
    off, _ = await hooked(local, admin, URL, enabled=False)
    await said(local, subject=new_id(), titles="01")
    await relayed(db)
    assert [len(await deliveries(local, admin, one)) for one in (everything, updates, off)] == [3, 1, 0]
    await local.send("PATCH", f"/webhooks/{everything}", admin, json={"enabled": False})
    await local.send("PATCH", f"/webhooks/{off}", admin, json={"enabled": True})
    assert {one["status"] for one in await deliveries(local, admin, everything)} == {"cancelled"}
    await said(local, subject=new_id(), titles="0")
    await relayed(db)
    assert [len(await deliveries(local, admin, one)) for one in (everything, updates, off)] == [3, 1, 2]


async def test_410_disables_the_webhook_with_a_notice_and_cancels_what_is_pending(
    local: Api, admin: Person, db: Database
) -> None:
    async with sink(answers(410)) as here:
        webhook, _ = await hooked(local, admin, here.url, ["booking.created", "booking.updated"])
        subject = new_id()
        await said(local, subject=subject, titles="0123")
        async with working(db):
            listed = await ended(local, admin, webhook, 4)
        assert len(here.requests) == 1
    assert [one["status"] for one in listed] == ["cancelled", "cancelled", "cancelled", "failed"]
    shown = (await local.get(f"/webhooks/{webhook}", admin)).json()["webhook"]
    assert (shown["enabled"], shown["disabledReason"]) == (False, "the endpoint answered 410 Gone")
    (notice,) = await local.db.fetch("SELECT after::text FROM outbox WHERE type = 'webhook.disabled'")
    assert orjson.loads(notice["after"]) == {"id": webhook, "url": here.url, "reason": shown["disabledReason"]}
    refused = await local.post(f"/webhooks/{webhook}/deliveries/{listed[0]['id']}/redeliver", admin)
    assert (refused.status_code, code(refused)) == (409, "WEBHOOK_DISABLED")
    enabled = await local.send("PATCH", f"/webhooks/{webhook}", admin, json={"enabled": True})
    assert (enabled.json()["webhook"]["disabledReason"], enabled.json()["webhook"]["failingSince"]) == (None, None)


async def test_a_delivery_that_fails_for_good_lets_the_next_of_its_booking_come(local: Api, admin: Person, db: Database) -> None:
    async def refuses_the_first(delivered: Delivered, writer: asyncio.StreamWriter) -> None:
        bad = delivered.json["data"]["booking"]["title"] == "0"
        await (answers(400, b"what is this?") if bad else accepts)(delivered, writer)

    async with sink(refuses_the_first) as here:
        webhook, _ = await hooked(local, admin, here.url, ["booking.created", "booking.updated"])
        await said(local, subject=new_id(), titles="012")
        async with working(db, retries=Retries((timedelta(milliseconds=5),) * 3, timedelta(hours=1))):
            listed = await ended(local, admin, webhook, 3)
    assert [(one["status"], one["attempts"]) for one in listed] == [("delivered", 1), ("delivered", 1), ("failed", 4)]
    assert listed[-1]["error"] == "answered 400: what is this?"
    assert [one.json["data"]["booking"]["title"] for one in here.requests] == ["0", "0", "0", "0", "1", "2"]
    shown = (await local.get(f"/webhooks/{webhook}", admin)).json()["webhook"]
    assert (shown["enabled"], shown["failingSince"]) == (True, None)


async def test_a_webhook_where_nothing_comes_through_for_too_long_is_disabled(local: Api, admin: Person, db: Database) -> None:
    async with sink(answers(500)) as here:
        webhook, _ = await hooked(local, admin, here.url)
        await said(local, subject=new_id(), titles="0")
        async with working(db, retries=Retries((timedelta(milliseconds=30),) * 10, timedelta(milliseconds=200))):
            await ended(local, admin, webhook, 2)
    shown = (await local.get(f"/webhooks/{webhook}", admin)).json()["webhook"]
    assert (shown["enabled"], shown["failingSince"] is None) == (False, False)
    assert shown["disabledReason"].startswith("nothing came through for")
    assert len(await local.db.fetch("SELECT 1 FROM outbox WHERE type = 'webhook.disabled'")) == 1


async def test_a_quiet_webhook_is_not_disabled_by_its_first_hiccup(local: Api, admin: Person, db: Database) -> None:
    """Its last delivery failed for good, long ago; the next one has three days of its own."""
    async with sink(answers(503)) as here:
        webhook, _ = await hooked(local, admin, here.url, ["booking.created"])
        await local.db.fetch("UPDATE webhooks SET failing_since = clock_timestamp() - interval '4 days'")
        await said(local, subject=new_id(), titles="0")
        async with working(db, retries=Retries((timedelta(milliseconds=20),) * 200, timedelta(days=3))):
            await here.heard(3)
            shown = (await local.get(f"/webhooks/{webhook}", admin)).json()["webhook"]
            assert (shown["enabled"], shown["disabledReason"]) == (True, None)
            here.behaviour = accepts
            (delivery,) = await ended(local, admin, webhook, 1)
    assert delivery["status"] == "delivered"
    assert (await local.get(f"/webhooks/{webhook}", admin)).json()["webhook"]["failingSince"] is None


async def test_of_several_rotations_every_secret_signs_on(local: Api, admin: Person, db: Database) -> None:
    """Who asks again as an answer was lost does not end the secret that the receiver knows."""
    async with sink() as here, working(db):
        webhook, first = await hooked(local, admin, here.url, ["booking.created"])
        rotated = [await local.post(f"/webhooks/{webhook}/rotate-secret", admin) for _ in range(6)]
        secrets = [first, *(one.json()["secret"] for one in rotated)]
        await said(local, subject=new_id(), titles="0")
        (heard,) = await here.heard(1)
    for secret in secrets[-5:]:
        Verifier(secret).verify(heard.body, heard.headers)
    # There is an end to it.
    assert len(heard.headers["webhook-signature"].split()) == 5


async def test_after_a_rotation_both_secrets_sign_until_the_day_is_over(local: Api, admin: Person, db: Database) -> None:
    async with sink() as here, working(db):
        webhook, old = await hooked(local, admin, here.url, ["booking.created"])
        new = (await local.post(f"/webhooks/{webhook}/rotate-secret", admin)).json()["secret"]
        await said(local, subject=new_id(), titles="0")
        (both,) = await here.heard(1)
        for secret in (old, new):
            Verifier(secret).verify(both.body, both.headers)
        await ended(local, admin, webhook, 1)
        await local.db.fetch("UPDATE webhooks SET previous_secret_until = clock_timestamp()")
        await said(local, subject=new_id(), titles="0")
        _, later = await here.heard(2)
    Verifier(new).verify(later.body, later.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(old).verify(later.body, later.headers)


async def test_a_test_is_sent_once_to_a_disabled_webhook_too_and_changes_nothing(local: Api, admin: Person, db: Database) -> None:
    async with sink(answers(410)) as here, working(db):
        webhook, secret = await hooked(local, admin, here.url, ["booking.created"])
        for _ in range(2):
            accepted = await local.post(f"/webhooks/{webhook}/test", admin)
            assert (accepted.status_code, accepted.json()["delivery"]["status"]) == (202, "pending")
            await ended(local, admin, webhook, 1)
            delivery = (await local.get(accepted.headers["location"], admin)).json()["delivery"]
            assert (delivery["type"], delivery["status"], delivery["attempts"]) == ("webhook.test", "failed", 1)
            await local.send("PATCH", f"/webhooks/{webhook}", admin, json={"enabled": False})
        assert len(here.requests) == 2
        Verifier(secret).verify(here.requests[0].body, here.requests[0].headers)
    assert (await local.get(f"/webhooks/{webhook}", admin)).json()["webhook"]["disabledReason"] is None


async def test_a_delivery_is_sent_again_with_the_same_id_and_body(local: Api, admin: Person, db: Database) -> None:
    async with sink(answers(500)) as here:
        webhook, _ = await hooked(local, admin, here.url, ["booking.created"])
        await said(local, subject=new_id(), titles="0")
        async with working(db, retries=Retries((), timedelta(hours=1))):
            (failed,) = await ended(local, admin, webhook, 1)
            assert failed["status"] == "failed"
            here.behaviour = accepts
            again = await local.post(f"/webhooks/{webhook}/deliveries/{failed['id']}/redeliver", admin)
            assert (again.status_code, again.json()["delivery"]["status"]) == (202, "pending")
            (delivered,) = await ended(local, admin, webhook, 1)
            assert (delivered["status"], delivered["attempts"]) == ("delivered", 2)
            await local.post(f"/webhooks/{webhook}/deliveries/{failed['id']}/redeliver", admin)
            await here.heard(3)
    assert len({(one.id, one.body) for one in here.requests}) == 1


async def test_a_pending_delivery_is_brought_forward_by_asking_again(local: Api, admin: Person, db: Database) -> None:
    async with sink(answers(500)) as here:
        webhook, _ = await hooked(local, admin, here.url, ["booking.created"])
        await said(local, subject=new_id(), titles="0")
        async with working(db, retries=Retries((timedelta(hours=5),), timedelta(hours=9))):
            await here.heard(1)
            await until(local, "SELECT 1 FROM webhook_deliveries WHERE response_status = 500")
            here.behaviour = accepts
            # As if the first attempt were longer ago than one may last.
            await local.db.fetch("UPDATE webhook_deliveries SET last_attempt_at = clock_timestamp() - interval '1 hour'")
            (waiting,) = await deliveries(local, admin, webhook)
            await local.post(f"/webhooks/{webhook}/deliveries/{waiting['id']}/redeliver", admin)
            (delivered,) = await ended(local, admin, webhook, 1)
    assert (delivered["status"], delivered["attempts"]) == ("delivered", 2)


async def test_retry_after_is_honoured(local: Api, admin: Person, db: Database) -> None:
    webhook, _ = await hooked(local, admin, URL, ["booking.created"])
    await said(local, subject=new_id(), titles="0")
    await relayed(db)
    job = await job_of(local, webhook)
    sender = FakeSender(lambda _parcel: Reply(503, retry_after=timedelta(minutes=20)))
    with pytest.raises(Later) as later:
        await delivering.deliver(db, sender, job, retries=PATIENT, lanes=service.Lanes())
    assert later.value.pause == timedelta(minutes=20)
    with pytest.raises(Later) as still:
        await delivering.deliver(db, sender, job, retries=PATIENT, lanes=service.Lanes())
    assert timedelta(minutes=19) < still.value.pause < timedelta(minutes=20)
    assert len(sender.sent) == 1


# Two workers, and what goes wrong between them.


async def job_of(api: Api, webhook: str, place: int = 0) -> Job:
    """The job of a webhook's delivery."""
    rows = await api.db.fetch("SELECT id FROM webhook_deliveries WHERE webhook_id = $1 ORDER BY number, id", UUID(webhook))
    payload = {"deliveryId": str(rows[place]["id"]), "webhookId": webhook}
    return Job(id=new_id(), kind="webhook", payload=payload, failures=0, trace=None, last=False)


async def test_a_worker_that_was_stopped_too_long_writes_nothing_over_anothers_result(
    local: Api, admin: Person, db: Database
) -> None:
    webhook, _ = await hooked(local, admin, URL, ["booking.created"])
    await said(local, subject=new_id(), titles="0")
    await relayed(db)
    delivery = UUID((await job_of(local, webhook)).payload["deliveryId"])
    stopped = await delivering.take(db, delivery)
    assert stopped is not None
    with pytest.raises(Later) as busy:
        await delivering.take(db, delivery)
    assert timedelta() < busy.value.pause <= timedelta(seconds=30)
    await local.db.fetch("UPDATE webhook_deliveries SET next_attempt_at = clock_timestamp()")
    other = await delivering.take(db, delivery)
    assert other is not None
    assert other.attempt == stopped.attempt + 1
    for late in (Result(Outcome.FAILED, 1, 500), Result(Outcome.GONE, 1, 410), Result(Outcome.DELIVERED, 1, 200)):
        assert await delivering.end(db, stopped, late, retries=PATIENT) is None
    (present,) = await deliveries(local, admin, webhook)
    assert (present["status"], present["responseStatus"]) == ("pending", None)
    assert (await local.get(f"/webhooks/{webhook}", admin)).json()["webhook"]["enabled"] is True
    await delivering.end(db, other, Result(Outcome.DELIVERED, 1, 204), retries=PATIENT)
    (present,) = await deliveries(local, admin, webhook)
    assert (present["status"], present["responseStatus"], present["attempts"]) == ("delivered", 204, 2)
    assert await delivering.take(db, delivery) is None


async def test_who_looks_while_the_one_before_is_ending_gets_its_turn(local: Api, admin: Person, db: Database) -> None:
    """The end of the first is parked before its commit; the second's look must wait for it, else nobody calls the second."""
    webhook, _ = await hooked(local, admin, URL, ["booking.created", "booking.updated"])
    await said(local, subject=new_id(), titles="01")
    await relayed(db)
    first, second = [UUID((await job_of(local, webhook, place)).payload["deliveryId"]) for place in range(2)]
    turn = await delivering.take(db, first)
    assert turn is not None
    async with local.db.transaction() as parked:
        assert await queries.record(
            parked, first, turn.attempt, status="delivered", response=204, milliseconds=1, error=None, failed=False, pause=None
        )
        rival = asyncio.create_task(delivering.take(db, second))
        await until(local, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'")
        assert not rival.done()
    taken = await rival
    assert taken is not None
    assert taken.delivery_id == second


async def test_who_waits_is_called_by_the_end_of_the_one_before_while_its_own_job_is_under_way(
    local: Api, admin: Person, db: Database
) -> None:
    webhook, _ = await hooked(local, admin, URL, ["booking.created", "booking.updated"])
    await said(local, subject=new_id(), titles="01")
    await relayed(db)
    first, second = [UUID((await job_of(local, webhook, place)).payload["deliveryId"]) for place in range(2)]
    # Both jobs are claimed; the second has looked and is about to end.
    await local.db.fetch("UPDATE jobs SET state = 'active', leased_until = clock_timestamp() + interval '1 hour'")
    assert await delivering.take(db, second) is None
    turn = await delivering.take(db, first)
    assert turn is not None
    await delivering.end(db, turn, Result(Outcome.DELIVERED, 1, 204), retries=PATIENT)
    (called,) = await local.db.fetch("SELECT payload::text FROM jobs WHERE state = 'waiting' AND kind = 'webhook'")
    assert orjson.loads(called["payload"])["deliveryId"] == str(second)


async def test_one_slow_endpoint_does_not_keep_the_others_waiting(local: Api, admin: Person, db: Database) -> None:
    async with sink(hangs) as slow, sink() as quick:
        await hooked(local, admin, slow.url, ["booking.created"])
        webhook, _ = await hooked(local, admin, quick.url, ["booking.created"])
        for _ in range(40):
            await said(local, subject=new_id(), titles="0")
        async with working(db, HttpSender(loopback=True, deadline_seconds=18.0)):
            await slow.heard(delivering.WIDTH)
            await ended(local, admin, webhook, 40, seconds=15)
            assert len(slow.requests) == slow.most_at_once == delivering.WIDTH
            slow.hang_up()


async def test_a_webhook_that_fails_is_tried_one_at_a_time() -> None:
    lanes, webhook = service.Lanes(width=3), new_id()
    assert [lanes.enter(webhook) for _ in range(3)] == [None, None, None]
    pauses = [lanes.enter(webhook) for _ in range(50)]
    assert all(pause is not None for pause in pauses)
    assert pauses == sorted(pauses, key=lambda pause: pause or timedelta())
    assert (pauses[-1] or timedelta()) <= timedelta(seconds=30)
    for _ in range(3):
        lanes.leave(webhook, Result(Outcome.FAILED, 10_000), 10.0)
    assert lanes.enter(webhook) is None
    assert lanes.enter(webhook) is not None
    lanes.leave(webhook, Result(Outcome.DELIVERED, 10), 0.01)
    assert [lanes.enter(webhook) for _ in range(3)] == [None, None, None]


async def test_many_who_wait_for_a_webhook_that_hangs_do_not_come_back_all_the_time() -> None:
    lanes, webhook = service.Lanes(), new_id()
    assert lanes.enter(webhook) is None
    lanes.leave(webhook, Result(Outcome.FAILED, 10_000), 10.0)
    assert lanes.enter(webhook) is None
    pauses = [lanes.enter(webhook) or timedelta() for _ in range(10_000)]
    assert pauses == sorted(pauses)
    assert max(Counter(pause // timedelta(seconds=1) for pause in pauses).values()) <= 52
    assert pauses[300] < timedelta(seconds=60)


async def test_a_sender_that_fails_in_any_way_is_a_failed_attempt(local: Api, admin: Person, db: Database) -> None:
    webhook, _ = await hooked(local, admin, URL, ["booking.created"])
    await said(local, subject=new_id(), titles="0")
    await relayed(db)

    def breaks(_parcel: object) -> Reply:
        raise WebhookUnavailable("could not connect")

    with pytest.raises(Later):
        await delivering.deliver(db, FakeSender(breaks), await job_of(local, webhook), retries=PATIENT, lanes=service.Lanes())
    (delivery,) = await deliveries(local, admin, webhook)
    assert (delivery["error"], delivery["responseStatus"]) == ("could not connect", None)
    assert (await local.get(f"/webhooks/{webhook}", admin)).json()["webhook"]["failingSince"] is not None


# Tidying.


async def test_a_delivery_whose_job_was_lost_is_found(local: Api, admin: Person, db: Database) -> None:
    async with sink() as here:
        webhook, _ = await hooked(local, admin, here.url, ["booking.created", "booking.updated"])
        for _ in range(3):
            await said(local, subject=new_id(), titles="01")
        await relayed(db)
        await local.db.fetch("DELETE FROM jobs")
        assert await tidying.find_lost(db) == 0
        await local.db.fetch("UPDATE webhook_deliveries SET created_at = clock_timestamp() - interval '10 minutes'")
        assert await tidying.find_lost(db) == 3
        async with working(db):
            await ended(local, admin, webhook, 6)
        assert await tidying.find_lost(db) == 0
    assert len(here.requests) == 6


async def test_old_deliveries_are_tidied_away_and_pending_ones_stay(local: Api, admin: Person, db: Database) -> None:
    webhook, _ = await hooked(local, admin, URL, ["booking.created"])
    for _ in range(3):
        await said(local, subject=new_id(), titles="0")
    await relayed(db)
    await local.db.fetch(
        "UPDATE webhook_deliveries SET status = 'delivered', ended_at = clock_timestamp() - interval '31 days' "
        "WHERE id IN (SELECT id FROM webhook_deliveries LIMIT 2)"
    )
    assert await tidying.tidy(db) == 2
    assert [one["status"] for one in await deliveries(local, admin, webhook)] == ["pending"]


async def test_a_deleted_webhook_goes_with_all_its_deliveries_however_many(
    local: Api, admin: Person, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disabling, "_AT_ONCE", 2)
    deleted, _ = await hooked(local, admin, URL, ["booking.created"])
    paused, _ = await hooked(local, admin, URL, ["booking.created"])
    for _ in range(5):
        await said(local, subject=new_id(), titles="0")
    await relayed(db)
    assert (await local.send("DELETE", f"/webhooks/{deleted}", admin)).status_code == 204
    await local.send("PATCH", f"/webhooks/{paused}", admin, json={"enabled": False})
    async with working(db):
        listed = await ended(local, admin, paused, 5)
        await until(local, "SELECT 1 WHERE NOT EXISTS (SELECT FROM webhooks WHERE deleted_at IS NOT NULL)")
    assert {one["status"] for one in listed} == {"cancelled"}
    assert await local.db.fetch("SELECT 1 FROM webhook_deliveries WHERE webhook_id = $1", UUID(deleted)) == []


async def test_no_webhook_no_work(local: Api, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr("holdfast.webhooks.service.following.derive", broken)
    await said(local, subject=new_id(), titles="0")
    await relayed(db)
    assert await local.db.fetch("SELECT 1 FROM webhook_deliveries") == []
