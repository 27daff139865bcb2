"""Failed log-ins and forgotten passwords, limited by account and by network without locking the victim out.

Three counters, in the memory of this process: per account and network, per network, and per account over all networks.
The last binds only networks that the account never logged in from: whoever attacks from many addresses shuts out
strangers, not the account's owner at home.
"""

import ipaddress
import math

from limits import parse

from holdfast.core.errors import TooMany
from holdfast.web.windows import Windows

_WIDER = 10
#: Mails with a token for a new password that one account is sent, whoever asks.
_RESETS_PER_HOUR = 5


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
        self._on = limit != "off"
        item = parse(limit) if self._on else parse("1/second")
        amount, seconds = item.amount, item.get_expiry()
        self._account = Windows(amount, seconds)
        self._network = Windows(amount * _WIDER, seconds)
        self._anywhere = Windows(amount * _WIDER, seconds)
        self._reset_network = Windows(amount, seconds)
        self._reset_account = Windows(_RESETS_PER_HOUR, 3600)

    def attempt(self, account: str, network: str) -> None:
        """Count an attempt; TooMany where the account and network, or the network, had too many failures."""
        if not self._on:
            return
        if self._network.is_full(network):
            _refuse(self._network, network)
        # Counted before the password is looked at, else a burst in parallel would all pass.
        if not self._account.hit((account, network)):
            _refuse(self._account, (account, network))

    def strangers_shut_out(self, account: str) -> bool:
        """True where the account had so many failures that only networks it knows may try."""
        return self._on and self._anywhere.is_full(account)

    def refuse_stranger(self, account: str) -> None:
        """Raise TooMany for a network that the account does not know."""
        _refuse(self._anywhere, account)

    def failed(self, account: str, network: str) -> None:
        """The password was wrong."""
        if self._on:
            self._network.hit(network)
            self._anywhere.hit(account)

    def succeeded(self, account: str, network: str) -> None:
        """The password was right: earlier failures from there are forgiven."""
        self._account.clear((account, network))

    def may_reset(self, account: str, network: str) -> bool:
        """Count a wish for a new password; TooMany where the network had too many.

        False where the account had: nobody may fill up somebody's mailbox, and nobody is told whose it is.
        """
        if not self._on:
            return True
        if not self._reset_network.hit(network):
            _refuse(self._reset_network, network, "Too many requests for new passwords: wait, then try again.")
        return self._reset_account.hit(account)


def _refuse(windows: Windows, key: object, message: str = "Too many failed log-ins: wait, then try again.") -> None:
    raise TooMany(message, retry_after=max(1, math.ceil(windows.left(key)[1])))
