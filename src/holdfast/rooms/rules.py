"""What a room is, which schedules make sense, and which slots are free. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any
from uuid import UUID

from holdfast.claims import HolderKind, Taken, overlapping
from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text
from holdfast.core.errors import Invalid
from holdfast.core.policies import Policy
from holdfast.core.schedules import Schedule, Slot, Window, slots_between, slots_on, wall_text, windows_json

#: A slot of a date lies within this of the date's midnights in UTC: zones reach to 15:56 hours from UTC.
_ZONE_REACH = timedelta(hours=16)
#: The longest stretch that one list of slots covers.
MAX_RANGE = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Room:
    """A room with the number that its claims and slot ids name it by."""

    no: int
    id: UUID
    name: str
    description: str | None
    capacity: int | None
    kind: str
    time_zone: str
    location: str | None
    features: tuple[str, ...]
    policy: Policy
    version: int
    created_at: datetime

    @property
    def etag(self) -> str:
        """Changes with each change of the room; its schedule has an ETag of its own."""
        return version_tag(self.version)

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "name": self.name,
            "description": self.description,
            "capacity": self.capacity,
            "kind": self.kind,
            "timeZone": self.time_zone,
            "location": self.location,
            "features": list(self.features),
            "policy": self.policy.as_json(),
            "createdAt": instant_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class RoomSchedule:
    """A room's schedule with its id and version."""

    id: UUID
    room_id: UUID
    schedule: Schedule
    version: int

    @property
    def etag(self) -> str:
        """Changes with each change."""
        return version_tag(self.version)

    def as_json(self) -> dict[str, Any]:
        """The wire's shape: windows, and the flat three of the room contract where there is one window."""
        shape: dict[str, Any] = {
            "id": str(self.id),
            "roomId": str(self.room_id),
            "slotMinutes": self.schedule.slot_minutes,
            "windows": windows_json(self.schedule.windows),
        }
        if len(self.schedule.windows) == 1:
            shape |= shape["windows"][0]
        return shape


def make_schedule(slot_minutes: int, windows: Sequence[Window]) -> Schedule:
    """A schedule that makes sense. Raises Invalid: too short, backwards or overlapping windows, and which."""
    tidy = tuple(Window(tuple(sorted(set(w.days_of_week))), w.opens, w.closes) for w in windows)
    for window in tidy:
        span = f"{wall_text(window.opens)} to {wall_text(window.closes)}"
        if window.opens >= window.closes:
            message = f"The window {span} ends before it begins."
            raise Invalid(message)
        if window.closes - window.opens < slot_minutes:
            message = f"The window {span} is shorter than one slot of {slot_minutes} minutes."
            raise Invalid(message)
    for day in range(1, 8):
        todays = sorted((w for w in tidy if day in w.days_of_week), key=lambda w: w.opens)
        for earlier, later in pairwise(todays):
            if later.opens < earlier.closes:
                message = f"Two windows of weekday {day} overlap at {wall_text(later.opens)}."
                raise Invalid(message)
    return Schedule(slot_minutes, tidy)


def day_reach(day: date) -> tuple[datetime, datetime]:
    """A period that holds every slot of the date, in whatever zone; an empty one at the ends of the calendar."""
    try:
        midnight = datetime.combine(day, time(), UTC)
        return midnight - _ZONE_REACH, midnight + timedelta(days=1) + _ZONE_REACH
    except OverflowError:
        return midnight, midnight


