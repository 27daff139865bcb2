"""Mails by a real SMTP server: who hears of what, once, with a calendar file that every calendar understands.

The relay and the job queue are the real ones, run here by hand: nothing waits, and nothing happens unasked.
"""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
import vobject

from conftest import make_settings
from holdfast import outbox
from holdfast.adapters.mail import NowhereMailer, SmtpMailer, make_mailer
from holdfast.core.callers import SYSTEM
from holdfast.core.clock import parse_instant
from holdfast.core.ids import new_id
from holdfast.core.settings import Settings
from holdfast.jobs import Runner, queue
from holdfast.main import build_app, build_state
from holdfast.notifications import service
from holdfast.notifications.rules import groups, when
from holdfast.outbox import relay
from holdfast.web.state import State
from support.api import Api, Person, code, tomorrow
from support.mails import MailSink

PUBLIC = "https://booking.example"
ANNA = "anna@mail.example"


@dataclass
class Post:
    """The outside world's mail server, and the worker that sends to it."""

    api: Api
    sink: MailSink
    settings: Settings
    mailer: Any
    ran: list[str] = field(default_factory=list)

    async def relay(self) -> None:
        while await relay(self.api.db, [service.follow]):
            """Another round."""

    async def deliver(self) -> list[EmailMessage]:
        """Relay what has happened and run all jobs that are due, some over again; the mails that came of it."""
        before = len(self.sink.mails)
        await self.relay()
        kinds = service.kinds(self.api.db, self.mailer, self.settings)
        runner = Runner(self.api.db, kinds)
        while claimed := await queue.claim(self.api.db, [(kind, 50) for kind in kinds]):
            for one in claimed:
                self.ran.append(one.job.kind)
                await runner._work(one)
        return self.sink.mails[before:]

    async def jobs(self) -> list[Any]:
        return list(await self.api.db.fetch("SELECT kind, state, failures, error, payload, run_at FROM jobs ORDER BY created_at"))

    async def pass_time(self) -> None:
        """Time cannot be waited for: what was put off is due now."""
        await self.api.db.fetch("UPDATE jobs SET run_at = clock_timestamp() WHERE state = 'waiting'")


@pytest.fixture
async def post(api: Api) -> AsyncIterator[Post]:
    settings = make_settings(api.db.url, public_url=PUBLIC, mail_from="Front desk <desk@booking.example>")
    async with MailSink() as sink:
        yield Post(api, sink, settings, SmtpMailer(sink.url))


@pytest.fixture
async def anna(api: Api) -> Person:
    return await person(api, ANNA, "Anna Arends")


async def person(api: Api, email: str, name: str | None = None, role: str = "user") -> Person:
    made = await api.person(role, email)
    await api.db.fetch("UPDATE users SET name = $2 WHERE id = $1", made.id, name)
    return made


def part(mail: EmailMessage, kind: str) -> str:
    found = mail.get_body((kind,))
    assert found is not None
    content: str = found.get_content()
    return content


def files(mail: EmailMessage) -> list[Any]:
    """The calendar files of a mail, whose method the part names too, without those that say the same again."""
    found = {}
    for one in mail.walk():
        if one.get_content_type() == "text/calendar":
            calendar = vobject.readOne(one.get_content())
            assert one["Content-Type"].params["method"] == calendar.method.value
            found[calendar.serialize()] = calendar
    return list(found.values())


def event_of(mail: EmailMessage) -> Any:
    (calendar,) = files(mail)
    return calendar.vevent


def to(mail: EmailMessage) -> str:
    address: str = mail["To"].addresses[0].addr_spec
    return address


async def hall(api: Api, admin: Person, **fields: Any) -> dict[str, Any]:
    """An event with three seats."""
    body = {"name": "Concert", "venue": "Town hall", "timeZone": "Europe/Berlin", "start": f"{tomorrow(5)}T18:00:00Z", **fields}
    event: dict[str, Any] = (await api.post("/events", admin, json=body)).json()["event"]
    await api.post(f"/events/{event['id']}/seats", admin, json={"seats": ["A-1", "A-2", "A-3"]})
    return event


