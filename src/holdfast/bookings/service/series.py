"""Series: many bookings by one rule; preview, all or nothing or skipping, cancelling and moving what follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import claims, outbox
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import SeriesConflict, SeriesNotFound, SlotTaken
from holdfast.bookings.rules import Booking, ByPeriod, Series, Wanted, Wish, World
from holdfast.bookings.service.queueing import behind_the_line
from holdfast.bookings.service.releasing import cancel_locked, lock_bookings
from holdfast.bookings.service.taking import (
    Queue,
    Taker,
    lock,
    lock_line,
    look_at_limits,
    plain_units,
    promote,
    settle,
    settled,
    take_all,
)
from holdfast.claims import Holder, HolderKind
from holdfast.core import recurrence
from holdfast.core.callers import Caller
from holdfast.core.clock import instant_text
from holdfast.core.errors import Forbidden, Invalid, Refusal
from holdfast.core.ids import new_id
from holdfast.core.schedules import wall_to_instant
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once
from holdfast.outbox import Message
from holdfast.resources.queries import find_zone
from holdfast.rooms.errors import RoomNotFound


@dataclass(frozen=True, slots=True)
class NewSeries:
    """What is to be repeated: the first occurrence, and the rule."""

    room_id: UUID
    start: datetime
    end: datetime
    rule: str
    title: str | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A time that the rule makes, and why it cannot be had (None: it can)."""

    start: datetime
    end: datetime
    refusal: Refusal | None

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        shape: dict[str, Any] = {
            "start": instant_text(self.start),
            "end": instant_text(self.end),
            "status": "free" if self.refusal is None else "conflict",
        }
        if self.refusal is not None:
            # Not the alternatives: hundreds of conflicts would name thousands of slots.
            details = {name: value for name, value in (self.refusal.details or {}).items() if name != "alternatives"}
            shape["reason"] = {"code": self.refusal.code, "message": self.refusal.text, "details": details}
        return shape


@dataclass(frozen=True, slots=True)
class BookedSeries:
    """A series with the bookings that it has, soonest first, and the occurrences that were left out."""

    series: Series
    bookings: tuple[Booking, ...]
    skipped: tuple[Occurrence, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "series": self.series.as_json(),
            "bookings": [booking.as_json() for booking in self.bookings],
            "skipped": [one.as_json() for one in self.skipped],
        }


async def _times(session: AsyncSession, wanted: NewSeries) -> list[tuple[datetime, datetime]]:
    """When the occurrences are, on the room's clock. Raises RoomNotFound, Invalid."""
    zone = await find_zone(session, "room", wanted.room_id)
    if zone is None:
        raise RoomNotFound
    return recurrence.occurrences(wanted.rule, start=wanted.start, end=wanted.end, zone=zone)


@retry_aborted
async def preview_series(db: Database, *, wanted: NewSeries, now: datetime, by: Caller) -> list[Occurrence]:
    """What booking the series would come to now: every occurrence, and why not. Takes nothing. Raises RoomNotFound, Invalid.

    Where a hold in the way has just lapsed, those who wait are served first, as they would be by the booking.
    """
    found = []
    async with db.transaction() as session:
        times = await _times(session, wanted)
        wishes = [Wish(by.own_id, ByPeriod(wanted.room_id, start, end)) for start, end in times]
        reach = rules.reach(wish.selection for wish in wishes)
        world = await queries.look(session, reach)
        to_settle = world.to_settle(plain_units(world, [wish.selection for wish in wishes]))
        if to_settle:
            await lock(session, reach)
            await settle(session, to_settle, now=now)
            world = await queries.look(session, reach)
        await look_at_limits(session, world, {by.own_id: None}, locked=False)
        for (start, end), wish in zip(times, wishes, strict=True):
            try:
                units = rules.decide(world, wish, now=now)
            except Refusal as refusal:
                found.append(Occurrence(start, end, refusal))
            else:
                world.give(by.own_id, units, new_id(), held=False)
                found.append(Occurrence(start, end, None))
    return found


async def book_series(
    db: Database, *, wanted: NewSeries, skip: bool, now: datetime, queue: Queue, by: Caller, once: Once
) -> BookedSeries:
    """Book every occurrence, or with `skip` those that can be had; limits count over the whole series.

    Raises RoomNotFound, Invalid, SeriesConflict with every conflict.
    """
    attempt = partial(_book, db, wanted=wanted, skip=skip, now=now, by=by, once=once)
    return await behind_the_line(db, attempt, queue=queue)


