"""What a booking is, which slots a request means, and whether they may be booked. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from holdfast.bookings.errors import (
    AlreadyBookedHere,
    Closed,
    OutsideSchedule,
    OverlapsYourBooking,
    SlotInPast,
    SlotNotFound,
    SlotTaken,
    TooFarAhead,
    TooLateToCancel,
    TooManyBookings,
    TooSoon,
)
from holdfast.claims import HolderKind, Taken, Unit, overlapping
from holdfast.core import slot_ids
from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text
from holdfast.core.errors import Invalid
from holdfast.core.policies import Policy
from holdfast.core.schedules import (
    Schedule,
    Slot,
    find_slot,
    local_date,
    slots_between,
    slots_on,
    wall_to_instant,
)
from holdfast.rooms.errors import RoomNotFound
from holdfast.rooms.rules import day_reach, free_of, slot_json

#: Slots that one booking may have.
MAX_UNITS = 100
_ALTERNATIVES = 5
#: Around a slot, this holds every slot of its date, whatever the zone and its clock changes.
_SAME_DATE = timedelta(hours=26)


@dataclass(frozen=True, slots=True)
class BySlotIds:
    """Slots by their ids, of whatever resources."""

    ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class ByPeriod:
    """The neighbouring slots of a room that fill `[start, end)`."""

    room_id: UUID
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class ByTime:
    """The slot of a room that begins at `minutes` after midnight of a date, on the room's clock."""

    room_id: UUID
    day: date
    minutes: int


Selection = BySlotIds | ByPeriod | ByTime


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as it was read, with its claims around the wanted time."""

    no: int
    id: UUID
    kind: str
    time_zone: str
    policy: Policy
    schedule: Schedule | None
    taken: tuple[Taken, ...]


@dataclass(frozen=True, slots=True)
class BookedUnit:
    """One unit of a booking: the resource, and the slot id that it was booked by."""

    resource_no: int
    resource_id: UUID
    slot_id: UUID


@dataclass(frozen=True, slots=True)
class Booking:
    """A booking with its units, first to last."""

    id: UUID
    user_id: UUID
    kind: str
    status: str
    units: tuple[BookedUnit, ...]
    start: datetime
    end: datetime
    title: str | None
    notes: str | None
    conference_link: str | None
    version: int
    created_at: datetime
    cancelled_at: datetime | None

    @property
    def etag(self) -> str:
        """Changes with each change."""
        return version_tag(self.version)

    @property
    def resource_nos(self) -> set[int]:
        """The resources whose rows must be locked before the booking changes."""
        return {unit.resource_no for unit in self.units}

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "slotId": str(self.units[0].slot_id),
            "userId": str(self.user_id),
            "status": self.status,
            "kind": self.kind,
            f"{self.kind}Id": str(self.units[0].resource_id),
            "slotIds": [str(unit.slot_id) for unit in self.units],
            "start": instant_text(self.start),
            "end": instant_text(self.end),
            "title": self.title,
            "notes": self.notes,
            "conferenceLink": self.conference_link,
            "createdAt": instant_text(self.created_at),
            "cancelledAt": instant_text(self.cancelled_at) if self.cancelled_at else None,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """The slots that a request means, soonest first, and the resources that they are of."""

    slots: tuple[Slot, ...]
    resources: dict[int, Resource]

    @property
    def units(self) -> list[Unit]:
        """What is to be taken."""
        return [Unit(slot.resource_no, slot.start, slot.end, slot.id) for slot in self.slots]

    @property
    def start(self) -> datetime:
        """When the first of them begins."""
        return self.slots[0].start

    @property
    def end(self) -> datetime:
        """When the last of them ends."""
        return max(slot.end for slot in self.slots)

    @property
    def kind(self) -> str:
        """The kind of the first one's resource."""
        return self.resources[self.slots[0].resource_no].kind

    @property
    def counts_per_user(self) -> bool:
        """True where a policy looks at the user's other bookings."""
        return any(resource.policy.counts_per_user for resource in self.resources.values())

    def booked_units(self) -> tuple[BookedUnit, ...]:
        """The units of the booking to be."""
        return tuple(BookedUnit(slot.resource_no, self.resources[slot.resource_no].id, slot.id) for slot in self.slots)


