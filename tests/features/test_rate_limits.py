"""Requests per user, API key and address: who is counted with whom, what is said about it, what is never refused."""

import json
import re
import time
from itertools import count
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from holdfast.core import clock
from holdfast.core.ids import new_id
from holdfast.web.login_limit import LoginLimit
from holdfast.web.state import State
from holdfast.web.windows import Windows
from support.api import Api, Person, code
from support.doors import door, listening

PAGES = ("/", "/docs", "/redoc", "/static/icon.svg")
HEALTH = ("/health", "/livez", "/readyz", "/_info")


def said(answer: httpx.Response, header: str) -> dict[str, dict[str, int]]:
    """A list of structured fields (RFC 9651): `"user";q=3;w=60` as {"user": {"q": 3, "w": 60}}."""
    found = {}
    for item in answer.headers[header].split(", "):
        match = re.fullmatch(r'"([a-z]+)"((?:;[a-z]+=\d+)+)', item)
        assert match is not None, item
        found[match[1]] = {name: int(value) for name, value in re.findall(r";([a-z]+)=(\d+)", match[2])}
    return found


async def key_of(api: Api, who: Person) -> dict[str, str]:
    made = await api.post("/api-keys", who, json={"name": "Key"})
    return {"Authorization": f"Bearer {made.json()['secret']}"}


async def test_without_a_limit_nothing_is_counted_or_said(api: Api, user: Person, state: State) -> None:
    answer = await api.get("/rooms", user)
    assert "ratelimit" not in answer.headers
    assert "ratelimit-policy" not in answer.headers
    async with door(state, rate_limit="9/minute") as on, door(state) as off:
        kinds = [{middleware.cls.__name__ for middleware in one.app.user_middleware} for one in (on, off)]
    assert kinds[0] - kinds[1] == {"RateLimit"}


async def test_a_user_is_limited_wherever_they_are(api: Api, user: Person, state: State) -> None:
    other = await api.person()
    async with door(state, rate_limit="3/minute") as limited:
        for n in range(3):
            answer = await limited.get("/rooms", headers=user.headers, address=f"192.0.2.{n}")
            assert answer.status_code == 200
            assert said(answer, "ratelimit-policy") == {"user": {"q": 3, "w": 60}, "address": {"q": 30, "w": 60}}
            state_said = said(answer, "ratelimit")
            assert (state_said["user"]["r"], state_said["address"]["r"]) == (2 - n, 29)
            assert 1 <= state_said["user"]["t"] <= 60
        refused = await limited.get("/rooms", headers=user.headers, address="192.0.2.9")
        assert (refused.status_code, code(refused)) == (429, "TOO_MANY_REQUESTS")
        retry_after = int(refused.headers["retry-after"])
        assert 1 <= retry_after <= 60
        assert refused.json()["error"]["details"] == {
            "retryAfterSeconds": retry_after,
            "limitedBy": "user",
            "limit": 3,
            "windowSeconds": 60,
        }
        assert said(refused, "ratelimit")["user"]["r"] == 0
        assert refused.headers["x-request-id"]
        # Another token of the same user is the same user; another user at the same address is not.
        again = limited.state.access_tokens.sign(user_id=user.id, role="user", session_id=new_id(), now=clock.now())
        assert (await limited.get("/rooms", headers={"Authorization": f"Bearer {again}"})).status_code == 429
        assert (await limited.get("/rooms", headers=other.headers, address="192.0.2.9")).status_code == 200


