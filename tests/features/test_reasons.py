"""Every refusal says which rule, with its value and what is possible next; and every slot that is not free says why.

Random places with random policies, taken and closed at random, and random requests: an evaluator that knows only what was set
up says which answers are right. HOLDFAST_REASON_WORLDS makes a longer run.
"""

import os
import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from holdfast.bookings.errors import SlotTaken
from holdfast.bookings.rules import deciding
from holdfast.core import policies
from support.api import Api, Person, code
from support.evaluator import Closed, Facts, Place, Reason, Slot, Thing, Wish, grid, text
from support.everything import listed, made

WORLDS = int(os.environ.get("HOLDFAST_REASON_WORLDS", "8"))
REQUESTS = 50
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Kathmandu")
WEEK = [1, 2, 3, 4, 5, 6, 7]
#: From yesterday on.
DATES = [datetime.now(UTC).date() + timedelta(days=days) for days in (-1, 0, 1, 2, 3, 9)]


@dataclass
class World:
    """Places and what is taken of them, made by one seed; `facts` are what the evaluator knows."""

    api: Api
    admin: Person
    chance: random.Random
    facts: Facts = field(default_factory=Facts)
    people: list[Person] = field(default_factory=list)
    #: Answers by code.
    seen: dict[str, int] = field(default_factory=dict)

    async def make(self) -> None:
        self.people = await self.api.people(3)
        for _ in range(2):
            await self._room()
        await self._host(self.people[0])
        for _ in range(2):
            await self._event()
        for _ in range(12):
            await self._take()
        for place in self.facts.places.values():
            if place.kind == "event":
                await self._block(place)
            else:
                await self._close(place)
        for place in self.facts.places.values():
            await self._rule(place)

    def _hours(self) -> tuple[list[tuple[str, str]], int]:
        first = self.chance.choice((("08:00", "12:00"), ("09:30", "11:30"), ("07:15", "13:20")))
        windows = [first, ("14:00", self.chance.choice(("17:00", "18:10")))][: self.chance.randint(1, 2)]
        return windows, self.chance.choice((30, 45, 60, 90))

    async def _room(self) -> None:
        zone, (windows, minutes) = self.chance.choice(ZONES), self._hours()
        schedule = {
            "slotMinutes": minutes,
            "windows": [{"daysOfWeek": WEEK, "startTime": start, "endTime": end} for start, end in windows],
        }
        room = await self.api.room(self.admin, schedule, timeZone=zone)
        place = self.facts.places[room["id"]] = Place(room["id"], "room", zone, {})
        await self._learn_slots(place, windows, minutes)

    async def _learn_slots(self, place: Place, windows: list[tuple[str, str]], minutes: int) -> None:
        """The ids of the slots, which must be those of the grid."""
        for day in DATES:
            listed = await self._slots(place, day, self.admin)
            shown = [Slot(one["id"], datetime.fromisoformat(one["start"]), datetime.fromisoformat(one["end"])) for one in listed]
            assert [(one.start, one.end) for one in shown] == list(grid(place.zone, day, windows, minutes))
            place.slots |= {one.id: one for one in shown}

    async def _slots(self, place: Place, day: date, who: Person) -> list[dict[str, Any]]:
        path = f"/{place.kind}s/{place.id}/slots"
        params = {"date": day.isoformat(), "status": "all"}
        return listed(await self.api.get(path, who, params=params), "slots")

    async def _host(self, who: Person) -> None:
        zone = self.chance.choice(ZONES)
        no_rules = {"maxActivePerUser": None, "maxActivePerUserHere": None, "ownerMayBook": True}
        body: dict[str, Any] = {"displayName": "Ada", "timeZone": zone, "policy": no_rules}
        host = made(await self.api.post("/hosts", who, json=body), "host")
        place = self.facts.places[host["id"]] = Place(host["id"], "host", zone, {"ownerMayBook": True}, owner=str(who.id))
        starts = [
            datetime.combine(day, datetime.min.time(), ZoneInfo(zone)) + timedelta(hours=hour, minutes=self.chance.randrange(60))
            for day in DATES[2:]
            for hour in (9, 11, 13, 15)
        ]
        # In Auckland tomorrow morning is this evening: what has begun by now cannot be published any more.
        soon = datetime.now(UTC) + timedelta(minutes=10)
        wanted = [(start, start + timedelta(minutes=self.chance.choice((20, 50)))) for start in starts if start > soon]
        times = [{"start": text(start), "end": text(end)} for start, end in wanted]
        for one in listed(await self.api.post("/slots", who, json={"slots": times}), "slots", 201):
            place.slots[one["id"]] = Slot(one["id"], datetime.fromisoformat(one["start"]), datetime.fromisoformat(one["end"]))

    async def _event(self) -> None:
        zone, labels = self.chance.choice(ZONES), [f"A-{number}" for number in range(1, self.chance.randint(5, 16))]
        start = datetime.combine(self.chance.choice(DATES[2:]), datetime.min.time(), UTC)
        start += timedelta(hours=self.chance.randrange(24))
        end = self.chance.choice((None, start + timedelta(hours=2)))
        body = {"name": "Concert", "timeZone": zone, "start": text(start), **({"end": text(end)} if end else {})}
        event = made(await self.api.post("/events", self.admin, json=body), "event")
        place = Place(event["id"], "event", zone, {}, start=start, end=end)
        added = listed(await self.api.post(f"/events/{event['id']}/seats", self.admin, json={"seats": labels}), "seats", 201)
        place.seats = {seat["label"]: seat["id"] for seat in added}
        self.facts.places[place.id] = place

    async def _take(self) -> None:
        """Before there are rules, whatever is free and ahead can be had."""
        await self.ask(self.wish())

    async def _close(self, place: Place) -> None:
        """From within a slot to within another, where nobody is in the way."""
        for _ in range(self.chance.randrange(3)):
            slot = self.chance.choice(list(place.slots.values()))
            start = slot.start + timedelta(minutes=self.chance.choice((-30, 0, 5)))
            end = slot.end + timedelta(minutes=self.chance.choice((-5, 0, 40)))
            body = {"start": text(start), "end": text(end)}
            answer = await self.api.post(f"/{place.kind}s/{place.id}/closures", self.admin, json=body)
            if answer.status_code == 201:
                self.facts.closed.append(Closed(place.id, start, end))

    async def _block(self, place: Place) -> None:
        labels = self.chance.sample(
            self.facts.free_seats(place), k=min(self.chance.randrange(3), len(self.facts.free_seats(place)))
        )
        if labels:
            path = f"/events/{place.id}/seats"
            listed(await self.api.send("PATCH", path, self.admin, json={"labels": labels, "blocked": True}), "seats")
            self.facts.blocked |= {(place.id, label) for label in labels}

    async def _rule(self, place: Place) -> None:
        """Some rules, each with a value at which some of what is asked for is refused."""
        choices = {
            "minNoticeMinutes": self.chance.choice((30, 600, 1500, 4000)),
            "maxDaysAhead": self.chance.choice((0, 1, 2, 3, 8)),
            "maxActivePerUser": self.chance.randint(1, 5),
            "maxActivePerUserHere": self.chance.randint(1, 3),
            "overlapsAllowed": self.chance.choice((True, False, False)),
        }
        rules: dict[str, Any] = {rule: value for rule, value in choices.items() if self.chance.random() < 0.3}
        if place.kind == "host":
            rules["ownerMayBook"] = self.chance.random() < 0.4
        body: dict[str, Any] = {"policy": rules}
        if place.kind == "event" and self.chance.random() < 0.4:
            hours = sorted(self.chance.sample(range(-40, 40), k=2))
            begins, ends = (datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hour, minutes=7) for hour in hours)
            place.sales = (begins, ends)
            body |= {"salesStart": text(begins), "salesEnd": text(ends)}
        who = self.people[0] if place.kind == "host" else self.admin
        made(await self.api.send("PATCH", f"/{place.kind}s/{place.id}", who, json=body), place.kind, 200)
        place.policy = {**place.policy, **rules}

    def wish(self) -> Wish:
        """Something that somebody may ask for; seats that are not there too."""
        as_hold = self.chance.random() < 0.4
        places = list(self.facts.places.values())
        place = self.chance.choice(places)
        if place.kind == "event":
            if self.chance.random() < 0.5:
                return Wish(event=place.id, quantity=self.chance.randint(1, 5), as_hold=as_hold)
            labels = self.chance.sample([*place.seats, "Z-1"], k=self.chance.randint(1, 3))
            return Wish(event=place.id, labels=tuple(labels), as_hold=as_hold)
        with_slots = [one for one in places if one.slots] if self.chance.random() < 0.3 else [place]
        chosen = {
            (one.id, self.chance.choice(list(one.slots))) for one in self.chance.choices(with_slots, k=self.chance.randint(1, 3))
        }
        return Wish(slots=tuple(sorted(chosen)), as_hold=as_hold)

    def body(self, wish: Wish) -> dict[str, Any]:
        """One of the ways in which it can be asked for."""
        if wish.event is not None:
            return {"eventId": wish.event, **({"seats": list(wish.labels)} if wish.labels else {"quantity": wish.quantity})}
        if len(wish.slots) > 1:
            return {"slotIds": [slot_id for _, slot_id in wish.slots]}
        ((place_id, slot_id),) = wish.slots
        place = self.facts.places[place_id]
        slot = place.slots[slot_id]
        local = slot.start.astimezone(ZoneInfo(place.zone))
        ways: list[dict[str, Any]] = [{"slotId": slot_id}]
        if place.kind == "room":
            ways.append({"roomId": place_id, "start": text(slot.start), "end": text(slot.end)})
            ways.append({"roomId": place_id, "date": local.date().isoformat(), "time": f"{local:%H:%M}"})
        return self.chance.choice(ways)

    async def ask(self, wish: Wish) -> None:
        """Ask, and judge the answer."""
        who = self.chance.choice(self.people)
        path, before = "/holds" if wish.as_hold else "/bookings", datetime.now(UTC)
        answer = await self.api.post(path, who, json=self.body(wish))
        reasons = self.facts.reasons(str(who.id), wish, (before, datetime.now(UTC)))
        if answer.status_code == 201:
            self.seen["201"] = self.seen.get("201", 0) + 1
            assert not reasons, f"{wish} was had in spite of {reasons}"
            self._had(who, wish, made(answer, "hold" if wish.as_hold else "booking"))
            return
        self.seen[code(answer)] = self.seen.get(code(answer), 0) + 1
        self.judge(answer, reasons, wish)
        await self._try_alternatives(answer, wish)

    def judge(self, answer: httpx.Response, reasons: list[Reason], wish: Wish) -> None:
        details = dict(answer.json()["error"].get("details") or {})
        if wish.slots and "alternatives" in details:
            details["alternatives"] = [one["id"] for one in details["alternatives"]]
        elif "alternatives" in details:
            # Which ones is the service's choice: as many as were asked for, all free.
            others = details.pop("alternatives")
            free = self.facts.free_seats(self.facts.places[str(wish.event)])
            assert len(others) == (len(wish.labels) if len(free) >= len(wish.labels) else 0)
            assert set(others) <= set(free)
        told = any(reason.is_told_by(code(answer), details) for reason in reasons)
        assert told, f"{wish}: {code(answer)} {details} is none of {reasons}"

    async def _try_alternatives(self, answer: httpx.Response, wish: Wish) -> None:
        """What is offered instead can be had, by anybody without limits of their own: taken, and given back."""
        others = (answer.json()["error"].get("details") or {}).get("alternatives")
        if not others or self.chance.random() < 0.7:
            return
        body = {"slotId": self.chance.choice(others)["id"]} if wish.slots else {"eventId": wish.event, "seats": others}
        fresh = await self.api.person()
        hold = made(await self.api.post("/holds", fresh, json=body), "hold")
        assert (await self.api.send("DELETE", f"/holds/{hold['token']}", fresh)).status_code == 204

    def _had(self, who: Person, wish: Wish, shape: dict[str, Any]) -> None:
        units = wish.slots
        if wish.event is not None:
            free = self.facts.free_seats(self.facts.places[wish.event])
            units = tuple((wish.event, label) for label in shape["seats"])
            assert {label for _, label in units} <= set(free)
            assert len(units) == (len(wish.labels) or wish.quantity)
        expires = datetime.fromisoformat(shape["expiresAt"]) if wish.as_hold else None
        thing = Thing(shape["token"] if wish.as_hold else shape["id"], str(who.id), units, expires)
        self.facts.things[thing.id] = thing

    async def read(self, place: Place, day: date) -> None:
        """A list of slots says of each whether it is free, whose it is, and why not."""
        who, before = self.chance.choice(self.people), datetime.now(UTC)
        shown = await self._slots(place, day, who)
        now = (before, datetime.now(UTC))
        assert [one["id"] for one in shown] == [one.id for one in place.slots.values() if place.day_of(one.start) == day]
        for one in shown:
            slot = place.slots[one["id"]]
            whys = self.facts.why(place, slot, now)
            things = self.facts.in_the_way(place, slot)[1]
            assert one["status"] in self.facts.statuses(place, slot, now)
            assert one["mine"] == any(thing.user == str(who.id) for thing in things)
            assert (one["why"] is None) == (not whys), f"{one} is not explained by {whys}"
            assert one["why"] is None or any(why == one["why"] for why in whys), f"{one} is none of {whys}"


