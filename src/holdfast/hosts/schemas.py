"""What the host routes take and give."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from holdfast.resources.schemas import PolicyFields, PolicyShape
from holdfast.web.fields import Body, Instant, Text, TimeZone
from holdfast.web.openapi import PaginationAnswer

Name = Annotated[str, Text(200, blank=False)]
Bio = Annotated[str, Text(5_000)]
_MOST_SLOTS = 500


class NewHost(Body):
    """A host's profile. The policy's defaults: five bookings per user over all hosts, one here, an hour's notice to cancel."""

    model_config = Body.model_config | {
        "json_schema_extra": {"examples": [{"displayName": "Dr. Ada Smith", "timeZone": "Europe/Berlin"}]}
    }

    displayName: Name
    timeZone: TimeZone = "UTC"
    bio: Bio | None = None
    policy: PolicyFields | None = Field(None, description="Rules that differ from the defaults; null takes a default away.")


class HostChange(Body):
    """What is to change; what is not named stays."""

    displayName: Name | None = None
    timeZone: TimeZone | None = None
    bio: Bio | None = None
    policy: PolicyFields | None = None

    @model_validator(mode="after")
    def _needed_stay(self) -> "HostChange":
        for needed in ("displayName", "timeZone"):
            if needed in self.model_fields_set and getattr(self, needed) is None:
                msg = f"{needed} cannot be taken away"
                raise ValueError(msg)
        return self


_COLUMN_OF = {"timeZone": "time_zone", "displayName": "name"}


def host_values(body: NewHost | HostChange) -> dict[str, Any]:
    """The named fields by column name."""
    values = body.model_dump(exclude_unset=isinstance(body, HostChange), exclude={"policy"})
    if "policy" in body.model_fields_set:
        values["policy"] = None if body.policy is None else body.policy.model_dump(exclude_unset=True)
    return {_COLUMN_OF.get(name, name): value for name, value in values.items()}


class Period(Body):
    """A time to be offered: `[start, end)`."""

    start: Instant
    end: Instant


class NewSlots(Body):
    """One slot, or several: all or nothing."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {"start": "2030-01-07T09:00:00Z", "end": "2030-01-07T09:45:00Z"},
                {"slots": [{"start": "2030-01-07T10:00:00Z", "end": "2030-01-07T10:30:00Z"}]},
            ],
            "oneOf": [
                {"required": ["start", "end"], "not": {"required": ["slots"]}},
                {"required": ["slots"], "not": {"anyOf": [{"required": ["start"]}, {"required": ["end"]}]}},
            ],
        }
    }

    start: Instant | None = None
    end: Instant | None = None
    slots: Annotated[list[Period], Field(min_length=1, max_length=_MOST_SLOTS)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "NewSlots":
        alone = self.start is not None and self.end is not None
        if (self.start is None) != (self.end is None) or alone == (self.slots is not None):
            msg = "send either start and end, or slots"
            raise ValueError(msg)
        return self

    def periods(self) -> list[tuple[Any, Any]]:
        """The times, however they were given."""
        if self.slots is not None:
            return [(slot.start, slot.end) for slot in self.slots]
        return [(self.start, self.end)]


class HostShape(BaseModel):
    """A host."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    userId: str = Field(json_schema_extra={"format": "uuid"})
    displayName: str
    bio: str | None
    timeZone: str
    policy: PolicyShape
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class HostAnswer(BaseModel):
    """One host."""

    host: HostShape


class HostsAnswer(BaseModel):
    """A page of hosts."""

    hosts: list[HostShape]
    pagination: PaginationAnswer


class GuestShape(BaseModel):
    """Who has a slot, as its host sees them."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    name: str | None
    email: str


class PublishedSlotShape(BaseModel):
    """A slot that a host published."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    hostId: str = Field(json_schema_extra={"format": "uuid"})
    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str = Field(json_schema_extra={"format": "date-time"})
    status: Literal["free", "held", "booked", "closed", "past"]


class OwnSlotShape(PublishedSlotShape):
    """One's own published slot, with the booking and the guest."""

    bookingId: str | None
    guest: GuestShape | None


class NewSlotsAnswer(BaseModel):
    """`slot` where one was sent by itself, `slots` where several were."""

    slot: PublishedSlotShape | None = None
    slots: list[PublishedSlotShape] | None = None


class PublishedSlotsAnswer(BaseModel):
    """A page of published slots."""

    slots: list[PublishedSlotShape]
    pagination: PaginationAnswer


class OwnSlotsAnswer(BaseModel):
    """A page of one's own published slots."""

    slots: list[OwnSlotShape]
    pagination: PaginationAnswer
