"""What can be said against taking."""

from holdfast.core.errors import Conflict


class UnitTaken(Conflict):
    """The constraint's word: the unit has a claim."""

    code = "SLOT_ALREADY_BOOKED"
    message = "This slot is already taken."
