"""The relay: committed messages get numbers in order, without a gap, whoever writes and relays at once. What each then says."""

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import jobs, messages, outbox
from holdfast.bookings.service import settle_all
from holdfast.core.callers import SYSTEM
from holdfast.core.errors import Busy
from holdfast.core.ids import new_id
from holdfast.db.database import SERVER_SETTINGS, Database
from holdfast.messages import Message
from holdfast.notifications import service as notifications
from holdfast.outbox import StoredMessage, relay
from holdfast.outbox.relay import _LOCK, A_FEW, AT_ONCE
from support.api import Api, Person, tomorrow
from support.crashes import until
from support.everything import Everything, move_end

SUBJECT = UUID(int=7)


async def write(db: Database, *types: str, subject: UUID = SUBJECT) -> None:
    """Messages of one committed transaction."""
    async with db.transaction() as session:
        for type_ in types:
            await outbox.enqueue(session, type_, subject, by=SYSTEM)


async def stored(db: Database) -> list[StoredMessage]:
    """Everything that has a number."""
    return await outbox.read_after(db, 0, limit=100_000)


async def relay_all(db: Database, *followers: outbox.Follower) -> None:
    while await relay(db, followers):
        pass


async def note(session: AsyncSession, told: Sequence[StoredMessage]) -> None:
    """A follower that writes down what it is told, in the relay's transaction."""
    await jobs.enqueue_all(session, "told", [(None, {"number": one.number}, None) for one in told])


async def noted(db: Database) -> list[int]:
    rows = await db.fetch("SELECT (payload ->> 'number')::int AS number FROM jobs WHERE kind = 'told' ORDER BY 1")
    return [row["number"] for row in rows]


async def test_eight_writers_and_three_relays_at_once_make_one_order_without_a_gap(api: Api) -> None:
    rng, writing = random.Random(4), True
    written: dict[int, list[str]] = defaultdict(list)

    async def writer(who: int) -> None:
        for n in range(25):
            types = [f"writer{who}.{n}.{part}" for part in range(rng.randint(1, 3))]
            async with api.db.transaction() as session:
                for type_ in types:
                    await outbox.enqueue(session, type_, UUID(int=who), by=SYSTEM)
                    await asyncio.sleep(rng.choice((0, 0, 0.003)))
            written[who] += types

    async def relaying() -> None:
        while writing or await relay(api.db, [note]):
            await relay(api.db, [note])
            await asyncio.sleep(0.001)

    async def reading() -> list[StoredMessage]:
        """As a client does that was away: what comes after the last one, again and again."""
        found: list[StoredMessage] = []
        while True:
            over = not writing and all(relay_.done() for relay_ in relays)
            more = await outbox.read_after(api.db, found[-1].number if found else 0, limit=7)
            found += more
            if over and not more:
                return found
            await asyncio.sleep(0)

    relays = [asyncio.create_task(relaying()) for _ in range(3)]
    reader = asyncio.create_task(reading())
    await asyncio.gather(*(writer(who) for who in range(8)))
    writing = False
    await asyncio.gather(*relays)
    read = await reader
    total = sum(len(types) for types in written.values())
    assert total > 200
    assert [one.number for one in read] == list(range(1, total + 1))
    assert await noted(api.db) == list(range(1, total + 1))
    for who, types in written.items():
        assert [one.type for one in read if one.subject_id.int == who] == types


