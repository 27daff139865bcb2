"""Every invariant, in the order in which they are looked at: what they are about first, what follows from it after."""

from holdfast.inspection import bookings, holders, limits, messages, units, waiting

INVARIANTS = (
    *units.INVARIANTS,
    *holders.INVARIANTS,
    *bookings.INVARIANTS,
    *limits.INVARIANTS,
    *waiting.INVARIANTS,
    *messages.INVARIANTS,
)
