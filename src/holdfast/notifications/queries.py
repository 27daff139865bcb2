"""What mails tell of, and the development mailbox, in SQL."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.accounts.rules import DUMMY_DOMAIN
from holdfast.core.ids import new_id
from holdfast.db import models
from holdfast.db.database import Database, fetch_from, fetch_in
from holdfast.notifications.rules import Place
from holdfast.notifications.rules.deciding import Group
from holdfast.notifications.rules.pages import KeptMail
from holdfast.outbox import StoredMessage
from holdfast.outbox.reading import COLUMNS, stored_of

#: Who is there, active, and no demo user, whose address leads nowhere.
_ADDRESSEES = "SELECT id, email, name FROM users WHERE id = ANY($1::uuid[]) AND status = 'active' AND right(email_key, $2) <> $3"
_NAME = "SELECT name FROM users WHERE id = $1"
_MESSAGE = f"SELECT {COLUMNS} FROM outbox WHERE id = $1"  # noqa: S608 - our own columns
_ENTRY_OWNERS = "SELECT id, user_id FROM waitlist_entries WHERE id = ANY($1::uuid[])"
_WEBHOOK_OWNERS = "SELECT id, created_by FROM webhooks WHERE id = ANY($1::uuid[]) AND created_by IS NOT NULL"
_PLACES = """
SELECT r.id, r.kind, r.name, coalesce(m.location, e.venue) AS location, r.time_zone, h.user_id
FROM resources r
LEFT JOIN rooms m ON m.resource_no = r.no
LEFT JOIN events e ON e.resource_no = r.no
LEFT JOIN hosts h ON h.resource_no = r.no
WHERE r.id = ANY($1::uuid[])"""
#: How often a booking had been changed when a message of it was written: its version then, less one. Its own messages tell,
#: and those of the events that it was for meanwhile: an event that moves takes its bookings along.
_SEQUENCE = """
WITH own AS (
  SELECT o.type, o.occurred_at, (o.after->>'eventId')::uuid AS event_id,
         lead(o.occurred_at) OVER (ORDER BY o.occurred_at, o.id) AS until
  FROM outbox o
  WHERE o.subject_id = $1
    AND o.type IN ('booking.created', 'booking.updated', 'booking.rescheduled', 'booking.cancelled'))
SELECT (SELECT count(*) FROM own WHERE type <> 'booking.created' AND occurred_at <= $2)
     + (SELECT count(*) FROM own JOIN outbox e ON e.subject_id = own.event_id
        WHERE e.type = 'event.updated' AND own.type <> 'booking.cancelled'
          AND e.occurred_at >= own.occurred_at AND e.occurred_at < coalesce(own.until, 'infinity') AND e.occurred_at <= $2
          AND (e.before->>'start', e.before->>'end', e.before->>'venue')
              IS DISTINCT FROM (e.after->>'start', e.after->>'end', e.after->>'venue')) AS sequence"""
_OF_A_GROUP = """
SELECT o.id, o.subject_id FROM bookings b JOIN outbox o ON o.subject_id = b.id
WHERE b.series_id = $1 AND o.type = $2 AND o.request_id IS NOT DISTINCT FROM $3 AND o.actor_id IS NOT DISTINCT FROM $4"""
_OF_A_SERIES = "SELECT id FROM bookings WHERE series_id = $1 AND status = 'active'"
_OF_AN_EVENT = """
SELECT DISTINCT b.id, b.user_id FROM booking_units u
JOIN bookings b ON b.id = u.booking_id AND b.status = 'active' AND b.kind = 'event'
JOIN resources r ON r.no = u.resource_no
WHERE r.id = $1 AND ($2::uuid IS NULL OR b.user_id = $2)"""
_STARTS = "SELECT start_at FROM bookings WHERE id = $1 AND status = 'active'"
#: What a booking's message says has been overtaken: the booking was moved or cancelled since, by itself or with its event.
_OVERTAKEN = """
SELECT b.status = 'cancelled' OR (b.start_at, b.end_at) IS DISTINCT FROM ($3::timestamptz, $4::timestamptz) OR EXISTS (
  SELECT FROM outbox o, outbox m
  WHERE m.id = $2 AND o.subject_id = $1 AND o.type = 'booking.rescheduled'
    AND (o.occurred_at, o.id) > (m.occurred_at, m.id)) AS overtaken
