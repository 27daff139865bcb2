"""Calendar feeds, free/busy and a booking's file over the API, read back by an independent parser."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
import vobject

from holdfast.core.clock import parse_instant
from support.api import Api, Person, code, tomorrow


async def feed_of(api: Api, who: Person, **body: Any) -> dict[str, Any]:
    """A new feed: its answer, with the paths of both addresses."""
    made = await api.post("/calendar-feeds", who, json=body)
    assert made.status_code == 201, made.text
    answer: dict[str, Any] = made.json()
    assert made.headers["location"] == f"/calendar-feeds/{answer['feed']['id']}"
    return {**answer, "path": urlsplit(answer["url"]).path, "busy": urlsplit(answer["freeBusyUrl"]).path}


async def events(api: Api, path: str, who: Person | None = None) -> dict[str, Any]:
    """The entries of a calendar by their booking's id."""
    answer = await api.get(path, who)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    assert all(len(line) <= 75 for line in answer.content.split(b"\r\n"))
    calendar = vobject.readOne(answer.text)
    assert calendar.method.value == "PUBLISH"
    return {one.uid.value.removesuffix("@holdfast"): one for one in calendar.contents.get("vevent", [])}


async def busy(api: Api, path: str) -> list[tuple[datetime, datetime]]:
    answer = await api.get(path)
    assert answer.status_code == 200, answer.text
    component = vobject.readOne(answer.text).vfreebusy
    assert set(component.contents) <= {"uid", "dtstamp", "dtstart", "dtend", "organizer", "freebusy"}
    return [period for line in component.contents.get("freebusy", []) for period in line.value]


def times(thing: dict[str, Any]) -> tuple[datetime, datetime]:
    return parse_instant(thing["start"]), parse_instant(thing["end"])


async def cancel(api: Api, who: Person, booking: dict[str, Any]) -> None:
    assert (await api.post(f"/bookings/{booking['id']}/cancel", who)).status_code == 200


async def test_sequence_rises_with_each_change_and_is_the_same_everywhere(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin, name="Blue room", location="Berlin")
    slots = await api.slots(user, room)
    booking = await api.booked(user, slots[0])
    feed = await feed_of(api, user)

    async def seen(sequence: int) -> Any:
        (own,) = (await events(api, feed["path"])).values()
        (file,) = (await events(api, f"/bookings/{booking['id']}/calendar.ics", user)).values()
        for one in (own, file):
            assert one.uid.value == f"{booking['id']}@holdfast"
            assert one.sequence.value == str(sequence)
        assert own.serialize() == file.serialize()
        return own

    first = await seen(0)
    assert (first.dtstart.value, first.dtend.value) == times(booking)
    assert first.summary.value == "Blue room"
    assert first.location.value == "Blue room, Berlin"
    await api.send("PATCH", f"/bookings/{booking['id']}", user, json={"title": "Review", "notes": "Bring the plan"})
    second = await seen(1)
    assert (second.summary.value, second.description.value) == ("Review", "Bring the plan")
    assert second.dtstamp.value >= first.dtstamp.value
    assert second.contents["last-modified"][0].value == second.dtstamp.value
    moved = await api.post(f"/bookings/{booking['id']}/reschedule", user, json={"slotId": slots[3]["id"]})
    third = await seen(2)
    assert (third.dtstart.value, third.dtend.value) == times(moved.json()["booking"])
    await cancel(api, user, booking)
    assert (await seen(3)).status.value == "CANCELLED"


