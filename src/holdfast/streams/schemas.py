"""The shapes of streams on the wire."""

from typing import Annotated

from pydantic import BaseModel, Field

from holdfast.web.fields import Body, Text

#: A message of a stream. Its data holds the object: `booking`, `hold`, `entry`, `closure`, or a slot's fields.
EXAMPLE = """id: 0192f0a4-9d3e-7c41-8f0e-3b1d5c2a7e10
event: slot.taken
data: {"id":"0192f0a4-9d3e-7c41-8f0e-3b1d5c2a7e10","type":"slot.taken","occurredAt":"2026-11-20T08:59:58Z",\
"data":{"slotId":"7d7c2a7e-6e5b-5d0c-9d53-1d1f3c1f2b7a","roomId":"0192f0a4-1c2b-7a01-9f00-5e0f6a7b8c9d",\
"start":"2026-11-20T09:00:00Z","end":"2026-11-20T09:30:00Z","status":"booked"}}

"""


class TicketAnswer(BaseModel):
    """A ticket for `?ticket=`, and for how many seconds it is good."""

    ticket: str
    expiresIn: int


class NoticeRequest(Body):
    """What everybody who is connected is told."""

    message: Annotated[str, Text(2_000, blank=False)] = Field(examples=["Closing in ten minutes"])


class Notice(BaseModel):
    """A notice that was sent."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    message: str = Field(examples=["Closing in ten minutes"])
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class NoticeAnswer(BaseModel):
    """The notice."""

    notice: Notice
