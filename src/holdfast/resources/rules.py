"""Which schedules make sense, which slots a range has, which of them are free, and why the others are not. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from holdfast.claims import HolderKind, Taken, overlapping
from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text
from holdfast.core.errors import Invalid
from holdfast.core.policies import Policy, broken_time_rule
from holdfast.core.schedules import Schedule, Slot, Window, local_date, slots_between, slots_on, wall_text, windows_json

#: A slot of a date lies within this of the date's midnights in UTC: zones reach to 15:56 hours from UTC.
_ZONE_REACH = timedelta(hours=16)
#: The longest stretch that one list of slots covers.
MAX_RANGE = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Owner:
    """The resource that a schedule is of."""

    no: int
    id: UUID
    kind: str


@dataclass(frozen=True, slots=True)
class ResourceSchedule:
    """A resource's schedule with its id and version."""

    id: UUID
    owner: Owner
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
            f"{self.owner.kind}Id": str(self.owner.id),
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

    `dates` are the first and the last one on the resource's calendar, both included; `period` is `[start, end)`, in which the
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

    def begins_here(self, slot: Slot, zone: str) -> bool:
        """Whether a slot that no schedule makes begins within the range."""
        if self.dates is None:
            assert self.period is not None  # noqa: S101 - checked above
            return self.period[0] <= slot.start < self.period[1]
        return self.dates[0] <= local_date(slot.start, zone) <= self.dates[1]


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


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot with what is known of it; `why` it cannot be booked, by the caller, now (None: it can)."""

    slot: Slot
    status: str
    mine: bool
    why: Mapping[str, Any] | None

    def as_json(self, owner: Owner) -> dict[str, Any]:
        """The wire's shape."""
        return {**slot_json(self.slot, owner), "status": self.status, "mine": self.mine, "why": self.why}


def slot_json(slot: Slot, owner: Owner) -> dict[str, Any]:
    """The wire's shape of a slot."""
    return {
        "id": str(slot.id),
        f"{owner.kind}Id": str(owner.id),
        "start": instant_text(slot.start),
        "end": instant_text(slot.end),
    }


def slot_state(
    slot: Slot, taken: Sequence[Taken], policy: Policy, zone: str, *, user_id: UUID | None, now: datetime
) -> SlotState:
    """`free`, `held`, `booked`, `closed` or `past` (a taken slot says so, past or not), and whether it is the user's.

    Why it cannot be booked, in the order in which booking refuses: past or a time rule of the policy, closed, taken. When
    a closure or a hold ends is told, as it helps to plan; whose it is, is nobody's business.
    """
    over = tuple(overlapping(taken, slot.start, slot.end))
    mine = any(claim.user_id == user_id for claim in over if claim.user_id is not None)
    status = "past" if slot.start <= now else "free"
    in_the_way: dict[str, Any] | None = None
    for kind, name in ((HolderKind.BOOKING, "booked"), (HolderKind.HOLD, "held"), (HolderKind.CLOSURE, "closed")):
        claims = [claim for claim in over if claim.kind is kind]
        if claims:
            status = name if status in {"past", "free"} else status
            end = {HolderKind.CLOSURE: claims[0].end, HolderKind.HOLD: claims[0].expires_at}.get(kind)
            in_the_way = {"rule": name, **({"until": instant_text(end)} if end else {})}
    return SlotState(slot, status, mine, broken_time_rule(policy, slot.start, zone=zone, now=now) or in_the_way)
