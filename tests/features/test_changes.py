"""Every change in order, without gaps: eight writers at once, a relay, and a reader who walks along."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from conftest import make_settings
from holdfast import outbox
from holdfast.core.callers import SYSTEM
from holdfast.core.ids import new_id
from holdfast.db.database import Database
from support.api import Api, Person, code
from support.races import Arena, arena_on

WRITERS, MESSAGES = 8, 60


async def relayed(db: Database) -> int:
    """Number all that is committed; returns how many."""
    total = 0
    while numbered := await outbox.relay(db, ()):
        total += numbered
    return total


async def changes(api: Api, admin: Person, **query: Any) -> dict[str, Any]:
    answer = await api.get("/changes", admin, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_changes_come_in_order_from_the_first_one(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    booking = await api.booked(user, (await api.slots(user, room))[0])
    await relayed(api.db)
    found = await changes(api, admin)
    assert [one["number"] for one in found["changes"]] == [1, 2, 3]
    assert [one["type"] for one in found["changes"]] == ["room.created", "schedule.created", "booking.created"]
    assert found["more"] is False
    last = found["changes"][-1]
    assert (last["subjectId"], last["after"]["id"], last["before"]) == (booking["id"], booking["id"], None)
    assert last["actor"] == {"kind": "user", "userId": str(user.id), "role": "user", "apiKeyId": None}


async def test_a_change_without_its_number_is_not_there_yet(api: Api, admin: Person) -> None:
    await api.room(admin)
    found = await changes(api, admin)
    assert (found["changes"], found["more"]) == ([], False)
    await relayed(api.db)
    later = await changes(api, admin, after=found["nextCursor"])
    assert [one["number"] for one in later["changes"]] == [1, 2]
    # Nothing new: the same cursor again, to go on with.
    empty = await changes(api, admin, after=later["nextCursor"])
    assert (empty["changes"], empty["nextCursor"], empty["more"]) == ([], later["nextCursor"], False)


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_pages_of_any_length_are_all_of_it(api: Api, admin: Person, limit: int) -> None:
    for _ in range(3):
        await api.room(admin)
    await relayed(api.db)
    numbers: list[int] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        found = await changes(api, admin, **query)
        assert len(found["changes"]) <= limit
        numbers += [one["number"] for one in found["changes"]]
        query["after"] = found["nextCursor"]
        if not found["more"]:
            break
    assert numbers == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": "x"},
        {"after": "x"},
        {"after": "1"},
        {"after": "YWZ0ZXI6LTE"},
        {"after": "YWZ0ZXI6MQ=="},
        {"after": "\x00"},
        {"after": "a" * 501},
    ],
)
async def test_a_cursor_or_limit_that_makes_no_sense_is_refused(api: Api, admin: Person, query: dict[str, Any]) -> None:
    refused = await api.get("/changes", admin, params=query)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_changes_are_for_admins(api: Api, user: Person) -> None:
    assert (await api.get("/changes", user)).status_code == 403
    assert (await api.get("/changes")).status_code == 401


# Under concurrent writers, with real commits


class Walk:
    """A reader of /changes, from the first change to the last."""

    def __init__(self, api: Api, admin: Person) -> None:
        self._api = api
        self._admin = admin
        self._cursor: str | None = None
        self.seen: list[dict[str, Any]] = []

    async def catch_up(self) -> None:
        """All that there is now, a few at a time."""
        while True:
            query = {"limit": 7, **({"after": self._cursor} if self._cursor else {})}
            found = await changes(self._api, self._admin, **query)
            self._cursor = found["nextCursor"]
            self.seen += found["changes"]
            if not found["more"]:
                return


class ByTime:
    """The control: a reader who goes by time and id, as one does without numbers."""

    _AFTER = "SELECT id, occurred_at FROM outbox WHERE (occurred_at, id) > ($1, $2) ORDER BY occurred_at, id"

    def __init__(self, db: Database) -> None:
        self._db = db
        self._place: tuple[Any, UUID] | None = None
        self.seen: list[UUID] = []

    async def catch_up(self) -> None:
        if self._place is None:
            rows = await self._db.fetch("SELECT id, occurred_at FROM outbox ORDER BY occurred_at, id")
        else:
            rows = await self._db.fetch(self._AFTER, *self._place)
        self.seen += [row["id"] for row in rows]
        if rows:
            self._place = rows[-1]["occurred_at"], rows[-1]["id"]


@pytest.fixture
async def arena(own_database: str) -> AsyncIterator[Arena]:
    async with arena_on(make_settings(own_database, pool_size=32)) as made:
        yield made


class Slow:
    """A writer who has written and not committed yet."""

    def __init__(self) -> None:
        self.has_written = asyncio.Event()
        self.may_commit = asyncio.Event()

    async def write(self, db: Database, subject: UUID) -> None:
        async with db.transaction() as session:
            await outbox.enqueue(session, "thing.changed", subject, by=SYSTEM)
            self.has_written.set()
            await self.may_commit.wait()


async def write(db: Database, subject: UUID, number: int = 0) -> None:
    """One message, committed."""
    async with db.transaction() as session:
        await outbox.enqueue(session, "thing.changed", subject, by=SYSTEM, after={"number": number})


async def think_better_of_it(db: Database, subject: UUID) -> None:
    """One message that is rolled back."""
    with suppress(LookupError):
        async with db.transaction() as session:
            await outbox.enqueue(session, "thing.changed", subject, by=SYSTEM)
            raise LookupError


async def test_a_commit_that_comes_late_is_seen_all_the_same(arena: Arena) -> None:
    """The slow writer's row is older than one that was read before it was there. By its number it comes behind that."""
    db, walk, by_time = arena.api.db, Walk(arena.api, await arena.api.admin()), ByTime(arena.api.db)
    slow, slow_subject, quick_subject = Slow(), new_id(), new_id()
    late = asyncio.create_task(slow.write(db, slow_subject))
    await slow.has_written.wait()
    await write(db, quick_subject)

    async def all_look() -> None:
        await relayed(db)
        await walk.catch_up()
        await by_time.catch_up()

    await all_look()
    slow.may_commit.set()
    await late
    await all_look()
    assert [one["subjectId"] for one in walk.seen] == [str(quick_subject), str(slow_subject)]
    assert [one["number"] for one in walk.seen] == [1, 2]
    # The control: by time and id, the same reader has lost it for good.
    assert len(by_time.seen) == 1


