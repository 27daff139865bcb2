"""What a booking, a hold, a waitlist entry, a series and a closure are, and how they look on the wire."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text
from holdfast.core.errors import Refusal


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant_text(instant)


@dataclass(frozen=True, slots=True)
class BookedUnit:
    """One unit of a booking: the resource, the slot id that it was booked by, and the label of a seat."""

    resource_no: int
    resource_id: UUID
    slot_id: UUID
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Booking:
    """A booking with its units, first to last. `host_user_ids` are the hosts whose time it takes."""

    id: UUID
    user_id: UUID
    kind: str
    status: str
    units: tuple[BookedUnit, ...]
    start: datetime
    end: datetime | None
    title: str | None
    notes: str | None
    conference_link: str | None
    series_id: UUID | None
    version: int
    created_at: datetime
    cancelled_at: datetime | None
    host_user_ids: tuple[UUID, ...] = ()

    @property
    def etag(self) -> str:
        """Changes with each change."""
        return version_tag(self.version)

    @property
    def resource_nos(self) -> set[int]:
        """The resources whose rows must be locked before the booking changes."""
        return {unit.resource_no for unit in self.units}

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "slotId": str(self.units[0].slot_id),
            "userId": str(self.user_id),
            "status": self.status,
            "kind": self.kind,
            f"{self.kind}Id": str(self.units[0].resource_id),
            "slotIds": [str(unit.slot_id) for unit in self.units],
            "seats": [unit.label for unit in self.units if unit.label is not None],
            "start": instant_text(self.start),
            "end": _text(self.end),
            "title": self.title,
            "notes": self.notes,
            "conferenceLink": self.conference_link,
            "seriesId": str(self.series_id) if self.series_id else None,
            "createdAt": instant_text(self.created_at),
            "cancelledAt": _text(self.cancelled_at),
        }


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold with its units, first to last; it has none once it is over.

    `outcome` is None until it was booked, released or found lapsed; `live` is the database's word at the moment of reading.
    """

    id: UUID
    user_id: UUID
    booking_id: UUID
    origin: str
    kind: str
    units: tuple[BookedUnit, ...]
    start: datetime | None
    end: datetime | None
    expires_at: datetime
    extended_at: datetime | None
    outcome: str | None
    live: bool

    @property
    def resource_nos(self) -> set[int]:
        """The resources whose rows must be locked before the hold is released."""
        return {unit.resource_no for unit in self.units}

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "token": str(self.id),
            "expiresAt": instant_text(self.expires_at),
            "extendable": self.extended_at is None,
            "kind": self.kind,
            f"{self.kind}Id": str(self.units[0].resource_id) if self.units else None,
            "slotIds": [str(unit.slot_id) for unit in self.units],
            "seats": [unit.label for unit in self.units if unit.label is not None],
            "start": _text(self.start),
            "end": _text(self.end),
        }


@dataclass(frozen=True, slots=True)
class WaitlistEntry:
    """Somebody's place in a line. `position` is None once it is not waiting any more."""

    id: UUID
    user_id: UUID
    resource_no: int
    resource_id: UUID
    kind: str
    slot_id: UUID | None
    start: datetime
    end: datetime | None
    quantity: int
    auto_book: bool
    status: str
    hold_id: UUID | None
    expires_at: datetime | None
    booking_id: UUID | None
    position: int | None
    created_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        offered = self.status == "offered"
        return {
            "id": str(self.id),
            "kind": self.kind,
            f"{self.kind}Id": str(self.resource_id),
            "slotId": str(self.slot_id) if self.slot_id else None,
            "quantity": self.quantity,
            "autoBook": self.auto_book,
            "status": self.status,
            "position": self.position,
            "holdToken": str(self.hold_id) if offered else None,
            "expiresAt": _text(self.expires_at) if offered else None,
            "bookingId": str(self.booking_id) if self.booking_id else None,
            "start": instant_text(self.start),
            "end": _text(self.end),
            "createdAt": instant_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Series:
    """Bookings that were made as one by a rule (RFC 5545, section 3.3.10)."""

    id: UUID
    user_id: UUID
    resource_no: int
    room_id: UUID
    recurrence: str
    start: datetime
    end: datetime
    created_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "userId": str(self.user_id),
            "roomId": str(self.room_id),
            "recurrence": self.recurrence,
            "start": instant_text(self.start),
            "end": instant_text(self.end),
            "createdAt": instant_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Ticket:
    """A booking request: a place in the fair queue. `position` is None once its turn has come.

    `hold_id`: what it wants is held until there is a conference link.
    """

    id: UUID
    user_id: UUID
    resource_no: int
    status: str
    booking_id: UUID | None
    hold_id: UUID | None
    error: dict[str, Any] | None
    position: int | None
    created_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        error = None if self.error is None else {name: self.error.get(name) for name in ("code", "message", "details")}
        return {
            "id": str(self.id),
            "status": self.status,
            "position": self.position,
            "bookingId": str(self.booking_id) if self.booking_id else None,
            "error": error,
            "createdAt": instant_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Closure:
    """A time at which a resource is closed, and why."""

    id: UUID
    resource_no: int
    start: datetime
    end: datetime
    reason: str | None
    created_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The wire's shape, without the resource that the path names."""
        return {
            "id": str(self.id),
            "start": instant_text(self.start),
            "end": instant_text(self.end),
            "reason": self.reason,
            "createdAt": instant_text(self.created_at.astimezone(UTC)),
        }


def first_labels(labels: Sequence[str]) -> list[str]:
    """Enough of them to tell what is meant: an answer names at most a hundred."""
    return list(labels[:100])


def refusal_json(refusal: Refusal) -> dict[str, object]:
    """A refusal as it is kept with a ticket: what is told of it, and its family, which decides the status."""
    return {
        "code": refusal.code,
        "message": refusal.text,
        "details": dict(refusal.details) if refusal.details else None,
        "family": next(family.__name__ for family in type(refusal).__mro__ if family.__module__ == Refusal.__module__),
    }
