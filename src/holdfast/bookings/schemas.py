"""What the booking routes take and give."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, model_validator

from holdfast.bookings.rules import MAX_UNITS, ByPeriod, BySlotIds, ByTime, Selection
from holdfast.web.fields import Body, Date, Id, Instant, Text, WallTime
from holdfast.web.openapi import PaginationAnswer

#: Days that one booking may span: as far as one list of slots goes.
MAX_DAYS = 31
Title = Annotated[str, Text(200)]
Notes = Annotated[str, Text(5_000)]
_WAYS = "send exactly one of slotId, slotIds, roomId with start and end, or roomId with date and time"


_WAY_FIELDS = ("slotId", "slotIds", "roomId", "start", "end", "date", "time")
_WAY_SETS = (("slotId",), ("slotIds",), ("roomId", "start", "end"), ("roomId", "date", "time"))


def _say_one_way(schema: dict[str, Any]) -> None:
    """Say in the document what `_one_way` checks: exactly one of the ways, with values."""
    for name in _WAY_FIELDS:
        shape = schema["properties"][name]
        (value,) = (choice for choice in shape.pop("anyOf") if choice != {"type": "null"})
        schema["properties"][name] = {**value, **shape}
        schema["properties"][name].pop("default", None)
    schema["oneOf"] = [
        {"required": list(way), "not": {"anyOf": [{"required": [name]} for name in _WAY_FIELDS if name not in way]}}
        for way in _WAY_SETS
    ]


class SlotChoice(Body):
    """Which slots: exactly one of `slotId`, `slotIds`, `roomId + start + end`, `roomId + date + time`."""

    slotId: Id | None = None
    slotIds: Annotated[list[Id], Field(min_length=1, max_length=MAX_UNITS)] | None = Field(
        None, description="Several slots, of one room or of several: all or nothing."
    )
    roomId: Id | None = None
    start: Instant | None = None
    end: Instant | None = None
    date: Date | None = Field(None, description="With roomId and time, on the room's clock.")
    time: WallTime | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "SlotChoice":
        named = {name for name in _WAY_FIELDS if getattr(self, name) is not None}
        if named not in map(set, _WAY_SETS):
            raise ValueError(_WAYS)
        if self.start is not None and self.end is not None:
            if self.start >= self.end:
                msg = "end must be after start"
                raise ValueError(msg)
            if (self.end - self.start).days >= MAX_DAYS:
                msg = f"a booking spans at most {MAX_DAYS} days"
                raise ValueError(msg)
        return self

    def selection(self) -> Selection:
        """The choice as a value."""
        if self.slotId is not None:
            return BySlotIds((self.slotId,))
        if self.slotIds is not None:
            return BySlotIds(tuple(self.slotIds))
        if self.roomId is not None and self.start is not None and self.end is not None:
            return ByPeriod(self.roomId, self.start, self.end)
        if self.roomId is not None and self.date is not None and self.time is not None:
            return ByTime(self.roomId, self.date, self.time)
        raise ValueError(_WAYS)


def _say_booking(schema: dict[str, Any]) -> None:
    _say_one_way(schema)
    room = "019376a5-0000-7000-8000-000000000000"
    schema["examples"] = [
        {"slotId": "00000000-0080-8e00-8000-000000000000", "createConferenceLink": True},
        {"roomId": room, "start": "2030-01-07T09:00:00Z", "end": "2030-01-07T11:00:00Z", "title": "Review"},
        {"roomId": room, "date": "2030-01-07", "time": "09:00"},
    ]


class NewBooking(SlotChoice):
    """A booking to be."""

    model_config = Body.model_config | {"json_schema_extra": _say_booking}

    title: Title | None = None
    notes: Notes | None = None
    createConferenceLink: StrictBool | None = Field(False, description="Ask the conference provider for a link.")


class Move(SlotChoice):
    """Where a booking moves to."""

    model_config = Body.model_config | {"json_schema_extra": _say_one_way}


class BookingChange(Body):
    """What is to change; what is not named stays, null takes it away."""

    title: Title | None = None
    notes: Notes | None = None


class NewClosure(Body):
    """When the room is closed: `[start, end)`."""

    start: Instant
    end: Instant
    reason: Annotated[str, Text(500)] | None = None
    cancelBookings: StrictBool = Field(False, description="Cancel what stands in the way.")


class BookingShape(BaseModel):
    """A booking. `slotId` is its first slot's id, kept as it was booked."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    slotId: str = Field(json_schema_extra={"format": "uuid"})
    userId: str = Field(json_schema_extra={"format": "uuid"})
    status: Literal["active", "cancelled"]
    kind: Literal["room", "host", "event"]
    roomId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    slotIds: list[str]
    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str = Field(json_schema_extra={"format": "date-time"})
    title: str | None
    notes: str | None
    conferenceLink: str | None
    createdAt: str = Field(json_schema_extra={"format": "date-time"})
    cancelledAt: str | None


class BookingAnswer(BaseModel):
    """One booking."""

    booking: BookingShape


class BookingsAnswer(BaseModel):
    """Bookings: whole, a page with `pagination`, or a stretch of a walk with `nextCursor`."""

    bookings: list[BookingShape]
    pagination: PaginationAnswer | None = None
    nextCursor: str | None = None


class ClosureShape(BaseModel):
    """A time at which a room is closed."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str = Field(json_schema_extra={"format": "date-time"})
    reason: str | None
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class ClosureAnswer(BaseModel):
    """One closure."""

    closure: ClosureShape


class ClosuresAnswer(BaseModel):
    """A page of closures."""

    closures: list[ClosureShape]
    pagination: PaginationAnswer
