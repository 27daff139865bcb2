"""`/metrics` for Prometheus, and the measuring of requests (docs/decisions/0010).

No personal data is in it, so anyone who reaches the port may read it, as is usual; the reverse proxy keeps strangers out.
"""

import asyncio
from time import monotonic, perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.core import metrics
from holdfast.core.errors import Busy
from holdfast.core.metrics import NO_ROUTE, Labels, Reading
from holdfast.db.database import Database
from holdfast.web.state import DatabaseDep

router = APIRouter(tags=["operations"])

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Readings of the database are this fresh, in seconds, however often somebody asks.
_FRESH = 1.0
#: A scrape waits this long for the database, in seconds; then it goes without.
_PATIENCE = 2.0

#: Each count is of a partial index. Jobs that are done leave no row, but their kinds: a line at zero is a line.
_STANDINGS = """
SELECT (SELECT count(DISTINCT hold_id) FROM claims WHERE expires_at > clock_timestamp()) AS holds,
       (SELECT count(*) FROM waitlist_entries WHERE status = 'waiting') AS waitlist,
       (SELECT count(*) FROM booking_requests WHERE status = 'waiting' AND hold_id IS NULL) AS queue,
       (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(occurred_at)), 0)::float8
        FROM outbox WHERE number IS NULL) AS lag"""
_JOBS = """
SELECT kinds.kind, states.state, count(jobs.state) AS jobs
FROM (SELECT kind FROM job_counts UNION SELECT kind FROM jobs) AS kinds
CROSS JOIN (VALUES ('waiting'), ('delayed'), ('active'), ('dead')) AS states (state)
LEFT JOIN (SELECT kind, CASE WHEN state = 'waiting' AND run_at > clock_timestamp() THEN 'delayed' ELSE state END AS state
           FROM jobs) AS jobs USING (kind, state)
GROUP BY kinds.kind, states.state"""

_HOLDS = ("holds_live", "Holds that have not lapsed.")
_WAITLIST = ("waitlist_waiting", "Waitlist entries that wait.")
_QUEUE = ("queue_waiting", "Tickets of the fair queue that wait.")
_LAG = ("relay_lag_seconds", "Age of the oldest outbox message that the relay has not passed on.")
_JOB_STATES = ("jobs", "Jobs: due, waiting for their time, running, given up.")
_DATABASE_UP = ("database_up", "Whether the database answered this scrape.")


class _Standings:
    """How many of what there are in a database, read at most once a second."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()
        self._readings: list[Reading] = []
        self._read_at = -_FRESH

    async def read(self, db: Database) -> list[Reading]:
        """The readings; only that the database is down, where it is."""
        async with self._one_at_a_time:
            if monotonic() - self._read_at >= _FRESH:
                try:
                    async with asyncio.timeout(_PATIENCE):
                        self._readings = await _read(db)
                except (Busy, TimeoutError):
                    self._readings = [(*_DATABASE_UP, (), {(): 0.0})]
                self._read_at = monotonic()
        return self._readings


_STANDINGS_OF: WeakKeyDictionary[Database, _Standings] = WeakKeyDictionary()


async def _read(db: Database) -> list[Reading]:
    (counts,) = await db.fetch(_STANDINGS)
    jobs: dict[Labels, float] = {(row["kind"], row["state"]): float(row["jobs"]) for row in await db.fetch(_JOBS)}
    return [
        (*_DATABASE_UP, (), {(): 1.0}),
        (*_HOLDS, (), {(): float(counts["holds"])}),
        (*_WAITLIST, (), {(): float(counts["waitlist"])}),
        (*_QUEUE, (), {(): float(counts["queue"])}),
        (*_LAG, (), {(): max(0.0, counts["lag"])}),
        (*_JOB_STATES, ("kind", "state"), jobs),
    ]


@router.get("/metrics", include_in_schema=False)
async def read_metrics(db: DatabaseDep) -> Response:
    """What there is to measure, of all processes that share this port; the database's part is left out while it is down."""
    readings = await _STANDINGS_OF.setdefault(db, _Standings()).read(db)
    # In a thread: some 40 ms at a thousand series of two processes, which no request should wait for.
    return Response(await asyncio.to_thread(metrics.exposition, readings), headers={"Content-Type": _CONTENT_TYPE})


def route_of(scope: Scope) -> str:
    """The template of the route that took a request (`/rooms/{roomId}`); never a path that somebody made up."""
    template: Any = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) and template else NO_ROUTE


class RequestMetrics:
    """Counts requests and times them until their answers begin: a live stream goes on for hours. Outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure one HTTP request; other protocols pass."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        in_flight = True
        metrics.request_began()

        async def noting_send(message: Message) -> None:
            nonlocal in_flight
            if in_flight and message["type"] == "http.response.start":
                in_flight = False
                metrics.request_answered(scope["method"], route_of(scope), message["status"], perf_counter() - began)
            await send(message)

        try:
            await self.app(scope, receive, noting_send)
        finally:
            if in_flight:
                metrics.request_lost()
