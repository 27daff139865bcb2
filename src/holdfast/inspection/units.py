"""Units and claims by themselves: nothing is taken twice, and what is taken is there to be taken."""

from holdfast.inspection.shapes import Invariant

#: What begins before everything ahead of it has ended; a seat is taken for good, so that two are always one too many.
_OVERLAPS = """
SELECT no FROM (
  SELECT c.no, lower(c.during) AS since,
         max(upper(c.during)) OVER (PARTITION BY c.resource_no ORDER BY lower(c.during), c.no
                                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS taken_until
  FROM claims c WHERE c.seat_no = 0) taken
WHERE since < taken_until
UNION ALL
SELECT max(c.no) FROM claims c WHERE c.seat_no <> 0 GROUP BY c.resource_no, c.seat_no HAVING count(*) > 1"""

_SHAPES = """
SELECT c.no FROM claims c
WHERE isempty(c.during) OR CASE WHEN c.seat_no = 0
  THEN NOT lower_inc(c.during) OR upper_inc(c.during) OR lower_inf(c.during) OR upper_inf(c.during)
    OR NOT isfinite(lower(c.during)) OR NOT isfinite(upper(c.during))
  ELSE NOT lower_inf(c.during) OR NOT upper_inf(c.during) END"""

_NOT_THERE = """
SELECT c.no FROM claims c
LEFT JOIN resources r ON r.no = c.resource_no
LEFT JOIN seats s ON s.no = c.seat_no
WHERE r.no IS NULL OR (r.kind = 'event') <> (c.seat_no <> 0)
  OR (c.seat_no <> 0 AND s.resource_no IS DISTINCT FROM c.resource_no)"""

_PUBLISHED_OVERLAPS = """
SELECT id FROM (
  SELECT p.id, lower(p.during) AS since,
         max(upper(p.during)) OVER (PARTITION BY p.resource_no ORDER BY lower(p.during), p.id
                                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS published_until
  FROM host_slots p WHERE p.deleted_at IS NULL) published
WHERE since < published_until"""

_OF_DELETED_SLOTS = """
SELECT c.no FROM claims c JOIN host_slots p ON p.id = c.slot_id
WHERE upper(c.during) > p.deleted_at AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())"""

#: What lapsed before is only not tidied up yet.
_OF_ARCHIVED = """
SELECT c.no FROM claims c
JOIN resources r ON r.no = c.resource_no
LEFT JOIN events e ON e.resource_no = r.no
WHERE r.archived_at IS NOT NULL AND c.closure_id IS NULL AND coalesce(lower(c.during), e.start_at) > r.archived_at
  AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())"""

INVARIANTS = (
    Invariant("units-taken-once", "A unit is taken twice: two claims of it overlap.", "claim", _OVERLAPS),
    Invariant("claims-have-a-period", "A claim is of no time, or of a time without end.", "claim", _SHAPES),
    Invariant(
        "claims-are-of-what-is-there",
        "A claim is of a seat of another event, of a whole event, or of a resource that is not there.",
        "claim",
        _NOT_THERE,
    ),
    Invariant("published-slots-never-overlap", "Two slots that a host published overlap.", "slot", _PUBLISHED_OVERLAPS),
    Invariant("deleted-slots-are-nobodys", "Somebody has a published slot that was deleted.", "claim", _OF_DELETED_SLOTS),
    Invariant(
        "archived-resources-are-nobodys",
        "Somebody has time, or a seat, of a resource that was archived before.",
        "claim",
        _OF_ARCHIVED,
    ),
)
