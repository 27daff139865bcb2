"""Nobody has more than the policies allow, as they were when it was taken.

A policy binds whoever takes something, not what was taken before: a limit that was lowered since, or one that another
room has, is exceeded rightfully. So each thing that somebody has ahead is judged by when it was decided and against what
was there before; where two transactions ran beside each other and nobody can say which was first, only what is wrong in
either order counts. What exceeds a limit of later is worth a note.
"""

# ruff: noqa: S608 - statements put together from our own constants

from holdfast.inspection.shapes import Invariant, Severity

#: Longer than any transaction that takes something: of two decisions further apart, the earlier one was seen by the later.
_APART = "interval '30 seconds'"

#: `limits`: the rules that count, and since when they have been so (the outbox tells). `ahead`: a row for each resource of
#: what users have ahead, and when it was decided: at the last move, else with the hold that it was made of, else when made.
#: An event that was put off after it had begun comes back into the count behind everybody's back, so it is left out.
_WHAT_IS_AHEAD = """
WITH limits AS MATERIALIZED (
  SELECT r.no, (r.policy ->> 'maxActivePerUser')::bigint AS everywhere, (r.policy ->> 'maxActivePerUserHere')::bigint AS here,
         coalesce(r.policy -> 'overlapsAllowed' = 'false', false) AS alone,
         coalesce((SELECT max(o.occurred_at) FROM outbox o
                   WHERE o.subject_id = r.id AND o.type = r.kind || '.updated'
                     AND o.before -> 'policy' IS DISTINCT FROM o.after -> 'policy'), '-infinity') AS since
  FROM resources r
  WHERE coalesce(r.policy -> 'maxActivePerUser', r.policy -> 'maxActivePerUserHere', r.policy -> 'overlapsAllowed') IS NOT NULL),
moved_events AS MATERIALIZED (
  SELECT r.no, bool_or((o.before ->> 'start')::timestamptz <= o.occurred_at) AS put_off
  FROM resources r JOIN events e ON e.resource_no = r.no JOIN outbox o ON o.subject_id = r.id AND o.type = 'event.updated'
  WHERE e.start_at > clock_timestamp()
    AND (o.before -> 'start' <> o.after -> 'start' OR o.before -> 'end' IS DISTINCT FROM o.after -> 'end')
  GROUP BY r.no),
made AS (
  SELECT b.id, b.user_id, u.resource_no, u.during,
         coalesce((SELECT max(o.occurred_at) FROM outbox o WHERE o.subject_id = b.id AND o.type = 'booking.rescheduled'),
                  h.created_at, b.created_at) AS decided_at
  FROM bookings b
  JOIN booking_units u ON u.booking_id = b.id
  LEFT JOIN holds h ON h.booking_id = b.id AND h.outcome = 'booked'
  WHERE b.status = 'active' AND b.start_at > clock_timestamp()
  UNION ALL
  SELECT h.id, h.user_id, c.resource_no, CASE WHEN c.seat_no = 0 THEN c.during
           ELSE tstzrange(e.start_at, coalesce(e.end_at, e.start_at), '[]') END, h.created_at
  FROM holds h JOIN claims c ON c.hold_id = h.id LEFT JOIN events e ON e.resource_no = c.resource_no
  WHERE h.ended_at IS NULL AND c.expires_at > clock_timestamp()
    AND coalesce(lower(c.during), e.start_at) > clock_timestamp()),
ahead AS (
  SELECT m.*, r.kind FROM made m JOIN resources r ON r.no = m.resource_no
  LEFT JOIN moved_events e ON e.no = r.no
  WHERE NOT coalesce(e.put_off, false))"""

