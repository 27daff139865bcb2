"""A database with a lively mix of everything: every kind of thing in every state that it can be in, made through the API."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from holdfast.bookings.service import settle_all
from support.api import Api, Person, code, tomorrow

#: Whoever comes to a week ahead finds the same weekday, so the fixed hours below are slots in every room.
DAY, OTHER_DAY = tomorrow(3), tomorrow(4)


async def move_end(api: Api, token: str, seconds: float) -> None:
    """Time cannot be waited for: a hold's end, so many seconds from now by the database's clock, where it is stored."""
    await api.db.fetch(
        "WITH moved AS (UPDATE holds SET expires_at = clock_timestamp() + $2 * interval '1 second' WHERE id = $1 "
        "RETURNING id, expires_at) UPDATE claims SET expires_at = moved.expires_at FROM moved WHERE hold_id = moved.id",
        UUID(token),
        seconds,
    )


def made(answer: httpx.Response, shape: str, status: int = 201) -> dict[str, Any]:
    """What was made, which must have been."""
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()[shape]
    return found


def listed(answer: httpx.Response, shape: str, status: int = 200) -> list[dict[str, Any]]:
    """The things of a list."""
    assert answer.status_code == status, answer.text
    found: list[dict[str, Any]] = answer.json()[shape]
    return found


@dataclass
class Everything:
    """Makes the mix; each part by itself is as people would do it."""

    api: Api
    admin: Person

    async def make(self) -> None:
        """All of it. Names of rooms and events say what they are there for."""
        await self.rooms()
        await self.holds()
        await self.series()
        await self.hosts()
        await self.events()
        await self.lines()
        await self.limits()
        await self.comings_and_goings()
        await self.outward()
        await settle_all(self.api.db)

    async def person(self) -> Person:
        return await self.api.person()

    async def slots(self, room: dict[str, Any], day: str = DAY) -> list[dict[str, Any]]:
        return await self.api.slots(self.admin, room, day)

    async def book(self, who: Person, **body: Any) -> dict[str, Any]:
        return made(await self.api.post("/bookings", who, json=body), "booking")

    async def hold(self, who: Person, **body: Any) -> dict[str, Any]:
        return made(await self.api.post("/holds", who, json=body), "hold")

    async def join(self, who: Person, **body: Any) -> dict[str, Any]:
        return made(await self.api.post("/waitlist", who, json=body), "entry")

    async def cancel(self, who: Person, booking: dict[str, Any]) -> None:
        made(await self.api.post(f"/bookings/{booking['id']}/cancel", who), "booking", 200)

    async def event(self, name: str, *labels: str, **fields: Any) -> dict[str, Any]:
        body = {"name": name, "start": f"{OTHER_DAY}T18:00:00Z", "end": f"{OTHER_DAY}T20:00:00Z", **fields}
        event = made(await self.api.post("/events", self.admin, json=body), "event")
        if labels:
            added = await self.api.post(f"/events/{event['id']}/seats", self.admin, json={"seats": list(labels)})
            assert added.status_code == 201, added.text
        return event

    async def rooms(self) -> None:
        """Bookings of every sort, kept under keys, moved, renamed, cancelled and long ago; closures."""
        room, other = await self.api.room(self.admin, name="Plain"), await self.api.room(self.admin, name="Other")
        slots, others = await self.slots(room), await self.slots(other)
        anna, ben = await self.person(), await self.person()
        for key in ("one", "two"):
            slot = slots.pop(0)
            answer = await self.api.book(anna, slot, headers={"Idempotency-Key": key})
            assert (answer.status_code, (await self.api.book(anna, slot, headers={"Idempotency-Key": key})).status_code) == (
                201,
                201,
            )
        assert (await self.api.book(ben, (await self.slots(room))[0], json={"createConferenceLink": True})).status_code == 201
        await self.book(ben, slotIds=[slots[2]["id"], slots[3]["id"], others[0]["id"]])
        moved = await self.book(ben, slotId=slots[5]["id"])
        body = {"slotId": others[5]["id"]}
        made(await self.api.post(f"/bookings/{moved['id']}/reschedule", ben, json=body), "booking", 200)
        made(await self.api.send("PATCH", f"/bookings/{moved['id']}", ben, json={"title": "Renamed"}), "booking", 200)
        await self.cancel(anna, await self.book(anna, slotId=slots[6]["id"]))
        refused = await self.api.post("/bookings", anna, json={"slotId": slots[2]["id"]}, headers={"Idempotency-Key": "no"})
        assert code(refused) == "SLOT_ALREADY_BOOKED"
        past = await self.book(anna, slotId=slots[7]["id"])
        during = "tstzrange(lower(during) - interval '90 days', upper(during) - interval '90 days')"
        for statement in (
            (
                "UPDATE bookings SET start_at = start_at - interval '90 days', end_at = end_at - interval '90 days', "
                "created_at = created_at - interval '91 days' WHERE id = $1"
            ),
            f"UPDATE booking_units SET during = {during} WHERE booking_id = $1",
            f"UPDATE claims SET during = {during} WHERE booking_id = $1",
        ):
            await self.api.db.fetch(statement, UUID(past["id"]))
        path = f"/rooms/{room['id']}/closures"
        await self.close(path, slots[9]["start"], slots[10]["end"])
        gone = await self.close(path, f"{OTHER_DAY}T09:00:00Z", f"{OTHER_DAY}T10:00:00Z")
        assert (await self.api.send("DELETE", f"{path}/{gone['id']}", self.admin)).status_code == 204
        await self.book(ben, slotId=others[9]["id"])
        await self.close(f"/rooms/{other['id']}/closures", others[8]["start"], others[10]["end"], cancelBookings=True)

    async def close(self, path: str, start: str, end: str, **fields: Any) -> dict[str, Any]:
        return made(await self.api.post(path, self.admin, json={"start": start, "end": end, **fields}), "closure")

    async def holds(self) -> None:
        """Holds that live, were extended, released, booked, lapsed and tidied up, and lapsed a moment ago."""
        room = await self.api.room(self.admin, name="Held")
        slots = await self.slots(room)
        user = await self.person()
        await self.hold(user, slotIds=[slots[0]["id"], slots[1]["id"]])
        extended = await self.hold(user, slotId=slots[2]["id"])
        made(await self.api.post(f"/holds/{extended['token']}/extend", user), "hold", 200)
        released = await self.hold(user, slotId=slots[3]["id"])
        assert (await self.api.send("DELETE", f"/holds/{released['token']}", user)).status_code == 204
        kept = await self.api.post("/holds", user, json={"slotId": slots[4]["id"]}, headers={"Idempotency-Key": "hold"})
        await self.book(user, holdToken=made(kept, "hold")["token"])
        for number in (5, 6):
            await move_end(self.api, (await self.hold(user, slotId=slots[number]["id"]))["token"], -1)
            if number == 5:
                await settle_all(self.api.db)

    async def series(self) -> None:
        """A series with one that was cancelled, one that was moved, one that was left out."""
        room = await self.api.room(self.admin, name="Series")
        user, other = await self.person(), await self.person()
        slots = await self.slots(room, OTHER_DAY)
        await self.book(other, slotId=slots[0]["id"])
        body = {
            "roomId": room["id"],
            "start": f"{DAY}T09:00:00Z",
            "end": f"{DAY}T09:30:00Z",
            "recurrence": "FREQ=DAILY;COUNT=5",
            "onConflict": "skip",
        }
        answer = await self.api.post("/bookings/series", user, json=body)
        assert answer.status_code == 201, answer.text
        bookings = answer.json()["bookings"]
        assert len(bookings) == 4
        await self.cancel(user, bookings[1])
        other_time = {"slotId": slots[4]["id"]}
        made(await self.api.post(f"/bookings/{bookings[2]['id']}/reschedule", user, json=other_time), "booking", 200)

    async def hosts(self) -> None:
        """Published slots that are free, booked, deleted and waited for; a schedule, a closure, a host who is gone."""
        host, guest, second = await self.person(), await self.person(), await self.person()
        profile = made(await self.api.post("/hosts", host, json={"displayName": "Ada"}), "host")
        hours = [{"start": f"{DAY}T{hour:02d}:00:00Z", "end": f"{DAY}T{hour + 1:02d}:00:00Z"} for hour in range(9, 14)]
        published = (await self.api.post("/slots", host, json={"slots": hours})).json()["slots"]
        booking = await self.book(guest, slotId=published[0]["id"])
        await self.cancel(guest, booking)
        await self.book(guest, slotId=published[1]["id"])
        await self.join(second, slotId=published[1]["id"])
        assert (await self.api.send("DELETE", f"/slots/{published[0]['id']}", host)).status_code == 204
        await self.close(f"/hosts/{profile['id']}/closures", published[4]["start"], published[4]["end"])
        goes, left = await self.person(), await self.person()
        made(await self.api.post("/hosts", goes, json={"displayName": "Gone"}), "host")
        slots = (await self.api.post("/slots", goes, json={"slots": hours})).json()["slots"]
        await self.book(left, slotId=slots[0]["id"])
        await self.hold(guest, slotId=slots[1]["id"])
        assert (await self.api.send("DELETE", "/users/me", goes)).status_code == 204

    async def events(self) -> None:
        """Seats that are free, booked, held, blocked and unblocked; an event that was moved, one without an end, one archived."""
        event = await self.event("Talk", "A-1", "A-2", "A-3", "A-4", "A-5", "A-6")
        user, other = await self.person(), await self.person()
        await self.book(user, eventId=event["id"], seats=["A-1", "A-2"])
        await self.hold(other, eventId=event["id"], quantity=2)
        for blocked in (["A-5", "A-6"],):
            body = {"labels": blocked, "blocked": True}
            assert (await self.api.send("PATCH", f"/events/{event['id']}/seats", self.admin, json=body)).status_code == 200
        body = {"labels": ["A-6"], "blocked": False}
        assert (await self.api.send("PATCH", f"/events/{event['id']}/seats", self.admin, json=body)).status_code == 200
        moved = await self.event("Moved", "A-1", "A-2")
        await self.book(user, eventId=moved["id"], quantity=1)
        body = {"start": f"{tomorrow(6)}T18:00:00Z", "end": None}
        made(await self.api.send("PATCH", f"/events/{moved['id']}", self.admin, json=body), "event", 200)
        await self.book(other, eventId=moved["id"], quantity=1)
        archived = await self.event("Archived", "A-1")
        await self.join_full(archived)
        assert (await self.api.send("DELETE", f"/events/{archived['id']}", self.admin)).status_code == 204

    async def join_full(self, event: dict[str, Any]) -> None:
        """Somebody waits for more than there is, and for what was released again."""
        taker, waits = await self.person(), await self.person()
        booking = await self.book(taker, eventId=event["id"], quantity=1)
        await self.join(waits, eventId=event["id"], quantity=2)
        await self.cancel(taker, booking)

    async def lines(self) -> None:
        """Every end of a wait, and those that have not ended: for seats, and for a slot."""
        event = await self.event("Full", "A-1", "A-2", "A-3")
        taker, *people = await self.api.people(7)
        bookings = [await self.book(taker, eventId=event["id"], seats=[label]) for label in ("A-1", "A-2", "A-3")]
        entries = [await self.join(who, eventId=event["id"], autoBook=who is people[1]) for who in people[:4]]
        await self.join(people[4], eventId=event["id"], quantity=2)
        assert (await self.api.send("DELETE", f"/waitlist/{entries[3]['id']}", people[3])).status_code == 204
        for booking in bookings[:2]:
            await self.cancel(taker, booking)
        offer = (await self.api.get(f"/waitlist/{entries[0]['id']}", people[0])).json()["entry"]
        await move_end(self.api, offer["holdToken"], -1)
        await settle_all(self.api.db)
        last = (await self.api.get(f"/waitlist/{entries[2]['id']}", people[2])).json()["entry"]
        assert last["status"] == "offered"
        room = await self.api.room(self.admin, name="Awaited")
        slots = await self.slots(room)
        for slot in slots[:3]:
            await self.book(taker, slotId=slot["id"])
        booking = await self.book(taker, slotId=slots[3]["id"])
        await self.join(people[5], slotId=slots[0]["id"])
        offered = await self.join(people[5], slotId=slots[3]["id"])
        await self.cancel(taker, booking)
        token = (await self.api.get(f"/waitlist/{offered['id']}", people[5])).json()["entry"]["holdToken"]
        await self.book(people[5], holdToken=token)
        await self.hold(taker, slotId=slots[5]["id"])
        await self.join(people[5], slotId=slots[5]["id"])

    async def limits(self) -> None:
        """Users at their limits, above those of others' rooms, and in line for what a limit keeps them from."""
        two = await self.api.room(self.admin, name="Two", policy={"maxActivePerUser": 2})
        here = await self.api.room(self.admin, name="Here", policy={"maxActivePerUserHere": 1})
        alone = await self.api.room(self.admin, name="Alone", policy={"overlapsAllowed": False})
        beside = await self.api.room(self.admin, name="Beside", policy={"overlapsAllowed": False})
        plain = await self.api.room(self.admin, name="Unlimited")
        user, other = await self.person(), await self.person()
        for slot in (await self.slots(two))[:2]:
            await self.book(user, slotId=slot["id"])
        assert code(await self.api.book(user, (await self.slots(two))[3])) == "TOO_MANY_BOOKINGS"
        # Not bound by the other room's rule, and then at one time with what minds, which was there before.
        slots = await self.slots(alone)
        await self.book(user, slotId=(await self.slots(here))[5]["id"])
        await self.book(user, slotId=slots[6]["id"])
        await self.book(user, slotId=(await self.slots(plain))[6]["id"])
        assert code(await self.api.book(user, (await self.slots(beside))[6])) == "OVERLAPS_YOUR_BOOKING"
        taken = await self.book(other, slotId=(await self.slots(two))[0]["id"])
        entry = await self.join(user, slotId=taken["slotId"])
        await self.cancel(other, taken)
        assert (await self.api.get(f"/waitlist/{entry['id']}", user)).json()["entry"]["status"] == "waiting"
        raised = await self.api.room(self.admin, name="Raised", policy={"maxActivePerUserHere": 1})
        await self.book(other, slotId=(await self.slots(raised))[0]["id"])
        body = {"policy": {"maxActivePerUserHere": 2}}
        made(await self.api.send("PATCH", f"/rooms/{raised['id']}", self.admin, json=body), "room", 200)
        await self.book(other, slotId=(await self.slots(raised))[0]["id"])

    async def comings_and_goings(self) -> None:
        """A fair queue, deleted and suspended users, a room that is archived, a schedule that leaves somebody's slot out."""
        fair = await self.api.room(self.admin, name="Fair", policy={"fairQueue": True, "maxActivePerUserHere": 2})
        slots = await self.slots(fair)
        user, third, goes, suspended, waits = await self.api.people(5)
        await self.book(user, slotId=slots[0]["id"])
        assert code(await self.api.book(goes, slots[0])) == "SLOT_ALREADY_BOOKED"
        later = await self.api.post("/bookings", user, json={"slotId": slots[1]["id"]}, headers={"Prefer": "respond-async"})
        assert later.status_code in {201, 202}, later.text
        assert code(await self.api.book(user, slots[5])) == "ALREADY_BOOKED_HERE"
        await self.book(goes, slotId=slots[2]["id"])
        await self.hold(goes, slotId=slots[3]["id"])
        await self.join(goes, slotId=slots[0]["id"])
        assert (await self.api.send("DELETE", "/users/me", goes)).status_code == 204
        booking = await self.book(third, slotId=slots[4]["id"])
        await self.join(suspended, slotId=slots[4]["id"])
        body = {"status": "suspended"}
        made(await self.api.send("PATCH", f"/users/{suspended.id}", self.admin, json=body), "user", 200)
        await self.cancel(third, booking)
        closed = await self.api.room(self.admin, name="Closed down")
        await self.cancel(user, await self.book(user, slotId=(await self.slots(closed))[0]["id"]))
        assert (await self.api.send("DELETE", f"/rooms/{closed['id']}", self.admin)).status_code == 204
        shorter = await self.api.room(self.admin, name="Shorter")
        slot = (await self.slots(shorter))[0]
        booking = await self.book(user, slotId=slot["id"])
        await self.join(waits, slotId=slot["id"])
        window = {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "12:00", "endTime": "17:00"}
        assert (await self.api.send("PUT", f"/rooms/{shorter['id']}/schedule", self.admin, json=window)).status_code == 200
        await self.cancel(user, booking)

    async def outward(self) -> None:
        """API keys that are good and over, calendar feeds, webhooks with what they were sent, a forgotten password."""
        user, keys = await self.person(), "/api-keys"
        made(await self.api.post(keys, user, json={"name": "Wall", "scopes": ["read"]}), "apiKey")
        made(await self.api.post(keys, user, json={"name": "Until then", "expiresAt": "2999-01-01T00:00:00Z"}), "apiKey")
        gone = made(await self.api.post(keys, user, json={"name": "Gone"}), "apiKey")
        assert (await self.api.send("DELETE", f"{keys}/{gone['id']}", user)).status_code == 204
        room = await self.api.room(self.admin, name="With a calendar")
        made(await self.api.post("/calendar-feeds", user), "feed")
        made(await self.api.post("/calendar-feeds", self.admin, json={"roomId": room["id"]}), "feed")
        ended = made(await self.api.post("/calendar-feeds", user), "feed")
        assert (await self.api.send("DELETE", f"/calendar-feeds/{ended['id']}", user)).status_code == 204
        for fields in ({"types": ["booking.created"]}, {"enabled": False}):
            hook = made(
                await self.api.post("/webhooks", self.admin, json={"url": "https://hooks.example.com", **fields}), "webhook"
            )
            made(await self.api.post(f"/webhooks/{hook['id']}/test", self.admin), "delivery", 202)
        made(await self.api.post(f"/webhooks/{hook['id']}/rotate-secret", self.admin), "webhook", 200)
        email = {"email": f"{user.id}@example.com"}
        assert (await self.api.post("/auth/password-reset", json=email)).status_code == 202
        assert (await self.api.post("/auth/ticket", user)).status_code == 200


async def everything(api: Api, admin: Person) -> None:
    """Make the mix."""
    await Everything(api, admin).make()