async def test_a_confirmation_says_what_when_and_where_and_brings_a_file(
    post: Post, api: Api, admin: Person, anna: Person
) -> None:
    room = await api.room(admin, name="Blue room", location="Berlin", timeZone="Asia/Tokyo")
    booking = await api.booked(anna, (await api.slots(anna, room))[0], title="Review <b>", notes="Bring\nthe plan & pen")
    (mail,) = await post.deliver()
    assert [envelope.mail_from for envelope in post.sink.envelopes] == ["desk@booking.example"]
    assert (to(mail), mail["To"].addresses[0].display_name) == (ANNA, "Anna Arends")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Subject"].strip().startswith("Booked: Review <b> - ")
    text, html = part(mail, "plain"), part(mail, "html")
    local = when((parse_instant(booking["start"]), parse_instant(booking["end"])), "Asia/Tokyo")
    assert "09:00 to 09:30 (Asia/Tokyo, UTC+09:00)" in local
    for words in ("Review <b>", local, "Blue room, Berlin", "Bring\nthe plan & pen", PUBLIC):
        assert words in text.replace("\r\n", "\n")
    assert "Review &lt;b&gt;" in html
    assert "<b>" not in html
    assert "the plan &amp; pen" in html
    assert local in html
    (calendar,) = files(mail)
    assert calendar.method.value == "REQUEST"
    event = calendar.vevent
    assert event.organizer.value == "mailto:desk@booking.example"
    assert event.attendee.value == f"mailto:{ANNA}"
    assert (event.dtstart.value, event.dtend.value) == (parse_instant(booking["start"]), parse_instant(booking["end"]))
    assert [one.get_content_type() for one in mail.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "text/calendar",
        "text/calendar",
    ]
    assert [one.get_filename() for one in mail.iter_attachments()] == ["booking.ics"]
    stored = (await api.db.fetch("SELECT occurred_at FROM outbox WHERE type = 'booking.created'"))[0]["occurred_at"]
    assert mail["Date"].datetime == stored.replace(microsecond=0)
    assert await post.deliver() == []


async def test_the_uid_stays_and_sequence_rises_over_changes_and_the_cancellation(
    post: Post, api: Api, admin: Person, anna: Person
) -> None:
    slots = await api.slots(anna, await api.room(admin))
    booking = await api.booked(anna, slots[0])
    path = f"/bookings/{booking['id']}"
    mails = await post.deliver()
    await api.send("PATCH", path, anna, json={"title": "Review"})
    mails += await post.deliver()
    await api.post(f"{path}/reschedule", anna, json={"slotId": slots[2]["id"]})
    mails += await post.deliver()
    await api.post(f"{path}/cancel", anna)
    mails += await post.deliver()
    assert [mail["Subject"].split(":")[0] for mail in mails] == ["Booked", "Changed", "Moved", "Cancelled"]
    events = [event_of(mail) for mail in mails]
    assert {event.uid.value for event in events} == {f"{booking['id']}@holdfast"}
    assert [event.sequence.value for event in events] == ["0", "1", "2", "3"]
    assert [event.dtstart.value for event in events] == [parse_instant(slots[n]["start"]) for n in (0, 0, 2, 2)]
    assert [files(mail)[0].method.value for mail in mails] == ["REQUEST", "REQUEST", "REQUEST", "CANCEL"]
    assert events[3].status.value == "CANCELLED"
    moved = part(mails[2], "plain")
    assert f"Before: {when((parse_instant(slots[0]['start']), parse_instant(slots[0]['end'])), 'UTC')}" in moved
    version = (await api.db.fetch("SELECT version FROM bookings"))[0]["version"]
    assert version - 1 == 3
    served = vobject.readOne((await api.get(f"{path}/calendar.ics", anna)).text).vevent
    assert (served.sequence.value, served.dtstamp.value) == ("3", events[3].dtstamp.value)
    assert len({mail["Message-ID"] for mail in mails}) == 4
    assert {mail["References"] for mail in mails} == {f"<{booking['id']}@holdfast>"}


