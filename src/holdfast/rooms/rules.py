"""What a room is, and how its free slots are put together. Pure."""

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text
from holdfast.core.policies import Policy
from holdfast.core.schedules import Schedule, Slot, slots_on
from holdfast.resources.rules import Owner


@dataclass(frozen=True, slots=True)
class Room:
    """A room with the number that its claims and slot ids name it by."""

    no: int
    id: UUID
    name: str
    description: str | None
    capacity: int | None
    kind: str
    time_zone: str
    location: str | None
    features: tuple[str, ...]
    policy: Policy
    version: int
    created_at: datetime

    @property
    def owner(self) -> Owner:
        """Whose its schedule is."""
        return Owner(self.no, self.id, "room")

    @property
    def etag(self) -> str:
        """Changes with each change of the room; its schedule has an ETag of its own."""
        return version_tag(self.version)

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "name": self.name,
            "description": self.description,
            "capacity": self.capacity,
            "kind": self.kind,
            "timeZone": self.time_zone,
            "location": self.location,
            "features": list(self.features),
            "policy": self.policy.as_json(),
            "createdAt": instant_text(self.created_at),
        }


@lru_cache(maxsize=4096)
def rendered_slots(
    schedule: Schedule, day: date, zone: str, resource_no: int, room_id: UUID
) -> tuple[tuple[Slot, ...], tuple[bytes, ...]]:
    """The slots of a date and each one's JSON: the hottest answer is put together from these, not rendered anew."""
    slots = slots_on(schedule, day, zone, resource_no)
    return slots, tuple(
        b'{"id":"%s","roomId":"%s","start":"%s","end":"%s"}'
        % (
            str(slot.id).encode(),
            str(room_id).encode(),
            instant_text(slot.start).encode(),
            instant_text(slot.end).encode(),
        )
        for slot in slots
    )


@lru_cache(maxsize=4096)
def rendered_day(parts: tuple[bytes, ...], free: tuple[bool, ...]) -> tuple[bytes, str]:
    """The body of a list of free slots and its ETag: a pure function of what there is and what is taken."""
    body = b'{"slots":[' + b",".join(part for part, is_free in zip(parts, free, strict=True) if is_free) + b"]}"
    return body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