async def test_a_file_is_for_its_owner_its_host_and_admins(api: Api, admin: Person, user: Person) -> None:
    host = await api.person()
    await api.post("/hosts", host, json={"displayName": "Ada"})
    slot = (await api.post("/slots", host, json={"start": f"{tomorrow()}T09:00:00Z", "end": f"{tomorrow()}T10:00:00Z"})).json()
    booking = await api.booked(user, slot["slot"], title="Talk", notes="About the plan")
    path = f"/bookings/{booking['id']}/calendar.ics"
    for who, summary in ((user, "Talk"), (host, "Guest: Talk"), (admin, "Talk")):
        (event,) = (await events(api, path, who)).values()
        assert (event.summary.value, event.description.value) == (summary, "About the plan")
    answer = await api.get(path, user)
    assert answer.headers["content-disposition"] == f'attachment; filename="booking-{booking["id"]}.ics"'
    assert (await api.get(path, await api.person())).status_code == 403
    assert (await api.get(path)).status_code == 401
    assert (await api.get(f"/bookings/{UUID(int=5)}/calendar.ics", user)).status_code == 404
    assert (await api.get("/bookings/x/calendar.ics", user)).status_code == 400
    # The host's own calendar has it too.
    assert set(await events(api, (await feed_of(api, host))["path"])) == {booking["id"]}


async def test_a_token_is_told_once_and_stored_as_a_hash(api: Api, user: Person) -> None:
    made = await feed_of(api, user)
    token = made["path"].removeprefix("/calendar/").removesuffix(".ics")
    assert len(token) >= 43
    assert made["busy"] == f"/calendar/{token}/freebusy.ics"
    (row,) = await api.db.fetch("SELECT hash FROM calendar_feeds")
    assert row["hash"] == hashlib.sha256(token.encode()).digest()
    listed = await api.get("/calendar-feeds", user)
    assert listed.json() == {"feeds": [made["feed"]]}
    stored = await api.db.fetch("SELECT outbox::text AS text FROM outbox UNION ALL SELECT k::text FROM idempotency_keys k")
    assert all(token not in one["text"] for one in stored)
    kept = {"Idempotency-Key": "feed-1"}
    twice = [await api.post("/calendar-feeds", user, headers=kept) for _ in range(2)]
    assert twice[0].json()["url"] != twice[1].json()["url"]
    assert (await api.get("/calendar-feeds", await api.person())).json() == {"feeds": []}


async def test_a_feed_ends_for_whoever_knows_its_address(api: Api, admin: Person, user: Person) -> None:
    paths = {}
    for name in ("deleted", "suspended", "gone", "demoted", "unknown"):
        owner = await api.person("admin" if name == "demoted" else "user")
        body = {"roomId": (await api.room(admin))["id"]} if name == "demoted" else {}
        made = await feed_of(api, owner, **body)
        paths[name] = (owner, made)
        assert (await api.get(made["path"])).status_code == (await api.get(made["busy"])).status_code == 200
    owner, made = paths["deleted"]
    path = f"/calendar-feeds/{made['feed']['id']}"
    assert (await api.send("DELETE", path, user)).status_code == 403
    assert (await api.send("DELETE", path, owner)).status_code == 204
    again = await api.send("DELETE", path, owner)
    assert (again.status_code, code(again)) == (404, "CALENDAR_FEED_NOT_FOUND")
    await api.send("PATCH", f"/users/{paths['suspended'][0].id}", admin, json={"status": "suspended"})
    await api.send("PATCH", f"/users/{paths['demoted'][0].id}", admin, json={"role": "user"})
    await api.send("DELETE", "/users/me", paths["gone"][0])
    paths["unknown"][1].update(path="/calendar/x.ics", busy="/calendar/x/freebusy.ics")
    answers = [await api.get(made[which]) for _, made in paths.values() for which in ("path", "busy")]
    assert {(answer.status_code, code(answer), answer.json()["detail"]) for answer in answers} == {
        (404, "CALENDAR_FEED_NOT_FOUND", "There is no such calendar feed.")
    }
    await api.send("PATCH", f"/users/{paths['suspended'][0].id}", admin, json={"status": "active"})
    assert (await api.get(paths["suspended"][1]["path"])).status_code == 200