async def test_eight_writers_and_a_reader_who_walks_along(arena: Arena) -> None:
    """Every committed change exactly once, in the order of its number, each writer's own in the order it made them."""
    db, walk = arena.api.db, Walk(arena.api, await arena.api.admin())
    subjects, unheard = [new_id() for _ in range(WRITERS)], new_id()
    done = asyncio.Event()

    async def writes(subject: UUID) -> None:
        for number in range(MESSAGES):
            await write(db, subject, number)
            if number % 10 == 0:
                await think_better_of_it(db, unheard)

    async def relays() -> None:
        while not done.is_set():
            await outbox.relay(db, ())

    async def reads() -> None:
        while not done.is_set():
            await walk.catch_up()

    # Two relays, as two workers have them.
    beside = [asyncio.create_task(work()) for work in (relays, relays, reads)]
    await asyncio.gather(*(writes(subject) for subject in subjects))
    done.set()
    await asyncio.gather(*beside)
    on_the_way = len(walk.seen)
    await relayed(db)
    await walk.catch_up()
    assert on_the_way > 0
    assert [one["number"] for one in walk.seen] == list(range(1, WRITERS * MESSAGES + 1))
    for subject in subjects:
        own = [one["after"]["number"] for one in walk.seen if one["subjectId"] == str(subject)]
        assert own == list(range(MESSAGES))
    assert len({one["id"] for one in walk.seen}) == WRITERS * MESSAGES
