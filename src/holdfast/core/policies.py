"""A resource's policy: the rules of its owner. `None` means no rule."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from holdfast.core.clock import instant_text
from holdfast.core.schedules import local_date


@dataclass(frozen=True, slots=True)
class Policy:
    """Whole numbers in the units that the names say; days are those of the resource's own calendar."""

    max_active_per_user: int | None = None
    max_active_per_user_here: int | None = None
    overlaps_allowed: bool | None = None
    cancel_notice_minutes: int | None = None
    min_notice_minutes: int | None = None
    max_days_ahead: int | None = None
    owner_may_book: bool = False
    hold_seconds: int = 300
    waitlist_offer_seconds: int = 900
    reminder_minutes: int = 15
    fair_queue: bool = False

    @property
    def counts_per_user(self) -> bool:
        """True where a rule is about the user's other bookings, so that the user's row must be locked."""
        return self.max_active_per_user is not None or self.max_active_per_user_here is not None or self.overlaps_allowed is False

    @property
    def hold_for(self) -> timedelta:
        """How long a hold that a user places is kept."""
        return timedelta(seconds=self.hold_seconds)

    @property
    def offer_for(self) -> timedelta:
        """How long a place is kept for somebody who waited."""
        return timedelta(seconds=self.waitlist_offer_seconds)

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
    return Policy(**{name: stored[wire] for name, wire in WIRE_NAMES.items() if stored.get(wire) is not None})


def merged_policy(before: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The stored form after a change: rules one by one, null takes one away; no rules at all take all away."""
    if changes is None:
        return {}
    return {rule: value for rule, value in {**before, **changes}.items() if value is not None}


def broken_time_rule(policy: Policy, start: datetime, *, zone: str, now: datetime) -> dict[str, Any] | None:
    """Which rule about its time keeps something that begins at `start` from being booked now, and what would not.

    `rule` (and `value`): `past`; `minNoticeMinutes` with `earliestStart`; `maxDaysAhead` with `latestDate`, and
    `bookableFrom`, the date on the resource's calendar from which on this one can be had.
    """
    if start <= now:
        return {"rule": "past", "start": instant_text(start)}
    notice, ahead = policy.min_notice_minutes, policy.max_days_ahead
    if notice is not None and start - now < timedelta(minutes=notice):
        earliest = instant_text((now + timedelta(minutes=notice)).replace(microsecond=0) + timedelta(seconds=1))
        return {"rule": "minNoticeMinutes", "value": notice, "earliestStart": earliest}
    if ahead is not None:
        today, day = local_date(now, zone), local_date(start, zone)
        if (day - today).days > ahead:
            return {
                "rule": "maxDaysAhead",
                "value": ahead,
                "latestDate": (today + timedelta(days=ahead)).isoformat(),
                "bookableFrom": (day - timedelta(days=ahead)).isoformat(),
            }
    return None
