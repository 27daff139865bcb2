"""The worker: what must happen without anybody asking. Wiring only; `holdfast serve` runs it inside, `holdfast worker` apart.

Several may run beside each other: each round takes the locks that any taker takes, and finds nothing where another was first.
"""

import asyncio

import structlog

from holdfast.bookings.service import serve_lines, settle_all
from holdfast.core.errors import Refusal
from holdfast.db.database import Database

#: Seconds between rounds: a lapsed offer reaches the next in line within two.
ROUND_SECONDS = 1.0

log = structlog.get_logger(__name__)


async def work(db: Database, *, every: float = ROUND_SECONDS) -> None:
    """Settle what has lapsed and serve the lines, round after round, until it is cancelled."""
    while True:
        try:
            await settle_all(db)
            await serve_lines(db)
        except Refusal as refusal:
            # The database is out of reach, or busy: the next round will tell.
            log.warning("worker.round_failed", reason=refusal.code)
        except Exception:
            # A defect in one round must not end all the others.
            log.exception("worker.round_broken")
        await asyncio.sleep(every)
