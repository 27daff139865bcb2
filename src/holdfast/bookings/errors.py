"""Refusals of taking and giving back."""

from holdfast.core.errors import Conflict, Invalid, NotFound, UpstreamFailed


class SlotNotFound(NotFound):
    """No schedule makes this slot, or its room is archived."""

    code = "SLOT_NOT_FOUND"
    message = "There is no such slot."


class BookingNotFound(NotFound):
    """No such booking."""

    code = "BOOKING_NOT_FOUND"
    message = "There is no such booking."


class ClosureNotFound(NotFound):
    """No such closure of this room."""

    code = "CLOSURE_NOT_FOUND"
    message = "There is no such closure."


class OutsideSchedule(Invalid):
    """The time is no slot, or no row of neighbouring slots, of the room's grid."""

    code = "OUTSIDE_SCHEDULE"
    message = "This time is no slot of the room: GET /rooms/{id}/slots lists them."


class SlotInPast(Invalid):
    """The slot has begun (400 INVALID_REQUEST by the room contract)."""

    message = "This slot has begun already: only slots that are still ahead can be booked."


class TooSoon(Invalid):
    """Less than the policy's notice is left."""

    code = "TOO_SOON"
    message = "This must be booked earlier."


class TooFarAhead(Invalid):
    """Further ahead than the policy allows."""

    code = "TOO_FAR_AHEAD"
    message = "This is too far ahead to be booked yet."


class TooLateToCancel(Invalid):
    """Less than the policy's notice is left."""

    code = "TOO_LATE_TO_CANCEL"
    message = "It is too late to cancel or move this booking."


class SlotTaken(Conflict):
    """Somebody has the slot."""

    code = "SLOT_ALREADY_BOOKED"
    message = "This slot is already taken."


class Closed(Conflict):
    """An admin closed the resource at that time."""

    code = "CLOSED"
    message = "The room is closed at that time."


class TooManyBookings(Conflict):
    """The policy's limit over all resources of the kind is reached."""

    code = "TOO_MANY_BOOKINGS"
    message = "You have as many bookings ahead as are allowed: cancel one, or let one pass."


class AlreadyBookedHere(Conflict):
    """The policy's limit for this resource is reached."""

    code = "ALREADY_BOOKED_HERE"
    message = "You have as many bookings ahead here as are allowed: cancel one, or let one pass."


class OverlapsYourBooking(Conflict):
    """The user has another booking at that time, and the policy minds."""

    code = "OVERLAPS_YOUR_BOOKING"
    message = "You have another booking at that time."


class BookingCancelled(Conflict):
    """A cancelled booking cannot be moved or changed."""

    code = "BOOKING_CANCELLED"
    message = "This booking is cancelled: make a new one."


class BookingsInTheWay(Conflict):
    """A closure would cover bookings or live holds."""

    code = "BOOKINGS_IN_THE_WAY"
    message = "Bookings stand at that time: move them first, or send cancelBookings: true."


class ClosureOverlap(Conflict):
    """Another closure covers part of the time."""

    code = "CLOSURE_OVERLAP"
    message = "The room is closed already during a part of that time."


class ConferenceServiceError(UpstreamFailed):
    """No link, so no booking."""

    code = "CONFERENCE_SERVICE_ERROR"
    message = "The conference service gave no link, so nothing was booked: try again, or book without a link."
