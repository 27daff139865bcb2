"""Where webhooks may go; when they are tried again; how they are signed. No network."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from holdfast.adapters.webhooks import Addresses, AddressForbidden, Reply, new_secret, signed_headers
from holdfast.adapters.webhooks.addresses import split_url
from holdfast.webhooks.errors import TypesUnknown, UrlRefused
from holdfast.webhooks.rules import (
    MAX_RETRY_AFTER,
    RETRIES,
    Outcome,
    check_url,
    checked_types,
    pause_after,
    result_of,
)

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001:80b::200e"]
PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::10.0.0.1",
    "::ffff:0:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:a00:1::",
    "2002:7f00:1::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2a00:1450::5efe:10.0.0.1",
    "2a00:1450::200:5efe:10.0.0.1",
    "3fff::1",
    "5f00::1",
    "100::1",
    "fc00::1",
    "fd12:3456:789a::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
LOOPBACK = ["127.0.0.1", "127.1.2.3", "127.255.255.255", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"]
LOOPBACK_SPELLINGS = [
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0.0.1",
    "017700000001",
    "0177.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "2130706433.",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:0:1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "api.localhost",
]
METADATA_SPELLINGS = [
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::ffff:a9fe:a9fe]",
    "[fe80::1%25eth0]",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_allowed(address: str) -> None:
    Addresses().check(address)


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.parametrize("loopback", [False, True])
def test_what_is_not_public_is_forbidden_with_and_without_loopback(address: str, loopback: bool) -> None:
    with pytest.raises(AddressForbidden):
        Addresses(loopback=loopback).check(address)


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_is_allowed_by_the_setting_alone(address: str) -> None:
    Addresses(loopback=True).check(address)
    with pytest.raises(AddressForbidden):
        Addresses().check(address)


@given(st.ip_addresses(v=4))
def test_of_ipv4_nothing_is_allowed_that_python_calls_private(address: object) -> None:
    from ipaddress import IPv4Address

    assert isinstance(address, IPv4Address)
    try:
        Addresses().check(str(address))
    except AddressForbidden:
        return
    assert address.is_global
    assert not address.is_multicast
    assert not address.is_reserved
    # Whatever form carries it, the verdict is the same.
    Addresses().check(f"::ffff:{address}")
    Addresses().check(f"64:ff9b::{address}")


@given(st.ip_addresses(v=6))
def test_of_ipv6_nothing_is_allowed_that_python_calls_private(address: object) -> None:
    from ipaddress import IPv6Address

    assert isinstance(address, IPv6Address)
    try:
        Addresses().check(str(address))
    except AddressForbidden:
        return
    inner = address.ipv4_mapped
    assert inner.is_global if inner is not None else address.is_global
    assert address.sixtofour is None
    assert address.teredo is None


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_every_spelling_of_loopback_is_seen_through(host: str) -> None:
    with pytest.raises(UrlRefused):
        check_url(f"https://{host}/hook", Addresses())
    check_url(f"http://{host}/hook", Addresses(loopback=True))


@pytest.mark.parametrize("host", METADATA_SPELLINGS)
def test_every_spelling_of_the_metadata_service_is_seen_through(host: str) -> None:
    with pytest.raises(UrlRefused):
        check_url(f"https://{host}/latest/meta-data", Addresses(loopback=True))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "//example.com/hook",
        "ftp://example.com/hook",
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://example.com/hook",
        "https://",
        "https:///hook",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://example.com@10.0.0.1/",
        "https://example.com/hook#part",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:port/",
        "https://exam ple.com/",
        "https://example.com/a b",
        "https://example.com\\@10.0.0.1/",
        "https://example.com/\r\nX: y",
        "https://bücher.example/",
        "https://[::1/",
        "https://[v1.x]/",
        "https://-example.com/",
        "https://example..com/",
        "https://example.com../",
        "https://exa%6dple.com/",
        "https://256.256.256.256/",
        "https://1.2.3.4.5/",
        "https://4294967296/",
        "https://" + "a" * 254 + "/",
        "https://example.com/" + "a" * 2_000,
    ],
)
def test_what_is_no_url_for_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        check_url(url, Addresses())


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://example.com", "example.com", "/"),
        ("HTTPS://Example.com./hook?a=b&c=d", "example.com", "/hook?a=b&c=d"),
        ("https://example.com:8443/x", "example.com:8443", "/x"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", "/"),
        ("https://[2606:4700::1111]:444/x", "[2606:4700::1111]:444", "/x"),
        ("https://hooks.example.com/services/T0/B0?x=%20", "hooks.example.com", "/services/T0/B0?x=%20"),
    ],
)
def test_a_good_url_is_read_once_into_its_parts(url: str, authority: str, path: str) -> None:
    check_url(url, Addresses())
    target = split_url(url)
    assert (target.authority, target.path) == (authority, path)


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader_of_urls(text: str) -> None:
    for url in (text, f"https://{text}", f"https://{text}/", f"https://example.com/{text}"):
        with suppress(UrlRefused):
            check_url(url, Addresses())


def test_unknown_types_are_refused_with_the_list() -> None:
    assert checked_types(["booking.created", "slot.taken", "booking.created"]) == ("booking.created", "slot.taken")
    assert checked_types([]) == ()
    with pytest.raises(TypesUnknown) as refused:
        checked_types(["booking.created", "booking.exploded"])
    assert refused.value.details is not None
    assert "booking.created" in refused.value.details["types"]
    assert "booking.exploded" not in str(refused.value.details)


def test_pauses_grow_and_last_three_days_in_all() -> None:
    assert list(RETRIES.pauses) == sorted(RETRIES.pauses)
    assert sum(RETRIES.pauses, timedelta()) == timedelta(days=3) == RETRIES.give_up_after
    pauses = [pause_after(RETRIES, n, retry_after=None, chance=0.0) for n in range(len(RETRIES.pauses) + 2)]
    assert pauses == [*RETRIES.pauses, None, None]


@given(st.integers(0, 13), st.floats(0, 1), st.integers(0, 10**6))
def test_retry_after_makes_a_pause_longer_within_reason(failures: int, chance: float, seconds: int) -> None:
    own = RETRIES.pauses[failures]
    pause = pause_after(RETRIES, failures, retry_after=timedelta(seconds=seconds), chance=chance)
    assert pause is not None
    assert own <= pause <= max(own * 1.1, MAX_RETRY_AFTER) + timedelta(seconds=1)
    assert pause >= min(timedelta(seconds=seconds), MAX_RETRY_AFTER)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, "delivered") for status in (200, 204, 299)),
        *((status, "failed") for status in (301, 302, 304, 400, 401, 404, 429, 500, 503)),
        (410, "gone"),
    ],
)
def test_an_answer_is_a_delivery_a_failure_or_the_end(status: int, outcome: str) -> None:
    result = result_of(Reply(status, "try later", timedelta(seconds=7)), 12)
    assert result.outcome == Outcome(outcome)
    assert (result.error is None) == (outcome == "delivered")
    assert (result.retry_after is not None) == (status in {429, 503})


def test_signatures_satisfy_the_reference_verifier_for_each_secret_and_nobody_elses() -> None:
    new, old, foreign = new_secret(), new_secret(), new_secret()
    body = '{"id":"ä","data":{}}'
    headers = signed_headers("message-1", body, datetime.now(UTC), (new, old))
    for secret in (new, old):
        Verifier(secret).verify(body.encode(), headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(foreign).verify(body, headers)
    for broken in ({"webhook-id": "message-2"}, {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}):
        with pytest.raises(WebhookVerificationError):
            Verifier(new).verify(body, {**headers, **broken})
    with pytest.raises(WebhookVerificationError):
        Verifier(new).verify(body + " ", headers)
