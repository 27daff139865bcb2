"""Runs jobs: claims those whose time has come, keeps their leases, and says what became of them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TypeAlias

import structlog

from holdfast.core import metrics, tracing
from holdfast.core.errors import Busy, Refusal
from holdfast.db.database import Database, fetch_in
from holdfast.jobs import queue
from holdfast.jobs.queue import Claimed
from holdfast.jobs.shapes import Dead, Kind, Later, Periodic

#: Seconds between looks for jobs that nobody has woken us for.
LOOK_SECONDS = 0.5
#: Seconds that jobs under way are waited for at the end; what is not done by then is given back.
PATIENCE_SECONDS = 5.0
#: Seconds in which a claim that the end cuts into comes to its own: as long as a statement may take.
_CLAIM_SECONDS = 5.0
#: Seconds in which what is given back must be written down: where the database is away, leases run out by themselves.
_LAST_WORDS_SECONDS = 2.0
#: Seconds between attempts to write what became of a job, while the database does not answer.
_SETTLE_SECONDS = 0.5
_KEEP_SECONDS = 5.0
_TEND_SECONDS = 5.0
#: Seconds after which a periodic job that hangs is ended.
_PERIODIC_SECONDS = 120.0

_TICK = """
INSERT INTO periodic_runs (name, ran_at) VALUES ($1, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET ran_at = clock_timestamp() WHERE periodic_runs.ran_at <= clock_timestamp() - $2::interval
RETURNING name"""

log = structlog.get_logger(__name__)

#: What became of a run, in a word, and how that is written.
_Outcome: TypeAlias = tuple[str, Callable[[], Awaitable[None]]]


class Runner:
    """The jobs of one process. Any number of them work side by side on one database."""

    def __init__(self, db: Database, kinds: Sequence[Kind], periodic: Sequence[Periodic] = ()) -> None:
        self._db = db
        self._kinds = {kind.name: kind for kind in kinds}
        self._periodic = periodic
        self._running: dict[asyncio.Task[None], Claimed] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be something to do: do not wait for the next look."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; then wait a little for what is under way, and give back the rest."""
        beside = [asyncio.create_task(self._keep()), *(asyncio.create_task(self._tend(one)) for one in self._periodic)]
        looking: asyncio.Task[None] | None = None
        try:
            while True:
                # A task of its own: cut off between its commit and our knowing of it, a claim would be nobody's.
                looking = asyncio.create_task(self._look())
                await asyncio.shield(looking)
                # Where a kind took all that it had room for, there may be more: whoever ends wakes us.
                # Not wait_for: Python 3.11's loses a cancel that comes in the moment of the waking, and we would never end.
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._woken.wait()
                self._woken.clear()
        finally:
            if looking is not None:
                await asyncio.wait([looking], timeout=_CLAIM_SECONDS)
            await self._give_back()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _look(self) -> None:
        """Claim what there is room for, and begin with it."""
        for one in await self._claim():
            task = asyncio.create_task(self._work(one))
            self._running[task] = one
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._woken.set()

    async def _claim(self) -> list[Claimed]:
        busy = [one.job.kind for one in self._running.values()]
        room = [(kind, kind.at_once - busy.count(name)) for name, kind in self._kinds.items()]
        free = [(kind, places) for kind, places in room if places > 0]
        if not free:
            return []
        try:
            return await queue.claim(self._db, free)
        except Refusal as refusal:
            log.warning("jobs.not_claimed", reason=refusal.code)
        except Exception:
            log.exception("jobs.claim_broken")
        return []

    async def _work(self, claimed: Claimed) -> None:
        """One run. Cancelled where the job is somebody else's by now."""
        job, began = claimed.job, perf_counter()
        outcome, write = await self._run(claimed)
        metrics.job_ran(job.kind, outcome, perf_counter() - began)
        try:
            while True:
                with suppress(Busy):
                    await write()
                    break
                # It is ours while we renew it, and done once: not to be run again for want of a word.
                log.warning("job.outcome_waits", kind=job.kind, job=str(job.id), outcome=outcome)
                await asyncio.sleep(_SETTLE_SECONDS)
        except Exception:
            # What became of it cannot be written: its lease runs out, and that is a failure.
            log.exception("job.outcome_lost", kind=job.kind, job=str(job.id))
            return
        log.debug("job.ran", kind=job.kind, job=str(job.id), outcome=outcome)

    async def _run(self, claimed: Claimed) -> _Outcome:
        """Run the handler, and tell what becomes of the job."""
        job, kind = claimed.job, self._kinds[claimed.job.kind]
        deadline = asyncio.timeout(kind.deadline.total_seconds())
        try:
            with tracing.span(f"job {job.kind}", job.trace):
                async with deadline:
                    await kind.handler(job)
        except Later as later:
            pause = later.pause
            return "later", lambda: queue.put_back(self._db, claimed, pause=pause)
        except Dead as dead:
            log.warning("job.dead", kind=job.kind, job=str(job.id), reason=str(dead))
            text = str(dead)
            return "dead", lambda: queue.fail(self._db, claimed, pause=None, error=text)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            # A busy database is a failure like any other: pauses that grow are what it needs, and a job that itself is what
            # is too much for it must come to an end.
            log.warning("job.failed", kind=job.kind, job=str(job.id), exc_info=not isinstance(error, Refusal))
            text = f"no end within {kind.deadline}" if deadline.expired() else f"{type(error).__name__}: {error}"
            after = queue.pause_after(kind.pauses, job.failures)
            spread = None if after is None else after * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
            return "dead" if spread is None else "failed", lambda: queue.fail(self._db, claimed, pause=spread, error=text)
        return "completed", lambda: queue.complete(self._db, claimed)

    async def _keep(self) -> None:
        """Renew leases, and take back what the dead have left."""
        shortest = min((kind.lease.total_seconds() for kind in self._kinds.values()), default=_KEEP_SECONDS)
        while True:
            try:
                await self._renew()
                if await queue.take_back(self._db, self._kinds):
                    self._woken.set()
            except Refusal as refusal:
                log.warning("jobs.leases_not_kept", reason=refusal.code)
            except Exception:
                log.exception("jobs.leases_broken")
            await asyncio.sleep(min(shortest / 4, _KEEP_SECONDS))

    async def _renew(self) -> None:
        held = dict(self._running)
        if not held:
            return
        still = await queue.renew(self._db, [(one, self._kinds[one.job.kind].lease) for one in held.values()])
        for task, one in held.items():
            if one.job.id not in still and not task.done():
                # We were away for longer than the lease: somebody else does it.
                task.cancel()

    async def _tend(self, periodic: Periodic) -> None:
        """Run it whenever it is due, unless another worker does."""
        while True:
            try:
                if await self._is_due(periodic):
                    async with asyncio.timeout(_PERIODIC_SECONDS):
                        await periodic.handler()
            except Refusal as refusal:
                log.warning("periodic.failed", name=periodic.name, reason=refusal.code)
            except Exception:
                log.exception("periodic.broken", name=periodic.name)
            await asyncio.sleep(min(periodic.every.total_seconds(), _TEND_SECONDS))

    async def _is_due(self, periodic: Periodic) -> bool:
        """True for one worker of all: whoever writes down that it runs now."""
        async with self._db.transaction() as session:
            return bool(await fetch_in(session, _TICK, periodic.name, periodic.every))

    async def _give_back(self) -> None:
        running = dict(self._running)
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=PATIENCE_SECONDS)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_LAST_WORDS_SECONDS)
            backs = [asyncio.create_task(queue.put_back(self._db, running[task])) for task in late]
            _, unsaid = await asyncio.wait(backs, timeout=_LAST_WORDS_SECONDS)
            for back in unsaid:
                back.cancel()
            await asyncio.gather(*backs, return_exceptions=True)
