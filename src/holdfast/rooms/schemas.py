"""What the room routes take and give."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from holdfast.core.schedules import Window
from holdfast.resources.schemas import WEEKDAYS, PolicyFields, PolicyShape
from holdfast.web.fields import Body, Positive, Text, TimeZone, WallTime
from holdfast.web.openapi import PaginationAnswer

Name = Annotated[str, Text(200, blank=False)]
Kind = Annotated[str, Text(50, blank=False)]
Feature = Annotated[str, Text(100, blank=False)]


class NewRoom(Body):
    """A room to be. Only the name is needed."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [{"name": "Blue room", "capacity": 8, "timeZone": "Europe/Berlin", "features": ["screen", "whiteboard"]}]
        }
    }

    name: Name
    description: Annotated[str, Text(5_000)] | None = None
    capacity: Positive | None = None
    kind: Kind = Field("room", description="room, bay, desk, court, ...")
    timeZone: TimeZone = "UTC"
    location: Annotated[str, Text(500)] | None = None
    features: Annotated[list[Feature], Field(max_length=100)] = Field(default_factory=list)
    policy: PolicyFields | None = None


class RoomChange(Body):
    """What is to change; what is not named stays. Null takes a value away, of the policy each rule by itself."""

    name: Name | None = None
    description: Annotated[str, Text(5_000)] | None = None
    capacity: Positive | None = None
    kind: Kind | None = None
    timeZone: TimeZone | None = None
    location: Annotated[str, Text(500)] | None = None
    features: Annotated[list[Feature], Field(max_length=100)] | None = None
    policy: PolicyFields | None = None

    @model_validator(mode="after")
    def _needed_stay(self) -> "RoomChange":
        for needed in ("name", "kind", "timeZone"):
            if needed in self.model_fields_set and getattr(self, needed) is None:
                msg = f"{needed} cannot be taken away"
                raise ValueError(msg)
        return self


_COLUMN_OF = {"timeZone": "time_zone"}


def room_values(body: NewRoom | RoomChange) -> dict[str, Any]:
    """The named fields by column name."""
    values = body.model_dump(exclude_unset=isinstance(body, RoomChange), exclude={"policy"})
    if values.get("features", ()) is None:
        values["features"] = []
    if "features" in values:
        values["features"] = list(dict.fromkeys(values["features"]))
    if "policy" in body.model_fields_set or isinstance(body, NewRoom):
        values["policy"] = None if body.policy is None else body.policy.model_dump(exclude_unset=True)
    if isinstance(body, NewRoom) and values["policy"]:
        values["policy"] = {rule: value for rule, value in values["policy"].items() if value is not None}
    return {_COLUMN_OF.get(name, name): value for name, value in values.items()}


class NewSchedule(Body):
    """The room contract's schedule: one window, slots of 30 minutes. `roomId` is not looked at: the path names the room."""

    model_config = Body.model_config | {
        "json_schema_extra": {"examples": [{"daysOfWeek": [1, 2, 3, 4, 5], "startTime": "09:00", "endTime": "18:00"}]}
    }

    daysOfWeek: WEEKDAYS
    startTime: WallTime
    endTime: WallTime

    def windows(self) -> list[Window]:
        """The one window."""
        return [Window(tuple(self.daysOfWeek), self.startTime, self.endTime)]


class RoomShape(BaseModel):
    """A room."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    name: str
    description: str | None
    capacity: int | None
    kind: str
    timeZone: str
    location: str | None
    features: list[str]
    policy: PolicyShape
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class RoomAnswer(BaseModel):
    """One room."""

    room: RoomShape


class RoomsAnswer(BaseModel):
    """All rooms, or a page of them where one was asked for."""

    rooms: list[RoomShape]
    pagination: PaginationAnswer | None = None
