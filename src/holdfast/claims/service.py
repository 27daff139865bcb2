"""Take and release: the only writers of claims. Every caller holds the lock on the resources, and looked after it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.claims import queries
from holdfast.claims.errors import UnitTaken
from holdfast.claims.rules import Holder, HolderKind, Taken, Unit
from holdfast.core import metrics
from holdfast.core.errors import Refusal
from holdfast.db import constraints
from holdfast.db.database import after_commit, fetch_in


async def occupied(session: AsyncSession, resource_no: int, start: datetime, end: datetime | None) -> tuple[Taken, ...]:
    """The claims of a resource that share an instant with `[start, end)`, soonest first; no `end`: from then on."""
    rows = await fetch_in(session, queries.OCCUPIED, resource_no, start, end)
    return queries.taken_out_of(rows[0])


async def take(session: AsyncSession, units: Iterable[tuple[Unit, Holder]], *, refusal: type[Refusal] = UnitTaken) -> None:
    """Claim all the units, each for its holder, or none. Raises `refusal` where one has a claim: the constraint's word.

    Lapsed holds in the way must have been released before (`release_lapsed`): the constraint does not know the time.
    """
    ordered = sorted(units, key=lambda taken: (taken[0].resource_no, taken[0].seat_no, taken[0].start))
    with constraints.refused_by({"claims_never_overlap": refusal, "claims_one_per_seat": refusal}):
        await queries.insert_claims(session, ordered)
    taken = Counter(("seat" if unit.seat_no else "slot", holder.via) for unit, holder in ordered)
    after_commit(session, lambda: metrics.claims_taken(taken))


async def release(session: AsyncSession, kind: HolderKind, holder_ids: Iterable[UUID]) -> None:
    """Give back all units of these holders; nothing happens where one has none."""
    await queries.delete_claims(session, kind, list(holder_ids))


async def release_lapsed(session: AsyncSession, resource_nos: Iterable[int]) -> list[UUID]:
    """Release all lapsed holds that have units of these resources; returns the holds' ids.

    The database's clock decides, now that the locks are held; a hold whose end is still ahead stays. A hold is released
    whole, as its owner lost all of it: the locks of its other resources are not needed to give something back, only to
    offer it, which the next settling of those resources does.
    """
    return await queries.delete_lapsed(session, sorted(set(resource_nos)))


async def release_seats(session: AsyncSession, resource_no: int, seat_nos: Sequence[int]) -> list[UUID]:
    """Give back the claims that closures have on these seats; returns whose they were."""
    return await queries.delete_seat_closures(session, resource_no, seat_nos)


async def prolong(session: AsyncSession, hold_id: UUID, expires_at: datetime) -> None:
    """Another end for a hold's claims; the hold's row is locked, and says the same."""
    await queries.prolong(session, hold_id, expires_at)


async def turn_hold_into_booking(session: AsyncSession, *, hold_id: UUID, booking_id: UUID) -> int:
    """Hand a hold's units to the booking, without a moment in which they are free; returns how many there were.

    Whether the hold still lives is the caller's to ask, once, under the lock: asked again for each claim, the end could
    pass between two of them.
    """
    return await queries.hand_over(session, hold_id=hold_id, booking_id=booking_id)
