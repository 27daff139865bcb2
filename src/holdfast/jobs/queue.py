"""The queue's statements. A claim is fenced: whoever lost it, by death or by being stopped too long, changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.clock import instant_text
from holdfast.core.errors import Conflict
from holdfast.core.ids import new_id
from holdfast.db.constraints import refused_by
from holdfast.db.database import Database, fetch_in
from holdfast.jobs.shapes import Job, Kind

#: What is kept of an error: enough to act upon.
_MAX_ERROR = 500

#: Of a key that is there already, the row is locked until our commit (DO UPDATE does so even where it changes nothing). Else it
#: could be run, and end, before what it is wanted for can be seen. One that is under way may have looked already: `again`.
_ENQUEUE = """
INSERT INTO jobs (id, kind, key, payload, trace, run_at)
SELECT n.id, $2, n.key, n.payload::jsonb, n.trace, coalesce($6, clock_timestamp())
FROM unnest($1::uuid[], $3::text[], $4::text[], $5::text[]) AS n(id, key, payload, trace)
ON CONFLICT (kind, key) WHERE key IS NOT NULL AND state <> 'dead' DO UPDATE SET again = true WHERE jobs.state = 'active'"""

#: Each kind takes as many as it has room for, so that none starves another; who is ahead of us is skipped, not waited for.
#: now(), not clock_timestamp(): the latter may change within the statement, so that no index could be asked for it.
#: MATERIALIZED: run once, whatever plan is chosen; run again for each row, LIMIT would count anew, and more be taken than fits.
_CLAIM = """
WITH c AS MATERIALIZED (
  SELECT j.id, k.lease FROM unnest($1::text[], $2::int[], $3::interval[]) AS k(kind, room, lease)
  CROSS JOIN LATERAL (
    SELECT id FROM jobs WHERE kind = k.kind AND state = 'waiting' AND run_at <= now()
    ORDER BY run_at LIMIT k.room FOR UPDATE SKIP LOCKED) j)
UPDATE jobs SET state = 'active', attempt = attempt + 1, leased_until = clock_timestamp() + c.lease, again = false
FROM c WHERE jobs.id = c.id
RETURNING jobs.id, jobs.kind, jobs.payload::text AS payload, jobs.attempt, jobs.failures, jobs.trace"""
#: Who is locked (by an enqueuer, or by whoever takes it back) is skipped, and looked after the next time: to wait for many rows
#: in one order, while others wait for them in another, is a deadlock. So what is still ours is asked for by itself.
_RENEW = """
WITH ours AS MATERIALIZED (
  SELECT j.id, m.lease FROM unnest($1::uuid[], $2::bigint[], $3::interval[]) AS m(id, attempt, lease)
  JOIN jobs j ON j.id = m.id AND j.attempt = m.attempt AND j.state = 'active'
  FOR UPDATE OF j SKIP LOCKED)
UPDATE jobs SET leased_until = clock_timestamp() + ours.lease FROM ours WHERE jobs.id = ours.id"""
_OURS = """
SELECT j.id FROM unnest($1::uuid[], $2::bigint[]) AS m(id, attempt)
JOIN jobs j ON j.id = m.id AND j.attempt = m.attempt AND j.state = 'active'"""
_COUNT = """
INSERT INTO job_counts (kind, completed, failed) VALUES ($1, $2, $3)
ON CONFLICT (kind) DO UPDATE SET completed = job_counts.completed + $2, failed = job_counts.failed + $3"""
#: One statement, and no transaction around it: what every job costs.
_COMPLETE = """
WITH done AS (DELETE FROM jobs WHERE id = $1 AND attempt = $2 AND state = 'active' AND NOT again RETURNING kind)
INSERT INTO job_counts (kind, completed, failed) SELECT kind, 1, 0 FROM done
ON CONFLICT (kind) DO UPDATE SET completed = job_counts.completed + 1
RETURNING kind"""
_BEGIN_AGAIN = """
UPDATE jobs SET state = 'waiting', leased_until = NULL, run_at = clock_timestamp(), failures = 0
WHERE id = $1 AND attempt = $2 AND state = 'active' RETURNING id"""
_PUT_BACK = """
UPDATE jobs SET state = 'waiting', leased_until = NULL,
  run_at = clock_timestamp() + CASE WHEN again THEN interval '0' ELSE $3::interval END
WHERE id = $1 AND attempt = $2 AND state = 'active'"""
#: What was asked for again meanwhile does not die: that run is still owed.
_FAIL = """
UPDATE jobs SET state = CASE WHEN $3::interval IS NULL AND NOT again THEN 'dead' ELSE 'waiting' END, leased_until = NULL,
  run_at = clock_timestamp() + coalesce($3::interval, interval '0'),
  failures = CASE WHEN $3::interval IS NULL AND again THEN 0 ELSE failures + 1 END, error = $4, failed_at = clock_timestamp()
