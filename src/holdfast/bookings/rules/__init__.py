"""What may be wanted, what was read to judge it, the decision, and what comes of it. Pure."""

from holdfast.bookings.rules.deciding import Wish, check_cancel_notice, decide, find_wanted, seats_missing
from holdfast.bookings.rules.shapes import BookedUnit, Booking, Closure, Hold, Series, Ticket, WaitlistEntry, refusal_json
from holdfast.bookings.rules.wishes import (
    MAX_UNITS,
    ByPeriod,
    ByQuantity,
    BySeats,
    BySlotIds,
    ByTime,
    Reach,
    Selection,
    reach,
)
from holdfast.bookings.rules.world import Ahead, Event, Resource, Wanted, World

__all__ = [
    "MAX_UNITS",
    "Ahead",
    "BookedUnit",
    "Booking",
    "ByPeriod",
    "ByQuantity",
    "BySeats",
    "BySlotIds",
    "ByTime",
    "Closure",
    "Event",
    "Hold",
    "Reach",
    "Resource",
    "Selection",
    "Series",
    "Ticket",
    "WaitlistEntry",
    "Wanted",
    "Wish",
    "World",
    "check_cancel_notice",
    "decide",
    "find_wanted",
    "reach",
    "refusal_json",
    "seats_missing",
]
