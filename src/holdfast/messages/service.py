"""From the outbox's rows to messages."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.db.database import Database
from holdfast.messages import queries, rules
from holdfast.messages.rules import Known, Message
from holdfast.outbox import StoredMessage

T = TypeVar("T")
log = structlog.get_logger(__name__)


async def derive(source: Database | AsyncSession, stored: Sequence[StoredMessage]) -> list[Message]:
    """What stored messages say to the outside, in their order; many at the price of four reads at most.

    One that cannot be read is logged and left out: it must not keep all those after it from being heard of.
    """
    ended = {one.subject_id for one in stored if one.type in {"hold.lapsed", "hold.released"} and one.before is None}
    holds = await queries.first_shapes(source, ended)
    whose = {one.subject_id for one in stored if one.type.startswith("waitlist.") or one.type == "hold.extended"}
    known = Known(holds=holds, owners=await queries.owners(source, whose))
    wanted = {slot_id for one in stored for slot_id in _read(rules.slot_ids_of, one, known)}
    known = Known(await queries.public_slots(source, wanted), holds, known.owners)
    return [message for one in stored for message in _read(rules.messages_of, one, known)]


def _read(rule: Callable[[StoredMessage, Known], Iterable[T]], stored: StoredMessage, known: Known) -> Iterable[T]:
    try:
        return rule(stored, known)
    except (LookupError, TypeError, ValueError, AttributeError):
        log.exception("message.not_read", message_id=str(stored.id), type=stored.type)
        return ()
