"""What requests are called in every report: locust's parts send them under these names, the profiles show them."""

LIST, BOOK, CANCEL, LOOK = "list slots", "book a slot", "cancel it", "look for a slot to book"

EVENT_REQUESTS = (
    "look at the event",
    "hold seats",
    "book what is held",
    "repeat the booking",
    "cancel a booking",
    "join the waitlist",
    "look at the waitlist",
)
LOOK_AT_EVENT, HOLD, BOOK_HELD, REPEAT, CANCEL_SEATS, JOIN, LOOK_AT_LINE = EVENT_REQUESTS
