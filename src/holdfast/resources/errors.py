"""Refusals about schedules."""

from holdfast.core.errors import Conflict, NotFound


class ScheduleExists(Conflict):
    """`/schedule/create` works once."""

    code = "SCHEDULE_EXISTS"
    message = "There is a schedule already: replace it with PUT .../schedule."


class ScheduleNotFound(NotFound):
    """There is none yet."""

    code = "SCHEDULE_NOT_FOUND"
    message = "There is no schedule yet: make one with PUT .../schedule."
