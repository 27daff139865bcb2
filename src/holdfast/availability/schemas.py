"""What the search gives."""

from pydantic import BaseModel, Field


class FreeRoomShape(BaseModel):
    """A room that can be had, and the slots to book it by."""

    roomId: str = Field(json_schema_extra={"format": "uuid"})
    slotIds: list[str] = Field(
        description="Neighbouring slots, first to last; `slotIds` of POST /bookings takes them as they are.",
        json_schema_extra={"items": {"type": "string", "format": "uuid"}},
    )


class EntryShape(BaseModel):
    """A time `[start, end)`, and the rooms that can be had then, best first."""

    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str = Field(json_schema_extra={"format": "date-time"})
    rooms: list[FreeRoomShape]


class AvailabilityAnswer(BaseModel):
    """What was found, in order; empty where there is nothing."""

    availability: list[EntryShape]
