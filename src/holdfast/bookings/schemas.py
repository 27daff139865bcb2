"""What the booking routes take and give."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt, model_validator

from holdfast.bookings.rules import MAX_UNITS, ByPeriod, ByQuantity, BySeats, BySlotIds, ByTime, Selection
from holdfast.resources.schemas import SlotShape
from holdfast.web.fields import Body, Date, Id, Instant, Text, WallTime, Whole
from holdfast.web.openapi import PaginationAnswer

#: Days that one booking may span: as far as one list of slots goes.
MAX_DAYS = 31
Title = Annotated[str, Text(200)]
Notes = Annotated[str, Text(5_000)]
_SLOT_WAYS = (("slotId",), ("slotIds",), ("roomId", "start", "end"), ("roomId", "date", "time"))
_SEAT_WAYS = (("eventId", "seats"), ("eventId", "quantity"))
_HOLD_WAY = (("holdToken",),)
_Ways = tuple[tuple[str, ...], ...]


def _names(ways: _Ways) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for way in ways for name in way))


def _words(ways: _Ways) -> str:
    return "send exactly one of " + ", or ".join(" with ".join(way) for way in ways)


def _say_one_way(ways: _Ways, schema: dict[str, Any]) -> None:
    """Say in the document what `Choice` checks: exactly one of the ways, with values."""
    for name in _names(ways):
        shape = schema["properties"][name]
        (value,) = (choice for choice in shape.pop("anyOf") if choice != {"type": "null"})
        schema["properties"][name] = {**value, **shape}
        schema["properties"][name].pop("default", None)
    schema["oneOf"] = [
        {"required": list(way), "not": {"anyOf": [{"required": [name]} for name in _names(ways) if name not in way]}}
        for way in ways
    ]


def _check_one_way(ways: _Ways, body: Any) -> None:
    named = {name for name in _names(ways) if getattr(body, name) is not None}
    if named not in map(set, ways):
        raise ValueError(_words(ways))


Quantity = Annotated[StrictInt, Field(ge=1, le=MAX_UNITS), Whole]
SeatLabel = Annotated[str, Text(200, blank=False)]


class Choice(Body):
    """Which slots or seats, in exactly one of the ways."""

    WAYS: ClassVar[_Ways] = (*_SLOT_WAYS, *_SEAT_WAYS)

    slotId: Id | None = None
    slotIds: Annotated[list[Id], Field(min_length=1, max_length=MAX_UNITS)] | None = Field(
        None, description="Several slots, of whatever rooms and hosts: all or nothing."
    )
    roomId: Id | None = None
    start: Instant | None = None
    end: Instant | None = None
    date: Date | None = Field(None, description="With roomId and time, on the room's clock.")
    time: WallTime | None = None
    eventId: Id | None = None
    seats: Annotated[list[SeatLabel], Field(min_length=1, max_length=MAX_UNITS)] | None = Field(
        None, description="Labels, with eventId."
    )
    quantity: Quantity | None = Field(None, description="With eventId: that many of the best available seats.")
    section: Annotated[str, Text(50, blank=False)] | None = Field(None, description="With quantity: of this section.")
    adjacent: StrictBool | None = Field(True, description="With quantity: beside each other in one row, where it can be.")

    @model_validator(mode="after")
    def _one_way(self) -> "Choice":
        _check_one_way(self.WAYS, self)
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
        if self.eventId is not None and self.seats is not None:
            return BySeats(self.eventId, tuple(self.seats))
        if self.eventId is not None and self.quantity is not None:
            return ByQuantity(self.eventId, self.quantity, self.section, adjacent=self.adjacent is not False)
        raise ValueError(_words(self.WAYS))


_ROOM = "019376a5-0000-7000-8000-000000000000"
_CHOICES: list[dict[str, Any]] = [
    {"slotId": "00000000-0080-8e00-8000-000000000000"},
    {"roomId": _ROOM, "start": "2030-01-07T09:00:00Z", "end": "2030-01-07T11:00:00Z"},
    {"roomId": _ROOM, "date": "2030-01-07", "time": "09:00"},
    {"eventId": _ROOM, "seats": ["A-1", "A-2"]},
    {"eventId": _ROOM, "quantity": 2},
]


def _say_booking(schema: dict[str, Any]) -> None:
    _say_one_way(NewBooking.WAYS, schema)
    schema["examples"] = [
        {**_CHOICES[0], "createConferenceLink": True},
        {**_CHOICES[1], "title": "Review"},
        *_CHOICES[2:],
        {"holdToken": _ROOM},
    ]


def _say_choice(schema: dict[str, Any]) -> None:
    _say_one_way(Choice.WAYS, schema)
    schema["examples"] = _CHOICES


class NewBooking(Choice):
    """A booking to be."""

    WAYS: ClassVar[_Ways] = (*_SLOT_WAYS, *_SEAT_WAYS, *_HOLD_WAY)
    model_config = Body.model_config | {"json_schema_extra": _say_booking}

    holdToken: Id | None = Field(None, description="What this hold keeps.")
    title: Title | None = None
    notes: Notes | None = None
    createConferenceLink: StrictBool | None = Field(False, description="Ask the conference provider for a link.")


class NewHold(Choice):
    """What is to be kept for you."""

    model_config = Body.model_config | {"json_schema_extra": _say_choice}


class Move(Choice):
    """Where a booking moves to."""

    model_config = Body.model_config | {"json_schema_extra": _say_choice}


_WAIT_WAYS = (("eventId",), ("slotId",))


def _say_wait(schema: dict[str, Any]) -> None:
    _say_one_way(_WAIT_WAYS, schema)
    schema["examples"] = [{"eventId": _ROOM, "quantity": 2}, {"slotId": _CHOICES[0]["slotId"], "autoBook": True}]


class EventWait(Body):
    """How many seats of the event one waits for."""

    quantity: Annotated[StrictInt, Field(ge=1, le=10), Whole] = 1
    autoBook: StrictBool = Field(False, description="Book at once what gets free, instead of an offer to be confirmed.")


class NewWait(EventWait):
    """What one waits for: seats of an event, or a single slot."""

    model_config = Body.model_config | {"json_schema_extra": _say_wait}

    eventId: Id | None = None
    slotId: Id | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "NewWait":
        _check_one_way(_WAIT_WAYS, self)
        if self.slotId is not None and self.quantity != 1:
            msg = "a slot can be had once: quantity is for events"
            raise ValueError(msg)
        return self

    def wanted(self) -> ByQuantity | BySlotIds:
        """The choice as a value."""
        if self.eventId is not None:
            return ByQuantity(self.eventId, self.quantity)
        assert self.slotId is not None  # noqa: S101 - checked above
        return BySlotIds((self.slotId,))


Rule = Annotated[str, Text(500, blank=False)]


class SeriesTimes(Body):
    """What is repeated in which room: the first occurrence, and an RFC 5545 rule that says when it ends."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "roomId": _ROOM,
                    "start": "2030-01-07T09:00:00Z",
                    "end": "2030-01-07T10:00:00Z",
                    "recurrence": "FREQ=WEEKLY;BYDAY=MO,WE;COUNT=10",
                }
            ]
        }
    }

    roomId: Id
    start: Instant
    end: Instant
    recurrence: Rule = Field(description="RRULE of RFC 5545, section 3.3.10; at most 366 occurrences.")
    title: Title | None = None
    notes: Notes | None = None

    @model_validator(mode="after")
    def _forwards(self) -> "SeriesTimes":
        if self.start >= self.end:
            msg = "end must be after start"
            raise ValueError(msg)
        if (self.end - self.start).days >= MAX_DAYS:
            msg = f"a booking spans at most {MAX_DAYS} days"
            raise ValueError(msg)
        return self


