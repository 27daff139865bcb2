"""The whole booking core by steps that nobody thought of: each answer is what a small model says, and all stays true.

Everything goes over HTTP; time is moved where it is stored. After each step the worker's round has passed, and then what the
database has, what the pages show, and what `holdfast doctor --data` looks at agree with the model. HOLDFAST_STATEFUL_EXAMPLES
and HOLDFAST_STATEFUL_STEPS make longer, random runs of it.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from conftest import make_settings
from holdfast.bookings import queries
from holdfast.bookings.rules import deciding
from holdfast.bookings.service import settle_all
from holdfast.claims import queries as claim_queries
from holdfast.db.models import Base
from holdfast.inspection import INVARIANTS, Severity, look
from support.api import Api, Person, code, tomorrow
from support.everything import listed, made, move_end
from support.model import LIMITS, TAKEN, Closure, Entry, Holder, Model, Place, Unit, Wanted
from support.races import Arena, arena_on, instant

T = TypeVar("T")
EXAMPLES, STEPS = os.environ.get("HOLDFAST_STATEFUL_EXAMPLES"), os.environ.get("HOLDFAST_STATEFUL_STEPS")
EMPTY = f"TRUNCATE {', '.join(table.name for table in Base.metadata.sorted_tables)} RESTART IDENTITY CASCADE"
#: Two slots of an hour on each of two days; two events, each at the time of the second slot: little enough to fight for.
DAYS = (tomorrow(3), tomorrow(4))
SCHEDULE = {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "09:00", "endTime": "11:00", "slotMinutes": 60}
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"maxActivePerUser": 1},
    {"maxActivePerUser": 2},
    {"maxActivePerUserHere": 1},
    {"overlapsAllowed": False},
    {"maxActivePerUserHere": 2, "overlapsAllowed": False},
    {"ownerMayBook": True},
)
NO_POLICY = {"maxActivePerUser": None, "maxActivePerUserHere": None, "overlapsAllowed": None, "ownerMayBook": None}
#: What the database has: holders with their units, and how waits stand.
STATE = """
SELECT coalesce(c.booking_id, c.hold_id)::text AS holder, coalesce(b.user_id, h.user_id)::text AS who,
       c.hold_id IS NOT NULL AS held, array_agg(c.slot_id::text) AS units