async def test_each_key_is_counted_apart_from_its_owner(api: Api, user: Person, state: State) -> None:
    one, two = await key_of(api, user), await key_of(api, user)
    async with door(state, rate_limit="2/minute") as limited:
        for _ in range(2):
            answer = await limited.get("/rooms", headers=one)
            assert answer.status_code == 200
            assert set(said(answer, "ratelimit")) == {"key", "address"}
        refused = await limited.get("/rooms", headers=one)
        assert (refused.status_code, refused.json()["error"]["details"]["limitedBy"]) == (429, "key")
        assert (await limited.get("/rooms", headers=two)).status_code == 200
        assert (await limited.get("/rooms", headers=user.headers)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer forged"}, {"Authorization": "Basic eA=="}])
async def test_who_is_nobody_is_limited_by_address(api: Api, state: State, headers: dict[str, str]) -> None:
    async with door(state, rate_limit="2/minute") as limited:
        for _ in range(2):
            answer = await limited.get("/rooms", headers=headers)
            assert (answer.status_code, set(said(answer, "ratelimit"))) == (401, {"anyone", "address"})
        refused = await limited.get("/rooms", headers=headers)
        assert (refused.status_code, refused.json()["error"]["details"]["limitedBy"]) == (429, "anyone")
        assert (await limited.get("/rooms", headers=headers, address="192.0.2.2")).status_code == 401


async def test_neighbours_in_one_ipv6_network_are_one_party(api: Api, state: State) -> None:
    async with door(state, rate_limit="1/minute") as limited:
        assert (await limited.get("/rooms", address="2001:db8::1")).status_code == 401
        assert (await limited.get("/rooms", address="2001:db8::ffff:2")).status_code == 429
        assert (await limited.get("/rooms", address="2001:db8:0:1::1")).status_code == 401


async def test_all_at_one_address_together_have_ten_times_as_many(api: Api, state: State) -> None:
    people = await api.people(6)
    async with door(state, rate_limit="2/minute") as limited:
        answers = [await limited.get("/rooms", headers=person.headers) for person in people for _ in range(2)]
        answers += [await limited.get("/rooms", headers={"Authorization": f"Bearer hf_{n}"}) for n in range(12)]
        # Made-up keys are each a new one, but they come from somewhere.
        assert [one.status_code for one in answers] == [200] * 12 + [401] * 8 + [429] * 4
        assert answers[-1].json()["error"]["details"]["limitedBy"] == "address"
        assert answers[-1].json()["error"]["details"]["limit"] == 20


async def test_who_runs_wild_does_not_use_up_what_is_everybodys(api: Api, user: Person, state: State) -> None:
    async with door(state, rate_limit="2/minute") as limited:
        answers = [(await limited.get("/rooms")).status_code for _ in range(60)]
        assert answers == [401] * 2 + [429] * 58
        assert (await limited.get("/rooms", headers=user.headers)).status_code == 200


async def test_health_pages_and_preflights_are_never_refused(api: Api, state: State) -> None:
    async with door(state, rate_limit="1/minute", cors_origins="https://app.example") as limited:
        assert (await limited.get("/rooms")).status_code == 401
        assert (await limited.get("/rooms")).status_code == 429
        for path in (*HEALTH, *PAGES):
            answer = await limited.get(path)
            assert answer.status_code == 200, path
            assert "ratelimit" not in answer.headers
        preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        assert (await limited.send("OPTIONS", "/bookings", headers=preflight)).status_code == 200


async def test_a_page_of_another_origin_can_read_that_it_came_too_often(api: Api, state: State) -> None:
    async with door(state, rate_limit="1/minute", cors_origins="https://app.example") as limited:
        headers = {"Origin": "https://app.example"}
        await limited.get("/rooms", headers=headers)
        refused = await limited.get("/rooms", headers=headers)
        assert refused.status_code == 429
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
        assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(
            refused.headers["access-control-expose-headers"].split(", ")
        )


async def test_the_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    windows = Windows(2, 60)
    assert [windows.hit("a") for _ in range(3)] == [True, True, False]
    now += 59
    assert windows.is_full("a")
    assert windows.left("a") == (0, 1.0)
    now += 1
    assert windows.left("a") == (2, 60)
    assert windows.hit("a")
    assert windows.left("a") == (1, 60)


async def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    windows = Windows(1, 60, max_keys=100)
    for n in range(1000):
        windows.hit(n)
    assert len(windows) == 100
    assert windows.is_full(999)
    assert not windows.is_full(0)
    now += 60
    windows.hit("later")
    assert len(windows) == 1


def test_a_flood_of_log_ins_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count(1000.0, 0.1)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    limit = LoginLimit("10/second")
    for n in range(500):
        limit.attempt(f"x{n}@example.com", "192.0.2.1")
        limit.failed(f"x{n}@example.com", "192.0.2.1")
    kept: dict[str, Any] = {name: len(value) for name, value in vars(limit).items() if isinstance(value, Windows)}
    assert max(kept.values()) < 10, kept


async def test_handshakes_of_websockets_are_counted_too(api: Api, state: State) -> None:
    async with door(state, rate_limit="2/minute") as limited, listening(limited.app) as port:
        answers = []
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{port}/ws?ticket=wrong")
            answers.append(refused.value.response)
        assert [answer.status_code for answer in answers] == [401, 401, 429]
        assert int(answers[2].headers["Retry-After"]) > 0
        assert json.loads(answers[2].body)["error"]["code"] == "TOO_MANY_REQUESTS"
