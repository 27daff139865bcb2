"""Which messages are told by mail, and which of them together."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from holdfast.core.clock import parse_instant
from holdfast.outbox import StoredMessage

#: A booking's own.
BOOKINGS = frozenset({"booking.created", "booking.updated", "booking.rescheduled", "booking.cancelled"})
#: Every type that some mail tells of.
TOLD = BOOKINGS | {
    "booking.reminder",
    "series.created",
    "event.updated",
    "waitlist.offered",
    "user.password_reset_requested",
    "webhook.disabled",
}
#: Of what is over for so long, nobody wants to hear any more.
_OVER = timedelta(hours=1)
#: Nor of what was done so long ago, when a relay has been away, or a database is upgraded whose messages nobody followed.
_STALE = timedelta(days=7)
#: Messages that one use case wrote at once have ids (UUIDv7) that are made this close to each other.
_AT_ONCE_MS = 2
_TIMESTAMP_SHIFT = 80

#: What the messages of one change of a series have in common: series, type, request, actor.
Group: TypeAlias = tuple[str, str, str | None, UUID | None]


def is_told(message: StoredMessage, *, now: datetime) -> bool:
    """True where some mail may tell of it."""
    return message.type in TOLD and message.occurred_at >= now - _STALE


def is_over(shape: Mapping[str, Any] | None, *, now: datetime) -> bool:
    """True where it ended long ago: what is told of it is history."""
    return shape is None or parse_instant(shape["end"] or shape["start"]) < now - _OVER


def has_moved(message: StoredMessage, *, now: datetime) -> bool:
    """True where an event that is not over has another time or place than before."""
    before, after = message.before, message.after
    if before is None or after is None or is_over(after, now=now):
        return False
    return any(what_moved(before, after))


def what_moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether an event has another time, and whether it has another place."""
    new_time = any(before.get(name) != after.get(name) for name in ("start", "end"))
    return new_time, before.get("venue") != after.get("venue")


def concerns_series(message: StoredMessage) -> bool:
    """True for a booking's message that a mail about its series tells."""
    return message.type in {"booking.created", "booking.rescheduled", "booking.cancelled"} and bool(
        message.after and message.after.get("seriesId")
    )


def group_of(message: StoredMessage) -> Group:
    """What a message of a booking in a series has in common with those that one mail tells together."""
    assert message.after is not None  # noqa: S101 - bookings' messages have it
    return message.after["seriesId"], message.type, message.request_id, message.actor_id


def groups(ids: Iterable[UUID]) -> list[list[UUID]]:
    """The ids of messages with the same `group_of`, apart by the transactions that wrote them, each in order.

    Not by the request alone: a client may send the same X-Request-ID twice. The ids of one use case are made within a
    moment; where the machine paused just then, there are two mails instead of one, and none is lost.
    """
    found: list[list[UUID]] = []
    for one in sorted(ids):
        if found and _milliseconds(one) - _milliseconds(found[-1][-1]) <= _AT_ONCE_MS:
            found[-1].append(one)
        else:
            found.append([one])
    return found


def _milliseconds(message_id: UUID) -> int:
    return message_id.int >> _TIMESTAMP_SHIFT


def firsts(stored: Sequence[StoredMessage]) -> list[StoredMessage]:
    """Of each group in series the first message, in whose name one mail tells of all."""
    of_group: dict[Group, list[UUID]] = {}
    for message in stored:
        of_group.setdefault(group_of(message), []).append(message.id)
    chosen = {one[0] for ids in of_group.values() for one in groups(ids)}
    return [message for message in stored if message.id in chosen]