async def test_control_reading_by_time_or_id_loses_what_is_committed_late(api: Api) -> None:
    """The reason for the numbers: with these ways of reading, the same course of events loses a message."""

    async def after(column: str, last: object) -> list[Any]:
        return list(await api.db.fetch(f"SELECT id, occurred_at, type FROM outbox WHERE {column} > $1 ORDER BY {column}", last))

    async with api.db.transaction() as slow:
        await outbox.enqueue(slow, "slow.first", SUBJECT, by=SYSTEM)
        await write(api.db, "quick.second")
        await relay_all(api.db)
        (by_id,) = await after("id", UUID(int=0))
        (by_time,) = await after("occurred_at", datetime(2000, 1, 1, tzinfo=UTC))
        (by_number,) = await outbox.read_after(api.db, 0, limit=9)
    await relay_all(api.db)
    assert {by_id["type"], by_time["type"], by_number.type} == {"quick.second"}
    assert await after("id", by_id["id"]) == []
    assert await after("occurred_at", by_time["occurred_at"]) == []
    assert [one.type for one in await outbox.read_after(api.db, by_number.number, limit=9)] == ["slow.first"]


async def test_a_bookings_messages_are_numbered_in_the_order_of_what_happened(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    running = True

    async def relaying() -> None:
        while running:
            await relay(api.db, [note])
            await asyncio.sleep(0)

    relays = [asyncio.create_task(relaying()) for _ in range(2)]
    booked = [await api.booked(user, slot) for slot in slots[:4]]

    async def live(booking: dict[str, Any], target: dict[str, Any]) -> None:
        path = f"/bookings/{booking['id']}"
        assert (await api.send("PATCH", path, user, json={"title": "x"})).status_code == 200
        assert (await api.post(f"{path}/reschedule", user, json={"slotId": target["id"]})).status_code == 200
        assert (await api.post(f"{path}/cancel", user)).status_code == 200

    await asyncio.gather(*(live(booking, target) for booking, target in zip(booked, slots[4:8], strict=True)))
    running = False
    await asyncio.gather(*relays)
    await relay_all(api.db, note)
    told = await stored(api.db)
    for booking in booked:
        types = [one.type for one in told if str(one.subject_id) == booking["id"]]
        assert types == ["booking.created", "booking.updated", "booking.rescheduled", "booking.cancelled"]


async def test_what_is_rolled_back_is_never_numbered(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slot = (await api.slots(user, room))[0]

    async def fails() -> None:
        async with api.db.transaction() as session:
            await outbox.enqueue(session, "booking.created", SUBJECT, by=SYSTEM)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - ours
        await fails()
    await api.booked(user, slot)
    # A second booking is refused in the midst of its transaction.
    assert (await api.book(await api.person(), slot)).status_code == 409
    await relay_all(api.db, note)
    told = await stored(api.db)
    assert [one.number for one in told] == list(range(1, len(told) + 1))
    assert Counter(one.type for one in told)["booking.created"] == 1


async def test_a_follower_that_fails_undoes_the_round_and_is_asked_again(api: Api) -> None:
    calls = 0

    async def fails_twice(_session: AsyncSession, _told: Sequence[StoredMessage]) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            msg = "no"
            raise RuntimeError(msg)

    await write(api.db, "a.a", "a.b")
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await relay(api.db, [note, fails_twice])
        assert await stored(api.db) == []
        assert await noted(api.db) == []
    assert await relay(api.db, [note, fails_twice]) == 2
    assert await noted(api.db) == [1, 2]
    assert await relay(api.db, [note, fails_twice]) == 0


async def test_a_round_that_is_too_much_for_its_time_is_tried_with_a_few(api: Api) -> None:
    """Else it would be tried with as much for ever, and nobody would hear of anything any more."""

    async def slow_with_many(_session: AsyncSession, told: Sequence[StoredMessage]) -> None:
        if len(told) > A_FEW:
            raise Busy

    await write(api.db, *(f"a.{n}" for n in range(3 * A_FEW + 1)))
    rounds = []
    while told := await relay(api.db, [note, slow_with_many]):
        rounds.append(told)
    assert rounds == [A_FEW, A_FEW, A_FEW, 1]
    assert await noted(api.db) == list(range(1, 3 * A_FEW + 2))


async def test_a_long_absence_is_caught_up_with_in_rounds_of_bounded_size(api: Api) -> None:
    await api.db.fetch(
        "INSERT INTO outbox (id, type, subject_id, actor_role, occurred_at) SELECT gen_random_uuid(), 'a.' || n, $1, 'system', "
        "clock_timestamp() - interval '1 hour' + n * interval '1 second' FROM generate_series(1, $2::int) n",
        SUBJECT,
        2 * AT_ONCE + 3,
    )
    assert await outbox.lag_seconds(api.db) > 3000
    assert [await relay(api.db, [note]) for _ in range(4)] == [AT_ONCE, AT_ONCE, 3, 0]
    assert [one.type for one in await stored(api.db)] == [f"a.{n}" for n in range(1, 2 * AT_ONCE + 4)]
    assert await outbox.lag_seconds(api.db) == 0


async def test_one_relay_at_a_time_has_its_turn(api: Api) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def parks(_session: AsyncSession, _told: Sequence[StoredMessage]) -> None:
        entered.set()
        await go_on.wait()

    await write(api.db, "a.a")
    first = asyncio.create_task(relay(api.db, [parks]))
    await entered.wait()
    await write(api.db, "a.b")
    assert await relay(api.db, [note]) == 0
    go_on.set()
    assert await first == 1
    assert await relay(api.db, [note]) == 1
    assert [one.type for one in await stored(api.db)] == ["a.a", "a.b"]


async def test_a_relay_that_stands_still_in_its_transaction_is_ended_by_the_server(api: Api, database_url: str) -> None:
    """As one that was stopped (SIGSTOP), or whose machine went away: its turn ends with its idle transaction."""
    limit = timedelta(seconds=int(SERVER_SETTINGS["idle_in_transaction_session_timeout"].removesuffix("s")))
    frozen = await asyncpg.connect(database_url, server_settings=SERVER_SETTINGS)
    await frozen.execute("BEGIN")
    assert await frozen.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK)
    await write(api.db, "a.a")
    began = asyncio.get_running_loop().time()
    assert await relay(api.db, [note]) == 0

    async def has_its_turn() -> bool:
        return await relay(api.db, [note]) == 1

    await until(has_its_turn, limit.total_seconds() + 5)
    took = asyncio.get_running_loop().time() - began
    assert limit.total_seconds() - 1 < took < limit.total_seconds() + 2
    assert await noted(api.db) == [1]
    frozen.terminate()


async def test_whoever_listens_is_told_the_newest_number_once_it_can_be_read(api: Api, database_url: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    ear = await asyncpg.connect(database_url)
    try:
        await ear.add_listener(outbox.CHANNEL, lambda *said: heard.put_nowait(str(said[-1])))
        await write(api.db, "a.a", "a.b")
        await relay(api.db, [])
        async with asyncio.timeout(10):
            assert await heard.get() == "2"
        assert len(await outbox.read_after(api.db, 1, limit=9)) == 1
    finally:
        await ear.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM outbox",
        "UPDATE outbox SET number = number + 100",
        "UPDATE outbox SET number = NULL",
        "UPDATE outbox SET occurred_at = occurred_at - interval '1 day'",
        "UPDATE outbox SET actor_id = gen_random_uuid()",
        "UPDATE outbox SET after = '{}'",
    ],
)
async def test_what_was_written_and_numbered_is_never_changed(api: Api, statement: str) -> None:
    await write(api.db, "a.a")
    await relay_all(api.db)
    before = await api.db.fetch("SELECT * FROM outbox")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
        await api.db.fetch(statement)
    assert await api.db.fetch("SELECT * FROM outbox") == before