async def test_a_host_hears_of_guests_and_of_their_going_elsewhere(post: Post, api: Api, anna: Person) -> None:
    hosts = [await person(api, f"{name}@mail.example", name) for name in ("ada", "bob")]
    slots = []
    for host in hosts:
        await api.post("/hosts", host, json={"displayName": "Host"})
        body = {"start": f"{tomorrow(3)}T09:00:00Z", "end": f"{tomorrow(3)}T10:00:00Z"}
        published = await api.post("/slots", host, json=body)
        assert published.status_code == 201, published.text
        slots.append(published.json()["slot"])
    booking = await api.booked(anna, slots[0], title="Talk")
    mails = {to(mail): mail for mail in await post.deliver()}
    assert set(mails) == {ANNA, "ada@mail.example"}
    assert mails["ada@mail.example"]["Subject"].strip().startswith("New booking: Anna Arends: Talk")
    assert event_of(mails["ada@mail.example"]).summary.value == "Anna Arends: Talk"
    assert event_of(mails["ada@mail.example"]).attendee.value == "mailto:ada@mail.example"
    moved = await api.post(f"/bookings/{booking['id']}/reschedule", anna, json={"slotId": slots[1]["id"]})
    assert moved.status_code == 200, moved.text
    mails = {to(mail): mail for mail in await post.deliver()}
    methods = {address: files(mail)[0].method.value for address, mail in mails.items()}
    assert methods == {ANNA: "REQUEST", "ada@mail.example": "CANCEL", "bob@mail.example": "REQUEST"}
    assert event_of(mails["ada@mail.example"]).dtstart.value == parse_instant(slots[0]["start"])
    assert {event_of(mail).sequence.value for mail in mails.values()} == {"1"}
    # To whose time it comes it is new; where it was before is none of their business.
    assert mails["bob@mail.example"]["Subject"].startswith("New booking:")
    assert "Before" not in part(mails["bob@mail.example"], "plain")
    await api.send("DELETE", f"/bookings/{booking['id']}", hosts[1])
    mails = {to(mail): mail for mail in await post.deliver()}
    assert "The host did this." in part(mails[ANNA], "plain")
    assert set(mails) == {ANNA, "bob@mail.example"}


async def test_a_series_is_one_mail_however_the_relay_divides_it(
    post: Post, api: Api, admin: Person, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["holdfast.outbox.relay"], "AT_ONCE", 3)
    room = await api.room(admin, name="Blue room")
    body = {
        "roomId": room["id"],
        "start": f"{tomorrow()}T10:00:00Z",
        "end": f"{tomorrow()}T10:30:00Z",
        "recurrence": "FREQ=DAILY;COUNT=30",
        "title": "Stand-up",
    }
    made = (await api.post("/bookings/series", anna, json=body)).json()
    (mail,) = await post.deliver()
    assert mail["Subject"] == "Booked: Stand-up - 30 times"
    assert "and 10 more" in part(mail, "plain")
    series = f"/series/{made['series']['id']}"
    move = {"start": f"{tomorrow()}T11:00:00Z", "end": f"{tomorrow()}T11:30:00Z"}
    moved = await api.post(f"{series}/reschedule", anna, json=move)
    assert moved.status_code == 200, moved.text
    (second,) = await post.deliver()
    assert second["Subject"] == "Moved: Stand-up - 30 times"
    assert (await api.post(f"{series}/cancel", anna)).status_code == 200
    (third,) = await post.deliver()
    assert third["Subject"] == "Cancelled: Stand-up - 30 times"
    ids = {f"{booking['id']}@holdfast" for booking in made["bookings"]}
    for number, (one, status) in enumerate([(mail, "CONFIRMED"), (second, "CONFIRMED"), (third, "CANCELLED")]):
        (calendar,) = files(one)
        # Several entries are published: a REQUEST or a CANCEL is about one (RFC 5546 sections 3.2.2 and 3.2.5).
        assert calendar.method.value == "PUBLISH"
        assert {event.uid.value for event in calendar.vevent_list} == ids
        assert {event.sequence.value for event in calendar.vevent_list} == {str(number)}
        assert {event.status.value for event in calendar.vevent_list} == {status}
    assert await post.deliver() == []


async def test_single_bookings_of_a_series_are_told_one_by_one_whatever_the_request_id(
    post: Post, api: Api, admin: Person, anna: Person
) -> None:
    room = await api.room(admin)
    body = {"roomId": room["id"], "start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T10:30:00Z"}
    made = (await api.post("/bookings/series", anna, json={**body, "recurrence": "FREQ=DAILY;COUNT=3"})).json()
    await post.deliver()
    for booking in made["bookings"][:2]:
        await api.post(f"/bookings/{booking['id']}/cancel", anna, headers={"X-Request-ID": "always-the-same"})
        # Two requests are never made in the same two milliseconds by hand: here they might be.
        while new_id().int >> 80 <= (await newest(api)).int >> 80 + 3:
            """The clock goes on."""
    mails = await post.deliver()
    assert [files(mail)[0].method.value for mail in mails] == ["CANCEL", "CANCEL"]
    assert {event_of(mail).uid.value for mail in mails} == {f"{one['id']}@holdfast" for one in made["bookings"][:2]}


