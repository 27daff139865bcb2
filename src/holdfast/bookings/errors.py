"""Refusals of taking and giving back."""

from holdfast.core.errors import Busy, Conflict, Gone, Invalid, NotFound, UpstreamFailed


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


class EventOver(Invalid):
    """The event has begun (400 INVALID_REQUEST, as for slots)."""

    message = "This event has begun already: only seats of events that are still ahead can be had."


class OwnSlot(Invalid):
    """A host does not book their own time, unless the policy's `ownerMayBook` says so."""

    code = "OWN_SLOT"
    message = "This is your own time: set ownerMayBook in your policy to book it yourself."


class SeatsNotFound(NotFound):
    """Labels, or a section, that the event does not have; `details` says which."""

    code = "SEATS_NOT_FOUND"
    message = "The event has no such seats: GET /events/{id}/seats lists them."


class SeatsTaken(Conflict):
    """Somebody has them, or there are not as many free; `details` says which, and names others."""

    code = "SEATS_TAKEN"
    message = "These seats are taken, or fewer are free than you want: take others, or wait with POST /waitlist."


class NotOnSale(Conflict):
    """Outside of the sales window."""

    code = "NOT_ON_SALE"
    message = "The event is not on sale now."


class HoldNotFound(NotFound):
    """No such hold."""

    code = "HOLD_NOT_FOUND"
    message = "There is no such hold."


class HoldExpired(Gone):
    """The hold has lapsed, or was released: its units are others' to take."""

    code = "HOLD_EXPIRED"
    message = "This hold is over: place a new one."


class HoldUsed(Conflict):
    """A booking was made of it; `details.bookingId` says which."""

    code = "HOLD_USED"
    message = "This hold has become a booking already."


class HoldExtended(Conflict):
    """A hold is extended once."""

    code = "HOLD_EXTENDED"
    message = "This hold has been extended already: book it before it ends."


class TooManyHolds(Conflict):
    """Ten seats of an event, ten slots over all rooms and hosts."""

    code = "TOO_MANY_HOLDS"
    message = "You hold as much as is allowed: book or release some of it first."


class AlreadyWaiting(Conflict):
    """One place in a line per user."""

    code = "ALREADY_WAITING"
    message = "You wait for this already."


class StillAvailable(Conflict):
    """It could be had now."""

    code = "STILL_AVAILABLE"
    message = "This is available: book it instead of waiting."


class EntryNotFound(NotFound):
    """No such waitlist entry."""

    code = "WAITLIST_ENTRY_NOT_FOUND"
    message = "There is no such waitlist entry."


class EntryBooked(Conflict):
    """The wait is over: what came of it is a booking."""

    code = "WAITLIST_ENTRY_BOOKED"
    message = "This entry has become a booking: cancel the booking instead."


class SeriesNotFound(NotFound):
    """No such series."""

    code = "SERIES_NOT_FOUND"
    message = "There is no such series."


class SeriesConflict(Conflict):
    """Not every occurrence can be had; `details.conflicts` lists those that cannot, and why."""

    code = "SERIES_CONFLICT"
    message = "Not every occurrence can be booked: leave some out with onConflict: skip, or choose another time."


class RequestNotFound(NotFound):
    """No such booking request."""

    code = "BOOKING_REQUEST_NOT_FOUND"
    message = "There is no such booking request."


class RequestAnswered(Conflict):
    """Its turn has come: there is nothing to take back."""

    code = "BOOKING_REQUEST_ANSWERED"
    message = "This request has been answered: cancel its booking instead."


class InLine(Busy):
    """Not told to callers: who wants this resource waits in its line first. `resource_no` is the resource whose line it is.

    Of the family that no idempotency key keeps.
    """

    code = "IN_LINE"
    message = "This is booked in order of arrival."

    def __init__(self, resource_no: int) -> None:
        super().__init__()
        self.resource_no = resource_no


class SlotBooked(Conflict):
    """A published slot that somebody has is not deleted."""

    code = "SLOT_BOOKED"
    message = "This slot is taken: cancel its booking first."


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
    message = "It is closed at that time."


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
