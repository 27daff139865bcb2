"""Runs jobs: claims those whose time has come, keeps their leases, and says what became of them."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from holdfast.core import tracing
from holdfast.core.errors import Refusal
from holdfast.db.database import Database, fetch_in
from holdfast.jobs import queue
from holdfast.jobs.queue import Claimed
from holdfast.jobs.shapes import Dead, Kind, Later, Periodic

#: Seconds between looks for jobs that nobody has woken us for.
LOOK_SECONDS = 0.5
#: Seconds that jobs under way are waited for at the end; what is not done by then is given back.
PATIENCE_SECONDS = 5.0
_TEND_SECONDS = 5.0

_TICK = """
INSERT INTO periodic_runs (name, ran_at) VALUES ($1, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET ran_at = clock_timestamp() WHERE periodic_runs.ran_at <= clock_timestamp() - $2::interval
RETURNING name"""

log = structlog.get_logger(__name__)


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
        beside = [asyncio.create_task(self._keep()), asyncio.create_task(self._tend())]
        try:
            while True:
                claimed = await self._claim()
                for one in claimed:
                    task = asyncio.create_task(self._work(one))
                    self._running[task] = one
                    task.add_done_callback(self._ended)
                # Where a kind took all that it had room for, there may be more: whoever ends wakes us.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), LOOK_SECONDS)
                self._woken.clear()
        finally:
            await self._give_back()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

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
        try:
            outcome = await self._outcome(claimed)
            log.debug("job.ran", kind=claimed.job.kind, job=str(claimed.job.id), outcome=outcome)
        except Refusal as refusal:
            # What became of it cannot be written: its lease runs out, and it is run again.
            log.warning("job.outcome_lost", kind=claimed.job.kind, job=str(claimed.job.id), reason=refusal.code)
        except Exception:
            log.exception("job.outcome_lost", kind=claimed.job.kind, job=str(claimed.job.id))

    async def _outcome(self, claimed: Claimed) -> str:
        """Run the handler, and write what became of the job."""
        job, kind = claimed.job, self._kinds[claimed.job.kind]
        try:
            with tracing.span(f"job {job.kind}", job.trace):
                await kind.handler(job)
        except Later as later:
            await queue.put_back(self._db, claimed, pause=later.pause)
            return "later"
        except Dead as dead:
            log.warning("job.dead", kind=job.kind, job=str(job.id), reason=str(dead))
            await queue.fail(self._db, claimed, pause=None, error=str(dead))
            return "dead"
        except Exception as error:
            log.warning("job.failed", kind=job.kind, job=str(job.id), exc_info=not isinstance(error, Refusal))
            pause = queue.pause_after(kind.pauses, job.failures)
            spread = None if pause is None else pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
            await queue.fail(self._db, claimed, pause=spread, error=f"{type(error).__name__}: {error}")
            return "failed" if spread is not None else "dead"
        await queue.complete(self._db, claimed)
        return "completed"

    async def _keep(self) -> None:
        """Renew leases, and take back what the dead have left."""
        every = min((kind.lease for kind in self._kinds.values()), default=timedelta(seconds=60)) / 4
        while True:
            try:
                await self._renew()
                if await queue.take_back(self._db, self._kinds):
                    self._woken.set()
            except Refusal as refusal:
                log.warning("jobs.leases_not_kept", reason=refusal.code)
            except Exception:
                log.exception("jobs.leases_broken")
            await asyncio.sleep(min(every.total_seconds(), 5.0))

    async def _renew(self) -> None:
        held = dict(self._running)
        if not held:
            return
        still = await queue.renew(self._db, [(one, self._kinds[one.job.kind].lease) for one in held.values()])
        for task, one in held.items():
            if one.job.id not in still and not task.done():
                # We were away for longer than the lease: somebody else does it.
                task.cancel()

    async def _tend(self) -> None:
        """Run what is due every so often."""
        while True:
            for periodic in self._periodic:
                try:
                    if await self._is_due(periodic):
                        await periodic.handler()
                except Refusal as refusal:
                    log.warning("periodic.failed", name=periodic.name, reason=refusal.code)
                except Exception:
                    log.exception("periodic.broken", name=periodic.name)
            await asyncio.sleep(_TEND_SECONDS)

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
            await asyncio.wait(late)
        for task in late:
            with suppress(Refusal):
                await queue.put_back(self._db, running[task])
