"""What a stored message says to whom. Private messages carry the object; public ones nothing that tells of a person."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.core.clock import instant_text
from holdfast.outbox import StoredMessage

#: Everybody who is connected.
EVERYONE = "all"
#: Every type that a message can have (api.md section 8).
TYPES = frozenset(
    {
        "booking.created",
        "booking.updated",
        "booking.rescheduled",
        "booking.cancelled",
        "booking.reminder",
        "hold.created",
        "hold.extended",
        "hold.lapsed",
        "hold.released",
        "slot.taken",
        "slot.freed",
        "seat.changed",
        "waitlist.joined",
        "waitlist.offered",
        "waitlist.booked",
        "waitlist.left",
        "waitlist.lapsed",
        "event.updated",
        "closure.created",
        "closure.deleted",
        "system.notice",
    }
)
#: What is told of an event that was changed.
_EVENT_TOLD = ("id", "name", "venue", "start", "end", "timeZone")
_BEGINS = {"booking.created", "hold.created"}
_ENDS = {"booking.cancelled", "hold.lapsed", "hold.released"}


@dataclass(frozen=True, slots=True)
class Message:
    """What one stored message says on some channels.

    `id` is the stored message's for the first, `<id>.1`, `<id>.2` for the others: the same whenever and wherever it is told.
    Channels: `user:{id}` (that person's own), `room:{id}`, `host:{id}`, `event:{id}` (public), `all`.
    """

    id: str
    number: int
    type: str
    occurred_at: datetime
    subject_id: UUID
    channels: frozenset[str]
    data: dict[str, Any]
    trace: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {"id": self.id, "type": self.type, "occurredAt": instant_text(self.occurred_at), "data": self.data}


@dataclass(frozen=True, slots=True)
class PublicSlot:
    """A slot as everybody may know it, and whose time it is. `host_user_id` is the host's own user."""

    slot_id: UUID
    resource_id: UUID
    kind: str
    start: datetime
    end: datetime
    host_user_id: UUID | None = None

    @property
    def channel(self) -> str:
        """The channel of its room or host."""
        return f"{self.kind}:{self.resource_id}"

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "slotId": str(self.slot_id),
            f"{self.kind}Id": str(self.resource_id),
            "start": instant_text(self.start),
            "end": instant_text(self.end),
        }


@dataclass(frozen=True, slots=True)
class Known:
    """What the rows do not say themselves: slots by id, the first shape of a hold, and whose an object is."""

    slots: Mapping[str, PublicSlot] = field(default_factory=dict)
    holds: Mapping[UUID, dict[str, Any]] = field(default_factory=dict)
    owners: Mapping[UUID, UUID] = field(default_factory=dict)


