"""What a mailer must do, the two ways in which it may fail, and how an e-mail becomes an address that can be sent to."""

import unicodedata
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from typing import Protocol

import idna

#: Seconds that a server has for one mail, connecting included.
DEADLINE_SECONDS = 10.0


class MailFailure(Exception):
    """Not sent. The message is for the log and for admins; it names no secret."""


class MailRefused(MailFailure):
    """The server said no for good (5xx): sending the same again does not help."""


class MailUnavailable(MailFailure):
    """The server was out of reach, too slow, or said not now (4xx): sending it later may help."""


class Mailer(Protocol):
    """Sends mails, one recipient each (`To`). One instance serves the whole process."""

    #: Whether a mail gets anywhere: where it does not, nobody need write it.
    delivers: bool

    async def send(self, message: EmailMessage) -> None:
        """Hand a mail over. Raises MailRefused or MailUnavailable; what was handed over may come twice, never not at all."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


def header_text(text: str) -> str:
    """A text as a header may have it: one line, and nothing that reads as an encoded word (RFC 2047).

    Python's headers decode `=?utf-8?q?=0D=0ABcc:...?=` out of what they are given, and write the line end that was in it: whoever
    chooses a title would choose headers.
    """
    kept = "".join(" " if unicodedata.category(char) in {"Cc", "Zl", "Zp"} else char for char in text)
    return " ".join(kept.replace("=?", "= ?").split())


def check_headers(message: EmailMessage) -> None:
    """Raise MailRefused where a message, as it would be sent, had other headers than it was given."""
    written = BytesHeaderParser(policy=policy.compat32).parsebytes(message.as_bytes(policy=policy.SMTPUTF8))
    if [name.lower() for name in written.keys()] != [name.lower() for name in message.keys()]:  # noqa: SIM118 - repeated ones too
        msg = "a header of the mail holds a line end"
        raise MailRefused(msg)


def address_of(email: str, name: str | None = None) -> Address:
    """An e-mail as a header's address: a domain in other scripts as IDNA, what is special in the local part quoted.

    Raises MailRefused where no server would take it.
    """
    local, _, domain = email.rpartition("@")
    try:
        if not domain.isascii():
            domain = idna.encode(domain, uts46=True).decode("ascii")
        address = Address(header_text(name or ""), local, domain)
    except (ValueError, UnicodeError) as error:
        msg = "the e-mail address is none that can be sent to"
        raise MailRefused(msg) from error
    if "=?" in address.addr_spec:
        # As in header_text; here nothing can be put in between.
        msg = "the e-mail address is none that can be sent to"
        raise MailRefused(msg)
    return address


def recipient_of(message: EmailMessage) -> Address:
    """The one address that a mail goes to."""
    (address,) = message["To"].addresses
    found: Address = address
    return found
