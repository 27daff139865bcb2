"""One contract for every sender of webhooks, real or fake; and how the real one copes with bad endpoints and bad addresses."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpcore
import pytest
import trustme
from standardwebhooks import Webhook as Verifier

from holdfast.adapters.webhooks import (
    FakeSender,
    HttpSender,
    Parcel,
    Reply,
    WebhookRefused,
    WebhookSender,
    WebhookUnavailable,
    http,
    new_secret,
)
from support.sinks import (
    Behaviour,
    accepts,
    answers,
    cuts,
    drips,
    drips_a_body,
    floods,
    hangs,
    sink,
    speaks_nonsense,
)

BODY = '{"id":"018f","type":"booking.created","data":{"title":"Büro"}}'


def parcel(url: str, secrets: tuple[str, ...] | None = None) -> Parcel:
    return Parcel(url, "018f.1", BODY, datetime.now(UTC), secrets or (new_secret(),))


@asynccontextmanager
async def sending(**options: Any) -> AsyncIterator[HttpSender]:
    made = HttpSender(**{"loopback": True, "deadline_seconds": 5.0, "connect_seconds": 2.0, **options})
    try:
        yield made
    finally:
        await made.close()


class World:
    """A sender and who receives, whichever it is."""

    def __init__(self, sender: WebhookSender, url: str, received: Callable[[], list[tuple[dict[str, str], bytes]]]) -> None:
        self.sender = sender
        self.url = url
        self.received = received


@asynccontextmanager
async def world(kind: str, status: int = 204) -> AsyncIterator[World]:
    if kind == "fake":
        fake = FakeSender(lambda _parcel: Reply(status), loopback=True)
        yield World(fake, "http://127.0.0.1:9/hook", lambda: [(headers, sent.body.encode()) for sent, headers in fake.sent])
        await fake.close()
        return
    async with sink(answers(status)) as here, sending() as sender:
        yield World(sender, here.url, lambda: [(one.headers, one.body) for one in here.requests])


@pytest.mark.parametrize("kind", ["fake", "http"])
async def test_a_parcel_arrives_as_it_is_signed_by_each_secret(kind: str) -> None:
    secrets = (new_secret(), new_secret())
    async with world(kind) as there:
        assert (await there.sender.send(parcel(there.url, secrets))).status == 204
        assert (await there.sender.send(parcel(there.url, secrets))).status == 204
        first, second = there.received()
    for headers, body in (first, second):
        assert body == BODY.encode()
        assert headers["webhook-id"] == "018f.1"
        for secret in secrets:
            Verifier(secret).verify(body, headers)


@pytest.mark.parametrize("kind", ["fake", "http"])
@pytest.mark.parametrize("status", [200, 302, 400, 410, 500])
async def test_any_status_is_an_answer_and_no_failure(kind: str, status: int) -> None:
    async with world(kind, status) as there:
        assert (await there.sender.send(parcel(there.url))).status == status
        assert len(there.received()) == 1


@pytest.mark.parametrize("kind", ["fake", "http"])
@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "https://169.254.169.254/", "https://[fe80::1]/", "ftp://x/", "https://u@x/"]
)
async def test_an_address_that_is_not_public_is_refused(kind: str, url: str) -> None:
    async with world(kind) as there:
        with pytest.raises(WebhookRefused):
            await there.sender.send(parcel(url))
        assert there.received() == []


@pytest.mark.parametrize("sender", [FakeSender(), HttpSender()])
async def test_without_the_setting_nothing_goes_to_this_machine_or_without_tls(sender: WebhookSender) -> None:
    async with sink() as here:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "017700000001", "[::ffff:127.0.0.1]", "127.0.0.1."):
            for scheme in ("http", "https"):
                with pytest.raises(WebhookRefused):
                    await sender.send(parcel(f"{scheme}://{host}:{here.port}/hook"))
        with pytest.raises(WebhookRefused):
            await sender.send(parcel("http://example.com/hook"))
        assert here.requests == []
    await sender.close()


async def test_what_is_sent_is_plain_json_with_our_name_and_no_more() -> None:
    async with sink() as here, sending() as sender:
        await sender.send(parcel(here.url + "?a=b"))
    (got,) = here.requests
    assert got.path == "/hook?a=b"
    assert set(got.headers) == {
        "host",
        "content-type",
        "content-length",
        "user-agent",
        "accept-encoding",
        "connection",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }
    assert got.headers["host"] == f"127.0.0.1:{here.port}"
    assert got.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [(hangs, "no answer within"), (drips, "no answer within"), (cuts, "no HTTP|was cut"), (speaks_nonsense, "no HTTP")],
)
async def test_who_does_not_answer_is_given_up_within_the_deadline(behaviour: Behaviour, why: str) -> None:
    async with sink(behaviour) as here, sending(deadline_seconds=0.6) as sender:
        begun = time.monotonic()
        with pytest.raises(WebhookUnavailable, match=why):
            await sender.send(parcel(here.url))
        assert time.monotonic() - begun < 2


async def test_nobody_there_is_unavailable() -> None:
    async with sending() as sender:
        with pytest.raises(WebhookUnavailable, match="could not connect"):
            await sender.send(parcel("http://127.0.0.1:1/hook"))
        with pytest.raises(WebhookUnavailable, match="unknown"):
            await sender.send(parcel("https://does-not-exist.invalid/hook"))


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_body_costs_a_kibibyte(status: int) -> None:
    async with sink(floods(status)) as here, sending() as sender:
        begun = time.monotonic()
        reply = await sender.send(parcel(here.url))
        assert time.monotonic() - begun < 2
    assert reply.status == status
    assert reply.excerpt == "x" * 200


async def test_a_body_that_drips_is_left_alone_once_the_status_is_known() -> None:
    async with sink(drips_a_body) as here, sending() as sender:
        begun = time.monotonic()
        reply = await sender.send(parcel(here.url))
        assert time.monotonic() - begun < 3
    assert reply.status == 500


async def test_an_excerpt_is_readable_whatever_was_sent() -> None:
    body = b"\x00\x1b[31mno\r\n\xff such \xf0\x9f\x98\x80 hook\x7f" + b" " * 900
    async with sink(answers(404, body)) as here, sending() as sender:
        reply = await sender.send(parcel(here.url))
    assert "\x00" not in reply.excerpt
    assert reply.excerpt.isprintable()
    assert reply.excerpt.endswith("hook")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("17", 17), ("0", 0), ("-5", None), ("soon", None), ("1.5", None), ("9" * 40, 30 * 86_400), ("Tue, 99 Xyz 2026", None)],
)
async def test_retry_after_is_read_in_seconds(header: str, seconds: int | None) -> None:
    async with sink(answers(503, Retry_After=header)) as here, sending() as sender:
        reply = await sender.send(parcel(here.url))
    assert reply.retry_after == (None if seconds is None else timedelta(seconds=seconds))


async def test_retry_after_is_read_as_a_date() -> None:
    at = datetime.now(UTC) + timedelta(minutes=10)
    async with sink(answers(429, Retry_After=format_datetime(at, usegmt=True))) as here, sending() as sender:
        reply = await sender.send(parcel(here.url))
    assert reply.retry_after is not None
    assert timedelta(minutes=9) < reply.retry_after <= timedelta(minutes=10)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with sink() as inner, sink(answers(status, Location=inner.url)) as outer, sending() as sender:
        assert (await sender.send(parcel(outer.url))).status == status
        assert (len(outer.requests), len(inner.requests)) == (1, 0)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sink() as proxy, sink() as here:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with sending() as sender:
            assert (await sender.send(parcel(here.url))).status == 204
        assert (len(proxy.requests), len(here.requests)) == (0, 1)


def _server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def _client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_the_host_name_stays_for_tls_where_the_address_is_connected_to() -> None:
    authority, asked = trustme.CA(), []
    context = _server_tls(authority, "localhost")
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with sink(tls=context) as here, sending(tls=_client_tls(authority)) as sender:
        assert (await sender.send(parcel(f"https://localhost:{here.port}/hook"))).status == 204
        assert (await sender.send(parcel(f"https://localhost.:{here.port}/hook"))).status == 204
    assert asked == ["localhost", "localhost"]
    assert here.requests[0].headers["host"] == f"localhost:{here.port}"


@pytest.mark.parametrize(("trusted", "name"), [(True, "elsewhere.example"), (False, "localhost")])
async def test_a_certificate_that_is_not_the_names_or_not_trusted_ends_it(trusted: bool, name: str) -> None:
    authority = trustme.CA()
    tls = _client_tls(authority if trusted else trustme.CA())
    async with sink(tls=_server_tls(authority, name)) as here, sending(tls=tls) as sender:
        with pytest.raises(WebhookUnavailable, match="TLS failed"):
            await sender.send(parcel(f"https://localhost:{here.port}/hook"))
        assert here.requests == []


async def test_a_port_without_tls_is_unavailable_over_https() -> None:
    async with sink() as here, sending(deadline_seconds=2.0) as sender:
        with pytest.raises(WebhookUnavailable):
            await sender.send(parcel(here.url.replace("http:", "https:")))
        assert here.requests == []


class Names:
    """The resolver of the outside world: the answers to the look-ups of any name, one after the other, the last for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        real = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, *arguments: Any, **named: Any) -> list[Any]:
            name = host.decode() if isinstance(host, bytes) else str(host)
            if not name.endswith(".example"):
                return real(host, port, *arguments, **named)
            self.asked.append(name)
            found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            return [one for address in found for one in real(address, port, *arguments, **named)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


PUBLIC = "192.31.195.1"


@pytest.mark.parametrize(
    "found", [["127.0.0.1"], ["::1"], ["10.1.2.3"], ["169.254.169.254"], ["::ffff:127.0.0.1"], [PUBLIC, "127.0.0.1"], ["fe80::1"]]
)
async def test_a_name_with_any_address_that_is_not_public_is_refused(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    async with sink(tls=_server_tls(trustme.CA(), "hook.example")) as here, sending(loopback=False) as sender:
        names = Names(monkeypatch, found)
        with pytest.raises(WebhookRefused) as refused:
            await sender.send(parcel(f"https://hook.example:{here.port}/hook"))
        assert not any(address in str(refused.value) for address in found)
        assert names.asked == ["hook.example"]
        assert here.requests == []


async def test_a_name_that_changes_between_check_and_connection_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context, reached = _server_tls(authority, "hook.example"), []
    context.sni_callback = lambda _socket, name, _context: reached.append(name)
    async with sink(tls=context) as here, sending(loopback=False, connect_seconds=0.5, tls=_client_tls(authority)) as sender:
        names = Names(monkeypatch, [PUBLIC], ["127.0.0.1"])
        with pytest.raises(WebhookUnavailable):
            await sender.send(parcel(f"https://hook.example:{here.port}/hook"))
        assert names.asked == ["hook.example"]
        assert (reached, here.requests) == ([], [])


async def test_control_without_the_checked_backend_the_changed_name_gets_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The guard off: checked first, connected by name afterwards, as a client does by itself."""
    authority = trustme.CA()
    async with (
        sink(tls=_server_tls(authority, "hook.example")) as here,
        sending(loopback=False, tls=_client_tls(authority)) as sender,
    ):
        names = Names(monkeypatch, [PUBLIC], ["127.0.0.1"])
        (first, *_) = socket.getaddrinfo("hook.example", here.port, type=socket.SOCK_STREAM)
        sender._addresses.check(str(first[4][0]))
        monkeypatch.setattr(http.CheckedBackend, "connect_tcp", httpcore.AnyIOBackend.connect_tcp)
        assert (await sender.send(parcel(f"https://hook.example:{here.port}/hook"))).status == 204
        assert (len(names.asked), len(here.requests)) == (2, 1)


async def test_an_address_that_is_dead_does_not_keep_from_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sink() as here, sending() as sender:
        Names(monkeypatch, ["127.1.1.1", "127.0.0.1"])
        assert (await sender.send(parcel(f"http://hook.example:{here.port}/hook"))).status == 204


async def test_a_resolver_that_hangs_is_given_up_and_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> list[Any]:
        if str(host).endswith(".example"):
            released.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with sink() as here, sending(connect_seconds=0.5) as sender:
        try:
            begun = time.monotonic()
            outcomes = await asyncio.gather(
                *(sender.send(parcel(f"https://n{n}.example/")) for n in range(8)), return_exceptions=True
            )
            assert all(isinstance(one, WebhookUnavailable) for one in outcomes)
            assert (await sender.send(parcel(here.url))).status == 204
            assert time.monotonic() - begun < 3
            # The threads that all else in this process looks names up with are free.
            await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80), 2)
        finally:
            released.set()


async def test_many_at_once_do_not_wait_for_one_that_hangs() -> None:
    async with sink(hangs) as bad, sink(accepts) as good, sending(deadline_seconds=3.0) as sender:
        stuck = [asyncio.create_task(sender.send(parcel(bad.url))) for _ in range(30)]
        await bad.heard(30)
        begun = time.monotonic()
        replies = await asyncio.gather(*(sender.send(parcel(good.url)) for _ in range(20)))
        assert {reply.status for reply in replies} == {204}
        assert time.monotonic() - begun < 2
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


def test_secrets_are_not_in_what_a_parcel_looks_like() -> None:
    secret = new_secret()
    assert secret not in repr(parcel("https://example.com/", (secret,)))
