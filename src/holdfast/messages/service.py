"""From the outbox's rows to messages."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.db.database import Database
from holdfast.messages import queries, rules
from holdfast.messages.rules import Known, Message
from holdfast.outbox import StoredMessage


async def derive(source: Database | AsyncSession, stored: Sequence[StoredMessage]) -> list[Message]:
    """What stored messages say to the outside, in their order; many at the price of four reads at most."""
    ended = {one.subject_id for one in stored if one.type in {"hold.lapsed", "hold.released"} and one.before is None}
    holds = await queries.first_shapes(source, ended)
    whose = {one.subject_id for one in stored if one.type.startswith("waitlist.") or one.type == "hold.extended"}
    known = Known(holds=holds, owners=await queries.owners(source, whose))
    wanted = {slot_id for one in stored for slot_id in rules.slot_ids_of(one, known)}
    known = Known(await queries.public_slots(source, wanted), holds, known.owners)
    return [message for one in stored for message in rules.messages_of(one, known)]
