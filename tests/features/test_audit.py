"""The audit log: who did what to what, when, from where; only ever added to, and with nothing secret in it."""

import base64
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import orjson
import pytest

from contracts.test_authorization_matrix import MATRIX, Stage
from holdfast import outbox
from holdfast.accounts.service import add_user
from holdfast.core.callers import SYSTEM, Caller
from holdfast.core.clock import instant_text
from holdfast.core.ids import new_id
from holdfast.web.state import State
from support.api import Api, Person, code
from support.everything import everything


async def audit(api: Api, admin: Person, **query: Any) -> list[dict[str, Any]]:
    answer = await api.get("/audit", admin, params={"pageSize": 100, **query})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["audit"]
    return found


async def told(api: Api, message_type: str, by: Caller, **message: Any) -> None:
    """A message as use cases write them."""
    async with api.db.transaction() as session:
        await outbox.enqueue(session, message_type, message.pop("subject_id", None) or new_id(), by=by, **message)


async def test_a_change_says_who_did_what_to_what_when_and_from_where(api: Api, admin: Person, user: Person) -> None:
    (slot, *_) = await api.slots(user, await api.room(admin))
    made = await api.book(user, slot, headers={"X-Request-ID": "request-of-mine"})
    booking = made.json()["booking"]
    before = datetime.now(UTC)
    cancelled = await api.post(f"/bookings/{booking['id']}/cancel", user)
    last, first = await audit(api, admin, subjectId=booking["id"])
    assert set(first) == {
        "id",
        "number",
        "type",
        "subjectId",
        "occurredAt",
        "actor",
        "requestId",
        "address",
        "before",
        "after",
    }
    assert (first["type"], first["subjectId"], first["requestId"]) == ("booking.created", booking["id"], "request-of-mine")
    assert first["actor"] == {"kind": "user", "userId": str(user.id), "role": "user", "apiKeyId": None}
    assert first["address"] == "127.0.0.1"
    assert (first["before"], first["after"]["slotId"]) == (None, slot["id"])
    assert (last["type"], last["requestId"]) == ("booking.cancelled", cancelled.headers["x-request-id"])
    assert (last["before"]["status"], last["after"]["status"]) == ("active", "cancelled")
    assert datetime.fromisoformat(last["occurredAt"]) >= before
    assert UUID(last["id"])


