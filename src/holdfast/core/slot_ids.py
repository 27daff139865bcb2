"""A computed slot's id: a version-8 UUID (RFC 9562 section 5.8) that *is* resource number, start and length.

Of the 122 free bits, 40 hold the resource's number, 39 the start in seconds since the year 1 (any date may be
asked for, and zones of long ago have odd seconds), 11 the length in minutes, and 32 are zero. An id that does not
decode, or that no schedule produces, is simply unknown. Nothing here is secret.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

_EPOCH = datetime(1, 1, 1, tzinfo=UTC)
_SPARE_BITS = 32
_VERSION_8 = 0x8
_VARIANT_RFC = 0b10


class SlotKey(NamedTuple):
    """What a slot id says: the resource's number, the start (aware, UTC, whole seconds) and the length in minutes."""

    resource_no: int
    start: datetime
    minutes: int

    @property
    def end(self) -> datetime:
        """The first instant after the slot."""
        return self.start + timedelta(minutes=self.minutes)


def encode(resource_no: int, start: datetime, minutes: int) -> UUID:
    """The id of one slot. ValueError where a part has no room (number over 40 bits, more than 2047 minutes)."""
    elapsed = start - _EPOCH
    seconds = elapsed.days * 86_400 + elapsed.seconds
    if resource_no >> 40 or seconds >> 39 or minutes >> 11 or elapsed.microseconds:
        msg = "a slot id cannot hold this resource number, start or length"
        raise ValueError(msg)
    bits = ((resource_no << 50) | (seconds << 11) | minutes) << _SPARE_BITS
    high, middle, low = bits >> 74, (bits >> 62) & 0xFFF, bits & ((1 << 62) - 1)
    return UUID(int=(high << 80) | (_VERSION_8 << 76) | (middle << 64) | (_VARIANT_RFC << 62) | low)


def is_computed(slot_id: UUID) -> bool:
    """True for an id of version 8: it says by itself what it is; any other kind names a row, if anything."""
    return (slot_id.int >> 76) & 0xF == _VERSION_8 and (slot_id.int >> 62) & 0b11 == _VARIANT_RFC


def decode(slot_id: UUID) -> SlotKey | None:
    """What `encode` was given, or None where the id is none of ours."""
    if not is_computed(slot_id):
        return None
    value = slot_id.int
    bits = ((value >> 80) << 74) | (((value >> 64) & 0xFFF) << 62) | (value & ((1 << 62) - 1))
    if bits & ((1 << _SPARE_BITS) - 1):
        return None
    bits >>= _SPARE_BITS
    resource_no, seconds, minutes = bits >> 50, (bits >> 11) & ((1 << 39) - 1), bits & 0x7FF
    if not resource_no or not minutes:
        return None
    try:
        key = SlotKey(resource_no, _EPOCH + timedelta(seconds=seconds), minutes)
        _ = key.end
    except OverflowError:
        return None
    return key