@dataclass(frozen=True, slots=True)
class SlotRange:
    """Which slots are wanted, by dates or by instants; 31 days at most. Raises Invalid where it makes no sense.

    `dates` are the first and the last one on the room's calendar, both included; `period` is `[start, end)`, in which the
    wanted slots begin.
    """

    dates: tuple[date, date] | None = None
    period: tuple[datetime, datetime] | None = None

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.dates is not None:
            length = self.dates[1] - self.dates[0] + timedelta(days=1)
        elif self.period is not None:
            length = self.period[1] - self.period[0]
        else:
            message = "Name a date, or from and to."
            raise Invalid(message)
        if length <= timedelta(0):
            message = "The range ends before it begins."
            raise Invalid(message)
        if length > MAX_RANGE:
            message = f"The range is longer than {MAX_RANGE.days} days."
            raise Invalid(message, details={"rule": "maxDays", "value": MAX_RANGE.days})

    def reach(self) -> tuple[datetime, datetime]:
        """A period that holds all of these slots from start to end, in whatever zone."""
        if self.dates is not None:
            return day_reach(self.dates[0])[0], day_reach(self.dates[1])[1]
        assert self.period is not None  # noqa: S101 - checked above
        return self.period[0], self.period[1] + timedelta(days=2)

    def slots(self, schedule: Schedule, zone: str, resource_no: int) -> tuple[Slot, ...]:
        """The slots that the schedule makes there, soonest first."""
        if self.dates is None:
            assert self.period is not None  # noqa: S101 - checked above
            return slots_between(schedule, *self.period, zone, resource_no)
        first, last = self.dates
        days = (first + timedelta(days=n) for n in range((last - first).days + 1))
        return tuple(slot for day in days for slot in slots_on(schedule, day, zone, resource_no))


def free_of(slots: Sequence[Slot], starts: Sequence[datetime] | None, ends: Sequence[datetime] | None) -> tuple[bool, ...]:
    """For each slot (soonest first), whether none of the taken periods shares an instant with it."""
    if not starts or not ends:
        return (True,) * len(slots)
    taken = sorted(zip(starts, ends, strict=True))
    free: list[bool] = []
    i = 0
    for slot in slots:
        # Taken periods never overlap each other, so their ends are in order too.
        while i < len(taken) and taken[i][1] <= slot.start:
            i += 1
        free.append(i == len(taken) or taken[i][0] >= slot.end)
    return tuple(free)


@lru_cache(maxsize=4096)
def rendered_slots(
    schedule: Schedule, day: date, zone: str, resource_no: int, room_id: UUID
) -> tuple[tuple[Slot, ...], tuple[bytes, ...]]:
    """The slots of a date and each one's JSON: the hottest answer is put together from these, not rendered anew."""
    slots = slots_on(schedule, day, zone, resource_no)
    return slots, tuple(
        b'{"id":"%s","roomId":"%s","start":"%s","end":"%s"}'
        % (
            str(slot.id).encode(),
            str(room_id).encode(),
            instant_text(slot.start).encode(),
            instant_text(slot.end).encode(),
        )
        for slot in slots
    )


@lru_cache(maxsize=4096)
def rendered_day(parts: tuple[bytes, ...], free: tuple[bool, ...]) -> tuple[bytes, str]:
    """The body of a list of free slots and its ETag: a pure function of what there is and what is taken."""
    body = b'{"slots":[' + b",".join(part for part, is_free in zip(parts, free, strict=True) if is_free) + b"]}"
    return body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def slot_json(slot: Slot, room_id: UUID) -> dict[str, Any]:
    """The wire's shape of a slot, as in `rendered_slots`."""
    return {
        "id": str(slot.id),
        "roomId": str(room_id),
        "start": instant_text(slot.start),
        "end": instant_text(slot.end),
    }


def slot_status(slot: Slot, taken: Sequence[Taken], *, user_id: UUID | None, now: datetime) -> tuple[str, bool]:
    """`free`, `held`, `booked`, `closed` or `past` (a taken slot says so, past or not), and whether it is the user's."""
    over = tuple(overlapping(taken, slot.start, slot.end))
    mine = any(claim.user_id == user_id for claim in over if claim.user_id is not None)
    kinds = {claim.kind for claim in over}
    for kind, status in (
        (HolderKind.BOOKING, "booked"),
        (HolderKind.HOLD, "held"),
        (HolderKind.CLOSURE, "closed"),
    ):
        if kind in kinds:
            return status, mine
    return ("past" if slot.start <= now else "free"), False