WHERE id = $1 AND attempt = $2 AND state = 'active'
RETURNING id"""
#: Their worker died, or was stopped: a failure like any other, else a job that kills its worker would kill them all.
_ABANDONED = """
SELECT id, kind, attempt, failures FROM jobs WHERE state = 'active' AND leased_until < now() AND kind = ANY($1::text[])
ORDER BY leased_until LIMIT 100 FOR UPDATE SKIP LOCKED"""

_METRICS = """
SELECT k.kind,
  count(j.id) FILTER (WHERE j.state = 'waiting' AND j.run_at <= clock_timestamp()) AS waiting,
  count(j.id) FILTER (WHERE j.state = 'waiting' AND j.run_at > clock_timestamp()) AS delayed,
  count(j.id) FILTER (WHERE j.state = 'active') AS active,
  count(j.id) FILTER (WHERE j.state = 'dead') AS dead,
  coalesce(extract(epoch FROM clock_timestamp() - min(j.run_at)
    FILTER (WHERE j.state = 'waiting' AND j.run_at <= clock_timestamp())), 0)::float8 AS oldest,
  coalesce(max(c.completed), 0)::bigint AS completed, coalesce(max(c.failed), 0)::bigint AS failed
FROM (SELECT kind FROM jobs UNION SELECT kind FROM job_counts) k
LEFT JOIN jobs j ON j.kind = k.kind LEFT JOIN job_counts c ON c.kind = k.kind
GROUP BY k.kind ORDER BY k.kind"""
_SHOWN = "id, kind, state, failures, error, failed_at, created_at, run_at"
_FAILED = f"""
SELECT {_SHOWN} FROM jobs
WHERE failed_at IS NOT NULL ORDER BY failed_at DESC, id LIMIT $1"""  # noqa: S608 - our own columns
_DEAD = f"""
SELECT {_SHOWN}, count(*) OVER () AS total FROM jobs
WHERE state = 'dead' AND failed_at IS NOT NULL AND ($1::text IS NULL OR kind = $1)
ORDER BY failed_at DESC, id LIMIT $2 OFFSET $3"""  # noqa: S608 - our own columns
_REQUEUE = f"""
UPDATE jobs SET state = 'waiting', failures = 0, run_at = clock_timestamp()
WHERE id = $1 AND state = 'dead' RETURNING {_SHOWN}"""  # noqa: S608 - our own columns
_FORGET = f"DELETE FROM jobs WHERE id = $1 AND state = 'dead' RETURNING {_SHOWN}"  # noqa: S608 - our own columns


class JobIsThere(Conflict):
    """A job with the same key waits, or is under way: it does what the dead one was for."""

    code = "JOB_IS_THERE"
    message = "A fresh job does the same work already: delete the dead one, or wait for the fresh one's end."


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this worker has, while nobody else has a higher `attempt`."""

    job: Job
    attempt: int


async def enqueue_all(
    session: AsyncSession,
    kind: str,
    jobs: Sequence[tuple[str | None, Mapping[str, Any], str | None]],
    *,
    run_at: datetime | None = None,
) -> None:
    """Add jobs, each (key, payload, trace), to the caller's transaction, to be run at `run_at` or as soon as may be.

    Of a key, nothing is added while a job of that kind and key waits or is under way; one that is under way is run once more
    after its end, as it may have begun before what the caller writes could be seen.
    """
    first: dict[object, tuple[str | None, Mapping[str, Any], str | None]] = {}
    for place, one in enumerate(jobs):
        first.setdefault(place if one[0] is None else one[0], one)
    wanted = list(first.values())
    if wanted:
        await fetch_in(
            session,
            _ENQUEUE,
            [new_id() for _ in wanted],
            kind,
            [key for key, _, _ in wanted],
            [orjson.dumps(payload).decode() for _, payload, _ in wanted],
            [trace for _, _, trace in wanted],
            run_at,
        )


async def enqueue(
    session: AsyncSession,
    kind: str,
    payload: Mapping[str, Any],
    *,
    key: str | None = None,
    run_at: datetime | None = None,
    trace: str | None = None,
) -> None:
    """`enqueue_all` of one job."""
    await enqueue_all(session, kind, [(key, payload, trace)], run_at=run_at)


async def claim(db: Database, room: Sequence[tuple[Kind, int]]) -> list[Claimed]:
    """Jobs whose time has come, of each kind at most as many as there is room for, leased to the caller."""
    rows = await db.fetch(
        _CLAIM, [kind.name for kind, _ in room], [places for _, places in room], [kind.lease for kind, _ in room]
    )
    pauses = {kind.name: len(kind.pauses) for kind, _ in room}
    return [
        Claimed(
            Job(
                id=row["id"],
                kind=row["kind"],
                payload=orjson.loads(row["payload"]),
                failures=row["failures"],
                trace=row["trace"],
                last=row["failures"] >= pauses[row["kind"]],
            ),
            row["attempt"],
        )
        for row in rows
    ]


