"""Live streams of a real server, by server-sent events and WebSocket: who hears what, who may listen, and for how long."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from holdfast import streams
from holdfast.core.ids import new_id
from holdfast.core.security import AccessTokens, stored_secret
from holdfast.db.database import Database
from support.api import Api, Person, code, tomorrow
from support.databases import cloned_database
from support.servers import SECRET, ServerProcess, served
from support.streams import Heard, events, socket

LISTED = "https://app.example,http://Other.Example:8081"
#: What a stream may live on after its log-in has ended, in seconds.
OUT_WITHIN = 5.0


@pytest.fixture(scope="module")
def service(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    """A running server, and its database."""
    log = tmp_path_factory.mktemp("streams") / "service.log"
    with cloned_database(postgres, template) as url:
        with served({"HOLDFAST_DATABASE_URL": url, "HOLDFAST_CORS_ORIGINS": LISTED}, log=log) as server:
            yield server, url
            said = log.read_text()
        # Whatever a client does is no defect of ours.
        assert "Traceback" not in said, said[-3000:]
        assert "[error" not in said, said[-3000:]


@pytest.fixture
async def live(service: tuple[ServerProcess, str]) -> AsyncIterator[Api]:
    """The server's API, with its database at hand."""
    server, url = service
    db = Database(url, pool_size=4)
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as client:
        yield Api(client, db, AccessTokens(SECRET, minutes=60))
    await db.close()


@pytest.fixture
def url(service: tuple[ServerProcess, str]) -> str:
    return service[0].url


@pytest.fixture
async def boss(live: Api) -> Person:
    return await live.admin()


@pytest.fixture
async def anna(live: Api) -> Person:
    return await live.person()


@pytest.fixture
async def ben(live: Api) -> Person:
    return await live.person()


async def notice(api: Api, boss: Person) -> str:
    """Tell everybody something that marks a place in what they hear."""
    text = str(new_id())
    sent = await api.post("/notices", boss, json={"message": text})
    assert sent.status_code == 201, sent.text
    return text


async def heard_up_to(heard: Heard, text: str) -> list[dict[str, Any]]:
    """All that was heard before that notice."""

    def places() -> list[int]:
        return [place for place, message in enumerate(heard.messages) if message["data"].get("message") == text]

    await heard.until(lambda: bool(places()))
    return heard.messages[: places()[0]]


def assert_impersonal(heard: Heard, *secrets: str) -> None:
    """Nothing public tells of a person: neither who, nor the booking's or hold's id, nor what they wrote."""
    assert heard.messages
    said = json.dumps(heard.messages)
    for secret in ("userId", "title", "notes", "token", "conferenceLink", *secrets):
        assert secret not in said, secret


# --- what is heard where ---


