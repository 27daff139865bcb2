"""The routes of taking and giving back."""

from holdfast.bookings.router.bookings import router as bookings
from holdfast.bookings.router.closures import account
from holdfast.bookings.router.closures import hosts as host_closures
from holdfast.bookings.router.closures import rooms as room_closures
from holdfast.bookings.router.holds import router as holds
from holdfast.bookings.router.requests import router as requests
from holdfast.bookings.router.seats import events as seats
from holdfast.bookings.router.seats import slots
from holdfast.bookings.router.series import router as series
from holdfast.bookings.router.waitlist import router as waitlist

__all__ = [
    "account",
    "bookings",
    "holds",
    "host_closures",
    "requests",
    "room_closures",
    "seats",
    "series",
    "slots",
    "waitlist",
]
