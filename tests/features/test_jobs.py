"""Jobs: what is enqueued is done, once where nobody dies, again where somebody did, and never unseen where it cannot be."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from holdfast import jobs
from holdfast.core.errors import Busy
from holdfast.core.ids import new_id
from holdfast.db.database import Database
from holdfast.jobs import Dead, Job, Kind, Later, Periodic, Runner, queue, runner
from support.api import Api, Person, code
from support.crashes import until

HOUR = timedelta(hours=1)


async def nothing(_job: Job) -> None:
    """A handler that has nothing to do."""


async def added(
    db: Database, kind: str = "work", *, key: str | None = None, run_at: datetime | None = None, **payload: Any
) -> None:
    """A job, enqueued and committed."""
    async with db.transaction() as session:
        await jobs.enqueue(session, kind, payload, key=key, run_at=run_at)


async def rows(db: Database, kind: str = "work") -> list[dict[str, Any]]:
    return [dict(row) for row in await db.fetch("SELECT * FROM jobs WHERE kind = $1 ORDER BY id", kind)]


async def only(db: Database, kind: str = "work") -> dict[str, Any]:
    (row,) = await rows(db, kind)
    return row


async def due_now(db: Database) -> None:
    """Pauses cannot be waited for: they are over."""
    await db.fetch("UPDATE jobs SET run_at = clock_timestamp() WHERE state = 'waiting'")


@asynccontextmanager
async def running(db: Database, *kinds: Kind, periodic: tuple[Periodic, ...] = ()) -> AsyncIterator[Runner]:
    """A runner that is cancelled at the end of the block, as the worker's shutdown does."""
    made = Runner(db, kinds, periodic)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def is_gone(db: Database, kind: str = "work") -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return not await rows(db, kind)

    return look


def stands(db: Database, state: str, kind: str = "work", **fields: Any) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        found = await rows(db, kind)
        return bool(found) and all({"state": state, **fields}.items() <= row.items() for row in found)

    return look


class Gate:
    """A handler that says when it has begun, and goes on when told to."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.ended: list[Job] = []
        self._entered = asyncio.Event()
        self._open = asyncio.Event()

    async def __call__(self, job: Job) -> None:
        self.begun.append(job)
        self._entered.set()
        await self._open.wait()
        self.ended.append(job)

    def open(self) -> None:
        self._open.set()

    async def entered(self) -> None:
        async with asyncio.timeout(10):
            await self._entered.wait()


class Calls:
    """A handler that keeps what it was given, and does each time what the next of `ends` says."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.jobs: list[Job] = []
        self._ends = list(ends)

    async def __call__(self, job: Job) -> None:
        self.jobs.append(job)
        end = self._ends.pop(0) if self._ends else None
        if end is not None:
            raise end


