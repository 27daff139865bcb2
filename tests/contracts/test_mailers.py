"""One contract for every mailer, real or fake; and how the one that speaks SMTP copes with bad servers."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from aiosmtpd.controller import Controller
from structlog.testing import capture_logs

from conftest import make_settings
from holdfast.adapters.mail import (
    MailboxMailer,
    Mailer,
    MailRefused,
    MailUnavailable,
    MemoryMailer,
    NowhereMailer,
    SmtpMailer,
    address_of,
    header_text,
    make_mailer,
)
from holdfast.adapters.mail.offline import Keep
from holdfast.core.settings import SettingsError
from support.mails import MailSink
from support.servers import free_port

ANNA = "anna@example.com"
DATABASE = "postgresql://nobody@127.0.0.1/none"


def mail(to: str = ANNA, name: str | None = "Anna", **headers: str) -> EmailMessage:
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = "Holdfast <desk@example.com>"
    message["To"] = address_of(to, name)
    message["Subject"] = "Booked: Grüße 😀"
    message["Message-ID"] = "<1@holdfast>"
    for header, value in headers.items():
        message[header] = value
    message.set_content("Hello,\n.\n..two dots\n日本 😀\n")
    message.add_alternative("<p>Hello</p>", subtype="html")
    return message


@pytest.fixture(params=["smtp", "mailbox", "memory"])
async def mailer(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Mailer, list[EmailMessage]]]:
    """Each mailer, and the mails that came out at the other end."""
    arrived: list[EmailMessage] = []

    async def keep(to: str, subject: str, message: bytes) -> None:
        kept = message_from_bytes(message, policy=policy.default)
        assert isinstance(kept, EmailMessage)
        assert (to, subject) == (kept["To"].addresses[0].addr_spec, kept["Subject"])
        arrived.append(kept)

    async with MailSink() as sink:
        if request.param == "memory":
            memory = MemoryMailer()
            yield memory, memory.sent
        elif request.param == "mailbox":
            yield MailboxMailer(keep), arrived
        else:
            yield SmtpMailer(sink.url), sink.mails


async def test_a_mail_arrives_as_it_was_written(mailer: tuple[Mailer, list[EmailMessage]]) -> None:
    sender, arrived = mailer
    assert sender.delivers
    await sender.send(mail())
    await sender.close()
    (got,) = arrived
    assert got["Subject"] == "Booked: Grüße 😀"
    assert got["To"].addresses[0].addr_spec == ANNA
    assert got["Message-ID"] == "<1@holdfast>"
    text, html = got.get_body(("plain",)), got.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines() == ["Hello,", ".", "..two dots", "日本 😀"]
    assert html.get_content().strip() == "<p>Hello</p>"


async def test_a_fake_fails_as_it_is_told() -> None:
    fake = MemoryMailer()
    fake.failure = MailUnavailable("not now")
    with pytest.raises(MailUnavailable):
        await fake.send(mail())
    assert fake.sent == []


@pytest.mark.parametrize(
    ("reply", "failure"),
    [("550 no such mailbox", MailRefused), ("554 5.7.1 spam", MailRefused), ("452 full", MailUnavailable)],
)
async def test_an_answer_is_for_good_or_for_now(reply: str, failure: type[Exception]) -> None:
    async with MailSink() as sink:
        sink.refuse_recipient = reply
        with pytest.raises(failure, match=reply[:3]):
            await SmtpMailer(sink.url).send(mail())
        sink.refuse_recipient = None
        sink.behaviour = lambda _mail: reply
        with pytest.raises(failure, match=reply[:3]):
            await SmtpMailer(sink.url).send(mail())
        assert sink.mails == []


async def test_a_server_that_hangs_is_given_up_at_the_deadline() -> None:
    async with MailSink(lambda _mail: None) as sink:
        begun = time.monotonic()
        with pytest.raises(MailUnavailable):
            await SmtpMailer(sink.url, deadline_seconds=0.5).send(mail())
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("greeting", [b"", b"554 go away\r\n", b"421 later\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_who_is_no_mail_server_is_unavailable(greeting: bytes) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(MailUnavailable):
            await SmtpMailer(f"smtp://127.0.0.1:{port}", deadline_seconds=3).send(mail())


async def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(MailUnavailable):
        await SmtpMailer("smtp://127.0.0.1:1").send(mail())


async def test_a_sender_that_the_server_does_not_take_is_no_mails_fault() -> None:
    class Picky:
        async def handle_MAIL(self, _server: Any, _session: Any, _envelope: Any, _address: str, _options: Any) -> str:  # noqa: N802
            return "553 5.7.1 not owned by you"

    controller = Controller(Picky(), hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        with pytest.raises(MailUnavailable, match="HOLDFAST_MAIL_FROM"):
            await SmtpMailer(f"smtp://127.0.0.1:{controller.port}").send(mail())
    finally:
        controller.stop()


async def test_user_and_password_are_decoded_and_a_wrong_one_is_no_mails_fault() -> None:
    user, password = "desk@example.com", "p@ss:/?#% wörd"
    async with MailSink(users={user: password}) as sink:
        host = sink.url.removeprefix("smtp://")
        await SmtpMailer(f"smtp://{quote(user, safe='')}:{quote(password, safe='')}@{host}").send(mail())
        assert len(sink.mails) == 1
        with pytest.raises(MailUnavailable, match="does not let us send") as failed:
            await SmtpMailer(f"smtp://{quote(user, safe='')}:wrong@{host}").send(mail())
        assert "wrong" not in str(failed.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody has signed."""
    folder: Path = tmp_path_factory.mktemp("certificate")
    key, made = str(folder / "key.pem"), str(folder / "certificate.pem")
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout {key} -out {made}".split(),
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context


