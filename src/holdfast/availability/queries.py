"""Rooms with their schedules and what is taken, many at once."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from uuid import UUID

import orjson

from holdfast.availability.rules import Candidate, Place
from holdfast.claims.queries import live_times_in_period
from holdfast.core.policies import Policy, policy_of
from holdfast.core.schedules import stored_schedule
from holdfast.db.database import Database

_FITS = "(($3::text IS NULL OR rooms.kind = $3) AND ($4::int IS NULL OR rooms.capacity >= $4) AND rooms.features @> $5::text[])"
#: One statement: the rooms that fit, and, whether it fits or not, the one to look near to. The claims are looked up room by
#: room: for 1,000 rooms and 42,000 claims of a week 65 ms, 75 behind 6 million older ones. One scan of all claims of the
#: week takes 35 to 50, but reads every seat of every event too, and the whole table where only few rooms fit.
ROOMS_AND_TIMES = """
SELECT r.no, r.id, r.time_zone, r.policy::text AS policy, rooms.capacity, rooms.location,
       s.slot_minutes, s.windows::text AS windows, {fits} AS fits, taken.starts, taken.ends
FROM resources r
JOIN rooms ON rooms.resource_no = r.no
LEFT JOIN schedules s ON s.resource_no = r.no
LEFT JOIN LATERAL {claims} taken ON true
WHERE r.archived_at IS NULL AND ({fits} OR r.id = $6::uuid)""".format(
    fits=_FITS, claims=live_times_in_period(no="r.no", start="$1::timestamptz", end="$2::timestamptz")
)


@lru_cache(maxsize=1024)
def _stored_policy(text: str) -> Policy:
    return policy_of(orjson.loads(text))


async def read_rooms(
    db: Database,
    *,
    start: datetime,
    end: datetime,
    kind: str | None,
    min_capacity: int | None,
    features: Sequence[str],
    near_room: UUID | None,
) -> tuple[list[Candidate], Place | None]:
    """The rooms that fit and have a schedule, with what is taken of them in `[start, end)`, and the place of `near_room`.

    The place is None where no such room is asked for, or there is none.
    """
    candidates: list[Candidate] = []
    near: Place | None = None
    for row in await db.fetch(ROOMS_AND_TIMES, start, end, kind, min_capacity, list(features), near_room):
        no, room_id, zone, policy, capacity, location, slot_minutes, windows, fits, starts, ends = row
        place = Place(capacity, location)
        if room_id == near_room:
            near = place
        if fits and windows is not None:
            schedule = stored_schedule(slot_minutes, windows)
            candidates.append(Candidate(no, room_id, place, zone, _stored_policy(policy), schedule, starts or (), ends or ()))
    return candidates, near
