"""Any SMTP server (RFC 5321): `smtp://user:password@host:587`, encrypted where it offers STARTTLS, or `smtps://` (TLS).

One connection per mail: a server that restarts, or closes what is idle, costs nothing then.
"""

import asyncio
import ipaddress
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.utils import parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib
from aiosmtplib import errors

from holdfast.adapters.mail.protocol import DEADLINE_SECONDS, MailRefused, MailUnavailable, check_headers, recipient_of

_PERMANENT = 500
_MAX_REPLY = 200
_QUIT_SECONDS = 1.0


class SmtpMailer:
    """Sends through one server, at an address that the settings have checked (`smtp://`, `smtps://`).

    Certificates are checked, but for a server on loopback; so no password goes in the clear.
    """

    delivers = True

    def __init__(self, url: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        parts = urlsplit(url)
        self._host = host = parts.hostname or ""
        self._tls = parts.scheme == "smtps"
        self._port = parts.port or (465 if self._tls else 587)
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password or "")
        self._deadline = deadline_seconds
        self._is_loopback = _is_loopback(host)
        self._context = ssl.create_default_context()
        if self._is_loopback:
            # Nobody is between; and nobody signs a certificate for localhost.
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    async def send(self, message: EmailMessage) -> None:
        """One mail through one connection."""
        check_headers(message)
        try:
            async with asyncio.timeout(self._deadline):
                await self._send(message)
        except TimeoutError as error:
            msg = f"the mail server took longer than {self._deadline:g} seconds"
            raise MailUnavailable(msg) from error
        except errors.SMTPRecipientsRefused as error:
            raise _failure(error.recipients[0]) from error
        except (
            errors.SMTPAuthenticationError,
            errors.SMTPConnectResponseError,
            errors.SMTPHeloError,
            errors.SMTPSenderRefused,
        ) as error:
            # About us, not about this mail: once that is put right, it can be sent.
            said = _words(error.code, error.message)
            msg = f"the mail server does not let us send (HOLDFAST_SMTP_URL, HOLDFAST_MAIL_FROM): {said}"
            raise MailUnavailable(msg) from error
        except errors.SMTPResponseException as error:
            raise _failure(error) from error
        except errors.SMTPNotSupported as error:
            msg = "the mail server does not support addresses like this one"
            raise MailRefused(msg) from error
        except (errors.SMTPException, OSError) as error:
            msg = f"the mail server is out of reach ({type(error).__name__})"
            raise MailUnavailable(msg) from error
        except ValueError as error:
            msg = "the e-mail address is none that can be sent to"
            raise MailRefused(msg) from error

    async def _send(self, message: EmailMessage) -> None:
        sender = parseaddr(str(message["From"]))[1]
        domain = sender.rpartition("@")[2]
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            # Else it is looked up, which may take long.
            local_hostname=domain if domain and domain.isascii() else "localhost",
            timeout=self._deadline,
            use_tls=self._tls,
            tls_context=self._context,
        )
        try:
            await client.connect()
            if self._user is not None:
                self._check_encrypted(client)
                await client.login(self._user, self._password)
            await client.send_message(message, sender=sender, recipients=[recipient_of(message).addr_spec])
        except BaseException:
            client.close()
            raise
        # It is theirs now, whatever becomes of the farewell.
        with suppress(errors.SMTPException, OSError, TimeoutError):
            await client.quit(timeout=_QUIT_SECONDS)
        client.close()

    def _check_encrypted(self, client: aiosmtplib.SMTP) -> None:
        if not self._is_loopback and client.get_transport_info("sslcontext") is None:
            msg = "the mail server offers no encryption: the password is not sent"
            raise MailUnavailable(msg)

    async def close(self) -> None:
        """Nothing is kept open."""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _words(code: int, reply: str) -> str:
    return f"{code} {' '.join(reply.split())[:_MAX_REPLY]}"


def _failure(error: errors.SMTPResponseException) -> MailRefused | MailUnavailable:
    told = f"the mail server answered {_words(error.code, error.message)}"
    return MailRefused(told) if error.code >= _PERMANENT else MailUnavailable(told)