async def newest(api: Api) -> UUID:
    found: UUID = (await api.db.fetch("SELECT max(id::text)::uuid AS id FROM outbox"))[0]["id"]
    return found


def test_messages_made_at_once_are_a_group_and_others_are_not() -> None:
    def at(milliseconds: int, rest: int = 0) -> UUID:
        return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | rest)

    assert groups([at(12), at(10, 1), at(10), at(30), at(31)]) == [[at(10), at(10, 1), at(12)], [at(30), at(31)]]


async def test_a_moved_event_tells_everybody_who_has_seats(post: Post, api: Api, admin: Person, anna: Person) -> None:
    ben = await person(api, "ben@mail.example")
    event = await hall(api, admin)
    bookings = {}
    for who, seats in ((anna, ["A-1", "A-2"]), (ben, ["A-3"])):
        booked = await api.post("/bookings", who, json={"eventId": event["id"], "seats": seats})
        bookings[who.id] = booked.json()["booking"]["id"]
    first = {to(mail): mail for mail in await post.deliver()}
    assert "seats A-1, A-2" in part(first[ANNA], "plain")
    assert "dtend" not in event_of(first[ANNA]).contents
    await api.send("PATCH", f"/events/{event['id']}", admin, json={"description": "With a break"})
    assert await post.deliver() == []
    await api.send("PATCH", f"/events/{event['id']}", admin, json={"start": f"{tomorrow(6)}T18:00:00Z"})
    second = {to(mail): mail for mail in await post.deliver()}
    assert set(second) == {ANNA, "ben@mail.example"}
    assert event_of(second[ANNA]).uid.value == f"{bookings[anna.id]}@holdfast"
    assert event_of(second[ANNA]).sequence.value == "1"
    assert event_of(second[ANNA]).dtstart.value.date().isoformat() == tomorrow(6)
    await api.post(f"/bookings/{bookings[anna.id]}/cancel", anna)
    (third,) = await post.deliver()
    # The event's move counts too: SEQUENCE is the version that the booking had, less one.
    assert event_of(third).sequence.value == "2"
    (row,) = await api.db.fetch("SELECT version FROM bookings WHERE id = $1", UUID(bookings[anna.id]))
    assert row["version"] - 1 == 2


async def test_an_offer_says_how_long_and_how_to_take_it(post: Post, api: Api, admin: Person, anna: Person) -> None:
    slots = await api.slots(anna, await api.room(admin, name="Blue room"))
    ben = await person(api, "ben@mail.example")
    booking = await api.booked(ben, slots[0])
    entry = (await api.post("/waitlist", anna, json={"slotId": slots[0]["id"]})).json()["entry"]
    await post.deliver()
    await api.post(f"/bookings/{booking['id']}/cancel", ben)
    mails = {to(mail): mail for mail in await post.deliver()}
    text = part(mails[ANNA], "plain")
    offered = (await api.get(f"/waitlist/{entry['id']}", anna)).json()["entry"]
    assert offered["holdToken"] in text
    assert when((parse_instant(offered["expiresAt"]), None), "UTC") in text
    assert f"DELETE {PUBLIC}/waitlist/{entry['id']}" in text
    assert files(mails[ANNA]) == []
    taken = await api.post("/bookings", anna, json={"holdToken": offered["holdToken"]})
    assert taken.status_code == 201
    (confirmed,) = await post.deliver()
    assert confirmed["Subject"].startswith("Booked:")


async def test_an_offer_that_has_lapsed_is_told_nobody(post: Post, api: Api, admin: Person, anna: Person) -> None:
    slots = await api.slots(anna, await api.room(admin))
    ben = await person(api, "ben@mail.example")
    booking = await api.booked(ben, slots[0])
    await api.post("/waitlist", anna, json={"slotId": slots[0]["id"]})
    await api.post(f"/bookings/{booking['id']}/cancel", ben)
    await api.db.fetch("UPDATE holds SET expires_at = clock_timestamp()")
    assert {to(mail) for mail in await post.deliver()} == {"ben@mail.example"}


