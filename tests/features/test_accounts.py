"""Registering, logging in and out, refreshing, passwords, profiles, admins' doings, and the end of an account."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from conftest import make_settings
from holdfast.core import clock
from holdfast.core.ids import new_id
from holdfast.main import build_app, build_state
from holdfast.web.login_limit import LoginLimit
from holdfast.web.state import State
from support.api import Api, Person, code

PASSWORD = "correct horse battery staple"


async def register(api: Api, email: str = "anna@example.com", **fields: Any) -> httpx.Response:
    return await api.post("/register", json={"email": email, "password": PASSWORD, "role": "user", **fields})


async def log_in(api: Api, email: str = "anna@example.com", password: str = PASSWORD) -> dict[str, Any]:
    answer = await api.post("/login", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    pair: dict[str, Any] = answer.json()
    return pair


def bearer(pair: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['token']}"}


async def test_a_registered_user_logs_in(api: Api) -> None:
    made = await register(api, name="Anna")
    assert made.status_code == 201
    assert made.json()["user"] | {"id": "", "createdAt": ""} == {
        "id": "",
        "createdAt": "",
        "email": "anna@example.com",
        "name": "Anna",
        "role": "user",
        "isHost": False,
        "status": "active",
    }
    pair = await log_in(api, "ANNA@Example.com")
    assert set(pair) == {"token", "refreshToken", "expiresIn", "tokenType"}
    me = await api.get("/users/me", headers=bearer(pair))
    assert me.json()["user"]["email"] == "anna@example.com"


async def test_unknown_and_wrong_are_answered_alike_and_take_as_long(api: Api) -> None:
    await register(api)
    wrong = await api.post("/login", json={"email": "anna@example.com", "password": "x"})
    unknown = await api.post("/login", json={"email": "nobody@example.com", "password": "x"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()


async def test_a_user_without_a_password_cannot_log_in(api: Api) -> None:
    await api.post("/dummyLogin", json={"role": "admin"})
    refused = await api.post("/login", json={"email": "admin@dummy.holdfast.invalid", "password": "admin"})
    assert refused.status_code == 401


async def test_refreshing_rotates_and_an_honest_retry_gets_the_same_child(api: Api) -> None:
    await register(api)
    first = await log_in(api)
    answers = await asyncio.gather(*(api.post("/auth/refresh", json={"refreshToken": first["refreshToken"]}) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    children = {answer.json()["refreshToken"] for answer in answers}
    assert len(children) == 1
    assert children != {first["refreshToken"]}


async def test_reuse_after_the_child_was_used_ends_the_whole_family(api: Api, state: State) -> None:
    await register(api)
    first = await log_in(api)
    second = (await api.post("/auth/refresh", json={"refreshToken": first["refreshToken"]})).json()
    third = (await api.post("/auth/refresh", json={"refreshToken": second["refreshToken"]})).json()
    reused = await api.post("/auth/refresh", json={"refreshToken": first["refreshToken"]})
    assert (reused.status_code, code(reused)) == (401, "TOKEN_REUSED")
    after = await api.post("/auth/refresh", json={"refreshToken": third["refreshToken"]})
    assert (after.status_code, code(after)) == (401, "UNAUTHORIZED")
    assert (await api.get("/users/me", headers=bearer(third))).status_code == 401


async def test_reuse_after_ten_seconds_ends_the_family_too(api: Api) -> None:
    await register(api)
    first = await log_in(api)
    child = (await api.post("/auth/refresh", json={"refreshToken": first["refreshToken"]})).json()
    # Time cannot be waited for: the use is moved into the past where it is stored.
    await api.db.fetch("UPDATE refresh_tokens SET used_at = used_at - interval '11 seconds' WHERE used_at IS NOT NULL")
    reused = await api.post("/auth/refresh", json={"refreshToken": first["refreshToken"]})
    assert code(reused) == "TOKEN_REUSED"
    assert (await api.post("/auth/refresh", json={"refreshToken": child["refreshToken"]})).status_code == 401


async def test_logging_out_ends_this_session_and_no_other(api: Api) -> None:
    await register(api)
    here, there = await log_in(api), await log_in(api)
    assert (await api.post("/auth/logout", headers=bearer(here))).status_code == 204
    assert (await api.get("/users/me", headers=bearer(here))).status_code == 401
    assert (await api.post("/auth/refresh", json={"refreshToken": here["refreshToken"]})).status_code == 401
    assert (await api.get("/users/me", headers=bearer(there))).status_code == 200
    third = await log_in(api)
    out = await api.post("/auth/logout", headers=bearer(there), json={"refreshToken": third["refreshToken"]})
    assert out.status_code == 204
    assert (await api.get("/users/me", headers=bearer(third))).status_code == 401


async def test_another_process_hears_of_an_ended_session_within_five_seconds(api: Api, state: State) -> None:
    await register(api)
    pair = await log_in(api)
    other = build_state(make_settings(state.db.url, pool_size=4))
    try:
        await other.revocations.look()
        assert (await api.post("/auth/logout", headers=bearer(pair))).status_code == 204
        identity = other.access_tokens.verify(pair["token"], now=clock.now())
        await other.revocations.check(identity)  # it cannot know yet
        await other.revocations.look()  # what its loop does every second and a half
        with pytest.raises(Exception, match="log-in was ended"):
            await other.revocations.check(identity)
    finally:
        other.passwords.close()
        await other.db.close()


async def test_a_new_password_ends_the_other_sessions(api: Api) -> None:
    await register(api)
    here, there = await log_in(api), await log_in(api)
    wrong = await api.send("PUT", "/users/me/password", headers=bearer(here), json={"currentPassword": "x", "newPassword": "y"})
    assert wrong.status_code == 403
    changed = await api.send(
        "PUT", "/users/me/password", headers=bearer(here), json={"currentPassword": PASSWORD, "newPassword": "new"}
    )
    assert changed.status_code == 204
    assert (await api.get("/users/me", headers=bearer(here))).status_code == 200
    assert (await api.get("/users/me", headers=bearer(there))).status_code == 401
    assert (await api.post("/login", json={"email": "anna@example.com", "password": PASSWORD})).status_code == 401
    await log_in(api, password="new")


async def test_a_profile_changes_under_its_etag(api: Api, user: Person) -> None:
    etag = (await api.get("/users/me", user)).headers["etag"]
    changed = await api.send("PATCH", "/users/me", user, json={"name": "Zoë"}, headers={"If-Match": etag})
    assert changed.json()["user"]["name"] == "Zoë"
    stale = await api.send("PATCH", "/users/me", user, json={"name": "X"}, headers={"If-Match": etag})
    assert stale.status_code == 412
    assert (await api.get("/users/me", user, headers={"If-None-Match": changed.headers["etag"]})).status_code == 304


async def test_a_suspended_user_is_out_and_comes_back(api: Api, admin: Person) -> None:
    user_id = (await register(api)).json()["user"]["id"]
    pair = await log_in(api)
    assert (await api.send("PATCH", f"/users/{user_id}", admin, json={"status": "suspended"})).status_code == 200
    assert (await api.get("/users/me", headers=bearer(pair))).status_code == 401
    refused = await api.post("/login", json={"email": "anna@example.com", "password": PASSWORD})
    assert (refused.status_code, code(refused)) == (403, "FORBIDDEN")
    assert (await api.post("/auth/refresh", json={"refreshToken": pair["refreshToken"]})).status_code == 401
    assert (await api.send("PATCH", f"/users/{user_id}", admin, json={"status": "active"})).status_code == 200
    again = await log_in(api)
    assert (await api.get("/users/me", headers=bearer(again))).status_code == 200


async def test_a_new_role_needs_a_new_log_in(api: Api, admin: Person) -> None:
    user_id = (await register(api)).json()["user"]["id"]
    pair = await log_in(api)
    await api.send("PATCH", f"/users/{user_id}", admin, json={"role": "admin"})
    assert (await api.get("/users/me", headers=bearer(pair))).status_code == 401
    assert (await api.get("/users", headers=bearer(await log_in(api)))).status_code == 200


async def test_an_admin_cannot_take_their_own_role_away(api: Api, admin: Person) -> None:
    refused = await api.send("PATCH", f"/users/{admin.id}", admin, json={"role": "user"})
    assert (refused.status_code, code(refused)) == (409, "OWN_ACCOUNT")
    unchanged = await api.send("PATCH", f"/users/{admin.id}", admin, json={"role": "admin"})
    assert (unchanged.status_code, unchanged.json()["user"]["role"]) == (200, "admin")


async def test_users_are_listed_searched_and_paged(api: Api, admin: Person) -> None:
    for name in ("100%", "a_b", "axb"):
        await register(api, f"{name.replace('%', '')}@example.com", name=name)
    found = await api.get("/users", admin, params={"q": "a_b"})
    assert [one["name"] for one in found.json()["users"]] == ["a_b"]
    assert [one["name"] for one in (await api.get("/users", admin, params={"q": "%"})).json()["users"]] == ["100%"]
    page = await api.get("/users", admin, params={"page": 2, "pageSize": 3})
    assert (len(page.json()["users"]), page.json()["pagination"]["total"]) == (1, 4)


async def test_ending_an_account_cancels_what_is_ahead_and_empties_it(api: Api, admin: Person) -> None:
    user_id = (await register(api, name="Anna")).json()["user"]["id"]
    pair = await log_in(api)
    room = await api.room(admin)
    slots = await api.slots(admin, room)
    made = await api.post("/bookings", headers=bearer(pair), json={"slotId": slots[0]["id"]})
    assert (await api.send("DELETE", "/users/me", headers=bearer(pair))).status_code == 204
    assert (await api.get("/users/me", headers=bearer(pair))).status_code == 401
    assert (await api.get(f"/users/{user_id}", admin)).status_code == 404
    booking = (await api.get(f"/bookings/{made.json()['booking']['id']}", admin)).json()["booking"]
    assert booking["status"] == "cancelled"
    assert len(await api.slots(admin, room)) == 16
    (row,) = await api.db.fetch("SELECT name, password_hash, email FROM users WHERE id = $1", user_id)
    assert (row["name"], row["password_hash"]) == (None, None)
    assert "anna" not in row["email"]
    assert (await register(api)).status_code == 201


async def test_production_closes_the_doors_of_development(api: Api, state: State) -> None:
    secret = "Zq7nT2vKx9LwPf4RbYc8MhUe3DsGjA6o"
    closed = build_state(make_settings(state.db.url, env="production", jwt_secret=secret, pool_size=4))
    transport = httpx.ASGITransport(build_app(closed))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        dummy = await client.post("/dummyLogin", json={"role": "admin"})
        assert (dummy.status_code, code(dummy)) == (404, "NOT_FOUND")
        body = {"email": "eve@example.com", "password": "x", "role": "admin"}
        assert (await client.post("/register", json=body)).status_code == 403
        assert (await client.post("/register", json={**body, "role": "user"})).status_code == 201
    closed.passwords.close()
    await closed.db.close()


async def test_failed_log_ins_are_limited_without_locking_the_victim_out(api: Api, state: State) -> None:
    await register(api)
    limited = build_state(make_settings(state.db.url, login_limit="3/minute", pool_size=4))
    app = build_app(limited)

    async def attempt(password: str, address: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
            return await client.post("/login", json={"email": "anna@example.com", "password": password})

    assert (await attempt(PASSWORD, "192.0.2.1")).status_code == 200
    for n in range(30):
        await attempt("wrong", f"198.51.100.{n}")
    stranger = await attempt("wrong", "203.0.113.9")
    assert (stranger.status_code, code(stranger)) == (429, "TOO_MANY_REQUESTS")
    assert int(stranger.headers["retry-after"]) >= 1
    assert (await attempt(PASSWORD, "192.0.2.1")).status_code == 200
    limited.passwords.close()
    await limited.db.close()


async def test_one_network_is_limited_per_account(api: Api, state: State) -> None:
    await register(api)
    limit = LoginLimit("3/minute")
    for _ in range(3):
        limit.attempt("anna@example.com", "192.0.2.7")
    with pytest.raises(Exception, match="Too many failed"):
        limit.attempt("anna@example.com", "192.0.2.7")
    limit.attempt("anna@example.com", "192.0.2.8")
    limit.succeeded("anna@example.com", "192.0.2.7")
    limit.attempt("anna@example.com", "192.0.2.7")


async def test_a_burst_of_log_ins_leaves_other_routes_fast(api: Api, state: State) -> None:
    await register(api)
    slow = build_state(make_settings(state.db.url, bcrypt_cost=10, pool_size=8))
    transport = httpx.ASGITransport(build_app(slow))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
        begun = time.monotonic()
        burst = [
            asyncio.create_task(client.post("/login", json={"email": f"x{n}@example.com", "password": "y"})) for n in range(10)
        ]
        answered = 0
        while not all(task.done() for task in burst):
            assert (await client.get("/health")).status_code == 200
            answered += 1
            await asyncio.sleep(0.001)
        elapsed = time.monotonic() - begun
        assert {(await task).status_code for task in burst} == {401}
    # Ten hashes take a while; had they run in the event loop, nothing would have been answered between them.
    assert answered > 10, (answered, elapsed)
    slow.passwords.close()
    await slow.db.close()


async def test_a_token_of_a_user_who_is_gone_books_nothing(api: Api, admin: Person, state: State) -> None:
    (slot, *_) = await api.slots(admin, await api.room(admin))
    token = state.access_tokens.sign(user_id=new_id(), role="user", session_id=new_id(), now=clock.now())
    refused = await api.post("/bookings", headers={"Authorization": f"Bearer {token}"}, json={"slotId": slot["id"]})
    assert (refused.status_code, code(refused)) == (401, "UNAUTHORIZED")
