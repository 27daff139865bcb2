"""What the routes of policies, schedules and slots take and give, whatever the resource's kind."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt, model_validator

from holdfast.core.schedules import Window
from holdfast.web.fields import Body, Positive, WallTime, WallTimeOrMidnight, Whole

_MINUTES = Annotated[StrictInt, Field(ge=1, le=525_600), Whole]
_SECONDS = Annotated[StrictInt, Field(ge=1, le=604_800), Whole]


class PolicyFields(Body):
    """Rules of a room, a host or an event; null means no rule. Counted are active bookings still ahead, and live holds."""

    maxActivePerUser: Positive | None = Field(None, description="Over all rooms, all hosts or all events.")
    maxActivePerUserHere: Positive | None = Field(None, description="Of this one.")
    overlapsAllowed: StrictBool | None = Field(None, description="False: not while the user has another booking at that time.")
    cancelNoticeMinutes: _MINUTES | None = None
    minNoticeMinutes: _MINUTES | None = None
    maxDaysAhead: Annotated[StrictInt, Field(ge=0, le=36_500), Whole] | None = None
    ownerMayBook: StrictBool | None = Field(None, description="A host may book their own time.")
    holdSeconds: _SECONDS | None = Field(None, description="How long a hold is kept; 300 where none is named.")
    waitlistOfferSeconds: _SECONDS | None = Field(None, description="How long an offer is kept; 900 where none is named.")
    reminderMinutes: Annotated[StrictInt, Field(ge=0, le=525_600), Whole] | None = Field(
        None, description="15 where none is named; 0: never."
    )
    fairQueue: StrictBool | None = Field(None, description="Bookings take their turn in strict order of arrival.")


WEEKDAYS = Annotated[
    list[Annotated[StrictInt, Field(ge=1, le=7), Whole]],
    Field(min_length=1, max_length=100, description="ISO weekdays, 1 is Monday and 7 is Sunday."),
]


class WindowFields(Body):
    """Opening hours of some weekdays, on the room's clock. `24:00` is the end of the day."""

    daysOfWeek: WEEKDAYS
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

    slotMinutes: Annotated[StrictInt, Field(ge=5, le=1440), Whole] = 30
    daysOfWeek: WEEKDAYS | None = None
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
    ownerMayBook: bool
    holdSeconds: int
    waitlistOfferSeconds: int
    reminderMinutes: int
    fairQueue: bool


class WindowShape(BaseModel):
    """Opening hours of some weekdays."""

    daysOfWeek: list[int]
    startTime: str
    endTime: str


class ScheduleShape(BaseModel):
    """A schedule; the flat three are there where there is one window."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    roomId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    hostId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    slotMinutes: int
    windows: list[WindowShape]
    daysOfWeek: list[int] | None = None
    startTime: str | None = None
    endTime: str | None = None


class ScheduleAnswer(BaseModel):
    """One schedule."""

    schedule: ScheduleShape


class SlotShape(BaseModel):
    """A slot `[start, end)`; the last three where all slots were asked for.

    `why` it cannot be booked now: the `rule`, its `value`, and what is possible instead; null where it can. Who may book, and
    how much, is judged when somebody books.
    """

    id: str = Field(json_schema_extra={"format": "uuid"})
    roomId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    hostId: str | None = Field(None, json_schema_extra={"format": "uuid"})
    start: str = Field(json_schema_extra={"format": "date-time"})
    end: str = Field(json_schema_extra={"format": "date-time"})
    status: Literal["free", "held", "booked", "closed", "past"] | None = None
    mine: bool | None = None
    why: dict[str, Any] | None = None


class SlotsAnswer(BaseModel):
    """Slots, soonest first."""

    slots: list[SlotShape]