async def test_a_forgotten_password_is_mended_by_the_mail_and_by_nothing_that_is_stored(post: Post, api: Api) -> None:
    body = {"email": ANNA, "password": "old", "role": "user"}
    assert (await api.post("/register", json=body)).status_code == 201
    assert (await api.post("/auth/password-reset", json={"email": ANNA})).status_code == 202
    await post.relay()
    stored = await api.db.fetch("SELECT j::text AS text FROM jobs j UNION ALL SELECT o::text FROM outbox o")
    (mail,) = await post.deliver()
    text = part(mail, "plain")
    token = next(line for line in text.splitlines() if len(line) > 40 and " " not in line)
    assert all(token not in row["text"] for row in stored)
    assert f"PUT {PUBLIC}/auth/password-reset" in text
    reset = await api.client.put("/auth/password-reset", json={"token": token, "newPassword": "new"})
    assert reset.status_code == 204
    assert (await api.post("/login", json={"email": ANNA, "password": "new"})).status_code == 200


async def test_an_admin_hears_of_a_webhook_that_ended(post: Post, api: Api) -> None:
    admin = await person(api, "admin@mail.example", role="admin")
    webhook = new_id()
    url = "https://sink.example/hook"
    await api.db.fetch("INSERT INTO webhooks (id, url, secret, created_by) VALUES ($1, $2, 's', $3)", webhook, url, admin.id)
    async with api.db.transaction() as session:
        after = {"id": str(webhook), "url": url, "reason": "It answered 410."}
        await outbox.enqueue(session, "webhook.disabled", webhook, by=SYSTEM, after=after)
    (mail,) = await post.deliver()
    assert to(mail) == "admin@mail.example"
    assert url in part(mail, "plain")
    assert "It answered 410." in part(mail, "plain")
    assert f"PATCH {PUBLIC}/webhooks/{webhook}" in part(mail, "plain")


async def test_a_reminder_is_sent_while_it_is_true(post: Post, api: Api, admin: Person, anna: Person) -> None:
    slots = await api.slots(anna, await api.room(admin))
    bookings = [await api.booked(anna, slot) for slot in slots[:3]]
    await post.deliver()
    await api.post(f"/bookings/{bookings[1]['id']}/cancel", anna)
    await api.post(f"/bookings/{bookings[2]['id']}/reschedule", anna, json={"slotId": slots[9]["id"]})
    await post.deliver()
    async with api.db.transaction() as session:
        for booking in bookings:
            await outbox.enqueue(session, "booking.reminder", UUID(booking["id"]), by=SYSTEM, after=booking)
    (mail,) = await post.deliver()
    assert mail["Subject"].startswith("Soon:")
    assert bookings[0]["id"] in mail["References"]
    assert files(mail) == []


async def test_a_server_that_was_away_gets_the_mail_later_and_once(post: Post, api: Api, admin: Person, anna: Person) -> None:
    await post.sink.close()
    await api.booked(anna, (await api.slots(anna, await api.room(admin)))[0])
    assert await post.deliver() == []
    (job,) = await post.jobs()
    assert (job["state"], job["failures"]) == ("waiting", 1)
    assert "out of reach" in job["error"]
    await post.pass_time()
    await post.deliver()
    await post.sink.open()
    post.sink.refuse_recipient = "451 greylisted"
    await post.pass_time()
    assert await post.deliver() == []
    post.sink.refuse_recipient = None
    await post.pass_time()
    assert len(await post.deliver()) == 1
    await post.pass_time()
    assert await post.deliver() == []
    assert await post.jobs() == []


async def test_what_was_overtaken_is_not_told_any_more(post: Post, api: Api, admin: Person, anna: Person) -> None:
    """A mail that the server would not take at once must not come after the one that ends it."""
    slots = await api.slots(anna, await api.room(admin))
    booking = await api.booked(anna, slots[0])
    post.sink.refuse_recipient = "451 greylisted"
    assert await post.deliver() == []
    post.sink.refuse_recipient = None
    moved = await api.post(f"/bookings/{booking['id']}/reschedule", anna, json={"slotId": slots[1]["id"]})
    assert moved.status_code == 200
    (mail,) = await post.deliver()
    assert mail["Subject"].startswith("Moved:")
    await post.pass_time()
    assert await post.deliver() == []

    renamed = await api.send("PATCH", f"/bookings/{booking['id']}", anna, json={"title": "Review"})
    assert renamed.status_code == 200
    post.sink.refuse_recipient = "451 greylisted"
    assert await post.deliver() == []
    post.sink.refuse_recipient = None
    await api.post(f"/bookings/{booking['id']}/cancel", anna)
    (mail,) = await post.deliver()
    assert mail["Subject"].startswith("Cancelled:")
    await post.pass_time()
    assert await post.deliver() == []
    assert await post.jobs() == []


