"""Who has the claims: bookings, holds and closures, each with exactly its own."""

from holdfast.inspection.shapes import Invariant, Severity

_WITHOUT_HOLDER = """
SELECT c.no FROM claims c
LEFT JOIN bookings b ON b.id = c.booking_id
LEFT JOIN holds h ON h.id = c.hold_id
LEFT JOIN closures k ON k.id = c.closure_id
WHERE num_nonnulls(c.booking_id, c.hold_id, c.closure_id) <> 1 OR num_nonnulls(b.id, h.id, k.id) <> 1"""

_OF_CANCELLED = (
    "SELECT b.id FROM bookings b WHERE b.status <> 'active' AND EXISTS (SELECT FROM claims c WHERE c.booking_id = b.id)"
)

_OF_ENDED = "SELECT h.id FROM claims c JOIN holds h ON h.id = c.hold_id WHERE h.ended_at IS NOT NULL GROUP BY h.id"

_OTHER_END = """
SELECT h.id FROM claims c JOIN holds h ON h.id = c.hold_id
WHERE c.expires_at IS DISTINCT FROM h.expires_at GROUP BY h.id"""

_HOLDS_WITHOUT = "SELECT h.id FROM holds h WHERE h.ended_at IS NULL AND NOT EXISTS (SELECT FROM claims c WHERE c.hold_id = h.id)"

_HOW_ENDED = """
SELECT h.id FROM holds h
WHERE (h.outcome IS NULL) <> (h.ended_at IS NULL) OR h.outcome NOT IN ('booked', 'released', 'lapsed')
  OR (h.outcome = 'lapsed' AND h.ended_at < h.expires_at)"""

_BOOKED = """
SELECT h.id FROM holds h LEFT JOIN bookings b ON b.id = h.booking_id
WHERE h.outcome = 'booked' AND b.user_id IS DISTINCT FROM h.user_id
UNION
SELECT max(h.id::text)::uuid FROM holds h WHERE h.outcome = 'booked' GROUP BY h.booking_id HAVING count(*) > 1"""

_CLOSURES = """
SELECT k.id FROM closures k LEFT JOIN claims c ON c.closure_id = k.id
WHERE k.start_at IS NOT NULL
GROUP BY k.id
HAVING count(c.no) <> 1 OR bool_or(c.resource_no <> k.resource_no OR c.during <> tstzrange(k.start_at, k.end_at))"""

_BLOCKS = """
SELECT k.id FROM closures k LEFT JOIN claims c ON c.closure_id = k.id
WHERE k.start_at IS NULL
GROUP BY k.id HAVING count(c.no) = 0 OR bool_or(c.resource_no <> k.resource_no OR c.seat_no = 0)"""

_UNTIDY = """
SELECT h.id FROM claims c JOIN holds h ON h.id = c.hold_id
WHERE c.expires_at < clock_timestamp() - interval '1 minute' GROUP BY h.id"""

INVARIANTS = (
    Invariant(
        "claims-have-a-holder",
        "A claim has no booking, hold or closure behind it, or more than one.",
        "claim",
        _WITHOUT_HOLDER,
    ),
    Invariant("cancelled-bookings-have-nothing", "A cancelled booking has claims.", "booking", _OF_CANCELLED),
    Invariant("ended-holds-have-nothing", "A hold that is over has claims.", "hold", _OF_ENDED),
    Invariant("holds-end-with-their-claims", "A hold and its claims end at different times.", "hold", _OTHER_END),
    Invariant("holds-have-claims", "A hold that was never ended has no claim.", "hold", _HOLDS_WITHOUT),
    Invariant("holds-say-how-they-ended", "How a hold ended does not agree with when.", "hold", _HOW_ENDED),
    Invariant(
        "booked-holds-have-their-booking",
        "A hold was booked, and there is no such booking of its user, or two holds became one.",
        "hold",
        _BOOKED,
    ),
    Invariant("closures-have-their-claim", "A closure does not close exactly its time.", "closure", _CLOSURES),
    Invariant("blocks-have-their-seats", "A block of seats has no seat, or one of another event.", "closure", _BLOCKS),
    Invariant(
        "lapsed-holds-are-tidied-up",
        "Holds lapsed over a minute ago and nobody has tidied up: they are free for the next taker all the same.",
        "hold",
        _UNTIDY,
        severity=Severity.NOTE,
        advice="see that a worker runs: `holdfast worker`, or inside `holdfast serve`",
    ),
)