class NewSeries(SeriesTimes):
    """A series to be."""

    onConflict: Literal["fail", "skip"] = Field("fail", description="`skip`: book the occurrences that can be had.")


class SeriesCancel(Body):
    """Which bookings of the series."""

    from_: Instant | None = Field(None, alias="from", description="Those that begin then or later; all that are ahead.")


class SeriesMove(SeriesCancel):
    """Where the first of them moves to."""

    start: Instant
    end: Instant

    @model_validator(mode="after")
    def _forwards(self) -> "SeriesMove":
        if self.start >= self.end or (self.end - self.start).days >= MAX_DAYS:
            msg = f"end must be after start, by at most {MAX_DAYS} days"
            raise ValueError(msg)
        return self


class BookingChange(Body):
    """What is to change; what is not named stays, null takes it away."""

    title: Title | None = None
    notes: Notes | None = None


class NewClosure(Body):
    """When it is closed: `[start, end)`."""

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
    hostId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    eventId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    slotIds: list[str]
    seats: list[str]
    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str | None = Field(description="Null for an event that does not say when it ends.")
    title: str | None
    notes: str | None
    conferenceLink: str | None
    seriesId: str | None
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
    """A time at which a room, or a host, is closed."""

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


class HoldShape(BaseModel):
    """A hold: its units are kept for you until `expiresAt`."""

    token: str = Field(json_schema_extra={"format": "uuid"})
    expiresAt: str = Field(json_schema_extra={"format": "date-time"})
    extendable: bool = Field(description="It has not been extended yet.")
    kind: Literal["room", "host", "event"]
    roomId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    hostId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    eventId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    slotIds: list[str]
    seats: list[str]
    start: str | None
    end: str | None


