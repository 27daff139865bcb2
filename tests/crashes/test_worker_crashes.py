"""`kill -9` and SIGSTOP of processes that relay and run jobs: nothing is lost, and what is doubled has the same id."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from holdfast import outbox
from holdfast.core.callers import SYSTEM
from holdfast.core.ids import new_id
from holdfast.db.database import Database
from holdfast.outbox.relay import STUCK_AFTER
from support import worker_process
from support.crashes import KILLS, TORTURE, Postgres, told, until

pytestmark = pytest.mark.serial

#: Everything is done by then once nobody is killed any more: a lease, a pause, an idle transaction's end, a busy machine.
DONE_WITHIN = 60.0
ROUNDS = KILLS if TORTURE else KILLS // 2


class WorkerProcess:
    """`support/worker_process.py` as a child."""

    def __init__(self, url: str, log: Path) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, worker_process.__file__, url],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Ground:
    """A durable database with a place for effects, and a hand that starts and ends workers."""

    def __init__(self, durable: Postgres, db: Database, eye: asyncpg.Connection, log: Path) -> None:
        self.db = db
        self.eye = eye
        self._durable = durable
        self._log = log
        self.workers: list[WorkerProcess] = []

    def start(self) -> WorkerProcess:
        worker = WorkerProcess(self._durable.url, self._log)
        self.workers.append(worker)
        return worker

    async def begin_again(self) -> None:
        """Connections to the database that was started again."""
        self.eye.terminate()
        await self.db.close()
        self.db, self.eye = Database(self._durable.url, pool_size=4), await asyncpg.connect(self._durable.url)

    async def write(self, count: int = 1) -> list[UUID]:
        """Messages that are committed, each in a transaction of its own; returns their subjects."""
        subjects = [new_id() for _ in range(count)]
        for subject in subjects:
            async with self.db.transaction() as session:
                await outbox.enqueue(session, "thing.done", subject, by=SYSTEM)
        return subjects

    async def write_and_roll_back(self) -> UUID:
        subject = new_id()
        with suppress(ZeroDivisionError):
            async with self.db.transaction() as session:
                await outbox.enqueue(session, "thing.done", subject, by=SYSTEM)
                raise ZeroDivisionError
        return subject

    @asynccontextmanager
    async def nobody_writes_to(self, table: str) -> AsyncIterator[None]:
        connection = await asyncpg.connect(self._durable.url)
        await connection.execute(f"BEGIN; LOCK TABLE {table} IN SHARE MODE")
        try:
            yield
        finally:
            await connection.close()

    async def somebody_waits(self) -> bool:
        """A worker stands before the locked table."""
        waiting: int = await self.eye.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return waiting > 0

    async def both_are_there(self) -> bool:
        """Two workers have begun: each has its way to the outside."""
        there: int = await self.eye.fetchval(
            "SELECT count(DISTINCT backend_start) FROM pg_stat_activity WHERE application_name = 'outside'"
        )
        return there >= 2

    async def effects(self) -> int:
        found: int = await self.eye.fetchval("SELECT count(*) FROM effects")
        return found

    async def all_is_done(self) -> bool:
        return bool(
            await self.eye.fetchval(
                "SELECT NOT EXISTS (SELECT FROM outbox WHERE number IS NULL) AND NOT EXISTS (SELECT FROM jobs)"
            )
        )

    async def reckon(self, subjects: Sequence[UUID]) -> int:
        """Check that nothing is lost and nothing numbered twice; returns how many effects came more than once."""
        numbers = await self.eye.fetch("SELECT number, subject_id FROM outbox ORDER BY number")
        assert [row["number"] for row in numbers] == list(range(1, len(numbers) + 1))
        assert {row["subject_id"] for row in numbers} == set(subjects)
        lost = await self.eye.fetch("SELECT id FROM outbox WHERE id NOT IN (SELECT message_id FROM effects)")
        assert lost == []
        foreign = await self.eye.fetch("SELECT message_id FROM effects WHERE message_id NOT IN (SELECT id FROM outbox)")
        assert foreign == []
        # Each job ended once, however often it was run.
        assert await self.eye.fetchval("SELECT completed FROM job_counts WHERE kind = 'tell'") == len(subjects)
        return await self.effects() - len(subjects)


@pytest.fixture
async def ground(durable: Postgres, tmp_path: Path) -> AsyncIterator[Ground]:
    eye = await asyncpg.connect(durable.url)
    await eye.execute("CREATE TABLE effects (message_id uuid NOT NULL, worker int NOT NULL)")
    db = Database(durable.url, pool_size=4)
    made = Ground(durable, db, eye, tmp_path / "workers.log")
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.kill()
        await made.db.close()
        await made.eye.close()


#: Before which table's next write the worker is killed, and whether the relay has had its turn by then.
STEPS = {
    "before the numbers": ("outbox", False),
    "between the numbers and the jobs": ("jobs", False),
    "before the claim": ("jobs", True),
    "before the effect": ("effects", True),
    "between the effect and the end of the job": ("job_counts", True),
}


async def test_a_kill_between_any_two_steps_loses_nothing_and_doubles_under_the_same_id(ground: Ground) -> None:
    subjects: list[UUID] = []
    doubled = 0
    for step, (table, relayed) in STEPS.items():
        subjects += await ground.write(3)
        if relayed:
            assert await outbox.relay(ground.db, [worker_process.follow]) == 3
        async with ground.nobody_writes_to(table):
            worker = ground.start()
            await until(ground.somebody_waits, DONE_WITHIN)
            worker.kill()
        worker = ground.start()
        began = time.monotonic()
        await until(ground.all_is_done, DONE_WITHIN)
        worker.kill()
        before, doubled = doubled, await ground.reckon(subjects)
        told(f"killed {step}: done {time.monotonic() - began:.1f} s after the next start, {doubled - before} doubled")
        # An effect that was had, and whose job had not ended, is the one thing that must come twice.
        assert (doubled > before) == (step == "between the effect and the end of the job")


async def test_kills_at_random_amid_writers_lose_nothing(ground: Ground) -> None:
    rng, writing = random.Random(9), True
    subjects: list[UUID] = []
    rolled_back: list[UUID] = []

    async def write() -> None:
        while writing:
            subjects.extend(await ground.write())
            rolled_back.append(await ground.write_and_roll_back())
            await asyncio.sleep(0.005)

    writers = [asyncio.create_task(write()) for _ in range(2)]
    for number in range(1, ROUNDS + 1):
        workers = [ground.start() for _ in range(2)]
        goal = await ground.effects() + rng.randrange(5, 60)

        async def reached(goal: int = goal) -> bool:
            return await ground.effects() >= goal

        await until(reached, DONE_WITHIN)
        for worker in workers:
            worker.kill()
        told(f"workers killed {number}/{ROUNDS}: {len(subjects)} written, {await ground.effects()} effects")
    writing = False
    await asyncio.gather(*writers)
    ground.start()
    await until(ground.all_is_done, DONE_WITHIN)
    doubled = await ground.reckon(subjects)
    told(f"{len(subjects)} messages, {doubled} doubled, {len(rolled_back)} rolled back")
    assert await ground.eye.fetchval("SELECT count(*) FROM outbox WHERE subject_id = ANY($1)", rolled_back) == 0


async def test_a_worker_that_was_stopped_in_a_job_has_no_say_when_it_goes_on(ground: Ground) -> None:
    """Its lease is over, another has done the job: its own end matches no row. Both effects have one id."""
    subjects = await ground.write()
    assert await outbox.relay(ground.db, [worker_process.follow]) == 1
    async with ground.nobody_writes_to("effects"):
        stopped = ground.start()
        await until(ground.somebody_waits, DONE_WITHIN)
        stopped.send(signal.SIGSTOP)
    ground.start()
    await until(ground.all_is_done, DONE_WITHIN)
    stopped.send(signal.SIGCONT)
    # It lives, and works again: alone, it does what comes now.
    ground.workers[-1].kill()
    subjects += await ground.write()

    async def second_is_told_by_it() -> bool:
        return bool(await ground.eye.fetchval("SELECT count(*) FROM effects WHERE worker = $1", stopped.pid) >= 2)

    await until(second_is_told_by_it, DONE_WITHIN)
    await until(ground.all_is_done, DONE_WITHIN)
    assert await ground.reckon(subjects) == 1
    assert await ground.eye.fetchval("SELECT failed FROM job_counts WHERE kind = 'tell'") == 1


async def test_a_relay_that_was_stopped_in_its_turn_holds_up_the_others_for_seconds_and_numbers_nothing_late(
    ground: Ground,
) -> None:
    """Stopped between two messages of one statement: the server does not take that for idle, so another relay ends it."""
    subjects = await ground.write(3)
    async with ground.nobody_writes_to("jobs"):
        stopped = ground.start()
        await until(ground.somebody_waits, DONE_WITHIN)
        other = ground.start()
        await until(ground.both_are_there, DONE_WITHIN)
        stopped.send(signal.SIGSTOP)
        began = time.monotonic()
    # The stopped one's transaction has got what it waited for, and has the lock of all relays.
    subjects += await ground.write(3)
    await until(ground.all_is_done, DONE_WITHIN)
    told(f"relayed {time.monotonic() - began:.1f} s after the other was stopped")
    assert time.monotonic() - began < STUCK_AFTER.total_seconds() + 5
    stopped.send(signal.SIGCONT)
    other.kill()
    subjects += await ground.write(3)
    await until(ground.all_is_done, DONE_WITHIN)
    assert await ground.reckon(subjects) == 0


async def test_workers_that_are_stopped_and_killed_again_and_again_end_with_everything_done(ground: Ground) -> None:
    rng = random.Random(11)
    subjects: list[UUID] = []
    workers = [ground.start() for _ in range(3)]
    for number in range(1, ROUNDS + 1):
        subjects += await ground.write(20)
        goal = await ground.effects() + rng.randrange(1, 15)

        async def reached(goal: int = goal) -> bool:
            return await ground.effects() >= goal or await ground.all_is_done()

        await until(reached, DONE_WITHIN)
        place = rng.randrange(3)
        if rng.random() < 0.5:
            workers[place].kill()
            workers[place] = ground.start()
        else:
            workers[place].send(signal.SIGSTOP)
            subjects += await ground.write(20)
            await until(ground.all_is_done, DONE_WITHIN)
            workers[place].send(signal.SIGCONT)
        told(f"hit {number}/{ROUNDS}: {len(subjects)} written, {await ground.effects()} effects")
    await until(ground.all_is_done, DONE_WITHIN)
    told(f"{len(subjects)} messages, {await ground.reckon(subjects)} doubled")


async def test_the_database_is_killed_and_the_workers_go_on(ground: Ground, durable: Postgres) -> None:
    """They outlive it: what is under way is written down, or done again, once it is back."""
    worker = ground.start()
    subjects = await ground.write(40)

    async def begun() -> bool:
        return await ground.effects() > 0

    await until(begun, DONE_WITHIN)
    durable.kill()
    await asyncio.to_thread(durable.start_again)
    await ground.begin_again()
    subjects += await ground.write(20)
    await until(ground.all_is_done, DONE_WITHIN)
    assert worker.process.poll() is None
    told(f"{await ground.reckon(subjects)} doubled")


async def test_control_a_lost_message_and_a_job_that_ended_twice_are_seen(ground: Ground) -> None:
    subjects = await ground.write(2)
    assert await outbox.relay(ground.db, [worker_process.follow]) == 2
    await ground.eye.execute("DELETE FROM jobs WHERE key = (SELECT min(key) FROM jobs)")
    worker = ground.start()
    await until(ground.all_is_done, DONE_WITHIN)
    worker.kill()
    with pytest.raises(AssertionError):
        await ground.reckon(subjects)
    lost = await ground.eye.fetchval("SELECT id FROM outbox WHERE id NOT IN (SELECT message_id FROM effects)")
    await ground.eye.execute("INSERT INTO effects VALUES ($1, 0)", lost)
    await ground.eye.execute("UPDATE job_counts SET completed = 3")
    with pytest.raises(AssertionError):
        await ground.reckon(subjects)
    await ground.eye.execute("UPDATE job_counts SET completed = 2")
    assert await ground.reckon(subjects) == 0
