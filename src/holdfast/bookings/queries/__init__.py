"""Looking, bookings, holds and closures in SQL."""

from holdfast.bookings.queries.bookings import (
    change_booking,
    find_booking,
    find_bookings,
    ids_ahead,
    insert_booking,
    list_bookings,
    list_own,
    mark_cancelled,
    move_booking,
    walk_bookings,
)
from holdfast.bookings.queries.closures import delete_closure, find_closure, insert_closure, list_closures
from holdfast.bookings.queries.holds import end_holds, hold_is_live, holds_for, insert_hold, own_live_holds
from holdfast.bookings.queries.looking import bookings_during, count_ahead, look, policies_of

__all__ = [
    "bookings_during",
    "change_booking",
    "count_ahead",
    "delete_closure",
    "end_holds",
    "find_booking",
    "find_bookings",
    "find_closure",
    "hold_is_live",
    "holds_for",
    "ids_ahead",
    "insert_booking",
    "insert_closure",
    "insert_hold",
    "list_bookings",
    "list_closures",
    "list_own",
    "look",
    "mark_cancelled",
    "move_booking",
    "own_live_holds",
    "policies_of",
    "walk_bookings",
]
