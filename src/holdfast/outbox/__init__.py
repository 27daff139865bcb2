"""What must follow a change, written with the change (design section 3), numbered by the relay, and kept: the audit log."""

from holdfast.outbox.reading import StoredMessage, newest, number_of, read_after
from holdfast.outbox.relay import AT_ONCE, CHANNEL, Follower, lag_seconds, relay
from holdfast.outbox.service import Message, enqueue, enqueue_all

__all__ = [
    "AT_ONCE",
    "CHANNEL",
    "Follower",
    "Message",
    "StoredMessage",
    "enqueue",
    "enqueue_all",
    "lag_seconds",
    "newest",
    "number_of",
    "read_after",
    "relay",
]
