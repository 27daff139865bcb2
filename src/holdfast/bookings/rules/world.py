"""What was read before a decision: resources with their claims, events with their seats, what users have ahead. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from holdfast.bookings.rules.shapes import BookedUnit
from holdfast.claims import HolderKind, Taken, Unit
from holdfast.core.policies import Policy
from holdfast.core.schedules import Schedule, Slot
from holdfast.events.seating import Hall, Layout
from holdfast.resources.rules import Owner


@dataclass(slots=True)
class Resource:
    """A room or a host as it was read, with its claims around the wanted time.

    `owner_id` is the host's user. `awaited`: somebody waits for one of its slots.
    """

    no: int
    id: UUID
    kind: str
    time_zone: str
    policy: Policy
    schedule: Schedule | None
    published: tuple[Slot, ...]
    owner_id: UUID | None
    awaited: bool
    taken: list[Taken]

    @property
    def owner(self) -> Owner:
        """Whose the slots are."""
        return Owner(self.no, self.id, self.kind)


@dataclass(slots=True)
class Event:
    """An event as it was read. In its `hall` a seat of a lapsed hold is taken until somebody settles (`has_lapsed`)."""

    no: int
    id: UUID
    time_zone: str
    policy: Policy
    start: datetime
    end: datetime | None
    sales_start: datetime | None
    sales_end: datetime | None
    layout: Layout
    hall: Hall
    has_lapsed: bool
    awaited: bool
    kind: str = "event"
    owner_id: UUID | None = None


@dataclass(slots=True)
class Ahead:
    """What a user has ahead: active bookings that have not begun, and live holds, by kind and by resource number.

    `soonest` is when the first of them begins, under the same keys; `periods` are their times, each with
    the booking's or hold's id.
    """

    by_kind: Counter[str] = field(default_factory=Counter)
    by_resource: Counter[int] = field(default_factory=Counter)
    soonest: dict[str | int, datetime] = field(default_factory=dict)
    held_seats: Counter[int] = field(default_factory=Counter)
    held_slots: int = 0
    periods: list[tuple[datetime, datetime | None, UUID]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The units that a request means, soonest first, and the resources that they are of."""

    units: tuple[Unit, ...]
    resources: dict[int, Resource | Event]

    @property
    def start(self) -> datetime:
        """When the first of them begins."""
        return self.units[0].start

    @property
    def end(self) -> datetime | None:
        """When the last of them ends; None where an event does not say."""
        ends = [unit.end for unit in self.units if unit.end is not None]
        return max(ends) if ends else None

    @property
    def kind(self) -> str:
        """The kind of the first one's resource."""
        return self.resources[self.units[0].resource_no].kind

    @property
    def policies(self) -> list[Policy]:
        """The policies that apply."""
        return [resource.policy for resource in self.resources.values()]

    def booked_units(self) -> tuple[BookedUnit, ...]:
        """The units of the booking to be."""
        return tuple(
            BookedUnit(unit.resource_no, self.resources[unit.resource_no].id, unit.slot_id, unit.label) for unit in self.units
        )


@dataclass(slots=True)
class World:
    """Everything that was read, and what has been given out of it since."""

    resources: dict[int, Resource] = field(default_factory=dict)
    events: dict[UUID, Event] = field(default_factory=dict)
    ahead: dict[UUID, Ahead] = field(default_factory=dict)

    @property
    def numbers(self) -> set[int]:
        """The resources that were read."""
        return {*self.resources, *(event.no for event in self.events.values())}

    @property
    def has_lapsed_seats(self) -> bool:
        """Seats are counted as taken here that a lapsed hold has until somebody settles."""
        return any(event.has_lapsed for event in self.events.values())

    def room(self, room_id: UUID) -> Resource | None:
        """A room by its id."""
        return next((one for one in self.resources.values() if one.id == room_id and one.kind == "room"), None)

    def published(self, slot_id: UUID) -> Slot | None:
        """A slot that a host published."""
        return next((slot for one in self.resources.values() for slot in one.published if slot.id == slot_id), None)

    def to_settle(self, units: Iterable[Unit]) -> set[int]:
        """The resources where a lapsed hold is in the way, or where somebody waits who may come first."""
        found = {event.no for event in self.events.values() if event.has_lapsed}
        for unit in units:
            resource = self.resources.get(unit.resource_no)
            if resource is not None and (resource.awaited or any(_in_the_way(resource.taken, unit))):
                found.add(resource.no)
        return found | {event.no for event in self.events.values() if event.awaited}

    def line(self, *, of_all: bool) -> int | None:
        """The resource in whose line one waits: the lowest number of those with a fair queue (`of_all`: all have one)."""
        policies = {resource.no: resource.policy for resource in self.resources.values()}
        policies |= {event.no: event.policy for event in self.events.values()}
        return min((no for no, policy in policies.items() if of_all or policy.fair_queue), default=None)

    def give(self, user_id: UUID, wanted: Wanted, holder_id: UUID, *, held: bool) -> None:
        """Remember that the units are taken now, and that the user has one more ahead."""
        for unit in wanted.units:
            resource = wanted.resources[unit.resource_no]
            if isinstance(resource, Event):
                resource.hall.take([unit.seat_no])
            else:
                kind = HolderKind.HOLD if held else HolderKind.BOOKING
                assert unit.end is not None  # noqa: S101 - only events may not say
                resource.taken.append(Taken(unit.start, unit.end, kind, holder_id, user_id, lapsed=False))
        ahead = self.ahead.get(user_id)
        if ahead is None:
            return
        ahead.by_kind.update({resource.kind for resource in wanted.resources.values()})
        ahead.by_resource.update(list(wanted.resources))
        ahead.periods += [(unit.start, unit.end, holder_id) for unit in wanted.units]
        if held:
            ahead.held_seats.update(unit.resource_no for unit in wanted.units if unit.seat_no)
            ahead.held_slots += sum(not unit.seat_no for unit in wanted.units)


def _in_the_way(taken: Sequence[Taken], unit: Unit) -> Iterable[bool]:
    assert unit.end is not None  # noqa: S101 - only events may not say
    end = unit.end
    return (claim.lapsed for claim in taken if claim.lapsed and claim.start < end and unit.start < claim.end)
