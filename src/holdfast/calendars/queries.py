"""Feeds, and what stands in a calendar, in SQL."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.calendars import rules
from holdfast.calendars.rules import Entry, Feed, Window, stretches
from holdfast.db import models
from holdfast.db.database import AnySelect, Database, fetch_from

_FEEDS: AnySelect = select(
    models.CalendarFeed.id, models.CalendarFeed.user_id, models.Resource.id, models.CalendarFeed.created_at
).outerjoin(models.Resource, models.Resource.no == models.CalendarFeed.resource_no)

#: A feed by its token's hash, while its owner may read it: a room's only as long as they are an admin.
_OPEN = """
SELECT f.id, f.user_id, f.resource_no, r.id AS room_id, r.name, f.created_at
FROM calendar_feeds f
JOIN users u ON u.id = f.user_id AND u.status = 'active'
LEFT JOIN resources r ON r.no = f.resource_no
WHERE f.hash = $1 AND (f.resource_no IS NULL OR u.role = 'admin')"""

#: Bookings with their units, and when they were last changed: an event that moves takes its bookings along.
_ENTRIES = """
SELECT b.id, b.user_id, b.status, b.title, b.notes, b.conference_link, b.version, b.created_at,
       greatest(b.created_at, b.cancelled_at, told.at, moved.at) AS changed_at, guest.name AS guest_name,
       units.names, units.places, units.labels, units.since, units.until
FROM ({which}) which
JOIN bookings b ON b.id = which.id
JOIN users guest ON guest.id = b.user_id
CROSS JOIN LATERAL (
  SELECT array_agg(r.name ORDER BY u.position) AS names,
         array_agg(CASE r.kind WHEN 'event' THEN e.venue ELSE m.location END ORDER BY u.position) AS places,
         array_agg(s.label ORDER BY u.position) AS labels,
         array_agg(lower(u.during) ORDER BY u.position) AS since,
         array_agg(upper(u.during) ORDER BY u.position) AS until,
         array_agg(u.resource_no) AS numbers
  FROM booking_units u
  JOIN resources r ON r.no = u.resource_no
  LEFT JOIN rooms m ON m.resource_no = u.resource_no
  LEFT JOIN events e ON e.resource_no = u.resource_no
  LEFT JOIN seats s ON s.no = u.seat_no
  WHERE u.booking_id = b.id) units
LEFT JOIN LATERAL (
  SELECT max(o.occurred_at) AS at FROM outbox o
  WHERE o.subject_id = b.id AND b.version > 1 AND o.type IN ('booking.updated', 'booking.rescheduled', 'booking.cancelled')
  ) told ON true
LEFT JOIN LATERAL (
  SELECT max(o.occurred_at) AS at FROM outbox o JOIN resources r ON r.id = o.subject_id
  WHERE b.kind = 'event' AND b.version > 1 AND b.status = 'active' AND r.no = ANY(units.numbers)
    AND o.type = 'event.updated' AND o.occurred_at >= b.created_at) moved ON true
ORDER BY b.start_at, b.id LIMIT 10000"""
_IN_WINDOW = "b.start_at < ${end} AND (b.start_at >= ${start} OR b.cancelled_at >= ${since})"
_WINDOW = _IN_WINDOW.format(start=2, end=3, since=4)
#: A user's own bookings, and those of the time that they offer as a host.
_OF_A_USER = _ENTRIES.format(
    which=f"""
  SELECT b.id FROM bookings b WHERE b.user_id = $1 AND {_WINDOW}
  UNION
  SELECT b.id FROM hosts h JOIN booking_units u ON u.resource_no = h.resource_no JOIN bookings b ON b.id = u.booking_id
  WHERE h.user_id = $1 AND {_WINDOW}"""  # noqa: S608 - our own words
)
_OF_A_RESOURCE = _ENTRIES.format(
    which=f"""
  SELECT DISTINCT b.id FROM booking_units u JOIN bookings b ON b.id = u.booking_id
  WHERE u.resource_no = $1 AND {_WINDOW}"""  # noqa: S608 - our own words
)
_BY_IDS = _ENTRIES.format(which="SELECT unnest($1::uuid[]) AS id")

#: Whatever takes the time of a resource: bookings, closures, and holds until they lapse.
_CLAIMED = """
SELECT lower(c.during) AS since, upper(c.during) AS until
FROM claims c
WHERE int8range(c.resource_no, c.resource_no, '[]') && int8range({no}, {no}, '[]')
  AND int8range(c.seat_no, c.seat_no, '[]') && int8range(0, 0, '[]')
  AND c.during && tstzrange($2, $3) AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())"""
_BUSY_RESOURCE = _CLAIMED.format(no="$1::bigint")
_BUSY_USER = f"""
SELECT lower(u.during) AS since, upper(u.during) AS until
FROM bookings b JOIN booking_units u ON u.booking_id = b.id
WHERE b.user_id = $1 AND b.status = 'active' AND b.start_at < $3 AND coalesce(b.end_at, b.start_at) > $2
UNION ALL
SELECT taken.since, taken.until FROM hosts h CROSS JOIN LATERAL ({_CLAIMED.format(no="h.resource_no")}) taken
WHERE h.user_id = $1"""  # noqa: S608 - our own words


@dataclass(frozen=True, slots=True)
class OpenFeed:
    """A feed that may be read; `resource_no` and `name` are the room's."""

    feed: Feed
    resource_no: int | None
    name: str | None


