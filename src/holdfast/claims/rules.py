"""Units, claims as they are read, and how the two meet. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class HolderKind(StrEnum):
    """What may stand behind a claim; the value is the column that names it."""

    BOOKING = "booking"
    HOLD = "hold"
    CLOSURE = "closure"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who a claim is for. `expires_at` (aware, UTC) for holds only; `offered` are those made for somebody on a waitlist."""

    kind: HolderKind
    id: UUID
    expires_at: datetime | None = None
    offered: bool = False

    @property
    def via(self) -> str:
        """What took it, as it is counted."""
        return "offer" if self.offered else self.kind.value


@dataclass(frozen=True, slots=True)
class Unit:
    """What one party can have at a time: a resource during `[start, end)`, or a seat of an event, which is for good.

    Of a seat, `start` and `end` are the event's (no `end` is known: None), and `label` is how people call it.
    """

    resource_no: int
    start: datetime
    end: datetime | None
    slot_id: UUID
    seat_no: int = 0
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim as it was read: `[start, end)`, its holder, and whether it is a hold that lapsed by the database's clock."""

    start: datetime
    end: datetime
    kind: HolderKind
    holder_id: UUID
    user_id: UUID | None
    lapsed: bool
    expires_at: datetime | None = None


def overlapping(taken: Sequence[Taken], start: datetime, end: datetime) -> Iterable[Taken]:
    """The live claims that share an instant with `[start, end)`."""
    return (claim for claim in taken if not claim.lapsed and claim.start < end and start < claim.end)
