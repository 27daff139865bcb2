"""What the booking core must answer, in a few lines of Python: who has what, who waits for what, and which refusals are true.

No clock but that of the test: a hold has lapsed when the test says so. Units are known by the ids that slots and seats have
on the wire. Written from the description of the service alone.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: Seats of one event, and slots over all rooms and hosts, that a user may hold at a time.
MOST_HELD = 10
TAKEN = {"SLOT_ALREADY_BOOKED", "SEATS_TAKEN", "CLOSED"}
LIMITS = {"TOO_MANY_BOOKINGS", "ALREADY_BOOKED_HERE", "OVERLAPS_YOUR_BOOKING", "TOO_MANY_HOLDS"}


@dataclass
class Place:
    """A room, a host or an event; `owner` is the host's user."""

    id: str
    kind: str
    policy: dict[str, Any]
    owner: str | None = None


@dataclass(frozen=True)
class Unit:
    """A slot, or a seat (which has a label)."""

    id: str
    place: str
    start: datetime
    end: datetime
    label: str | None = None

    def meets(self, start: datetime, end: datetime) -> bool:
        return self.start < end and start < self.end


@dataclass
class Holder:
    """A booking or a hold. States: `live`; `lapsed` (its time is over, nobody has tidied up); `over`; a hold can be `booked`."""

    id: str
    user: str
    units: tuple[str, ...]
    held: bool
    state: str = "live"
    extended: bool = False
    series: str | None = None
    became: str | None = None


@dataclass
class Closure:
    """A time at which a room or a host is closed."""

    id: str
    place: str
    start: datetime
    end: datetime


