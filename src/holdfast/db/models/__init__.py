"""Every table, one file per family. Importing this package gives the whole catalogue (`Base.metadata`)."""

from holdfast.db.models.accounts import ApiKey, PasswordReset, RefreshToken, Session, StreamTicket, User
from holdfast.db.models.base import Base
from holdfast.db.models.bookings import Booking, BookingRequest, BookingUnit, Hold, Series, WaitlistEntry
from holdfast.db.models.claims import Claim, Closure
from holdfast.db.models.mechanisms import IdempotencyKey, Job, JobCount, OutboxMessage, PeriodicRun
from holdfast.db.models.outgoing import CalendarFeed, Mail, Webhook, WebhookDelivery
from holdfast.db.models.resources import Event, Host, HostSlot, Resource, Room, Schedule, Seat

__all__ = [
    "ApiKey",
    "Base",
    "Booking",
    "BookingRequest",
    "BookingUnit",
    "CalendarFeed",
    "Claim",
    "Closure",
    "Event",
    "Hold",
    "Host",
    "HostSlot",
    "IdempotencyKey",
    "Job",
    "JobCount",
    "Mail",
    "OutboxMessage",
    "PasswordReset",
    "PeriodicRun",
    "RefreshToken",
    "Resource",
    "Room",
    "Schedule",
    "Seat",
    "Series",
    "Session",
    "StreamTicket",
    "User",
    "WaitlistEntry",
    "Webhook",
    "WebhookDelivery",
]