async def test_of_a_series_what_was_cancelled_meanwhile_is_not_told_as_booked(
    post: Post, api: Api, admin: Person, anna: Person
) -> None:
    room = await api.room(admin)
    times = {"start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T10:30:00Z"}
    made = await api.post("/bookings/series", anna, json={"roomId": room["id"], **times, "recurrence": "FREQ=DAILY;COUNT=3"})
    assert made.status_code == 201, made.text
    first = made.json()["bookings"][0]
    await api.post(f"/bookings/{first['id']}/cancel", anna)
    mails = {mail["Subject"].split(":")[0]: mail for mail in await post.deliver()}
    assert set(mails) == {"Booked", "Cancelled"}
    booked = files(mails["Booked"])[0]
    assert len(booked.vevent_list) == 2
    assert f"{first['id']}@holdfast" not in {event.uid.value for event in booked.vevent_list}


async def test_what_changes_nothing_is_told_nobody(post: Post, api: Api, admin: Person, anna: Person) -> None:
    booking = await api.booked(anna, (await api.slots(anna, await api.room(admin)))[0], title="Review")
    await post.deliver()
    for body in ({"title": "Review"}, {"title": "Review", "notes": None}, {}):
        same = await api.send("PATCH", f"/bookings/{booking['id']}", anna, json=body)
        assert same.status_code in {200, 400}, same.text
    assert await post.deliver() == []
    assert await api.db.fetch("SELECT 1 FROM outbox WHERE type = 'booking.updated'") == []


async def test_an_event_at_another_place_tells_everybody_too(post: Post, api: Api, admin: Person, anna: Person) -> None:
    event = await hall(api, admin, venue="Old Hall")
    booked = await api.post("/bookings", anna, json={"eventId": event["id"], "seats": ["A-1"]})
    await post.deliver()
    changed = await api.send("PATCH", f"/events/{event['id']}", admin, json={"venue": "New Hall"})
    assert changed.status_code == 200
    (mail,) = await post.deliver()
    assert "has a new place." in part(mail, "plain")
    assert "Old Hall" in part(mail, "plain")
    assert "New Hall" in event_of(mail).location.value
    assert event_of(mail).sequence.value == "1"
    served = await api.get(f"/bookings/{booked.json()['booking']['id']}/calendar.ics", anna)
    assert vobject.readOne(served.text).vevent.sequence.value == "1"
    # So many mails have places of their own: nobody's offer waits behind them.
    assert "mail.of_event" in post.ran


async def test_what_a_server_refuses_for_good_is_not_sent_again(post: Post, api: Api, admin: Person, anna: Person) -> None:
    post.sink.refuse_recipient = "550 no such mailbox"
    slots = await api.slots(anna, await api.room(admin))
    await api.booked(anna, slots[0])
    assert await post.deliver() == []
    (job,) = await post.jobs()
    assert (job["state"], job["error"]) == ("dead", "the mail server answered 550 no such mailbox")
    post.sink.refuse_recipient = None
    await post.pass_time()
    assert await post.deliver() == []
    assert post.sink.tries == 1
    # The next mail is another matter.
    await api.booked(anna, slots[1])
    assert len(await post.deliver()) == 1


async def test_a_repeat_after_a_crash_is_known_by_its_message_id(post: Post, api: Api, admin: Person, anna: Person) -> None:
    await api.booked(anna, (await api.slots(anna, await api.room(admin)))[0])
    await post.relay()
    kinds = service.kinds(api.db, post.mailer, post.settings)
    (claimed,) = await queue.claim(api.db, [(kind, 1) for kind in kinds])
    # The server has taken it, and nobody has written that down: the job is run again.
    await kinds[0].handler(claimed.job)
    await queue.put_back(api.db, claimed)
    await post.deliver()
    first, second = post.sink.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]


