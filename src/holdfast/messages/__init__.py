"""What the outside hears of a change: the messages that streams, webhooks and mails carry, out of the outbox's rows."""

from holdfast.messages.rules import EVERYONE, TYPES, Message
from holdfast.messages.service import derive

__all__ = ["EVERYONE", "TYPES", "Message", "derive"]
