"""The core: what is taken, and the only code that takes and releases it. Callers hold the resource's lock."""

from holdfast.claims.rules import Holder, HolderKind, Taken, Unit, overlapping
from holdfast.claims.service import (
    occupied,
    prolong,
    release,
    release_lapsed,
    release_seats,
    take,
    turn_hold_into_booking,
)

__all__ = [
    "Holder",
    "HolderKind",
    "Taken",
    "Unit",
    "occupied",
    "overlapping",
    "prolong",
    "release",
    "release_lapsed",
    "release_seats",
    "take",
    "turn_hold_into_booking",
]
