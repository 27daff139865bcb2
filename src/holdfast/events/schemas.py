"""What the event routes take and give."""

import json
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, Field, StrictBool, StrictInt, model_validator

from holdfast.events.rules import MAX_SEATS_A_CALL, NewSeat, seats_of_count, seats_of_labels, seats_of_sections
from holdfast.resources.schemas import PolicyFields, PolicyShape
from holdfast.web.fields import Body, Instant, Text, TimeZone, Whole
from holdfast.web.openapi import PaginationAnswer

Name = Annotated[str, Text(200, blank=False)]
Label = Annotated[str, Text(200, blank=False)]
Part = Annotated[str, Text(50, blank=False)]
_MOST_METADATA = 16_384


def _storable_metadata(value: dict[str, Any]) -> dict[str, Any]:
    """What PostgreSQL can keep as JSON, and readers read back as it was."""
    try:
        # orjson refuses integers beyond 64 bits and lone surrogates, the other one NaN and infinity (orjson writes null).
        text = orjson.dumps(value).decode()
        json.dumps(value, allow_nan=False)
    except (orjson.JSONEncodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        msg = "must be JSON that can be stored: no NaN, no numbers beyond 64 bits, no lone surrogates"
        raise ValueError(msg) from error
    if "\\u0000" in text:
        msg = "must not contain NUL"
        raise ValueError(msg)
    if len(text) > _MOST_METADATA:
        msg = f"must have at most {_MOST_METADATA} characters as JSON"
        raise ValueError(msg)
    return value


Metadata = Annotated[dict[str, Any], AfterValidator(_storable_metadata)]


class NewEvent(Body):
    """An event to be. It has no seats before they are added."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {"name": "Concert", "venue": "Town hall", "start": "2030-06-01T18:00:00Z", "end": "2030-06-01T21:00:00Z"}
            ]
        }
    }

    name: Name
    description: Annotated[str, Text(5_000)] | None = None
    venue: Annotated[str, Text(500)] | None = None
    start: Instant
    end: Instant | None = None
    timeZone: TimeZone = "UTC"
    salesStart: Instant | None = Field(None, description="Not before it can anything be had; null: at once.")
    salesEnd: Instant | None = Field(None, description="From then on nothing can be had; null: until it begins.")
    metadata: Metadata = Field(default_factory=dict, description="Your own fields, kept as they are.")
    policy: PolicyFields | None = None


class EventChange(Body):
    """What is to change; what is not named stays. Null takes a value away, of the policy each rule by itself."""

    name: Name | None = None
    description: Annotated[str, Text(5_000)] | None = None
    venue: Annotated[str, Text(500)] | None = None
    start: Instant | None = None
    end: Instant | None = None
    timeZone: TimeZone | None = None
    salesStart: Instant | None = None
    salesEnd: Instant | None = None
    metadata: Metadata | None = None
    policy: PolicyFields | None = None

    @model_validator(mode="after")
    def _needed_stay(self) -> "EventChange":
        for needed in ("name", "start", "timeZone"):
            if needed in self.model_fields_set and getattr(self, needed) is None:
                msg = f"{needed} cannot be taken away"
                raise ValueError(msg)
        return self


_COLUMN_OF = {
    "timeZone": "time_zone",
    "start": "start_at",
    "end": "end_at",
    "salesStart": "sales_start_at",
    "salesEnd": "sales_end_at",
    "metadata": "own_fields",
}


def event_values(body: NewEvent | EventChange) -> dict[str, Any]:
    """The named fields by column name."""
    values = body.model_dump(exclude_unset=isinstance(body, EventChange), exclude={"policy"})
    if values.get("metadata", ()) is None:
        values["metadata"] = {}
    if "policy" in body.model_fields_set:
        values["policy"] = None if body.policy is None else body.policy.model_dump(exclude_unset=True)
    return {_COLUMN_OF.get(name, name): value for name, value in values.items()}


class RowFields(Body):
    """A row of so many seats, numbered from 1."""

    name: Part
    seats: Annotated[StrictInt, Field(ge=1, le=MAX_SEATS_A_CALL), Whole]


class SectionFields(Body):
    """A section with its rows. Labels are `section-row-number`."""

    name: Part
    rows: Annotated[list[RowFields], Field(min_length=1, max_length=1_000)]


class NewSeats(Body):
    """Seats to be: exactly one of labels, sections or a plain count (general admission). Those that exist are skipped."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {"sections": [{"name": "Stalls", "rows": [{"name": "A", "seats": 20}, {"name": "B", "seats": 20}]}]},
                {"seats": ["A-1", "A-2", "A-3"]},
                {"count": 100},
            ],
            "oneOf": [
                {
                    "required": [way],
                    "not": {"anyOf": [{"required": [one]} for one in ("seats", "sections", "count") if one != way]},
                }
                for way in ("seats", "sections", "count")
            ],
        }
    }

    seats: Annotated[list[Label], Field(min_length=1, max_length=MAX_SEATS_A_CALL)] | None = None
    sections: Annotated[list[SectionFields], Field(min_length=1, max_length=1_000)] | None = None
    count: Annotated[StrictInt, Field(ge=1, le=MAX_SEATS_A_CALL), Whole] | None = Field(
        None, description="How many places there are to be in all: 1, 2, 3, ..."
    )

    @model_validator(mode="after")
    def _one_way(self) -> "NewSeats":
        if sum(way is not None for way in (self.seats, self.sections, self.count)) != 1:
            msg = "send exactly one of seats, sections or count"
            raise ValueError(msg)
        if self.sections and sum(row.seats for section in self.sections for row in section.rows) > MAX_SEATS_A_CALL:
            msg = f"a call adds at most {MAX_SEATS_A_CALL} seats"
            raise ValueError(msg)
        return self

    def new_seats(self) -> list[NewSeat]:
        """The seats, however they were named."""
        if self.seats is not None:
            return seats_of_labels(self.seats)
        if self.sections is not None:
            return seats_of_sections([(one.name, [(row.name, row.seats) for row in one.rows]) for one in self.sections])
        return seats_of_count(self.count or 0)


class SeatsChange(Body):
    """Block seats, or open them again."""

    labels: Annotated[list[Label], Field(min_length=1, max_length=MAX_SEATS_A_CALL)]
    blocked: StrictBool


class EventShape(BaseModel):
    """An event. `capacity` is the number of seats that are not blocked; `waiting` the number of waitlist entries."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    name: str
    description: str | None
    venue: str | None
    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str | None
    timeZone: str
    salesStart: str | None
    salesEnd: str | None
    metadata: dict[str, Any]
    policy: PolicyShape
    capacity: int
    booked: int
    held: int
    available: int
    waiting: int
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class EventAnswer(BaseModel):
    """One event."""

    event: EventShape


class EventsAnswer(BaseModel):
    """A page of events."""

    events: list[EventShape]
    pagination: PaginationAnswer


class SeatShape(BaseModel):
    """A seat, and whether it is the caller's."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    label: str
    section: str | None
    row: str | None
    number: int | None
    status: Literal["free", "held", "booked", "blocked"]
    mine: bool


class SeatsAnswer(BaseModel):
    """Seats, in the order in which they were made."""

    seats: list[SeatShape]
