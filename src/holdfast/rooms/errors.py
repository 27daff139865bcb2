"""Refusals of rooms."""

from holdfast.core.errors import Conflict, NotFound


class RoomNotFound(NotFound):
    """No such room, or an archived one."""

    code = "ROOM_NOT_FOUND"
    message = "There is no such room."


class RoomInUse(Conflict):
    """Bookings or live holds stand in the future."""

    code = "ROOM_IN_USE"
    message = "Bookings of this room are still ahead: cancel them first, or let them pass."
