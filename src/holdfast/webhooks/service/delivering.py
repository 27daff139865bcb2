"""Sending: one attempt of one delivery per run of its job, those of one subject one after the other.

A delivery waits while an earlier one of its webhook and subject is pending; whichever transaction ends that one enqueues the
next. The row of the earlier one is locked by both, so either its end sees who waits, or who looks sees that it has ended.
Nothing is locked while the request is out: `attempts` tells a worker that was stopped too long that its result is not wanted.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.adapters.webhooks import DEADLINE_SECONDS, Parcel, WebhookFailure, WebhookSender
from holdfast.core import clock, metrics
from holdfast.db.database import Database, after_commit, retry_aborted
from holdfast.jobs import Job, Kind, Later
from holdfast.webhooks import queries
from holdfast.webhooks.rules import RETRIES, TEST, Outcome, Result, Retries, longest_without_success, pause_after, result_of
from holdfast.webhooks.service.disabling import clear, disable
from holdfast.webhooks.service.enqueueing import CLEARING, KIND, enqueue_deliveries

#: Requests of one process at once: to all webhooks, to one, and to one that fails, which must not take the others' places.
AT_ONCE = 48
WIDTH = 8
#: Seconds ahead for which who finds them taken is told a place; those behind come back one by one, so many seconds apart, to
#: look again. Each who comes in vain costs two transactions: 60,000 for a webhook that hangs, each back after half a minute,
#: kept all others' deliveries waiting for as long.
_FORESEEN = 30.0
_APART = 0.02
_LONGEST_WAIT = 3_600.0
_GONE = "the endpoint answered 410 Gone"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Lane:
    inside: int = 0
    failing: bool = False
    #: Seconds that an attempt takes, with all that is around the request: too short a guess makes those who wait come in vain.
    pace: float = 0.2
    #: When the last one of those who were sent away comes back.
    booked_until: float = 0.0


class Lanes:
    """Who may send now, in this process. Who finds a webhook's lane full is told when to come back, not kept waiting here."""

    def __init__(self, width: int = WIDTH) -> None:
        self._width = width
        self._lanes: dict[UUID, _Lane] = {}

    def enter(self, webhook_id: UUID) -> timedelta | None:
        """Take a place; how long to wait where there is none."""
        lane = self._lanes.setdefault(webhook_id, _Lane())
        width = 1 if lane.failing else self._width
        if lane.inside < width:
            lane.inside += 1
            return None
        now = time.monotonic()
        # One after the other, as the places will come free: so many wait that they must not all come at once.
        ahead = max(lane.booked_until - now, 0.0)
        wait = min(ahead + (lane.pace / width if ahead < _FORESEEN else _APART), _LONGEST_WAIT)
        lane.booked_until = now + wait
        return timedelta(seconds=wait)

    def leave(self, webhook_id: UUID, result: Result | None, seconds: float) -> None:
        """Give the place back, with what came of it, and after how long."""
        lane = self._lanes[webhook_id]
        lane.inside -= 1
        if result is not None:
            lane.failing = result.outcome is not Outcome.DELIVERED
            lane.pace = (lane.pace + max(seconds, 0.02)) / 2
        elif not lane.inside and not lane.failing:
            del self._lanes[webhook_id]


@dataclass(frozen=True, slots=True)
class Turn:
    """An attempt that is this worker's to make, until its lease is over."""

    delivery_id: UUID
    attempt: int
    webhook_id: UUID
    subject_id: UUID
    message_id: str
    type: str
    url: str
    body: str
    failures: int
    failing: bool
    secrets: tuple[str, ...] = field(repr=False)
    begun: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """This attempt among all."""
        return f"{self.delivery_id}:{self.attempt}"

    @property
    def test(self) -> bool:
        """Tried once, and without consequences for its webhook."""
        return self.type == TEST


def kinds(
    db: Database,
    sender: WebhookSender,
    *,
    retries: Retries = RETRIES,
    lanes: Lanes | None = None,
) -> tuple[Kind, ...]:
    """The kinds of jobs of webhooks."""
    ours = lanes if lanes is not None else Lanes()

    async def handle(job: Job) -> None:
        await deliver(db, sender, job, retries=retries, lanes=ours)

    async def handle_clearing(job: Job) -> None:
        await clear(db, job)

    return (Kind(KIND, handle, at_once=AT_ONCE), Kind(CLEARING, handle_clearing, at_once=1))


async def deliver(
    db: Database,
    sender: WebhookSender,
    job: Job,
    *,
    retries: Retries,
    lanes: Lanes,
) -> None:
    """Make the next attempt of a delivery, if it is its turn. Raises Later where it is to be tried, or asked, again."""
    webhook_id = UUID(job.payload["webhookId"])
    full = lanes.enter(webhook_id)
    if full is not None:
        raise Later(full)
    result, entered = None, time.monotonic()
    try:
        turn = await take(db, UUID(job.payload["deliveryId"]))
        if turn is None:
            return
        result = await send(sender, turn)
        metrics.webhook_sent(result.outcome.value)
        pause = await end(db, turn, result, retries=retries)
    finally:
        lanes.leave(webhook_id, result, time.monotonic() - entered)
    log.info("webhook.attempted", webhook_id=str(webhook_id), message_id=turn.message_id, outcome=result.outcome.value)
    if pause is not None:
        raise Later(pause)