def reach(selection: Selection) -> tuple[list[int], UUID | None, list[datetime], list[datetime]]:
    """What must be read to decide: resource numbers or a room's id, and for each a period around the wanted time.

    Raises SlotNotFound for an id that cannot be one of ours, Invalid for slots named twice.
    """
    if isinstance(selection, ByPeriod):
        return [], selection.room_id, [selection.start - _SAME_DATE], [selection.end + _SAME_DATE]
    if isinstance(selection, ByTime):
        start, end = day_reach(selection.day)
        return [], selection.room_id, [start], [end]
    if len(set(selection.ids)) != len(selection.ids):
        message = "A slot is named twice."
        raise Invalid(message)
    periods: dict[int, tuple[datetime, datetime]] = {}
    for slot_id in selection.ids:
        key = slot_ids.decode(slot_id)
        if key is None:
            raise SlotNotFound
        try:
            start, end = key.start - _SAME_DATE, key.end + _SAME_DATE
        except OverflowError:
            raise SlotNotFound from None
        known = periods.get(key.resource_no)
        periods[key.resource_no] = (min(start, known[0]), max(end, known[1])) if known else (start, end)
    numbers = sorted(periods)
    return numbers, None, [periods[no][0] for no in numbers], [periods[no][1] for no in numbers]


def find_wanted(selection: Selection, resources: dict[int, Resource]) -> Wanted:
    """The slots that the selection means. Raises SlotNotFound, RoomNotFound, OutsideSchedule."""
    if isinstance(selection, BySlotIds):
        slots = []
        for slot_id in selection.ids:
            key = slot_ids.decode(slot_id)
            resource = resources.get(key.resource_no) if key else None
            slot = find_slot(resource.schedule, key, resource.time_zone) if key and resource and resource.schedule else None
            if slot is None:
                raise SlotNotFound
            slots.append(slot)
    else:
        if not resources:
            raise RoomNotFound
        (resource,) = resources.values()
        slots = _of_period(selection, resource) if isinstance(selection, ByPeriod) else _of_time(selection, resource)
        if not slots:
            raise OutsideSchedule
        if len(slots) > MAX_UNITS:
            message = f"A booking has at most {MAX_UNITS} slots."
            raise Invalid(message, details={"rule": "maxSlots", "value": MAX_UNITS})
    return Wanted(tuple(sorted(slots, key=lambda slot: (slot.start, slot.resource_no))), resources)


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


def check_bookable(wanted: Wanted, *, now: datetime, ignoring: UUID | None = None) -> None:
    """Raise where a slot is past, too soon, too far ahead, closed or taken; `ignoring` is a booking that is moved."""
    for slot in wanted.slots:
        _check_time(slot, wanted.resources[slot.resource_no], now)
    for slot in wanted.slots:
        _check_free(slot, wanted.resources[slot.resource_no], now, ignoring)


def _check_time(slot: Slot, resource: Resource, now: datetime) -> None:
    if slot.start <= now:
        raise SlotInPast(details={"rule": "past", "start": instant_text(slot.start)})
    notice, ahead = resource.policy.min_notice_minutes, resource.policy.max_days_ahead
    if notice is not None and slot.start - now < timedelta(minutes=notice):
        earliest = instant_text((now + timedelta(minutes=notice)).replace(microsecond=0))
        raise TooSoon(details={"rule": "minNoticeMinutes", "value": notice, "earliestStart": earliest})
    if ahead is not None:
        today = local_date(now, resource.time_zone)
        if (local_date(slot.start, resource.time_zone) - today).days > ahead:
            latest = (today + timedelta(days=ahead)).isoformat()
            raise TooFarAhead(details={"rule": "maxDaysAhead", "value": ahead, "latestDate": latest})


