"""`Idempotency-Key`: one effect, one answer, byte for byte."""

from typing import Any

import httpx
import pytest

from support.api import WINDOW, Api, Person, code, tomorrow


def keyed(key: str) -> dict[str, Any]:
    return {"headers": {"Idempotency-Key": key}}


def same(first: httpx.Response, again: httpx.Response) -> bool:
    """Byte for byte, and marked as a replay."""
    headers = ("location", "etag", "content-type")
    return (
        again.content == first.content
        and again.status_code == first.status_code
        and all(again.headers.get(name) == first.headers.get(name) for name in headers)
        and again.headers.get("idempotency-replayed") == "true"
        and "idempotency-replayed" not in first.headers
    )


async def test_a_repeat_gets_the_first_answer_and_books_nothing(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    first = await api.book(user, slots[0], **keyed("k1"))
    assert first.status_code == 201
    assert same(first, await api.book(user, slots[0], **keyed("k1")))
    assert same(first, await api.book(user, slots[0], **keyed('"k1"')))
    at_contract_path = await api.post("/bookings/create", user, json={"slotId": slots[0]["id"]}, **keyed("k1"))
    assert same(first, at_contract_path)
    (row,) = await api.db.fetch("SELECT count(*) AS n FROM bookings")
    assert row["n"] == 1


async def test_another_body_under_the_same_key_is_refused(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    await api.book(user, slots[0], **keyed("k1"))
    reused = await api.book(user, slots[1], **keyed("k1"))
    assert (reused.status_code, code(reused)) == (422, "IDEMPOTENCY_KEY_REUSED")
    other_path = await api.post("/rooms", user, json={"slotId": slots[0]["id"]}, **keyed("k1"))
    assert other_path.status_code == 403


async def test_the_order_of_a_bodys_members_does_not_make_another_request(api: Api, admin: Person) -> None:
    headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
    first = await api.post("/rooms", admin, content=b'{"name": "A", "capacity": 3}', headers=headers)
    assert first.status_code == 201
    assert same(first, await api.post("/rooms", admin, content=b'{"capacity":3,"name":"A"}', headers=headers))


async def test_two_callers_may_use_the_same_key(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    other = await api.person()
    assert (await api.book(user, slots[0], **keyed("k1"))).status_code == 201
    assert (await api.book(other, slots[1], **keyed("k1"))).status_code == 201


async def test_refusals_that_the_state_explains_are_kept(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    theirs = await api.booked(await api.person(), slots[0])
    refused = await api.book(user, slots[0], **keyed("k1"))
    assert (refused.status_code, code(refused)) == (409, "SLOT_ALREADY_BOOKED")
    await api.send("DELETE", f"/bookings/{theirs['id']}", admin)
    assert same(refused, await api.book(user, slots[0], **keyed("k1")))
    assert (await api.book(user, slots[0], **keyed("k2"))).status_code == 201


async def test_an_invalid_request_is_judged_afresh(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    body = {"roomId": room["id"], "start": f"{tomorrow()}T18:00:00Z", "end": f"{tomorrow()}T18:30:00Z"}
    first = await api.post("/bookings", user, json=body, **keyed("k1"))
    assert (first.status_code, code(first)) == (400, "OUTSIDE_SCHEDULE")
    await api.send("PUT", f"/rooms/{room['id']}/schedule", admin, json={**WINDOW, "endTime": "20:00"})
    assert (await api.post("/bookings", user, json=body, **keyed("k1"))).status_code == 201


async def test_every_kind_of_change_is_done_once(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    booking = await api.booked(user, slots[0])
    day = tomorrow(2)
    closure = {"start": f"{day}T09:00:00Z", "end": f"{day}T10:00:00Z"}
    calls: list[tuple[str, str, Person, dict[str, Any] | None]] = [
        ("POST", "/rooms", admin, {"name": "Another"}),
        ("PATCH", f"/rooms/{room['id']}", admin, {"name": "Changed"}),
        ("PUT", f"/rooms/{room['id']}/schedule", admin, {**WINDOW, "endTime": "16:00"}),
        ("POST", f"/rooms/{room['id']}/closures", admin, closure),
        ("PATCH", f"/bookings/{booking['id']}", user, {"title": "T"}),
        ("POST", f"/bookings/{booking['id']}/reschedule", user, {"slotId": slots[3]["id"]}),
        ("POST", f"/bookings/{booking['id']}/cancel", user, None),
        ("POST", f"/users/{user.id}/bookings", admin, {"slotId": slots[4]["id"]}),
        ("PATCH", "/users/me", user, {"name": "N"}),
        ("PATCH", f"/users/{user.id}", admin, {"role": "user"}),
    ]
    for number, (method, path, who, body) in enumerate(calls):
        headers = {"Idempotency-Key": f"key-{number}"}
        first = await api.send(method, path, who, json=body, headers=headers)
        assert first.is_success, (method, path, first.text)
        messages = await api.db.fetch("SELECT count(*) FROM outbox")
        assert same(first, await api.send(method, path, who, json=body, headers=headers)), (method, path)
        assert await api.db.fetch("SELECT count(*) FROM outbox") == messages


async def test_a_deletion_is_replayed_too(api: Api, admin: Person) -> None:
    room = (await api.post("/rooms", admin, json={"name": "R"})).json()["room"]
    first = await api.send("DELETE", f"/rooms/{room['id']}", admin, **keyed("k1"))
    again = await api.send("DELETE", f"/rooms/{room['id']}", admin, **keyed("k1"))
    assert (first.status_code, again.status_code, again.headers["idempotency-replayed"]) == (204, 204, "true")
    assert (await api.send("DELETE", f"/rooms/{room['id']}", admin, **keyed("k2"))).status_code == 404


async def test_the_front_desks_answers_are_kept_whatever_becomes_of_the_user(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    path, body = f"/users/{user.id}/bookings", {"slotId": slots[0]["id"]}
    first = await api.post(path, admin, json=body, **keyed("k1"))
    assert first.status_code == 201
    nobody = f"/users/{slots[0]['id']}/bookings"
    unknown = await api.post(nobody, admin, json=body, **keyed("k2"))
    assert (unknown.status_code, code(unknown)) == (404, "USER_NOT_FOUND")
    assert same(unknown, await api.post(nobody, admin, json=body, **keyed("k2")))
    await api.send("DELETE", "/users/me", user)
    assert same(first, await api.post(path, admin, json=body, **keyed("k1")))
    assert (await api.post(path, admin, json=body, **keyed("k3"))).status_code == 404


async def test_a_replay_passes_authentication_first(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    await api.book(user, slots[0], **keyed("k1"))
    await api.send("PATCH", f"/users/{user.id}", admin, json={"status": "suspended"})
    assert (await api.book(user, slots[0], **keyed("k1"))).status_code == 401


async def test_after_a_day_a_key_is_new(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    await api.book(user, slots[0], **keyed("k1"))
    # A day cannot be waited for: the key is moved into the past where it is stored.
    await api.db.fetch("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")
    assert (await api.book(user, slots[1], **keyed("k1"))).status_code == 201


@pytest.mark.parametrize("key", ["", " ", '""', "x" * 256, "tab\there"])
async def test_a_key_must_be_printable_and_not_too_long(api: Api, user: Person, key: str) -> None:
    refused = await api.post("/bookings", user, json={"slotId": str(user.id)}, **keyed(key))
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_a_key_of_255_characters_is_fine(api: Api, admin: Person) -> None:
    assert (await api.post("/rooms", admin, json={"name": "R"}, **keyed('"' + "x" * 255 + '"'))).status_code == 201


async def test_secrets_are_never_stored_to_be_replayed(api: Api) -> None:
    body = {"email": "a@example.com", "password": "secret", "role": "user"}
    await api.post("/register", json=body, **keyed("k1"))
    first = await api.post("/login", json=body, **keyed("k2"))
    second = await api.post("/login", json=body, **keyed("k2"))
    assert first.json()["token"] != second.json()["token"]
    assert await api.db.fetch("SELECT 1 FROM idempotency_keys") == []
