"""Who hears of what, and in which words."""

from holdfast.notifications.rules.deciding import (
    BOOKINGS,
    Group,
    concerns_series,
    firsts,
    group_of,
    groups,
    has_moved,
    is_over,
    is_told,
)
from holdfast.notifications.rules.letters import (
    Letter,
    Place,
    Told,
    booking_letter,
    bookings_letter,
    departure_letter,
    event_moved_letter,
    make_message,
    offer_letter,
    reset_letter,
    webhook_letter,
    when,
)
from holdfast.notifications.rules.pages import mail_page, mailbox_page

__all__ = [
    "BOOKINGS",
    "Group",
    "Letter",
    "Place",
    "Told",
    "booking_letter",
    "bookings_letter",
    "concerns_series",
    "departure_letter",
    "event_moved_letter",
    "firsts",
    "group_of",
    "groups",
    "has_moved",
    "is_over",
    "is_told",
    "mail_page",
    "mailbox_page",
    "make_message",
    "offer_letter",
    "reset_letter",
    "webhook_letter",
    "when",
]
