"""Which units a request means, and whether they may be had. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from holdfast.bookings.errors import (
    AlreadyBookedHere,
    Closed,
    EventOver,
    NotOnSale,
    OutsideSchedule,
    OverlapsYourBooking,
    OwnSlot,
    SeatsNotFound,
    SeatsTaken,
    SlotInPast,
    SlotNotFound,
    SlotTaken,
    TooFarAhead,
    TooLateToCancel,
    TooManyBookings,
    TooManyHolds,
    TooSoon,
)
from holdfast.bookings.rules.shapes import Booking, first_labels
from holdfast.bookings.rules.wishes import MAX_UNITS, ByPeriod, ByQuantity, BySeats, BySlotIds, ByTime, Selection
from holdfast.bookings.rules.world import Ahead, Event, Resource, Wanted, World
from holdfast.claims import HolderKind, Unit, overlapping
from holdfast.core import slot_ids
from holdfast.core.clock import instant_text
from holdfast.core.errors import Invalid, Refusal
from holdfast.core.policies import Policy, broken_time_rule
from holdfast.core.schedules import Slot, find_slot, local_date, slots_between, slots_on, wall_to_instant
from holdfast.events.errors import EventNotFound
from holdfast.events.seating import Seat
from holdfast.resources.rules import free_of, slot_json
from holdfast.rooms.errors import RoomNotFound

#: Seats of one event, and slots over all rooms and hosts, that a user may hold at a time.
MAX_HELD = 10
_ALTERNATIVES = 5


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants what: to hold it, or to book it. `ignoring` is the booking that is moved: it is out of its own way."""

    user_id: UUID
    selection: Selection
    as_hold: bool = False
    ignoring: UUID | None = None


def decide(world: World, wish: Wish, *, now: datetime) -> Wanted:
    """The units that the user gets. Limits are looked at where the world knows what the user has ahead.

    Raises EventNotFound, SeatsNotFound, EventOver, NotOnSale, SeatsTaken; RoomNotFound, SlotNotFound, OutsideSchedule,
    SlotInPast, Closed, SlotTaken, OwnSlot; TooSoon, TooFarAhead; TooManyBookings, AlreadyBookedHere, OverlapsYourBooking,
    TooManyHolds.
    """
    selection = wish.selection
    if isinstance(selection, BySeats | ByQuantity):
        event = world.events.get(selection.event_id)
        if event is None:
            raise EventNotFound
        _check_event(event, now=now)
        seats = _named_seats(event, selection) if isinstance(selection, BySeats) else _best_seats(event, selection)
        units = tuple(Unit(event.no, event.start, event.end, seat.id, seat.no, seat.label) for seat in seats)
        wanted = Wanted(units, {event.no: event})
    else:
        wanted = find_wanted(world, selection)
        check_bookable(wanted, wish, now=now)
    ahead = world.ahead.get(wish.user_id)
    if ahead is not None:
        check_limits(wanted, ahead, ignoring=wish.ignoring)
        if wish.as_hold:
            _check_held(wanted, ahead)
    return wanted


def _check_event(event: Event, *, now: datetime) -> None:
    broken = broken_time_rule(event.policy, event.start, zone=event.time_zone, now=now)
    if broken is not None:
        raise _TIME_REFUSALS_OF_EVENTS[broken["rule"]](details=broken)
    if event.sales_start is not None and now < event.sales_start:
        raise NotOnSale(details={"rule": "salesStart", "value": instant_text(event.sales_start)})
    if event.sales_end is not None and now >= event.sales_end:
        raise NotOnSale(details={"rule": "salesEnd", "value": instant_text(event.sales_end)})


def _named_seats(event: Event, selection: BySeats) -> list[Seat]:
    missing = [label for label in selection.labels if label not in event.layout.by_label]
    if missing:
        raise SeatsNotFound(details={"seats": missing})
    seats = [event.layout.by_label[label] for label in selection.labels]
    taken = [seat.label for seat in seats if not event.hall.is_free(seat.no)]
    if taken:
        others = event.hall.choose(len(seats))
        raise SeatsTaken(
            details={"seats": taken, "available": event.hall.free, "alternatives": [seat.label for seat in others or ()]}
        )
    return seats


def _best_seats(event: Event, selection: ByQuantity) -> list[Seat]:
    if selection.section is not None and selection.section not in event.layout.sections:
        raise SeatsNotFound(details={"section": selection.section})
    seats = event.hall.choose(selection.quantity, section=selection.section, adjacent=selection.adjacent)
    if seats is None:
        raise SeatsTaken(details={"rule": "seats", "value": selection.quantity, "available": event.hall.free})
    return seats


