"""Who opens a stream, and what they may watch."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from holdfast.core.callers import Caller
from holdfast.core.security import new_secret, stored_secret
from holdfast.db.database import Database, retry_aborted
from holdfast.db.tidying import delete_in_steps
from holdfast.streams import queries, rules
from holdfast.streams.errors import ChannelNotFound, TicketUnknown
from holdfast.streams.queries import Ticket
from holdfast.streams.rules import Channel

TICKET_LIFE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is behind a stream. It ends when what let them in does: the token (`expires_at`), the session, the key."""

    user_id: UUID
    session_id: UUID | None = None
    key_id: UUID | None = None
    expires_at: datetime | None = None


@retry_aborted
async def make_ticket(db: Database, *, expires_at: datetime | None, by: Caller) -> str:
    """A ticket (256 random bits) that opens one stream within thirty seconds. Only its hash is kept."""
    ticket = new_secret()
    async with db.transaction() as session:
        await queries.insert_ticket(
            session, stored_secret(ticket), Ticket(by.own_id, by.role, by.session_id, expires_at), life=TICKET_LIFE
        )
    return ticket


@retry_aborted
async def use_ticket(db: Database, ticket: str) -> Ticket:
    """Whom the ticket lets in; it is good once. Raises TicketUnknown."""
    async with db.transaction() as session:
        found = await queries.use_ticket(session, stored_secret(ticket))
    if found is None:
        raise TicketUnknown
    return found


async def channels_of(db: Database, asked: Iterable[str], *, by: Caller) -> list[Channel]:
    """The channels that are asked for, all of which there are. Raises Invalid, ChannelNotFound."""
    channels = rules.parse_channels(asked, by=by)
    known = await queries.existing(db, {channel.resource_id for channel in channels if channel.resource_id is not None})
    missing = [channel.asked for channel in channels if channel.resource_id is not None and channel.name not in known]
    if missing:
        raise ChannelNotFound(details={"channels": missing})
    return channels


async def tidy(db: Database) -> None:
    """Delete tickets that nobody used."""
    await delete_in_steps(db, queries.TIDY)
