"""A sender that sends nothing: it remembers, and answers as it was told."""

from collections.abc import Callable

from holdfast.adapters.webhooks.addresses import Addresses, AddressForbidden, split_url
from holdfast.adapters.webhooks.protocol import Parcel, Reply, WebhookRefused
from holdfast.adapters.webhooks.signing import signed_headers


def accepts(_parcel: Parcel) -> Reply:
    """204, as most sinks answer."""
    return Reply(204)


class FakeSender:
    """Keeps each parcel with the headers that it would have gone out with; `behaviour` makes the answer, or raises."""

    def __init__(self, behaviour: Callable[[Parcel], Reply] = accepts, *, loopback: bool = False) -> None:
        self.sent: list[tuple[Parcel, dict[str, str]]] = []
        self._behaviour = behaviour
        self._addresses = Addresses(loopback=loopback)

    async def send(self, parcel: Parcel) -> Reply:
        """What `behaviour` says. Names are not resolved: only addresses that are written out are checked."""
        try:
            self._addresses.check_url(split_url(parcel.url))
        except AddressForbidden as error:
            raise WebhookRefused(str(error)) from error
        self.sent.append((parcel, signed_headers(parcel.message_id, parcel.body, parcel.at, parcel.secrets)))
        return self._behaviour(parcel)

    async def close(self) -> None:
        """Nothing to give back."""
