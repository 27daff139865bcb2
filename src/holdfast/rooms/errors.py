"""Refusals of rooms."""

from holdfast.core.errors import Conflict, NotFound


class RoomNotFound(NotFound):
    """No such room, or an archived one."""

    code = "ROOM_NOT_FOUND"
    message = "There is no such room."


class ScheduleExists(Conflict):
    """`/schedule/create` works once per room."""

    code = "SCHEDULE_EXISTS"
    message = "This room has a schedule already: replace it with PUT /rooms/{id}/schedule."


class ScheduleNotFound(NotFound):
    """The room has none yet."""

    code = "SCHEDULE_NOT_FOUND"
    message = "This room has no schedule yet: make one with PUT /rooms/{id}/schedule."


class RoomInUse(Conflict):
    """Bookings or live holds stand in the future."""

    code = "ROOM_IN_USE"
    message = "Bookings of this room are still ahead: cancel them first, or let them pass."