def find_wanted(world: World, selection: BySlotIds | ByPeriod | ByTime) -> Wanted:
    """The slots that the selection means. Raises SlotNotFound, RoomNotFound, OutsideSchedule."""
    if isinstance(selection, BySlotIds):
        slots = [_find_slot(world, slot_id) for slot_id in selection.ids]
    else:
        resource = world.room(selection.room_id)
        if resource is None:
            raise RoomNotFound
        slots = _of_period(selection, resource) if isinstance(selection, ByPeriod) else _of_time(selection, resource)
        if not slots:
            raise OutsideSchedule
        if len(slots) > MAX_UNITS:
            message = f"A booking has at most {MAX_UNITS} slots."
            raise Invalid(message, details={"rule": "maxSlots", "value": MAX_UNITS})
    ordered = sorted(slots, key=lambda slot: (slot.start, slot.resource_no))
    return Wanted(
        tuple(Unit(slot.resource_no, slot.start, slot.end, slot.id) for slot in ordered),
        {slot.resource_no: world.resources[slot.resource_no] for slot in ordered},
    )


def _find_slot(world: World, slot_id: UUID) -> Slot:
    key = slot_ids.decode(slot_id)
    if key is None:
        slot = world.published(slot_id)
    else:
        resource = world.resources.get(key.resource_no)
        slot = find_slot(resource.schedule, key, resource.time_zone) if resource and resource.schedule else None
    if slot is None:
        raise SlotNotFound
    return slot


def _of_period(selection: ByPeriod, resource: Resource) -> list[Slot]:
    if resource.schedule is None:
        return []
    slots = slots_between(resource.schedule, selection.start, selection.end, resource.time_zone, resource.no)
    edges = [selection.start, *(slot.end for slot in slots)]
    # Neighbours: each begins where the one ahead of it ends, the first at the start, the last ends at the end.
    if [slot.start for slot in slots] != edges[:-1] or edges[-1] != selection.end:
        return []
    return list(slots)


def _of_time(selection: ByTime, resource: Resource) -> list[Slot]:
    if resource.schedule is None:
        return []
    try:
        zone = ZoneInfo(resource.time_zone)
        wanted = {wall_to_instant(selection.day, selection.minutes, zone, last=last) for last in (False, True)}
    except OverflowError:
        return []
    slots = slots_on(resource.schedule, selection.day, resource.time_zone, resource.no)
    # Of a repeated time, the first occurrence.
    return [slot for slot in slots if slot.start in wanted][:1]


_TIME_REFUSALS: dict[str, type[Refusal]] = {"past": SlotInPast, "minNoticeMinutes": TooSoon, "maxDaysAhead": TooFarAhead}
_TIME_REFUSALS_OF_EVENTS: dict[str, type[Refusal]] = {**_TIME_REFUSALS, "past": EventOver}


def check_bookable(wanted: Wanted, wish: Wish, *, now: datetime) -> None:
    """Raise where a slot is past, too soon, too far ahead, the user's own, closed or taken."""
    for unit in wanted.units:
        resource = wanted.resources[unit.resource_no]
        broken = broken_time_rule(resource.policy, unit.start, zone=resource.time_zone, now=now)
        if broken is not None:
            raise _TIME_REFUSALS[broken["rule"]](details=broken)
        if resource.owner_id == wish.user_id and not resource.policy.owner_may_book:
            raise OwnSlot(details={"rule": "ownerMayBook", "value": False})
    for unit in wanted.units:
        resource = wanted.resources[unit.resource_no]
        assert isinstance(resource, Resource)  # noqa: S101 - events are decided by their halls
        _check_free(unit, resource, now, wish.ignoring)


def _check_free(unit: Unit, resource: Resource, now: datetime, ignoring: UUID | None) -> None:
    assert unit.end is not None  # noqa: S101 - only events may not say
    in_the_way = [claim for claim in overlapping(resource.taken, unit.start, unit.end) if claim.holder_id != ignoring]
    if not in_the_way:
        return
    details = {"slotId": str(unit.slot_id), "alternatives": _alternatives(unit, resource, now)}
    for claim in in_the_way:
        if claim.kind is HolderKind.CLOSURE:
            raise Closed(details={"rule": "closed", **details, "closedUntil": instant_text(claim.end)})
    raise SlotTaken(details={"rule": "taken", **details})


