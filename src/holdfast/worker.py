"""The worker: what must happen without anybody asking. Wiring only. A process of its own: `holdfast serve` keeps one beside it.

Any number run beside each other: each round takes the locks that any taker takes, one relay at a time has its turn, and a job
is run by whoever claims it first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from holdfast import idempotency, outbox, streams
from holdfast.accounts import service as accounts
from holdfast.adapters.mail import Mailer, make_mailer
from holdfast.adapters.webhooks import HttpSender, WebhookSender
from holdfast.bookings.service import remind_all, serve_lines, settle_all
from holdfast.core.errors import Refusal
from holdfast.core.settings import Settings
from holdfast.db.database import Database
from holdfast.jobs import Periodic, Runner
from holdfast.notifications import service as notifications
from holdfast.webhooks import service as webhooks

#: Seconds between rounds: a lapsed offer reaches the next in line within two.
ROUND_SECONDS = 1.0
#: Seconds between the relay's looks: while there is something to tell, and when there was nothing.
RELAY_BUSY_SECONDS = 0.03
RELAY_IDLE_SECONDS = 0.1
#: Connections of a worker.
POOL_SIZE = 10

log = structlog.get_logger(__name__)


class Worker:
    """One process's worker, on a database of its own. `mailer` and `sender` replace those that the settings name."""

    def __init__(
        self, db: Database, settings: Settings, *, mailer: Mailer | None = None, sender: WebhookSender | None = None
    ) -> None:
        self._db = db
        self._mailer = mailer or make_mailer(settings, keep=notifications.keep_in(db))
        self._sender = sender or HttpSender(loopback=settings.webhook_loopback)
        self._followers = (webhooks.follow, notifications.follow)
        kinds = (*webhooks.kinds(db, self._sender), *notifications.kinds(db, self._mailer, settings))
        periodic = (
            Periodic("accounts.tidy", timedelta(hours=1), lambda: accounts.tidy(db)),
            Periodic("idempotency.tidy", timedelta(minutes=10), lambda: idempotency.tidy(db)),
            Periodic("streams.tidy", timedelta(minutes=10), lambda: streams.tidy(db)),
            *notifications.periodic(db),
            *webhooks.periodic(db),
        )
        self._runner = Runner(db, kinds, periodic)

    async def run(self) -> None:
        """Work until cancelled; what is under way is then waited for, or given back."""
        loops = [
            asyncio.create_task(rounds(self._db)),
            asyncio.create_task(_again("relay", self._relay)),
            asyncio.create_task(self._runner.run()),
        ]
        try:
            await asyncio.gather(*loops)
        finally:
            for loop in loops:
                # Ours were cancelled with us: a second time would cut short what the runner waits for, and gives back.
                if not loop.cancelling():
                    loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self._mailer.close()
            await self._sender.close()

    async def _relay(self) -> float:
        """Number what was committed, and hand it on."""
        told = await outbox.relay(self._db, self._followers)
        if not told:
            return RELAY_IDLE_SECONDS
        self._runner.wake()
        return 0 if told == outbox.AT_ONCE else RELAY_BUSY_SECONDS


async def rounds(db: Database, *, every: float = ROUND_SECONDS) -> None:
    """Settle what has lapsed, serve the lines, remind; so often, until cancelled. What fails of these keeps no other."""

    def once(work: Callable[[Database], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
        async def done() -> float:
            await work(db)
            return every

        return done

    await asyncio.gather(*(_again(work.__name__, once(work)) for work in (settle_all, serve_lines, remind_all)))


async def _again(name: str, work: Callable[[], Awaitable[float]]) -> None:
    """Work, pause as long as it says, and again, until cancelled. A failure is logged; the next time will tell."""
    while True:
        pause = ROUND_SECONDS
        try:
            pause = await work()
        except Refusal as refusal:
            log.warning("worker.failed", loop=name, reason=refusal.code)
        except Exception:
            # A defect in one round must not end all the others.
            log.exception("worker.broken", loop=name)
        await asyncio.sleep(pause)
