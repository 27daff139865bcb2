"""Hold, ask, confirm: whatever the provider does, there is a booking with a link, or nothing and a clear 502."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from conftest import make_settings
from holdfast.adapters.conferencing import ConferenceProvider, HttpProvider, Meeting
from holdfast.main import build_app, build_state
from holdfast.web.state import State
from support.api import Api, Person, code
from support.providers import ProviderServer


class Scripted:
    """A provider that does what a test says: an answer, or an error to raise."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[Meeting] = []

    async def create_link(self, meeting: Meeting) -> Any:
        self.asked.append(meeting)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def close(self) -> None:
        return


@asynccontextmanager
async def served_with(state: State, provider: ConferenceProvider) -> AsyncIterator[httpx.AsyncClient]:
    other = build_state(make_settings(state.db.url, pool_size=8), conferencing=provider)
    transport = httpx.ASGITransport(build_app(other))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test", timeout=30) as client:
        yield client
    other.passwords.close()
    await other.db.close()


async def nothing_is_left(api: Api) -> bool:
    rows = await api.db.fetch("SELECT (SELECT count(*) FROM claims) AS claims, (SELECT count(*) FROM bookings) AS bookings")
    return (rows[0]["claims"], rows[0]["bookings"]) == (0, 0)


async def test_the_mocks_link_carries_the_bookings_id(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    booking = await api.booked(user, slots[0], createConferenceLink=True)
    assert booking["conferenceLink"] == f"https://meet.example.com/{booking['id']}"
    assert (await api.booked(user, slots[1], createConferenceLink=False))["conferenceLink"] is None


async def test_a_moved_booking_keeps_its_link(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    booking = await api.booked(user, slots[0], createConferenceLink=True)
    moved = await api.post(f"/bookings/{booking['id']}/reschedule", user, json={"slotId": slots[4]["id"]})
    assert moved.json()["booking"]["conferenceLink"] == booking["conferenceLink"]


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("broken plug-in"),
        TimeoutError(),
        ValueError("x"),
        None,
        42,
        "",
        "http://meet.example.com/plain",
        "javascript:alert(1)",
        "https://",
        "https://user:secret@meet.example.com/x",
        "https://meet.example.com/" + "x" * 3000,
        "https://meet.example.com/\nX-Evil: 1",
    ],
)
async def test_a_failing_provider_leaves_nothing_and_a_502(
    api: Api, admin: Person, user: Person, state: State, answer: object
) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    async with served_with(state, Scripted(answer)) as client:
        refused = await client.post(
            "/bookings", json={"slotId": slots[0]["id"], "createConferenceLink": True}, headers=user.headers
        )
    assert (refused.status_code, code(refused)) == (502, "CONFERENCE_SERVICE_ERROR")
    assert await nothing_is_left(api)
    assert await api.slots(user, room) == slots


async def test_a_repeat_after_a_failure_asks_with_the_same_id(api: Api, admin: Person, user: Person, state: State) -> None:
    slots = await api.slots(user, await api.room(admin))
    provider = Scripted(TimeoutError(), "https://meet.example.com/one", "https://meet.example.com/two")
    request = {
        "json": {"slotId": slots[0]["id"], "createConferenceLink": True},
        "headers": {**user.headers, "Idempotency-Key": "k1"},
    }
    async with served_with(state, provider) as client:
        assert (await client.post("/bookings", **request)).status_code == 502
        made = await client.post("/bookings", **request)
        again = await client.post("/bookings", **request)
    assert made.status_code == 201, made.text
    assert again.content == made.content
    assert len(provider.asked) == 2
    assert {str(meeting.booking_id) for meeting in provider.asked} == {made.json()["booking"]["id"]}


async def test_nothing_is_held_open_while_the_provider_thinks(api: Api, admin: Person, user: Person, state: State) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Scripted):
        async def create_link(self, meeting: Meeting) -> str:
            asked.set()
            await go_on.wait()
            return f"https://meet.example.com/{meeting.booking_id}"

    async with served_with(state, Slow()) as client:
        body = {"slotId": slots[0]["id"], "createConferenceLink": True}
        waiting = asyncio.create_task(client.post("/bookings", json=body, headers=user.headers))
        await asked.wait()
        open_transactions = await api.db.fetch(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        assert open_transactions[0]["n"] == 0
        # Meanwhile the slot is held: nobody else gets it, and everybody sees why.
        rival = await api.book(await api.person(), slots[0])
        assert (rival.status_code, code(rival)) == (409, "SLOT_ALREADY_BOOKED")
        shown = await api.get(f"/rooms/{room['id']}/slots", user, params={"date": slots[0]["start"][:10], "status": "all"})
        assert (shown.json()["slots"][0]["status"], shown.json()["slots"][0]["mine"]) == ("held", True)
        go_on.set()
        assert (await waiting).status_code == 201


async def test_a_closure_during_the_call_wins_and_says_so(api: Api, admin: Person, user: Person, state: State) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)

    class Closing(Scripted):
        async def create_link(self, meeting: Meeting) -> str:
            body = {"start": slots[0]["start"], "end": slots[0]["end"], "cancelBookings": True}
            closed = await api.post(f"/rooms/{room['id']}/closures", admin, json=body)
            assert closed.status_code == 201
            return f"https://meet.example.com/{meeting.booking_id}"

    async with served_with(state, Closing()) as client:
        body = {"slotId": slots[0]["id"], "createConferenceLink": True}
        refused = await client.post("/bookings", json=body, headers=user.headers)
    assert (refused.status_code, code(refused)) == (409, "CLOSED")
    (row,) = await api.db.fetch("SELECT count(*) AS n FROM bookings")
    assert row["n"] == 0
    told = await api.db.fetch("SELECT type FROM outbox WHERE type LIKE 'hold.%' ORDER BY occurred_at")
    assert [message["type"] for message in told] == ["hold.created", "hold.released"]


async def test_any_service_is_asked_over_http(api: Api, admin: Person, user: Person, state: State) -> None:
    slots = await api.slots(user, await api.room(admin))
    with ProviderServer() as server:
        provider = HttpProvider(server.url, state.settings.jwt_secret, deadline_seconds=5)
        async with served_with(state, provider) as client:
            body = {"slotId": slots[0]["id"], "createConferenceLink": True, "title": "Team"}
            made = await client.post("/bookings", json=body, headers=user.headers)
    assert made.status_code == 201, made.text
    booking = made.json()["booking"]
    (request,) = server.requests
    assert request.headers["Idempotency-Key"] == booking["id"]
    assert request.headers["Authorization"] == f"Bearer {state.settings.jwt_secret.get_secret_value()}"
    assert request.body == {"bookingId": booking["id"], "title": "Team", "start": booking["start"], "end": booking["end"]}
    assert booking["conferenceLink"] == f"https://calls.example.com/{booking['id']}"