async def test_a_rooms_feed_is_for_admins_and_says_no_more_than_titles(api: Api, admin: Person, user: Person) -> None:
    room, other = await api.room(admin, name="Blue room"), await api.room(admin)
    refused = await api.post("/calendar-feeds", user, json={"roomId": room["id"]})
    assert (refused.status_code, code(refused)) == (403, "FORBIDDEN")
    unknown = await api.post("/calendar-feeds", admin, json={"roomId": str(UUID(int=7))})
    assert (unknown.status_code, code(unknown)) == (404, "ROOM_NOT_FOUND")
    slots = await api.slots(user, room)
    titled = await api.booked(user, slots[0], title="Review", notes="secret", createConferenceLink=True)
    untitled = await api.booked(user, slots[1])
    await api.booked(user, (await api.slots(user, other))[0])
    made = await feed_of(api, admin, roomId=room["id"])
    assert made["feed"]["roomId"] == room["id"]
    seen = await events(api, made["path"])
    assert {id_: one.summary.value for id_, one in seen.items()} == {titled["id"]: "Review", untitled["id"]: "Booked"}
    assert "url" not in seen[titled["id"]].contents
    text = (await api.get(made["path"])).text
    assert "secret" not in text
    assert "@example.com" not in text


async def test_free_busy_is_merged_and_has_closures_and_holds(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    made = await feed_of(api, admin, roomId=room["id"])
    assert await busy(api, made["busy"]) == []
    await api.booked(user, slots[0], title="Review")
    await api.booked(user, slots[1])
    held = await api.post("/holds", user, json={"slotId": slots[2]["id"]})
    assert held.status_code == 201
    closing = {"start": slots[5]["start"], "end": slots[6]["end"], "reason": "Painting"}
    assert (await api.post(f"/rooms/{room['id']}/closures", admin, json=closing)).status_code == 201
    assert await busy(api, made["busy"]) == [(times(slots[0])[0], times(slots[2])[1]), times(closing)]
    text = (await api.get(made["busy"])).text
    assert all(word not in text for word in ("Review", "Painting", "CLOSED", "SUMMARY"))
    # A hold that has lapsed takes nothing, though nobody has tidied up.
    await api.db.fetch("UPDATE claims SET expires_at = clock_timestamp() WHERE expires_at IS NOT NULL")
    assert (await busy(api, made["busy"]))[0] == (times(slots[0])[0], times(slots[1])[1])


async def test_a_persons_free_busy_is_their_bookings_and_their_guests(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    slots = await api.slots(user, room)
    kept, given_back = await api.booked(user, slots[0]), await api.booked(user, slots[4])
    await cancel(api, user, given_back)
    await api.post("/hosts", user, json={"displayName": "Ada"})
    day = tomorrow(3)
    published = await api.post("/slots", user, json={"start": f"{day}T09:00:00Z", "end": f"{day}T10:00:00Z"})
    guest = await api.person()
    talk = await api.booked(guest, published.json()["slot"])
    seat = {"name": "Concert", "start": f"{tomorrow(5)}T18:00:00Z", "end": f"{tomorrow(5)}T20:00:00Z"}
    event = (await api.post("/events", admin, json=seat)).json()["event"]
    await api.post(f"/events/{event['id']}/seats", admin, json={"count": 3})
    assert (await api.post("/bookings", user, json={"eventId": event["id"], "quantity": 2})).status_code == 201
    feed = await feed_of(api, user)
    assert await busy(api, feed["busy"]) == [times(kept), times(talk), times(seat)]
    assert await busy(api, (await feed_of(api, guest))["busy"]) == [times(talk)]
    seen = await events(api, feed["path"])
    assert seen[given_back["id"]].status.value == "CANCELLED"
    assert len(seen) == 4


async def test_what_has_not_changed_is_not_sent_again(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    feed = await feed_of(api, user)
    tags = set()
    for slot in (None, slots[0]):
        if slot is not None:
            await api.booked(user, slot)
        for path in (feed["path"], feed["busy"]):
            answer = await api.get(path)
            assert answer.headers["cache-control"] == "private, no-cache"
            tag = answer.headers["etag"]
            for known in (tag, f'"other", W/{tag}'):
                same = await api.get(path, headers={"If-None-Match": known})
                assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
            tags.add(tag)
    assert len(tags) == 4


async def test_a_moved_event_takes_its_bookings_calendars_along(api: Api, admin: Person, user: Person) -> None:
    body = {"name": "Concert", "venue": "Town hall", "start": f"{tomorrow(5)}T18:00:00Z"}
    event = (await api.post("/events", admin, json=body)).json()["event"]
    await api.post(f"/events/{event['id']}/seats", admin, json={"seats": ["A-1", "A-2"]})
    made = await api.post("/bookings", user, json={"eventId": event["id"], "seats": ["A-1", "A-2"]})
    booking = made.json()["booking"]
    feed = await feed_of(api, user)
    before = (await events(api, feed["path"]))[booking["id"]]
    assert "dtend" not in before.contents
    assert before.location.value == "Concert, Town hall, seats A-1, A-2"
    moved = {"start": f"{tomorrow(6)}T18:00:00Z", "end": f"{tomorrow(6)}T20:00:00Z"}
    assert (await api.send("PATCH", f"/events/{event['id']}", admin, json=moved)).status_code == 200
    after = (await events(api, feed["path"]))[booking["id"]]
    assert (before.sequence.value, after.sequence.value) == ("0", "1")
    assert (after.dtstart.value, after.dtend.value) == times(moved)


async def test_the_window_has_two_ends_and_what_was_cancelled_stays_a_month(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    bookings = [await api.booked(user, slot) for slot in slots[:5]]
    await cancel(api, user, bookings[3])
    await cancel(api, user, bookings[4])
    now = datetime.now(UTC)
    # Time cannot be waited for: what lies in the past, and far ahead, is moved there where it is stored.
    for booking, days in zip(bookings, (-89, -92, 402, -120, -120), strict=True):
        start = now + timedelta(days=days)
        await api.db.fetch(
            "UPDATE bookings SET start_at = $2, end_at = $3 WHERE id = $1", UUID(booking["id"]), start, start + timedelta(hours=1)
        )
    await api.db.fetch("UPDATE bookings SET cancelled_at = $2 WHERE id = $1", UUID(bookings[4]["id"]), now - timedelta(days=33))
    await api.db.fetch("UPDATE bookings SET cancelled_at = $2 WHERE id = $1", UUID(bookings[3]["id"]), now - timedelta(days=30))
    seen = await events(api, (await feed_of(api, user))["path"])
    assert set(seen) == {bookings[0]["id"], bookings[3]["id"]}


async def test_several_slots_apart_are_one_entry_and_busy_only_when_they_are(api: Api, admin: Person, user: Person) -> None:
    slots = await api.slots(user, await api.room(admin))
    made = await api.post("/bookings", user, json={"slotIds": [slots[0]["id"], slots[1]["id"], slots[4]["id"]]})
    assert made.status_code == 201, made.text
    feed = await feed_of(api, user)
    (event,) = (await events(api, feed["path"])).values()
    assert (event.dtstart.value, event.dtend.value) == (times(slots[0])[0], times(slots[1])[1])
    assert event.rdate.value == [times(slots[4])]
    assert await busy(api, feed["busy"]) == [(times(slots[0])[0], times(slots[1])[1]), times(slots[4])]


async def test_nobody_has_feeds_without_end(api: Api, user: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(50):
        await feed_of(api, user)
    refused = await api.post("/calendar-feeds", user)
    assert (refused.status_code, code(refused)) == (409, "TOO_MANY_CALENDAR_FEEDS")


@pytest.mark.parametrize("path", ["/calendar/%00.ics", "/calendar/%FF.ics", f"/calendar/{'x' * 300}.ics"])
async def test_an_odd_token_is_a_clear_refusal(api: Api, path: str) -> None:
    answer: httpx.Response = await api.get(path)
    assert answer.status_code in {400, 404}
    code(answer)
