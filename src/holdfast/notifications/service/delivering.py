"""Writing and sending one mail: out of the stored message, as the reader is addressed now.

Run twice, it is sent twice, with the same Message-ID: after a crash between the server's yes and our commit nobody can know.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

import structlog

from holdfast.accounts.rules import RESET_LIFE
from holdfast.accounts.service import make_reset_token
from holdfast.adapters.mail import MailboxMailer, Mailer, MailRefused, MailUnavailable, address_of
from holdfast.calendars import rules as calendars
from holdfast.calendars.queries import entries_by_id
from holdfast.calendars.rules import Entry, Party, Period
from holdfast.core import clock, metrics
from holdfast.core.clock import parse_instant
from holdfast.core.errors import UpstreamFailed
from holdfast.core.settings import Settings
from holdfast.db.database import Database
from holdfast.jobs import Dead, Job, Kind
from holdfast.messages.queries import public_slots
from holdfast.notifications import queries, rules
from holdfast.notifications.queries import Addressee
from holdfast.notifications.rules import Letter, Place, Told
from holdfast.notifications.service.following import EVENT_MOVED, MAIL, MAIL_OF_EVENT, enqueue_mails
from holdfast.outbox import StoredMessage

#: A forgotten password that was asked for so long ago has been asked for again since, or found.
_RESETS_WAIT = timedelta(hours=12)
_READERS_AT_ONCE = 1_000
#: Mails on their way at once: most of a mail's time is the server's. What an event tells all of its guests has places of its
#: own, so that nobody's offer, whose time runs, waits behind a thousand of them.
_AT_ONCE, _OF_EVENTS_AT_ONCE = 8, 4
#: What says how it is from now on: untrue once the booking was moved again, or cancelled.
_ANNOUNCING = frozenset({"booking.created", "booking.updated", "booking.rescheduled"})

log = structlog.get_logger(__name__)

Shape: TypeAlias = dict[str, Any]


def kinds(db: Database, mailer: Mailer, settings: Settings) -> tuple[Kind, ...]:
    """The kinds of jobs that are mails."""
    desk = _Desk(db, mailer, calendars.party(settings.mail_from), settings.reached_at)
    return (
        Kind(MAIL, desk.send, at_once=_AT_ONCE),
        Kind(MAIL_OF_EVENT, desk.send, at_once=_OF_EVENTS_AT_ONCE),
        Kind(EVENT_MOVED, desk.tell_of_event),
    )


@dataclass(frozen=True, slots=True)
class _Desk:
    """What writing and sending needs: `sender` in every mail, `base` in every link."""

    db: Database
    mailer: Mailer
    sender: Party
    base: str

    async def send(self, job: Job) -> None:
        """One mail. Nothing is sent where it would not be true any more, or to whoever has gone meanwhile."""
        message = await queries.find_message(self.db, UUID(job.payload["message"]))
        reader_id = UUID(job.payload["to"])
        reader = (await queries.addressees(self.db, [reader_id])).get(reader_id)
        if message is None or reader is None:
            return
        if not self.mailer.delivers:
            log.warning("mail.not_sent", about=message.type, hint="set HOLDFAST_SMTP_URL to send mails")
            return
        letter = await self._letter(message, reader)
        if letter is None:
            return
        try:
            sender, to = (
                address_of(self.sender[1], self.sender[0]),
                address_of(reader.email, reader.name),
            )

            def written() -> Any:
                return rules.make_message(
                    letter,
                    sender=sender,
                    to=to,
                    message_id=message.id,
                    user_id=reader.id,
                    subject_id=message.subject_id,
                    date=message.occurred_at,
                    calendar=self._calendar(letter, reader),
                    base=self.base,
                )

            # A long series takes a tenth of a second to write: not in everybody's way.
            await self.mailer.send(await asyncio.to_thread(written) if len(letter.calendar) > 1 else written())
            metrics.mail_sent("kept" if isinstance(self.mailer, MailboxMailer) else "sent")
        except MailRefused as refused:
            metrics.mail_sent("refused")
            raise Dead(str(refused)) from refused
        except MailUnavailable as unavailable:
            metrics.mail_sent("failed")
            # A refusal, not a defect: its traceback would tell nothing.
            raise UpstreamFailed(str(unavailable)) from unavailable

    def _calendar(self, letter: Letter, reader: Addressee) -> bytes | None:
        if not letter.calendar:
            return None
        attendee = (reader.name, reader.email) if letter.method != "PUBLISH" else None
        return calendars.write(letter.calendar, method=letter.method, organizer=self.sender, attendee=attendee)

    async def tell_of_event(self, job: Job) -> None:
        """A mail for each who has booked an event that was moved."""
        message = await queries.find_message(self.db, UUID(job.payload["message"]))
        if message is None:
            return
        readers = sorted({owner for _, owner in await queries.bookings_of_event(self.db, message.subject_id)})
        for first in range(0, len(readers), _READERS_AT_ONCE):
            async with self.db.transaction() as session:
                some = [(message, reader) for reader in readers[first : first + _READERS_AT_ONCE]]
                await enqueue_mails(session, some, kind=MAIL_OF_EVENT)

    async def _letter(self, message: StoredMessage, reader: Addressee) -> Letter | None:
        """What a message is to a reader; None where there is nothing to say any more."""
        writers: dict[str, Callable[[StoredMessage, Addressee], Awaitable[Letter | None]]] = {
            "series.created": self._of_series,
            "event.updated": self._of_event,
            "waitlist.offered": self._of_offer,
            "user.password_reset_requested": self._of_reset,
            "webhook.disabled": self._of_webhook,
        }
        of_series = self._of_group if rules.concerns_series(message) else self._of_booking
        return await writers.get(message.type, of_series)(message, reader)

    async def _of_booking(self, message: StoredMessage, reader: Addressee) -> Letter | None:
        after = message.after
        if after is None or rules.is_over(after, now=clock.now()):
            return None
        if message.type == "booking.reminder" and await self._reminder_is_late(after):
            return None
        is_guests = reader.id != UUID(after["userId"])
        overtaken = message.type in _ANNOUNCING and await queries.is_overtaken(
            self.db,
            UUID(after["id"]),
            message.id,
            start=parse_instant(after["start"]),
            end=parse_instant(after["end"]) if after["end"] else None,
        )
        guest = (await queries.name_of(self.db, UUID(after["userId"])) or "Guest") if is_guests else None
        present = await self._seen(message, after, guest=guest)
        before = await self._seen(message, message.before, guest=guest) if message.before else None
        told = Told(present[0], present[1][0].zone, _by(message, reader), is_guests)
        if message.type == "booking.rescheduled" and before is not None:
            if is_guests and all(place.host_user_id != reader.id for place in present[1]):
                gone = Told(replace(before[0], cancelled=True), before[1][0].zone, told.by, is_guests)
                return rules.departure_letter(gone)
            if is_guests and all(place.host_user_id != reader.id for place in before[1]):
                # Moved from another host's time: new to this one.
                return None if overtaken else rules.booking_letter("booking.created", told)
            told = Told(told.entry, told.zone, told.by, is_guests, before[0].periods)
        return None if overtaken else rules.booking_letter(message.type, told)

    async def _reminder_is_late(self, shape: Shape) -> bool:
        """True where the booking was moved or cancelled since, or has begun."""
        start = await queries.start_of(self.db, UUID(shape["id"]))
        return start is None or start != parse_instant(shape["start"]) or start <= clock.now()

    async def _seen(self, message: StoredMessage, shape: Shape, *, guest: str | None) -> tuple[Entry, list[Place]]:
        """A booking as a message has it, as a calendar's entry, and where it is."""
        slots = await public_slots(self.db, shape["slotIds"]) if shape["kind"] != "event" else {}
        units = [slots[one] for one in shape["slotIds"] if one in slots]
        ids = list(dict.fromkeys(unit.resource_id for unit in units)) or [UUID(shape[f"{shape['kind']}Id"])]
        known = await queries.places(self.db, ids)
        found = [known[one] for one in ids]
        span: Period = (parse_instant(shape["start"]), parse_instant(shape["end"]) if shape["end"] else None)
        whole = len(units) == len(shape["slotIds"])
        periods = calendars.stretches([(unit.start, unit.end) for unit in units]) if whole else (span,)
        entry = Entry(
            booking_id=UUID(shape["id"]),
            sequence=await queries.sequence_at(self.db, UUID(shape["id"]), message.occurred_at),
            cancelled=shape["status"] == "cancelled",
            periods=periods,
            summary=calendars.summary(shape["title"], [place.name for place in found], guest=guest),
            location=calendars.location({place.name: place.location for place in found}, shape["seats"]),
            url=shape["conferenceLink"],
            notes=shape["notes"],
            created_at=parse_instant(shape["createdAt"]),
            changed_at=message.occurred_at,
        )
        return entry, found

    async def _of_group(self, message: StoredMessage, reader: Addressee) -> Letter | None:
        """What was changed of a series at once. The job of the group's first message tells of all; any other of none."""
        alike = await queries.messages_like(self.db, rules.group_of(message))
        group = next(group for group in rules.groups(alike) if message.id in group)
        if message.id != group[0]:
            return None
        if len(group) == 1:
            return await self._of_booking(message, reader)
        return await self._of_several(message.type, message, [alike[one] for one in group], reader)

    async def _of_series(self, message: StoredMessage, reader: Addressee) -> Letter | None:
        ids = await queries.bookings_of_series(self.db, message.subject_id)
        return await self._of_several("series.created", message, ids, reader)

    async def _of_several(self, message_type: str, message: StoredMessage, ids: list[UUID], reader: Addressee) -> Letter | None:
        """Bookings of a series as they are now."""
        entries = await entries_by_id(self.db, ids, reader=reader.id)
        if message_type != "booking.cancelled":
            # Told late: what was cancelled meanwhile has a mail of its own.
            entries = [entry for entry in entries if not entry.cancelled]
        if not entries or max(end or start for entry in entries for start, end in entry.periods) < clock.now():
            return None
        zone = (await self._zone(message)) or "UTC"
        return rules.bookings_letter(message_type, [Told(entry, zone, _by(message, reader)) for entry in entries])

    async def _zone(self, message: StoredMessage) -> str | None:
        shape = message.after or {}
        found = await queries.places(self.db, [UUID(shape["roomId"])]) if shape.get("roomId") else {}
        return next((place.zone for place in found.values()), None)

    async def _of_event(self, message: StoredMessage, reader: Addressee) -> Letter | None:
        before, after = message.before, message.after
        if before is None or after is None or rules.is_over(after, now=clock.now()):
            return None
        ids = [one for one, _ in await queries.bookings_of_event(self.db, message.subject_id, user_id=reader.id)]
        entries = await entries_by_id(self.db, ids, reader=reader.id)
        if not entries:
            return None
        told = [Told(entry, after["timeZone"], "system") for entry in entries]
        old: Period = (parse_instant(before["start"]), parse_instant(before["end"]) if before["end"] else None)
        new_time, new_place = rules.what_moved(before, after)
        return rules.event_moved_letter(
            after["name"], told, period=old if new_time else None, venue=before.get("venue") or "not said" if new_place else None
        )

    async def _of_offer(self, message: StoredMessage, _reader: Addressee) -> Letter | None:
        until = await queries.offer_ends_at(self.db, message.subject_id)
        shape = message.after
        if until is None or shape is None:
            return None
        found = await queries.places(self.db, [UUID(shape[f"{shape['kind']}Id"])])
        period: Period = (parse_instant(shape["start"]), parse_instant(shape["end"]) if shape["end"] else None)
        (place,) = found.values()
        return rules.offer_letter(shape, place, period=period, until=until, base=self.base)

    async def _of_reset(self, message: StoredMessage, _reader: Addressee) -> Letter | None:
        if message.occurred_at < clock.now() - _RESETS_WAIT:
            return None
        # Made only now: no secret is ever in the outbox or among the jobs.
        token = await make_reset_token(self.db, message.subject_id)
        minutes = int(RESET_LIFE.total_seconds() // 60)
        return None if token is None else rules.reset_letter(token=token, minutes=minutes, base=self.base)

    async def _of_webhook(self, message: StoredMessage, _reader: Addressee) -> Letter | None:
        told = message.after or {}
        return rules.webhook_letter(
            webhook_id=message.subject_id, url=told.get("url", ""), reason=told.get("reason"), base=self.base
        )


def _by(message: StoredMessage, reader: Addressee) -> str:
    """Who did it, in the reader's eyes."""
    if message.actor_id is None:
        return "system"
    if message.actor_id == reader.id:
        return "you"
    if message.actor_role == "admin":
        return "admin"
    return "guest" if (message.after or {}).get("userId") == str(message.actor_id) else "host"