async def renew(db: Database, leases: Iterable[tuple[Claimed, timedelta]]) -> set[UUID]:
    """Keep what is under way for another lease; returns the ids of those that are still the caller's."""
    held = list(leases)
    ids, attempts = [claimed.job.id for claimed, _ in held], [claimed.attempt for claimed, _ in held]
    async with db.transaction() as session:
        await fetch_in(session, _RENEW, ids, attempts, [lease for _, lease in held])
        rows = await fetch_in(session, _OURS, ids, attempts)
    return {row["id"] for row in rows}


async def complete(db: Database, claimed: Claimed) -> None:
    """It is done. What was asked for again meanwhile waits for its next run."""
    if await db.fetch(_COMPLETE, claimed.job.id, claimed.attempt):
        return
    # A statement of its own: it must see the mark that the first one found there.
    async with db.transaction() as session:
        if await fetch_in(session, _BEGIN_AGAIN, claimed.job.id, claimed.attempt):
            await fetch_in(session, _COUNT, claimed.job.kind, 1, 0)


async def put_back(db: Database, claimed: Claimed, *, pause: timedelta = timedelta()) -> None:
    """It was not done, and nothing has failed: somebody runs it after `pause`."""
    async with db.transaction() as session:
        await fetch_in(session, _PUT_BACK, claimed.job.id, claimed.attempt, pause)


async def fail(db: Database, claimed: Claimed, *, pause: timedelta | None, error: str) -> None:
    """A run failed: the next comes after `pause`; none: it is dead."""
    async with db.transaction() as session:
        await _fail(session, claimed.job.id, claimed.job.kind, claimed.attempt, pause=pause, error=error)


async def _fail(session: AsyncSession, job_id: UUID, kind: str, attempt: int, *, pause: timedelta | None, error: str) -> None:
    # What a foreign server said may hold what PostgreSQL cannot keep.
    text = error.replace("\x00", " ").encode(errors="replace").decode()[:_MAX_ERROR]
    if await fetch_in(session, _FAIL, job_id, attempt, pause, text):
        await fetch_in(session, _COUNT, kind, 0, 1)


async def take_back(db: Database, kinds: Mapping[str, Kind]) -> int:
    """Fail what is under way with nobody who gives a sign of life, of kinds whose pauses are known; returns how many."""
    async with db.transaction() as session:
        rows = await fetch_in(session, _ABANDONED, sorted(kinds))
        # By kind: their counts are locked in one order.
        for row in sorted(rows, key=lambda one: one["kind"]):
            pause = pause_after(kinds[row["kind"]].pauses, row["failures"])
            await _fail(session, row["id"], row["kind"], row["attempt"], pause=pause, error="its worker was lost")
    return len(rows)


def pause_after(pauses: Sequence[timedelta], failures: int) -> timedelta | None:
    """The pause after a run that failed, where so many had failed before; None: no other run."""
    return pauses[failures] if failures < len(pauses) else None


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "kind": row["kind"],
        "state": row["state"],
        "failures": row["failures"],
        "error": row["error"],
        "failedAt": instant_text(row["failed_at"]),
        "createdAt": instant_text(row["created_at"]),
        "runAt": instant_text(row["run_at"]),
    }


async def count_jobs(db: Database) -> dict[str, Any]:
    """By kind: waiting, delayed, active, dead, completed and failed (runs, for ever), the oldest wait; recent failures."""
    rows = await db.fetch(_METRICS)
    failures = await db.fetch(_FAILED, 20)
    names = ("waiting", "active", "completed", "failed", "delayed", "dead")
    return {
        "kinds": [
            {"kind": row["kind"], **{name: row[name] for name in names}, "oldestSeconds": round(row["oldest"], 3)} for row in rows
        ],
        **{name: sum(row[name] for row in rows) for name in names},
        "oldestSeconds": round(max((row["oldest"] for row in rows), default=0.0), 3),
        "recentFailures": [_shown(row) for row in failures],
    }


async def dead_jobs(db: Database, *, kind: str | None, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
    """One page of the jobs that were given up, the latest first, and how many there are."""
    rows = await db.fetch(_DEAD, kind, limit, offset)
    if rows or not offset:
        return [_shown(row) for row in rows], rows[0]["total"] if rows else 0
    first = await db.fetch(_DEAD, kind, 1, 0)
    return [], first[0]["total"] if first else 0


async def requeue(session: AsyncSession, job_id: UUID) -> dict[str, Any] | None:
    """Let a dead job run again, as if it had never failed; returns its shape, None where there is no such dead job.

    Raises JobIsThere where a fresh one with its key waits or is under way.
    """
    with refused_by({"jobs_once_per_key": JobIsThere}):
        rows = await fetch_in(session, _REQUEUE, job_id)
    return _shown(rows[0]) if rows else None


async def forget(session: AsyncSession, job_id: UUID) -> dict[str, Any] | None:
    """Delete a dead job; returns what its shape was, None where there is no such dead job."""
    rows = await fetch_in(session, _FORGET, job_id)
    return _shown(rows[0]) if rows else None
