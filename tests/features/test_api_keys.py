"""API keys: what a program may with one, and that it never may more than its owner."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from holdfast.accounts import rules
from holdfast.web import api_keys
from holdfast.web.state import State
from support.api import Api, Person, code
from support.doors import door

ANY_ID = "019376a5-0000-7000-8000-000000000000"


async def made(api: Api, owner: Person, **fields: Any) -> dict[str, Any]:
    """A new key: `{apiKey, secret}`."""
    answer = await api.post("/api-keys", owner, json={"name": "Integration", **fields})
    assert answer.status_code == 201, answer.text
    pair: dict[str, Any] = answer.json()
    return pair


def with_key(pair: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['secret']}"}


async def use_noted() -> None:
    """Wait until what is noted beside the requests is written."""
    while api_keys._noting:
        await asyncio.gather(*api_keys._noting.values())


async def test_a_key_is_shown_once_and_listed_without_its_secret(api: Api, user: Person) -> None:
    answer = await api.post("/api-keys", user, json={"name": "CI", "expiresAt": "2999-01-01T00:00:00Z"})
    pair = answer.json()
    key = pair["apiKey"]
    assert pair["secret"].startswith("hf_")
    assert len(pair["secret"]) == 46
    assert answer.headers["location"] == f"/api-keys/{key['id']}"
    assert answer.headers["cache-control"] == "no-store"
    assert key | {"id": "", "createdAt": ""} == {
        "id": "",
        "name": "CI",
        "scopes": ["read", "write"],
        "createdAt": "",
        "expiresAt": "2999-01-01T00:00:00Z",
        "lastUsedAt": None,
    }
    listed = await api.get("/api-keys", user)
    assert listed.json() == {"apiKeys": [key]}
    assert (await api.get(f"/api-keys/{key['id']}", user)).json() == {"apiKey": key}
    assert pair["secret"] not in listed.text


async def test_only_the_hash_is_stored_and_no_message_carries_a_secret(api: Api, user: Person) -> None:
    pair = await made(api, user)
    assert (await api.send("DELETE", f"/api-keys/{pair['apiKey']['id']}", user)).status_code == 204
    rows = await api.db.fetch("SELECT type, subject_id, actor_id, before::text, after::text FROM outbox ORDER BY occurred_at")
    assert [row["type"] for row in rows] == ["api_key.created", "api_key.deleted"]
    for row in rows:
        assert (str(row["subject_id"]), row["actor_id"]) == (pair["apiKey"]["id"], user.id)
        assert pair["secret"] not in str(row)
        assert "hash" not in str(row["before"]) + str(row["after"])
    again = await made(api, user)
    (stored,) = await api.db.fetch("SELECT * FROM api_keys")
    assert stored["hash"] == hashlib.sha256(again["secret"].encode()).digest()
    assert again["secret"] not in str(stored)


async def test_a_key_does_what_its_owner_does(api: Api, admin: Person, user: Person) -> None:
    headers = with_key(await made(api, user))
    slots = await api.slots(user, await api.room(admin))
    booked = await api.post("/bookings", headers=headers, json={"slotId": slots[0]["id"]})
    assert booked.status_code == 201
    mine = await api.get("/bookings/my", headers=headers)
    assert [one["id"] for one in mine.json()["bookings"]] == [booked.json()["booking"]["id"]]
    assert (await api.get("/users", headers=headers)).status_code == 403
    assert (await api.get("/users", headers=with_key(await made(api, admin)))).status_code == 200


async def test_a_key_to_read_only_looks(api: Api, admin: Person) -> None:
    headers = with_key(await made(api, admin, scopes=["read"]))
    assert (await api.get("/rooms", headers=headers)).status_code == 200
    refused = await api.post("/rooms", headers=headers, json={"name": "Room"})
    assert (refused.status_code, code(refused)) == (403, "FORBIDDEN")
    assert "scope read" in refused.json()["detail"]
    assert refused.json()["error"]["details"] == {"scopeNeeded": "write"}
    for method, path in (("PUT", f"/rooms/{ANY_ID}/schedule"), ("PATCH", "/users/me"), ("DELETE", f"/rooms/{ANY_ID}")):
        assert (await api.send(method, path, headers=headers, json={})).status_code == 403, (method, path)


async def test_a_key_to_write_looks_as_well(api: Api, admin: Person) -> None:
    pair = await made(api, admin, scopes=["write", "write"])
    assert pair["apiKey"]["scopes"] == ["write"]
    assert (await api.get("/rooms", headers=with_key(pair))).status_code == 200
    assert (await api.post("/rooms", headers=with_key(pair), json={"name": "Room"})).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api-keys", {"name": "Another"}),
        ("GET", "/api-keys", None),
        ("GET", f"/api-keys/{ANY_ID}", None),
        ("DELETE", f"/api-keys/{ANY_ID}", None),
        ("PUT", "/users/me/password", {"currentPassword": "x", "newPassword": "y"}),
        ("DELETE", "/users/me", None),
        ("POST", "/auth/logout", None),
    ],
)
async def test_a_key_is_no_way_to_its_owners_credentials(
    api: Api, user: Person, method: str, path: str, body: dict[str, Any] | None
) -> None:
    headers = with_key(await made(api, user))
    refused = await api.send(method, path, headers=headers, json=body)
    assert (refused.status_code, code(refused)) == (403, "FORBIDDEN")
    assert "log in" in refused.json()["detail"]
    assert (await api.get("/users/me", headers=headers)).status_code == 200


async def test_a_deleted_key_is_out_in_every_process_at_once(api: Api, user: Person, state: State) -> None:
    pair = await made(api, user)
    async with door(state) as other:
        assert (await other.get("/users/me", headers=with_key(pair))).status_code == 200
        assert (await api.send("DELETE", f"/api-keys/{pair['apiKey']['id']}", user)).status_code == 204
        refused = await other.get("/users/me", headers=with_key(pair))
        await use_noted()
    assert (refused.status_code, code(refused)) == (401, "UNAUTHORIZED")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert not await api_keys.good_keys(api.db, [UUID(pair["apiKey"]["id"])])
    gone = await api.send("DELETE", f"/api-keys/{pair['apiKey']['id']}", user)
    assert (gone.status_code, code(gone)) == (404, "API_KEY_NOT_FOUND")


async def test_an_expired_key_is_out(api: Api, user: Person) -> None:
    pair = await made(api, user, expiresAt="2999-01-01T00:00:00Z")
    assert await api_keys.good_keys(api.db, [UUID(pair["apiKey"]["id"])])
    await api.db.fetch("UPDATE api_keys SET expires_at = clock_timestamp()")
    assert (await api.get("/users/me", headers=with_key(pair))).status_code == 401
    assert not await api_keys.good_keys(api.db, [UUID(pair["apiKey"]["id"])])


async def test_a_key_follows_its_owners_role_and_status(api: Api, admin: Person, user: Person) -> None:
    headers = with_key(await made(api, user))
    await api.send("PATCH", f"/users/{user.id}", admin, json={"role": "admin"})
    assert (await api.get("/users", headers=headers)).status_code == 200
    await api.send("PATCH", f"/users/{user.id}", admin, json={"role": "user"})
    assert (await api.get("/users", headers=headers)).status_code == 403
    await api.send("PATCH", f"/users/{user.id}", admin, json={"status": "suspended"})
    assert (await api.get("/users/me", headers=headers)).status_code == 401
    await api.send("PATCH", f"/users/{user.id}", admin, json={"status": "active"})
    assert (await api.get("/users/me", headers=headers)).status_code == 200


async def test_a_key_of_a_deleted_account_is_out(api: Api, user: Person) -> None:
    headers = with_key(await made(api, user))
    assert (await api.send("DELETE", "/users/me", user)).status_code == 204
    assert (await api.get("/users/me", headers=headers)).status_code == 401


async def test_a_key_outlives_its_owners_log_in(api: Api, user: Person) -> None:
    headers = with_key(await made(api, user))
    assert (await api.post("/auth/logout", user)).status_code == 204
    assert (await api.get("/users/me", headers=headers)).status_code == 200


async def test_somebody_elses_key_is_not_there(api: Api, admin: Person, user: Person) -> None:
    pair = await made(api, user)
    for who in (await api.person(), admin):
        assert (await api.get("/api-keys", who)).json() == {"apiKeys": []}
        for method in ("GET", "DELETE"):
            refused = await api.send(method, f"/api-keys/{pair['apiKey']['id']}", who)
            assert (refused.status_code, code(refused)) == (404, "API_KEY_NOT_FOUND")
    assert (await api.get("/users/me", headers=with_key(pair))).status_code == 200


@pytest.mark.parametrize("secret", ["hf_", "hf_" + "A" * 43, "hf_ü", "hf_" + "x" * 5000, "hf_\udcff'; --"])
async def test_a_key_that_was_never_made_is_refused(api: Api, user: Person, secret: str) -> None:
    await made(api, user)
    refused = await api.get("/users/me", headers={"Authorization": f"Bearer {secret}".encode("utf-8", "surrogateescape")})
    assert (refused.status_code, code(refused)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": " "},
        {"name": "x" * 201},
        {"scopes": []},
        {"scopes": ["admin"]},
        {"scopes": "read"},
        {"expiresAt": "2020-01-01T00:00:00Z"},
        {"expiresAt": "tomorrow"},
        {"expiresAt": 4102444800},
    ],
)
async def test_a_bad_wish_for_a_key_is_invalid(api: Api, user: Person, fields: dict[str, Any]) -> None:
    refused = await api.post("/api-keys", user, json={"name": "Key", **fields})
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_a_secret_is_never_kept_to_be_replayed(api: Api, user: Person) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await api.post("/api-keys", user, json={"name": "Key"}, headers=headers)
    second = await api.post("/api-keys", user, json={"name": "Key"}, headers=headers)
    assert first.status_code == second.status_code == 201
    assert first.json()["secret"] != second.json()["secret"]
    assert await api.db.fetch("SELECT 1 FROM idempotency_keys") == []


async def test_deleting_a_key_can_be_repeated(api: Api, user: Person) -> None:
    path, headers = f"/api-keys/{(await made(api, user))['apiKey']['id']}", {"Idempotency-Key": "once"}
    answers = [await api.send("DELETE", path, user, headers=headers) for _ in range(2)]
    assert [one.status_code for one in answers] == [204, 204]
    assert answers[1].headers["idempotency-replayed"] == "true"


async def test_nobody_has_more_keys_than_one_may_even_in_a_rush(api: Api, user: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_API_KEYS", 3)
    answers = await asyncio.gather(*(api.post("/api-keys", user, json={"name": "Key"}) for _ in range(8)))
    assert sorted(one.status_code for one in answers) == [201] * 3 + [409] * 5
    refused = next(one for one in answers if one.status_code == 409)
    assert code(refused) == "TOO_MANY_API_KEYS"
    assert refused.json()["error"]["details"] == {"maxApiKeys": 3}
    await made(api, await api.person())


async def test_the_last_use_is_noted_at_most_once_a_minute(api: Api, user: Person) -> None:
    pair = await made(api, user)

    async def last_used() -> datetime | None:
        await use_noted()
        (row,) = await api.db.fetch("SELECT last_used_at FROM api_keys")
        found: datetime | None = row["last_used_at"]
        return found

    await asyncio.gather(*(api.get("/users/me", headers=with_key(pair)) for _ in range(5)))
    first = await last_used()
    assert first is not None
    await api.get("/users/me", headers=with_key(pair))
    assert await last_used() == first
    past = datetime.now(UTC) - timedelta(seconds=61)
    await api.db.fetch("UPDATE api_keys SET last_used_at = $1", past)
    await api.get("/users/me", headers=with_key(pair))
    later = await last_used()
    assert later is not None
    assert later > past
    listed = (await api.get("/api-keys", user)).json()["apiKeys"][0]
    assert listed["lastUsedAt"] is not None


async def test_a_use_that_cannot_be_noted_harms_nobody(api: Api, user: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = with_key(await made(api, user))
    monkeypatch.setattr(api_keys, "_NOTE", "SELECT 1/0, $1::uuid, $2::interval")
    assert (await api.get("/users/me", headers=headers)).status_code == 200
    await use_noted()
    (row,) = await api.db.fetch("SELECT last_used_at FROM api_keys")
    assert row["last_used_at"] is None


async def test_a_message_names_the_key_and_the_user_behind_it(api: Api, user: Person) -> None:
    pair = await made(api, user)
    headers = with_key(pair)
    changed = await api.send("PATCH", "/users/me", headers=headers, json={"name": "Robot"})
    assert changed.status_code == 200
    (row,) = await api.db.fetch("SELECT actor_id, actor_role, actor_key_id FROM outbox WHERE type = 'user.updated'")
    assert (row["actor_id"], row["actor_role"], str(row["actor_key_id"])) == (user.id, "user", pair["apiKey"]["id"])


async def test_a_key_may_be_pasted_with_the_word_bearer(api: Api, user: Person) -> None:
    secret = (await made(api, user))["secret"]
    for header in (f"bearer {secret}", f"Bearer Bearer {secret}"):
        assert (await api.get("/users/me", headers={"Authorization": header})).status_code == 200
    for header in (secret, f"Basic {secret}", f"Bearer x{secret}"):
        answer: httpx.Response = await api.get("/users/me", headers={"Authorization": header})
        assert answer.status_code == 401
