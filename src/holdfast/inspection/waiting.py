"""The waitlist and the fair queue: who waits, who was offered what, and that nobody waits in vain."""

from uuid import UUID

import asyncpg

from holdfast.core import slot_ids
from holdfast.core.schedules import find_slot, stored_schedule
from holdfast.inspection.shapes import Invariant, Severity

_OFFERS = """
SELECT e.id FROM waitlist_entries e
LEFT JOIN holds h ON h.id = e.hold_id
WHERE e.status = 'offered' AND (
  h.origin IS DISTINCT FROM 'waitlist' OR h.user_id <> e.user_id OR h.ended_at IS NOT NULL
  OR (SELECT count(*) FROM claims c WHERE c.hold_id = h.id) <> e.quantity
  OR EXISTS (SELECT FROM claims c WHERE c.hold_id = h.id
             AND (c.resource_no <> e.resource_no OR (e.slot_id IS NOT NULL AND c.slot_id IS DISTINCT FROM e.slot_id))))"""

_OFFERED_TO_NOBODY = """
SELECT h.id FROM holds h LEFT JOIN waitlist_entries e ON e.hold_id = h.id AND e.status = 'offered'
WHERE h.origin = 'waitlist' AND h.ended_at IS NULL GROUP BY h.id HAVING count(e.id) <> 1"""

#: A booking that was changed or moved since may have other units.
_BOOKED = """
SELECT e.id FROM waitlist_entries e LEFT JOIN bookings b ON b.id = e.booking_id
WHERE e.status = 'booked' AND (b.user_id IS DISTINCT FROM e.user_id OR (b.version = 1 AND
  (SELECT count(*) FROM booking_units u WHERE u.booking_id = b.id AND u.resource_no = e.resource_no) <> e.quantity))"""

_KINDS = """
SELECT e.id FROM waitlist_entries e
JOIN resources r ON r.no = e.resource_no
LEFT JOIN events v ON v.resource_no = r.no
WHERE (r.kind = 'event') <> (e.slot_id IS NULL) OR e.quantity < 1 OR (e.slot_id IS NOT NULL AND e.quantity <> 1)
  OR (e.ended_at IS NULL AND r.kind = 'event' AND (e.start_at, e.end_at) IS DISTINCT FROM (v.start_at, v.end_at))
  OR (e.status IN ('waiting', 'offered')) <> (e.ended_at IS NULL)"""

_TWICE = """
SELECT max(e.id::text)::uuid FROM waitlist_entries e
WHERE e.ended_at IS NULL GROUP BY e.user_id, e.resource_no, e.slot_id HAVING count(*) > 1"""

#: By all that decides whether somebody may have it: what is free (a lapsed hold is), the policy's times, limits and owner,
#: the sales window, what the user holds. The schedule, which SQL cannot read, is left to `_can_be_had`.
_FREE_FOR_SOMEBODY = """
WITH waiting AS MATERIALIZED (
  SELECT e.*, r.kind, r.time_zone, r.policy
  FROM waitlist_entries e
  JOIN resources r ON r.no = e.resource_no
  JOIN users u ON u.id = e.user_id
  LEFT JOIN events v ON v.resource_no = r.no
  LEFT JOIN hosts o ON o.resource_no = r.no
  WHERE e.status = 'waiting' AND e.start_at > clock_timestamp() AND r.archived_at IS NULL AND u.status = 'active'
    AND (v.sales_start_at IS NULL OR v.sales_start_at <= clock_timestamp())
    AND (v.sales_end_at IS NULL OR v.sales_end_at > clock_timestamp())
    AND (o.user_id IS DISTINCT FROM e.user_id OR r.policy -> 'ownerMayBook' = 'true')
    AND (r.policy ->> 'minNoticeMinutes' IS NULL
         OR e.start_at - clock_timestamp() >= (r.policy ->> 'minNoticeMinutes')::bigint * interval '1 minute')
    AND (r.policy ->> 'maxDaysAhead' IS NULL
         OR (e.start_at AT TIME ZONE r.time_zone)::date - (clock_timestamp() AT TIME ZONE r.time_zone)::date
            <= (r.policy ->> 'maxDaysAhead')::bigint)),
fitting AS MATERIALIZED (
  SELECT e.* FROM waiting e
  WHERE CASE WHEN e.slot_id IS NULL THEN
    e.quantity <= (SELECT count(*) FROM seats s WHERE s.resource_no = e.resource_no)
                - (SELECT count(*) FROM claims c WHERE c.resource_no = e.resource_no AND c.seat_no <> 0
                   AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp()))
  ELSE NOT EXISTS (
    SELECT FROM claims c
    WHERE int8range(c.resource_no, c.resource_no, '[]') && int8range(e.resource_no, e.resource_no, '[]')
      AND int8range(c.seat_no, c.seat_no, '[]') && int8range(0, 0, '[]')
      AND c.during && tstzrange(e.start_at, e.end_at)
      AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())) END),
had AS MATERIALIZED (
  SELECT b.user_id, b.id, u.resource_no, u.during, b.start_at > clock_timestamp() AS counts, false AS held, u.seat_no
  FROM bookings b JOIN booking_units u ON u.booking_id = b.id
  WHERE b.status = 'active' AND b.user_id IN (SELECT user_id FROM fitting)
    AND coalesce(b.end_at, b.start_at) > clock_timestamp()
  UNION ALL
  SELECT h.user_id, h.id, c.resource_no, CASE WHEN c.seat_no = 0 THEN c.during
           ELSE tstzrange(v.start_at, coalesce(v.end_at, v.start_at), '[]') END, true, h.origin <> 'conference', c.seat_no
  FROM holds h JOIN claims c ON c.hold_id = h.id LEFT JOIN events v ON v.resource_no = c.resource_no
  WHERE h.ended_at IS NULL AND h.user_id IN (SELECT user_id FROM fitting) AND c.expires_at > clock_timestamp())
SELECT e.id, e.slot_id, e.time_zone, s.slot_minutes, s.windows::text AS windows,
       EXISTS (SELECT FROM host_slots p WHERE p.id = e.slot_id AND p.deleted_at IS NULL) AS published
FROM fitting e
LEFT JOIN schedules s ON s.resource_no = e.resource_no
WHERE (e.policy ->> 'maxActivePerUser' IS NULL OR (e.policy ->> 'maxActivePerUser')::bigint > (
        SELECT count(DISTINCT x.id) FROM had x JOIN resources r ON r.no = x.resource_no
        WHERE x.user_id = e.user_id AND x.counts AND r.kind = e.kind))
  AND (e.policy ->> 'maxActivePerUserHere' IS NULL OR (e.policy ->> 'maxActivePerUserHere')::bigint > (
        SELECT count(DISTINCT x.id) FROM had x WHERE x.user_id = e.user_id AND x.counts AND x.resource_no = e.resource_no))
  AND (coalesce(e.policy -> 'overlapsAllowed', 'true') <> 'false' OR NOT EXISTS (
        SELECT FROM had x WHERE x.user_id = e.user_id
          AND x.during && CASE WHEN e.end_at IS NULL THEN tstzrange(e.start_at, e.start_at, '[]')
                          ELSE tstzrange(e.start_at, e.end_at) END))
  AND (e.auto_book OR e.quantity + (
        SELECT count(*) FROM had x WHERE x.user_id = e.user_id AND x.held
          AND CASE WHEN e.slot_id IS NULL THEN x.resource_no = e.resource_no ELSE x.seat_no = 0 END) <= 10)"""

