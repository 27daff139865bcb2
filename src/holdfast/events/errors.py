"""Refusals about events."""

from holdfast.core.errors import Conflict, NotFound


class EventNotFound(NotFound):
    """No such event, or an archived one."""

    code = "EVENT_NOT_FOUND"
    message = "There is no such event."


class EventInUse(Conflict):
    """Bookings or live holds stand."""

    code = "EVENT_IN_USE"
    message = "Bookings or holds of this event stand: cancel them first."