# What the outside hears.


async def said(api: Api, *, since: int = 0) -> list[Message]:
    """What everything says that was committed after a number."""
    await relay_all(api.db)
    return await messages.derive(api.db, await outbox.read_after(api.db, since, limit=10_000))


async def now(api: Api) -> int:
    """The newest number; everything that is committed has one."""
    await relay_all(api.db)
    return (await outbox.newest(api.db))[0]


def seen(found: Sequence[Message]) -> list[tuple[str, set[str]]]:
    return [(one.type, set(one.channels)) for one in found]


async def test_a_booking_of_a_room_is_told_to_its_owner_and_its_slot_to_everybody(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    since = await now(api)
    booking = await api.booked(user, slots[0], title="Surprise party", notes="Bring cake")
    mine, public = await said(api, since=since)
    assert (mine.type, mine.channels, mine.data) == ("booking.created", {f"user:{user.id}"}, {"booking": booking})
    assert (public.type, public.channels) == ("slot.taken", {f"room:{room['id']}"})
    slot = {"slotId": slots[0]["id"], "roomId": room["id"], "start": slots[0]["start"], "end": slots[0]["end"]}
    assert public.data == {**slot, "status": "booked"}
    assert public.id == f"{mine.id}.1"
    assert (mine.number, mine.subject_id) == (public.number, public.subject_id) == (since + 1, UUID(booking["id"]))
    assert mine.as_json() == {
        "id": mine.id,
        "type": "booking.created",
        "occurredAt": mine.occurred_at.isoformat().replace("+00:00", "Z"),
        "data": mine.data,
    }


async def test_a_change_says_what_was_before_and_a_cancel_frees_the_slots(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    made = (await api.post("/bookings", user, json={"slotIds": [slots[0]["id"], slots[1]["id"]]})).json()["booking"]
    path = f"/bookings/{made['id']}"
    since = await now(api)
    renamed = (await api.send("PATCH", path, user, json={"title": "New"})).json()["booking"]
    moved = (await api.post(f"{path}/reschedule", user, json={"slotIds": [slots[1]["id"], slots[2]["id"]]})).json()["booking"]
    cancelled = (await api.post(f"{path}/cancel", user)).json()["booking"]
    found = await said(api, since=since)
    to, all_ = f"user:{user.id}", {f"room:{room['id']}"}
    assert seen(found) == [
        ("booking.updated", {to}),
        ("booking.rescheduled", {to}),
        ("slot.freed", all_),
        ("slot.taken", all_),
        ("booking.cancelled", {to}),
        ("slot.freed", all_),
        ("slot.freed", all_),
    ]
    updated, rescheduled, freed, taken, gone, *last = found
    assert updated.data == {"booking": renamed, "before": made}
    assert rescheduled.data == {"booking": moved, "before": renamed}
    assert (freed.data["slotId"], taken.data["slotId"]) == (slots[0]["id"], slots[2]["id"])
    assert gone.data == {"booking": cancelled, "before": moved}
    assert [one.data["slotId"] for one in last] == [slots[1]["id"], slots[2]["id"]]
    assert [one.id.removeprefix(gone.id) for one in last] == [".1", ".2"]


async def test_a_booking_of_a_host_is_told_to_both(api: Api, user: Person) -> None:
    host = await api.person()
    shown = (await api.post("/hosts", host, json={"displayName": "Ada"})).json()["host"]
    times = {"start": f"{tomorrow(2)}T10:00:00Z", "end": f"{tomorrow(2)}T11:00:00Z"}
    (slot,) = (await api.post("/slots", host, json={"slots": [times]})).json()["slots"]
    since = await now(api)
    booking = await api.booked(user, slot)
    created, taken = await said(api, since=since)
    assert created.channels == {f"user:{user.id}", f"user:{host.id}"}
    assert (taken.channels, taken.data["hostId"]) == ({f"host:{shown['id']}"}, shown["id"])
    since = await now(api)
    assert (await api.send("DELETE", f"/bookings/{booking['id']}", host)).status_code == 200
    assert (await api.send("DELETE", f"/slots/{slot['id']}", host)).status_code == 204
    assert seen(await said(api, since=since)) == [
        ("booking.cancelled", {f"user:{user.id}", f"user:{host.id}"}),
        ("slot.freed", {f"host:{shown['id']}"}),
    ]


async def event_of(api: Api, admin: Person, *labels: str) -> dict[str, Any]:
    event = (await api.post("/events", admin, json={"name": "Concert", "start": f"{tomorrow(3)}T18:00:00Z"})).json()["event"]
    assert (await api.post(f"/events/{event['id']}/seats", admin, json={"seats": labels})).status_code == 201
    found: dict[str, Any] = event
    return found


async def test_seats_of_an_event_are_told_of_by_label(api: Api, admin: Person, user: Person) -> None:
    since = await now(api)
    event = await event_of(api, admin, "A-1", "A-2", "A-3")
    everybody = {f"event:{event['id']}"}
    (added,) = await said(api, since=since)
    assert (added.type, added.channels) == ("seat.changed", everybody)
    assert added.data == {"eventId": event["id"], "labels": ["A-1", "A-2", "A-3"], "count": 3, "status": "free"}
    since = await now(api)
    hold = (await api.post("/holds", user, json={"eventId": event["id"], "seats": ["A-1", "A-2"]})).json()["hold"]
    booking = (await api.post("/bookings", user, json={"holdToken": hold["token"]})).json()["booking"]
    assert (await api.post(f"/bookings/{booking['id']}/cancel", user)).status_code == 200
    blocked = await api.send("PATCH", f"/events/{event['id']}/seats", admin, json={"labels": ["A-3"], "blocked": True})
    assert blocked.status_code == 200
    found = await said(api, since=since)
    assert [(one.type, one.data["status"]) for one in found if one.channels == everybody] == [
        ("seat.changed", status) for status in ("held", "booked", "free", "blocked")
    ]
    assert all(one.data["labels"] == ["A-1", "A-2"] for one in found[:-1] if one.channels == everybody)
    assert [one.type for one in found if one.channels == {f"user:{user.id}"}] == [
        "hold.created",
        "booking.created",
        "booking.cancelled",
    ]


async def test_holds_tell_of_their_beginning_and_of_every_end(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    mine, all_ = {f"user:{user.id}"}, {f"room:{room['id']}"}

    async def held(number: int) -> dict[str, Any]:
        made = await api.post("/holds", user, json={"slotId": slots[number]["id"]})
        assert made.status_code == 201, made.text
        found: dict[str, Any] = made.json()["hold"]
        return found

    since = await now(api)
    released = await held(0)
    assert (await api.post(f"/holds/{released['token']}/extend", user)).status_code == 200
    assert (await api.send("DELETE", f"/holds/{released['token']}", user)).status_code == 204
    lapsed = await held(1)
    await move_end(api, lapsed["token"], -1)
    await settle_all(api.db)
    found = await said(api, since=since)
    assert seen(found) == [
        ("hold.created", mine),
        ("slot.taken", all_),
        ("hold.extended", mine),
        ("hold.released", mine),
        ("slot.freed", all_),
        ("hold.created", mine),
        ("slot.taken", all_),
        ("hold.lapsed", mine),
        ("slot.freed", all_),
    ]
    assert [one.data["status"] for one in found if one.type == "slot.taken"] == ["held", "held"]
    assert [one.data["slotId"] for one in found if one.type == "slot.freed"] == [slots[0]["id"], slots[1]["id"]]
    ends = [one.data["hold"] for one in found if one.type in {"hold.released", "hold.lapsed"}]
    assert [end["slotIds"] for end in ends] == [[slots[0]["id"]], [slots[1]["id"]]]


async def test_what_is_freed_for_somebody_who_waits_is_taken_again_at_once(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slot = (await api.slots(user, room))[0]
    booking, waiter = await api.booked(user, slot), await api.person()
    entry = (await api.post("/waitlist", waiter, json={"slotId": slot["id"]})).json()["entry"]
    since = await now(api)
    assert (await api.post(f"/bookings/{booking['id']}/cancel", user)).status_code == 200
    found = await said(api, since=since)
    private = [(one.type, set(one.channels)) for one in found if one.type.partition(".")[0] != "slot"]
    theirs = {f"user:{waiter.id}"}
    assert private == [("booking.cancelled", {f"user:{user.id}"}), ("hold.created", theirs), ("waitlist.offered", theirs)]
    assert [(one.type, one.data["slotId"]) for one in found if "slot." in one.type] == [
        ("slot.freed", slot["id"]),
        ("slot.taken", slot["id"]),
    ]
    offered = found[-1].data["entry"]
    assert (offered["id"], offered["status"]) == (entry["id"], "offered")
    since = await now(api)
    await move_end(api, offered["holdToken"], -1)
    await settle_all(api.db)
    found = await said(api, since=since)
    assert [(one.type, set(one.channels)) for one in found] == [
        ("hold.lapsed", theirs),
        ("slot.freed", {f"room:{room['id']}"}),
        ("waitlist.lapsed", theirs),
    ]
    assert found[-1].data["entry"]["id"] == entry["id"]


async def test_what_is_given_up_by_a_move_is_freed_before_somebody_who_waits_has_it(
    api: Api, admin: Person, user: Person
) -> None:
    """The other way round, everybody who watches would take it for free."""
    room = await api.room(admin)
    slots = await api.slots(user, room)
    booking, waiter = await api.booked(user, slots[0]), await api.person()
    assert (await api.post("/waitlist", waiter, json={"slotId": slots[0]["id"]})).status_code == 201
    since = await now(api)
    assert (await api.post(f"/bookings/{booking['id']}/reschedule", user, json={"slotId": slots[1]["id"]})).status_code == 200
    found = [(one.type, one.data["slotId"]) for one in await said(api, since=since) if one.type.startswith("slot.")]
    assert found == [("slot.freed", slots[0]["id"]), ("slot.taken", slots[1]["id"]), ("slot.taken", slots[0]["id"])]


async def test_seats_that_are_changed_for_others_are_freed_and_taken(api: Api, admin: Person, user: Person) -> None:
    event = await event_of(api, admin, "A-1", "A-2", "A-3")
    wish = {"eventId": event["id"], "seats": ["A-1", "A-2"]}
    booking = (await api.post("/bookings", user, json=wish)).json()["booking"]
    since = await now(api)
    moved = await api.post(f"/bookings/{booking['id']}/reschedule", user, json={**wish, "seats": ["A-2", "A-3"]})
    assert moved.status_code == 200, moved.text
    found = [one.data for one in await said(api, since=since) if one.type == "seat.changed"]
    assert [(one["labels"], one["status"]) for one in found] == [(["A-1"], "free"), (["A-3"], "booked")]


async def test_a_closure_is_told_without_its_reason(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    booking = await api.booked(user, slots[0])
    since = await now(api)
    body = {"start": slots[0]["start"], "end": slots[1]["end"], "reason": "Anna is ill", "cancelBookings": True}
    closure = (await api.post(f"/rooms/{room['id']}/closures", admin, json=body)).json()["closure"]
    assert (await api.send("DELETE", f"/rooms/{room['id']}/closures/{closure['id']}", admin)).status_code == 204
    all_ = {f"room:{room['id']}"}
    found = await said(api, since=since)
    assert seen(found) == [
        ("booking.cancelled", {f"user:{user.id}"}),
        ("slot.freed", all_),
        ("closure.created", all_),
        ("closure.deleted", all_),
    ]
    told = {"id": closure["id"], "start": closure["start"], "end": closure["end"], "roomId": room["id"]}
    assert [one.data for one in found[2:]] == [{"closure": told}] * 2
    assert found[0].data["booking"]["id"] == booking["id"]


async def test_each_booking_of_a_series_is_told_of(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slot = (await api.slots(user, room))[0]
    body = {"roomId": room["id"], "start": slot["start"], "end": slot["end"], "recurrence": "FREQ=DAILY;COUNT=3"}
    since = await now(api)
    made = await api.post("/bookings/series", user, json=body)
    assert made.status_code == 201, made.text
    series = made.json()["series"]["id"]
    assert (await api.post(f"/series/{series}/cancel", user, json={})).status_code == 200
    found = await said(api, since=since)
    assert Counter(one.type for one in found) == dict.fromkeys(
        ("booking.created", "slot.taken", "booking.cancelled", "slot.freed"), 3
    )
    assert {one.data["booking"]["seriesId"] for one in found if "booking" in one.data} == {series}
    assert len({one.id for one in found}) == len(found)


def strings(value: object) -> list[str]:
    """Every string and every key in a JSON value."""
    if isinstance(value, dict):
        return [text for key, one in value.items() for text in (str(key), *strings(one))]
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return [str(value)]


PERSONAL = """
SELECT unnest(ARRAY[id::text, email, name]) AS text FROM users
UNION SELECT unnest(ARRAY[id::text, title, notes, conference_link]) FROM bookings
UNION SELECT id::text FROM holds UNION SELECT id::text FROM waitlist_entries
UNION SELECT reason FROM closures UNION SELECT id::text FROM sessions"""


async def test_of_everything_that_happens_nothing_personal_is_public_and_ids_are_stable(api: Api, admin: Person) -> None:
    await Everything(api, admin).make()
    user = await api.person()
    room = await api.room(admin)
    slots = await api.slots(user, room)
    await api.booked(user, slots[0], title="Surprise party", notes="Bring cake")
    closing = {"start": slots[2]["start"], "end": slots[2]["end"], "reason": "Anna is ill"}
    assert (await api.post(f"/rooms/{room['id']}/closures", admin, json=closing)).status_code == 201
    await api.db.fetch("UPDATE users SET name = 'Person ' || id")
    await relay_all(api.db)
    told = await stored(api.db)
    found = await messages.derive(api.db, told)
    assert len(told) > 100

    # Every message has one place; taken together, by themselves, or in another order, it is the same.
    assert len({one.id for one in found}) == len(found)
    by_itself = [one for message in told for one in await messages.derive(api.db, [message])]
    assert by_itself == found
    async with api.db.transaction() as session:
        backwards = await messages.derive(session, told[::-1])
    assert sorted(backwards, key=lambda one: one.id) == sorted(found, key=lambda one: one.id)

    # Each type is one of those that are published, and nearly all of them happen in such a mix.
    types = {one.type for one in found}
    assert types <= messages.TYPES
    assert messages.TYPES - types <= {"booking.reminder", "system.notice"}

    personal = {row["text"] for row in await api.db.fetch(PERSONAL)} - {None, ""}
    assert {"Surprise party", "Bring cake", "Anna is ill", str(user.id)} <= personal
    owners = {str(row["id"]): row["user_id"] for row in await api.db.fetch("SELECT id, user_id FROM bookings")}
    public = [one for one in found if not any(channel.startswith("user:") for channel in one.channels)]
    about_slots = {"slot.taken", "slot.freed", "seat.changed", "closure.created", "closure.deleted"}
    assert {one.type for one in public} == {*about_slots, "event.updated"}
    for one in public:
        assert one.channels, one
        assert not personal & set(strings(one.data)), one
        assert not {key for key in strings(one.data) if key in {"userId", "title", "notes", "reason", "token"}}, one
    for one in found:
        if one not in public:
            # What is private goes nowhere else besides.
            assert all(channel.startswith("user:") for channel in one.channels), one
        if one.type.startswith("booking."):
            assert f"user:{owners[one.data['booking']['id']]}" in one.channels
        json.dumps(one.as_json())


async def test_a_notice_reaches_everybody_and_a_type_nobody_knows_says_nothing(api: Api) -> None:
    async with api.db.transaction() as session:
        await outbox.enqueue(session, "system.notice", new_id(), by=SYSTEM, after={"message": "Fire drill at ten"})
        await outbox.enqueue(session, "room.created", new_id(), by=SYSTEM, after={"name": "Room"})
    (notice,) = await said(api)
    assert (notice.type, notice.channels, notice.data) == ("system.notice", {"all"}, {"message": "Fire drill at ten"})


BOOKED = """
SELECT c.slot_id::text AS place FROM claims c LEFT JOIN holds h ON h.id = c.hold_id
WHERE c.closure_id IS NULL AND c.seat_no = 0 AND (c.booking_id IS NOT NULL OR h.ended_at IS NULL)
UNION SELECT r.id || ' ' || s.label FROM claims c JOIN seats s ON s.no = c.seat_no JOIN resources r ON r.no = c.resource_no
WHERE c.closure_id IS NULL"""


async def test_what_was_last_said_of_a_slot_or_a_seat_is_true(api: Api, admin: Person, user: Person) -> None:
    """After everything that can happen: whoever only listens knows what is taken."""
    await Everything(api, admin).make()
    room = await api.room(admin)
    slot = (await api.slots(user, room))[0]
    body = {"roomId": room["id"], "start": slot["start"], "end": slot["end"], "recurrence": "FREQ=DAILY;COUNT=3"}
    series = (await api.post("/bookings/series", user, json=body)).json()["series"]
    for day in (2, 1):
        # Each moves to where the next one was, and back.
        to = {name: tomorrow(day) + slot[name][10:] for name in ("start", "end")}
        moved = await api.post(f"/series/{series['id']}/reschedule", user, json=to)
        assert moved.status_code == 200, moved.text
        last: dict[str, str] = {}
        for one in await said(api):
            if one.type in {"slot.taken", "slot.freed"}:
                last[one.data["slotId"]] = one.type.partition(".")[2]
            elif one.type == "seat.changed":
                last |= {f"{one.data['eventId']} {label}": one.data["status"] for label in one.data["labels"]}
        taken = {place for place, status in last.items() if status in {"taken", "booked", "held"}}
        assert taken == {row["place"] for row in await api.db.fetch(BOOKED)}
        assert len(taken) > 20


async def test_a_row_that_cannot_be_read_keeps_nobody_else_from_being_heard_of(api: Api, admin: Person) -> None:
    for body in ('{"kind": "room", "slotIds": 7}', '{"slotIds": ["no id"]}', '{"kind": "event"}'):
        await api.db.fetch(
            "INSERT INTO outbox (id, type, subject_id, actor_role, after) "
            "VALUES (gen_random_uuid(), 'booking.created', gen_random_uuid(), 'user', $1::text::jsonb)",
            body,
        )
    response = await api.post("/notices", admin, json={"message": "Heard of all the same"})
    assert response.status_code == 201, response.text
    assert await relay(api.db, ()) > 3
    heard = await messages.derive(api.db, await outbox.read_after(api.db, 0, limit=100))
    assert [message.type for message in heard][-1:] == ["system.notice"]
    assert str(heard[-1].subject_id) == response.json()["notice"]["id"]


async def test_a_row_that_cannot_be_read_keeps_nobody_else_from_being_sent_mails(api: Api, admin: Person, user: Person) -> None:
    (slot, *_) = await api.slots(admin, await api.room(admin))
    for body in ('{"kind": "room", "slotIds": 7}', "[]", '{"kind": "room", "end": "2999-01-01T00:00:00Z", "seriesId": 1}'):
        await api.db.fetch(
            "INSERT INTO outbox (id, type, subject_id, actor_role, after) "
            "VALUES (gen_random_uuid(), 'booking.cancelled', gen_random_uuid(), 'user', $1::text::jsonb)",
            body,
        )
    await api.booked(user, slot)
    assert await relay(api.db, (notifications.follow,)) > 3
    (job,) = await api.db.fetch("SELECT payload->>'to' AS reader FROM jobs WHERE kind = 'mail'")
    assert job["reader"] == str(user.id)