def _alternatives(unit: Unit, resource: Resource, now: datetime) -> list[dict[str, Any]]:
    """Up to five free slots of the same resource and date, nearest first, out of what has been read."""
    day = local_date(unit.start, resource.time_zone)
    others = [slot for slot in resource.published if local_date(slot.start, resource.time_zone) == day]
    if resource.schedule is not None:
        others += slots_on(resource.schedule, day, resource.time_zone, resource.no)
    others.sort(key=lambda slot: (slot.start, slot.end))
    live = [claim for claim in resource.taken if not claim.lapsed]
    is_free = free_of(others, [claim.start for claim in live], [claim.end for claim in live])
    free = [
        other
        for other, free_now in zip(others, is_free, strict=True)
        if free_now and broken_time_rule(resource.policy, other.start, zone=resource.time_zone, now=now) is None
    ]
    free.sort(key=lambda other: (abs(other.start - unit.start), other.start))
    return [slot_json(other, resource.owner) for other in free[:_ALTERNATIVES]]


def check_limits(wanted: Wanted, ahead: Ahead, *, ignoring: UUID | None) -> None:
    """Raise where one more booking is more than a policy allows. The user's row is locked, so that the counts hold."""
    for resource in wanted.resources.values():
        everywhere, here = resource.policy.max_active_per_user, resource.policy.max_active_per_user_here
        if everywhere is not None and ahead.by_kind[resource.kind] >= everywhere:
            raise TooManyBookings(details=_limit("maxActivePerUser", everywhere, ahead, resource.kind))
        if here is not None and ahead.by_resource[resource.no] >= here:
            raise AlreadyBookedHere(details=_limit("maxActivePerUserHere", here, ahead, resource.no))
        if resource.policy.overlaps_allowed is False:
            then = {
                str(holder_id)
                for unit in wanted.units
                if unit.resource_no == resource.no
                for start, end, holder_id in ahead.periods
                if holder_id != ignoring and _meet(unit.start, unit.end, start, end)
            }
            if then:
                raise OverlapsYourBooking(details={"rule": "overlapsAllowed", "value": False, "bookingIds": sorted(then)[:5]})


def _meet(start: datetime, end: datetime | None, other_start: datetime, other_end: datetime | None) -> bool:
    """Whether `[start, end)` and the other share an instant; what has no end is there for its first instant."""
    if end is None:
        end = start + timedelta(microseconds=1)
    if other_end is None:
        other_end = other_start + timedelta(microseconds=1)
    return start < other_end and other_start < end


def _limit(rule: str, value: int, ahead: Ahead, key: str | int) -> dict[str, Any]:
    """The rule, its value, and when the first of those that count has begun and does not count any more."""
    counted = ahead.by_kind[key] if isinstance(key, str) else ahead.by_resource[key]
    soonest = ahead.soonest.get(key)
    return {
        "rule": rule,
        "value": value,
        **({"nextPossible": instant_text(soonest)} if soonest is not None and counted == value else {}),
    }


def _check_held(wanted: Wanted, ahead: Ahead) -> None:
    for resource in wanted.resources.values():
        seats = sum(unit.resource_no == resource.no and bool(unit.seat_no) for unit in wanted.units)
        if ahead.held_seats[resource.no] + seats > MAX_HELD:
            raise TooManyHolds(details={"rule": "maxHeldSeats", "value": MAX_HELD, "held": ahead.held_seats[resource.no]})
    slots = sum(not unit.seat_no for unit in wanted.units)
    if slots and ahead.held_slots + slots > MAX_HELD:
        raise TooManyHolds(details={"rule": "maxHeldSlots", "value": MAX_HELD, "held": ahead.held_slots})


def check_cancel_notice(booking: Booking, policies: Sequence[Policy], *, now: datetime) -> None:
    """Raise where less than the longest of the policies' notices is left."""
    notices = [policy.cancel_notice_minutes for policy in policies if policy.cancel_notice_minutes is not None]
    if notices and booking.start - now < timedelta(minutes=max(notices)):
        latest = booking.start - timedelta(minutes=max(notices))
        raise TooLateToCancel(details={"rule": "cancelNoticeMinutes", "value": max(notices), "latest": instant_text(latest)})


def seats_missing(labels: Sequence[str], known: dict[str, Seat]) -> list[str]:
    """The labels that name no seat."""
    return first_labels([label for label in labels if label not in known])