def _check_free(slot: Slot, resource: Resource, now: datetime, ignoring: UUID | None) -> None:
    in_the_way = [claim for claim in overlapping(resource.taken, slot.start, slot.end) if claim.holder_id != ignoring]
    if not in_the_way:
        return
    details = {"slotId": str(slot.id), "alternatives": _alternatives(slot, resource, now)}
    for claim in in_the_way:
        if claim.kind is HolderKind.CLOSURE:
            until = {"closedUntil": instant_text(claim.end)}
            raise Closed(details={**details, **until})
    raise SlotTaken(details=details)


def _alternatives(slot: Slot, resource: Resource, now: datetime) -> list[dict[str, Any]]:
    """Up to five free slots of the same resource and date, nearest first, out of what has been read."""
    if resource.schedule is None:
        return []
    day = local_date(slot.start, resource.time_zone)
    others = slots_on(resource.schedule, day, resource.time_zone, resource.no)
    live = [claim for claim in resource.taken if not claim.lapsed]
    is_free = free_of(others, [claim.start for claim in live], [claim.end for claim in live])
    free = [other for other, free_now in zip(others, is_free, strict=True) if free_now and other.start > now]
    free.sort(key=lambda other: (abs(other.start - slot.start), other.start))
    return [slot_json(other, resource.id) for other in free[:_ALTERNATIVES]]


@dataclass(frozen=True, slots=True)
class UserCounts:
    """A user's active bookings and live holds that are still ahead: by kind of resource, and by resource number."""

    by_kind: dict[str, int]
    by_resource: dict[int, int]


def check_limits(wanted: Wanted, counts: UserCounts) -> None:
    """Raise where one more booking is more than a policy allows. The user's row is locked, so that the counts hold."""
    for resource in wanted.resources.values():
        everywhere, here = resource.policy.max_active_per_user, resource.policy.max_active_per_user_here
        if everywhere is not None and counts.by_kind.get(resource.kind, 0) >= everywhere:
            raise TooManyBookings(details={"rule": "maxActivePerUser", "value": everywhere})
        if here is not None and counts.by_resource.get(resource.no, 0) >= here:
            raise AlreadyBookedHere(details={"rule": "maxActivePerUserHere", "value": here})


def periods_to_keep_clear(wanted: Wanted) -> list[tuple[datetime, datetime]]:
    """The times at which a policy wants the user to have no other booking."""
    return [
        (slot.start, slot.end) for slot in wanted.slots if wanted.resources[slot.resource_no].policy.overlaps_allowed is False
    ]


def check_overlaps(bookings_then: Sequence[UUID]) -> None:
    """Raise where the user has another booking at a time that must be clear."""
    if bookings_then:
        ids = [str(booking_id) for booking_id in bookings_then[:5]]
        raise OverlapsYourBooking(details={"rule": "overlapsAllowed", "value": False, "bookingIds": ids})


def check_cancel_notice(booking: Booking, policies: Sequence[Policy], *, now: datetime) -> None:
    """Raise where less than the longest of the policies' notices is left."""
    notices = [policy.cancel_notice_minutes for policy in policies if policy.cancel_notice_minutes is not None]
    if notices and booking.start - now < timedelta(minutes=max(notices)):
        latest = booking.start - timedelta(minutes=max(notices))
        raise TooLateToCancel(details={"rule": "cancelNoticeMinutes", "value": max(notices), "latest": instant_text(latest)})


@dataclass(frozen=True, slots=True)
class Closure:
    """A time at which a room is closed, and why."""

    id: UUID
    resource_no: int
    start: datetime
    end: datetime
    reason: str | None
    created_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The wire's shape, without the room that the path names."""
        return {
            "id": str(self.id),
            "start": instant_text(self.start),
            "end": instant_text(self.end),
            "reason": self.reason,
            "createdAt": instant_text(self.created_at.astimezone(UTC)),
        }