FROM claims c LEFT JOIN bookings b ON b.id = c.booking_id LEFT JOIN holds h ON h.id = c.hold_id
WHERE c.closure_id IS NULL AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())
GROUP BY 1, 2, 3"""
ENTRIES = "SELECT id::text, status, coalesce(booking_id, hold_id)::text AS holder FROM waitlist_entries"
BROKEN = [one for one in INVARIANTS if one.severity is not Severity.NOTE]
AT_ONCE = " UNION ALL ".join(
    f"SELECT {n} WHERE EXISTS (SELECT FROM ({one.statement}) broken)" for n, one in enumerate(BROKEN) if one.confirms is None
)

policies = st.sampled_from(POLICIES)
#: What is done how often. One rule for all of it: hypothesis would leave out some rules in each history, and what is worth
#: looking at is what they do to one another.
VERBS = {
    "book": 6,
    "hold": 6,
    "lapse": 5,
    "confirm": 3,
    "release": 2,
    "extend": 1,
    "join": 8,
    "leave": 2,
    "cancel": 5,
    "reschedule": 4,
    "administer": 4,
    "repeat": 2,
}
numbers = st.integers(0, 59)


#: Answers without which a run has not come to what it is for.
COMMON = {"201", "200", "SLOT_ALREADY_BOOKED", "SEATS_TAKEN", "HOLD_EXPIRED"}


@dataclass(frozen=True)
class Dice:
    """What was drawn for a step: each verb makes of it what it needs."""

    user: int
    way: int
    one: int
    other: int
    which: int
    yes: bool
    policy: dict[str, Any]


dice = st.builds(
    Dice,
    user=st.integers(0, 2),
    way=st.integers(0, 5),
    one=numbers,
    other=numbers,
    which=numbers,
    yes=st.booleans(),
    policy=policies,
)


@dataclass
class Ground:
    """The service under test, on a database of its own, and the loop that it runs in."""

    arena: Arena
    runner: asyncio.Runner
    #: Steps taken, and answers by code: a run in which nothing was ever refused, or had, proves little.
    seen: dict[str, int] = field(default_factory=dict)
    inspect: Any = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def api(self) -> Api:
        return self.arena.api


class Booking(RuleBasedStateMachine):
    """Everybody does everything; `ground` is given by a subclass."""

    ground: Ground

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.people: list[Person] = []
        self.actor: str | None = None
        self.steps = 0
        self.series: dict[str, str] = {}

    # The world

    @initialize(rules=st.tuples(policies, policies, policies, policies, policies))
    def world(self, rules: tuple[dict[str, Any], ...]) -> None:
        self.ground.run(self._world(rules))

    async def _world(self, rules: tuple[dict[str, Any], ...]) -> None:
        await self.ground.arena.eye.execute(EMPTY)
        await self.ground.arena.state.revocations.look()
        api = self.ground.api
        self.admin = await api.person("admin")
        self.people = await self.ground.arena.people(3)
        for policy in rules[:2]:
            room = await api.room(self.admin, SCHEDULE, policy=policy)
            self.model.places[room["id"]] = Place(room["id"], "room", policy)
            for day in DAYS:
                for slot in await api.slots(self.admin, room, day):
                    self._add(Unit(slot["id"], room["id"], instant(slot["start"]), instant(slot["end"])))
        policy = {"maxActivePerUserHere": None, "maxActivePerUser": None, **rules[2]}
        host = made(await api.post("/hosts", self.people[0], json={"displayName": "Ada", "policy": policy}), "host")
        self.model.places[host["id"]] = Place(host["id"], "host", rules[2], owner=str(self.people[0].id))
        hours = [
            {"start": f"{DAYS[0]}T{start}:00Z", "end": f"{DAYS[0]}T{end}:00Z"}
            for start, end in (("09:30", "10:30"), ("10:30", "11:30"))
        ]
        for slot in (await api.post("/slots", self.people[0], json={"slots": hours})).json()["slots"]:
            self._add(Unit(slot["id"], host["id"], instant(slot["start"]), instant(slot["end"])))
        for policy, day in zip(rules[3:], DAYS, strict=True):
            body = {"name": "Concert", "start": f"{day}T10:00:00Z", "end": f"{day}T11:00:00Z", "policy": policy}
            event = made(await api.post("/events", self.admin, json=body), "event")
            self.model.places[event["id"]] = Place(event["id"], "event", policy)
            await self._add_seats(event["id"], 3)

    async def _add_seats(self, event: str, count: int) -> None:
        start = f"{DAYS[[place.id for place in self._places('event')].index(event)]}T10:00:00Z"
        path, known = f"/events/{event}/seats", len(self.model.seats(event))
        labels = [f"A-{known + n + 1}" for n in range(count)]
        for seat in listed(await self.ground.api.post(path, self.admin, json={"seats": labels}), "seats", 201):
            self._add(Unit(seat["id"], event, instant(start), instant(start) + timedelta(hours=1), seat["label"]))

    def _add(self, unit: Unit) -> None:
        self.model.units[unit.id] = unit

    def _places(self, *kinds: str) -> list[Place]:
        return [place for place in self.model.places.values() if place.kind in kinds]

    def _person(self, user: str) -> Person:
        return next(one for one in self.people if str(one.id) == user)

    # What is chosen

    def _slots(self) -> list[Unit]:
        return [unit for unit in self.model.units.values() if unit.label is None]

    def _choose(self, way: int, one: int, other: int) -> tuple[dict[str, Any], Wanted]:
        """The body of a request, and what it means."""
        slots = self._slots()
        first = slots[one % len(slots)]
        if way == 0:
            return {"slotId": first.id}, Wanted((first.id,))
        if way == 1:
            second = slots[other % len(slots)]
            if second == first:
                return {"slotIds": [first.id]}, Wanted((first.id,))
            return {"slotIds": [first.id, second.id]}, Wanted((first.id, second.id))
        rooms, events = self._places("room"), self._places("event")
        room, event = rooms[one % len(rooms)], events[one % len(events)]
        if way in {2, 3}:
            of_room = [unit for unit in slots if unit.place == room.id]
            start = of_room[other % len(of_room)]
            if way == 3:
                body = {"roomId": room.id, "date": start.start.date().isoformat(), "time": f"{start.start:%H:%M}"}
                return body, Wanted((start.id,))
            both = [unit for unit in of_room if start.start <= unit.start < start.start + timedelta(hours=2)]
            times = {"start": start.start.isoformat(), "end": both[-1].end.isoformat()}
            return {"roomId": room.id, **times}, Wanted(tuple(unit.id for unit in both))
        seats = self.model.seats(event.id)
        if way == 4:
            named = {seats[other % len(seats)], seats[(other + one) % len(seats)]}
            labels = sorted(str(seat.label) for seat in named)
            return {"eventId": event.id, "seats": labels}, Wanted(tuple(seat.id for seat in named), event.id)
        quantity = other % 3 + 1
        return {"eventId": event.id, "quantity": quantity}, Wanted(event=event.id, quantity=quantity)

    def _places_of(self, wanted: Wanted) -> set[str]:
        return {self.model.units[unit].place for unit in wanted.units} | ({wanted.event} if wanted.event else set())

    def _may_answer(self, user: str, wanted: Wanted, *, as_hold: bool = False, ignoring: str | None = None) -> set[str]:
        """The codes of which the answer must be one; `201` where it must be had."""
        then, guessed = self.model.after_settling(self._places_of(wanted))
        codes = then.refusals(user, wanted, as_hold=as_hold, ignoring=ignoring)
        if guessed and wanted.event and wanted.units:
            # Which seats the line was offered is the service's choice.
            codes = codes | {"SEATS_TAKEN"} if codes - {"SEATS_TAKEN"} else {"SEATS_TAKEN", "201"}
        return codes or {"201"}

    # Steps

    def _step(self, work: Coroutine[Any, Any, None], actor: str | None = None) -> None:
        """One step, then the worker's round, then everything that must be so."""
        self.actor = actor
        self.steps += 1

        async def whole() -> None:
            await work
            await settle_all(self.ground.arena.state.db)
            await self._check()

        self.ground.run(whole())

    def _answered(self, answer: httpx.Response, *expected: str) -> bool:
        """True where it was had; the answer's code must be one of the expected ones."""
        found = code(answer) if answer.status_code >= 400 else str(answer.status_code)
        self.ground.seen[found] = self.ground.seen.get(found, 0) + 1
        assert found in expected, f"{found} instead of {sorted(expected)}: {answer.text}"
        return answer.status_code < 400

    @rule(what=st.sampled_from([verb for verb, often in VERBS.items() for _ in range(often)]), drawn=dice)
    def step(self, what: str, drawn: Dice) -> None:
        """Somebody does something; where there is nothing to do it with, somebody books."""
        getattr(self, f"do_{what}")(drawn)

    def do_book(self, drawn: Dice) -> None:
        """For oneself, or at the front desk."""
        user = str(self.people[drawn.user].id)
        self._step(self._book(user, *self._choose(drawn.way, drawn.one, drawn.other), desk=drawn.which % 4 == 0), user)

    async def _book(self, user: str, body: dict[str, Any], wanted: Wanted, *, desk: bool) -> None:
        expected = self._may_answer(user, wanted)
        path, who = (f"/users/{user}/bookings", self.admin) if desk else ("/bookings", self._person(user))
        answer = await self.ground.api.post(path, who, json=body)
        if self._answered(answer, *expected):
            booking = answer.json()["booking"]
            self._given(Holder(booking["id"], user, tuple(booking["slotIds"]), held=False), wanted)

    def _given(self, holder: Holder, wanted: Wanted) -> None:
        if wanted.units:
            assert set(holder.units) == set(wanted.units)
        else:
            assert len(holder.units) == wanted.quantity
            assert {self.model.units[unit].place for unit in holder.units} == {wanted.event}
        self.model.holders[holder.id] = holder

    def do_hold(self, drawn: Dice) -> None:
        """Of one place: what lapses is then given back by one resource's lock."""
        user = str(self.people[drawn.user].id)
        self._step(self._hold(user, *self._choose(drawn.way if drawn.way != 1 else 0, drawn.one, drawn.other)), user)

    async def _hold(self, user: str, body: dict[str, Any], wanted: Wanted) -> None:
        expected = self._may_answer(user, wanted, as_hold=True)
        answer = await self.ground.api.post("/holds", self._person(user), json=body)
        if self._answered(answer, *expected):
            hold = answer.json()["hold"]
            self._given(Holder(hold["token"], user, tuple(hold["slotIds"]), held=True), wanted)

    def _pick(self, among: list[T], which: int) -> T:
        """One of the latest."""
        return among[-1 - which % min(len(among), 6)]

    def _hold_for(self, drawn: Dice) -> Holder | None:
        """Mostly one that lives."""
        holds = [one for one in self.model.holders.values() if one.held]
        live = [one for one in holds if one.state == "live"]
        return self._pick(live if live and drawn.which % 5 else holds, drawn.which) if holds else None

    def do_lapse(self, drawn: Dice) -> None:
        """Its time is over, and the next step comes before the worker."""
        hold = self._hold_for(drawn)
        if hold is None:
            self.do_hold(drawn)
        elif hold.state == "live":
            self.ground.run(move_end(self.ground.api, hold.id, 0))
            hold.state = "lapsed"

    def do_confirm(self, drawn: Dice) -> None:
        """A hold becomes a booking; now and then somebody else tries."""
        self._do_with_hold(drawn, "other" if drawn.one % 7 == 0 else "confirm")

    def do_extend(self, drawn: Dice) -> None:
        """Once."""
        self._do_with_hold(drawn, "extend")

    def do_release(self, drawn: Dice) -> None:
        """An offer is declined so."""
        self._do_with_hold(drawn, "release")

    def _do_with_hold(self, drawn: Dice, what: str) -> None:
        hold = self._hold_for(drawn)
        if hold is None:
            self.do_hold(drawn)
        else:
            self._step(self._end_hold(hold, what), hold.user)

    async def _end_hold(self, hold: Holder, what: str) -> None:
        api, who = self.ground.api, self._person(hold.user)
        over = {"live": set[str](), "lapsed": {"HOLD_EXPIRED"}, "over": {"HOLD_EXPIRED"}, "booked": {"HOLD_USED"}}[hold.state]
        if what == "other":
            other = next(one for one in self.people if one is not who)
            self._answered(await api.post("/bookings", other, json={"holdToken": hold.id}), "FORBIDDEN")
        elif what == "confirm":
            answer = await api.post("/bookings", who, json={"holdToken": hold.id})
            if self._answered(answer, *(over or {"201"})):
                self.model.confirm(hold, answer.json()["booking"]["id"])
        elif what == "extend":
            answer = await api.post(f"/holds/{hold.id}/extend", who)
            if self._answered(answer, *(over or {"HOLD_EXTENDED" if hold.extended else "200"})):
                hold.extended = True
        elif self._answered(await api.send("DELETE", f"/holds/{hold.id}", who), *(over or {"204"})):
            self.model.end(hold.id)

    def do_join(self, drawn: Dice) -> None:
        """Mostly a line for what is taken."""
        user = str(self.people[drawn.user].id)
        body, wanted = self._choose(5 if drawn.way < 3 else 0, drawn.one, drawn.other)
        had = [unit for holder in self.model.live() for unit in holder.units if self.model.units[unit].label is None]
        if wanted.units and drawn.which % 4 and had:
            wanted = Wanted((had[drawn.one % len(had)],))
            body = {"slotId": wanted.units[0]}
        self._step(self._join(user, {**body, "autoBook": drawn.yes}, wanted, auto_book=drawn.yes), user)

    async def _join(self, user: str, body: dict[str, Any], wanted: Wanted, *, auto_book: bool) -> None:
        slot = wanted.units[0] if wanted.units else None
        place = self.model.units[slot].place if slot else str(wanted.event)
        then, _ = self.model.after_settling({place})
        waits = any(
            (one.user, one.place, one.slot) == (user, place, slot) and one.status in {"waiting", "offered"}
            for one in then.entries
        )
        reasons = then.refusals(user, wanted)
        expected = reasons - TAKEN
        if not reasons:
            expected = {"STILL_AVAILABLE"} | ({"ALREADY_WAITING"} if waits else set())
        elif reasons & TAKEN and "OWN_SLOT" not in reasons:
            expected = (reasons & LIMITS) | {"ALREADY_WAITING" if waits else "201"}
        answer = await self.ground.api.post("/waitlist", self._person(user), json=body)
        if self._answered(answer, *expected):
            entry = answer.json()["entry"]
            self.model.entries.append(Entry(entry["id"], user, place, slot, entry["quantity"], auto_book))

    def do_leave(self, drawn: Dice) -> None:
        """A line, or an offer."""
        if not self.model.entries:
            self.do_join(drawn)
            return
        entry = self._pick(self.model.entries, drawn.which)
        self._step(self._leave(entry), entry.user)

    async def _leave(self, entry: Entry) -> None:
        # Whether it waited or had an offer, which may have lapsed, is all one.
        answer = await self.ground.api.send("DELETE", f"/waitlist/{entry.id}", self._person(entry.user))
        if self._answered(answer, "WAITLIST_ENTRY_BOOKED" if entry.status == "booked" else "204"):
            if entry.status == "offered" and entry.holder is not None:
                self.model.end(entry.holder)
            elif entry.status == "waiting":
                # A lapsed hold in the way may have been given to it in the same moment, and nobody would know.
                entry.status = "left"

    def _bookings(self) -> list[Holder]:
        return [one for one in self.model.holders.values() if not one.held]

    def _booking_for(self, drawn: Dice) -> Holder | None:
        """Mostly one that stands."""
        live = [one for one in self._bookings() if one.state == "live"]
        return self._pick(live if live and drawn.which % 7 else self._bookings(), drawn.which) if self._bookings() else None

    def do_cancel(self, drawn: Dice) -> None:
        """One's own; now and then somebody else tries."""
        booking = self._booking_for(drawn)
        if booking is None:
            self.do_book(drawn)
        else:
            self._step(self._cancel(booking, stranger=drawn.one % 7 == 0), booking.user)

    async def _cancel(self, booking: Holder, *, stranger: bool) -> None:
        who = self._person(booking.user)
        if stranger:
            who = next(one for one in self.people if one is not who)
        if self._answered(await self.ground.api.post(f"/bookings/{booking.id}/cancel", who), "FORBIDDEN" if stranger else "200"):
            booking.state = "over"

    def do_reschedule(self, drawn: Dice) -> None:
        """To whatever else."""
        booking = self._booking_for(drawn)
        if booking is None:
            self.do_book(drawn)
        else:
            self._step(self._reschedule(booking, *self._choose(drawn.way, drawn.one, drawn.other)), booking.user)

    async def _reschedule(self, booking: Holder, body: dict[str, Any], wanted: Wanted) -> None:
        expected = {"BOOKING_CANCELLED"}
        if booking.state == "live":
            expected = {"200" if one == "201" else one for one in self._may_answer(booking.user, wanted, ignoring=booking.id)}
        path = f"/bookings/{booking.id}/reschedule"
        answer = await self.ground.api.post(path, self._person(booking.user), json=body)
        if self._answered(answer, *expected):
            booking.units = tuple(answer.json()["booking"]["slotIds"])
            self._given(booking, wanted)

    def do_administer(self, drawn: Dice) -> None:
        """Closures, seats and policies."""
        what = ("close", "reopen", "block", "unblock", "seat", "policy")[drawn.way]
        slots, event = self._slots(), self._places("event")[drawn.one % 2].id
        seats, closures, places = self.model.seats(event), list(self.model.closures.values()), list(self.model.places.values())
        if len(closures) > 1 or (what == "reopen" and closures):
            self._step(self._reopen(self._pick(closures, drawn.which)))
        elif what in {"close", "reopen"}:
            first, second = slots[drawn.one % len(slots)], slots[drawn.other % len(slots)]
            end = second.end if second.place == first.place and second.start.date() == first.start.date() else first.end
            self._step(self._close(first.place, min(first.start, end - timedelta(hours=1)), end, cancels=drawn.yes))
        elif what == "seat" and len(seats) < 5:
            self._step(self._add_seats(event, 1))
        elif what == "policy":
            self._step(self._change_policy(places[drawn.other % len(places)], drawn.policy))
        else:
            named = {seats[drawn.other % len(seats)], seats[drawn.which % len(seats)]}
            self._step(self._block(event, named, blocked=what == "block" and not self.model.blocked))

    async def _close(self, place: str, start: datetime, end: datetime, *, cancels: bool) -> None:
        in_the_way = [
            holder
            for holder in self.model.live()
            if any(self.model.units[unit].place == place and self.model.units[unit].meets(start, end) for unit in holder.units)
        ]
        closed = any(one.place == place and one.start < end and start < one.end for one in self.model.closures.values())
        expected = {"CLOSURE_OVERLAP"} if closed else set()
        if in_the_way and not cancels:
            expected.add("BOOKINGS_IN_THE_WAY")
        path = f"/{self.model.places[place].kind}s/{place}/closures"
        body = {"start": start.isoformat(), "end": end.isoformat(), "cancelBookings": cancels}
        answer = await self.ground.api.post(path, self.admin, json=body)
        if self._answered(answer, *(expected or {"201"})):
            closure = answer.json()["closure"]["id"]
            self.model.closures[closure] = Closure(closure, place, start, end)
            for holder in in_the_way:
                self.model.end(holder.id)

    async def _reopen(self, closure: Closure) -> None:
        path = f"/{self.model.places[closure.place].kind}s/{closure.place}/closures/{closure.id}"
        self._answered(await self.ground.api.send("DELETE", path, self.admin), "204")
        del self.model.closures[closure.id]

    async def _block(self, event: str, seats: set[Unit], *, blocked: bool) -> None:
        then, guessed = self.model.after_settling({event})
        expected = {"200"}
        if blocked and any(then.who_has(seat.id) for seat in seats):
            expected = {"SEATS_TAKEN"}
        if blocked and guessed:
            expected |= {"SEATS_TAKEN", "200"}
        body = {"labels": sorted(str(seat.label) for seat in seats), "blocked": blocked}
        answer = await self.ground.api.send("PATCH", f"/events/{event}/seats", self.admin, json=body)
        if self._answered(answer, *expected):
            named = {seat.id for seat in seats}
            self.model.blocked = self.model.blocked | named if blocked else self.model.blocked - named

    def do_repeat(self, drawn: Dice) -> None:
        """A series is made, or cancelled."""
        if self.series and (drawn.which % 2 or len(self.series) > 1):
            series = self._pick(list(self.series), drawn.which)
            user = self.series.pop(series)
            self._step(self._cancel_series(series, user), user)
        else:
            user = str(self.people[drawn.user].id)
            self._step(self._repeat(user, self._places("room")[drawn.one % 2].id, 9 + drawn.other % 2, skip=drawn.yes), user)

    async def _repeat(self, user: str, room: str, hour: int, *, skip: bool) -> None:
        """A slot of the room on both days."""
        slots = [unit for unit in self._slots() if unit.place == room and unit.start.hour == hour]
        then, _ = self.model.after_settling({room})
        had: list[str] = []
        for slot in slots:
            if not then.refusals(user, Wanted((slot.id,))):
                then = then if then is not self.model else Model(**vars(self.model) | {"holders": dict(self.model.holders)})
                then.holders[f"new {slot.id}"] = Holder(f"new {slot.id}", user, (slot.id,), held=False)
                had.append(slot.id)
        body = {
            "roomId": room,
            "start": slots[0].start.isoformat(),
            "end": slots[0].end.isoformat(),
            "recurrence": "FREQ=DAILY;COUNT=2",
            "onConflict": "skip" if skip else "fail",
        }
        answer = await self.ground.api.post("/bookings/series", self._person(user), json=body)
        if self._answered(answer, "201" if len(had) == len(slots) or (skip and had) else "SERIES_CONFLICT"):
            series, bookings = answer.json()["series"]["id"], answer.json()["bookings"]
            assert [booking["slotId"] for booking in bookings] == had
            self.series[series] = user
            for booking in bookings:
                self.model.holders[booking["id"]] = Holder(booking["id"], user, (booking["slotId"],), held=False, series=series)

    async def _cancel_series(self, series: str, user: str) -> None:
        members = [one for one in self.model.live() if one.series == series]
        answer = await self.ground.api.post(f"/series/{series}/cancel", self._person(user), json={})
        self._answered(answer, "200")
        assert {booking["id"] for booking in answer.json()["bookings"]} == {one.id for one in members}
        for member in members:
            member.state = "over"

    async def _change_policy(self, place: Place, policy: dict[str, Any]) -> None:
        who = self._person(place.owner) if place.owner else self.admin
        answer = await self.ground.api.send("PATCH", f"/{place.kind}s/{place.id}", who, json={"policy": {**NO_POLICY, **policy}})
        self._answered(answer, "200")
        place.policy = policy

    # What must be so

    async def _check(self) -> None:
        model, eye = self.model, self.ground.arena.eye
        model.tidy_up()
        holders = {row["holder"]: row for row in await eye.fetch(STATE)}
        served = []
        entries = {row["id"]: row for row in await eye.fetch(ENTRIES)}
        for entry in model.entries:
            row = entries.pop(entry.id)
            if entry.status == "waiting" and row["status"] in {"offered", "booked"}:
                found = holders[row["holder"]]
                holder = Holder(row["holder"], entry.user, tuple(found["units"]), held=found["held"])
                assert holder.held is not entry.auto_book, f"{entry} was served as {row['status']}"
                self._given(holder, model.wish_of(entry))
                model.serve(entry, holder)
                served.append(entry)
            assert entry.status == row["status"], f"{entry} is {row['status']}"
        assert not entries
        shown = {one: (row["who"], row["held"], set(row["units"])) for one, row in holders.items()}
        assert shown == {one.id: (one.user, one.held, set(one.units)) for one in model.live()}
        model.check_lines(served, actor=self.actor)
        await self._inspect()
        places = list(model.places.values())
        if self.steps % 3 == 0:
            # All of them at the end.
            await self._look_at(places[self.steps // 3 % len(places)])

    async def _inspect(self) -> None:
        """`holdfast doctor --data` finds nothing, in one statement where it is so."""
        eye = self.ground.arena.eye
        if self.ground.inspect is None:
            self.ground.inspect = await eye.prepare(AT_ONCE)
        broken = [BROKEN[row[0]] for row in await self.ground.inspect.fetch()]
        broken += [one for one in BROKEN if one.confirms is not None]
        findings = [await look(eye, one) for one in broken]
        assert not [one for one in findings if one.level != "ok"], [one for one in findings if one.level != "ok"]

    async def _look_at(self, place: Place) -> None:
        """A page shows what the model has, and whose it is."""
        model, who = self.model, self.people[self.steps % len(self.people)]
        if place.kind == "event":
            await self._look_at_event(place, who)
            return
        period = {"from": f"{DAYS[0]}T00:00:00Z", "to": f"{DAYS[-1]}T23:00:00Z", "status": "all"}
        answer = await self.ground.api.get(f"/{place.kind}s/{place.id}/slots", who, params=period)
        slots = listed(answer, "slots")
        assert [slot["id"] for slot in slots] == [unit.id for unit in self._slots() if unit.place == place.id]
        for slot in slots:
            unit, holder = model.units[slot["id"]], model.who_has(slot["id"])
            status = ("held" if holder.held else "booked") if holder else "closed" if model.is_closed(unit) else "free"
            assert (slot["status"], slot["mine"]) == (status, holder is not None and holder.user == str(who.id)), slot

    async def _look_at_event(self, place: Place, who: Person) -> None:
        model = self.model
        statuses: dict[str, tuple[str, bool]] = {}
        for unit in model.seats(place.id):
            holder = model.who_has(unit.id)
            status = ("held" if holder.held else "booked") if holder else "blocked" if unit.id in model.blocked else "free"
            statuses[unit.id] = (status, holder is not None and holder.user == str(who.id))
        seats = listed(await self.ground.api.get(f"/events/{place.id}/seats", who), "seats")
        assert {seat["id"]: (seat["status"], seat["mine"]) for seat in seats} == statuses
        counts = [status for status, _ in statuses.values()]
        event = made(await self.ground.api.get(f"/events/{place.id}", who), "event", 200)
        waiting = sum(entry.status == "waiting" and entry.place == place.id for entry in model.entries)
        assert [event[name] for name in ("capacity", "booked", "held", "available", "waiting")] == [
            len(counts) - counts.count("blocked"),
            counts.count("booked"),
            counts.count("held"),
            counts.count("free"),
            waiting,
        ]
        await self._look_at_lines(place)

    async def _look_at_lines(self, place: Place) -> None:
        """Positions are 1, 2, 3 without gap or repeat, in the order of the joins."""
        line = [entry for entry in self.model.entries if entry.status == "waiting" and entry.place == place.id]
        for position, entry in enumerate(line, start=1):
            answer = await self.ground.api.get(f"/waitlist/{entry.id}", self._person(entry.user))
            assert made(answer, "entry", 200)["position"] == position

    def teardown(self) -> None:
        """At the end, every page."""

        async def all_pages() -> None:
            await settle_all(self.ground.arena.state.db)
            self.actor = None
            await self._check()
            for place in self.model.places.values():
                await self._look_at(place)

        if self.model.places:
            self.ground.run(all_pages())


@contextmanager
def ground_on(url: str) -> Iterator[Ground]:
    """A service on a database of its own, in a loop of its own: hypothesis speaks no async."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = arena_on(make_settings(url, pool_size=4))
        ground = Ground(runner.run(opened.__aenter__()), runner)
        try:
            yield ground
        finally:
            runner.run(opened.__aexit__(None, None, None))


def play(ground: Ground, *, examples: int, steps: int, phases: tuple[Phase, ...]) -> None:
    """So many histories of so many steps; the same ones each time, unless a longer run was asked for."""
    run_state_machine_as_test(
        type("Bound", (Booking,), {"ground": ground}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=EXAMPLES is None,
            database=None,
            deadline=None,
            phases=phases,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_is_done_in_whatever_order_the_answers_are_right_and_everything_stays_true(own_database: str) -> None:
    with ground_on(own_database) as ground:
        play(ground, examples=int(EXAMPLES or 20), steps=int(STEPS or 30), phases=(Phase.generate,))
        assert set(ground.seen) >= COMMON, ground.seen
        assert set(ground.seen) & LIMITS, ground.seen


async def nobody(*_args: Any, **_keywords: Any) -> list[Any]:
    return []


@pytest.mark.parametrize(
    ("mutation", "because"),
    [
        (lambda patch: patch.setattr(queries, "fitting_entries", nobody), "is free|served before|instead of"),
        (lambda patch: patch.setattr(claim_queries, "delete_lapsed", nobody), "instead of"),
        (lambda patch: patch.setattr(deciding, "check_limits", lambda *_args, **_keywords: None), "instead of"),
    ],
    ids=["nobody is promoted", "lapsed holds stay", "limits are not looked at"],
)
def test_the_machine_finds_what_is_broken_on_purpose(
    mutation: Callable[[pytest.MonkeyPatch], None], because: str, own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    with ground_on(own_database) as ground, pytest.raises(AssertionError, match=because):
        play(ground, examples=25, steps=50, phases=(Phase.generate,))
