"""One contract for every conference provider, real or fake; and how the one that calls out copes with bad services."""

import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint

import pytest
from pydantic import SecretStr

from conftest import make_settings
from holdfast.adapters.conferencing import (
    ConferenceProvider,
    ConferenceRefused,
    ConferenceUnavailable,
    HttpProvider,
    JitsiProvider,
    Meeting,
    MockProvider,
    ProviderUnknown,
    make_provider,
    registry,
)
from holdfast.core.ids import new_id
from support.providers import ProviderServer, Received, good


def meeting() -> Meeting:
    start = datetime(2027, 1, 5, 9, tzinfo=UTC)
    return Meeting(new_id(), "Review", start, start + timedelta(hours=1))


@pytest.fixture(params=["mock", "jitsi", "http"])
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[ConferenceProvider]:
    with ProviderServer() as server:
        made: dict[str, Callable[[], ConferenceProvider]] = {
            "mock": MockProvider,
            "jitsi": JitsiProvider,
            "http": lambda: HttpProvider(server.url, SecretStr("s")),
        }
        chosen = made[request.param]()
        yield chosen
        await chosen.close()


async def test_a_link_is_https_and_the_same_for_the_same_booking(provider: ConferenceProvider) -> None:
    wanted = meeting()
    link = await provider.create_link(wanted)
    assert link.startswith("https://")
    assert str(wanted.booking_id) in link
    assert await provider.create_link(wanted) == link
    assert await provider.create_link(meeting()) != link


def failing_at_first(times: int) -> Callable[[Received], tuple[int, bytes] | None]:
    left = [times]

    def behave(received: Received) -> tuple[int, bytes] | None:
        left[0] -= 1
        return (503, b"") if left[0] >= 0 else good(received)

    return behave


async def test_a_service_that_recovers_is_asked_again_with_the_same_key() -> None:
    with ProviderServer(failing_at_first(2)) as server:
        provider = HttpProvider(server.url, None)
        wanted = meeting()
        assert str(wanted.booking_id) in await provider.create_link(wanted)
        await provider.close()
    assert [one.headers["Idempotency-Key"] for one in server.requests] == [str(wanted.booking_id)] * 3
    assert all("Authorization" not in one.headers for one in server.requests)


@pytest.mark.parametrize(
    ("answer", "failure", "times"),
    [
        ((500, b""), ConferenceUnavailable, 3),
        ((429, b""), ConferenceUnavailable, 3),
        (None, ConferenceUnavailable, 3),
        ((400, b""), ConferenceRefused, 1),
        ((302, b""), ConferenceRefused, 1),
        ((200, b"not json"), ConferenceRefused, 1),
        ((200, b"[]"), ConferenceRefused, 1),
        ((200, b'{"url": null}'), ConferenceRefused, 1),
        ((200, b'{"url": "http://calls.example.com/x"}'), ConferenceRefused, 1),
        ((200, b'{"url": "' + b"x" * 100_000 + b'"}'), ConferenceRefused, 1),
        ((200, b"[" * 50_000), ConferenceRefused, 1),
    ],
)
async def test_a_bad_service_is_a_failure_of_one_of_two_kinds(
    answer: tuple[int, bytes] | None, failure: type[Exception], times: int
) -> None:
    with ProviderServer(lambda _received: answer) as server:
        provider = HttpProvider(server.url, None)
        with pytest.raises(failure):
            await provider.create_link(meeting())
        await provider.close()
    assert len(server.requests) == times


async def test_a_service_that_hangs_is_given_up_at_the_deadline() -> None:
    released = threading.Event()

    def hang(received: Received) -> tuple[int, bytes]:
        released.wait(20)
        return good(received)

    with ProviderServer(hang) as server:
        provider = HttpProvider(server.url, None, deadline_seconds=0.5)
        begun = time.monotonic()
        with pytest.raises(ConferenceUnavailable):
            await provider.create_link(meeting())
        assert time.monotonic() - begun < 5
        await provider.close()
        released.set()


async def test_nobody_there_is_unavailable() -> None:
    provider = HttpProvider("http://127.0.0.1:1/links", None)
    with pytest.raises(ConferenceUnavailable):
        await provider.create_link(meeting())
    await provider.close()


def test_settings_choose_the_provider() -> None:
    url = "postgresql://nobody@127.0.0.1/none"
    assert isinstance(make_provider(make_settings(url)), MockProvider)
    jitsi = make_settings(url, conference_provider="jitsi", conference_url="https://meet.example.org")
    assert isinstance(make_provider(jitsi), JitsiProvider)
    http = make_settings(url, conference_provider="http", conference_url="https://links.example.org")
    assert isinstance(make_provider(http), HttpProvider)
    with pytest.raises(ProviderUnknown, match="http, jitsi, mock"):
        make_provider(make_settings(url, conference_provider="carrier-pigeon"))
    with pytest.raises(ProviderUnknown, match="https"):
        make_provider(make_settings(url, conference_provider="jitsi", conference_url="http://meet.example.org"))


def make_plugin(_settings: object) -> ConferenceProvider:
    """What a plug-in's entry point names."""
    return MockProvider()


def test_a_plugin_is_chosen_by_its_entry_points_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(group: str) -> list[EntryPoint]:
        assert group == "holdfast.conferencing"
        return [EntryPoint("pigeon", "builtins:dict", group)]

    # The packages that are installed are the outside world here.
    monkeypatch.setattr(registry, "entry_points", installed)
    monkeypatch.setattr(EntryPoint, "load", lambda _self: make_plugin)
    settings = make_settings("postgresql://nobody@127.0.0.1/none", conference_provider="pigeon")
    assert isinstance(make_provider(settings), MockProvider)
