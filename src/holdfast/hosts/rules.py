"""What a host is, and which slots may be published. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text
from holdfast.core.errors import Invalid
from holdfast.core.policies import Policy
from holdfast.hosts.errors import SlotOverlap
from holdfast.resources.rules import Owner

#: What a host's policy says where the host does not.
DEFAULT_POLICY = {"maxActivePerUser": 5, "maxActivePerUserHere": 1, "cancelNoticeMinutes": 60}
_LONGEST_SLOT = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Host:
    """A user who offers time."""

    no: int
    id: UUID
    user_id: UUID
    display_name: str
    bio: str | None
    time_zone: str
    policy: Policy
    version: int
    created_at: datetime

    @property
    def owner(self) -> Owner:
        """Whose the schedule and the slots are."""
        return Owner(self.no, self.id, "host")

    @property
    def etag(self) -> str:
        """Changes with each change."""
        return version_tag(self.version)

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "userId": str(self.user_id),
            "displayName": self.display_name,
            "bio": self.bio,
            "timeZone": self.time_zone,
            "policy": self.policy.as_json(),
            "createdAt": instant_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class PublishedSlot:
    """A slot that a host published, with what is known of it: who has it is told to the host alone."""

    id: UUID
    host_id: UUID
    start: datetime
    end: datetime
    status: str
    booking_id: UUID | None = None
    guest_id: UUID | None = None
    guest_name: str | None = None
    guest_email: str | None = None

    def as_json(self, *, for_host: bool = False) -> dict[str, Any]:
        """The wire's shape; `for_host` adds the booking and the guest."""
        shape: dict[str, Any] = {
            "id": str(self.id),
            "hostId": str(self.host_id),
            "start": instant_text(self.start),
            "end": instant_text(self.end),
            "status": self.status,
        }
        if for_host:
            guest = {"id": str(self.guest_id), "name": self.guest_name, "email": self.guest_email}
            shape["bookingId"] = str(self.booking_id) if self.booking_id else None
            shape["guest"] = guest if self.guest_id else None
        return shape


def check_slots(slots: Sequence[tuple[datetime, datetime]], *, now: datetime) -> None:
    """Raise where a slot ends before it begins, is past, is too long, or overlaps another of the same request."""
    for start, end in slots:
        if end <= start:
            message = "A slot must end after it begins."
            raise Invalid(message)
        if start <= now:
            message = "A slot must begin in the future."
            raise Invalid(message)
        if end - start > _LONGEST_SLOT:
            message = f"A slot lasts at most {_LONGEST_SLOT.days} days."
            raise Invalid(message, details={"rule": "maxDays", "value": _LONGEST_SLOT.days})
    for earlier, later in pairwise(sorted(slots)):
        if later[0] < earlier[1]:
            raise SlotOverlap(details={"start": instant_text(later[0]), "end": instant_text(later[1])})
