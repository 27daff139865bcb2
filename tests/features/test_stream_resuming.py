"""The hub: resuming without a gap and without doubles, readers that are slow, and what is left when all have gone."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from conftest import make_settings
from holdfast import messages, outbox
from holdfast.core.callers import SYSTEM
from holdfast.core.errors import Busy
from holdfast.core.ids import new_id
from holdfast.db.database import Database
from holdfast.main import build_app, build_state
from holdfast.streams.errors import TooManyStreams
from holdfast.streams.rules import Channel, parse_point
from holdfast.streams.service import Hub, Subscriber, Told, Visitor
from holdfast.streams.service import hub as hub_module
from support.api import Api, Person, code
from support.streams import PATIENCE, Inside, inside

#: By its name: the package calls the module's router so.
events_module = import_module("holdfast.streams.router.events")


@dataclass
class World:
    """An application on a database of its own, whose hub runs; the relay runs when told to."""

    app: FastAPI
    hub: Hub
    db: Database
    api: Api

    async def write(self, room: UUID, count: int = 1, *, relayed: bool = True) -> list[UUID]:
        """Write what everybody hears who watches the room; returns the ids of what it is about, in order."""
        ids = [new_id() for _ in range(count)]
        async with self.db.transaction() as session:
            await outbox.enqueue_all(
                session,
                [
                    outbox.Message(
                        "closure.created", one, SYSTEM, after={"id": str(one), "roomId": str(room), "reason": "secret"}
                    )
                    for one in ids
                ],
            )
        if relayed:
            await self.relay()
        return ids

    async def relay(self) -> None:
        while await outbox.relay(self.db, ()):
            pass

    async def given_out(self) -> None:
        """Return when the hub has read all that has a number."""
        number, _ = await outbox.newest(self.db)
        async with asyncio.timeout(PATIENCE):
            while self.hub._position < number:
                self.hub._woken.set()
                await asyncio.sleep(0)


@pytest.fixture
async def world(own_database: str) -> AsyncIterator[World]:
    state = build_state(make_settings(own_database))
    app = build_app(state)
    running = asyncio.create_task(app.state.hub.run())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://holdfast.test") as client:
        yield World(app, app.state.hub, state.db, Api(client, state.db, state.access_tokens))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    state.passwords.close()
    await state.db.close()


@pytest.fixture
async def anna(world: World) -> Person:
    return await world.api.person()


@pytest.fixture
async def room(world: World) -> UUID:
    made = await world.api.post("/rooms", await world.api.admin(), json={"name": "Room"})
    return UUID(made.json()["room"]["id"])


async def until(enough: Callable[[], bool]) -> None:
    """Return when it is so. For what tells nobody."""
    async with asyncio.timeout(PATIENCE):
        while not enough():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.01)


def about(heard: Inside) -> list[str]:
    """What the heard closures are about."""
    return [message["data"]["closure"]["id"] for message in heard.of("closure.created")]


def texts(ids: Sequence[UUID]) -> list[str]:
    return [str(one) for one in ids]


# --- resuming ---


async def test_what_was_missed_comes_first_and_then_what_happens(world: World, anna: Person, room: UUID) -> None:
    channel = f"room:{room}"
    async with inside(world.app, anna, channel) as heard:
        first = await world.write(room, 3)
        await heard.until(lambda: len(heard.messages) == 3)
    missed = await world.write(room, 450)
    # More than one page was missed.
    assert hub_module._PAGE < 450
    async with inside(world.app, anna, channel, last=heard.last_id) as again:
        await again.until(lambda: len(again.messages) == 450)
        later = await world.write(room, 2)
        await again.until(lambda: len(again.messages) == 452)
        assert about(again) == texts([*missed, *later])
    async with inside(world.app, anna, channel, last=heard.messages[0]["id"]) as again:
        await again.until(lambda: len(again.messages) == 454)
        assert about(again) == texts([*first[1:], *missed, *later])


async def test_one_resumes_amid_what_a_single_change_says(world: World) -> None:
    boss, anna, ben = await world.api.admin(), await world.api.person(), await world.api.person()
    made = await world.api.room(boss)
    slots = await world.api.slots(anna, made)
    channel = f"room:{made['id']}"
    async with inside(world.app, ben, channel) as heard:
        await world.relay()
        booked = await world.api.post("/bookings", anna, json={"slotIds": [slot["id"] for slot in slots[:4]]})
        assert booked.status_code == 201, booked.text
        await world.relay()
        await heard.until(lambda: len(heard.messages) == 4)
    ids = heard.ids()
    stem = ids[0].rpartition(".")[0]
    assert ids == [f"{stem}.{place}" for place in range(1, 5)]
    for place, last in enumerate(ids):
        async with inside(world.app, ben, channel, last=last) as again:
            (mark,) = await world.write(UUID(made["id"]))
            await again.until(lambda again=again, mark=mark: str(mark) in about(again))
            assert [m["id"] for m in again.of("slot.taken")] == ids[place + 1 :]
    # The owner has the first of them, and none of the others.
    async with inside(world.app, anna, "me", channel, last=stem) as again:
        await again.until(lambda: len(again.of("slot.taken")) == 4)
        assert not again.of("booking.created")


@pytest.mark.parametrize("before", [0, 2])
async def test_who_has_heard_nothing_yet_can_resume(before: int, world: World, anna: Person, room: UUID) -> None:
    await world.db.fetch("TRUNCATE outbox")
    if before:
        await world.write(room, before)
    async with inside(world.app, anna, f"room:{room}") as heard:
        # A connection says where it begins, before anything has happened on it.
        assert heard.last_id is not None
        assert heard.messages == []
    missed = await world.write(room, 2)
    async with inside(world.app, anna, f"room:{room}", last=heard.last_id) as again:
        await again.until(lambda: len(again.messages) == 2)
        assert about(again) == texts(missed)


async def test_notices_are_resumed_too(world: World, anna: Person, room: UUID) -> None:
    boss = await world.api.admin()
    await world.write(room)
    async with inside(world.app, anna) as heard:
        pass
    await world.api.post("/notices", boss, json={"message": "Hello"})
    await world.relay()
    async with inside(world.app, anna, last=heard.last_id) as again:
        await again.until(lambda: bool(again.messages))
        assert [m["data"] for m in again.messages] == [{"message": "Hello"}]


async def test_one_user_does_not_take_everybodys_places(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MOST_OF_ONE_USER", 3)
    hub: Hub = world.app.state.hub
    greedy, other = new_id(), new_id()
    joined = [await hub.join(Visitor(greedy)) for _ in range(3)]
    with pytest.raises(TooManyStreams):
        await hub.join(Visitor(greedy))
    joined.append(await hub.join(Visitor(other)))
    hub.leave(joined[0])
    joined.append(await hub.join(Visitor(greedy)))
    for one in joined:
        hub.leave(one)


@pytest.mark.parametrize(
    "last",
    ["0", "abc", "", "x" * 500, "01a1ffe5-7413-7589-9848-cdd0a9f1caa2", "01a1ffe5-7413-7589-9848-cdd1c600e784.1", "-1", "\u00e9"],
)
async def test_what_cannot_be_resumed_is_gone(last: str, world: World, anna: Person, room: UUID) -> None:
    await world.write(room)
    headers = [(b"Last-Event-ID", last.encode()), (b"Authorization", anna.headers["Authorization"].encode())]
    if not last:
        # A browser sends none then: it is as if it was not there.
        async with inside(world.app, anna, last="") as heard:
            assert heard.status == 200
        return
    refused = await world.api.client.get("/stream", headers=headers)
    assert (refused.status_code, code(refused)) == (410, "EVENTS_GONE")
    assert len(world.hub) == 0


async def test_what_is_too_long_ago_is_gone(world: World, anna: Person, room: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_MOST_MISSED", 10)
    async with inside(world.app, anna, f"room:{room}") as heard:
        await world.write(room, 12)
        await heard.until(lambda: len(heard.messages) == 12)
    refused = await world.api.get("/stream", anna, headers={"Last-Event-ID": heard.ids()[0]})
    assert (refused.status_code, code(refused)) == (410, "EVENTS_GONE")
    async with inside(world.app, anna, f"room:{room}", last=heard.ids()[2]) as again:
        await again.until(lambda: len(again.messages) == 9)


# --- resuming while it happens ---


class Careless(Hub):
    """A control: it attends to something else between the last page and live."""

    async def subscribe(
        self, subscriber: Subscriber, channels: Sequence[Channel], *, start: int | None = None, place: int = 0
    ) -> AsyncIterator[list[Told]]:
        assert start is not None
        position = start
        while position < self._position:
            stored = await outbox.read_after(self._db, position, limit=hub_module._PAGE)
            position = stored[-1].number
            yield [Told(message) for message in await messages.derive(self._db, stored)]
        # Long enough for the hub to read on meanwhile.
        await asyncio.sleep(2 * hub_module._READ_SECONDS)
        for channel in channels:
            self._attach(subscriber, channel.name, self._position)


@asynccontextmanager
async def hub_of(world: World, kind: type[Hub]) -> AsyncIterator[Hub]:
    hub = kind(world.db, listen_url=world.db.url, is_out=lambda _user, _session: False)
    running = asyncio.create_task(hub.run())
    yield hub
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def race(world: World, hub: Hub, room: UUID) -> tuple[list[str], list[list[str]]]:
    """Eight writers, and twelve who resume from one message at any moment: what there was to hear, and what each heard."""
    await world.write(room)
    (origin,) = await world.db.fetch("SELECT id FROM outbox WHERE number IS NOT NULL ORDER BY number DESC LIMIT 1")
    chance = random.Random(11)
    done = asyncio.Event()

    async def write() -> None:
        for _ in range(30):
            await world.write(room, chance.randint(1, 4), relayed=False)
            await asyncio.sleep(chance.random() * 0.01)

    async def relay() -> None:
        while not done.is_set():
            await outbox.relay(world.db, ())
            await asyncio.sleep(0.001)
        await world.relay()

    async def read() -> list[str]:
        await asyncio.sleep(chance.random() * 0.5)
        subscriber = await hub.join(Visitor(new_id()))
        heard: list[str] = []
        channel = Channel(f"room:{room}", f"room:{room}", room)
        point = parse_point(str(origin["id"]))
        async for page in hub.subscribe(subscriber, [channel], start=await hub.start_of(point), place=point.place):
            heard += [told.message.id for told in page]
            # The client is sent what it missed, which takes its time.
            await asyncio.sleep(chance.random() * 0.02)
        await done.wait()
        await relaying
        number, _ = await outbox.newest(world.db)
        await until(lambda: hub._position >= number)
        heard += [told.message.id for told in subscriber.take()]
        hub.leave(subscriber)
        return heard

    relaying = asyncio.create_task(relay())
    readers = [asyncio.create_task(read()) for _ in range(12)]
    await asyncio.gather(*(write() for _ in range(8)))
    done.set()
    heard = await asyncio.gather(*readers)
    rows = await world.db.fetch("SELECT id FROM outbox WHERE type = 'closure.created' ORDER BY number OFFSET 1")
    return [str(row["id"]) for row in rows], heard


async def test_whoever_resumes_while_eight_write_hears_everything_once_and_in_order(world: World, room: UUID) -> None:
    async with hub_of(world, Hub) as hub:
        all_of_it, heard = await race(world, hub, room)
    assert len(all_of_it) > 240
    assert len(heard) == 12
    for one in heard:
        assert one == all_of_it


async def test_control_a_hub_that_looks_away_before_it_goes_live_loses_some(world: World, room: UUID) -> None:
    async with hub_of(world, Careless) as hub:
        all_of_it, heard = await race(world, hub, room)
    assert any(len(one) < len(all_of_it) for one in heard)


async def test_one_who_comes_from_a_process_that_was_ahead_hears_nothing_twice(
    world: World, anna: Person, room: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = f"room:{room}"
    async with inside(world.app, anna, channel) as keeps_it_at_work:
        await world.write(room)
        await keeps_it_at_work.until(lambda: len(keeps_it_at_work.messages) == 1)
        reading = asyncio.Event()
        as_it_is = world.hub._give_out

        async def behind() -> bool:
            await reading.wait()
            return await as_it_is()

        monkeypatch.setattr(world.hub, "_give_out", behind)
        await world.write(room, 3)
        rows = await world.db.fetch("SELECT id FROM outbox WHERE number IS NOT NULL ORDER BY number")
        # It had the second of the three from somebody else.
        async with inside(world.app, anna, channel, last=str(rows[-2]["id"])) as again:
            reading.set()
            await world.write(room)
            await again.until(lambda: len(again.messages) >= 2)
            await world.given_out()
            rows = await world.db.fetch("SELECT id FROM outbox WHERE number IS NOT NULL ORDER BY number")
            assert again.ids() == [str(row["id"]) for row in rows[-2:]]


async def test_what_happens_while_one_is_sent_what_was_missed_comes_after_it_and_once(
    world: World, anna: Person, room: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    boss = await world.api.admin()
    monkeypatch.setattr(hub_module, "_PAGE", 1)
    async with inside(world.app, anna, f"room:{room}") as heard:
        await world.write(room)
        await heard.until(lambda: len(heard.messages) == 1)
    await world.write(room, 3)
    again = Inside()
    async with inside(world.app, anna, f"room:{room}", last=heard.last_id, heard=again):
        again.reads.clear()
        # A notice goes to all who are connected, so also to one who is still at what it missed.
        await world.api.post("/notices", boss, json={"message": "Hello"})
        await world.relay()
        await world.given_out()
        await world.write(room)
        again.reads.set()
        await again.until(lambda: len(again.messages) >= 5)
        await world.write(room)
        await again.until(lambda: len(again.messages) >= 6)
        rows = await world.db.fetch("SELECT id FROM outbox WHERE number IS NOT NULL ORDER BY number")
        assert again.ids() == [str(row["id"]) for row in rows[-6:]]


async def test_a_place_to_resume_from_is_never_ahead_of_what_was_sent(world: World, anna: Person, room: UUID) -> None:
    await world.write(room)
    subscriber = await world.hub.join(Visitor(anna.id))
    channel = Channel(f"room:{room}", f"room:{room}", room)
    _ = [page async for page in world.hub.subscribe(subscriber, [channel])]
    assert world.hub.resume_id(subscriber) == world.hub.last_id is not None
    await world.write(room)
    await world.given_out()
    # Given to it, and not sent: to resume behind it would lose it.
    assert world.hub.resume_id(subscriber) is None
    assert len(subscriber.take()) == 1
    assert world.hub.resume_id(subscriber) == world.hub.last_id
    world.hub.leave(subscriber)


# --- slow readers ---


async def test_who_does_not_read_is_dropped_and_nobody_waits_for_them(
    world: World, anna: Person, room: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MOST_WAITING", 50)
    monkeypatch.setattr(events_module, "_LAST_SECONDS", 0.05)
    channel = f"room:{room}"
    async with inside(world.app, anna, channel) as slow, inside(world.app, anna, channel) as reads:
        slow.reads.clear()
        for _ in range(60):
            await world.write(room)
            await world.given_out()
            assert all(len(one._waiting) <= 50 for one in world.hub._subscribers)
        await reads.until(lambda: len(reads.messages) == 60)
        await until(lambda: len(world.hub) == 1)
        assert slow.messages == []
        assert slow.ended is None
        # Once it reads, it sees the end of an orderly stream, and resumes.
        slow.reads.set()
        await slow.until(lambda: slow.ended is not None)
        assert len(slow.messages) <= 50
    async with inside(world.app, anna, channel, last=slow.last_id) as again:
        await again.until(lambda: len(slow.messages) + len(again.messages) == 60)


async def test_who_never_reads_does_not_keep_the_process_from_stopping(
    world: World, anna: Person, room: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MOST_WAITING", 5)
    async with inside(world.app, anna, f"room:{room}") as stuck:
        stuck.reads.clear()
        await world.write(room, 10)
        await world.given_out()
        world.hub.close()
        await stuck.until(lambda: stuck.is_over, 4 * events_module._LAST_SECONDS)


async def test_who_reads_what_was_missed_slowly_is_waited_for(world: World, anna: Person, room: UUID) -> None:
    async with inside(world.app, anna, f"room:{room}") as heard:
        await world.write(room)
        await heard.until(lambda: len(heard.messages) == 1)
    ids = await world.write(room, 500)
    slow = Inside()
    async with inside(world.app, anna, f"room:{room}", last=heard.last_id, heard=slow):
        slow.reads.clear()
        ids += [one for _ in range(3) for one in await world.write(room, 500)]
        # Kept where it is: in the outbox.
        assert all(not one._waiting for one in world.hub._subscribers)
        slow.reads.set()
        await slow.until(lambda: len(slow.messages) == 2_000)
        assert about(slow) == texts(ids)


# --- and what is left ---


async def test_signs_of_life_come_while_nothing_happens(
    world: World, anna: Person, room: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(hub_module, "_WATCH_SECONDS", 0.05)
    async with inside(world.app, anna) as heard:
        await heard.until(lambda: heard.comments >= 2)
        before = heard.last_id
        # Of what does not concern one, only the place is told: who resumes need not read it all again.
        await world.write(room)
        await heard.until(lambda: heard.last_id != before)
        assert heard.messages == []


async def test_of_those_who_come_and_go_nothing_is_left(world: World, anna: Person, room: UUID) -> None:
    tasks = len(asyncio.all_tasks())

    async def come_and_go() -> None:
        async with inside(world.app, anna, "me", f"room:{room}"):
            pass

    for _ in range(10):
        await asyncio.gather(*(come_and_go() for _ in range(20)))
        await world.write(room)
    assert len(world.hub) == 0
    assert world.hub._by_channel == {}
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) <= tasks + 1
    # With nobody there nothing is read.
    position = world.hub._position
    await world.write(room)
    world.hub._woken.set()
    await until(lambda: not world.hub._woken.is_set())
    assert world.hub._position == position


async def test_a_refused_stream_leaves_nothing(world: World, anna: Person) -> None:
    refused = await world.api.get("/stream", anna, headers={"Last-Event-ID": str(new_id())})
    assert refused.status_code == 410
    assert len(world.hub) == 0


async def test_a_process_serves_as_many_streams_as_it_can(world: World, anna: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MOST_SUBSCRIBERS", 2)
    async with inside(world.app, anna), inside(world.app, anna):
        refused = await world.api.get("/stream", anna)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    async with inside(world.app, anna):
        world.hub.close()
        assert (await world.api.get("/stream", anna)).status_code == 503


async def test_streams_are_no_crowd(world: World, anna: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.web.middleware.MAX_IN_FLIGHT", 1)
    async with inside(world.app, anna), inside(world.app, anna), inside(world.app, anna) as third:
        assert third.status == 200
        assert (await world.api.get("/bookings/my", anna)).status_code == 200


async def test_a_slow_bodys_limit_is_none_of_a_streams(world: World, anna: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.web.middleware.BODY_SECONDS", 0.1)
    boss = await world.api.admin()
    async with inside(world.app, anna) as heard:
        await asyncio.sleep(0.2)
        await world.api.post("/notices", boss, json={"message": "Hello"})
        await world.relay()
        await heard.until(lambda: bool(heard.messages))


async def test_what_fails_in_the_hub_is_tried_again(
    world: World, anna: Person, room: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_it_is = outbox.read_after
    failures = [Busy(), RuntimeError("a defect"), Busy()]

    async def failing(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return await as_it_is(*args, **kwargs)

    async with inside(world.app, anna, f"room:{room}") as heard:
        monkeypatch.setattr(outbox, "read_after", failing)
        (one,) = await world.write(room)
        await heard.until(lambda: bool(heard.messages))
        assert about(heard) == [str(one)]
