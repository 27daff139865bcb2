"""The pages of the development mailbox: what people wrote is escaped, and nothing runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from uuid import UUID

from holdfast.notifications.rules.templates import HTML


@dataclass(frozen=True, slots=True)
class KeptMail:
    """A line of the mailbox."""

    id: UUID
    to: str
    subject: str
    created_at: datetime


def mailbox_page(mails: Sequence[KeptMail]) -> str:
    """The mails, the latest first."""
    return HTML.get_template("mailbox.html").render(mails=mails)


def mail_page(content: bytes) -> str:
    """One mail: headers, then each part as text."""
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)  # noqa: S101 - the policy's own
    headers = [(name, str(message[name])) for name in ("From", "To", "Date", "Subject", "Message-ID") if message[name]]
    parts = [
        {"type": str(part["Content-Type"]), "content": part.get_content()}
        for part in message.walk()
        if part.get_content_maintype() == "text"
    ]
    return HTML.get_template("mail.html").render(subject=str(message["Subject"]), headers=headers, parts=parts)
