"""The route of the search (api.md section 2)."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from holdfast.availability import schemas, service
from holdfast.availability.rules import MAX_RANGE, Wish
from holdfast.core import clock
from holdfast.core.answers import answer
from holdfast.core.schedules import MINUTES_A_DAY
from holdfast.web.access import AnyCaller
from holdfast.web.errors import send
from holdfast.web.fields import MAX_INT, Id, Instant, Text
from holdfast.web.openapi import reads
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["rooms"])


@router.get(
    "/availability",
    operation_id="searchAvailability",
    summary="When are rooms free",
    responses=reads(schemas.AvailabilityAnswer, 400, 404),
)
async def search_availability(
    _caller: AnyCaller,
    db: DatabaseDep,
    from_: Annotated[Instant, Query(alias="from", description="Nothing begins before that.")],
    to: Annotated[Instant, Query(description=f"Nothing ends after that; {MAX_RANGE.days} days after from at most.")],
    minutes: Annotated[int, Query(ge=5, le=7 * MINUTES_A_DAY, description="For how long.")],
    kind: Annotated[Annotated[str, Text(50)] | None, Query(description="room, bay, desk, court, ...")] = None,
    min_capacity: Annotated[int | None, Query(alias="minCapacity", ge=1, le=MAX_INT)] = None,
    feature: Annotated[
        list[Annotated[str, Text(100)]] | None, Query(description="Repeat it: all are needed.", max_length=100)
    ] = None,
    rooms: Annotated[int, Query(ge=1, le=20, description="How many rooms at the same time.")] = 1,
    near_room: Annotated[Id | None, Query(alias="nearRoom", description="404 where there is no such room.")] = None,
    near_time: Annotated[Instant | None, Query(alias="nearTime", description="With nearRoom.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Entries of the answer, at most.")] = 20,
) -> Response:
    """Times at which a room has neighbouring slots, all free and bookable by its policy, that add up to `minutes`.

    Where slots do not divide `minutes`, they add up to the least above it. All of it lies in `[from, to)` and ahead of now.

    - One room: an entry for each start and end, with *every* room that has just this, in the order in which they were made.
    - Several (`rooms=2` to `20`): an entry for each start at which so many rooms have such slots, with exactly so many: the
      smallest ones, those of unknown capacity last. `end` is the latest of their ends.
    - `nearRoom` and `nearTime`, always together: entries nearest to that time come first, and rooms by how near their
      capacity is to that room's, then those of the same location. Without them, entries come soonest first.

    At most `limit` entries, and fewer where they would name more than 20,000 slots: ask for a shorter period then. With
    `minCapacity`, rooms of unknown capacity are out. A room without a schedule is never free.
    """
    wish = Wish(from_, to, minutes, rooms=rooms, near_room=near_room, near_time=near_time, limit=limit)
    found = await service.search_availability(
        db, wish=wish, kind=kind, min_capacity=min_capacity, features=feature or (), now=clock.now()
    )
    return send(answer({"availability": [entry.as_json() for entry in found]}))