async def test_a_job_is_run_once_with_what_it_was_given_and_leaves_no_row(api: Api) -> None:
    calls = Calls()
    async with api.db.transaction() as session:
        await jobs.enqueue(session, "work", {"n": 1}, trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    async with running(api.db, Kind("work", calls)):
        await until(is_gone(api.db))
    (job,) = calls.jobs
    assert (job.kind, job.payload, job.failures, job.last) == ("work", {"n": 1}, 0, False)
    assert job.trace == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_job_of_a_rolled_back_transaction_is_never_run(api: Api) -> None:
    calls = Calls()

    async def fails_after_enqueueing() -> None:
        async with api.db.transaction() as session:
            await jobs.enqueue(session, "work", {"n": 1})
            msg = "something else fails"
            raise ValueError(msg)

    with pytest.raises(ValueError, match="something else"):
        await fails_after_enqueueing()
    await added(api.db, n=2)
    async with running(api.db, Kind("work", calls)):
        await until(is_gone(api.db))
    assert [job.payload for job in calls.jobs] == [{"n": 2}]


async def test_of_a_key_one_job_waits_and_another_may_follow_its_end(api: Api) -> None:
    for n in (1, 2):
        await added(api.db, key="a", n=n)
    await added(api.db, "other", key="a", n=3)
    await added(api.db, key="b", n=4)
    async with api.db.transaction() as session:
        await jobs.enqueue_all(session, "work", [("c", {"n": 5}, None), ("c", {"n": 6}, None), (None, {"n": 7}, None)])
        await jobs.enqueue(session, "work", {"n": 8}, key="c")
    calls = Calls()
    async with running(api.db, Kind("work", calls), Kind("other", nothing)):
        await until(is_gone(api.db))
        assert sorted(job.payload["n"] for job in calls.jobs) == [1, 4, 5, 7]
        await added(api.db, key="a", n=9)
        await until(is_gone(api.db))
    assert calls.jobs[-1].payload == {"n": 9}


async def test_twenty_who_enqueue_one_key_at_once_make_one_job(api: Api) -> None:
    await asyncio.gather(*(added(api.db, key="a", n=n) for n in range(20)))
    assert len(await rows(api.db)) == 1


async def test_what_is_enqueued_again_while_it_runs_is_run_once_more(api: Api) -> None:
    """It may have looked before the caller's change could be seen: dropped, the change would wait for ever."""
    gate = Gate()
    await added(api.db, key="a", n=1)
    async with running(api.db, Kind("work", gate)):
        await gate.entered()
        await added(api.db, key="a", n=2)
        await added(api.db, key="a", n=3)
        assert len(await rows(api.db)) == 1
        gate.open()
        await until(is_gone(api.db))
    assert len(gate.ended) == 2


async def test_what_is_asked_for_again_does_not_die_with_the_run_that_fails(api: Api) -> None:
    await added(api.db, key="a")
    (claimed,) = await queue.claim(api.db, [(Kind("work", nothing), 1)])
    await added(api.db, key="a")
    await queue.fail(api.db, claimed, pause=None, error="no")
    row = await only(api.db)
    assert (row["state"], row["failures"], row["error"]) == ("waiting", 0, "no")


async def test_a_waiting_job_is_not_run_while_somebody_who_wants_it_has_not_committed(api: Api) -> None:
    """Else it could end before what it is wanted for is there, and nobody would come back to it."""
    await added(api.db, key="a")
    kind = Kind("work", nothing)
    async with api.db.transaction() as session:
        await jobs.enqueue(session, "work", {}, key="a")
        assert await queue.claim(api.db, [(kind, 5)]) == []
    assert len(await queue.claim(api.db, [(kind, 5)])) == 1


async def test_a_job_is_not_run_before_its_time(api: Api) -> None:
    calls = Calls()
    await added(api.db, run_at=datetime.now(UTC) + HOUR, n=1)
    await added(api.db, n=2)
    async with running(api.db, Kind("work", calls)) as made:

        async def second_is_done() -> bool:
            return len(await rows(api.db)) == 1

        await until(second_is_done)
        assert [job.payload["n"] for job in calls.jobs] == [2]
        assert (await jobs.count_jobs(api.db))["delayed"] == 1
        await due_now(api.db)
        made.wake()
        await until(is_gone(api.db))
    assert [job.payload["n"] for job in calls.jobs] == [2, 1]


async def test_failures_are_followed_by_growing_pauses_and_then_the_job_is_dead(api: Api) -> None:
    pauses = (HOUR, 2 * HOUR, 4 * HOUR)
    calls = Calls(*(RuntimeError(f"no {n}") for n in range(1, 5)))
    await added(api.db)
    async with running(api.db, Kind("work", calls, pauses=pauses)) as made:
        for failures, pause in enumerate(pauses, 1):
            await until(stands(api.db, "waiting", failures=failures))
            row = await only(api.db)
            assert row["error"] == f"RuntimeError: no {failures}"
            assert 0.79 * pause < row["run_at"] - row["failed_at"] < 1.21 * pause
            await due_now(api.db)
            made.wake()
        await until(stands(api.db, "dead", failures=4))
    assert [(job.failures, job.last) for job in calls.jobs] == [(0, False), (1, False), (2, False), (3, True)]
    assert len({job.id for job in calls.jobs}) == 1


async def test_a_busy_database_is_a_failure_like_any_other(api: Api) -> None:
    """A job whose own statement is what is too slow would else be run for ever."""
    await added(api.db)
    async with running(api.db, Kind("work", Calls(Busy()), pauses=())):
        await until(stands(api.db, "dead"))


async def test_dead_gives_up_at_once_and_later_is_no_failure(api: Api) -> None:
    await added(api.db, "gone")
    await added(api.db, "work")
    later = Calls(Later(HOUR))
    async with running(api.db, Kind("gone", Calls(Dead("the address is refused"))), Kind("work", later, pauses=())) as made:
        await until(stands(api.db, "dead", "gone", error="the address is refused", failures=1))

        async def is_put_off() -> bool:
            return (await only(api.db))["run_at"] > datetime.now(UTC) + 0.9 * HOUR

        await until(is_put_off)
        row = await only(api.db)
        assert (row["state"], row["failures"], row["error"], row["failed_at"]) == ("waiting", 0, None, None)
        await due_now(api.db)
        made.wake()
        await until(is_gone(api.db))
    assert [job.failures for job in later.jobs] == [0, 0]
    by_kind = {row["kind"]: row for row in (await jobs.count_jobs(api.db))["kinds"]}
    assert (by_kind["work"]["completed"], by_kind["work"]["failed"]) == (1, 0)
    assert (by_kind["gone"]["completed"], by_kind["gone"]["failed"]) == (0, 1)


async def test_a_run_that_hangs_is_ended(api: Api) -> None:
    await added(api.db)
    async with running(api.db, Kind("work", Gate(), deadline=timedelta(milliseconds=50))):
        await until(stands(api.db, "waiting", failures=1, error="no end within 0:00:00.050000"))


async def test_a_handler_that_cancels_itself_has_failed(api: Api) -> None:
    await added(api.db)
    async with running(api.db, Kind("work", Calls(asyncio.CancelledError()))):
        await until(stands(api.db, "waiting", failures=1))


async def test_what_an_error_says_is_kept_whatever_is_in_it(api: Api) -> None:
    await added(api.db)
    async with running(api.db, Kind("work", Calls(RuntimeError(f"a\x00b \ud800 c {'x' * 2000}")))):
        await until(stands(api.db, "waiting", failures=1))
    error = (await only(api.db))["error"]
    assert error.startswith("RuntimeError: a b ? c xxx")
    assert len(error) == 500


async def test_so_many_run_at_once_as_the_kind_allows_and_no_kind_starves_another(api: Api) -> None:
    gate, most, now = Gate(), 0, 0

    async def crowded(job: Job) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await gate(job)
        now -= 1

    async with api.db.transaction() as session:
        await jobs.enqueue_all(session, "crowd", [(None, {}, None)] * 10)
    await added(api.db)
    async with running(api.db, Kind("crowd", crowded, at_once=3), Kind("work", nothing)):
        await until(is_gone(api.db))
        await gate.entered()
        assert Counter(row["state"] for row in await rows(api.db, "crowd")) == {"active": 3, "waiting": 7}
        gate.open()
        await until(is_gone(api.db, "crowd"))
    assert (most, len(gate.ended)) == (3, 10)


async def test_several_runners_share_the_jobs_and_double_none(api: Api) -> None:
    calls = Calls()
    async with api.db.transaction() as session:
        await jobs.enqueue_all(session, "work", [(None, {"n": n}, None) for n in range(200)])
    async with running(api.db, Kind("work", calls)), running(api.db, Kind("work", calls)), running(api.db, Kind("work", calls)):
        await until(is_gone(api.db), 30)
    assert sorted(job.payload["n"] for job in calls.jobs) == list(range(200))


async def test_at_the_end_what_is_under_way_is_waited_for(api: Api) -> None:
    gate = Gate()
    await added(api.db)
    async with running(api.db, Kind("work", gate)):
        await gate.entered()
        asyncio.get_running_loop().call_later(0.2, gate.open)
    assert len(gate.ended) == 1
    assert await rows(api.db) == []


async def test_what_is_not_done_at_the_end_is_given_back_and_has_not_failed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PATIENCE_SECONDS", 0.05)
    gate, calls = Gate(), Calls()
    await added(api.db, n=1)
    async with running(api.db, Kind("work", gate)):
        await gate.entered()
    row = await only(api.db)
    assert (row["state"], row["failures"], row["leased_until"]) == ("waiting", 0, None)
    async with running(api.db, Kind("work", calls)):
        await until(is_gone(api.db))
    assert [(job.id, job.failures) for job in calls.jobs] == [(row["id"], 0)]


async def test_a_claim_that_the_end_cuts_into_is_given_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed, and not yet known of here: it would be nobody's until its lease runs out."""
    monkeypatch.setattr(runner, "PATIENCE_SECONDS", 0.05)
    for cut in range(1, 25):
        await added(api.db)
        made = Runner(api.db, [Kind("work", Gate())])
        task = asyncio.create_task(made.run())
        for _ in range(cut):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert {row["state"] for row in await rows(api.db)} == {"waiting"}, cut


async def test_a_lost_worker_is_a_failure_and_a_job_that_kills_its_workers_dies(api: Api) -> None:
    kind = Kind("work", nothing, pauses=(HOUR, HOUR), lease=timedelta())
    await added(api.db)
    for failures in (1, 2, 3):
        assert len(await queue.claim(api.db, [(kind, 1)])) == 1
        assert await queue.take_back(api.db, {"work": kind}) == 1
        row = await only(api.db)
        assert (row["failures"], row["error"]) == (failures, "its worker was lost")
        await due_now(api.db)
    assert row["state"] == "dead"


async def test_the_lease_of_a_living_runner_is_renewed(api: Api) -> None:
    gate = Gate()
    kind = Kind("work", gate, lease=timedelta(seconds=1))
    await added(api.db)
    async with running(api.db, kind), running(api.db, kind):
        await gate.entered()
        first = await only(api.db)

        async def is_renewed_twice() -> bool:
            return (await only(api.db))["leased_until"] > first["leased_until"] + timedelta(seconds=1)

        await until(is_renewed_twice)
        gate.open()
        await until(is_gone(api.db))
    assert len(gate.begun) == 1


class Stopped:
    """A runner whose whole loop stands still in its handler, as a stopped process does, until it is told to go on."""

    def __init__(self, url: str, *, fails: bool) -> None:
        self._url = url
        self._fails = fails
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.over = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _handler(self, _job: Job) -> None:
        self.entered.set()
        self.go_on.wait(30)
        if self._fails:
            msg = "too late"
            raise RuntimeError(msg)

    async def _run(self) -> None:
        db = Database(self._url, pool_size=4)
        try:
            async with running(db, Kind("work", self._handler, lease=timedelta(seconds=1))):
                await asyncio.to_thread(self.over.wait, 30)
        finally:
            await db.close()


@pytest.mark.parametrize("fails", [False, True])
async def test_the_late_word_of_a_stopped_runner_is_refused(api: Api, database_url: str, fails: bool) -> None:
    gate, stopped = Gate(), Stopped(database_url, fails=fails)
    await added(api.db)
    stopped.thread.start()
    try:
        assert await asyncio.to_thread(stopped.entered.wait, 10)
        async with running(api.db, Kind("work", gate, pauses=(timedelta(),), lease=timedelta(seconds=2))):
            await gate.entered()
            before = await only(api.db)
            assert (before["attempt"], before["failures"]) == (2, 1)
            stopped.go_on.set()
            stopped.over.set()
            await asyncio.to_thread(stopped.thread.join, 10)
            after = await only(api.db)
            assert {**after, "leased_until": None} == {**before, "leased_until": None}
            gate.open()
            await until(is_gone(api.db))
    finally:
        stopped.go_on.set()
        stopped.over.set()
        await asyncio.to_thread(stopped.thread.join, 10)
    assert len(gate.ended) == 1


async def test_every_word_of_a_holder_who_lost_the_job_changes_nothing(api: Api) -> None:
    kind = Kind("work", nothing, pauses=(timedelta(),), lease=timedelta())
    await added(api.db, key="a")
    (lost,) = await queue.claim(api.db, [(kind, 1)])
    assert await queue.take_back(api.db, {"work": kind}) == 1
    for fresh in (False, True):
        if fresh:
            await due_now(api.db)
            assert len(await queue.claim(api.db, [(Kind("work", nothing), 1)])) == 1
        before = await only(api.db)
        assert await queue.renew(api.db, [(lost, HOUR)]) == set()
        await queue.complete(api.db, lost)
        await queue.fail(api.db, lost, pause=None, error="late")
        await queue.put_back(api.db, lost)
        assert await only(api.db) == before
    counts = (await jobs.count_jobs(api.db))["kinds"]
    assert [(row["completed"], row["failed"]) for row in counts] == [(0, 1)]


async def test_who_gave_a_job_back_cannot_speak_for_who_has_it_now(api: Api) -> None:
    """The number of a claim never falls: else the next holder would have the same one."""
    kind = Kind("work", nothing)
    await added(api.db)
    (first,) = await queue.claim(api.db, [(kind, 1)])
    await queue.put_back(api.db, first)
    (second,) = await queue.claim(api.db, [(kind, 1)])
    assert second.attempt > first.attempt
    await queue.complete(api.db, first)
    assert len(await rows(api.db)) == 1
    await queue.complete(api.db, second)
    assert await rows(api.db) == []


async def test_a_renewal_waits_for_nobody_and_loses_nothing_that_is_locked(api: Api, database_url: str) -> None:
    gate = Gate()
    kind = Kind("work", gate, lease=timedelta(seconds=1))
    await added(api.db, key="a")
    async with running(api.db, kind):
        await gate.entered()
        eye = await asyncpg.connect(database_url)
        try:
            async with eye.transaction():
                await eye.execute("SELECT FROM jobs FOR UPDATE")
                (row,) = await eye.fetch("SELECT id, attempt FROM jobs")
                held = queue.Claimed(gate.begun[0], row["attempt"])
                async with asyncio.timeout(1):
                    assert await queue.renew(api.db, [(held, HOUR)]) == {row["id"]}
        finally:
            await eye.close()
        gate.open()
        await until(is_gone(api.db))
    assert len(gate.ended) == 1


async def test_jobs_of_unknown_kinds_are_left_alone(api: Api) -> None:
    """An older worker beside a newer one, during an upgrade."""
    await added(api.db, "new", n=1)
    await added(api.db, "new", n=2)
    (claimed,) = await queue.claim(api.db, [(Kind("new", nothing, lease=timedelta()), 1)])
    await added(api.db)
    before = await rows(api.db, "new")
    async with running(api.db, Kind("work", nothing)):
        await until(is_gone(api.db))
        assert await queue.take_back(api.db, {"work": Kind("work", nothing)}) == 0
    assert await rows(api.db, "new") == before
    assert claimed.job.id in {row["id"] for row in before}


async def test_a_runner_survives_the_loss_of_its_connections_and_the_end_of_a_job_with_it(own_database: str) -> None:
    gate, calls = Gate(), Calls()
    db = Database(own_database, pool_size=8)
    eye = await asyncpg.connect(own_database)
    try:
        await added(db, "gate")
        async with running(db, Kind("gate", gate), Kind("work", calls)):
            await gate.entered()
            for _ in range(3):
                await eye.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                gate.open()
                with suppress(Busy):
                    await added(db)

            async def all_done() -> bool:
                return not await eye.fetchval("SELECT count(*) FROM jobs")

            await until(all_done, 20)
            await added(db, n=4)
            await until(is_gone(db))
        assert len(gate.ended) == 1
        assert calls.jobs[-1].payload == {"n": 4}
        assert await eye.fetchval("SELECT sum(failed) FROM job_counts") == 0
    finally:
        await eye.close()
        await db.close()


async def test_a_finished_job_is_not_run_again_for_want_of_a_word(own_database: str) -> None:
    """Its end waits for a lock for longer than a statement may: it is said again until it is heard."""
    calls = Calls()
    db = Database(own_database, pool_size=8)
    eye = await asyncpg.connect(own_database)
    try:
        await added(db)
        entered = asyncio.Event()

        async def handler(job: Job) -> None:
            await calls(job)
            await eye.execute("BEGIN; LOCK TABLE job_counts IN ACCESS EXCLUSIVE MODE")
            entered.set()

        async with running(db, Kind("work", handler)):
            await entered.wait()
            second = await asyncpg.connect(own_database)
            try:
                waited = False

                async def gave_up() -> bool:
                    nonlocal waited
                    waits = await second.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                    waited = waited or waits > 0
                    return waited and not waits

                await until(gave_up)
            finally:
                await second.close()
            await eye.execute("ROLLBACK")
            await until(is_gone(db))
        assert len(calls.jobs) == 1
        assert await eye.fetchval("SELECT completed FROM job_counts") == 1
    finally:
        await eye.close()
        await db.close()


async def test_periodic_work_is_done_by_one_of_all_runners_each_time(api: Api) -> None:
    done = 0

    async def tick() -> None:
        nonlocal done
        done += 1

    periodic = (Periodic("tidy", HOUR, tick),)
    for times in (1, 2):
        async with running(api.db, periodic=periodic), running(api.db, periodic=periodic), running(api.db, periodic=periodic):

            async def is_done(times: int = times) -> bool:
                return done >= times

            await until(is_done)
            (row,) = await api.db.fetch("SELECT * FROM periodic_runs")
        assert (done, row["name"]) == (times, "tidy")
        await api.db.fetch("UPDATE periodic_runs SET ran_at = ran_at - $1::interval", HOUR)


async def test_periodic_work_that_fails_or_hangs_stops_no_other(api: Api) -> None:
    gate, ticks = asyncio.Event(), Counter[str]()

    async def hangs() -> None:
        ticks["hangs"] += 1
        await gate.wait()

    async def breaks() -> None:
        ticks["breaks"] += 1
        msg = "no"
        raise RuntimeError(msg)

    async def works() -> None:
        ticks["works"] += 1

    every = timedelta(milliseconds=20)
    periodic = tuple(Periodic(work.__name__, every, work) for work in (hangs, breaks, works))
    async with running(api.db, periodic=periodic):

        async def went_on() -> bool:
            return ticks["works"] >= 3 and ticks["breaks"] >= 3

        await until(went_on)
    assert ticks["hangs"] == 1


async def test_three_runners_at_once_are_one_tick(api: Api) -> None:
    """Of those who come in the same moment, too."""
    done = Counter[int]()
    runners = [Runner(api.db, ()) for _ in range(8)]
    one = Periodic("tidy", HOUR, asyncio.Event().wait)  # type: ignore[arg-type]  # never called here
    for number, due in enumerate(await asyncio.gather(*(made._is_due(one) for made in runners))):
        done[number] += due
    assert done.total() == 1


# What an admin sees.


async def dead(db: Database, *errors: str, kind: str = "work", key: str | None = None) -> list[UUID]:
    """Jobs that were given up, in this order."""
    ids = []
    for error in errors:
        await added(db, kind, key=key)
        (claimed,) = await queue.claim(db, [(Kind(kind, nothing), 1)])
        await queue.fail(db, claimed, pause=None, error=error)
        ids.append(claimed.job.id)
    return ids


async def told(db: Database, subject: UUID) -> list[tuple[str, UUID | None, bool, bool]]:
    found = await db.fetch(
        "SELECT type, actor_id, before IS NOT NULL AS was, after IS NOT NULL AS is FROM outbox WHERE subject_id = $1 "
        "ORDER BY occurred_at",
        subject,
    )
    return [(row["type"], row["actor_id"], row["was"], row["is"]) for row in found]


async def test_metrics_say_how_the_jobs_stand(api: Api, admin: Person) -> None:
    await dead(api.db, "no way")
    for kind, count in (("work", 3), ("other", 1)):
        for _ in range(count):
            await added(api.db, kind)
    await added(api.db, "other", run_at=datetime.now(UTC) + HOUR)
    first, second = await queue.claim(api.db, [(Kind("work", nothing), 2)])
    await queue.complete(api.db, first)
    await api.db.fetch(
        "UPDATE jobs SET run_at = clock_timestamp() - interval '90 seconds' WHERE kind = 'work' AND state = 'waiting'"
    )
    answer = await api.get("/jobs/metrics", admin)
    assert answer.status_code == 200
    found = answer.json()["jobs"]
    names = ("waiting", "active", "completed", "failed", "delayed", "dead")
    assert [found[name] for name in names] == [2, 1, 1, 1, 1, 1]
    by_kind = {row["kind"]: [row[name] for name in names] for row in found["kinds"]}
    assert by_kind == {"other": [1, 0, 0, 0, 1, 0], "work": [1, 1, 1, 1, 0, 1]}
    assert 90 <= found["oldestSeconds"] < 120
    (failure,) = found["recentFailures"]
    assert (failure["kind"], failure["error"], failure["state"], failure["failures"]) == ("work", "no way", "dead", 1)
    assert "payload" not in failure
    await queue.complete(api.db, second)


async def test_metrics_of_no_jobs_are_zeros_and_lists(api: Api, admin: Person) -> None:
    found = (await api.get("/jobs/metrics", admin)).json()["jobs"]
    assert found == {
        **dict.fromkeys(("waiting", "active", "completed", "failed", "delayed", "dead", "oldestSeconds"), 0),
        "kinds": [],
        "recentFailures": [],
    }


async def test_dead_jobs_are_listed_the_latest_first_by_kind_and_by_page(api: Api, admin: Person) -> None:
    first, second, third = await dead(api.db, "one", "two", "three")
    (other,) = await dead(api.db, "four", kind="other")
    await added(api.db)
    listed = (await api.get("/jobs", admin)).json()
    assert [job["id"] for job in listed["jobs"]] == [str(one) for one in (other, third, second, first)]
    assert listed["pagination"] == {"page": 1, "pageSize": 20, "total": 4}
    page = await api.get("/jobs", admin, params={"kind": "work", "page": 2, "pageSize": 2})
    assert [job["error"] for job in page.json()["jobs"]] == ["one"]
    assert 'rel="prev"' in page.headers["link"]
    beyond = (await api.get("/jobs", admin, params={"kind": "work", "page": 9})).json()
    assert (beyond["jobs"], beyond["pagination"]["total"]) == ([], 3)
    assert (await api.get("/jobs", admin, params={"kind": "none"})).json()["jobs"] == []


async def test_a_requeued_job_runs_as_if_it_had_never_failed(api: Api, admin: Person) -> None:
    (job_id,) = await dead(api.db, "no")
    answer = await api.post(f"/jobs/{job_id}/requeue", admin)
    assert answer.status_code == 200, answer.text
    shown = answer.json()["job"]
    assert (shown["id"], shown["state"], shown["failures"]) == (str(job_id), "waiting", 0)
    assert (await api.get("/jobs", admin)).json()["jobs"] == []
    calls = Calls()
    async with running(api.db, Kind("work", calls)):
        await until(is_gone(api.db))
    assert [(job.id, job.failures) for job in calls.jobs] == [(job_id, 0)]
    assert await told(api.db, job_id) == [("job.requeued", admin.id, False, True)]
    again = await api.post(f"/jobs/{job_id}/requeue", admin)
    assert (again.status_code, code(again)) == (404, "JOB_NOT_FOUND")


async def test_a_job_is_not_requeued_beside_a_fresh_one_with_its_key(api: Api, admin: Person) -> None:
    first, second = [(await dead(api.db, "no", key="a"))[0] for _ in range(2)]
    assert (await api.post(f"/jobs/{first}/requeue", admin)).status_code == 200
    refused = await api.post(f"/jobs/{second}/requeue", admin)
    assert (refused.status_code, code(refused)) == (409, "JOB_IS_THERE")
    assert await told(api.db, second) == []
    async with running(api.db, Kind("work", nothing)):

        async def fresh_is_done() -> bool:
            return len(await rows(api.db)) == 1

        await until(fresh_is_done)
    assert (await api.post(f"/jobs/{second}/requeue", admin)).status_code == 200


async def test_a_requeue_that_races_an_enqueue_of_its_key_is_refused_not_broken(api: Api, admin: Person) -> None:
    (job_id,) = await dead(api.db, "no", key="a")
    async with api.db.transaction() as session:
        await jobs.enqueue(session, "work", {}, key="a")
        asked = asyncio.create_task(api.post(f"/jobs/{job_id}/requeue", admin, headers={"Idempotency-Key": "k"}))

        async def it_waits() -> bool:
            found = await api.db.fetch(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(found)

        await until(it_waits)
    refused = await asked
    assert (refused.status_code, code(refused)) == (409, "JOB_IS_THERE")


async def test_a_deleted_job_is_gone_and_only_dead_ones_can_be(api: Api, admin: Person) -> None:
    (job_id,) = await dead(api.db, "no")
    headers = {"Idempotency-Key": "once"}
    for _ in range(2):
        deleted = await api.send("DELETE", f"/jobs/{job_id}", admin, headers=headers)
        assert (deleted.status_code, deleted.content) == (204, b"")
    assert deleted.headers["idempotency-replayed"] == "true"
    assert await told(api.db, job_id) == [("job.deleted", admin.id, True, False)]
    await added(api.db)
    living = (await only(api.db))["id"]
    for one in (job_id, living, new_id()):
        refused = await api.send("DELETE", f"/jobs/{one}", admin)
        assert (refused.status_code, code(refused)) == (404, "JOB_NOT_FOUND")
    assert len(await rows(api.db)) == 1


async def test_jobs_are_the_admins_business(api: Api, user: Person) -> None:
    for method, path in (
        ("GET", "/jobs/metrics"),
        ("GET", "/jobs"),
        ("POST", f"/jobs/{new_id()}/requeue"),
        ("DELETE", f"/jobs/{new_id()}"),
    ):
        assert (await api.send(method, path)).status_code == 401
        assert (await api.send(method, path, user)).status_code == 403


async def test_a_job_id_that_is_none_and_a_kind_with_a_nul_are_refused(api: Api, admin: Person) -> None:
    for method, path in (("POST", "/jobs/1/requeue"), ("DELETE", "/jobs/1"), ("GET", "/jobs?kind=%00")):
        assert (await api.send(method, path, admin)).status_code == 400
