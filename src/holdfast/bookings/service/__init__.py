"""The use cases of bookings: taking, giving back, holds, the waitlist, closures, seats, reading, ending an account."""

from holdfast.bookings.service.booking import book
from holdfast.bookings.service.closures import Place, close, list_closures, reopen
from holdfast.bookings.service.context import Context, NewBooking
from holdfast.bookings.service.ending import end_account
from holdfast.bookings.service.giving_back import cancel_booking, change_booking, reschedule_booking
from holdfast.bookings.service.holding import extend_hold, get_hold, list_holds, place_hold, release_hold
from holdfast.bookings.service.queueing import (
    Patience,
    book_in_turn,
    cancel_request,
    get_request,
    list_requests,
    serve_line,
    serve_lines,
)
from holdfast.bookings.service.reading import get_booking, list_bookings, list_own_bookings, walk_bookings
from holdfast.bookings.service.reminding import remind_all
from holdfast.bookings.service.seats import add_seats, block_seats
from holdfast.bookings.service.series import (
    BookedSeries,
    NewSeries,
    Shift,
    book_series,
    cancel_series,
    get_series,
    preview_series,
    reschedule_series,
)
from holdfast.bookings.service.slots import delete_slot, get_slot
from holdfast.bookings.service.waitlist import (
    get_entry,
    join_waitlist,
    leave_waitlist,
    list_entries,
    list_own_entries,
    settle_all,
)

__all__ = [
    "BookedSeries",
    "Context",
    "NewBooking",
    "NewSeries",
    "Patience",
    "Place",
    "Shift",
    "add_seats",
    "block_seats",
    "book",
    "book_in_turn",
    "book_series",
    "cancel_booking",
    "cancel_request",
    "cancel_series",
    "change_booking",
    "close",
    "delete_slot",
    "end_account",
    "extend_hold",
    "get_booking",
    "get_entry",
    "get_hold",
    "get_request",
    "get_series",
    "get_slot",
    "join_waitlist",
    "leave_waitlist",
    "list_bookings",
    "list_closures",
    "list_entries",
    "list_holds",
    "list_own_bookings",
    "list_own_entries",
    "list_requests",
    "place_hold",
    "preview_series",
    "release_hold",
    "remind_all",
    "reopen",
    "reschedule_booking",
    "reschedule_series",
    "serve_line",
    "serve_lines",
    "settle_all",
    "walk_bookings",
]