async def test_a_booking_is_heard_by_its_owner_and_without_a_name_by_who_watches_the_room(
    live: Api, url: str, boss: Person, anna: Person, ben: Person
) -> None:
    room = await live.room(boss)
    first, second, *_ = await live.slots(anna, room)
    channel = f"room:{room['id']}"
    async with (
        events(url, anna) as own,
        events(url, ben, "me", channel) as other,
        socket(url, ben, channel) as by_socket,
    ):
        booking = await live.booked(anna, first, title="Dentist", notes="Bring the x-rays")
        made = await own.next("booking.created")
        assert made["data"] == {"booking": booking}
        assert abs(datetime.now(UTC) - datetime.fromisoformat(made["occurredAt"])) < timedelta(seconds=10)
        place = {"slotId": first["id"], "roomId": room["id"], "start": first["start"], "end": first["end"]}
        for heard in (other, by_socket):
            taken = await heard.next("slot.taken")
            assert taken["data"] == {**place, "status": "booked"}
            assert taken["id"] == f"{made['id']}.1"
            assert taken["occurredAt"] == made["occurredAt"]

        patched = await live.send("PATCH", f"/bookings/{booking['id']}", anna, json={"title": "Dentist, again"})
        assert patched.status_code == 200
        changed = (await own.next("booking.updated"))["data"]
        assert (changed["before"]["title"], changed["booking"]["title"]) == ("Dentist", "Dentist, again")

        moved = await live.post(f"/bookings/{booking['id']}/reschedule", anna, json={"slotId": second["id"]})
        assert moved.status_code == 200
        data = (await own.next("booking.rescheduled"))["data"]
        assert (data["before"]["slotId"], data["booking"]["slotId"]) == (first["id"], second["id"])
        for heard in (other, by_socket):
            assert (await heard.next("slot.freed"))["data"] == place
            assert (await heard.next("slot.taken"))["data"]["slotId"] == second["id"]

        assert (await live.post(f"/bookings/{booking['id']}/cancel", anna)).status_code == 200
        data = (await own.next("booking.cancelled"))["data"]
        assert (data["before"]["status"], data["booking"]["status"]) == ("active", "cancelled")
        for heard in (other, by_socket):
            assert (await heard.next("slot.freed"))["data"]["slotId"] == second["id"]
            assert_impersonal(heard, str(anna.id), booking["id"], "Dentist")
        mark = await notice(live, boss)
        expected = ["booking.created", "booking.updated", "booking.rescheduled", "booking.cancelled"]
        assert [message["type"] for message in await heard_up_to(own, mark)] == expected
        expected = ["slot.taken", "slot.freed", "slot.taken", "slot.freed"]
        for heard in (other, by_socket):
            assert [message["type"] for message in await heard_up_to(heard, mark)] == expected


async def test_a_host_hears_of_bookings_of_their_time(live: Api, url: str, anna: Person, ben: Person) -> None:
    made = await live.post("/hosts", anna, json={"displayName": "Anna"})
    assert made.status_code == 201
    host = made.json()["host"]["id"]
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    published = await live.post(
        "/slots", anna, json={"start": start.isoformat(), "end": (start + timedelta(minutes=20)).isoformat()}
    )
    slot = published.json()["slot"]
    async with events(url, anna) as own, events(url, ben, f"host:{host}") as watched:
        booking = await live.booked(ben, slot)
        assert (await own.next("booking.created"))["data"]["booking"] == booking
        taken = await watched.next("slot.taken")
        assert (taken["data"]["slotId"], taken["data"]["hostId"]) == (slot["id"], host)
        deleted = await live.send("DELETE", f"/bookings/{booking['id']}", anna)
        assert deleted.status_code == 200
        await own.next("booking.cancelled")
        await watched.next("slot.freed")
        assert_impersonal(watched, str(ben.id), booking["id"])


async def test_holds_are_heard_of_by_their_owner_and_as_taken_places(
    live: Api, url: str, boss: Person, anna: Person, ben: Person
) -> None:
    room = await live.room(boss, policy={"holdSeconds": 1})
    first, second, *_ = await live.slots(anna, room)
    async with events(url, anna) as own, events(url, ben, f"room:{room['id']}") as watched:
        held = await live.post("/holds", anna, json={"slotId": first["id"]})
        assert held.status_code == 201
        token = held.json()["hold"]["token"]
        assert (await own.next("hold.created"))["data"]["hold"]["slotIds"] == [first["id"]]
        taken = await watched.next("slot.taken")
        assert (taken["data"]["slotId"], taken["data"]["status"]) == (first["id"], "held")
        # It lapses by itself, and nobody asks.
        lapsed = await own.next("hold.lapsed")
        assert lapsed["data"]["hold"]["slotIds"] == [first["id"]]
        assert (await watched.next("slot.freed"))["data"]["slotId"] == first["id"]
        released = await live.post("/holds", anna, json={"slotId": second["id"]})
        await live.send("DELETE", f"/holds/{released.json()['hold']['token']}", anna)
        await own.next("hold.released")
        assert (await watched.next("slot.freed"))["data"]["slotId"] == second["id"]
        assert_impersonal(watched, str(anna.id), token)