FROM bookings b WHERE b.id = $1"""
_OFFER = """
SELECT h.expires_at FROM waitlist_entries e JOIN holds h ON h.id = e.hold_id
WHERE e.id = $1 AND e.status = 'offered' AND h.expires_at > clock_timestamp()"""


@dataclass(frozen=True, slots=True)
class Addressee:
    """Somebody who may be sent mails."""

    id: UUID
    email: str
    name: str | None


async def addressees(source: Database | AsyncSession, ids: Iterable[UUID]) -> dict[UUID, Addressee]:
    """Those of the users who may be sent mails, by id."""
    rows = await fetch_from(source, _ADDRESSEES, list(ids), len(DUMMY_DOMAIN), DUMMY_DOMAIN)
    return {row["id"]: Addressee(row["id"], row["email"], row["name"]) for row in rows}


async def name_of(db: Database, user_id: UUID) -> str | None:
    """A user's name, whatever has become of them."""
    rows = await db.fetch(_NAME, user_id)
    return rows[0]["name"] if rows else None


async def entry_owners(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Whose waitlist entries these are."""
    return {row["id"]: row["user_id"] for row in await fetch_in(session, _ENTRY_OWNERS, list(ids))} if ids else {}


async def webhook_owners(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Who made these webhooks."""
    return {row["id"]: row["created_by"] for row in await fetch_in(session, _WEBHOOK_OWNERS, list(ids))} if ids else {}


async def find_message(db: Database, message_id: UUID) -> StoredMessage | None:
    """A message by its id; numbered or not, it is committed."""
    rows = await db.fetch(_MESSAGE, message_id)
    return stored_of(rows[0], number=rows[0]["number"] or 0) if rows else None


async def places(db: Database, ids: Iterable[UUID]) -> dict[UUID, Place]:
    """Resources as mails name them, archived ones too."""
    rows = await db.fetch(_PLACES, list(ids))
    return {row["id"]: Place(*row.values()) for row in rows}


async def sequence_at(db: Database, booking_id: UUID, occurred_at: datetime) -> int:
    """How often a booking had been changed at the moment of one of its messages, that one included."""
    sequence: int = (await db.fetch(_SEQUENCE, booking_id, occurred_at))[0]["sequence"]
    return sequence


async def messages_like(db: Database, group: Group) -> dict[UUID, UUID]:
    """The messages of a group, by id, and the bookings that they are about."""
    series_id, message_type, request_id, actor_id = group
    rows = await db.fetch(_OF_A_GROUP, UUID(series_id), message_type, request_id, actor_id)
    return {row["id"]: row["subject_id"] for row in rows}


async def bookings_of_series(db: Database, series_id: UUID) -> list[UUID]:
    """The active bookings of a series."""
    return [row["id"] for row in await db.fetch(_OF_A_SERIES, series_id)]


async def bookings_of_event(
    source: Database | AsyncSession, event_id: UUID, *, user_id: UUID | None = None
) -> list[tuple[UUID, UUID]]:
    """The active bookings of an event (of one user), each with its owner."""
    return [(row["id"], row["user_id"]) for row in await fetch_from(source, _OF_AN_EVENT, event_id, user_id)]


async def start_of(db: Database, booking_id: UUID) -> datetime | None:
    """When an active booking begins; None where it is cancelled."""
    rows = await db.fetch(_STARTS, booking_id)
    return rows[0]["start_at"] if rows else None


async def is_overtaken(db: Database, booking_id: UUID, message_id: UUID, *, start: datetime, end: datetime | None) -> bool:
    """True where a booking is not, or not any more, as a message of it says that it takes place."""
    rows = await db.fetch(_OVERTAKEN, booking_id, message_id, start, end)
    return not rows or rows[0]["overtaken"]


async def offer_ends_at(db: Database, entry_id: UUID) -> datetime | None:
    """Until when a waitlist entry's offer stands; None where it does not any more."""
    rows = await db.fetch(_OFFER, entry_id)
    return rows[0]["expires_at"] if rows else None


async def insert_mail(session: AsyncSession, *, to: str, subject: str, message: bytes) -> None:
    """A mail for the development mailbox."""
    await session.execute(insert(models.Mail).values(id=new_id(), to_address=to, subject=subject.strip(), message=message))


async def list_mails(session: AsyncSession, *, limit: int) -> Sequence[KeptMail]:
    """The mails of the development mailbox, the latest first."""
    rows = await session.execute(
        select(models.Mail.id, models.Mail.to_address, models.Mail.subject, models.Mail.created_at)
        .order_by(models.Mail.created_at.desc(), models.Mail.id.desc())
        .limit(limit)
    )
    return [KeptMail(*row) for row in rows]


async def find_mail(session: AsyncSession, mail_id: UUID) -> bytes | None:
    """A whole mail of the development mailbox."""
    found: bytes | None = await session.scalar(select(models.Mail.message).where(models.Mail.id == mail_id))
    return found


async def delete_old_mails(session: AsyncSession, *, keep: int) -> None:
    """Drop all but the latest mails of the development mailbox."""
    old = select(models.Mail.id).order_by(models.Mail.created_at.desc(), models.Mail.id.desc()).offset(keep)
    await session.execute(delete(models.Mail).where(models.Mail.id.in_(old.scalar_subquery())))
