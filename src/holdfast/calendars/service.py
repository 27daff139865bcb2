"""The use cases of calendars."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import outbox
from holdfast.bookings.service import get_booking
from holdfast.calendars import queries, rules
from holdfast.calendars.errors import FeedNotFound, TooManyFeeds
from holdfast.calendars.queries import OpenFeed
from holdfast.calendars.rules import Feed, Party
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden
from holdfast.core.ids import new_id
from holdfast.core.security import new_secret, stored_secret
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once
from holdfast.resources.queries import find_owner
from holdfast.rooms.errors import RoomNotFound

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Document:
    """A calendar as it is sent. `tag` is the same for the same content, whenever it was written."""

    content: bytes
    tag: str


def _tag(*parts: bytes) -> str:
    return f'"{hashlib.sha256(b"".join(parts)).hexdigest()[:32]}"'


async def _aside(work: Callable[[], T]) -> T:
    """Writing a long calendar takes a second: not in everybody's way."""
    return await asyncio.to_thread(work)


@retry_aborted
async def create_feed(db: Database, *, room_id: UUID | None, by: Caller) -> tuple[Feed, str]:
    """A feed of the caller's bookings, or for an admin of a room's; and its token, which is told this once.

    Raises Forbidden, RoomNotFound, TooManyFeeds.
    """
    if room_id is not None and not by.is_admin:
        message = "Only an admin may have a room's feed: leave out roomId for your own."
        raise Forbidden(message)
    token, feed_id = new_secret(), new_id()
    async with db.transaction() as session:
        resource_no = None
        if room_id is not None:
            found = await find_owner(session, "room", room_id)
            if found is None:
                raise RoomNotFound
            resource_no = found[0].no
        if await queries.lock_feeds(session, by.own_id) >= rules.MAX_FEEDS:
            raise TooManyFeeds(details={"maxFeeds": rules.MAX_FEEDS})
        created_at = await queries.insert_feed(
            session, feed_id=feed_id, user_id=by.own_id, resource_no=resource_no, token_hash=stored_secret(token)
        )
        feed = Feed(feed_id, by.own_id, room_id, created_at)
        await outbox.enqueue(session, "calendar_feed.created", feed_id, by=by, after=feed.as_json())
    return feed, token


async def list_feeds(db: Database, *, by: Caller) -> list[Feed]:
    """The caller's feeds, the latest first."""
    async with db.transaction() as session:
        return await queries.list_feeds(session, by.own_id)


async def get_feed(db: Database, *, feed_id: UUID, by: Caller) -> Feed:
    """A feed of the caller's. Raises FeedNotFound, Forbidden."""
    async with db.transaction() as session:
        return await _own(session, feed_id, by=by)


async def _own(session: AsyncSession, feed_id: UUID, *, by: Caller) -> Feed:
    feed = await queries.find_feed(session, feed_id)
    if feed is None:
        raise FeedNotFound
    if feed.user_id != by.user_id:
        raise Forbidden
    return feed


@retry_aborted
async def delete_feed(db: Database, *, feed_id: UUID, by: Caller, once: Once) -> None:
    """End a feed of the caller's. Raises FeedNotFound, Forbidden."""
    async with once.transaction(db) as session:
        feed = await _own(session, feed_id, by=by)
        if not await queries.delete_feed(session, feed_id):
            raise FeedNotFound
        await outbox.enqueue(session, "calendar_feed.deleted", feed_id, by=by, before=feed.as_json())
        await once.keep(session, None)


async def _open(db: Database, token: str) -> OpenFeed:
    found = await queries.open_feed(db, stored_secret(token))
    if found is None:
        raise FeedNotFound
    return found


async def read_feed(db: Database, *, token: str, organizer: Party, now: datetime) -> Document:
    """The bookings of a feed. Raises FeedNotFound."""
    found = await _open(db, token)
    shown = rules.window(now)
    if found.resource_no is None:
        entries = await queries.entries_of_user(db, found.feed.user_id, shown)
    else:
        entries = await queries.entries_of_resource(db, found.resource_no, shown)
    name = found.name or "My bookings"
    content = await _aside(lambda: rules.write(entries, method="PUBLISH", organizer=organizer, name=f"Holdfast: {name}"))
    return Document(content, _tag(content))


async def read_busy(db: Database, *, token: str, organizer: Party, now: datetime) -> Document:
    """When the owner of a feed, or its room, is taken. Raises FeedNotFound."""
    found = await _open(db, token)
    shown = rules.window(now)
    if found.resource_no is None:
        taken = await queries.busy_of_user(db, found.feed.user_id, shown)
    else:
        taken = await queries.busy_of_resource(db, found.resource_no, shown)
    busy = rules.joined(taken)
    name = f"Holdfast: {found.name or 'My time'}"

    def written() -> Document:
        def at(instant: datetime) -> bytes:
            return rules.write_busy(busy, shown=shown, feed_id=found.feed.id, organizer=organizer, now=instant, name=name)

        # The tag is of what is said, not of when: DTSTAMP is the moment of writing.
        return Document(at(now), _tag(at(shown.start)))

    return await _aside(written)


async def read_booking(db: Database, *, booking_id: UUID, organizer: Party, by: Caller) -> Document:
    """A booking as a file, for its owner, its hosts and admins. Raises BookingNotFound, Forbidden."""
    booking = await get_booking(db, booking_id=booking_id, by=by)
    # An admin sees it as its owner does.
    reader = by.own_id if by.user_id in booking.host_user_ids else booking.user_id
    entries = await queries.entries_by_id(db, [booking_id], reader=reader)
    content = rules.write(entries, method="PUBLISH", organizer=organizer)
    return Document(content, _tag(content))