async def test_closures_are_public_and_their_reasons_are_not(live: Api, url: str, boss: Person, ben: Person) -> None:
    room = await live.room(boss)
    body = {"start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T12:00:00Z", "reason": "Ben is ill"}
    async with events(url, ben, f"room:{room['id']}") as watched:
        made = await live.post(f"/rooms/{room['id']}/closures", boss, json=body)
        assert made.status_code == 201, made.text
        closure = made.json()["closure"]["id"]
        shown = (await watched.next("closure.created"))["data"]["closure"]
        assert shown == {"id": closure, "roomId": room["id"], "start": body["start"], "end": body["end"]}
        await live.send("DELETE", f"/rooms/{room['id']}/closures/{closure}", boss)
        assert (await watched.next("closure.deleted"))["data"]["closure"]["id"] == closure
        assert_impersonal(watched, "ill", str(boss.id))


async def test_seats_and_offers_of_an_event_are_heard_of(live: Api, url: str, boss: Person, anna: Person, ben: Person) -> None:
    start = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)
    made = await live.post(
        "/events", boss, json={"name": "Concert", "start": start.isoformat(), "end": (start + timedelta(hours=2)).isoformat()}
    )
    event = made.json()["event"]["id"]
    async with events(url, anna, "me", f"event:{event}") as own, events(url, ben, "me", f"event:{event}") as other:
        await live.post(f"/events/{event}/seats", boss, json={"seats": ["A-1"]})
        assert (await other.next("seat.changed"))["data"]["count"] == 1
        booked = await live.post("/bookings", anna, json={"eventId": event, "seats": ["A-1"]})
        assert booked.status_code == 201, booked.text
        assert (await own.next("booking.created"))["data"]["booking"]["seats"] == ["A-1"]
        assert (await other.next("seat.changed"))["data"] == {"eventId": event, "labels": ["A-1"], "status": "booked"}
        waits = await live.post("/waitlist", ben, json={"eventId": event})
        assert waits.status_code == 201
        assert (await other.next("waitlist.joined"))["data"]["entry"]["id"] == waits.json()["entry"]["id"]
        await live.post(f"/bookings/{booked.json()['booking']['id']}/cancel", anna)
        offered = await other.next("waitlist.offered")
        assert offered["data"]["entry"]["id"] == waits.json()["entry"]["id"]
        assert not own.of("waitlist.joined", "waitlist.offered")
        moved = await live.send("PATCH", f"/events/{event}", boss, json={"venue": "New Hall"})
        assert moved.status_code == 200, moved.text
        told = (await own.next("event.updated"))["data"]
        assert (told["before"]["venue"], told["event"]["venue"]) == (None, "New Hall")
        mark = await notice(live, boss)
        public = [m for m in await heard_up_to(own, mark) if m["type"] == "seat.changed"]
        assert str(ben.id) not in json.dumps(public)


async def test_only_ones_own_messages_are_private_to_one(live: Api, url: str, boss: Person, anna: Person, ben: Person) -> None:
    room = await live.room(boss)
    slot, *_ = await live.slots(anna, room)
    async with (
        events(url, ben) as other,
        socket(url, ben, "me") as by_socket,
        # An admin may read each booking, but is not told of each.
        events(url, boss) as admin,
    ):
        await live.booked(anna, slot)
        mark = await notice(live, boss)
        for heard in (other, by_socket, admin):
            assert await heard_up_to(heard, mark) == []


async def test_somebody_elses_channel_cannot_be_named(live: Api, url: str, anna: Person, ben: Person) -> None:
    for channel in (
        f"user:{anna.id}",
        f"me:{anna.id}",
        "all",
        "user:*",
        "*",
        "",
        f"room:{anna.id},user:{anna.id}",
        "room:",
        "x" * 999,
    ):
        refused = await live.get("/stream", ben, params={"channels": channel})
        assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST"), channel
    async with socket(url, ben) as heard:
        answer = await heard.ask(subscribe=[f"user:{anna.id}"])
        assert answer["error"]["code"] == "INVALID_REQUEST"


