"""What a webhook and a delivery are, and what follows from an answer. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from holdfast.adapters.webhooks import Addresses, AddressForbidden, Reply
from holdfast.adapters.webhooks.addresses import split_url
from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text
from holdfast.messages import TYPES
from holdfast.webhooks.errors import TypesUnknown, UrlRefused

#: The type of what POST /webhooks/{id}/test sends.
TEST = "webhook.test"
MAX_WEBHOOKS = 100
#: How long the secret before a rotation signs beside the new one.
BOTH_SECRETS_FOR = timedelta(hours=24)
#: How long a worker has for an attempt before another may begin the next: three times what a request may last.
ATTEMPT_LEASE = timedelta(seconds=30)
#: How long ended deliveries are kept.
KEPT_FOR = timedelta(days=30)
#: The longest pause that we let the other side ask for.
MAX_RETRY_AFTER = timedelta(hours=1)
#: Pauses are longer by up to this part, so that what failed together does not come back together.
_JITTER = 0.1

_OK = range(200, 300)
_REDIRECT = range(300, 400)
_GONE = 410
_ASKED_TO_WAIT = frozenset({429, 503})


def _minutes(*values: float) -> tuple[timedelta, ...]:
    return tuple(timedelta(minutes=value) for value in values)


@dataclass(frozen=True, slots=True)
class Retries:
    """When a failed delivery is tried again, and after how long without any success a webhook is disabled."""

    pauses: tuple[timedelta, ...]
    give_up_after: timedelta


_HOUR = 60
#: Seventy-two hours in all: an outage of a moment costs five seconds, one of a night some hours.
RETRIES = Retries(
    (
        timedelta(seconds=5),
        timedelta(seconds=55),
        *_minutes(4, 15, 40),
        *_minutes(1 * _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 8 * _HOUR, 12 * _HOUR, 12 * _HOUR, 12 * _HOUR, 12 * _HOUR),
    ),
    timedelta(days=3),
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where messages go. No types: all of them. Its secret is not part of it: it is shown at creation and rotation only."""

    id: UUID
    url: str
    types: tuple[str, ...]
    description: str | None
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    previous_secret_until: datetime | None
    version: int
    created_at: datetime

    @property
    def etag(self) -> str:
        """Changes with each change, and when it begins or ceases to fail."""
        return version_tag(self.version)

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "url": self.url,
            "types": list(self.types),
            "description": self.description,
            "enabled": self.enabled,
            "disabledReason": self.disabled_reason,
            "failingSince": _optional(self.failing_since),
            "previousSecretUntil": _optional(self.previous_secret_until),
            "createdAt": instant_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message for one webhook, and what has become of it."""

    id: UUID
    webhook_id: UUID
    message_id: str
    type: str
    subject_id: UUID
    status: str
    attempts: int
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    response_status: int | None
    response_milliseconds: int | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "webhookId": str(self.webhook_id),
            "messageId": self.message_id,
            "type": self.type,
            "subjectId": str(self.subject_id),
            "status": self.status,
            "attempts": self.attempts,
            "lastAttemptAt": _optional(self.last_attempt_at),
            "nextAttemptAt": _optional(self.next_attempt_at),
            "responseStatus": self.response_status,
            "responseMilliseconds": self.response_milliseconds,
            "error": self.error,
            "createdAt": instant_text(self.created_at),
            "endedAt": _optional(self.ended_at),
        }


def _optional(instant: datetime | None) -> str | None:
    return None if instant is None else instant_text(instant)


def check_url(url: str, addresses: Addresses) -> None:
    """Refuse what can be seen to be wrong without a look-up; the check that counts is made when connecting."""
    try:
        addresses.check_url(split_url(url))
    except AddressForbidden as error:
        message = f"A webhook cannot have this URL: {error}."
        raise UrlRefused(message) from error


def checked_types(types: Sequence[str]) -> tuple[str, ...]:
    """The types, each once. Raises TypesUnknown."""
    if not TYPES.issuperset(types):
        raise TypesUnknown(details={"types": sorted(TYPES)})
    return tuple(dict.fromkeys(types))


class Outcome(StrEnum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Result:
    """An attempt's outcome, with what the log of deliveries says of it."""

    outcome: Outcome
    milliseconds: int
    status: int | None = None
    error: str | None = None
    retry_after: timedelta | None = None


def result_of(reply: Reply, milliseconds: int) -> Result:
    """2xx: delivered. 410: the other side wants no more. All else, a redirect too, is to be tried again."""
    if reply.status in _OK:
        return Result(Outcome.DELIVERED, milliseconds, reply.status)
    error = f"answered {reply.status}"
    if reply.status in _REDIRECT:
        error += ": redirects are not followed"
    elif reply.excerpt:
        error += f": {reply.excerpt}"
    outcome = Outcome.GONE if reply.status == _GONE else Outcome.FAILED
    retry_after = reply.retry_after if reply.status in _ASKED_TO_WAIT else None
    return Result(outcome, milliseconds, reply.status, error, retry_after)


def pause_after(retries: Retries, failures: int, *, retry_after: timedelta | None, chance: float) -> timedelta | None:
    """The pause before the next attempt, where `failures` failed before this one; None: it has failed for good.

    `chance` is between 0 and 1. `Retry-After` can make a pause longer, within reason, and never shorter.
    """
    if failures >= len(retries.pauses):
        return None
    pause = retries.pauses[failures] * (1 + _JITTER * chance)
    return pause if retry_after is None else max(pause, min(retry_after, MAX_RETRY_AFTER))


def longest_without_success(retries: Retries) -> str:
    """Why a webhook is disabled that has failed for too long, as its owner is told."""
    days = retries.give_up_after.total_seconds() / timedelta(days=1).total_seconds()
    return f"nothing came through for {days:.3g} days"
