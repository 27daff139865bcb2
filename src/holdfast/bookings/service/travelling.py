"""Those who want the same slots, or seats of the same event, at the same moment travel in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.bookings import queries, rules
from holdfast.bookings.rules import Booking, ByQuantity, BySeats, Hold, Wish, World
from holdfast.bookings.service.context import Context, check_user
from holdfast.bookings.service.taking import Given, Queue, Taker, check_line, lock, take_all
from holdfast.core.errors import Refusal
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import InProgress, Once, Replay


async def take_one(context: Context, taker: Taker, *, now: datetime, once: Once) -> Booking | Hold:
    """A booking, or a hold, together with whoever wants the same slots, or seats of the same event, at this moment.

    Each in a transaction of their own would queue for the one lock of what they want; all who wait in one transaction take
    it once (docs/decisions/0005).
    """

    async def run(members: list[Member]) -> list[Booking | Hold | Exception]:
        return await _take_together(context.db, members)

    wanted = rules.reach([taker.wish.selection])
    return await context.together.run((wanted.key, taker.queue), Member(taker, once, now), run)


@dataclass(frozen=True, slots=True)
class Member:
    """One of those who travel together; `now` is when the request came."""

    taker: Taker
    once: Once
    now: datetime

    @property
    def needs_transaction(self) -> bool:
        """There is a key to look up, or a user who may not be there."""
        return self.once.key is not None or self.taker.wish.user_id != self.taker.by.user_id


@retry_aborted
async def _take_together(db: Database, members: Sequence[Member]) -> list[Booking | Hold | Exception]:
    """What each of those who want the same gets, in their order of arrival, in one transaction."""
    now = max(member.now for member in members)
    results: dict[UUID, Booking | Hold | Exception] = {}
    taker = members[0].taker
    if not _of_an_event(taker):
        # What is plainly taken is refused by one read, ten times cheaper than queueing for a lock. Of an event it is not.
        plain = [member.taker for member in members if not member.needs_transaction]
        if plain:
            world = await queries.look(db, rules.reach([taker.wish.selection]))
            results.update(_refused_at_a_look(world, plain, now=now))
    left = [member for member in members if member.taker.holder_id not in results]
    if left:
        async with db.transaction() as session:
            results.update(await _take_in(session, left, now=now))
    return [results[member.taker.holder_id] for member in members]


def _of_an_event(taker: Taker) -> bool:
    return isinstance(taker.wish.selection, BySeats | ByQuantity)


async def _take_in(session: AsyncSession, members: Sequence[Member], *, now: datetime) -> dict[UUID, Booking | Hold | Exception]:
    results = await _answered_before(session, members)
    takers = {member.taker.holder_id: member for member in members if member.taker.holder_id not in results}
    if not takers:
        return results
    # The others have looked already.
    first = [member.taker for member in takers.values() if member.needs_transaction or _of_an_event(member.taker)]
    given: dict[UUID, Given] = dict(await refused_early(session, first, now=now))
    wanting = [member.taker for key, member in takers.items() if key not in given]
    if wanting:
        await lock(session, rules.reach([wanting[0].wish.selection]))
        given |= {taker.holder_id: one for taker, one in zip(wanting, await take_all(session, wanting, now=now), strict=True)}
    for key, one in given.items():
        # A refusal is committed as well: what lapsed meanwhile may have gone to those who wait, and that explains it.
        once = takers[key].once
        await (once.keep_refusal(session, one) if isinstance(one, Refusal) else once.keep(session, one))
    return results | given


async def _answered_before(session: AsyncSession, members: Sequence[Member]) -> dict[UUID, Booking | Hold | Exception]:
    """Claim the keys; the answers of those that have one already, and of requests for users who are not there."""
    results: dict[UUID, Booking | Hold | Exception] = {}
    keys: set[int] = set()
    for taker, once in ((member.taker, member.once) for member in members):
        if once.key is not None and once.key.lock_number in keys:
            # A transaction may lock a key twice: two requests in one would not keep each other out.
            results[taker.holder_id] = InProgress()
            continue
        try:
            kept = await once.claim(session)
            keys.update(() if once.key is None else [once.key.lock_number])
            if kept is None:
                await check_user(session, taker.wish.user_id, by=taker.by)
        except InProgress as refusal:
            results[taker.holder_id] = refusal
        except Refusal as refusal:
            results[taker.holder_id] = refusal
            await once.keep_refusal(session, refusal)
        else:
            if kept is not None:
                results[taker.holder_id] = Replay(kept)
    return results


async def refused_early(session: AsyncSession, takers: Sequence[Taker], *, now: datetime) -> dict[UUID, Refusal]:
    """What can be said without the lock, before anybody queues for it: of slots, and where there is a fair queue.

    They all want the same, and stand to the queue as the first does.
    """
    if not takers:
        return {}
    selection, queue = takers[0].wish.selection, takers[0].queue
    if isinstance(selection, BySeats | ByQuantity):
        if queue is Queue.PASSED:
            return {}
        if queue is Queue.BY_POLICY and not await queries.has_fair_queue(session, selection.event_id):
            return {}
    world = await queries.look(session, rules.reach(taker.wish.selection for taker in takers))
    return _refused_at_a_look(world, takers, now=now)


def check_at_a_look(world: World, wish: Wish, *, now: datetime) -> None:
    """Raise what `rules.decide` refuses, as far as nothing that has lapsed meanwhile may be the reason."""
    if not world.has_lapsed_seats:
        rules.decide(world, wish, now=now)


def _refused_at_a_look(world: World, takers: Sequence[Taker], *, now: datetime) -> dict[UUID, Refusal]:
    """Those who need not try: refused by what was read, or sent into the line (InLine)."""
    refused: dict[UUID, Refusal] = {}
    for taker in takers:
        try:
            check_at_a_look(world, taker.wish, now=now)
            check_line(world, taker)
        except Refusal as refusal:
            refused[taker.holder_id] = refusal
    return refused