async def test_a_notice_reaches_all_who_are_connected_whatever_they_watch(
    live: Api, url: str, boss: Person, anna: Person, ben: Person
) -> None:
    room = await live.room(boss)
    async with (
        events(url, anna) as one,
        events(url, ben, f"room:{room['id']}") as two,
        socket(url, ben) as three,
        socket(url, boss, f"room:{room['id']}") as four,
    ):
        sent = await live.post("/notices", boss, json={"message": "We close at six."}, headers={"Idempotency-Key": "a"})
        assert sent.status_code == 201
        again = await live.post("/notices", boss, json={"message": "We close at six."}, headers={"Idempotency-Key": "a"})
        assert again.content == sent.content
        mark = await notice(live, boss)
        for heard in (one, two, three, four):
            before = await heard_up_to(heard, mark)
            assert [(m["type"], m["data"]) for m in before] == [("system.notice", {"message": "We close at six."})]
    assert (await live.post("/notices", anna, json={"message": "Hello"})).status_code == 403
    for message in ("", "  ", "x" * 2001, 7, None):
        assert (await live.post("/notices", boss, json={"message": message})).status_code == 400


# --- who may listen ---


async def test_nobody_listens_without_a_log_in(live: Api, url: str, anna: Person) -> None:
    refused = await live.get("/stream")
    assert (refused.status_code, code(refused)) == (401, "UNAUTHORIZED")
    assert refused.headers["www-authenticate"]
    for query in ("", "?ticket=", "?ticket=abc", f"?token={anna.token}"):
        with pytest.raises(InvalidStatus) as caught:
            async with socket(url, None, query=query):
                pass
        response = caught.value.response
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert json.loads(response.body or b"")["error"]["code"] == "UNAUTHORIZED"
    assert (await live.get("/stream", params={"ticket": "abc"})).status_code == 401


async def test_what_is_not_there_cannot_be_watched(live: Api, url: str, boss: Person, anna: Person) -> None:
    room = await live.room(boss)
    unknown = f"room:{new_id()}"
    refused = await live.get("/stream", anna, params={"channels": f"me,room:{room['id']},{unknown}"})
    assert (refused.status_code, code(refused)) == (404, "CHANNEL_NOT_FOUND")
    assert refused.json()["error"]["details"] == {"channels": [unknown]}
    # Nor a room as an event.
    refused = await live.get("/stream", anna, params={"channels": f"event:{room['id']}"})
    assert refused.status_code == 404
    async with socket(url, anna) as heard:
        assert (await heard.ask(subscribe=[unknown]))["error"]["code"] == "CHANNEL_NOT_FOUND"
        assert (await heard.ask(subscribe=["me"]))["subscribed"] == ["me"]


async def ticket_of(api: Api, who: Person) -> str:
    made = await api.post("/auth/ticket", who)
    assert made.status_code == 200, made.text
    assert made.headers["cache-control"] == "no-store"
    assert made.json()["expiresIn"] == 30
    found: str = made.json()["ticket"]
    return found


async def test_a_ticket_opens_one_stream_of_who_made_it(live: Api, url: str, boss: Person, anna: Person, ben: Person) -> None:
    room = await live.room(boss)
    slot, *_ = await live.slots(anna, room)
    one, two = await ticket_of(live, anna), await ticket_of(live, anna)
    async with events(url, None, ticket=one) as heard, socket(url, None, "me", query=f"?ticket={two}") as by_socket:
        for used in (one, two):
            refused = await live.get("/stream", params={"ticket": used})
            assert (refused.status_code, code(refused)) == (401, "UNAUTHORIZED")
            with pytest.raises(InvalidStatus):
                async with socket(url, None, query=f"?ticket={used}"):
                    pass
        booking = await live.booked(anna, slot)
        for stream in (heard, by_socket):
            assert (await stream.next("booking.created"))["data"]["booking"] == booking


