"""Failed log-ins, limited by account and by network without locking the victim out.

Three counters, in the memory of this process: per account and network, per network, and per account over all networks.
The last binds only networks that the account never logged in from: whoever attacks from many addresses shuts out
strangers, not the account's owner at home.
"""

import ipaddress
import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from holdfast.core.errors import TooMany

_WIDER = 10


def network_of(address: str | None) -> str:
    """What one party is likely to hold: an IPv4 address, or an IPv6 /64."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class LoginLimit:
    """`limit` like `10/minute`, or `off`."""

    def __init__(self, limit: str) -> None:
        self._narrow: RateLimitItem | None = None if limit == "off" else parse(limit)
        self._wide = type(self._narrow)(self._narrow.amount * _WIDER, self._narrow.multiples) if self._narrow else None
        self._counts = MovingWindowRateLimiter(MemoryStorage())

    def attempt(self, account: str, network: str) -> None:
        """Count an attempt; TooMany where the account and network, or the network, had too many failures."""
        if self._narrow is None or self._wide is None:
            return
        if not self._counts.test(self._wide, "network", network):
            self._refuse(self._wide, "network", network)
        # Counted before the password is looked at, else a burst in parallel would all pass.
        if not self._counts.hit(self._narrow, "account", account, network):
            self._refuse(self._narrow, "account", account, network)

    def strangers_shut_out(self, account: str) -> bool:
        """True where the account had so many failures that only networks it knows may try."""
        return self._wide is not None and not self._counts.test(self._wide, "anywhere", account)

    def refuse_stranger(self, account: str) -> None:
        """Raise TooMany for a network that the account does not know."""
        if self._wide is not None:
            self._refuse(self._wide, "anywhere", account)

    def failed(self, account: str, network: str) -> None:
        """The password was wrong."""
        if self._wide is not None:
            self._counts.hit(self._wide, "network", network)
            self._counts.hit(self._wide, "anywhere", account)

    def succeeded(self, account: str, network: str) -> None:
        """The password was right: earlier failures from there are forgiven."""
        if self._narrow is not None:
            self._counts.clear(self._narrow, "account", account, network)

    def _refuse(self, item: RateLimitItem, *key: str) -> None:
        reset = self._counts.get_window_stats(item, *key).reset_time
        message = "Too many failed log-ins: wait, then try again."
        raise TooMany(message, retry_after=max(1, math.ceil(reset - time.time())))