def shapes_of(stored: StoredMessage, known: Known) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The booking or hold before and after. A hold that ends is told of by its id alone: its shape is that of its beginning."""
    if stored.type in {"hold.lapsed", "hold.released"}:
        return stored.before or known.holds.get(stored.subject_id), None
    return stored.before, stored.after


def slot_ids_of(stored: StoredMessage, known: Known) -> set[str]:
    """The ids of the slots that a message is about."""
    if not stored.type.startswith(("booking.", "hold.")):
        return set()
    return {str(UUID(slot_id)) for shape in shapes_of(stored, known) if _has_slots(shape) for slot_id in (shape or {})["slotIds"]}


def _has_slots(shape: Mapping[str, Any] | None) -> bool:
    return shape is not None and shape.get("kind") != "event"


def messages_of(stored: StoredMessage, known: Known) -> list[Message]:
    """What one stored message says: first to whom it concerns, then to everybody who watches."""
    said: list[tuple[str, frozenset[str], dict[str, Any]]] = []
    kind, _, _ = stored.type.partition(".")
    if stored.type not in TYPES:
        return []
    if kind in {"booking", "hold"}:
        before, after = shapes_of(stored, known)
        said += _private(stored, known, before, after)
        said += _public(stored, known, before, after)
    elif kind == "waitlist":
        data = {"entry": {**(stored.after or stored.before or {}), "id": str(stored.subject_id)}}
        said.append((stored.type, _users([known.owners.get(stored.subject_id)]), data))
    elif kind == "event":
        said.append((stored.type, frozenset({f"event:{stored.subject_id}"}), _event(stored)))
    elif kind == "closure":
        said += _closure(stored)
    elif kind == "seat":
        said.append((stored.type, frozenset({f"event:{stored.subject_id}"}), _seats(stored)))
    else:
        said.append((stored.type, frozenset({EVERYONE}), {"message": (stored.after or {}).get("message")}))
    return [
        Message(
            id=f"{stored.id}.{place}" if place else str(stored.id),
            number=stored.number,
            type=type_,
            occurred_at=stored.occurred_at,
            subject_id=stored.subject_id,
            channels=channels,
            data=data,
            trace=stored.trace,
        )
        for place, (type_, channels, data) in enumerate(said)
    ]


def _users(ids: Iterable[object]) -> frozenset[str]:
    return frozenset(f"user:{one}" for one in ids if one is not None)


def _private(
    stored: StoredMessage, known: Known, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> list[tuple[str, frozenset[str], dict[str, Any]]]:
    shape = after or before
    if shape is None:
        return []
    kind = stored.type.partition(".")[0]
    data: dict[str, Any] = {kind: dict(shape)}
    hosts: set[UUID] = set()
    if kind == "booking":
        if before is not None and after is not None:
            data["before"] = dict(before)
        slots = [known.slots.get(one) for one in slot_ids_of(stored, known)]
        hosts = {slot.host_user_id for slot in slots if slot is not None and slot.host_user_id is not None}
    return [(stored.type, _users([shape.get("userId") or known.owners.get(stored.subject_id), *sorted(hosts)]), data)]


def _public(
    stored: StoredMessage, known: Known, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> list[tuple[str, frozenset[str], dict[str, Any]]]:
    """Slots that are taken or free now, without whose they are."""
    if stored.type in _BEGINS:
        gone, come = None, after
    elif stored.type in _ENDS:
        gone, come = before or after, None
    elif stored.type == "booking.rescheduled":
        gone, come = before, after
    else:
        return []
    status = "booked" if stored.type.startswith("booking.") else "held"
    seats = [*_seats_changed(gone, come, "free"), *_seats_changed(come, gone, status)]
    freed = _slot_ids(gone) if come is None else [one for one in _slot_ids(gone) if one not in _slot_ids(come)]
    taken = _slot_ids(come) if gone is None else [one for one in _slot_ids(come) if one not in _slot_ids(gone)]
    said: list[tuple[str, frozenset[str], dict[str, Any]]] = []
    for type_, ids, more in (("slot.freed", freed, {}), ("slot.taken", taken, {"status": status})):
        slots = [known.slots[one] for one in ids if one in known.slots]
        said += [(type_, frozenset({slot.channel}), {**slot.as_json(), **more}) for slot in slots]
    return [*seats, *said]


def _seats_changed(
    shape: Mapping[str, Any] | None, other: Mapping[str, Any] | None, status: str
) -> list[tuple[str, frozenset[str], dict[str, Any]]]:
    """What is said of an event's seats that are in the one shape and not in the other."""
    if shape is None or shape.get("kind") != "event":
        return []
    same = other is not None and other.get("eventId") == shape["eventId"]
    kept = set(other["seats"]) if same and other is not None else set()
    labels = [label for label in shape["seats"] if label not in kept]
    data = {"eventId": shape["eventId"], "labels": labels, "status": status}
    return [("seat.changed", frozenset({f"event:{shape['eventId']}"}), data)] if labels else []


def _slot_ids(shape: Mapping[str, Any] | None) -> list[str]:
    return list(shape["slotIds"]) if shape is not None and _has_slots(shape) else []


def _closure(stored: StoredMessage) -> list[tuple[str, frozenset[str], dict[str, Any]]]:
    shape = stored.after or stored.before or {}
    # Why is the owner's business: a reason may tell of a person.
    data = {name: shape.get(name) for name in ("id", "start", "end", "roomId", "hostId") if name in shape}
    channels = frozenset(f"{kind}:{shape[f'{kind}Id']}" for kind in ("room", "host") if f"{kind}Id" in shape)
    return [(stored.type, channels, {"closure": data})]


def _event(stored: StoredMessage) -> dict[str, Any]:
    """What an event is, where and when, now and before: a new time moves all that was booked of it."""
    shapes = (("event", stored.after), ("before", stored.before))
    return {name: {one: shape.get(one) for one in _EVENT_TOLD} for name, shape in shapes if shape is not None}


def _seats(stored: StoredMessage) -> dict[str, Any]:
    """Seats that an admin added, blocked or unblocked; of many, the first hundred labels and how many there are."""
    after = stored.after or {}
    status = "blocked" if after.get("blocked") else "free"
    count = after.get("added") or after.get("seats") or 0
    return {"eventId": str(stored.subject_id), "labels": after.get("labels", []), "count": count, "status": status}
