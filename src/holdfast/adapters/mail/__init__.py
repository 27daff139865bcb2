"""Mails: a mailer hands a message to a server, or keeps it where a developer can read it."""

from holdfast.adapters.mail.offline import Keep, MailboxMailer, MemoryMailer, NowhereMailer
from holdfast.adapters.mail.protocol import (
    DEADLINE_SECONDS,
    Mailer,
    MailFailure,
    MailRefused,
    MailUnavailable,
    address_of,
    header_text,
)
from holdfast.adapters.mail.registry import make_mailer
from holdfast.adapters.mail.smtp import SmtpMailer

__all__ = [
    "DEADLINE_SECONDS",
    "Keep",
    "MailFailure",
    "MailRefused",
    "MailUnavailable",
    "MailboxMailer",
    "Mailer",
    "MemoryMailer",
    "NowhereMailer",
    "SmtpMailer",
    "address_of",
    "header_text",
    "make_mailer",
]