@retry_aborted
async def take(db: Database, delivery_id: UUID) -> Turn | None:
    """Begin an attempt; None where there is none to make: it has ended, or another comes first, whose end calls again.

    Raises Later where the time has not come, or another worker may be at it.
    """
    async with db.transaction() as session:
        place = await queries.place_of(session, delivery_id)
        if place is None:
            return None
        webhook_id, subject_id, number = place
        if await queries.earlier_is_pending(
            session, webhook_id=webhook_id, subject_id=subject_id, number=number, delivery_id=delivery_id
        ):
            return None
        row = await queries.lock_turn(session, delivery_id)
        if row is None or row["status"] != "pending":
            return None
        if row["deleted"] or not (row["enabled"] or row["type"] == TEST):
            # Made while the webhook was being disabled.
            await queries.cancel_delivery(session, delivery_id)
            after_commit(session, lambda: metrics.webhook_sent("cancelled"))
            await _call_next(session, f"{delivery_id}:cancelled", webhook_id=webhook_id, subject_id=subject_id)
            return None
        if row["wait"] > timedelta():
            raise Later(row["wait"])
        attempt = await queries.begin_attempt(session, delivery_id)
    return Turn(
        delivery_id=delivery_id,
        attempt=attempt,
        webhook_id=webhook_id,
        subject_id=subject_id,
        message_id=row["message_id"],
        type=row["type"],
        url=row["url"],
        body=row["body"],
        failures=row["failures"],
        failing=row["failing"],
        secrets=(row["secret"], *(row["previous_secret"] or "").split()),
    )


async def send(sender: WebhookSender, turn: Turn) -> Result:
    """Make the request, whose end comes before the lease's, whatever the sender does."""
    parcel = Parcel(turn.url, turn.message_id, turn.body, clock.now(), turn.secrets)
    error = f"no answer within {DEADLINE_SECONDS:g} seconds"
    try:
        # Counted from the taking: a process that was stopped in between does not send what is another's by now.
        async with asyncio.timeout(turn.begun + 2 * DEADLINE_SECONDS - time.monotonic()):
            return result_of(await sender.send(parcel), _milliseconds(turn))
    except WebhookFailure as failure:
        error = str(failure)
    except TimeoutError:
        pass
    return Result(Outcome.FAILED, _milliseconds(turn), error=error)


def _milliseconds(turn: Turn) -> int:
    return round((time.monotonic() - turn.begun) * 1000)


@retry_aborted
async def end(db: Database, turn: Turn, result: Result, *, retries: Retries) -> timedelta | None:
    """Write down what came of an attempt and what follows; the pause before the next attempt, None where there is none.

    Nothing is written where another attempt was begun meanwhile.
    """
    async with db.transaction() as session:
        if result.outcome is Outcome.DELIVERED:
            if turn.failing and not turn.test:
                await queries.works_again(session, turn.webhook_id)
            if await _record(session, turn, result, status="delivered"):
                await _call_next(session, turn.name, webhook_id=turn.webhook_id, subject_id=turn.subject_id)
            return None
        if turn.test:
            await _record(session, turn, result, status="failed")
            return None
        state = await queries.lock_failing(session, turn.webhook_id, retries.give_up_after)
        if state is None:
            return None
        enabled, too_long = state
        pause = None
        if enabled and result.outcome is not Outcome.GONE:
            pause = pause_after(
                retries,
                turn.failures,
                retry_after=result.retry_after,
                chance=random.random(),  # noqa: S311 - jitter, not a secret
            )
        if not await _record(session, turn, result, status="failed" if pause is None else "pending", pause=pause):
            return None
        await queries.begins_to_fail(session, turn.webhook_id)
        # Not at the first hiccup after a quiet time: this delivery had its three days too.
        if result.outcome is Outcome.GONE or (too_long and pause is None):
            await disable(session, turn.webhook_id, _GONE if result.outcome is Outcome.GONE else longest_without_success(retries))
            return None
        if pause is None:
            await _call_next(session, turn.name, webhook_id=turn.webhook_id, subject_id=turn.subject_id)
        return pause


async def _record(session: AsyncSession, turn: Turn, result: Result, *, status: str, pause: timedelta | None = None) -> bool:
    return await queries.record(
        session,
        turn.delivery_id,
        turn.attempt,
        status=status,
        response=result.status,
        milliseconds=result.milliseconds,
        error=result.error,
        failed=result.outcome is not Outcome.DELIVERED,
        pause=pause,
    )


async def _call_next(session: AsyncSession, ended: str, *, webhook_id: UUID, subject_id: UUID) -> None:
    """Enqueue what waited for the delivery that has just ended: in a statement of its own, which sees who came meanwhile."""
    following = await queries.next_of(session, webhook_id, subject_id)
    if following is not None:
        delivery_id, trace = following
        await enqueue_deliveries(session, [(delivery_id, webhook_id, trace)], because=ended)
