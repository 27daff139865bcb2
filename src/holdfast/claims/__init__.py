"""The core: what is taken, and the only code that takes and releases it. Callers hold the resource's lock."""

from holdfast.claims.rules import Holder, HolderKind, Taken, Unit, overlapping
from holdfast.claims.service import occupied, release, release_lapsed, take, turn_hold_into_booking

__all__ = [
    "Holder",
    "HolderKind",
    "Taken",
    "Unit",
    "occupied",
    "overlapping",
    "release",
    "release_lapsed",
    "take",
    "turn_hold_into_booking",
]