async def lock_feeds(session: AsyncSession, user_id: UUID) -> int:
    """How many feeds a user has; nobody else adds one until this transaction ends."""
    await session.execute(select(models.User.id).where(models.User.id == user_id).with_for_update(key_share=True))
    found: int | None = await session.scalar(
        select(func.count()).select_from(models.CalendarFeed).where(models.CalendarFeed.user_id == user_id)
    )
    return found or 0


async def insert_feed(
    session: AsyncSession, *, feed_id: UUID, user_id: UUID, resource_no: int | None, token_hash: bytes
) -> datetime:
    """A feed, by its token's hash; returns when it was made."""
    created_at: datetime | None = await session.scalar(
        insert(models.CalendarFeed)
        .values(id=feed_id, user_id=user_id, resource_no=resource_no, hash=token_hash)
        .returning(models.CalendarFeed.created_at)
    )
    assert created_at is not None  # noqa: S101 - the column is not null
    return created_at


async def list_feeds(session: AsyncSession, user_id: UUID) -> list[Feed]:
    """A user's feeds, the latest first."""
    rows = await session.execute(
        _FEEDS.where(models.CalendarFeed.user_id == user_id).order_by(
            models.CalendarFeed.created_at.desc(), models.CalendarFeed.id.desc()
        )
    )
    return [Feed(*row) for row in rows]


async def find_feed(session: AsyncSession, feed_id: UUID) -> Feed | None:
    """A feed."""
    row = (await session.execute(_FEEDS.where(models.CalendarFeed.id == feed_id))).first()
    return None if row is None else Feed(*row)


async def delete_feed(session: AsyncSession, feed_id: UUID) -> bool:
    """Its address leads nowhere from now on; False where somebody was quicker."""
    deleted = await session.scalar(
        delete(models.CalendarFeed).where(models.CalendarFeed.id == feed_id).returning(models.CalendarFeed.id)
    )
    return deleted is not None


async def open_feed(db: Database, token_hash: bytes) -> OpenFeed | None:
    """The feed of a token whose owner may read it now."""
    rows = await db.fetch(_OPEN, token_hash)
    if not rows:
        return None
    row = rows[0]
    return OpenFeed(Feed(row["id"], row["user_id"], row["room_id"], row["created_at"]), row["resource_no"], row["name"])


def _entry(row: Mapping[str, Any], reader: UUID | None) -> Entry:
    """A booking as `reader` sees it; None: whoever looks at the resource, who sees titles and times."""
    if reader is None:
        summary = row["title"] or "Booked"
    else:
        guest = None if reader == row["user_id"] else row["guest_name"] or "Guest"
        summary = rules.summary(row["title"], row["names"], guest=guest)
    places = dict(zip(row["names"], row["places"], strict=True))
    return Entry(
        booking_id=row["id"],
        sequence=row["version"] - 1,
        cancelled=row["status"] == "cancelled",
        periods=stretches(list(zip(row["since"], row["until"], strict=True))),
        summary=summary,
        location=rules.location(places, [label for label in row["labels"] if label is not None]),
        url=row["conference_link"] if reader is not None else None,
        notes=row["notes"] if reader is not None else None,
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


async def entries_of_user(db: Database, user_id: UUID, shown: Window) -> list[Entry]:
    """A user's bookings, and those of their time as a host, soonest first."""
    rows = await db.fetch(_OF_A_USER, user_id, shown.start, shown.end, shown.cancelled_since)
    return [_entry(row, user_id) for row in rows]


async def entries_of_resource(db: Database, resource_no: int, shown: Window) -> list[Entry]:
    """A resource's bookings with their titles, soonest first."""
    rows = await db.fetch(_OF_A_RESOURCE, resource_no, shown.start, shown.end, shown.cancelled_since)
    return [_entry(row, None) for row in rows]


async def entries_by_id(source: Database | AsyncSession, ids: Iterable[UUID], *, reader: UUID) -> list[Entry]:
    """Bookings as they are now, as a reader sees them, soonest first."""
    return [_entry(row, reader) for row in await fetch_from(source, _BY_IDS, list(ids))]


async def busy_of_resource(db: Database, resource_no: int, shown: Window) -> list[tuple[datetime, datetime]]:
    """When a resource is taken, by whatever: bookings, closures, holds."""
    return _periods(await db.fetch(_BUSY_RESOURCE, resource_no, shown.start, shown.end))


async def busy_of_user(db: Database, user_id: UUID, shown: Window) -> list[tuple[datetime, datetime]]:
    """When a user is busy: own bookings, and whatever takes their time as a host."""
    return _periods(await db.fetch(_BUSY_USER, user_id, shown.start, shown.end))


def _periods(rows: Sequence[Mapping[str, Any]]) -> list[tuple[datetime, datetime]]:
    # A claim of a seat has no time of its own; the booking's unit has the event's.
    return [(row["since"], row["until"]) for row in rows if row["since"] is not None and row["until"] is not None]