@pytest.mark.parametrize("tls", [True, False])
async def test_what_can_be_encrypted_is(certificate: ssl.SSLContext, tls: bool) -> None:
    async with MailSink(certificate=certificate, tls=tls) as sink:
        await SmtpMailer(sink.url).send(mail())
    (session,) = sink.sessions
    assert session.ssl is not None or tls
    assert len(sink.mails) == 1


async def test_elsewhere_a_certificate_is_checked_and_no_password_goes_in_the_clear(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sink listens on loopback, where neither is asked for: this mailer is told that it is elsewhere.
    monkeypatch.setattr("holdfast.adapters.mail.smtp._is_loopback", lambda _host: False)
    async with MailSink(certificate=certificate) as sink:
        with pytest.raises(MailUnavailable):
            await SmtpMailer(sink.url).send(mail())
    async with MailSink(users={"desk": "secret"}) as sink:
        with pytest.raises(MailUnavailable, match="no encryption"):
            await SmtpMailer(sink.url.replace("://", "://desk:secret@")).send(mail())
        assert sink.mails == []


@pytest.mark.parametrize(
    ("email", "sent_to"),
    [
        ("anna@bücher.example", "anna@xn--bcher-kva.example"),
        ("an,na@example.com", '"an,na"@example.com'),
        ("a<b>c@example.com", '"a<b>c"@example.com'),
        ('a"b\\c@example.com', '"a\\"b\\\\c"@example.com'),
        ("a:b;c@example.com", '"a:b;c"@example.com'),
        ("øre@example.com", "øre@example.com"),
        ("x@y@example.com", '"x@y"@example.com'),
        ("anna@localhost", "anna@localhost"),
    ],
)
async def test_odd_addresses_are_one_recipient_or_none(email: str, sent_to: str) -> None:
    async with MailSink() as sink:
        try:
            await SmtpMailer(sink.url).send(mail(email))
        except MailRefused:
            # aiosmtpd knows no quoted local parts; what matters is that nobody else gets it.
            assert '"' in sent_to
        assert [envelope.rcpt_tos for envelope in sink.envelopes] in ([[sent_to]], [])
        assert sink.mails or '"' in sent_to


async def test_an_address_that_the_server_cannot_carry_is_refused() -> None:
    async with MailSink(utf8=False) as sink:
        with pytest.raises(MailRefused):
            await SmtpMailer(sink.url).send(mail("øre@example.com"))
        await SmtpMailer(sink.url).send(mail("anna@bücher.example", "Ännä"))
        assert len(sink.mails) == 1


@pytest.mark.parametrize(
    "email",
    ["anna\r\nRCPT TO:<evil@example.com>@example.com", "anna@exa\r\nmple.com", "anna@" + "ü" * 90, "=?utf-8?q?=0D=0ABcc:x?=@a.b"],
)
def test_an_address_with_a_line_end_is_none(email: str) -> None:
    with pytest.raises(MailRefused):
        address_of(email)


HOSTILE = "=?utf-8?q?x=0D=0ABcc:_evil@example.com?="


def test_an_encoded_word_in_a_text_stays_a_text() -> None:
    message = mail(name=HOSTILE)
    del message["Subject"]
    message["Subject"] = header_text(f"Booked: {HOSTILE}\r\nBcc: evil@example.com\u2028")
    assert b"\nBcc" not in message.as_bytes()
    assert message["Subject"] == "Booked: = ?utf-8?q?x=0D=0ABcc:_evil@example.com?= Bcc: evil@example.com"
    # The control: without it, Python writes the line end.
    del message["Subject"]
    message["Subject"] = f"Booked: {HOSTILE}"
    assert b"\nBcc: evil@example.com" in message.as_bytes()


async def test_a_message_with_a_line_end_in_a_header_never_leaves() -> None:
    message = mail()
    del message["Subject"]
    message["Subject"] = f"Booked: {HOSTILE}"
    async with MailSink() as sink:
        with pytest.raises(MailRefused, match="line end"):
            await SmtpMailer(sink.url).send(message)
        assert sink.mails == []


async def test_the_log_of_development_shows_the_text_and_production_says_nothing_of_it() -> None:
    async def keep(_to: str, _subject: str, _message: bytes) -> None:
        """Nowhere."""

    structlog.reset_defaults()
    with capture_logs() as logged:
        await MailboxMailer(keep).send(mail())
        await NowhereMailer().send(mail())
    kept, unsent = logged
    assert (kept["event"], kept["subject"], kept["to"]) == ("mail.kept", "Booked: Grüße 😀", ANNA)
    assert "two dots" in kept["text"]
    assert unsent["event"] == "mail.not_sent"
    assert "anna" not in str(unsent)
    assert "Booked" not in str(unsent)


def test_settings_choose_the_mailer() -> None:
    async def keep(_to: str, _subject: str, _message: bytes) -> None:
        """Nowhere."""

    def made(**settings: Any) -> Mailer:
        chosen: Keep = keep
        return make_mailer(make_settings(DATABASE, **settings), keep=chosen)

    assert isinstance(made(), MailboxMailer)
    assert isinstance(made(env="production", jwt_secret="k7Qz-93hfT_wLx0aVbN4mEyR8sUc1dGj"), NowhereMailer)
    assert not made(env="production", jwt_secret="k7Qz-93hfT_wLx0aVbN4mEyR8sUc1dGj").delivers
    for url in ("smtp://mail.example.com", "smtps://u:p@mail.example.com:465"):
        assert isinstance(made(smtp_url=url), SmtpMailer)
    for url in ("smtp://", "smtp://u:hidden@mail.example.com:x", "smtp://u:hidden@[::1"):
        with pytest.raises(SettingsError, match="HOLDFAST_SMTP_URL") as failed:
            made(smtp_url=url)
        assert "hidden" not in str(failed.value)
