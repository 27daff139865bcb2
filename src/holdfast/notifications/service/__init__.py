"""Mails: following what happens, writing and sending each, and the development mailbox."""

from holdfast.notifications.service.delivering import kinds
from holdfast.notifications.service.following import follow
from holdfast.notifications.service.mailbox import get_mail, keep_in, list_mails, periodic

__all__ = ["follow", "get_mail", "keep_in", "kinds", "list_mails", "periodic"]