async def test_the_front_desk_is_told_from_a_user_and_an_admins_own_work(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    at_the_desk = await api.post(f"/users/{user.id}/bookings", admin, json={"slotId": slots[0]["id"]})
    own = await api.booked(user, slots[1])
    assert (await api.send("DELETE", f"/bookings/{own['id']}", admin)).status_code == 200
    kinds = {(one["type"], one["subjectId"]): one["actor"]["kind"] for one in await audit(api, admin)}
    assert kinds["booking.created", at_the_desk.json()["booking"]["id"]] == "frontDesk"
    assert kinds["booking.created", own["id"]] == "user"
    assert kinds["booking.cancelled", own["id"]] == "frontDesk"
    assert kinds["room.created", room["id"]] == "user"


async def test_the_service_itself_strangers_and_keys_are_actors_too(api: Api, state: State, admin: Person, user: Person) -> None:
    await add_user(api.db, state.passwords, email="made@example.com", password="x", role="admin", name=None, by=SYSTEM)
    registered = await api.post("/register", json={"email": "new@example.com", "password": "x", "role": "user"})
    assert registered.status_code == 201
    key = new_id()
    await told(api, "room.updated", Caller(user.id, "user", key_id=key))
    with_key, anyone, system = await audit(api, admin)
    assert with_key["actor"] == {"kind": "apiKey", "userId": str(user.id), "role": "user", "apiKeyId": str(key)}
    assert anyone["actor"] == {"kind": "anyone", "userId": None, "role": "anyone", "apiKeyId": None}
    assert system["actor"] == {"kind": "system", "userId": None, "role": None, "apiKeyId": None}
    assert await audit(api, admin, apiKeyId=str(key)) == [with_key]


async def test_every_filter_leaves_what_fits_newest_first(api: Api, admin: Person, user: Person) -> None:
    """Against the same rows sorted out in Python: each filter by itself, and several at once."""
    key, subjects = new_id(), [new_id(), new_id()]
    for number in range(40):
        by = [
            Caller(user.id, "user", request_id=f"r{number % 3}"),
            Caller(admin.id, "admin", request_id=None),
            Caller(user.id, "user", key_id=key, request_id=f"r{number % 3}"),
        ][number % 3]
        message_type = ["booking.created", "booking.cancelled", "hold.created", "bookings.x"][number % 4]
        await told(api, message_type, by, subject_id=subjects[number % 2], after={"n": number})
    whole = await audit(api, admin)
    assert [one["after"]["n"] for one in whole] == list(reversed(range(40)))
    since, until = whole[30]["occurredAt"], whole[10]["occurredAt"]
    filters: dict[str, tuple[Any, Any]] = {
        "type": (["booking."], lambda one: one["type"].startswith("booking.")),
        "subjectId": (str(subjects[0]), lambda one: one["subjectId"] == str(subjects[0])),
        "actorId": (str(user.id), lambda one: one["actor"]["userId"] == str(user.id)),
        "apiKeyId": (str(key), lambda one: one["actor"]["apiKeyId"] == str(key)),
        "requestId": ("r1", lambda one: one["requestId"] == "r1"),
        "from": (since, lambda one: one["occurredAt"] >= since),
        "to": (until, lambda one: one["occurredAt"] < until),
    }
    names = list(filters)
    for chosen in [[name] for name in names] + [names[:2], names[::3], ["from", "to"], ["type", "from"], names]:
        query = {name: filters[name][0] for name in chosen}
        expected = [one for one in whole if all(filters[name][1](one) for name in chosen)]
        assert await audit(api, admin, **query) == expected, chosen
        paged = await api.get("/audit", admin, params={**query, "pageSize": 3, "page": 2})
        assert paged.json()["audit"] == expected[3:6], chosen
        assert paged.json()["pagination"] == {"page": 2, "pageSize": 3, "total": len(expected)}
    assert [one["type"] for one in await audit(api, admin, type=["bookings.x", "hold."])][:2] == ["bookings.x", "hold.created"]
    assert await audit(api, admin, type="nothing.happened") == []
    assert await audit(api, admin, type="booking") == []
    assert await audit(api, admin, subjectId=str(new_id())) == []


async def test_pages_and_a_walk_are_the_same_list(api: Api, admin: Person) -> None:
    for _ in range(6):
        await api.room(admin)
    whole = await audit(api, admin)
    first = await api.get("/audit", admin, params={"pageSize": 5})
    assert 'rel="next"' in first.headers["link"]
    assert first.json()["audit"] == whole[:5]
    assert (await api.get("/audit", admin, params={"page": 99})).json()["audit"] == []
    assert (await api.get("/audit", admin, params={"page": (1 << 53) - 1})).status_code == 200
    for query in ({}, {"type": "room."}, {"actorId": str(admin.id)}):
        expected = [one for one in whole if "type" not in query or one["type"] == "room.created"]
        found, cursor = [], ""
        while cursor is not None:
            answer = await api.get("/audit", admin, params={**query, "pageSize": 2, "cursor": cursor})
            found += answer.json()["audit"]
            cursor = answer.json()["nextCursor"]
            # What happens meanwhile is newer: it moves nothing.
            await told(api, "room.created", Caller(admin.id, "admin"))
        assert found[-len(expected) :] == expected
        assert len({one["id"] for one in found}) == len(found)
        whole = await audit(api, admin)
        await api.db.fetch("SELECT 1")


@pytest.mark.parametrize(
    "query",
    [
        {"subjectId": "x"},
        {"actorId": ""},
        {"apiKeyId": "hf_abc"},
        {"from": "2026-11-20"},
        {"to": "tomorrow"},
        {"type": ""},
        {"type": "x" * 101},
        {"type": "\x00"},
        {"requestId": ""},
        {"requestId": "\x00"},
        {"page": 0},
        {"pageSize": 101},
        {"cursor": "x"},
        {"cursor": "YWZ0ZXI6MQ"},
        {"cursor": "\x00"},
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(api: Api, admin: Person, query: dict[str, Any]) -> None:
    refused = await api.get("/audit", admin, params=query)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST"), refused.text


async def test_the_audit_log_is_for_admins(api: Api, user: Person) -> None:
    assert (await api.get("/audit", user)).status_code == 403
    assert (await api.get("/audit")).status_code == 401


# Append-only


COLUMNS = {
    "id": "gen_random_uuid()",
    "type": "'nothing.happened'",
    "subject_id": "gen_random_uuid()",
    "actor_id": "NULL",
    "actor_role": "'anyone'",
    "actor_key_id": "gen_random_uuid()",
    "request_id": "'another'",
    "address": "'192.0.2.1'",
    "before": "'{}'",
    "after": "'{}'",
    "trace": "'x'",
    "occurred_at": "now() - interval '1 day'",
}


async def test_there_are_no_other_columns_than_those_guarded(api: Api) -> None:
    rows = await api.db.fetch("SELECT column_name FROM information_schema.columns WHERE table_name = 'outbox'")
    assert {row["column_name"] for row in rows} == set(COLUMNS) | {"number"}


@pytest.mark.parametrize("column", COLUMNS)
async def test_the_database_refuses_to_rewrite_history(api: Api, admin: Person, column: str) -> None:
    await api.room(admin)
    before = await api.db.fetch("SELECT * FROM outbox ORDER BY id")
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await api.db.fetch(f"UPDATE outbox SET {column} = {COLUMNS[column]}")
    assert await api.db.fetch("SELECT * FROM outbox ORDER BY id") == before


async def test_the_database_refuses_to_forget_history(api: Api, admin: Person) -> None:
    await api.room(admin)
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await api.db.fetch("DELETE FROM outbox")
    # A number is given once, by the relay, and never again.
    assert await outbox.relay(api.db, ()) == 2
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await api.db.fetch("UPDATE outbox SET number = number + 100")
    assert [one["number"] for one in await audit(api, admin)] == [2, 1]


# Every change is in it, and nothing secret

#: What changes nothing that anybody else could see: log-ins and their ends, questions, and what is out of date by itself.
NO_CHANGE = {
    "/dummyLogin",
    "/login",
    "/auth/refresh",
    "/auth/logout",
    "/auth/ticket",
    "/bookings/series/preview",
    # A message is sent once more, which its delivery log tells.
    "/webhooks/{webhook_id}/test",
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
}


def changing() -> list[tuple[str, str]]:
    return [one for one in MATRIX if one[0] != "GET" and one[1] not in NO_CHANGE]


@pytest.mark.parametrize(("method", "path"), changing())
async def test_whoever_may_change_something_is_in_the_log_for_it(method: str, path: str, api: Api) -> None:
    """Each operation that changes something, by whoever may: the log has a row with the id of that very request."""
    row = MATRIX[method, path]
    kind = next((kind for kind in ("user", "other", "admin") if 200 <= getattr(row, kind) < 300), None)
    if kind is None:
        pytest.skip("nobody may, as it is asked here")
    stage = Stage(api, await api.person(), await api.person(), await api.admin())
    address, request = await row.prepare(stage)
    who: Person = getattr(stage, kind)
    answer = await api.send(method, address, who, **request)
    assert 200 <= answer.status_code < 300, answer.text
    found = await audit(
        api, stage.admin if path != "/users/{user_id}" else await api.admin(), requestId=answer.headers["x-request-id"]
    )
    assert found, f"{method} {path} left nothing in the audit log"
    if not row.open_to_all:
        assert {one["actor"]["userId"] for one in found} == {str(who.id)}


#: But not how long one is good, as in `previousSecretUntil`.
SECRET_NAME = re.compile(r"^(?!.*Until$).*(password|secret|hash|token|ticket|cookie|authorization)", re.IGNORECASE)
CANARY = "canary-in-the-coal-mine"


class Listener:
    """Hears every answer of the service, and keeps what secrets there are in it."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()

    async def __call__(self, response: httpx.Response) -> None:
        await response.aread()
        if response.headers.get("content-type", "").startswith("application/json"):
            self._look(response.json(), "")

    def _look(self, value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                self._look(inner, key)
        elif isinstance(value, list):
            for inner in value:
                self._look(inner, name)
        elif isinstance(value, str) and SECRET_NAME.search(name) and len(value) >= 16:
            self.secrets.add(value)


@pytest.fixture
async def listener(client: httpx.AsyncClient) -> AsyncIterator[Listener]:
    made = Listener()
    client.event_hooks["response"].append(made)
    yield made
    client.event_hooks["response"].remove(made)


async def walk_through_credentials(api: Api, number: int) -> None:
    """An account's life: each password is a canary."""
    account = {"email": f"canary-{number}@example.com", "password": f"{CANARY}-first"}
    assert (await api.post("/register", json=account | {"role": "user"})).status_code == 201
    pair = (await api.post("/login", json=account)).json()
    pair = (await api.post("/auth/refresh", json={"refreshToken": pair["refreshToken"]})).json()
    headers = {"Authorization": f"Bearer {pair['token']}"}
    body = {"currentPassword": account["password"], "newPassword": f"{CANARY}-second"}
    changed = await api.send("PUT", "/users/me/password", headers=headers, json=body)
    assert changed.status_code in {200, 204}, changed.text
    renamed = await api.send("PATCH", "/users/me", headers=headers, json={"name": "Renamed", "password": f"{CANARY}-third"})
    assert renamed.status_code == 200
    assert (await api.post("/login", json=account)).status_code == 401
    again = (await api.post("/login", json={**account, "password": f"{CANARY}-second"})).json()
    headers = {"Authorization": f"Bearer {again['token']}"}
    # These come and go with other features; whatever secret they answer, the listener has heard.
    await api.post("/auth/password-reset", json={"email": account["email"]})
    await api.send("PUT", "/auth/password-reset", json={"token": f"{CANARY}-token", "newPassword": f"{CANARY}-fourth"})
    await api.post("/api-keys", headers=headers, json={"name": "Key"})
    await api.post("/auth/ticket", headers=headers)
    await api.post("/calendar-feeds", headers=headers, json={})
    out = {"refreshToken": again["refreshToken"]}
    assert (await api.post("/auth/logout", headers=headers, json=out)).status_code == 204


async def stored_secrets(api: Api) -> Iterator[str]:
    """What the database keeps of secrets, as text and in the spellings that bytes have."""
    found: list[str] = []
    columns = await api.db.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND column_name ~ 'password|secret|hash|token' AND data_type IN ('text', 'bytea')"
    )
    assert ("users", "password_hash") in {tuple(row) for row in columns}
    for table, column in columns:
        for (value,) in await api.db.fetch(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"):
            if isinstance(value, bytes):
                found += [value.hex(), base64.b64encode(value).decode(), base64.urlsafe_b64encode(value).decode().rstrip("=")]
            else:
                found.append(value)
    return iter(found)


def names_in(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from names_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names_in(inner)


async def test_nothing_secret_is_in_the_log_whatever_is_done(api: Api, admin: Person, listener: Listener) -> None:
    """Every operation by everybody who may be somebody, with canaries for passwords: none is in any row, nor is what they
    become. A hold's token is its id, and opens nothing to anybody but its owner: of all tokens it alone is in the log."""
    await walk_through_credentials(api, 1)
    await everything(api, admin)
    for row in MATRIX.values():
        if row is MATRIX["GET", "/stream"]:
            # Its answer has no end, and it changes nothing.
            continue
        for kind in ("user", "other", "admin"):
            stage = Stage(api, await api.person(), await api.person(), await api.admin())
            address, request = await row.prepare(stage)
            response = await api.send("GET" if row is None else _method_of(row), address, getattr(stage, kind), **request)
            assert response.status_code < 500
            listener.secrets.add(stage.user.token)
            listener.secrets.add(stage.admin.token)
    await walk_through_credentials(api, 2)
    rows = await api.db.fetch("SELECT * FROM outbox")
    holds = {str(row["id"]) for row in await api.db.fetch("SELECT id FROM holds")}
    # A deleted webhook's secret is wiped.
    secrets = (listener.secrets | set(await stored_secrets(api)) | {CANARY, admin.token}) - holds - {""}
    assert len(rows) > 300
    assert len(secrets) > 50
    seen_types = set()
    for row in rows:
        seen_types.add(row["type"])
        text = " ".join(str(value) for value in row.values())
        for secret in secrets:
            assert secret not in text, row["type"]
        for shape in (row["before"], row["after"]):
            for name, value in names_in(orjson.loads(shape) if shape else None):
                assert not SECRET_NAME.search(name) or value is None or value in holds, (row["type"], name)
    assert {"user.created", "user.password_changed", "booking.created", "hold.created", "host.created"} <= seen_types


def _method_of(row: Any) -> str:
    return next(method for (method, _), one in MATRIX.items() if one is row)


async def test_a_secret_in_the_log_would_be_found(api: Api, admin: Person, listener: Listener) -> None:
    """The control: what the service answered under such a name, and what it keeps, is what is looked for."""
    await walk_through_credentials(api, 1)
    account = {"email": "canary-1@example.com", "password": f"{CANARY}-second"}
    pair = (await api.post("/login", json=account)).json()
    assert {pair["token"], pair["refreshToken"]} <= listener.secrets
    hashes = [
        row["password_hash"] for row in await api.db.fetch("SELECT password_hash FROM users WHERE password_hash IS NOT NULL")
    ]
    assert set(hashes) <= set(await stored_secrets(api))


async def test_the_log_is_read_by_its_indexes(api: Api, admin: Person) -> None:
    """With each filter that names somebody or something, and without any: never by reading all there ever was."""
    await api.db.fetch(
        "INSERT INTO outbox (id, type, subject_id, actor_id, actor_role, request_id, occurred_at) "
        "SELECT gen_random_uuid(), CASE WHEN n = 7 THEN 'rare.changed' ELSE 'booking.created' END, gen_random_uuid(), "
        "gen_random_uuid(), 'user', gen_random_uuid()::text, now() - n * interval '1 second' FROM generate_series(1, 20000) n"
    )
    await api.db.fetch("ANALYZE outbox")
    (row,) = await api.db.fetch("SELECT * FROM outbox WHERE type = 'rare.changed'")
    queries: list[dict[str, Any]] = [
        {},
        {"type": "rare."},
        {"from": instant_text(datetime.now(UTC) - timedelta(seconds=5))},
        {"subjectId": str(row["subject_id"])},
        {"actorId": str(row["actor_id"])},
        {"requestId": row["request_id"]},
        {"apiKeyId": str(uuid4())},
    ]

    async def read_in_sequence() -> int:
        await api.db.fetch("SELECT pg_stat_force_next_flush()")
        found = await api.db.fetch("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'outbox'")
        return int(found[0][0])

    for query in queries:
        added = set()
        # Other connections tell of what they did before when they like; what we read ourselves would be told of each time.
        for _ in range(3):
            before = await read_in_sequence()
            answer = await api.get("/audit", admin, params={**query, "cursor": ""})
            assert answer.status_code == 200
            added.add(await read_in_sequence() - before)
        assert 0 in added, query
