"""Where webhooks may go: to the public internet, and to nothing that only this machine or its network can reach.

`Addresses.check` on the very address that is connected to is what counts; `check_url` refuses early what is plainly wrong.
"""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

MAX_URL = 2_000
_PORTS = {"https": 443, "http": 80}
_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
_NUMBERS = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]*|[0-9]+))*", re.ASCII)
_HOST = re.compile(r"[0-9a-zA-Z_](?:[0-9a-zA-Z_.-]*[0-9a-zA-Z_])?", re.ASCII)
_MAX_HOST = 253  # RFC 1035 section 2.3.4

#: IANA's special-purpose registry (RFC 6890 and successors), multicast (RFC 5771), and what was reserved and never opened.
_FORBIDDEN_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
#: Of IPv6 only what is given out for use on the internet (RFC 4291 section 2.4: 2000::/3) ...
_GLOBAL_V6 = IPv6Network("2000::/3")
#: ... less Teredo and the other protocol assignments, documentation, 6to4, and AS112 and its like.
_FORBIDDEN_V6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
#: An IPv4 address in an IPv6 one's last 32 bits, which is where it leads: mapped (RFC 4291), NAT64 (RFC 6052).
_EMBEDDING_V6 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
#: ISATAP (RFC 5214): the same in the interface part of any prefix.
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
_LOOPBACK_V4 = IPv4Network("127.0.0.0/8")
_LOOPBACK_V6 = IPv6Address("::1")


class AddressForbidden(Exception):
    """Webhooks do not go there; the message says why, and names no address that a name resolved to."""


@dataclass(frozen=True, slots=True)
class Target:
    """An URL in its parts, read once: what is checked is what is connected to."""

    scheme: str
    host: str
    port: int
    path: str
    literal: bool

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def split_url(url: str) -> Target:
    """The parts of an absolute http or https URL. Raises AddressForbidden for what is none, and for user info in it."""
    if len(url) > MAX_URL or not _VISIBLE.fullmatch(url) or "\\" in url:
        raise AddressForbidden(f"a URL has at most {MAX_URL} visible ASCII characters")
    try:
        parts = urlsplit(url)
        scheme, port = parts.scheme.lower(), parts.port
    except ValueError as error:
        raise AddressForbidden("this is no URL") from error
    if scheme not in _PORTS or not parts.hostname:
        raise AddressForbidden("a webhook's URL begins with https:// and a host")
    if "@" in parts.netloc:
        raise AddressForbidden("a webhook's URL carries no user name or password: deliveries are signed instead")
    if parts.fragment or port == 0:
        raise AddressForbidden("a webhook's URL has no fragment, and a port from 1 to 65535")
    host, literal = _host(parts.hostname, bracketed="[" in parts.netloc)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme, host, port or _PORTS[scheme], path, literal)


def _host(written: str, *, bracketed: bool) -> tuple[str, bool]:
    """The host without the dot that makes a name absolute, and whether it is an address in any of its spellings."""
    if bracketed:
        if "%" in written:
            raise AddressForbidden("an address with a zone is one of this machine's own network")
        try:
            return str(IPv6Address(written)), True
        except ValueError as error:
            raise AddressForbidden("this is no IPv6 address") from error
    host = written.removesuffix(".")
    if len(host) > _MAX_HOST or not _HOST.fullmatch(host) or ".." in host:
        raise AddressForbidden("this is no host name")
    if not _NUMBERS.fullmatch(host):
        return host, False
    try:
        # As resolvers read it: decimal, octal, hexadecimal, short forms (inet_aton(3)).
        return str(IPv4Address(socket.inet_aton(host))), True
    except (OSError, ValueError) as error:
        raise AddressForbidden("this is no IPv4 address") from error


@dataclass(frozen=True, slots=True)
class Addresses:
    """Which addresses are allowed. `loopback` (development only) adds this machine's own, and http; nothing else private."""

    loopback: bool = False

    def check_url(self, target: Target) -> None:
        """Raise AddressForbidden for a scheme, or an address that is written out, that webhooks do not go to."""
        name = target.host.lower()
        if target.literal:
            self.check(target.host)
        elif not self.loopback and (name == "localhost" or name.endswith(".localhost")):
            raise AddressForbidden("webhooks do not go to this machine")
        if target.scheme != "https" and not self.loopback:
            raise AddressForbidden("a webhook's URL begins with https://")

    def check(self, address: str) -> None:
        """Raise AddressForbidden unless the address is one of the public internet."""
        if "%" in address:
            raise AddressForbidden("an address with a zone is one of this machine's own network")
        try:
            parsed = ip_address(address)
        except ValueError as error:
            raise AddressForbidden("this is no address") from error
        if isinstance(parsed, IPv6Address) and any(parsed in network for network in _EMBEDDING_V6):
            parsed = IPv4Address(int(parsed) & 0xFFFF_FFFF)
        allowed = self._allows_v4(parsed) if isinstance(parsed, IPv4Address) else self._allows_v6(parsed)
        if not allowed:
            raise AddressForbidden("webhooks do not go to private, loopback, link-local, multicast or reserved addresses")

    def _allows_v4(self, address: IPv4Address) -> bool:
        if address in _LOOPBACK_V4:
            return self.loopback
        return not any(address in network for network in _FORBIDDEN_V4)

    def _allows_v6(self, address: IPv6Address) -> bool:
        if address == _LOOPBACK_V6:
            return self.loopback
        if address not in _GLOBAL_V6 or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
            return False
        return not any(address in network for network in _FORBIDDEN_V6)
