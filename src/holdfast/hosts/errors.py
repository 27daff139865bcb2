"""Refusals about hosts and the slots that they publish."""

from holdfast.core.errors import Conflict, Forbidden, NotFound


class HostNotFound(NotFound):
    """No such host, or one who is gone."""

    code = "HOST_NOT_FOUND"
    message = "There is no such host."


class AlreadyHost(Conflict):
    """A user is a host once."""

    code = "ALREADY_HOST"
    message = "You are a host already: change your profile with PATCH /hosts/{id}."


class NotHost(Forbidden):
    """Only hosts publish slots."""

    message = "Only hosts publish slots: become one with POST /hosts."


class SlotOverlap(Conflict):
    """Two published slots of a host never overlap; touching is fine."""

    code = "SLOT_OVERLAP"
    message = "You have published a slot at that time already."
