"""The use cases of streams."""

from holdfast.streams.service.hub import Hub, Subscriber, Told
from holdfast.streams.service.notices import send_notice
from holdfast.streams.service.opening import Visitor, channels_of, make_ticket, tidy, use_ticket

__all__ = [
    "Hub",
    "Subscriber",
    "Told",
    "Visitor",
    "channels_of",
    "make_ticket",
    "send_notice",
    "tidy",
    "use_ticket",
]
