"""Mailers without a server: the development mailbox, none at all, and a fake for tests."""

from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from typing import TypeAlias

import structlog

from holdfast.adapters.mail.protocol import MailFailure, recipient_of

log = structlog.get_logger(__name__)

#: Puts a mail where the development page finds it: to whom, subject, and the whole message.
Keep: TypeAlias = Callable[[str, str, bytes], Awaitable[None]]


class MailboxMailer:
    """Keeps mails for the page /dev/mails, and shows their text in the log: for development only."""

    delivers = True

    def __init__(self, keep: Keep) -> None:
        self._keep = keep

    async def send(self, message: EmailMessage) -> None:
        """Keep and log it."""
        recipient = recipient_of(message).addr_spec
        subject = str(message["Subject"])
        await self._keep(recipient, subject, message.as_bytes())
        text = message.get_body(("plain",))
        log.info("mail.kept", to=recipient, subject=subject, text=text.get_content() if text is not None else "")

    async def close(self) -> None:
        """Nothing to give back."""


class NowhereMailer:
    """Production without a mail server: says that nothing was sent, and nothing of what it was."""

    delivers = False

    async def send(self, _message: EmailMessage) -> None:
        """Only say so."""
        log.warning("mail.not_sent", hint="set HOLDFAST_SMTP_URL to send mails")

    async def close(self) -> None:
        """Nothing to give back."""


class MemoryMailer:
    """A fake: mails end in `sent`; with `failure` set, every one fails so."""

    delivers = True

    def __init__(self) -> None:
        self.sent: list[EmailMessage] = []
        self.failure: MailFailure | None = None

    async def send(self, message: EmailMessage) -> None:
        """Keep it, or fail."""
        recipient_of(message)
        if self.failure is not None:
            raise self.failure
        self.sent.append(message)

    async def close(self) -> None:
        """Nothing to give back."""
