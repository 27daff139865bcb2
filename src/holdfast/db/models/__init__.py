"""Every table, one file per family. Importing this package gives the whole catalogue (`Base.metadata`)."""

from holdfast.db.models.accounts import RefreshToken, Session, User
from holdfast.db.models.base import Base
from holdfast.db.models.bookings import Booking, BookingUnit, Hold
from holdfast.db.models.claims import Claim, Closure
from holdfast.db.models.mechanisms import IdempotencyKey, OutboxMessage
from holdfast.db.models.resources import Resource, Room, Schedule

__all__ = [
    "Base",
    "Booking",
    "BookingUnit",
    "Claim",
    "Closure",
    "Hold",
    "IdempotencyKey",
    "OutboxMessage",
    "RefreshToken",
    "Resource",
    "Room",
    "Schedule",
    "Session",
    "User",
]