async def go_through(world: World) -> None:
    """Make it, ask for much, and read what is shown."""
    await world.make()
    for _ in range(REQUESTS):
        await world.ask(world.wish())
    for place in world.facts.places.values():
        if place.slots:
            for day in DATES:
                await world.read(place, day)


#: What was never refused for was never judged: each of these comes up in some world.
CODES = {
    "INVALID_REQUEST",
    "TOO_SOON",
    "TOO_FAR_AHEAD",
    "CLOSED",
    "SLOT_ALREADY_BOOKED",
    "OWN_SLOT",
    "TOO_MANY_BOOKINGS",
    "ALREADY_BOOKED_HERE",
    "OVERLAPS_YOUR_BOOKING",
    "NOT_ON_SALE",
    "SEATS_TAKEN",
    "SEATS_NOT_FOUND",
}


async def test_every_reason_that_is_given_is_true_and_what_is_offered_instead_can_be_had(api: Api, admin: Person) -> None:
    seen: set[str] = set()
    for seed in range(WORLDS):
        world = World(api, admin, random.Random(seed))
        try:
            await go_through(world)
        except AssertionError as error:
            raise AssertionError(f"world {seed}: {error}") from error
        assert world.seen["201"] > 5
        seen |= set(world.seen)
    assert seen >= CODES, CODES - seen


