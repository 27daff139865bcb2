"""Bookings, their units and their series."""

from holdfast.inspection.shapes import Invariant

_SAME_UNIT = """c.booking_id = u.booking_id AND c.resource_no = u.resource_no AND c.seat_no = u.seat_no
  AND (c.seat_no <> 0 OR c.during = u.during)"""

_WITHOUT_CLAIM = f"""
SELECT b.id FROM bookings b JOIN booking_units u ON u.booking_id = b.id LEFT JOIN claims c ON {_SAME_UNIT}
WHERE b.status = 'active' AND c.no IS NULL GROUP BY b.id"""  # noqa: S608 - our own words

_SURPLUS = f"""
SELECT b.id FROM bookings b JOIN claims c ON c.booking_id = b.id LEFT JOIN booking_units u ON {_SAME_UNIT}
WHERE b.status = 'active' AND u.booking_id IS NULL GROUP BY b.id
UNION
SELECT u.booking_id FROM booking_units u JOIN claims c ON {_SAME_UNIT}
GROUP BY u.booking_id, u.position HAVING count(*) > 1"""  # noqa: S608 - our own words

_WITHOUT_UNITS = "SELECT b.id FROM bookings b WHERE NOT EXISTS (SELECT FROM booking_units u WHERE u.booking_id = b.id)"

#: An event that does not say when it ends takes one instant.
_SPAN = """
SELECT b.id FROM bookings b JOIN booking_units u ON u.booking_id = b.id
GROUP BY b.id
HAVING b.start_at <> min(lower(u.during)) OR coalesce(b.end_at, b.start_at) <> max(upper(u.during))"""

_KIND = """
SELECT b.id FROM bookings b
JOIN (SELECT DISTINCT ON (booking_id) booking_id, resource_no FROM booking_units ORDER BY booking_id, position) u
  ON u.booking_id = b.id
LEFT JOIN resources r ON r.no = u.resource_no
WHERE r.kind IS DISTINCT FROM b.kind"""

_EVENT_TIME = """
SELECT b.id FROM bookings b JOIN booking_units u ON u.booking_id = b.id JOIN events e ON e.resource_no = u.resource_no
WHERE b.status = 'active' AND (b.start_at, b.end_at) IS DISTINCT FROM (e.start_at, e.end_at)
GROUP BY b.id"""

_NAMES = f"""
SELECT b.id FROM bookings b
JOIN booking_units u ON u.booking_id = b.id
LEFT JOIN claims c ON {_SAME_UNIT}
LEFT JOIN seats s ON s.no = u.seat_no AND u.seat_no <> 0
WHERE (c.no IS NOT NULL AND c.slot_id IS DISTINCT FROM u.slot_id) OR (u.seat_no <> 0 AND s.id IS DISTINCT FROM u.slot_id)
GROUP BY b.id"""  # noqa: S608 - our own words

_STATUS = """
SELECT b.id FROM bookings b
WHERE b.status NOT IN ('active', 'cancelled') OR (b.status = 'cancelled') <> (b.cancelled_at IS NOT NULL)
  OR b.cancelled_at < b.created_at"""

_SERIES = """
SELECT s.id FROM series s LEFT JOIN bookings b ON b.series_id = s.id
GROUP BY s.id HAVING count(b.id) = 0 OR bool_or(b.user_id <> s.user_id)
UNION
SELECT b.series_id FROM bookings b LEFT JOIN series s ON s.id = b.series_id
WHERE b.series_id IS NOT NULL AND s.id IS NULL"""

_DELETED_USERS = """
SELECT u.id FROM users u
WHERE u.status = 'deleted' AND (
  EXISTS (SELECT FROM bookings b WHERE b.user_id = u.id AND b.status = 'active' AND b.start_at > clock_timestamp())
  OR EXISTS (SELECT FROM holds h WHERE h.user_id = u.id AND h.ended_at IS NULL)
  OR EXISTS (SELECT FROM waitlist_entries e WHERE e.user_id = u.id AND e.ended_at IS NULL)
  OR EXISTS (SELECT FROM sessions s WHERE s.user_id = u.id AND s.ended_at IS NULL))"""

INVARIANTS = (
    Invariant(
        "bookings-have-their-claims", "An active booking does not have all of its units claimed.", "booking", _WITHOUT_CLAIM
    ),
    Invariant("bookings-have-no-other-claims", "An active booking claims what is no unit of it.", "booking", _SURPLUS),
    Invariant("bookings-have-units", "A booking is of nothing.", "booking", _WITHOUT_UNITS),
    Invariant("bookings-span-their-units", "A booking does not begin and end with its units.", "booking", _SPAN),
    Invariant("bookings-are-of-their-kind", "A booking says another kind than its resource.", "booking", _KIND),
    Invariant("bookings-are-at-their-event", "An active booking of an event is at another time.", "booking", _EVENT_TIME),
    Invariant("bookings-name-what-they-have", "A booking names another slot or seat than it has.", "booking", _NAMES),
    Invariant("bookings-say-when-cancelled", "A booking's status does not agree with when it was cancelled.", "booking", _STATUS),
    Invariant("series-have-their-bookings", "A series has no bookings, or somebody else's.", "series", _SERIES),
    Invariant(
        "deleted-users-have-nothing", "A deleted user has bookings ahead, holds, waits or is logged in.", "user", _DELETED_USERS
    ),
)