async def test_of_twenty_at_once_one_uses_a_ticket(live: Api, url: str, anna: Person) -> None:
    ticket = await ticket_of(live, anna)

    async def attempt() -> int:
        try:
            async with socket(url, None, query=f"?ticket={ticket}"):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    assert sorted(await asyncio.gather(*(attempt() for _ in range(20)))) == [101] + [401] * 19


async def test_a_ticket_is_over_after_thirty_seconds(live: Api, url: str, anna: Person) -> None:
    ticket = await ticket_of(live, anna)
    left = await live.db.fetch(
        "UPDATE stream_tickets SET expires_at = expires_at - interval '30 seconds' WHERE user_id = $1 "
        "RETURNING expires_at - clock_timestamp() AS left",
        anna.id,
    )
    assert timedelta(seconds=-3) < left[0]["left"] <= timedelta(0)
    assert (await live.get("/stream", params={"ticket": ticket})).status_code == 401
    kept = await live.db.fetch("SELECT hash FROM stream_tickets WHERE user_id = $1", anna.id)
    assert all(ticket.encode() not in row["hash"] for row in kept)


async def test_tickets_that_nobody_used_are_tidied_away(live: Api, anna: Person) -> None:
    over, good = await ticket_of(live, anna), await ticket_of(live, anna)
    await live.db.fetch(
        "UPDATE stream_tickets SET expires_at = expires_at - interval '1 minute' WHERE hash = $1", stored_secret(over)
    )
    await streams.tidy(live.db)
    left = {row["hash"] for row in await live.db.fetch("SELECT hash FROM stream_tickets WHERE user_id = $1", anna.id)}
    assert {stored_secret(over), stored_secret(good)} & left == {stored_secret(good)}


async def test_an_api_key_listens_and_makes_no_tickets(live: Api, url: str, boss: Person, anna: Person) -> None:
    made = await live.post("/api-keys", anna, json={"name": "Board", "scopes": ["read"]})
    assert made.status_code == 201, made.text
    key = Person(anna.id, made.json()["secret"])
    refused = await live.post("/auth/ticket", key)
    assert (refused.status_code, code(refused)) == (403, "FORBIDDEN")
    assert (await live.post("/auth/ticket")).status_code == 401
    async with events(url, key) as heard, socket(url, key, "me") as by_socket:
        room = await live.room(boss)
        slot, *_ = await live.slots(anna, room)
        await live.booked(anna, slot)
        await heard.next("booking.created")
        await by_socket.next("booking.created")
        deleted = await live.send("DELETE", f"/api-keys/{made.json()['apiKey']['id']}", anna)
        assert deleted.status_code == 204
        await heard.until(lambda: heard.ended is not None, OUT_WITHIN)
        await by_socket.until(lambda: by_socket.ended is not None, OUT_WITHIN)
        assert (heard.ended, by_socket.ended) == ("in order", 1008)


ORIGINS = {
    "our own": ("{own}", 200),
    "our own in upper case": ("{OWN}", 200),
    "our own behind a proxy's TLS": ("https://{host}", 200),
    "a listed one": ("https://app.example", 200),
    "a listed one in upper case": ("HTTPS://APP.EXAMPLE", 200),
    "one that was listed in upper case": ("http://other.example:8081", 200),
    "a foreign one": ("https://evil.example", 403),
    "none that can be told": ("null", 403),
    "an empty one": ("", 403),
    "our host at another port": ("http://127.0.0.1:1", 403),
    "our host without its port": ("http://127.0.0.1", 403),
    "a listed one at another port": ("https://app.example:8443", 403),
    "a listed one with another scheme": ("http://app.example", 403),
    "another scheme of our own": ("ftp://{host}", 403),
    "one that ends in a listed one": ("https://evil-app.example", 403),
    "one that begins with a listed one": ("https://app.example.evil.example", 403),
    "our host as a user's name": ("http://{host}@evil.example", 403),
    "what is no origin": ("http://[", 403),
}


