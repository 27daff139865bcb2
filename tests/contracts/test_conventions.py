"""What api.md section 0 promises of every route, asked of every operation that the service's document names.

Each is asked as the authorization matrix prepares it, by whoever may, so a new operation is covered once it has its row there.
"""

import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from contracts.test_authorization_matrix import INSIDERS, MATRIX, Stage
from support.api import Api, Person, tomorrow
from support.contract import PROBLEM, check_problem, service_operations

OPERATIONS = service_operations()
#: 201 without an address: what was made is a list, or cannot be asked for by itself.
NO_ADDRESS = {
    "/notices",
    "/slots",
    "/events/{event_id}/seats",
    "/rooms/{room_id}/schedule/create",
}


def named(operations: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("method", "path"), operations, ids=[" ".join(one) for one in operations])


def with_parameter(name: str) -> list[tuple[str, str]]:
    return [
        (method, path)
        for method, path, operation in OPERATIONS
        if name in {one["name"].lower() for one in operation.get("parameters", ())}
    ]


async def stage_of(api: Api) -> Stage:
    return Stage(api, await api.person(), await api.person(), await api.admin())


def whoever_may(stage: Stage, method: str, path: str) -> Person:
    """Somebody whom the matrix gives a good answer."""
    kind = next(kind for kind in INSIDERS if MATRIX[method, path].expected(method, kind) < 300)
    who: Person = getattr(stage, kind)
    return who


async def asked(api: Api, method: str, path: str, **more: Any) -> tuple[Person, str, httpx.Response]:
    """The operation as its row prepares it, with more parameters or headers: who asked, at which address, and the answer."""
    stage = await stage_of(api)
    address, request = await MATRIX[method, path].prepare(stage)
    who = whoever_may(stage, method, path)
    request = {**request, **more, "params": {**request.get("params", {}), **more.get("params", {})}}
    return who, address, await api.send(method, address, who, **request)


@named(with_parameter("idempotency-key"))
async def test_a_change_that_is_sent_again_with_its_key_is_answered_as_at_first(method: str, path: str, api: Api) -> None:
    stage = await stage_of(api)
    address, request = await MATRIX[method, path].prepare(stage)
    who, key = whoever_may(stage, method, path), {"Idempotency-Key": "mine"}
    first = await api.send(method, address, who, headers=key, **request)
    assert first.status_code < 300, first.text
    assert "idempotency-replayed" not in first.headers
    again = await api.send(method, address, who, headers=key, **request)
    if path == "/users/me" and method == "DELETE":
        assert again.status_code == 401, "whoever is gone passes no door"
        return
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    for name in ("location", "etag"):
        assert again.headers.get(name) == first.headers.get(name)
    other = {"json": {"title": "Another request"}} if "json" not in request else {"json": {**request["json"], "name": "Another"}}
    reused = await api.send(method, address, who, headers=key, **{**request, **other})
    assert (reused.status_code, check_problem(reused)) == (422, "IDEMPOTENCY_KEY_REUSED"), reused.text


@named([(method, path) for method, path, operation in OPERATIONS if "201" in operation["responses"] and path not in NO_ADDRESS])
async def test_what_is_made_says_where_it_is(method: str, path: str, api: Api) -> None:
    stage = await stage_of(api)
    address, request = await MATRIX[method, path].prepare(stage)
    who = whoever_may(stage, method, path)
    made = await api.send(method, address, who, **request)
    assert made.status_code == 201, made.text
    location = made.headers["location"]
    assert location.startswith("/")
    found = await api.get(location, stage.admin if path == "/register" else who)
    # 405: a closure can be deleted there, and is seen in a list only.
    assert found.status_code in {200, 405}, f"{location}: {found.text}"


@named(with_parameter("pagesize"))
async def test_pages_have_bounds_and_say_which_they_are(method: str, path: str, api: Api) -> None:
    for bad in ({"page": 0}, {"pageSize": 0}, {"pageSize": 101}, {"page": "x"}, {"pageSize": 1.5}):
        _, _, refused = await asked(api, method, path, params=bad)
        assert (refused.status_code, check_problem(refused)) == (400, "INVALID_REQUEST"), f"{bad}: {refused.text}"
    _, _, answer = await asked(api, method, path, params={"page": 99, "pageSize": 7})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    lists = [value for value in body.values() if isinstance(value, list)]
    assert len(lists) == 1
    assert lists[0] == []
    assert body["pagination"].keys() == {"page", "pageSize", "total"}
    assert (body["pagination"]["page"], body["pagination"]["pageSize"]) == (99, 7)
    assert 'rel="' in answer.headers["link"]


@named([(method, path) for method, path in with_parameter("if-match") if method == "PATCH"])
async def test_a_single_object_that_can_be_changed_has_a_version(method: str, path: str, api: Api) -> None:
    stage = await stage_of(api)
    address, request = await MATRIX[method, path].prepare(stage)
    who = whoever_may(stage, method, path)
    shown = await api.get(address, who)
    assert shown.status_code == 200, shown.text
    tag = shown.headers["etag"]
    unchanged = await api.get(address, who, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    stale = await api.send(method, address, who, headers={"If-Match": '"another"'}, **request)
    assert (stale.status_code, check_problem(stale)) == (412, "CHANGED_MEANWHILE")
    changed = await api.send(method, address, who, headers={"If-Match": tag}, **request)
    assert changed.status_code == 200, changed.text
    assert changed.headers["etag"] != tag
    assert (await api.get(address, who)).headers["etag"] == changed.headers["etag"]


@named(
    [
        (method, path)
        for method, path, operation in OPERATIONS
        if "application/json" in operation["responses"].get("200", {}).get("content", {})
    ]
)
async def test_an_answer_is_an_object_and_its_lists_are_never_null(method: str, path: str, api: Api) -> None:
    if not any(MATRIX[method, path].expected(method, kind) < 300 for kind in INSIDERS):
        pytest.skip("nobody may, as the matrix asks it")
    _, _, answer = await asked(api, method, path)
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(answer.json(), dict)
    assert answer.headers["x-request-id"]


@named([(method, path) for method, path, operation in OPERATIONS if "{" in path and "404" in operation["responses"]])
async def test_what_there_is_not_is_a_problem_with_a_code_of_its_own(method: str, path: str, api: Api) -> None:
    """An unknown id is told from an unknown address."""
    stage = await stage_of(api)
    _, request = await MATRIX[method, path].prepare(stage)
    who = whoever_may(stage, method, path)
    address = re.sub(r"\{\w+\}", str(uuid4()), path)
    if method == "POST" and path.endswith("/reschedule"):
        request = {"json": {"start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T10:30:00Z", "slotId": str(uuid4())}}
        request["json"] = {"slotId": request["json"]["slotId"]} if path.startswith("/bookings") else request["json"]
    missing = await api.send(method, address, who, **request)
    assert missing.status_code == 404, missing.text
    assert missing.headers["content-type"] == PROBLEM
    assert re.fullmatch(r"[A-Z_]+_NOT_FOUND", check_problem(missing)), missing.text
