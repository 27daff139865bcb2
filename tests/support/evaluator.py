"""Why something cannot be had, worked out anew from what was set up: the description of the service, not its code.

Facts are what the test knows that it made. A refusal is right where it names one of the reasons that are true, with the rule,
its value and what is possible next; where there is none, there must be no refusal.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

#: Slots over all rooms and hosts, and seats of one event, that a user may hold at a time.
MOST_HELD = 10
#: Free slots that a conflict names.
MOST_ALTERNATIVES = 5


@dataclass(frozen=True)
class Slot:
    """`[start, end)` of a place."""

    id: str
    start: datetime
    end: datetime

    def meets(self, start: datetime, end: datetime) -> bool:
        return self.start < end and start < self.end


@dataclass
class Place:
    """A room, a host or an event. `slots` by id; of an event, `seats` by label; `owner` is the host's user."""

    id: str
    kind: str
    zone: str
    policy: dict[str, Any]
    owner: str | None = None
    slots: dict[str, Slot] = field(default_factory=dict)
    seats: dict[str, str] = field(default_factory=dict)
    start: datetime | None = None
    end: datetime | None = None
    sales: tuple[datetime | None, datetime | None] = (None, None)

    @property
    def when(self) -> tuple[datetime, datetime]:
        """An event's time; what has no end is there for its first instant."""
        assert self.start is not None
        return self.start, self.end or self.start + timedelta(microseconds=1)

    def day_of(self, instant: datetime) -> date:
        return instant.astimezone(ZoneInfo(self.zone)).date()


@dataclass
class Thing:
    """A booking or a hold: units are (place, slot id or seat label)."""

    id: str
    user: str
    units: tuple[tuple[str, str], ...]
    expires: datetime | None = None


@dataclass
class Closed:
    """A time at which a place is closed, or a seat that is blocked."""

    place: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Within:
    """An instant that depends on the service's clock: not before `first`, and at most a second after `last`."""

    first: datetime
    last: datetime

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        return self.first <= datetime.fromisoformat(other) <= self.last + timedelta(seconds=1)

    def __hash__(self) -> int:
        return hash((self.first, self.last))


@dataclass(frozen=True)
class Reason:
    """A refusal that would be right: its code, and all that its details say."""

    code: str
    details: dict[str, Any]

    def is_told_by(self, code: str, details: dict[str, Any] | None) -> bool:
        return self.code == code and (details or {}) == self.details


@dataclass(frozen=True)
class Wish:
    """Slots of whatever places, or seats of one event: by label, or so many."""

    slots: tuple[tuple[str, str], ...] = ()
    event: str | None = None
    labels: tuple[str, ...] = ()
    quantity: int = 0
    as_hold: bool = False