@pytest.mark.parametrize("which", ORIGINS)
async def test_pages_of_our_own_and_listed_origins_may_listen_and_no_others(
    which: str, live: Api, url: str, anna: Person
) -> None:
    pattern, expected = ORIGINS[which]
    origin = pattern.format(own=url, OWN=url.upper(), host=url.partition("//")[2])
    if expected == 200:
        async with events(url, anna, headers={"Origin": origin}), socket(url, anna, "me", origin=origin):
            return
    refused = await live.get("/stream", anna, headers={"Origin": origin})
    assert (refused.status_code, code(refused)) == (403, "ORIGIN_FORBIDDEN")
    with pytest.raises(InvalidStatus) as caught:
        async with socket(url, anna, origin=origin):
            pass
    assert caught.value.response.status_code == 403
    assert json.loads(caught.value.response.body or b"")["error"]["code"] == "ORIGIN_FORBIDDEN"


async def test_a_socket_at_another_address_is_told_so(url: str, anna: Person) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(f"{url.replace('http', 'ws', 1)}/nowhere", additional_headers=anna.headers):
            pass
    assert caught.value.response.status_code == 404
    assert json.loads(caught.value.response.body or b"")["error"]["code"] == "NOT_FOUND"


# --- for how long ---


async def test_a_suspended_user_hears_nothing_more(live: Api, url: str, boss: Person, anna: Person, ben: Person) -> None:
    async with (
        events(url, anna) as heard,
        socket(url, anna, "me") as by_socket,
        events(url, ben) as stays,
    ):
        suspended = await live.send("PATCH", f"/users/{anna.id}", boss, json={"status": "suspended"})
        assert suspended.status_code == 200
        await heard.until(lambda: heard.ended is not None, OUT_WITHIN)
        await by_socket.until(lambda: by_socket.ended is not None, OUT_WITHIN)
        assert (heard.ended, by_socket.ended) == ("in order", 1008)
        await heard_up_to(stays, await notice(live, boss))
    refused = await live.get("/stream", anna)
    assert refused.status_code == 401


async def test_a_stream_ends_with_its_session_and_not_with_another(live: Api, url: str, anna: Person, boss: Person) -> None:
    row = (await live.db.fetch("SELECT id FROM sessions WHERE user_id = $1", anna.id))[0]
    other = new_id()
    await live.db.fetch(
        "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ($1, $2, now(), now() + interval '1 day')",
        other,
        anna.id,
    )
    phone = Person(anna.id, live.tokens.sign(user_id=anna.id, role="user", session_id=other, now=datetime.now(UTC)))
    ticket = await ticket_of(live, anna)
    async with (
        events(url, anna) as heard,
        socket(url, None, "me", query=f"?ticket={ticket}") as by_ticket,
        events(url, phone) as stays,
    ):
        # As another process does it: this server learns of it by looking.
        await live.db.fetch("UPDATE sessions SET ended_at = clock_timestamp() WHERE id = $1", row["id"])
        await heard.until(lambda: heard.ended is not None, OUT_WITHIN)
        await by_ticket.until(lambda: by_ticket.ended is not None, OUT_WITHIN)
        await heard_up_to(stays, await notice(live, boss))


async def test_a_stream_ends_with_its_token(live: Api, url: str, anna: Person) -> None:
    (row,) = await live.db.fetch("SELECT id FROM sessions WHERE user_id = $1", anna.id)
    begun = datetime.now(UTC) - timedelta(minutes=1) + timedelta(seconds=3)
    short = AccessTokens(SECRET, minutes=1).sign(user_id=anna.id, role="user", session_id=row["id"], now=begun)
    person = Person(anna.id, short)
    ticket = await ticket_of(live, person)
    async with (
        events(url, person) as heard,
        socket(url, person, "me") as by_socket,
        events(url, None, ticket=ticket) as by_ticket,
        events(url, anna) as stays,
    ):
        for stream in (heard, by_socket, by_ticket):
            await stream.until(lambda stream=stream: stream.ended is not None, 3 + OUT_WITHIN)
        assert stays.ended is None
    assert (await live.get("/stream", person)).status_code == 401