_BEGUN = """
SELECT e.id FROM waitlist_entries e JOIN resources r ON r.no = e.resource_no
WHERE e.status = 'waiting' AND (e.start_at <= clock_timestamp() OR r.archived_at IS NOT NULL)"""

_REQUESTS = """
SELECT t.id FROM booking_requests t
LEFT JOIN bookings b ON b.id = t.booking_id
LEFT JOIN holds h ON h.id = t.hold_id
WHERE (t.status = 'booked' AND b.user_id IS DISTINCT FROM t.user_id)
  OR (t.status <> 'booked' AND t.booking_id IS NOT NULL)
  OR (t.status = 'waiting') <> (t.ended_at IS NULL)
  OR h.user_id <> t.user_id
  OR (t.status <> 'booked' AND EXISTS (SELECT FROM bookings other WHERE other.id = t.id))"""

_UNSERVED = """
SELECT t.id FROM booking_requests t
WHERE t.status = 'waiting' AND t.hold_id IS NULL AND t.created_at < clock_timestamp() - interval '1 minute'"""


def _can_be_had(row: asyncpg.Record) -> bool:
    """Whether the schedule makes the slot now; one that it does not make for a while keeps its line."""
    slot_id: UUID | None = row["slot_id"]
    key = None if slot_id is None else slot_ids.decode(slot_id)
    if key is None:
        return slot_id is None or bool(row["published"])
    if row["windows"] is None:
        return False
    return find_slot(stored_schedule(row["slot_minutes"], row["windows"]), key, row["time_zone"]) is not None


INVARIANTS = (
    Invariant(
        "offers-are-holds",
        "An offer is not a live hold of just what was asked for, for the one who waits.",
        "waitlist entry",
        _OFFERS,
    ),
    Invariant("offers-are-somebodys", "An offer is kept for nobody, or for two.", "hold", _OFFERED_TO_NOBODY),
    Invariant(
        "waits-end-in-own-bookings",
        "A wait ended in somebody else's booking, or in one of more or less than was asked for.",
        "waitlist entry",
        _BOOKED,
    ),
    Invariant(
        "waits-make-sense",
        "Somebody waits for what such a resource does not have, or at another time than its own.",
        "waitlist entry",
        _KINDS,
    ),
    Invariant("waits-are-one-each", "Somebody stands twice in one line.", "waitlist entry", _TWICE),
    Invariant(
        "nobody-waits-in-vain",
        "Somebody waits for what is free and fits.",
        "waitlist entry",
        _FREE_FOR_SOMEBODY,
        severity=Severity.STUCK,
        advice="see that a worker runs: it serves the line in its next round",
        confirms=_can_be_had,
    ),
    Invariant(
        "waits-end-with-what-they-are-for",
        "Somebody waits for what has begun, or was archived.",
        "waitlist entry",
        _BEGUN,
        severity=Severity.STUCK,
        advice="see that a worker runs: it ends such waits in its next round",
    ),
    Invariant(
        "requests-end-in-own-bookings",
        "A booking request does not agree with what came of it.",
        "booking request",
        _REQUESTS,
    ),
    Invariant(
        "requests-are-served",
        "A booking request has stood in its line for over a minute.",
        "booking request",
        _UNSERVED,
        severity=Severity.STUCK,
        advice="see that a worker runs: it serves lines that were left standing",
    ),
)