@pytest.mark.parametrize(
    "odd", ["Evil\r\nBcc: evil@example.com\r\n\r\nbody", 'x" <evil@example.com>, "', "=?utf-8?q?=0D=0ABcc:_evil@example.com?="]
)
async def test_names_and_titles_add_no_headers_and_no_recipients(post: Post, api: Api, admin: Person, odd: str) -> None:
    somebody = await person(api, "some,body@mail.example" if '"' in odd else "somebody@mail.example", odd)
    room = await api.room(admin, name=odd, location=odd)
    await api.booked(somebody, (await api.slots(somebody, room))[0], title=odd, notes=odd)
    await post.deliver()
    if '"' in odd:
        # The sink knows no quoted local parts; nobody else has got it.
        assert all(envelope.rcpt_tos == ['"some,body"@mail.example'] for envelope in post.sink.envelopes)
        return
    (mail,) = post.sink.mails
    assert [envelope.rcpt_tos for envelope in post.sink.envelopes] == [["somebody@mail.example"]]
    assert set(mail.keys()) <= {
        "From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted", "MIME-Version", "Content-Type",
    }  # fmt: skip
    assert len(mail["To"].addresses) == 1
    head = post.sink.raw[0].split(b"\r\n\r\n")[0]
    assert b"\nBcc" not in head
    assert b"\nbcc" not in head.lower()
    (calendar,) = files(mail)
    assert len(calendar.vevent_list) == 1
    assert len(calendar.vevent.attendee_list) == 1


async def test_what_was_rolled_back_is_never_mailed(post: Post, api: Api, admin: Person, anna: Person) -> None:
    slots = await api.slots(anna, await api.room(admin))
    booking = await api.booked(anna, slots[0])
    await post.deliver()

    async def rolled_back() -> None:
        async with api.db.transaction() as session:
            await outbox.enqueue(session, "booking.cancelled", UUID(booking["id"]), by=SYSTEM, before=booking, after=booking)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rolled_back()
    assert (await api.book(anna, slots[0])).status_code == 409
    assert await post.deliver() == []


async def test_the_suspended_the_deleted_and_demo_users_are_sent_nothing(post: Post, api: Api, admin: Person) -> None:
    slots = await api.slots(admin, await api.room(admin))
    suspended, deleted = await person(api, "s@mail.example"), await person(api, "d@mail.example")
    demo = (await api.post("/dummyLogin", json={"role": "user"})).json()["token"]
    await api.booked(suspended, slots[0])
    await api.booked(deleted, slots[1])
    await api.post("/bookings", headers={"Authorization": f"Bearer {demo}"}, json={"slotId": slots[2]["id"]})
    # Between the relay and the job.
    await post.relay()
    assert len(await post.jobs()) == 2
    await api.send("PATCH", f"/users/{suspended.id}", admin, json={"status": "suspended"})
    await api.send("DELETE", "/users/me", deleted)
    assert await post.deliver() == []
    assert await post.jobs() == []


async def test_history_is_not_told(post: Post, api: Api, admin: Person, anna: Person) -> None:
    booking = await api.booked(anna, (await api.slots(anna, await api.room(admin)))[0])
    await post.deliver()
    past = {**booking, "start": "2020-01-01T09:00:00Z", "end": "2020-01-01T10:00:00Z"}
    async with api.db.transaction() as session:
        for kind in ("booking.created", "booking.updated", "booking.cancelled", "booking.reminder"):
            await outbox.enqueue(session, kind, new_id(), by=SYSTEM, before=past, after=past)
    # And a relay that was away for weeks, or first runs after an upgrade, finds much that was done long ago.
    await api.db.fetch(
        "INSERT INTO outbox (id, type, subject_id, actor_role, before, after, occurred_at) "
        "SELECT $1, type, subject_id, actor_role, before, after, occurred_at - interval '8 days' FROM outbox "
        "WHERE type = 'booking.created' AND subject_id = $2",
        new_id(),
        UUID(booking["id"]),
    )
    assert await post.deliver() == []
    assert post.ran == ["mail"]


