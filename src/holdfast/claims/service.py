"""Take and release: the only writers of claims. Every caller holds the lock on the resources, and looked after it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.claims import queries
from holdfast.claims.errors import UnitTaken
from holdfast.claims.rules import Holder, HolderKind, Taken, Unit
from holdfast.core.errors import Refusal
from holdfast.db import constraints
from holdfast.db.database import fetch_in


async def occupied(session: AsyncSession, resource_no: int, start: datetime, end: datetime | None) -> tuple[Taken, ...]:
    """The claims of a resource that share an instant with `[start, end)`, soonest first; no `end`: from then on."""
    rows = await fetch_in(session, queries.OCCUPIED, resource_no, start, end)
    return queries.taken_out_of(rows[0])


async def take(session: AsyncSession, units: Sequence[Unit], holder: Holder, *, refusal: type[Refusal] = UnitTaken) -> None:
    """Claim all the units or none. Raises `refusal` where one of them has a claim: the constraint has the last word.

    Lapsed holds in the way must have been released before (`release_lapsed`): the constraint does not know the time.
    """
    ordered = sorted(units, key=lambda unit: (unit.resource_no, unit.start))
    with constraints.refused_by({"claims_never_overlap": refusal}):
        await queries.insert_claims(session, ordered, holder)


async def release(session: AsyncSession, kind: HolderKind, holder_id: UUID) -> None:
    """Give back all units of one holder; nothing happens where it has none."""
    await queries.delete_claims(session, kind, holder_id)


async def release_lapsed(session: AsyncSession, seen: Sequence[Taken]) -> list[UUID]:
    """Release those of the claims seen that are lapsed holds; returns the holds' ids.

    The database's clock decides, now that the lock is held; a hold whose end is still ahead stays.
    """
    lapsed = sorted({claim.holder_id for claim in seen if claim.lapsed})
    return await queries.delete_lapsed(session, lapsed) if lapsed else []


async def turn_hold_into_booking(session: AsyncSession, *, hold_id: UUID, booking_id: UUID) -> int:
    """Hand a hold's units to the booking, without a moment in which they are free; returns how many there were.

    Whether the hold still lives is the caller's to ask, once, under the lock: asked again for each claim, the end could
    pass between two of them.
    """
    return await queries.hand_over(session, hold_id=hold_id, booking_id=booking_id)
