"""What has the seats of an event, in SQL."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.db import models
from holdfast.db.database import fetch_in

_CLAIMS = """
SELECT c.seat_no,
       CASE WHEN c.booking_id IS NOT NULL THEN 'booked' WHEN c.hold_id IS NOT NULL THEN 'held' ELSE 'blocked' END AS status
FROM claims c WHERE c.resource_no = $1 AND c.seat_no <> 0 AND c.seat_no = ANY($2::bigint[])"""


async def seat_claims(session: AsyncSession, resource_no: int, seat_nos: Sequence[int]) -> dict[int, str]:
    """`booked`, `held` or `blocked`, for those of the seats that have a claim; what has lapsed was released before."""
    return {row["seat_no"]: row["status"] for row in await fetch_in(session, _CLAIMS, resource_no, list(seat_nos))}


async def seats_version(session: AsyncSession, resource_no: int) -> int:
    """Which layout is the present one."""
    return await session.scalar(select(models.Event.seats_version).where(models.Event.resource_no == resource_no)) or 0