async def test_times_are_those_of_the_resources_clock_across_a_change() -> None:
    night = datetime(2027, 3, 27, 22, 30, tzinfo=UTC)
    assert when((night, night + timedelta(hours=3)), "Europe/Berlin") == (
        "Sat 27 Mar 2027, 23:30 to Sun 28 Mar 2027, 03:30 (Europe/Berlin, UTC+01:00)"
    )
    assert when((night, None), "Asia/Kolkata") == "Sun 28 Mar 2027, 04:00 (Asia/Kolkata, UTC+05:30)"


async def kept(state: State, subject: str, title: str) -> None:
    mailer = make_mailer(state.settings, keep=service.keep_in(state.db))
    message = EmailMessage()
    message["To"], message["From"], message["Subject"] = ANNA, "desk@booking.example", subject
    message.set_content(f"Hello {title}")
    message.add_alternative(f"<p>{title}</p>", subtype="html")
    structlog.reset_defaults()
    await mailer.send(message)


async def test_the_mailbox_of_development_shows_mails_and_runs_nothing(api: Api, state: State) -> None:
    empty = await api.get("/dev/mails")
    assert empty.status_code == 200
    assert empty.headers["content-type"].startswith("text/html")
    assert "Here will appear" in empty.text
    hostile = "<script>alert(1)</script>"
    await kept(state, f"Booked: {hostile}", hostile)
    listed = await api.get("/dev/mails")
    (row,) = await api.db.fetch("SELECT id FROM mails")
    shown = await api.get(f"/dev/mails/{row['id']}")
    assert f"/dev/mails/{row['id']}" in listed.text
    assert "&lt;p&gt;&lt;script&gt;" in shown.text
    assert "text/html" in shown.text
    for page in (listed, shown):
        assert "Booked: &lt;script&gt;alert(1)&lt;/script&gt;" in page.text
        assert "<script" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    missing = await api.get(f"/dev/mails/{UUID(int=3)}")
    assert (missing.status_code, code(missing)) == (404, "NOT_FOUND")
    assert (await api.get("/dev/mails/x")).status_code == 400


async def test_in_development_a_booking_is_read_in_the_mailbox(
    post: Post, api: Api, state: State, admin: Person, anna: Person
) -> None:
    post.mailer = make_mailer(state.settings, keep=service.keep_in(state.db))
    await api.booked(anna, (await api.slots(anna, await api.room(admin)))[0], title="Review")
    structlog.reset_defaults()
    assert await post.deliver() == []
    (row,) = await api.db.fetch("SELECT id, to_address, subject FROM mails")
    assert (row["to_address"], row["subject"].split(" - ")[0]) == (ANNA, "Booked: Review")
    shown = await api.get(f"/dev/mails/{row['id']}")
    assert "BEGIN:VCALENDAR" in shown.text
    assert "Your booking is confirmed." in shown.text


@pytest.mark.parametrize(
    "settings",
    [{"env": "production", "jwt_secret": "k7Qz-93hfT_wLx0aVbN4mEyR8sUc1dGj"}, {"smtp_url": "smtp://127.0.0.1:1"}],
)
async def test_there_is_no_mailbox_elsewhere(api: Api, settings: dict[str, str]) -> None:
    state = build_state(make_settings(api.db.url, pool_size=4, **settings))
    try:
        transport = httpx.ASGITransport(build_app(state))
        async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
            answers = [await client.get(path) for path in ("/dev/mails", f"/dev/mails/{UUID(int=3)}")]
        assert [(answer.status_code, code(answer)) for answer in answers] == [(404, "NOT_FOUND")] * 2
    finally:
        state.passwords.close()
        await state.db.close()


async def test_without_a_server_production_says_that_nothing_was_sent(post: Post, api: Api, admin: Person, anna: Person) -> None:
    post.mailer = NowhereMailer()
    await api.booked(anna, (await api.slots(anna, await api.room(admin)))[0], title="Review")
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as logged:
        await post.deliver()
    (line,) = [one for one in logged if one["event"] == "mail.not_sent"]
    assert "Review" not in str(line)
    assert "anna" not in str(line)
    assert await post.jobs() == []


async def test_the_mailbox_does_not_grow_without_end(api: Api, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.notifications.service.mailbox._KEPT", 2)
    for number in range(4):
        await kept(state, f"Number {number}", "x")
    (tidy,) = service.periodic(state.db)
    await tidy.handler()
    rows = await api.db.fetch("SELECT subject FROM mails ORDER BY created_at")
    assert [row["subject"] for row in rows] == ["Number 2", "Number 3"]