#: `bound`: the strictest rule that this thing was decided under. Of all that were bound by so many or fewer, one was last,
#: and found the others there; whatever was decided long before was there as well.
_EVERYWHERE = (
    _WHAT_IS_AHEAD
    + f""",
things AS (
  SELECT a.user_id, a.kind, a.id, max(a.decided_at) AS decided_at,
         min(l.everywhere) FILTER (WHERE a.decided_at > l.since) AS bound
  FROM ahead a LEFT JOIN limits l ON l.no = a.resource_no
  GROUP BY a.user_id, a.kind, a.id),
counted AS (
  SELECT t.*, count(t.bound) OVER (PARTITION BY t.user_id, t.kind ORDER BY t.bound) AS bound_alike,
         count(*) OVER (PARTITION BY t.user_id, t.kind ORDER BY t.decided_at
                        RANGE BETWEEN UNBOUNDED PRECEDING AND {_APART} PRECEDING) AS long_before
  FROM things t)
SELECT user_id FROM counted WHERE bound IS NOT NULL AND (bound_alike > bound OR long_before >= bound) GROUP BY user_id"""
)

_HERE = (
    _WHAT_IS_AHEAD
    + """
SELECT a.user_id FROM ahead a JOIN limits l ON l.no = a.resource_no
GROUP BY a.user_id, l.no, l.here, l.since HAVING count(DISTINCT a.id) > l.here AND max(a.decided_at) > l.since"""
)

#: Two at one time: wrong where the later one minded; where both minded, in whichever order. An event that was moved may
#: have been moved into the other.
_AT_ONE_TIME = (
    _WHAT_IS_AHEAD
    + f"""
SELECT a.user_id FROM ahead a
JOIN limits l ON l.no = a.resource_no AND l.alone AND a.decided_at > l.since
JOIN ahead b ON b.user_id = a.user_id AND b.id <> a.id AND b.during && a.during
LEFT JOIN limits m ON m.no = b.resource_no AND m.alone AND b.decided_at > m.since
WHERE (m.no IS NOT NULL OR b.decided_at < a.decided_at - {_APART})
  AND NOT EXISTS (SELECT FROM moved_events e WHERE e.no IN (a.resource_no, b.resource_no))
GROUP BY a.user_id"""
)

_LOWERED = (
    _WHAT_IS_AHEAD
    + """,
things AS (
  SELECT a.user_id, a.kind, a.id, min(l.everywhere) AS bound, bool_and(a.decided_at <= l.since) AS before
  FROM ahead a JOIN limits l ON l.no = a.resource_no AND l.everywhere IS NOT NULL
  GROUP BY a.user_id, a.kind, a.id)
SELECT user_id FROM (
  SELECT t.*, count(*) OVER (PARTITION BY t.user_id, t.kind ORDER BY t.bound) AS bound_alike FROM things t) counted
WHERE bound_alike > bound AND before
UNION
SELECT a.user_id FROM ahead a JOIN limits l ON l.no = a.resource_no
GROUP BY a.user_id, l.no, l.here, l.since HAVING count(DISTINCT a.id) > l.here AND max(a.decided_at) <= l.since"""
)

#: What is asked for with a conference link is held only until there is one, and is not what the user asked to hold.
_HELD = """
SELECT h.user_id FROM holds h JOIN claims c ON c.hold_id = h.id
WHERE h.ended_at IS NULL AND h.origin <> 'conference' AND c.expires_at > clock_timestamp()
GROUP BY h.user_id, CASE WHEN c.seat_no = 0 THEN NULL ELSE c.resource_no END HAVING count(*) > 10"""

INVARIANTS = (
    Invariant(
        "limits-everywhere-hold",
        "A user has more ahead than maxActivePerUser allowed when it was taken.",
        "user",
        _EVERYWHERE,
    ),
    Invariant("limits-here-hold", "A user has more ahead of one resource than maxActivePerUserHere allowed.", "user", _HERE),
    Invariant(
        "overlaps-are-refused",
        "A user has two things ahead at one time, though overlapsAllowed was false.",
        "user",
        _AT_ONE_TIME,
    ),
    Invariant("holds-are-few", "A user holds more than ten slots, or ten seats of one event.", "user", _HELD),
    Invariant(
        "limits-were-lowered",
        "Users have more ahead than the present policy allows: it was changed after they took it.",
        "user",
        _LOWERED,
        severity=Severity.NOTE,
        advice="nothing is wrong; they can take nothing more until they are below the limit",
    ),
)
