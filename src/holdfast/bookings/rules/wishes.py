"""What a request may ask for, and what must be read to judge it. Pure."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from holdfast.bookings.errors import SlotNotFound
from holdfast.core import slot_ids
from holdfast.core.errors import Invalid
from holdfast.resources.rules import day_reach

K = TypeVar("K")
#: Slots or seats that one booking may have.
MAX_UNITS = 100
#: Around a slot, this holds every slot of its date, whatever the zone and its clock changes.
SAME_DATE = timedelta(hours=26)


@dataclass(frozen=True, slots=True)
class BySlotIds:
    """Slots by their ids, of whatever rooms and hosts."""

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


@dataclass(frozen=True, slots=True)
class BySeats:
    """Seats of an event by their labels."""

    event_id: UUID
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByQuantity:
    """The best available seats of an event, of one section where one is named; `adjacent` where it can be."""

    event_id: UUID
    quantity: int
    section: str | None = None
    adjacent: bool = True


Selection = BySlotIds | ByPeriod | ByTime | BySeats | ByQuantity


@dataclass(slots=True)
class Reach:
    """What must be read to judge selections: resources by number, by id, or by a published slot, each with a period.

    Events are read whole.
    """

    numbers: dict[int, tuple[datetime, datetime]] = field(default_factory=dict)
    rooms: dict[UUID, tuple[datetime, datetime]] = field(default_factory=dict)
    published: set[UUID] = field(default_factory=set)
    events: set[UUID] = field(default_factory=set)

    @property
    def key(self) -> Hashable:
        """Equal for those who want the same slots, and for those who want seats of the same event."""
        return (
            frozenset(self.numbers.items()),
            frozenset(self.rooms.items()),
            frozenset(self.published),
            frozenset(self.events),
        )


def _widen(periods: dict[K, tuple[datetime, datetime]], key: K, start: datetime, end: datetime) -> None:
    known = periods.get(key)
    periods[key] = (min(start, known[0]), max(end, known[1])) if known else (start, end)


def reach(selections: Iterable[Selection]) -> Reach:
    """What must be read. Raises SlotNotFound for an id that cannot be one of ours, Invalid for what is named twice."""
    wanted = Reach()
    for selection in selections:
        if isinstance(selection, ByPeriod):
            _widen(wanted.rooms, selection.room_id, selection.start - SAME_DATE, selection.end + SAME_DATE)
        elif isinstance(selection, ByTime):
            _widen(wanted.rooms, selection.room_id, *day_reach(selection.day))
        elif isinstance(selection, BySlotIds):
            _check_once(selection.ids, "slot")
            for slot_id in selection.ids:
                _reach_of_slot(wanted, slot_id)
        else:
            if isinstance(selection, BySeats):
                _check_once(selection.labels, "seat")
            wanted.events.add(selection.event_id)
    return wanted


def _reach_of_slot(wanted: Reach, slot_id: UUID) -> None:
    if not slot_ids.is_computed(slot_id):
        wanted.published.add(slot_id)
        return
    key = slot_ids.decode(slot_id)
    if key is None:
        raise SlotNotFound
    try:
        _widen(wanted.numbers, key.resource_no, key.start - SAME_DATE, key.end + SAME_DATE)
    except OverflowError:
        raise SlotNotFound from None


def _check_once(named: tuple[object, ...], what: str) -> None:
    if len(set(named)) != len(named):
        message = f"A {what} is named twice."
        raise Invalid(message)
