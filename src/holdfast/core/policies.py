"""A resource's policy: the rules of its owner. `None` means no rule."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Policy:
    """Whole numbers in the units that the names say; days are those of the resource's own calendar."""

    max_active_per_user: int | None = None
    max_active_per_user_here: int | None = None
    overlaps_allowed: bool | None = None
    cancel_notice_minutes: int | None = None
    min_notice_minutes: int | None = None
    max_days_ahead: int | None = None

    @property
    def counts_per_user(self) -> bool:
        """True where a rule is about the user's other bookings, so that the user's row must be locked."""
        return self.max_active_per_user is not None or self.max_active_per_user_here is not None or self.overlaps_allowed is False

    def as_json(self) -> dict[str, Any]:
        """The wire's shape, with every rule, null where there is none."""
        return {wire: getattr(self, name) for name, wire in WIRE_NAMES.items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


#: Field name and wire name of each rule.
WIRE_NAMES = {field.name: _camel(field.name) for field in fields(Policy)}


def policy_of(stored: Mapping[str, Any]) -> Policy:
    """A policy out of its stored (wire-shaped) form; what this version does not know is left alone."""
    return Policy(**{name: stored.get(wire) for name, wire in WIRE_NAMES.items()})
