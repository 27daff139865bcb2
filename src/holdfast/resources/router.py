"""What the routes of slots share: their query parameters and their answer."""

import hashlib
from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query

from holdfast.core.answers import Answer, answer
from holdfast.core.errors import Invalid
from holdfast.resources.rules import Owner, SlotRange, SlotState, slot_json
from holdfast.web.fields import Date, Instant

SlotDate = Annotated[Date | None, Query(alias="date", description="On the resource's own calendar. Any date.")]
SlotsFrom = Annotated[Date | Instant | None, Query(alias="from", description="Instead of date: a date, or an instant.")]
SlotsTo = Annotated[Date | Instant | None, Query(description="With from: the last date, or the first instant after.")]
SlotsStatus = Annotated[
    Literal["free", "all"],
    Query(description="`all`: every slot, with its status, whether it is yours, and why it cannot be booked."),
]


def slot_range(day: date | None, from_: date | datetime | None, to: date | datetime | None) -> SlotRange:
    """The range that the query names. Raises Invalid: neither way, both, or a mixture."""
    if day is not None and from_ is None and to is None:
        return SlotRange(dates=(day, day))
    if day is None and from_ is not None and to is not None:
        if isinstance(from_, datetime) and isinstance(to, datetime):
            return SlotRange(period=(from_, to))
        if not isinstance(from_, datetime) and not isinstance(to, datetime):
            return SlotRange(dates=(from_, to))
        message = "from and to must both be dates, or both be instants."
        raise Invalid(message)
    message = "Name either date, or both from and to."
    raise Invalid(message)


def slots_answer(found: Sequence[SlotState], kind: str, resource_id: UUID, status: str) -> Answer:
    """`{slots: [...]}`, all of them or the free ones, with an ETag of the body."""
    owner = Owner(0, resource_id, kind)
    if status == "all":
        items = [state.as_json(owner) for state in found]
    else:
        # A past slot that nobody took is free in the room contract's sense.
        items = [slot_json(state.slot, owner) for state in found if state.status in {"free", "past"}]
    shown = answer({"slots": items})
    tag = f'"{hashlib.blake2b(shown.body, digest_size=12).hexdigest()}"'
    return Answer(200, shown.body, {"ETag": tag})