async def test_who_holds_much_is_told_how_much(api: Api, admin: Person) -> None:
    """Ten slots at most: too many for the worlds above to come to often."""
    world = World(api, admin, random.Random(1))
    world.people = await api.people(1)
    await world._room()
    (place,) = world.facts.places.values()
    slots = [(place.id, slot.id) for slot in place.slots.values() if place.day_of(slot.start) in DATES[2:]]
    for number in range(12):
        await world.ask(Wish(slots=(slots[number],), as_hold=True))
    assert world.seen == {"201": 10, "TOO_MANY_HOLDS": 2}


def _off_by_one(original: Any) -> Any:
    def told(*arguments: Any, **keywords: Any) -> Any:
        broken = original(*arguments, **keywords)
        return broken and {**broken, "value": broken.get("value", 0) + 1}

    return told


@pytest.mark.parametrize(
    "mutation",
    [
        lambda patch: patch.setattr(deciding, "broken_time_rule", _off_by_one(policies.broken_time_rule)),
        lambda patch: patch.setattr(SlotTaken, "code", "CLOSED"),
        lambda patch: patch.setattr(deciding, "free_of", lambda slots, *_taken: [True] * len(slots)),
        lambda patch: patch.setattr(deciding, "check_limits", lambda *_arguments, **_keywords: None),
        lambda patch: patch.setattr(deciding, "instant_text", lambda instant: text(instant + timedelta(minutes=1))),
    ],
    ids=["another value", "another code", "alternatives that are taken", "no limits", "another next time"],
)
async def test_a_wrong_reason_is_noticed(mutation: Any, api: Api, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)

    async def all_of_them() -> None:
        for seed in range(WORLDS):
            await go_through(World(api, admin, random.Random(seed)))

    with pytest.raises(AssertionError):
        await all_of_them()
