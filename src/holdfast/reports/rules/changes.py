"""A change as the audit log shows it: who did what to what, when, from where; and the cursors of its two lists."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from holdfast.core.clock import instant_text
from holdfast.core.errors import Invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBER = re.compile(r"after:(\d{1,18})", re.ASCII)
_PLACE = re.compile(r"before:(\d{1,18}):([0-9a-f]{32})", re.ASCII)
#: Whose an object is: the shapes of bookings, holds, entries and series name their user, those of accounts are one.
_OWNER = "userId"


@dataclass(frozen=True, slots=True)
class Change:
    """An outbox message as it is kept. `number` is None until the relay has given it one."""

    id: UUID
    number: int | None
    type: str
    subject_id: UUID
    actor_id: UUID | None
    actor_role: str
    actor_key_id: UUID | None
    request_id: str | None
    address: str | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    occurred_at: datetime

    @property
    def actor_kind(self) -> str:
        """By what right it was done.

        `apiKey` with a key; `system` by the service itself; `anyone` by somebody unknown; `frontDesk` by an admin with what
        is somebody else's; `user` otherwise, an admin's own work included.
        """
        if self.actor_key_id is not None:
            return "apiKey"
        if self.actor_id is None:
            return "system" if self.actor_role == "admin" else "anyone"
        if self.actor_role == "admin" and self._owner not in {None, str(self.actor_id)}:
            return "frontDesk"
        return "user"

    @property
    def _owner(self) -> str | None:
        for shape in (self.after, self.before):
            owner = (shape or {}).get(_OWNER)
            if isinstance(owner, str):
                return owner
        return None

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "number": self.number,
            "type": self.type,
            "subjectId": str(self.subject_id),
            "occurredAt": instant_text(self.occurred_at),
            "actor": {
                "kind": self.actor_kind,
                "userId": str(self.actor_id) if self.actor_id else None,
                # Nobody was an admin when the service did something by itself.
                "role": None if self.actor_kind == "system" else self.actor_role,
                "apiKeyId": str(self.actor_key_id) if self.actor_key_id else None,
            },
            "requestId": self.request_id,
            "address": self.address,
            "before": self.before,
            "after": self.after,
        }


@dataclass(frozen=True, slots=True)
class Types:
    """Types that are wanted: whole ones, and the beginnings of others, which end with a dot. Neither: all."""

    exact: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def of(cls, wanted: Sequence[str]) -> "Types":
        """`booking.cancelled` is a type, `booking.` every type that begins so."""
        return cls(
            tuple(one for one in wanted if not one.endswith(".")),
            tuple(one for one in wanted if one.endswith(".")),
        )

    def fits(self, message_type: str) -> bool:
        """Whether this type is wanted."""
        return not (self.exact or self.prefixes) or message_type in self.exact or message_type.startswith(self.prefixes)


@dataclass(frozen=True, slots=True)
class Place:
    """The last row that was read of a list that is ordered by time and id, newest first."""

    occurred_at: datetime
    id: UUID


def _opaque(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _not_ours() -> NoReturn:
    message = "The cursor is not one of this list: begin again without it."
    raise Invalid(message)


def _match(pattern: re.Pattern[str], cursor: str) -> re.Match[str]:
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = pattern.fullmatch(raw.decode("ascii"))
    except (binascii.Error, ValueError):
        _not_ours()
    # One text for one place: what else decodes to it was not made here.
    if found is None or _opaque(found[0]) != cursor:
        _not_ours()
    return found


def number_text(number: int) -> str:
    """The cursor after a number."""
    return _opaque(f"after:{number}")


def number_in_cursor(cursor: str) -> int:
    """The number in a cursor of `number_text`. Raises Invalid for anything else."""
    return int(_match(_NUMBER, cursor)[1])


def place_text(change: Change) -> str:
    """The cursor after a row."""
    return _opaque(f"before:{(change.occurred_at - _EPOCH) // _MICROSECOND}:{change.id.hex}")


def place_in_cursor(cursor: str) -> Place:
    """The place in a cursor of `place_text`. Raises Invalid for anything else."""
    found = _match(_PLACE, cursor)
    try:
        return Place(_EPOCH + int(found[1]) * _MICROSECOND, UUID(hex=found[2]))
    except OverflowError:
        _not_ours()
