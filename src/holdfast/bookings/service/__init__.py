"""The use cases of bookings: taking, giving back, closures, reading, ending an account."""

from holdfast.bookings.service.closures import close_room, list_closures, reopen_room
from holdfast.bookings.service.ending import end_account
from holdfast.bookings.service.giving_back import cancel_booking, change_booking, reschedule_booking
from holdfast.bookings.service.reading import get_booking, list_bookings, list_own_bookings, walk_bookings
from holdfast.bookings.service.taking import BookingRequest, book

__all__ = [
    "BookingRequest",
    "book",
    "cancel_booking",
    "change_booking",
    "close_room",
    "end_account",
    "get_booking",
    "list_bookings",
    "list_closures",
    "list_own_bookings",
    "reopen_room",
    "reschedule_booking",
    "walk_bookings",
]
