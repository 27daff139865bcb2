"""What the use cases of booking work with and are asked for."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.accounts.errors import UserNotFound
from holdfast.accounts.queries import find_user
from holdfast.adapters.conferencing import ConferenceProvider
from holdfast.bookings.rules import Selection
from holdfast.bookings.service.taking import Queue
from holdfast.core.callers import Caller
from holdfast.core.together import Together
from holdfast.db.database import Database


@dataclass(frozen=True, slots=True)
class NewBooking:
    """What somebody wants to book, for whom: a selection, or what a hold has (`hold_id`)."""

    user_id: UUID
    selection: Selection | None
    hold_id: UUID | None = None
    title: str | None = None
    notes: str | None = None
    wants_link: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What the use cases of booking work with: the database, the provider of links, who travels together, and lines.

    `queue_for_all`: every resource has a fair queue, whatever its policy says (HOLDFAST_FAIR_QUEUE).
    """

    db: Database
    conferencing: ConferenceProvider
    together: Together
    queue_for_all: bool = False

    @property
    def queue(self) -> Queue:
        """How a taker who has not waited stands to the lines."""
        return Queue.OF_ALL if self.queue_for_all else Queue.BY_POLICY


async def check_user(session: AsyncSession, user_id: UUID, *, by: Caller) -> None:
    """Raise UserNotFound where somebody acts for a user who is not there."""
    if user_id != by.user_id and await find_user(session, user_id) is None:
        raise UserNotFound
