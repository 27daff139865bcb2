"""Demo data, made through the use cases, so that it is as real as anything that users make."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from holdfast import outbox
from holdfast.accounts.errors import EmailTaken
from holdfast.accounts.rules import User
from holdfast.accounts.service import add_user
from holdfast.adapters.conferencing import MockProvider
from holdfast.bookings.rules import BySlotIds
from holdfast.bookings.service import Context, NewBooking, Place, add_seats, book, close
from holdfast.core.callers import SYSTEM, Caller
from holdfast.core.errors import Conflict
from holdfast.core.schedules import Window
from holdfast.core.security import Passwords
from holdfast.core.together import Together
from holdfast.db.database import Database
from holdfast.events.rules import seats_of_count, seats_of_sections
from holdfast.events.service import create_event
from holdfast.hosts.service import become_host, publish_slots
from holdfast.hosts.service import put_schedule as put_host_schedule
from holdfast.idempotency import Once
from holdfast.resources.rules import SlotRange, make_schedule
from holdfast.resources.service import list_slots
from holdfast.rooms.errors import RoomNotFound
from holdfast.rooms.rules import Room
from holdfast.rooms.service import create_room, list_rooms, put_schedule
from holdfast.web.errors import refusal_answer

#: The demo log-ins' password: good for a demo on loopback, which is what development is.
DEMO_PASSWORD = "holdfast"  # noqa: S105 - well known on purpose
_PEOPLE = (
    ("admin@example.com", "admin", "Ada Admin"),
    ("anna@example.com", "user", "Anna Arends"),
    ("ben@example.com", "user", "Ben Bakker"),
    ("chloe@example.com", "user", "Chloé Costa"),
)
_WORKDAYS, _EVERY_DAY = (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6, 7)
_ROOMS: tuple[tuple[dict[str, Any], int, tuple[Window, ...]], ...] = (
    (
        {
            "name": "Blue room",
            "description": "Quiet, with a view of the yard.",
            "capacity": 8,
            "time_zone": "Europe/Berlin",
            "location": "Berlin, 2nd floor",
            "features": ["screen", "whiteboard"],
        },
        30,
        (Window(_WORKDAYS, 9 * 60, 18 * 60),),
    ),
    (
        {
            "name": "Board room",
            "description": "For large rounds; hour by hour, with a break at noon.",
            "capacity": 20,
            "time_zone": "America/New_York",
            "location": "New York, 31st floor",
            "features": ["screen", "video", "whiteboard"],
            "policy": {"maxActivePerUser": 5, "cancelNoticeMinutes": 60, "maxDaysAhead": 90},
        },
        60,
        (Window(_WORKDAYS, 8 * 60, 12 * 60), Window(_WORKDAYS, 13 * 60, 18 * 60)),
    ),
    (
        {
            "name": "Phone booth",
            "capacity": 1,
            "kind": "booth",
            "time_zone": "Asia/Tokyo",
            "location": "Tokyo, lobby",
            "features": ["soundproof"],
            "policy": {"overlapsAllowed": False},
        },
        15,
        (Window(_EVERY_DAY, 0, 24 * 60),),
    ),
    (
        {
            "name": "Service bay 1",
            "description": "One car at a time.",
            "capacity": 1,
            "kind": "bay",
            "time_zone": "Europe/Berlin",
            "location": "Garage, gate A",
            "features": ["lift"],
        },
        60,
        (Window(_WORKDAYS, 9 * 60, 17 * 60),),
    ),
    (
        {"name": "Desk 12", "capacity": 1, "kind": "desk", "time_zone": "UTC", "location": "Open space"},
        240,
        (Window(_EVERY_DAY, 8 * 60, 20 * 60),),
    ),
)


def _once() -> Once:
    return Once(None, shape_refusal=lambda refusal: refusal_answer(refusal, instance="/"))


async def seed(db: Database, *, now: datetime, told: Callable[[str], None], bcrypt_cost: int = 10) -> bool:
    """Fill an empty database with rooms, schedules, people and bookings; False where rooms are there already."""
    rooms, _ = await list_rooms(db, limit=1)
    if rooms:
        return False
    passwords = Passwords(cost=bcrypt_cost)
    try:
        people = await _add_people(db, passwords)
    finally:
        passwords.close()
    told(f"{len(people)} people")
    made = []
    for values, minutes, windows in _ROOMS:
        room = await create_room(db, values=values, by=SYSTEM, once=_once())
        await put_schedule(
            db,
            room_id=room.id,
            schedule=make_schedule(minutes, windows),
            if_match=None,
            by=SYSTEM,
            once=_once(),
        )
        made.append(room)
    told(f"{len(made)} rooms with schedules")
    booked = 0
    for number, room in enumerate(made):
        for person in people:
            booked += await _book_some(db, room, person, now=now, skip=number)
    told(f"{booked} bookings")
    start = (now + timedelta(days=14)).replace(minute=0, second=0, microsecond=0)
    await close(
        db,
        place=Place("room", made[0].id),
        start=start,
        end=start + timedelta(hours=4),
        reason="Painting",
        cancel_bookings=True,
        now=now,
        by=SYSTEM,
        once=_once(),
    )
    told("1 closure")
    await _offer_time(db, people[0], now=now)
    told("1 host")
    await _sell_seats(db, now=now)
    told("2 events")
    # Nobody is written to about what only seems to have happened.
    while await outbox.relay(db, ()):
        pass
    return True


async def _offer_time(db: Database, person: User, *, now: datetime) -> None:
    """A host with office hours, and two slots that she published by hand."""
    caller = Caller(person.id, "user")
    values = {"name": person.name or person.email, "time_zone": "Europe/Berlin", "bio": "Ask me about contracts."}
    host = await become_host(db, values=values, by=caller, once=_once())
    schedule = make_schedule(30, [Window((2, 4), 14 * 60, 16 * 60)])
    await put_host_schedule(db, host_id=host.id, schedule=schedule, if_match=None, by=caller, once=_once())
    start = (now + timedelta(days=3)).replace(hour=7, minute=0, second=0, microsecond=0)
    slots = [(start, start + timedelta(minutes=45)), (start + timedelta(hours=1), start + timedelta(minutes=105))]
    await publish_slots(db, slots=slots, now=now, by=caller, once=_once())


async def _sell_seats(db: Database, *, now: datetime) -> None:
    """A concert with numbered seats, and a talk with a plain number of places."""
    start = (now + timedelta(days=30)).replace(hour=18, minute=0, second=0, microsecond=0)
    concert = {"name": "Concert", "venue": "Town hall", "start_at": start, "end_at": start + timedelta(hours=3)}
    event = await create_event(db, values={**concert, "time_zone": "Europe/Berlin"}, by=SYSTEM, once=_once())
    stalls = ("Stalls", [(row, 20) for row in "ABCDEFGH"])
    balcony = ("Balcony", [(row, 12) for row in "AB"])
    await add_seats(db, event_id=event.id, seats=seats_of_sections([stalls, balcony]), now=now, by=SYSTEM, once=_once())
    talk = {"name": "Talk: claims, not locks", "venue": "Room 101", "time_zone": "UTC", "start_at": start - timedelta(days=10)}
    event = await create_event(db, values=talk, by=SYSTEM, once=_once())
    await add_seats(db, event_id=event.id, seats=seats_of_count(30), now=now, by=SYSTEM, once=_once())


async def _add_people(db: Database, passwords: Passwords) -> list[User]:
    people = []
    for email, role, name in _PEOPLE:
        try:
            user = await add_user(db, passwords, email=email, password=DEMO_PASSWORD, role=role, name=name, by=SYSTEM)
        except EmailTaken:
            continue
        if role == "user":
            people.append(user)
    return people


async def _book_some(db: Database, room: Room, person: User, *, now: datetime, skip: int) -> int:
    """Two of the next days' slots, spread so that people and rooms do not line up."""
    wanted = SlotRange(period=(now + timedelta(hours=2), now + timedelta(days=5)))
    states = await list_slots(db, kind="room", resource_id=room.id, wanted=wanted, user_id=None, now=now, refusal=RoomNotFound)
    free = [state.slot for state in states if state.status == "free"]
    booked = 0
    for slot in free[skip + 1 :: max(1, len(free) // 2)][:2]:
        request = NewBooking(person.id, BySlotIds((slot.id,)), title=f"{person.name}'s meeting")
        caller = Caller(person.id, "user")
        try:
            await book(Context(db, MockProvider(), Together()), wanted=request, now=now, by=caller, once=_once())
        except Conflict:
            continue
        booked += 1
    return booked