@dataclass
class Entry:
    """A place in a line: for a slot, or for so many seats of an event. `holder` is its offer, or its booking."""

    id: str
    user: str
    place: str
    slot: str | None
    quantity: int
    auto_book: bool
    status: str = "waiting"
    holder: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What a request means: units by name, or so many seats of an event."""

    units: tuple[str, ...] = ()
    event: str | None = None
    quantity: int = 0


@dataclass
class Model:
    """Everything that is true. Entries stand in the order of their joins."""

    places: dict[str, Place] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    holders: dict[str, Holder] = field(default_factory=dict)
    closures: dict[str, Closure] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)

    # What is so

    def live(self) -> list[Holder]:
        return [one for one in self.holders.values() if one.state == "live"]

    def lapsed(self) -> list[Holder]:
        return [one for one in self.holders.values() if one.state == "lapsed"]

    def who_has(self, unit: str) -> Holder | None:
        return next((one for one in self.live() if unit in one.units), None)

    def is_closed(self, unit: Unit) -> bool:
        return any(one.place == unit.place and unit.meets(one.start, one.end) for one in self.closures.values())

    def seats(self, event: str) -> list[Unit]:
        return [unit for unit in self.units.values() if unit.place == event]

    def free_seats(self, event: str, ignoring: str | None = None) -> list[str]:
        taken = {unit for one in self.live() if one.id != ignoring for unit in one.units}
        return [unit.id for unit in self.seats(event) if unit.id not in taken | self.blocked]

    def ahead(self, user: str, ignoring: str | None = None) -> list[Holder]:
        """What a user has ahead: bookings and live holds, whatever for; everything here is ahead."""
        return [one for one in self.live() if one.user == user and one.id != ignoring]

    # What may be had

    def refusals(self, user: str, wanted: Wanted, *, as_hold: bool = False, ignoring: str | None = None) -> set[str]:
        """Every code that would be a true answer; none: it must be had."""
        found: set[str] = set()
        places = {self.units[unit].place for unit in wanted.units} | ({wanted.event} if wanted.event else set())
        if wanted.event and not wanted.units and len(self.free_seats(wanted.event, ignoring)) < wanted.quantity:
            found.add("SEATS_TAKEN")
        for name in wanted.units:
            unit = self.units[name]
            holder = self.who_has(name)
            if name in self.blocked or (unit.label and holder is not None and holder.id != ignoring):
                found.add("SEATS_TAKEN")
            elif self.is_closed(unit):
                found.add("CLOSED")
            elif holder is not None and holder.id != ignoring:
                found.add("SLOT_ALREADY_BOOKED")
            place = self.places[unit.place]
            if place.owner == user and not place.policy.get("ownerMayBook"):
                found.add("OWN_SLOT")
        for place_id in places:
            found |= self._limits(user, self.places[place_id], wanted, ignoring)
        if as_hold:
            found |= self._holds(user, wanted)
        return found

    def _limits(self, user: str, place: Place, wanted: Wanted, ignoring: str | None) -> set[str]:
        found = set()
        ahead = self.ahead(user, ignoring)
        of_kind = [one for one in ahead if any(self.places[self.units[unit].place].kind == place.kind for unit in one.units)]
        here = [one for one in ahead if any(self.units[unit].place == place.id for unit in one.units)]
        everywhere_limit, here_limit = place.policy.get("maxActivePerUser"), place.policy.get("maxActivePerUserHere")
        if everywhere_limit is not None and len(of_kind) >= everywhere_limit:
            found.add("TOO_MANY_BOOKINGS")
        if here_limit is not None and len(here) >= here_limit:
            found.add("ALREADY_BOOKED_HERE")
        if place.policy.get("overlapsAllowed") is False:
            mine = [self.units[unit] for unit in wanted.units if self.units[unit].place == place.id]
            if place.id == wanted.event:
                mine = self.seats(place.id)[:1]
            others = [self.units[unit] for one in ahead for unit in one.units]
            if any(unit.meets(other.start, other.end) for unit in mine for other in others):
                found.add("OVERLAPS_YOUR_BOOKING")
        return found

    def _holds(self, user: str, wanted: Wanted) -> set[str]:
        held = [self.units[unit] for one in self.ahead(user) if one.held for unit in one.units]
        slots = sum(not self.units[unit].label for unit in wanted.units)
        if slots and slots + sum(not unit.label for unit in held) > MOST_HELD:
            return {"TOO_MANY_HOLDS"}
        if wanted.event:
            seats = len(wanted.units) or wanted.quantity
            if seats + sum(unit.place == wanted.event for unit in held) > MOST_HELD:
                return {"TOO_MANY_HOLDS"}
        return set()

    def wish_of(self, entry: Entry) -> Wanted:
        if entry.slot is not None:
            return Wanted((entry.slot,))
        return Wanted(event=entry.place, quantity=entry.quantity)

    def keeps_waiting(self, entry: Entry, *, without: str | None = None) -> set[str]:
        """Why somebody waits still; nothing: what is waited for could be had. `without`: as if that holder had nothing."""
        removed = self.holders.pop(without, None) if without else None
        try:
            return self.refusals(entry.user, self.wish_of(entry), as_hold=not entry.auto_book)
        finally:
            if removed is not None:
                self.holders[removed.id] = removed

    # What happens

    def after_settling(self, places: Iterable[str]) -> "tuple[Model, bool]":
        """How it is once lapsed holds of these places are released and their lines served; True where seats were guessed."""
        if not self.lapsed():
            return self, False
        then = deepcopy(self)
        wanted = set(places)
        for holder in then.lapsed():
            if wanted & {then.units[unit].place for unit in holder.units}:
                then.end(holder.id)
        guessed = False
        for entry in then.entries:
            if entry.status == "waiting" and entry.place in wanted and not then.keeps_waiting(entry):
                units = (entry.slot,) if entry.slot else tuple(then.free_seats(entry.place)[: entry.quantity])
                guessed = guessed or entry.slot is None
                then.serve(entry, Holder(f"for {entry.id}", entry.user, units, held=not entry.auto_book))
        return then, guessed

    def serve(self, entry: Entry, holder: Holder) -> None:
        """Somebody's turn has come."""
        self.holders[holder.id] = holder
        entry.holder, entry.status = holder.id, "offered" if holder.held else "booked"

    def end(self, holder_id: str) -> None:
        """A holder gives back all that it has; an offer with it."""
        holder = self.holders[holder_id]
        for entry in self.entries:
            if entry.holder == holder_id and entry.status == "offered":
                entry.status = "lapsed" if holder.state == "lapsed" else "left"
        holder.state = "over"

    def tidy_up(self) -> None:
        """All that has lapsed is over."""
        for holder in self.lapsed():
            self.end(holder.id)

    def confirm(self, hold: Holder, booking_id: str) -> None:
        """A hold becomes a booking, an offer with it."""
        hold.state, hold.became = "booked", booking_id
        self.holders[booking_id] = Holder(booking_id, hold.user, hold.units, held=False)
        for entry in self.entries:
            if entry.holder == hold.id and entry.status == "offered":
                entry.status, entry.holder = "booked", booking_id

    # What must be so once nothing is left to settle

    def check_lines(self, served: Sequence[Entry], *, actor: str | None) -> None:
        """Nothing is free while somebody fitting waits, and nobody was passed over who came earlier and fitted.

        `served` had their turn in this step; `actor`'s own limits may have been others in the middle of it.
        """
        for entry in self.entries:
            assert entry.status != "waiting" or self.keeps_waiting(entry), f"{entry} waits for what is free"
        for later in served:
            for earlier in self.entries[: self.entries.index(later)]:
                same = (earlier.place, earlier.slot) == (later.place, later.slot)
                if same and earlier.status == "waiting" and earlier.user != actor:
                    assert self.keeps_waiting(earlier, without=later.holder), f"{later} was served before {earlier}"