@retry_aborted
async def _book(
    db: Database, queue: Queue, *, wanted: NewSeries, skip: bool, now: datetime, by: Caller, once: Once
) -> BookedSeries:
    async with once.transaction(db) as session:
        times = await _times(session, wanted)
        series_id = new_id()
        takers = [
            Taker(
                Wish(by.own_id, ByPeriod(wanted.room_id, start, end)),
                by,
                queue=queue,
                title=wanted.title,
                notes=wanted.notes,
                series_id=series_id,
            )
            for start, end in times
        ]
        reach = rules.reach(taker.wish.selection for taker in takers)
        await lock(session, reach)
        world = await queries.look(session, reach)
        room = world.room(wanted.room_id)
        if room is None:
            raise RoomNotFound
        series = await queries.insert_series(
            session,
            series_id=series_id,
            user_id=by.own_id,
            room_id=wanted.room_id,
            resource_no=room.no,
            recurrence=wanted.rule,
            start=wanted.start,
            end=wanted.end,
        )
        given = await take_all(session, takers, now=now)
        conflicts = tuple(
            Occurrence(start, end, one) for (start, end), one in zip(times, given, strict=True) if isinstance(one, Refusal)
        )
        bookings = tuple(one for one in given if isinstance(one, Booking))
        if conflicts and (not skip or not bookings):
            raise SeriesConflict(details={"conflicts": [one.as_json() for one in conflicts]})
        await outbox.enqueue(session, "series.created", series_id, by=by, after=series.as_json())
        booked = BookedSeries(series, bookings, conflicts)
        await once.keep(session, booked)
    return booked


async def _own_series(session: AsyncSession, series_id: UUID, *, by: Caller) -> Series:
    series = await queries.find_series(session, series_id)
    if series is None:
        raise SeriesNotFound
    if series.user_id != by.user_id:
        raise Forbidden
    return series


async def get_series(db: Database, *, series_id: UUID, by: Caller) -> BookedSeries:
    """The caller's series with the bookings that stand. Raises SeriesNotFound, Forbidden."""
    async with db.transaction() as session:
        series = await _own_series(session, series_id, by=by)
        bookings = await queries.bookings_of_series(session, series_id, since=series.start - timedelta(days=400))
    return BookedSeries(series, tuple(bookings))


@retry_aborted
async def cancel_series(
    db: Database, *, series_id: UUID, since: datetime | None, now: datetime, by: Caller, once: Once
) -> BookedSeries:
    """Cancel the bookings that begin at `since` or later (None: all that are ahead), all or none; may be repeated.

    Returns the series with the bookings that were cancelled. Raises SeriesNotFound, Forbidden, TooLateToCancel.
    """
    async with once.transaction(db) as session:
        series = await _own_series(session, series_id, by=by)
        ahead = await queries.bookings_of_series(session, series_id, since=max(now, since or now))
        locked = [one for one in await lock_bookings(session, ahead) if one.status == "active"]
        numbers = {no for booking in locked for no in booking.resource_nos}
        policies = await queries.policies_of(session, numbers)
        for booking in locked:
            rules.check_cancel_notice(booking, policies, now=now)
        cancelled = await cancel_locked(session, locked, by=by)
        await promote(session, numbers, now=now)
        result = BookedSeries(series, tuple(sorted(cancelled, key=lambda one: one.start)))
        await once.keep(session, result)
    return result


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the first of the bookings that begin at `since` or later moves to; the others move as far on the room's clock."""

    since: datetime | None
    start: datetime
    end: datetime


@retry_aborted
async def reschedule_series(
    db: Database, *, series_id: UUID, shift: Shift, now: datetime, queue: Queue, by: Caller, once: Once
) -> BookedSeries:
    """Move all bookings of a series that are ahead, or those from `since` on, all or none.

    Returns the series with the bookings that were moved. Raises SeriesNotFound, Forbidden, TooLateToCancel, SeriesConflict,
    Invalid where nothing is ahead.
    """
    move = partial(_reschedule, db, series_id=series_id, shift=shift, now=now, by=by, once=once)
    return await behind_the_line(db, move, queue=queue)


