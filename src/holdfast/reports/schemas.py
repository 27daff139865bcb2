"""What looking back gives."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from holdfast.web.openapi import PaginationAnswer


class TotalsShape(BaseModel):
    """Of the bookings made in the period. `active` and `cancelled` are what became of them, `seats` those of events."""

    bookings: int = Field(examples=[40])
    active: int = Field(examples=[37])
    cancelled: int = Field(examples=[3])
    cancellationRate: float = Field(description="Percent, two decimals; 0 where nothing was booked.", examples=[7.5])
    seats: int = Field(examples=[12])


class DayShape(BaseModel):
    """The bookings made on a date, and how many of them are cancelled by now."""

    date: str = Field(json_schema_extra={"format": "date"}, examples=["2026-11-20"])
    bookings: int = Field(examples=[8])
    cancelled: int = Field(examples=[1])


class TopShape(BaseModel):
    """A room, a host or an event, and how many bookings of it were made, cancelled ones included."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    name: str = Field(examples=["Aquarium"])
    bookings: int = Field(examples=[17])


class LeadTimeShape(BaseModel):
    """How long before their start bookings were made; null where none was made."""

    medianMinutes: float | None = Field(examples=[1440])
    p90Minutes: float | None = Field(examples=[10080])


class RoomUseShape(BaseModel):
    """For how long a room was open in the period, and for how long it was booked."""

    roomId: str = Field(json_schema_extra={"format": "uuid"})
    name: str = Field(examples=["Aquarium"])
    openMinutes: int = Field(description="0 without a schedule.", examples=[2400])
    bookedMinutes: int = Field(examples=[600])
    percent: float | None = Field(description="Two decimals; null where it was never open.", examples=[25.0])


class EventUseShape(BaseModel):
    """An event that begins in the period: its seats that are not blocked, and those of them that are booked."""

    eventId: str = Field(json_schema_extra={"format": "uuid"})
    name: str = Field(examples=["Opening night"])
    capacity: int = Field(examples=[120])
    booked: int = Field(examples=[90])
    percent: float | None = Field(description="Two decimals; null without seats.", examples=[75.0])


class AnalyticsAnswer(BaseModel):
    """The analytics of a period."""

    model_config = ConfigDict(populate_by_name=True)

    from_: str = Field(alias="from", json_schema_extra={"format": "date"}, examples=["2026-11-01"])
    to: str = Field(json_schema_extra={"format": "date"}, examples=["2026-11-30"])
    tz: str = Field(examples=["Europe/Berlin"])
    totals: TotalsShape
    perDay: list[DayShape] = Field(description="Every date of the period.")
    topRooms: list[TopShape]
    topHosts: list[TopShape]
    topEvents: list[TopShape]
    leadTime: LeadTimeShape
    utilization: list[RoomUseShape] = Field(description="Every room, in the order in which they were made.")
    eventUtilization: list[EventUseShape] = Field(description="Soonest first.")


class ActorShape(BaseModel):
    """Who did it: a user, an admin for somebody else (frontDesk), somebody with an API key, the service, or anyone."""

    kind: Literal["user", "frontDesk", "apiKey", "system", "anyone"]
    userId: str | None = Field(json_schema_extra={"format": "uuid"})
    role: str | None = Field(description="Null where the service did it by itself.", examples=["admin"])
    apiKeyId: str | None = Field(json_schema_extra={"format": "uuid"})


class ChangeShape(BaseModel):
    """Who did what to what, when, from where. `before` and `after`: the object as it was and as it is, null where it was not."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    number: int | None = Field(description="Its place in the order of changes; null for the moment until it has one.")
    type: str = Field(examples=["booking.created"])
    subjectId: str = Field(json_schema_extra={"format": "uuid"})
    occurredAt: str = Field(json_schema_extra={"format": "date-time"})
    actor: ActorShape
    requestId: str | None
    address: str | None = Field(examples=["192.0.2.7"])
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditAnswer(BaseModel):
    """A page of the audit log: with `pagination` by pages, with `nextCursor` when walking."""

    audit: list[ChangeShape]
    pagination: PaginationAnswer | None = None
    nextCursor: str | None = None


class ChangesAnswer(BaseModel):
    """Changes in order."""

    changes: list[ChangeShape]
    nextCursor: str = Field(description="`after` of the next request, also where there is nothing more yet.")
    more: bool = Field(description="There are more already: ask again at once.")