class HoldAnswer(BaseModel):
    """One hold."""

    hold: HoldShape


class HoldsAnswer(BaseModel):
    """Your live holds."""

    holds: list[HoldShape]


class EntryShape(BaseModel):
    """A place in a line. `position` 1 is next; null once offered, booked, lapsed or left."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    kind: Literal["room", "host", "event"]
    roomId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    hostId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    eventId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    slotId: str | None
    quantity: int
    autoBook: bool
    status: Literal["waiting", "offered", "booked", "lapsed", "left"]
    position: int | None
    holdToken: str | None
    expiresAt: str | None
    bookingId: str | None
    start: str
    end: str | None
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class EntryAnswer(BaseModel):
    """One entry."""

    entry: EntryShape


class EntriesAnswer(BaseModel):
    """Entries; a page of them where a line was asked for."""

    entries: list[EntryShape]
    pagination: PaginationAnswer | None = None


class OneSlotAnswer(BaseModel):
    """One slot."""

    slot: SlotShape


class RequestShape(BaseModel):
    """A place in a fair queue. `position` 1 is next. `bookingId` and `error` tell what came of it."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    status: Literal["waiting", "booked", "refused", "cancelled"]
    position: int | None
    bookingId: str | None
    error: dict[str, Any] | None
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class RequestAnswer(BaseModel):
    """One booking request."""

    bookingRequest: RequestShape


class RequestsAnswer(BaseModel):
    """Booking requests."""

    bookingRequests: list[RequestShape]


class ReasonShape(BaseModel):
    """Why an occurrence cannot be had: the refusal that booking it by itself would meet."""

    code: str
    message: str
    details: dict[str, Any]


class OccurrenceShape(BaseModel):
    """A time that the rule makes."""

    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str = Field(json_schema_extra={"format": "date-time"})
    status: Literal["free", "conflict"]
    reason: ReasonShape | None = None


class PreviewAnswer(BaseModel):
    """Every occurrence."""

    occurrences: list[OccurrenceShape]


class SeriesShape(BaseModel):
    """A series: its rule, and the first occurrence that it counts from."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    userId: str = Field(json_schema_extra={"format": "uuid"})
    roomId: str = Field(json_schema_extra={"format": "uuid"})
    recurrence: str
    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str = Field(json_schema_extra={"format": "date-time"})
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class SeriesAnswer(BaseModel):
    """A series, the bookings that the request was about, and the occurrences that were left out."""

    series: SeriesShape
    bookings: list[BookingShape]
    skipped: list[OccurrenceShape]
