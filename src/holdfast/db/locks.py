"""Row locks, all of them, in one fixed order: resources by number, bookings by id, holds by id, users by id.

Always FOR NO KEY UPDATE: FOR UPDATE would also stop every foreign-key check on the row. What was read before a lock was
granted is stale; read again after it. A lock that can't be had in time is Busy (`lock_timeout`).
"""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.db.database import fetch_in

_BY_NUMBER = "SELECT no FROM resources WHERE no = ANY($1::bigint[]) ORDER BY no FOR NO KEY UPDATE"
_BOOKINGS = "SELECT id FROM bookings WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"
_HOLDS = "SELECT id FROM holds WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"
_USERS = "SELECT id, status FROM users WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"


async def resources(session: AsyncSession, numbers: Iterable[int]) -> None:
    """Wait for these resources' turn: nobody else takes or gives back anything of them until the commit."""
    await fetch_in(session, _BY_NUMBER, sorted(set(numbers)))


_BY_WHATEVER = """
SELECT no FROM resources WHERE no IN (
  SELECT unnest($1::bigint[])
  UNION ALL SELECT r.no FROM resources r WHERE r.id = ANY($2::uuid[])
  UNION ALL SELECT p.resource_no FROM host_slots p WHERE p.id = ANY($3::uuid[]))
ORDER BY no FOR NO KEY UPDATE"""


async def resources_by(
    session: AsyncSession, *, numbers: Iterable[int] = (), ids: Iterable[UUID] = (), published: Iterable[UUID] = ()
) -> list[int]:
    """As `resources`, by number, by id or by a slot that a host published; returns the numbers of those that there are."""
    rows = await fetch_in(session, _BY_WHATEVER, list(numbers), list(ids), list(published))
    return [row["no"] for row in rows]


async def bookings(session: AsyncSession, ids: Iterable[UUID]) -> None:
    """Nobody else changes these bookings until the commit."""
    await fetch_in(session, _BOOKINGS, sorted(set(ids)))


async def holds(session: AsyncSession, ids: Iterable[UUID]) -> None:
    """Nobody else confirms, extends or ends these holds until the commit."""
    await fetch_in(session, _HOLDS, sorted(set(ids)))


_HOLDS_OF = """
SELECT h.id FROM holds h
WHERE h.id IN (SELECT c.hold_id FROM claims c WHERE c.resource_no = ANY($1::bigint[]) AND c.hold_id IS NOT NULL)
ORDER BY h.id FOR NO KEY UPDATE"""


async def holds_of(session: AsyncSession, resource_nos: Iterable[int]) -> None:
    """Nobody confirms a hold of these locked resources until the commit, and who was about to has done so.

    A hold's row is the one lock of whoever confirms it. Who judges by what is taken, but takes nothing, must have it too:
    else a hold that has lapsed to the eye could be a booking a moment later.
    """
    await fetch_in(session, _HOLDS_OF, sorted(set(resource_nos)))


async def users(session: AsyncSession, ids: Iterable[UUID]) -> set[UUID]:
    """Nobody else books for these users, or changes them, until the commit: limits may be counted. Returns the active ones."""
    rows = await fetch_in(session, _USERS, sorted(set(ids)))
    return {row["id"] for row in rows if row["status"] == "active"}


async def user_and_references(session: AsyncSession, user_id: UUID) -> None:
    """As `users`, and no row that names the user can be inserted either: the user is going."""
    await fetch_in(session, "SELECT id FROM users WHERE id = $1 FOR UPDATE", user_id)