def text(instant: datetime) -> str:
    """As instants look on the wire."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def grid(zone: str, day: date, windows: Iterable[tuple[str, str]], minutes: int) -> Iterator[tuple[datetime, datetime]]:
    """The slots of a date where no clock change is near: from each opening on, as long as a whole one fits."""
    for opens, closes in windows:
        start, end = (datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZoneInfo(zone)) for clock in (opens, closes))
        while start + timedelta(minutes=minutes) <= end:
            yield start.astimezone(UTC), (start + timedelta(minutes=minutes)).astimezone(UTC)
            start += timedelta(minutes=minutes)


@dataclass
class Facts:
    """Everything that was set up."""

    places: dict[str, Place] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    closed: list[Closed] = field(default_factory=list)
    blocked: set[tuple[str, str]] = field(default_factory=set)

    # Times

    def time_reasons(self, place: Place, start: datetime, now: tuple[datetime, datetime]) -> list[Reason]:
        """Rules about when, broken for a service whose clock shows something within `now`."""
        found = []
        if start <= now[1]:
            found.append(Reason("INVALID_REQUEST", {"rule": "past", "start": text(start)}))
        notice, most = place.policy.get("minNoticeMinutes"), place.policy.get("maxDaysAhead")
        if notice is not None and start > now[0] and start - now[1] < timedelta(minutes=notice):
            earliest = Within(*(one + timedelta(minutes=notice) for one in now))
            found.append(Reason("TOO_SOON", {"rule": "minNoticeMinutes", "value": notice, "earliestStart": earliest}))
        if most is not None:
            found += [
                Reason(
                    "TOO_FAR_AHEAD",
                    {
                        "rule": "maxDaysAhead",
                        "value": most,
                        "latestDate": (today + timedelta(days=most)).isoformat(),
                        "bookableFrom": (place.day_of(start) - timedelta(days=most)).isoformat(),
                    },
                )
                for today in {place.day_of(one) for one in now}
                if (place.day_of(start) - today).days > most
            ]
        return found

    # What is taken

    def period(self, unit: tuple[str, str]) -> tuple[datetime, datetime]:
        place = self.places[unit[0]]
        return place.when if place.kind == "event" else (place.slots[unit[1]].start, place.slots[unit[1]].end)

    def in_the_way(self, place: Place, slot: Slot) -> tuple[list[Closed], list[Thing]]:
        """What takes an instant of a slot."""
        closures = [one for one in self.closed if one.place == place.id and slot.meets(one.start, one.end)]
        things = [
            thing
            for thing in self.things.values()
            if any(unit[0] == place.id and slot.meets(*self.period(unit)) for unit in thing.units)
        ]
        return closures, things

    def free_beside(self, place: Place, slot: Slot, now: tuple[datetime, datetime]) -> list[str]:
        """Free slots of the place and day that may be had now, nearest first."""
        free = [
            other
            for other in place.slots.values()
            if place.day_of(other.start) == place.day_of(slot.start)
            and self.in_the_way(place, other) == ([], [])
            and not self.time_reasons(place, other.start, now)
        ]
        free.sort(key=lambda other: (abs(other.start - slot.start), other.start))
        return [other.id for other in free[:MOST_ALTERNATIVES]]

    def taken_reasons(self, place: Place, slot: Slot, now: tuple[datetime, datetime]) -> list[Reason]:
        closures, things = self.in_the_way(place, slot)
        beside = {"slotId": slot.id, "alternatives": self.free_beside(place, slot, now)}
        found = [Reason("CLOSED", {"rule": "closed", **beside, "closedUntil": text(one.end)}) for one in closures]
        return found + ([Reason("SLOT_ALREADY_BOOKED", {"rule": "taken", **beside})] if things else [])

    def free_seats(self, event: Place) -> list[str]:
        taken = {unit for thing in self.things.values() for unit in thing.units} | self.blocked
        return [label for label in event.seats if (event.id, label) not in taken]

    def event_reasons(self, event: Place, wish: Wish, now: tuple[datetime, datetime]) -> list[Reason]:
        """All that an event itself says no by; `alternatives` are judged apart, as which ones is the service's choice."""
        found = self.time_reasons(event, event.when[0], now)
        begins, ends = event.sales
        if begins is not None and now[0] < begins:
            found.append(Reason("NOT_ON_SALE", {"rule": "salesStart", "value": text(begins)}))
        if ends is not None and now[1] >= ends:
            found.append(Reason("NOT_ON_SALE", {"rule": "salesEnd", "value": text(ends)}))
        free = self.free_seats(event)
        missing = [label for label in wish.labels if label not in event.seats]
        taken = [label for label in wish.labels if label in event.seats and label not in free]
        if missing:
            found.append(Reason("SEATS_NOT_FOUND", {"seats": missing}))
        if taken:
            found.append(Reason("SEATS_TAKEN", {"seats": taken, "available": len(free)}))
        if wish.quantity > len(free):
            found.append(Reason("SEATS_TAKEN", {"rule": "seats", "value": wish.quantity, "available": len(free)}))
        return found

    # Whose limits

    def limit_reasons(self, user: str, place: Place, periods: Sequence[tuple[datetime, datetime]]) -> list[Reason]:
        """`periods` are those that are wanted of the place; all that anybody has here is ahead."""
        mine = [thing for thing in self.things.values() if thing.user == user]
        found = []
        for rule, code, counts in (
            ("maxActivePerUser", "TOO_MANY_BOOKINGS", lambda unit: self.places[unit[0]].kind == place.kind),
            ("maxActivePerUserHere", "ALREADY_BOOKED_HERE", lambda unit: unit[0] == place.id),
        ):
            most = place.policy.get(rule)
            counted = [thing for thing in mine if any(counts(unit) for unit in thing.units)]
            if most is not None and len(counted) >= most:
                # Once the first of them has begun, one may have another. What is held of several places has begun with the
                # first of it where it was booked by then, and with what is counted of it where not.
                units = [unit for thing in counted for unit in thing.units]
                for firsts in (units, [unit for unit in units if counts(unit) or not self._is_held(unit)]):
                    first = text(min(self.period(unit)[0] for unit in firsts))
                    details = {"rule": rule, "value": most, **({"nextPossible": first} if len(counted) == most else {})}
                    found.append(Reason(code, details))
        if place.policy.get("overlapsAllowed") is False:
            then = {
                thing.id
                for thing in mine
                for unit in thing.units
                if any(start < self.period(unit)[1] and self.period(unit)[0] < end for start, end in periods)
            }
            if then:
                details = {"rule": "overlapsAllowed", "value": False, "bookingIds": sorted(then)[:5]}
                found.append(Reason("OVERLAPS_YOUR_BOOKING", details))
        return found

    def _is_held(self, unit: tuple[str, str]) -> bool:
        return any(thing.expires is not None and unit in thing.units for thing in self.things.values())

    def hold_reasons(self, user: str, wish: Wish) -> list[Reason]:
        held = [unit for thing in self.things.values() if thing.user == user and thing.expires for unit in thing.units]
        slots = sum(self.places[place].kind != "event" for place, _ in held)
        seats = sum(place == wish.event for place, _ in held)
        found = []
        if wish.slots and slots + len(wish.slots) > MOST_HELD:
            found.append(Reason("TOO_MANY_HOLDS", {"rule": "maxHeldSlots", "value": MOST_HELD, "held": slots}))
        if wish.event and seats + (len(wish.labels) or wish.quantity) > MOST_HELD:
            found.append(Reason("TOO_MANY_HOLDS", {"rule": "maxHeldSeats", "value": MOST_HELD, "held": seats}))
        return found

    # Answers

    def reasons(self, user: str, wish: Wish, now: tuple[datetime, datetime]) -> list[Reason]:
        """Every refusal of a wish that would be right; none: it must be had."""
        found: list[Reason] = []
        wanted: dict[str, list[tuple[datetime, datetime]]] = {}
        if wish.event is not None:
            event = self.places[wish.event]
            found += self.event_reasons(event, wish, now)
            wanted[event.id] = [event.when]
        for place_id, slot_id in wish.slots:
            place = self.places[place_id]
            slot = place.slots[slot_id]
            found += self.time_reasons(place, slot.start, now) + self.taken_reasons(place, slot, now)
            if place.owner == user and not place.policy.get("ownerMayBook"):
                found.append(Reason("OWN_SLOT", {"rule": "ownerMayBook", "value": False}))
            wanted.setdefault(place_id, []).append((slot.start, slot.end))
        for place_id, periods in wanted.items():
            found += self.limit_reasons(user, self.places[place_id], periods)
        return found + (self.hold_reasons(user, wish) if wish.as_hold else [])

    def why(self, place: Place, slot: Slot, now: tuple[datetime, datetime]) -> list[dict[str, Any]]:
        """Every right answer to why a slot is not free, as a list of slots says it."""
        closures, things = self.in_the_way(place, slot)
        return [
            *(reason.details for reason in self.time_reasons(place, slot.start, now)),
            *({"rule": "closed", "until": text(one.end)} for one in closures),
            *({"rule": "held", "until": text(one.expires)} if one.expires else {"rule": "booked"} for one in things),
        ]

    def statuses(self, place: Place, slot: Slot, now: tuple[datetime, datetime]) -> set[str]:
        """What a list may say of a slot; one that is taken says so, past or not."""
        closures, things = self.in_the_way(place, slot)
        taken = {"held" if one.expires else "booked" for one in things} | ({"closed"} if closures else set())
        return taken or {"past" if slot.start <= one else "free" for one in now}
