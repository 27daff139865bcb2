"""The shapes of streams on the wire."""

from typing import Annotated, Any

from pydantic import BaseModel

from holdfast.web.fields import Body, Text


class TicketAnswer(BaseModel):
    """A ticket for `?ticket=`, and for how many seconds it is good."""

    ticket: str
    expiresIn: int


class NoticeRequest(Body):
    """What everybody who is connected is told."""

    message: Annotated[str, Text(2_000, blank=False)]


class Notice(BaseModel):
    """A notice that was sent."""

    id: str
    message: str
    createdAt: str


class NoticeAnswer(BaseModel):
    """The notice."""

    notice: Notice


class StreamMessage(BaseModel):
    """A message of a stream or a webhook. `data` holds the object: `booking`, `hold`, `entry`, `closure`, or a slot's fields."""

    id: str
    type: str
    occurredAt: str
    data: dict[str, Any]
