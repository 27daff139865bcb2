"""A mail server of the outside world: a real SMTP server on a loopback port, as good or as bad as a test wants."""

import asyncio
import ssl
import warnings
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

#: What the server says to a mail: the reply's line, None to hang.
Behaviour = Callable[[EmailMessage], str | None]


class MailSink:
    """Takes mails, or refuses them: `behaviour` decides after the content, `refuse_recipient` after the address.

    With `users` it wants a log-in, with `certificate` it offers STARTTLS, or speaks TLS from the start (`tls`).
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        users: dict[str, str] | None = None,
        certificate: ssl.SSLContext | None = None,
        tls: bool = False,
        utf8: bool = True,
    ) -> None:
        self.behaviour = behaviour
        self.refuse_recipient: str | None = None
        self.mails: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.envelopes: list[Envelope] = []
        self.sessions: list[Session] = []
        self.tries = 0
        self._options: dict[str, Any] = {"enable_SMTPUTF8": utf8, "hostname": "sink.example", "tls_context": None}
        self._ssl = certificate if tls else None
        if certificate is not None and not tls:
            self._options["tls_context"] = certificate
        if users is not None:

            def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
                assert isinstance(data, LoginPassword)
                return AuthResult(handled=False, success=users.get(data.login.decode()) == data.password.decode())

            self._options |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": False}
        self._server: asyncio.Server | None = None
        self.port = 0
        self._hanging = asyncio.Event()
        self._open: list[SMTP] = []

    @property
    def url(self) -> str:
        return f"{'smtps' if self._ssl else 'smtp'}://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802 - as aiosmtpd calls it
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.tries += 1
        if self.refuse_recipient is not None:
            return self.refuse_recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        content = envelope.original_content
        assert content is not None
        mail = message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        reply = "250 taken" if self.behaviour is None else self.behaviour(mail)
        if reply is None:
            await self._hanging.wait()
            return "451 too late"
        if reply.startswith("250"):
            self.mails.append(mail)
            self.raw.append(content)
            self.envelopes.append(envelope)
            self.sessions.append(session)
        return reply

    def to(self, address: str) -> list[EmailMessage]:
        """The mails to one address, in the order in which they came."""
        return [one for one, envelope in zip(self.mails, self.envelopes, strict=True) if envelope.rcpt_tos == [address]]

    def _begin(self) -> SMTP:
        with warnings.catch_warnings():
            # That a password without encryption is unwise is what some tests are about.
            warnings.simplefilter("ignore", UserWarning)
            made = SMTP(self, **self._options)
        self._open.append(made)
        return made

    async def open(self) -> None:
        """Begin to listen, at the same port as before after a `close`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._begin, "127.0.0.1", self.port, ssl=self._ssl)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Nobody is there any more."""
        assert self._server is not None
        self._hanging.set()
        self._server.close()
        await self._server.wait_closed()
        for session in self._open:
            if session.transport is not None:
                session.transport.abort()
        handlers = [one._handler_coroutine for one in self._open if one._handler_coroutine]
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        self._open.clear()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()
