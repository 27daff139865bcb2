"""Every table, one file per family. Importing this package gives the whole catalogue (`Base.metadata`)."""

from holdfast.db.models.accounts import RefreshToken, Session, User
from holdfast.db.models.base import Base
from holdfast.db.models.bookings import Booking, BookingRequest, BookingUnit, Hold, Series, WaitlistEntry
from holdfast.db.models.claims import Claim, Closure
from holdfast.db.models.mechanisms import IdempotencyKey, OutboxMessage
from holdfast.db.models.resources import Event, Host, HostSlot, Resource, Room, Schedule, Seat

__all__ = [
    "Base",
    "Booking",
    "BookingRequest",
    "BookingUnit",
    "Claim",
    "Closure",
    "Event",
    "Hold",
    "Host",
    "HostSlot",
    "IdempotencyKey",
    "OutboxMessage",
    "RefreshToken",
    "Resource",
    "Room",
    "Schedule",
    "Seat",
    "Series",
    "Session",
    "User",
    "WaitlistEntry",
]
