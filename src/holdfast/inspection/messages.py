"""What was told: the outbox says of every booking, hold and wait what became of it, and kept answers are true."""

from holdfast.inspection.shapes import Invariant


def _told_otherwise(table: str, message: str, *, once_where: str) -> str:
    """The ids of a table's rows of which a type of message was not enqueued once where the condition holds, else never."""
    return f"""
SELECT t.id FROM {table} t LEFT JOIN outbox o ON o.subject_id = t.id AND o.type = '{message}'
GROUP BY t.id HAVING count(o.id) <> CASE WHEN {once_where} THEN 1 ELSE 0 END"""  # noqa: S608 - our own words


_NUMBERS = """
SELECT max(o.id::text)::uuid FROM outbox o WHERE o.number IS NOT NULL GROUP BY o.number HAVING count(*) > 1"""

#: Whoever repeats the request is told of it again.
_ANSWERS = r"""
SELECT k.user_id || ' ' || k.key FROM (
  SELECT user_id, key,
         regexp_match(coalesce(headers ->> 'location', headers ->> 'Location'), '^/(bookings|holds)/([0-9a-f-]{36})$') AS made
  FROM idempotency_keys WHERE status = 201) k
WHERE (k.made[1] = 'bookings' AND NOT EXISTS (SELECT FROM bookings b WHERE b.id = k.made[2]::uuid))
   OR (k.made[1] = 'holds' AND NOT EXISTS (SELECT FROM holds h WHERE h.id = k.made[2]::uuid))"""

INVARIANTS = (
    Invariant(
        "bookings-are-told-of",
        "A booking was made, and the outbox does not say so exactly once.",
        "booking",
        _told_otherwise("bookings", "booking.created", once_where="true"),
    ),
    Invariant(
        "cancellations-are-told-of",
        "A booking was cancelled, and the outbox does not say so exactly once; or it says so of an active one.",
        "booking",
        _told_otherwise("bookings", "booking.cancelled", once_where="t.status = 'cancelled'"),
    ),
    Invariant(
        "holds-are-told-of",
        "A hold was placed, and the outbox does not say so exactly once.",
        "hold",
        _told_otherwise("holds", "hold.created", once_where="true"),
    ),
    Invariant(
        "lapses-are-told-of",
        "A hold lapsed, and the outbox does not say so exactly once; or it says so of another.",
        "hold",
        _told_otherwise("holds", "hold.lapsed", once_where="t.outcome = 'lapsed'"),
    ),
    Invariant(
        "releases-are-told-of",
        "A hold was released, and the outbox does not say so exactly once; or it says so of another.",
        "hold",
        _told_otherwise("holds", "hold.released", once_where="t.outcome = 'released'"),
    ),
    Invariant(
        "joins-are-told-of",
        "Somebody joined a line, and the outbox does not say so exactly once.",
        "waitlist entry",
        _told_otherwise("waitlist_entries", "waitlist.joined", once_where="true"),
    ),
    Invariant(
        "booked-waits-are-told-of",
        "A wait ended in a booking, and the outbox does not say so exactly once; or it says so of another.",
        "waitlist entry",
        _told_otherwise("waitlist_entries", "waitlist.booked", once_where="t.status = 'booked'"),
    ),
    Invariant("messages-are-numbered-once", "Two messages of the outbox have one number.", "message", _NUMBERS),
    Invariant(
        "kept-answers-are-true",
        "An answer is kept under an idempotency key, and what it tells of is not there.",
        "key",
        _ANSWERS,
    ),
)