# --- what a WebSocket is asked ---


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"subscribe"',
        "{}",
        '{"subscribe": "me"}',
        '{"subscribe": []}',
        '{"subscribe": [7]}',
        '{"subscribe": {"me": 1}}',
        '{"subscribe": ["me"], "lastEventId": 7}',
        '{"subscribe": ["\\u0000"]}',
        '{"subscribe": ["\\ud800"]}',
        '{"subscribe": ["room:00000000-0000-0000-0000-00000000000g"]}',
        "[" * 5_000,
        '{"subscribe": ["' + "x" * 20_000 + '"]}',
    ],
    ids=lambda text: text[:24] or "nothing",
)
async def test_nonsense_is_refused_and_the_socket_goes_on(text: str, url: str, anna: Person) -> None:
    async with socket(url, anna) as heard:
        await heard.connection.send(text)
        await heard.until(lambda: bool(heard.answers))
        assert heard.answers[0]["error"]["code"] == "INVALID_REQUEST"
        assert (await heard.ask(subscribe=["me"]))["subscribed"] == ["me"]


async def test_bytes_end_a_socket(url: str, anna: Person) -> None:
    async with socket(url, anna, "me") as heard:
        await heard.connection.send(b'{"subscribe": ["me"]}')
        await heard.until(lambda: heard.ended is not None)
        assert heard.ended == 1003


async def test_what_is_far_too_large_ends_a_socket(url: str, anna: Person) -> None:
    async with socket(url, anna, "me") as heard:
        await heard.connection.send(json.dumps({"subscribe": ["x" * 100_000]}))
        await heard.until(lambda: heard.ended is not None)
        assert heard.ended == 1009


async def test_a_stream_has_at_most_a_hundred_channels(live: Api, url: str, boss: Person, anna: Person) -> None:
    unknown = [f"room:{new_id()}" for _ in range(101)]
    refused = await live.get("/stream", anna, params={"channels": ",".join(unknown)})
    assert (refused.status_code, refused.json()["error"]["details"]) == (400, {"rule": "maxChannels", "value": 100})
    rooms = [f"room:{(await live.post('/rooms', boss, json={'name': 'Room'})).json()['room']['id']}" for _ in range(101)]
    async with socket(url, anna) as heard:
        assert (await heard.ask(subscribe=unknown))["error"]["details"]["rule"] == "maxChannels"
        assert len((await heard.ask(subscribe=rooms[:60]))["subscribed"]) == 60
        assert (await heard.ask(subscribe=rooms[50:]))["error"]["details"]["rule"] == "maxChannels"
        assert len((await heard.ask(subscribe=rooms[50:100]))["subscribed"]) == 100
        assert len((await heard.ask(unsubscribe=rooms[:1]))["subscribed"]) == 99
        assert len((await heard.ask(subscribe=rooms[100:]))["subscribed"]) == 100


async def test_who_unsubscribes_hears_no_more_of_it(live: Api, url: str, boss: Person, anna: Person, ben: Person) -> None:
    room = await live.room(boss)
    slots = await live.slots(anna, room)
    channel = f"room:{room['id']}"
    async with socket(url, ben, "me", channel) as heard:
        await live.booked(anna, slots[0])
        await heard.next("slot.taken")
        assert (await heard.ask(unsubscribe=[channel]))["subscribed"] == ["me"]
        await live.booked(anna, slots[1])
        before = await heard_up_to(heard, await notice(live, boss))
        assert len(before) == 1
        assert (await heard.ask(subscribe=[channel.upper().replace("ROOM", "room")]))["subscribed"] == ["me", channel]
        await live.booked(anna, slots[2])
        assert (await heard.next("slot.taken"))["data"]["slotId"] == slots[2]["id"]


# --- and what it says besides ---


async def test_a_stream_is_neither_kept_nor_packed_by_anybody_on_the_way(url: str, anna: Person) -> None:
    headers = {"Accept-Encoding": "gzip", **anna.headers}
    async with httpx.AsyncClient() as client, client.stream("GET", f"{url}/stream", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in response.headers
        assert "content-length" not in response.headers
