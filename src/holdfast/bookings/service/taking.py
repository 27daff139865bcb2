"""Taking: the one way in which anything is booked, held or offered. Lock, look, decide, write: for one taker or for many.

What many takers want of one resource is decided in the order in which they are given, and written by the same few
statements as what one wants.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.accounts.errors import UserNotFound
from holdfast.accounts.queries import active_users
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import InLine, SeatsTaken, SlotTaken
from holdfast.bookings.rules import Booking, ByQuantity, BySlotIds, Hold, Reach, Selection, Wanted, Wish, World
from holdfast.claims import Holder, HolderKind
from holdfast.core.callers import SYSTEM, Caller
from holdfast.core.errors import Refusal, Unauthenticated
from holdfast.core.ids import new_id
from holdfast.db import locks
from holdfast.db.database import TransactionAborted
from holdfast.outbox import Message

#: Entries of a line that are read, and decided, at a time.
_AT_ONCE = 200


class Queue(Enum):
    """How a taker stands to the fair queue: its turn has come (or it was nobody's turn), or where it must wait."""

    PASSED = "passed"
    BY_POLICY = "policy"
    OF_ALL = "all"


@dataclass(frozen=True, slots=True)
class Taker:
    """Somebody who wants something, and what it becomes: a booking, or a hold of the named origin.

    `queue` says whether it must wait in line where there is one.
    `origin` is None for a booking, else `request`, `conference` or `waitlist`; `lasts` is how long such a hold is kept
    (None: as the policy says). The ids are made before anything is written.
    """

    wish: Wish
    by: Caller
    origin: str | None = None
    queue: Queue = Queue.PASSED
    lasts: timedelta | None = None
    title: str | None = None
    notes: str | None = None
    series_id: UUID | None = None
    booking_id: UUID = field(default_factory=new_id)
    hold_id: UUID = field(default_factory=new_id)

    @property
    def holder_id(self) -> UUID:
        """What its claims name."""
        return self.booking_id if self.origin is None else self.hold_id

    def gone(self) -> Refusal:
        """The refusal where the user is no more."""
        return Unauthenticated() if self.wish.user_id == self.by.user_id else UserNotFound()


Given = Booking | Hold | Refusal


async def lock(session: AsyncSession, wanted: Reach, *, also: Iterable[int] = ()) -> None:
    """Wait for the turn of every resource that is wanted."""
    numbers = {*wanted.numbers, *also}
    if wanted.rooms or wanted.events or wanted.published:
        await locks.resources_by(session, numbers=numbers, ids=[*wanted.rooms, *wanted.events], published=wanted.published)
    else:
        await locks.resources(session, numbers)


async def take_all(session: AsyncSession, takers: Sequence[Taker], *, now: datetime) -> list[Given]:
    """What each taker gets, in their order: a booking, a hold, or the reason why not. Nothing is raised for one of many.

    The caller has locked the resources; everything is read afresh here.
    """
    return await _take_out_of(session, await settled(session, takers, now=now), takers, now=now)


async def find_other(session: AsyncSession, taker: Taker, *, now: datetime) -> Wanted:
    """The units that a booking moves to, decided as for a new one. The caller has locked the resources, and writes.

    Raises what `rules.decide` raises.
    """
    world = await settled(session, [taker], now=now)
    if await _look_ahead(session, world, [taker]):
        raise taker.gone()
    return rules.decide(world, taker.wish, now=now)


async def settled(session: AsyncSession, takers: Sequence[Taker], *, now: datetime) -> World:
    """What the takers want, read under the lock, once lapsed holds in the way are released and those who wait are served.

    Raises InLine where a taker must wait in line first.
    """
    wanted = rules.reach(taker.wish.selection for taker in takers)
    # Of one who moves, the seats count as free; nobody moves in company.
    ignoring = takers[0].wish.ignoring if len(takers) == 1 else None
    world = await queries.look(session, wanted, ignoring=ignoring)
    for taker in takers:
        check_line(world, taker)
    to_settle = world.to_settle(plain_units(world, [taker.wish.selection for taker in takers]))
    if to_settle:
        await settle(session, to_settle, now=now, also={taker.wish.user_id for taker in takers})
        world = await queries.look(session, wanted, ignoring=ignoring)
    return world


def check_line(world: World, taker: Taker) -> None:
    """Raise InLine where the taker must wait in line first."""
    if taker.queue is not Queue.PASSED:
        line = world.line(of_all=taker.queue is Queue.OF_ALL)
        if line is not None:
            raise InLine(line)


def plain_units(world: World, selections: Iterable[Selection]) -> Iterable[claims.Unit]:
    """The slots that are meant, whether or not they may be had."""
    for selection in selections:
        if isinstance(selection, BySlotIds | rules.ByPeriod | rules.ByTime):
            try:
                yield from rules.find_wanted(world, selection).units
            except Refusal:
                continue


async def _take_out_of(session: AsyncSession, world: World, takers: Sequence[Taker], *, now: datetime) -> list[Given]:
    gone = await _look_ahead(session, world, takers)
    accepted: dict[UUID, tuple[Taker, Wanted]] = {}
    given: dict[UUID, Given] = {}
    for taker in takers:
        key = taker.holder_id
        if taker.wish.user_id in gone:
            given[key] = taker.gone()
            continue
        try:
            wanted = rules.decide(world, taker.wish, now=now)
        except Refusal as refusal:
            given[key] = refusal
            continue
        world.give(taker.wish.user_id, wanted, key, held=taker.origin is not None)
        accepted[key] = (taker, wanted)
    given.update(await _write(session, accepted))
    return [given[taker.holder_id] for taker in takers]


async def _look_ahead(session: AsyncSession, world: World, takers: Sequence[Taker]) -> set[UUID]:
    """Lock the users and read what they have ahead, where a limit counts; returns those who are gone."""
    users = {taker.wish.user_id: taker.wish.ignoring for taker in takers}
    held = any(taker.wish.as_hold for taker in takers)
    if held or any(taker.origin is not None for taker in takers):
        active = await locks.users(session, users)
        await look_at_limits(session, world, users, locked=False, held=held)
        return set(users) - active
    gone = await look_at_limits(session, world, users, locked=True)
    if len(takers) > 1:
        # Of many, one who is gone must be known before anything is given: it would be kept from the next.
        gone |= set(users) - await active_users(session, users)
    return gone


async def look_at_limits(
    session: AsyncSession, world: World, users: Mapping[UUID, UUID | None], *, locked: bool, held: bool = False
) -> set[UUID]:
    """Read what users (each with a booking to leave out) have ahead, where a policy counts; `locked` locks them first.

    Returns those who are gone, as far as they were locked.
    """
    policies = [resource.policy for resource in world.resources.values()]
    policies += [event.policy for event in world.events.values()]
    if not held and not any(policy.counts_per_user for policy in policies):
        return set()
    active = await locks.users(session, users) if locked else set(users)
    world.ahead = await queries.look_ahead(
        session, users, with_held=held, with_periods=any(policy.overlaps_allowed is False for policy in policies)
    )
    return set(users) - active


async def _write(session: AsyncSession, accepted: Mapping[UUID, tuple[Taker, Wanted]]) -> dict[UUID, Given]:
    """Holds, bookings, claims and outbox messages of those who get something."""
    if not accepted:
        return {}
    given: dict[UUID, Given] = {}
    holders: dict[UUID, Holder] = {}
    held = [(taker, wanted) for taker, wanted in accepted.values() if taker.origin is not None]
    if held:
        ends = await queries.insert_holds(session, [_new_hold(taker, wanted) for taker, wanted in held])
        for taker, wanted in held:
            given[taker.hold_id] = _hold(taker, wanted, ends[taker.hold_id])
            offered = taker.origin == "waitlist"
            holders[taker.hold_id] = Holder(HolderKind.HOLD, taker.hold_id, ends[taker.hold_id], offered=offered)
    booked = [(taker, wanted) for taker, wanted in accepted.values() if taker.origin is None]
    if booked:
        made = await queries.insert_bookings(
            session,
            [
                queries.NewBooking(
                    taker.booking_id, taker.wish.user_id, wanted, taker.title, taker.notes, series_id=taker.series_id
                )
                for taker, wanted in booked
            ],
        )
        for taker, _ in booked:
            booking = made.get(taker.booking_id)
            if booking is None and len(accepted) > 1:
                # Went away this very moment: what was decided for the others took it for somebody who is there.
                raise TransactionAborted
            given[taker.booking_id] = booking or taker.gone()
            if booking is not None:
                holders[taker.booking_id] = Holder(HolderKind.BOOKING, taker.booking_id)
    units = [(unit, holders[key]) for key, (_, wanted) in accepted.items() if key in holders for unit in wanted.units]
    if units:
        await claims.take(session, units, refusal=SeatsTaken if units[0][0].seat_no else SlotTaken)
    await outbox.enqueue_all(session, [_message(accepted[key][0], one) for key, one in given.items() if key in holders])
    return given


def _new_hold(taker: Taker, wanted: Wanted) -> tuple[UUID, UUID, UUID, str, timedelta]:
    offered = taker.origin == "waitlist"
    lasts = taker.lasts or min(policy.offer_for if offered else policy.hold_for for policy in wanted.policies)
    return taker.hold_id, taker.wish.user_id, taker.booking_id, taker.origin or "request", lasts


def _hold(taker: Taker, wanted: Wanted, expires_at: datetime) -> Hold:
    return Hold(
        id=taker.hold_id,
        user_id=taker.wish.user_id,
        booking_id=taker.booking_id,
        origin=taker.origin or "request",
        kind=wanted.kind,
        units=wanted.booked_units(),
        start=wanted.start,
        end=wanted.end,
        expires_at=expires_at,
        extended_at=None,
        outcome=None,
        live=True,
    )


def _message(taker: Taker, given: Given) -> Message:
    assert not isinstance(given, Refusal)  # noqa: S101 - only what was given has claims
    if isinstance(given, Booking):
        return Message("booking.created", given.id, taker.by, after=given.as_json())
    return Message("hold.created", given.id, taker.by, after={**given.as_json(), "userId": str(given.user_id)})


async def settle(session: AsyncSession, resource_nos: Iterable[int], *, now: datetime, also: Iterable[UUID] = ()) -> None:
    """Release the lapsed holds of locked resources, and offer what is free to those who wait.

    Asked for by whoever is about to take from these resources, and by the worker's loop. `also` are users whose rows the
    caller will lock: all are locked at once, in one order.
    """
    numbers = set(resource_nos)
    lapsed = await claims.release_lapsed(session, numbers)
    if lapsed:
        await end_lapsed(session, lapsed)
    await promote(session, numbers, now=now, also=also)


async def end_lapsed(session: AsyncSession, hold_ids: Sequence[UUID]) -> None:
    """Say of released holds, and of the offers that they were, that they have lapsed."""
    ended = await queries.end_holds(session, hold_ids, "lapsed")
    offers = await queries.end_offers(session, hold_ids, "lapsed")
    await outbox.enqueue_all(
        session,
        [
            *(Message("hold.lapsed", hold_id, SYSTEM) for hold_id in ended),
            *(Message("waitlist.lapsed", entry_id, SYSTEM) for entry_id, _ in offers),
        ],
    )


async def lock_line(session: AsyncSession, resource_nos: Iterable[int], *, also: Iterable[UUID]) -> None:
    """Lock those who wait for locked resources, and `also`, at once: for whoever locks users before it promotes."""
    waiting = await queries.users_in_line(session, resource_nos)
    if waiting:
        await locks.users(session, waiting | set(also))


async def promote(session: AsyncSession, resource_nos: Iterable[int], *, now: datetime, also: Iterable[UUID] = ()) -> None:
    """Offer what is free of locked resources to those who wait, in their order: a hold, or at once a booking.

    The last thing that a transaction does which gives something back. Who would exceed a limit keeps their place.
    """
    numbers, last = set(resource_nos), 0
    while True:
        waiting = await queries.fitting_entries(session, numbers, after=last, limit=_AT_ONCE)
        if waiting:
            await _offer(session, waiting, now=now, also=also)
            last = waiting[-1].number
        if len(waiting) < _AT_ONCE:
            return


async def _offer(session: AsyncSession, waiting: Sequence[queries.Waiting], *, now: datetime, also: Iterable[UUID]) -> None:
    """Give those who wait, in their order, what is there for them."""
    await locks.users(session, {*(entry.user_id for entry in waiting), *also})
    takers = [_taker_of(entry) for entry in waiting]
    world = await queries.look(session, rules.reach(taker.wish.selection for taker in takers))
    given = await _take_out_of(session, world, takers, now=now)
    messages = []
    for entry, one in zip(waiting, given, strict=True):
        if isinstance(one, Hold):
            await queries.mark_offered(session, entry.id, one.id)
            messages.append(Message("waitlist.offered", entry.id, SYSTEM, after=(await _entry_json(session, entry.id))))
        elif isinstance(one, Booking):
            await queries.mark_booked(session, entry.id, one.id)
            messages.append(Message("waitlist.booked", entry.id, SYSTEM, after=(await _entry_json(session, entry.id))))
    await outbox.enqueue_all(session, messages)


async def _entry_json(session: AsyncSession, entry_id: UUID) -> dict[str, object]:
    entry = await queries.find_entry(session, entry_id)
    assert entry is not None  # noqa: S101 - entries are never deleted
    return entry.as_json()


def _taker_of(entry: queries.Waiting) -> Taker:
    selection = ByQuantity(entry.resource_id, entry.quantity) if entry.slot_id is None else BySlotIds((entry.slot_id,))
    origin = None if entry.auto_book else "waitlist"
    wish = Wish(entry.user_id, selection, as_hold=not entry.auto_book)
    return Taker(wish, SYSTEM, origin=origin)
