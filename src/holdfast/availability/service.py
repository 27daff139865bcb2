"""The use case: which rooms are free, when."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from holdfast.availability import queries, rules
from holdfast.availability.rules import Entry, Wish
from holdfast.db.database import Database
from holdfast.rooms.errors import RoomNotFound


async def search_availability(
    db: Database,
    *,
    wish: Wish,
    kind: str | None = None,
    min_capacity: int | None = None,
    features: Sequence[str] = (),
    now: datetime,
) -> list[Entry]:
    """What fits the wish, of rooms of that kind, size (unknown is too small) and features, all needed; one statement.

    Raises RoomNotFound where the wish names no room that there is.
    """
    rooms, near = await queries.read_rooms(
        db,
        # What is over cannot be booked: its claims need no look. The period may be empty, never backwards.
        start=min(max(wish.start, now), wish.end),
        end=wish.end,
        kind=kind,
        min_capacity=min_capacity,
        features=features,
        near_room=wish.near_room,
    )
    if wish.near_room is not None and near is None:
        raise RoomNotFound
    # Up to hundreds of milliseconds for a month of a thousand rooms, in which others want to be answered.
    return await asyncio.to_thread(rules.search, rooms, wish, near=near, now=now)
