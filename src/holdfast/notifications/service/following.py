"""From messages to jobs: one for each mail, with ids only. Whom a mail greets, and what it says, is read when it is sent."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import jobs
from holdfast.core import clock
from holdfast.messages.queries import public_slots
from holdfast.notifications import queries, rules
from holdfast.outbox import StoredMessage

#: One mail: `message`, the outbox row's id, and `to`, the user's.
MAIL = "mail"
#: The same, of those that an event sends to all of its guests.
MAIL_OF_EVENT = "mail.of_event"
#: Finds out whose bookings an event has taken along, and asks for a mail to each.
EVENT_MOVED = "mail.event_moved"
#: What reading a row can end in whose shape is not what we write.
_NOT_READ = (LookupError, TypeError, ValueError, AttributeError, AssertionError)

log = structlog.get_logger(__name__)


async def follow(session: AsyncSession, stored: Sequence[StoredMessage]) -> None:
    """Enqueue a job for each mail that these messages are worth, in the relay's transaction.

    One change of a series is one mail, however many bookings it has, and however the relay's rounds divide its messages: the
    first of them stands for all (`rules.groups`). One that cannot be read is logged and left out: it must not keep all those
    after it from being told.
    """
    try:
        await _follow(session, stored)
    except _NOT_READ:
        for message in stored:
            try:
                await _follow(session, [message])
            except _NOT_READ:
                log.exception("mail.not_read", message_id=str(message.id), type=message.type)


async def _follow(session: AsyncSession, stored: Sequence[StoredMessage]) -> None:
    now = clock.now()
    told = [message for message in stored if rules.is_told(message, now=now)]
    if not told:
        return
    wanted = [
        *await _about_bookings(session, told, now=now),
        *await _about_others(session, told),
        *((message, _owner(message)) for message in rules.firsts(list(_of_series(told, now=now)))),
    ]
    moved = [message for message in told if message.type == "event.updated" and rules.has_moved(message, now=now)]
    await jobs.enqueue_all(
        session, EVENT_MOVED, [(str(message.id), {"message": str(message.id)}, message.trace) for message in moved]
    )
    await enqueue_mails(session, wanted)


async def enqueue_mails(session: AsyncSession, wanted: Sequence[tuple[StoredMessage, UUID]], *, kind: str = MAIL) -> None:
    """A job for each message and reader, but for those who may not be sent mails."""
    readers = {reader for _, reader in wanted}
    if not readers:
        return
    known = await queries.addressees(session, readers)
    await jobs.enqueue_all(
        session,
        kind,
        [
            (f"{message.id}:{reader}", {"message": str(message.id), "to": str(reader)}, message.trace)
            for message, reader in wanted
            if reader in known
        ],
    )


def _owner(message: StoredMessage) -> UUID:
    assert message.after is not None  # noqa: S101 - bookings' messages have it
    return UUID(message.after["userId"])


def _of_series(told: Iterable[StoredMessage], *, now: datetime) -> Iterable[StoredMessage]:
    """Messages of bookings that were moved or cancelled with others; that they were made says `series.created`."""
    for message in told:
        if rules.concerns_series(message) and message.type != "booking.created" and not rules.is_over(message.after, now=now):
            yield message


async def _about_bookings(
    session: AsyncSession, told: Sequence[StoredMessage], *, now: datetime
) -> list[tuple[StoredMessage, UUID]]:
    """What happened to single bookings, for their owners and the hosts whose time they take, or took."""
    wanted = []
    single = [
        message
        for message in told
        if (message.type in rules.BOOKINGS or message.type == "booking.reminder")
        and message.after is not None
        and not rules.concerns_series(message)
        and not rules.is_over(message.after, now=now)
    ]
    shapes = {message.id: [shape for shape in (message.before, message.after) if shape] for message in single}
    slots = await public_slots(
        session,
        [one for message in single for shape in shapes[message.id] if shape["kind"] != "event" for one in shape["slotIds"]],
    )
    for message in single:
        owner = _owner(message)
        wanted.append((message, owner))
        if message.type == "booking.reminder":
            continue
        taken = [slots[one] for shape in shapes[message.id] for one in shape["slotIds"] if one in slots]
        hosts = {slot.host_user_id for slot in taken if slot.host_user_id is not None} - {owner}
        wanted += [(message, host) for host in sorted(hosts)]
    return wanted


async def _about_others(session: AsyncSession, told: Sequence[StoredMessage]) -> list[tuple[StoredMessage, UUID]]:
    """New series, offers, forgotten passwords, webhooks that ended."""
    offered = await queries.entry_owners(session, [one.subject_id for one in told if one.type == "waitlist.offered"])
    disabled = await queries.webhook_owners(session, [one.subject_id for one in told if one.type == "webhook.disabled"])
    wanted = []
    for message in told:
        reader = None
        if message.type == "waitlist.offered":
            reader = offered.get(message.subject_id)
        elif message.type == "webhook.disabled":
            reader = disabled.get(message.subject_id)
        elif message.type == "user.password_reset_requested":
            reader = message.subject_id
        elif message.type == "series.created":
            reader = _owner(message)
        if reader is not None:
            wanted.append((message, reader))
    return wanted
