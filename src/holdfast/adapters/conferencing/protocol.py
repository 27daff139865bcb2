"""What a provider of conference links must do, and the two ways in which it may fail."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

#: Seconds that a provider has for a link, retries included. The hold meanwhile lasts longer.
DEADLINE_SECONDS = 5.0
MAX_LINK = 2_000


@dataclass(frozen=True, slots=True)
class Meeting:
    """What a link is wanted for. `booking_id` is the idempotency key: asked twice, a provider makes one link."""

    booking_id: UUID
    title: str | None
    start: datetime
    end: datetime


class ConferenceFailure(Exception):
    """No link. The message is for the log, never for the caller."""


class ConferenceRefused(ConferenceFailure):
    """The provider said no, or answered garbage: asking again at once does not help."""


class ConferenceUnavailable(ConferenceFailure):
    """The provider was out of reach, too slow or failing: asking again later may help."""


class ConferenceProvider(Protocol):
    """Makes links. One instance serves the whole process."""

    async def create_link(self, meeting: Meeting) -> str:
        """An https URL; the same for the same booking id. Raises ConferenceRefused or ConferenceUnavailable."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


def checked_link(link: object) -> str:
    """The link if it is an https URL with a host, at most 2,000 printable characters; else ConferenceRefused."""
    if isinstance(link, str) and len(link) <= MAX_LINK and link.isprintable() and " " not in link:
        try:
            parts = urlsplit(link)
            if parts.scheme == "https" and parts.hostname and not parts.username:
                return link
        except ValueError:
            pass
    msg = "the provider's answer holds no https URL"
    raise ConferenceRefused(msg)