@retry_aborted
async def _reschedule(
    db: Database, queue: Queue, *, series_id: UUID, shift: Shift, now: datetime, by: Caller, once: Once
) -> BookedSeries:
    async with once.transaction(db) as session:
        series = await _own_series(session, series_id, by=by)
        ahead = await queries.bookings_of_series(session, series_id, since=max(now, shift.since or now))
        locked = sorted((one for one in await lock_bookings(session, ahead) if one.status == "active"), key=lambda one: one.start)
        if not locked:
            message = "No booking of this series is ahead from then on."
            raise Invalid(message)
        numbers = {no for booking in locked for no in booking.resource_nos}
        policies = await queries.policies_of(session, numbers)
        for booking in locked:
            rules.check_cancel_notice(booking, policies, now=now)
        zone = ZoneInfo(await find_zone(session, "room", series.room_id) or "UTC")
        moves = [(booking, _moved(booking, locked[0], shift, zone)) for booking in locked]
        await lock_line(session, numbers, also=[by.own_id])
        # Who waits for a new time comes first; the old times are kept until then, so that they are offered to nobody.
        await settled(session, [Taker(Wish(by.own_id, selection), by, queue=queue) for _, selection in moves], now=now)
        # All of them leave before any arrives: one may move to where another was.
        await claims.release(session, HolderKind.BOOKING, [booking.id for booking in locked])
        world = await queries.look(session, rules.reach(selection for _, selection in moves))
        await look_at_limits(session, world, {by.own_id: None}, locked=True)
        _forget(world, by.own_id, locked)
        decided = _decide_all(world, moves, by=by, now=now)
        await queries.move_bookings(session, {booking.id: wanted for booking, wanted in decided})
        taken = [(unit, Holder(HolderKind.BOOKING, one.id)) for one, wanted in decided for unit in wanted.units]
        await claims.take(session, taken, refusal=SlotTaken)
        fresh = {one.id: one for one in await queries.find_bookings(session, [booking.id for booking in locked])}
        # Who moves on makes room for who comes after: told in that order, what is taken is never heard of as freed last.
        told = locked[::-1] if fresh[locked[0].id].start > locked[0].start else locked
        await outbox.enqueue_all(
            session,
            [Message("booking.rescheduled", one.id, by, before=one.as_json(), after=fresh[one.id].as_json()) for one in told],
        )
        await promote(session, numbers, now=now)
        result = BookedSeries(series, tuple(fresh[one.id] for one in locked))
        await once.keep(session, result)
    return result


def _moved(booking: Booking, first: Booking, shift: Shift, zone: ZoneInfo) -> ByPeriod:
    """The booking's new time: as far from its old one, on the room's clock, as that of the first."""

    def wall(instant: datetime) -> datetime:
        return instant.astimezone(zone).replace(tzinfo=None)

    try:
        moved = wall(booking.start) + (wall(shift.start) - wall(first.start))
        start = wall_to_instant(moved.date(), moved.hour * 60 + moved.minute, zone, last=False)
        return ByPeriod(booking.units[0].resource_id, start, (start + (shift.end - shift.start)).astimezone(UTC))
    except OverflowError:
        message = "That is outside the calendar."
        raise Invalid(message) from None


def _forget(world: World, user_id: UUID, moved: Sequence[Booking]) -> None:
    """What is moved does not count among what the user has ahead, until it has arrived."""
    ahead = world.ahead.get(user_id)
    if ahead is None:
        return
    ids = {booking.id for booking in moved}
    ahead.periods = [period for period in ahead.periods if period[2] not in ids]
    for booking in moved:
        ahead.by_kind[booking.kind] -= 1
        ahead.by_resource.subtract(booking.resource_nos)


def _decide_all(
    world: World, moves: Sequence[tuple[Booking, ByPeriod]], *, by: Caller, now: datetime
) -> list[tuple[Booking, Wanted]]:
    """Every booking's new units. Raises SeriesConflict with every conflict."""
    decided, conflicts = [], []
    for booking, selection in moves:
        try:
            wanted = rules.decide(world, Wish(by.own_id, selection), now=now)
        except Refusal as refusal:
            conflicts.append(Occurrence(selection.start, selection.end, refusal))
        else:
            world.give(by.own_id, wanted, booking.id, held=False)
            decided.append((booking, wanted))
    if conflicts:
        raise SeriesConflict(details={"conflicts": [one.as_json() for one in conflicts]})
    return decided
