"""What a sender of webhooks must do, and the two ways in which it may fail."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

#: Seconds that one attempt has in all, whatever the other side drips; five of them to resolve, connect and shake hands.
DEADLINE_SECONDS = 10.0
CONNECT_SECONDS = 5.0
#: Bytes of an answer that are read at most.
MAX_ANSWER = 1024


@dataclass(frozen=True, slots=True)
class Parcel:
    """One attempt to send a message. `message_id` and `body` are the same over all attempts, `at` is this one's.

    `secrets` (`whsec_...`) each make a signature: two while an old one is still good.
    """

    url: str
    message_id: str
    body: str
    at: datetime
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the other side answered. `excerpt` is readable text of at most 200 characters, out of the first KiB."""

    status: int
    excerpt: str = ""
    retry_after: timedelta | None = None


class WebhookFailure(Exception):
    """No answer. The message is for the admin who owns the webhook: no secrets, and no addresses of ours."""


class WebhookRefused(WebhookFailure):
    """We do not send there: the address is none, or one that webhooks must not reach."""


class WebhookUnavailable(WebhookFailure):
    """Out of reach, too slow, or not speaking HTTP or TLS."""


class WebhookSender(Protocol):
    """Sends parcels. One instance serves the whole process."""

    async def send(self, parcel: Parcel) -> Reply:
        """The answer, whatever its status; redirects are not followed. Raises WebhookRefused or WebhookUnavailable."""
        ...

    async def close(self) -> None:
        """Give back what is held."""
        ...
