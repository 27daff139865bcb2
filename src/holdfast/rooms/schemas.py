"""What the room routes take and give."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt, model_validator

from holdfast.core.schedules import Window
from holdfast.web.fields import Body, Positive, Text, TimeZone, WallTime, WallTimeOrMidnight
from holdfast.web.openapi import PaginationAnswer

_MINUTES = Annotated[StrictInt, Field(ge=1, le=525_600)]
Name = Annotated[str, Text(200, blank=False)]
Kind = Annotated[str, Text(50, blank=False)]
Feature = Annotated[str, Text(100, blank=False)]


class PolicyFields(Body):
    """Rules of a room; null means no rule. Counted are active bookings still ahead, and live holds."""

    maxActivePerUser: Positive | None = Field(None, description="Over all rooms.")
    maxActivePerUserHere: Positive | None = Field(None, description="In this room.")
    overlapsAllowed: StrictBool | None = Field(None, description="False: not while the user has another booking at that time.")
    cancelNoticeMinutes: _MINUTES | None = None
    minNoticeMinutes: _MINUTES | None = None
    maxDaysAhead: Annotated[StrictInt, Field(ge=0, le=36_500)] | None = None


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


_WEEKDAYS = Annotated[
    list[Annotated[StrictInt, Field(ge=1, le=7)]],
    Field(min_length=1, max_length=100, description="ISO weekdays, 1 is Monday and 7 is Sunday."),
]


class NewSchedule(Body):
    """The room contract's schedule: one window, slots of 30 minutes. `roomId` is not looked at: the path names the room."""

    model_config = Body.model_config | {
        "json_schema_extra": {"examples": [{"daysOfWeek": [1, 2, 3, 4, 5], "startTime": "09:00", "endTime": "18:00"}]}
    }

    daysOfWeek: _WEEKDAYS
    startTime: WallTime
    endTime: WallTime

    def windows(self) -> list[Window]:
        """The one window."""
        return [Window(tuple(self.daysOfWeek), self.startTime, self.endTime)]


class WindowFields(Body):
    """Opening hours of some weekdays, on the room's clock. `24:00` is the end of the day."""

    daysOfWeek: _WEEKDAYS
    startTime: WallTime
    endTime: WallTimeOrMidnight


class ScheduleReplacement(Body):
    """Either the flat three or `windows`, which must not overlap."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "slotMinutes": 60,
                    "windows": [
                        {"daysOfWeek": [1, 2, 3, 4, 5], "startTime": "08:00", "endTime": "12:00"},
                        {"daysOfWeek": [1, 2, 3, 4], "startTime": "13:00", "endTime": "17:00"},
                    ],
                }
            ]
        }
    }

    slotMinutes: Annotated[StrictInt, Field(ge=5, le=1440)] = 30
    daysOfWeek: _WEEKDAYS | None = None
    startTime: WallTime | None = None
    endTime: WallTimeOrMidnight | None = None
    windows: Annotated[list[WindowFields], Field(min_length=1, max_length=100)] | None = Field(
        None, description="Instead of the flat three."
    )

    @model_validator(mode="after")
    def _one_of_two_ways(self) -> "ScheduleReplacement":
        flat = (self.daysOfWeek, self.startTime, self.endTime)
        if self.windows is not None and any(part is not None for part in flat):
            msg = "send either windows, or daysOfWeek, startTime and endTime, not both"
            raise ValueError(msg)
        if self.windows is None and any(part is None for part in flat):
            msg = "send windows, or all of daysOfWeek, startTime and endTime"
            raise ValueError(msg)
        return self

    def as_windows(self) -> list[Window]:
        """The windows, however they were given."""
        if self.windows is not None:
            return [Window(tuple(w.daysOfWeek), w.startTime, w.endTime) for w in self.windows]
        return [Window(tuple(self.daysOfWeek or ()), self.startTime or 0, self.endTime or 0)]


class PolicyShape(BaseModel):
    """Every rule; null where there is none."""

    maxActivePerUser: int | None
    maxActivePerUserHere: int | None
    overlapsAllowed: bool | None
    cancelNoticeMinutes: int | None
    minNoticeMinutes: int | None
    maxDaysAhead: int | None


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


class WindowShape(BaseModel):
    """Opening hours of some weekdays."""

    daysOfWeek: list[int]
    startTime: str
    endTime: str


class ScheduleShape(BaseModel):
    """A schedule; the flat three are there where there is one window."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    roomId: str = Field(json_schema_extra={"format": "uuid"})
    slotMinutes: int
    windows: list[WindowShape]
    daysOfWeek: list[int] | None = None
    startTime: str | None = None
    endTime: str | None = None


class ScheduleAnswer(BaseModel):
    """One schedule."""

    schedule: ScheduleShape


class SlotShape(BaseModel):
    """A slot `[start, end)`; status and mine where all slots were asked for."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    roomId: str = Field(json_schema_extra={"format": "uuid"})
    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str = Field(json_schema_extra={"format": "date-time"})
    status: Literal["free", "held", "booked", "closed", "past"] | None = None
    mine: bool | None = None


class SlotsAnswer(BaseModel):
    """Slots, soonest first."""

    slots: list[SlotShape]
